//! Names, methods, request ids, and what a configuration may be.

use std::{net::SocketAddr, time::Duration};

use http::{Method, Request};
use spark_http::{
    Body, ConfigError, Context, ErrorAnswer, Ingress, IngressBuilder, Json, PeerAddr, Route,
};

use crate::call::{call, post};

#[path = "support/call.rs"]
mod call;

fn named(names: &[&str]) -> IngressBuilder {
    names.iter().fold(Ingress::builder(), |builder, &name| {
        builder.handler_fn(name, |context: Context, _| async move {
            context.handler().to_owned()
        })
    })
}

async fn status_of(path: &str) -> u16 {
    let ingress = named(&["plain", "été", "a b", "%41"])
        .build()
        .expect("valid");
    call(&ingress, post(path, "")).await.status
}

#[tokio::test]
async fn a_name_is_matched_after_decoding_it_once() {
    assert_eq!(status_of("/plain").await, 200);
    assert_eq!(status_of("/pl%61in").await, 200);
    assert_eq!(status_of("/%C3%A9t%c3%a9").await, 200);
    assert_eq!(status_of("/a%20b").await, 200);
    assert_eq!(status_of("/%2541").await, 200);
    assert_eq!(status_of("/%41").await, 404);
    assert_eq!(status_of("/plain?query=1").await, 200);
}

#[tokio::test]
async fn a_name_that_is_not_percent_encoded_utf_8_is_a_400() {
    for path in ["/%", "/%4", "/%zz", "/%ff", "/plain%80"] {
        assert_eq!(status_of(path).await, 400, "{path}");
    }
}

#[tokio::test]
async fn anything_but_one_known_segment_is_a_404() {
    for path in ["/", "//plain", "/plain/", "/plain/x", "/Plain", "/plain%2f"] {
        assert_eq!(status_of(path).await, 404, "{path}");
    }
}

#[tokio::test]
async fn a_target_that_is_no_path_is_a_400() {
    let ingress = named(&["*", "plain"]).build().expect("valid");
    for (method, target) in [
        (Method::POST, "*"),
        (Method::OPTIONS, "*"),
        (Method::CONNECT, "plain:80"),
    ] {
        let request = Request::builder().method(&method).uri(target);
        let reply = call(&ingress, request.body(Body::empty()).expect("a request")).await;
        assert_eq!(reply.status, 400, "{method} {target}");
    }
    let absolute = post("http://host/plain", "");
    assert_eq!(call(&ingress, absolute).await.status, 200);
}

#[tokio::test]
async fn an_unknown_name_is_echoed_shortened_and_escaped() {
    let ingress = named(&["plain"]).build().expect("valid");
    let reply = call(&ingress, post("/%22%0A%3Cx%3E", "")).await;
    assert_eq!(reply.message(), "Handler not found: \"\n<x>");

    let reply = call(&ingress, post(&format!("/{}", "x".repeat(30_000)), "")).await;
    assert_eq!(reply.status, 404);
    assert!(reply.message().len() < 300);
}

#[tokio::test]
async fn only_post_runs_a_handler_and_the_others_are_told() {
    let ingress = named(&["plain"]).build().expect("valid");
    for method in [
        Method::GET,
        Method::HEAD,
        Method::OPTIONS,
        Method::PUT,
        Method::DELETE,
    ] {
        let request = Request::builder()
            .method(&method)
            .uri("/plain")
            .body(Body::empty());
        let reply = call(&ingress, request.expect("a request")).await;
        assert_eq!(reply.status, 405, "{method}");
        assert_eq!(reply.headers["allow"], "POST");
    }
}

#[tokio::test]
async fn a_sane_request_id_is_kept_and_any_other_replaced() {
    let ingress = named(&["plain"]).build().expect("valid");
    let with_id = |id: &[u8]| {
        let mut request = post("/plain", "");
        let id = http::HeaderValue::from_bytes(id).expect("a header value");
        request.headers_mut().insert("x-request-id", id);
        request
    };
    let longest = [b'x'; 128];
    for sane in [&b"7"[..], b"{a-B:c}", &longest] {
        let reply = call(&ingress, with_id(sane)).await;
        assert_eq!(reply.headers["x-request-id"].as_bytes(), sane);
    }
    let too_long = [b'x'; 129];
    for other in [&b""[..], b"a b", b"\xfftail", &too_long] {
        let reply = call(&ingress, with_id(other)).await;
        assert_eq!(reply.headers["x-request-id"].len(), 32);
    }
}

