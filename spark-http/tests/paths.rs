//! Paths of several segments, their parameters and methods, and what is mounted below one.

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use spark_http::{Body, ConfigError, Context, Ingress, IngressBuilder, Json, Route};
use tower::{ServiceExt as _, service_fn};

use crate::call::{Reply, call, post};

#[path = "support/call.rs"]
mod call;

/// Answers the route's name and its parameters.
fn look() -> Route {
    Route::handler_fn(|context: Context, _| async move {
        let parameters: Vec<_> = context.path_parameters().iter().collect();
        Json(serde_json::json!([context.handler(), parameters]))
    })
}

fn paths(paths: &[&str]) -> Ingress {
    let builder = paths.iter().fold(Ingress::builder(), |builder, &path| {
        builder.path(path, look())
    });
    builder.build().expect("valid")
}

async fn seen(ingress: &Ingress, path: &str) -> String {
    let reply = call(ingress, post(path, "")).await;
    if reply.status == 200 {
        reply.json.to_string()
    } else {
        reply.status.to_string()
    }
}

async fn with_method(ingress: &Ingress, method: Method, path: &str) -> Reply {
    let request = Request::builder().method(method).uri(path);
    call(ingress, request.body(Body::empty()).expect("a request")).await
}

fn refused(builder: IngressBuilder) -> ConfigError {
    builder.build().expect_err("invalid")
}

