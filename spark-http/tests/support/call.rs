//! Calls an ingress without a socket, and holds every answer to what all answers owe.

use std::convert::Infallible;

use http::{HeaderMap, Method, Request, Response};
use http_body_util::BodyExt as _;
use serde_json::Value;
use spark_http::{Body, Ingress};
use tower::ServiceExt as _;

/// An answer, read to its end. To HEAD it is a head.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) json: Value,
}

impl Reply {
    pub(crate) fn message(&self) -> &str {
        self.json["message"].as_str().unwrap_or_default()
    }
}

pub(crate) fn post(path: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(path).body(body.into()).expect("a request")
}

/// Sends `request` and checks that the answer is JSON, has a sane `x-request-id`, and is
/// of the error table's shape if it is an error.
pub(crate) async fn call<B>(ingress: &Ingress, request: Request<B>) -> Reply
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let is_head = request.method() == Method::HEAD;
    let answer: Result<Response<Body>, Infallible> = ingress.clone().oneshot(request).await;
    let (parts, body) = answer.expect("infallible").into_parts();
    let body = body.collect().await.expect("in memory").to_bytes();
    let reply = Reply {
        status: parts.status.as_u16(),
        headers: parts.headers,
        json: if is_head {
            assert!(body.is_empty(), "{body:?}");
            Value::Null
        } else {
            serde_json::from_slice(&body).expect("every answer is JSON")
        },
    };
    let id = reply.headers["x-request-id"].as_bytes();
    assert!((1..=128).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic));
    if reply.status >= 400 {
        assert_eq!(reply.headers["content-type"], "application/json");
    }
    if reply.status >= 400 && !is_head {
        assert_eq!(reply.json["status"], "Error");
        assert!(reply.json["message"].is_string());
    }
    reply
}