#[tokio::test]
async fn new_request_ids_differ() {
    let ingress = named(&["plain"]).build().expect("valid");
    let mut seen = std::collections::HashSet::new();
    for _ in 0..1_000 {
        let reply = call(&ingress, post("/plain", "")).await;
        assert!(seen.insert(reply.headers["x-request-id"].clone()));
    }
}

#[tokio::test]
async fn a_handler_function_sees_the_request_around_its_body() {
    let look = |context: Context, body: bytes::Bytes| async move {
        let seen = format!(
            "{} {} {:?} {:?} {:?} {} {}",
            context.method(),
            context.handler(),
            context.query(),
            context.headers().get("x-extra"),
            context.peer().map(ToString::to_string),
            context.request_id(),
            body.len(),
        );
        assert!(context.remaining() > Some(Duration::from_secs(100)));
        Json([seen])
    };
    let ingress = Ingress::builder()
        .handler_fn("look", look)
        .build()
        .expect("valid");
    let mut request = post("/look?a=%20", "four");
    request
        .headers_mut()
        .insert("x-extra", "1".parse().expect("a value"));
    request
        .headers_mut()
        .insert("x-request-id", "id-1".parse().expect("a value"));
    let peer: SocketAddr = "192.0.2.1:9".parse().expect("an address");
    request.extensions_mut().insert(PeerAddr(peer.into()));

    let reply = call(&ingress, request).await;
    let expected = r#"POST look Some("a=%20") Some("1") Some("192.0.2.1:9") id-1 4"#;
    assert_eq!(reply.json, serde_json::json!([expected]));
}

#[test]
fn a_duplicate_name_is_a_configuration_error() {
    let error = named(&["a", "b", "a"]).build().expect_err("duplicate");
    assert_eq!(
        error,
        ConfigError::DuplicateRoute {
            name: "a".to_owned()
        }
    );
    assert_eq!(error.to_string(), r#"two routes are named "a""#);
}

#[test]
fn a_name_that_cannot_be_reached_is_a_configuration_error() {
    for name in ["", "a/b", "..", ".", "a\nb", &"x".repeat(129)] {
        let error = named(&[name]).build().expect_err("invalid");
        assert!(
            matches!(error, ConfigError::InvalidRouteName { .. }),
            "{name}"
        );
    }
}

#[test]
fn a_timeout_of_zero_is_a_configuration_error() {
    let zero = Duration::ZERO;
    let setting = |builder: IngressBuilder| match builder.build() {
        Err(ConfigError::ZeroTimeout { setting }) => setting,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        setting(Ingress::builder().body_timeout(zero)),
        "body_timeout"
    );
    assert_eq!(
        setting(Ingress::builder().handler_timeout(zero)),
        "handler_timeout"
    );
    let route = Route::handler_fn(|_, _| async { "" }).handler_timeout(zero);
    assert_eq!(
        setting(Ingress::builder().route("a", route)),
        "handler_timeout"
    );
}

#[test]
fn public_types_can_be_sent_and_shared() {
    static_assertions::assert_impl_all!(Ingress: Clone, Send, Sync, std::fmt::Debug);
    static_assertions::assert_impl_all!(Route: Clone, Send, Sync);
    static_assertions::assert_impl_all!(ErrorAnswer: Clone, Send, Sync, std::error::Error);
    static_assertions::assert_impl_all!(Context: Send, Sync);
    static_assertions::assert_impl_all!(spark_http::Address: Clone, Send, Sync, std::fmt::Display);
    static_assertions::assert_impl_all!(Body: Send, Unpin);
    static_assertions::assert_not_impl_any!(Body: Sync);
    static_assertions::assert_impl_all!(spark_http::HttpServer: Send, Sync);
    static_assertions::assert_impl_all!(spark_http::Answering: Send, Unpin);
}