#[tokio::test]
async fn parameters_are_segments_decoded_once() {
    let ingress = paths(&["orders/{id}", "orders/{id}/items/{n}"]);
    for (path, expected) in [
        ("/orders/7", r#"["orders/{id}",[["id","7"]]]"#),
        ("/orders/7?id=8", r#"["orders/{id}",[["id","7"]]]"#),
        (
            "/orders/%C3%A9%20%2525",
            r#"["orders/{id}",[["id","é %25"]]]"#,
        ),
        ("/orders/{id}", r#"["orders/{id}",[["id","{id}"]]]"#),
        (
            "/%6frders/a/items/b",
            r#"["orders/{id}/items/{n}",[["id","a"],["n","b"]]]"#,
        ),
    ] {
        assert_eq!(seen(&ingress, path).await, expected, "{path}");
    }
}

#[tokio::test]
async fn an_encoded_slash_never_changes_the_segments() {
    let ingress = paths(&["orders/{id}", "orders/{id}/items"]);
    assert_eq!(
        seen(&ingress, "/orders/7%2Fitems").await,
        r#"["orders/{id}",[["id","7/items"]]]"#
    );
    assert_eq!(
        seen(&ingress, "/orders/%2f..%2F/items").await,
        r#"["orders/{id}/items",[["id","/../"]]]"#
    );
    assert_eq!(seen(&ingress, "/orders%2F7").await, "404");
}

#[tokio::test]
async fn no_parameter_is_empty_or_a_dot_segment() {
    let ingress = paths(&["orders/{id}", "a/{b}/c"]);
    for path in [
        "/orders/",
        "/orders",
        "/orders/7/",
        "//orders/7",
        "/a//c",
        "/orders/..",
        "/orders/%2e%2E",
        "/a/./c",
    ] {
        assert_eq!(seen(&ingress, path).await, "404", "{path}");
    }
    assert_eq!(seen(&ingress, "/orders/%zz").await, "400");
    assert_eq!(seen(&ingress, "/orders/%ff").await, "400");
}

#[tokio::test]
async fn a_literal_segment_goes_before_a_parameter() {
    let ingress = paths(&[
        "orders/{id}",
        "orders/open",
        "orders/{id}/x",
        "orders/open/y",
    ]);
    assert_eq!(
        seen(&ingress, "/orders/open").await,
        r#"["orders/open",[]]"#
    );
    assert_eq!(
        seen(&ingress, "/orders/open/x").await,
        r#"["orders/{id}/x",[["id","open"]]]"#
    );
}

#[tokio::test]
async fn a_name_is_literal_whatever_is_in_it() {
    let names = [
        "{id}", "a{b", "}", "*", "{*all}", "a b?", "100%", "%2F", "été", "a.b", "...",
    ];
    let builder = names.iter().fold(Ingress::builder(), |builder, &name| {
        builder.route(name, look())
    });
    let ingress = builder.build().expect("valid");
    for name in names {
        let encoded: Vec<_> = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let path = format!("/{}", encoded.concat());
        let expected = serde_json::json!([name, []]).to_string();
        assert_eq!(seen(&ingress, &path).await, expected);
    }
    assert_eq!(seen(&ingress, "/anything").await, "404");
    assert_eq!(seen(&ingress, "/%2F").await, "404");
}

#[tokio::test]
async fn a_path_answers_the_methods_of_its_routes_and_lists_them() {
    let say = |text: &'static str| Route::handler_fn(move |_, _| async move { text });
    let ingress = Ingress::builder()
        .path("orders/{id}", say("got").methods([Method::GET]))
        .path(
            "orders/{id}",
            say("put").methods([Method::PUT, Method::PATCH]),
        )
        .route("orders", say("post"))
        .build()
        .expect("valid");
    for (method, answer) in [
        (Method::GET, "got"),
        (Method::PUT, "put"),
        (Method::PATCH, "put"),
    ] {
        let reply = with_method(&ingress, method, "/orders/1").await;
        assert_eq!((reply.status, reply.message()), (200, answer));
    }
    for method in [Method::POST, Method::DELETE, Method::OPTIONS] {
        let reply = with_method(&ingress, method, "/orders/1").await;
        assert_eq!(reply.status, 405);
        assert_eq!(reply.headers["allow"], "GET, PUT, PATCH, HEAD");
    }
    let reply = with_method(&ingress, Method::GET, "/orders").await;
    assert_eq!(
        (reply.status, &reply.headers["allow"]),
        (405, &"POST".parse().expect("a value"))
    );
}

#[tokio::test]
async fn head_is_get_without_its_body() {
    let method = |context: Context, _| async move { context.method().to_string() };
    let ingress = Ingress::builder()
        .route("a", Route::handler_fn(method).methods([Method::GET]))
        .build()
        .expect("valid");
    let reply = with_method(&ingress, Method::HEAD, "/a").await;
    assert_eq!(reply.status, 200);
    let length = r#"{"message":"HEAD","status":"Ok"}"#.len();
    assert_eq!(reply.headers["content-length"], length.to_string().as_str());
    assert_eq!(with_method(&ingress, Method::HEAD, "/b").await.status, 404);
}

#[test]
fn routes_that_cannot_be_told_apart_are_a_configuration_error() {
    let two =
        |one: &str, other: &str| refused(Ingress::builder().path(one, look()).path(other, look()));
    let duplicate = |name: &str| ConfigError::DuplicateRoute {
        name: name.to_owned(),
    };
    assert_eq!(two("a/{b}", "a/{b}"), duplicate("a/{b}"));
    assert_eq!(two("a/b", "/a/b"), duplicate("/a/b"));
    assert_eq!(
        two("a/{b}", "a/{c}"),
        ConfigError::ConflictingRoutes {
            path: "a/{c}".to_owned(),
            other: "/a/{b}".to_owned(),
        }
    );
    let named = Ingress::builder().route("a", look()).path("a", look());
    assert_eq!(refused(named), duplicate("a"));
    let fallbacks = Ingress::builder().fallback(look()).fallback(look());
    assert_eq!(refused(fallbacks), duplicate("fallback"));
    let overlap = Ingress::builder()
        .route("a", look().methods([Method::GET, Method::POST]))
        .route("a", look());
    assert_eq!(refused(overlap), duplicate("a"));
}

#[test]
fn a_path_that_cannot_be_meant_is_a_configuration_error() {
    for path in [
        "", "/", "a/", "a//b", "a{b}", "{b}c", "{}", "{*rest}", "{a}/{a}", "a/../b", "a/\n",
    ] {
        let error = refused(Ingress::builder().path(path, look()));
        assert!(
            matches!(error, ConfigError::InvalidRouteName { .. }),
            "{path}"
        );
    }
    let none = refused(Ingress::builder().route("a", look().methods([])));
    assert_eq!(
        none,
        ConfigError::NoMethods {
            name: "a".to_owned()
        }
    );
}

/// Answers method, path, and the body it reads itself.
fn service() -> Route {
    Route::service(service_fn(|request: Request<Body>| async move {
        let seen = format!("{} {} ", request.method(), request.uri());
        let body = request.into_body().collect().await?.to_bytes();
        if body == "fail" {
            return Err(Box::<dyn std::error::Error + Send + Sync>::from("secret"));
        }
        assert!(body != "panic", "secret");
        let json = Bytes::from(serde_json::json!([seen, body.len()]).to_string());
        Ok(Response::new(Full::new(json)))
    }))
}

#[tokio::test]
async fn a_mounted_service_gets_whatever_is_below_its_path() {
    let ingress = Ingress::builder()
        .mount("files", service())
        .path("files/own", look())
        .route("a", look())
        .build()
        .expect("valid");
    for path in ["/files", "/files/", "/files/a", "/files/a/b%2Fc?d=e"] {
        let request = Request::put(path)
            .body(Body::from("four"))
            .expect("a request");
        let reply = call(&ingress, request).await;
        assert_eq!(reply.json, serde_json::json!([format!("PUT {path} "), 4]));
    }
    assert_eq!(seen(&ingress, "/files/own").await, r#"["files/own",[]]"#);
    for path in ["/filesx", "/files/../a", "/files/%2e%2e/a"] {
        assert_eq!(seen(&ingress, path).await, "404", "{path}");
    }
}

#[tokio::test]
async fn a_mounted_service_that_fails_or_panics_tells_the_client_nothing() {
    let ingress = Ingress::builder()
        .mount("m", service())
        .build()
        .expect("valid");
    for body in ["fail", "panic"] {
        let reply = call(&ingress, post("/m", body)).await;
        assert_eq!((reply.status, reply.message()), (500, "internal error"));
    }
}

#[tokio::test]
async fn a_fallback_gets_what_nothing_else_matches() {
    let ingress = Ingress::builder()
        .fallback(service())
        .route("a", look())
        .build()
        .expect("valid");
    let reply = with_method(&ingress, Method::GET, "/no/such").await;
    assert_eq!(reply.json, serde_json::json!(["GET /no/such ", 0]));
    assert_eq!(with_method(&ingress, Method::GET, "/a").await.status, 405);
    assert_eq!(seen(&ingress, "/%zz").await, "400");
}

#[tokio::test]
async fn a_body_of_a_foreign_type_reaches_a_service_as_it_is() {
    let ingress = Ingress::builder()
        .mount("m", service())
        .build()
        .expect("valid");
    let request = Request::post("/m")
        .body(Full::new(&b"borrowed"[..]))
        .expect("a request");
    let answer = ingress.oneshot(request).await.expect("infallible");
    let body = answer
        .into_body()
        .collect()
        .await
        .expect("in memory")
        .to_bytes();
    assert_eq!(body, r#"["POST /m ",8]"#);
}
