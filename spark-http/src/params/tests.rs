use std::collections::BTreeMap;

use serde::{Deserialize, de::DeserializeOwned};

use super::{from_both, from_path, from_query};
use crate::{ErrorAnswer, PathParameters};

fn path(parameters: &[(&str, &str)]) -> PathParameters {
    let parameters = parameters.iter();
    PathParameters::new(parameters.map(|&(name, value)| (name.into(), value.into())))
}

/// The value, or the pointer and the message of the error.
fn query<T: DeserializeOwned>(query: &str) -> Result<T, (String, String)> {
    from_query(Some(query)).map_err(said)
}

fn said(error: ErrorAnswer) -> (String, String) {
    let answer = error.into_response();
    assert_eq!(answer.status(), 400);
    let wire: serde_json::Value =
        serde_json::from_slice(&answer.into_body().into_bytes()).expect("JSON");
    let text = |field: &str| wire[field].as_str().expect("text").to_owned();
    (text("pointer"), text("message"))
}

fn fault(pointer: &str, message: &str) -> (String, String) {
    (pointer.to_owned(), message.to_owned())
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Order {
    Newest,
    Oldest,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Search {
    q: String,
    limit: Option<u8>,
    #[serde(default)]
    tag: Vec<u32>,
    #[serde(default)]
    exact: bool,
    ratio: Option<f64>,
    order: Option<Order>,
}

#[test]
fn a_query_is_read_by_names_and_types() {
    let search = query("q=a+b&limit=7&tag=1&exact=true&tag=2&ratio=0.5&order=oldest&more=x");
    let expected = Search {
        q: "a b".to_owned(),
        limit: Some(7),
        tag: vec![1, 2],
        exact: true,
        ratio: Some(0.5),
        order: Some(Order::Oldest),
    };
    assert_eq!(search, Ok(expected));
    assert_eq!(query::<Search>("q=").map(|search| search.tag), Ok(vec![]));
    assert_eq!(
        query("a=1&b=2"),
        Ok(BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 2)]))
    );
    assert_eq!(query::<()>("a=1"), Ok(()));
}

#[test]
fn what_does_not_fit_is_a_400_that_points_to_the_parameter() {
    let cases = [
        ("limit=1", "/q", "query parameter q: missing"),
        ("q=x&q=y", "/q", "query parameter q: given more than once"),
        (
            "q=x&limit=300",
            "/limit",
            "query parameter limit: invalid value: integer `300`, expected u8",
        ),
        (
            "q=x&limit=",
            "/limit",
            "query parameter limit: invalid type: string \"\", expected u8",
        ),
        (
            "q=x&tag=1&tag=y",
            "/tag/1",
            "query parameter tag: invalid type: string \"y\", expected u32",
        ),
        (
            "q=x&exact=1",
            "/exact",
            "query parameter exact: invalid type: string \"1\", expected a boolean",
        ),
        (
            "q=x&ratio=inf",
            "/ratio",
            "query parameter ratio: invalid type: string \"inf\", expected f64",
        ),
        ("q=%ff", "/q", "query parameter q: not UTF-8"),
        ("%=1", "", "query parameter a name is not percent-encoded"),
    ];
    for (text, pointer, message) in cases {
        assert_eq!(
            query::<Search>(text),
            Err(fault(pointer, message)),
            "{text}"
        );
    }
    let (pointer, message) = query::<Search>("q=x&order=best").expect_err("unknown");
    assert_eq!(pointer, "/order");
    assert!(
        message.contains("expected `newest` or `oldest`"),
        "{message}"
    );
}

#[test]
fn names_that_nobody_asked_for_can_be_refused() {
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its fields' names matter")]
    struct Strict {
        a: Option<u8>,
    }
    let error = query::<Strict>("a=1&b~/=2").expect_err("unknown");
    assert_eq!(
        error,
        fault("/b~0~1", "query parameter b~/: unknown, expected one of a")
    );
}

#[test]
fn a_path_is_read_by_name_by_order_or_as_its_only_value() {
    #[derive(Debug, Deserialize, PartialEq)]
    struct Book {
        shelf: u32,
        title: String,
    }
    #[derive(Debug, Deserialize, PartialEq)]
    struct Shelf(u32);

    let both = path(&[("shelf", "4"), ("title", "a/b")]);
    let book = Book {
        shelf: 4,
        title: "a/b".to_owned(),
    };
    assert_eq!(from_path(&both).map_err(said), Ok(book));
    assert_eq!(
        from_path(&both).map_err(said),
        Ok((4_u32, "a/b".to_owned()))
    );

    let one = path(&[("shelf", "4")]);
    assert_eq!(from_path(&one).map_err(said), Ok(4_u64));
    assert_eq!(from_path(&one).map_err(said), Ok(Shelf(4)));
    assert_eq!(from_path(&one).map_err(said), Ok(Some("4".to_owned())));
    assert_eq!(from_path(&path(&[])).map_err(said), Ok(None::<String>));

    assert!(from_path::<u32>(&both).is_err());
    assert!(from_path::<(u32,)>(&both).is_err());
    assert!(from_path::<u32>(&path(&[("shelf", "x")])).is_err());
    let second = from_path::<(u32, u32)>(&both).expect_err("not a number");
    assert_eq!(said(second).0, "/1");
}

#[test]
fn a_query_cannot_say_again_what_the_path_says() {
    #[derive(Debug, Deserialize, PartialEq)]
    struct Page {
        id: u32,
        page: u32,
    }
    let id = path(&[("id", "1")]);
    assert_eq!(
        from_both(&id, Some("page=2")).map_err(said),
        Ok(Page { id: 1, page: 2 })
    );
    let error = from_both::<Page>(&id, Some("page=2&id=7")).expect_err("twice");
    assert_eq!(
        said(error),
        fault("/id", "query parameter id: given in the path already")
    );
}

#[test]
fn thousands_of_names_are_read_in_time_that_grows_with_them() {
    let many: Vec<String> = (0..20_000).map(|n| format!("n{n}={n}")).collect();
    let read: BTreeMap<String, u32> = query(&many.join("&")).expect("numbers");
    assert_eq!(read.len(), 20_000);
}

#[test]
fn a_number_too_large_for_its_type_is_refused_rather_than_infinite() {
    #[derive(Debug, Deserialize, PartialEq)]
    struct Ratio {
        ratio: f32,
    }
    for ratio in ["1e39", "-1e39", "inf", "nan"] {
        let refused = query::<Ratio>(&format!("ratio={ratio}"));
        let message =
            format!("query parameter ratio: invalid type: string \"{ratio}\", expected f32");
        assert_eq!(refused, Err(fault("/ratio", &message)));
    }
    assert_eq!(query("ratio=0.1"), Ok(Ratio { ratio: 0.1 }));
}
