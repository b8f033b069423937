//! Whatever is put into an ingress, it answers, and from the table.

use http::{HeaderValue, Method};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use spark_channel::{NativeHandler, SparkChannelError, spawn_module};
use spark_http::{Ingress, JsonCodec, TextCodec};

use crate::{
    call::{call, post},
    echo::Echo,
};

#[path = "support/call.rs"]
mod call;
#[path = "support/echo.rs"]
mod echo;

#[derive(Deserialize, Serialize)]
struct Tree {
    name: String,
    children: Vec<Tree>,
}

struct Trees;

impl NativeHandler for Trees {
    type Message = Tree;
    type Response = Tree;
    type Error = SparkChannelError;

    async fn handle_request(&mut self, tree: Tree) -> Result<Tree, SparkChannelError> {
        Ok(tree)
    }

    async fn handle_command(&mut self, _: Tree) -> Result<(), SparkChannelError> {
        Ok(())
    }
}

fn ingress() -> Ingress {
    Ingress::builder()
        .body_limit(64)
        .module("echo", TextCodec, spawn_module(Echo).dispatcher())
        .module(
            "tree",
            JsonCodec::<Tree, Tree>::new(),
            spawn_module(Trees).dispatcher(),
        )
        .build()
        .expect("valid")
}

fn path() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("/echo".to_owned()),
        Just("/tree".to_owned()),
        "/[a-z%0-9+./?&=é-]{0,20}",
        "/(%[0-9a-fA-F]{2}){1,8}",
    ]
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..80),
        r#"[{}\[\]":,a-z0-9\\ ]{0,80}"#.prop_map(String::into_bytes),
        r#"\{"name":"[a-z]{0,9}","children":\[\]\}"#.prop_map(String::into_bytes),
    ]
}

proptest! {
    #[test]
    fn any_request_is_answered_from_the_table(
        path in path(),
        method in "POST|GET|[A-Z]{1,8}",
        headers in proptest::collection::vec(
            ("x-request-id|content-type|content-length|expect", proptest::collection::vec(any::<u8>(), 0..140)),
            0..3,
        ),
        json in any::<bool>(),
        body in body(),
    ) {
        // What is not a target, hyper refuses before the ingress sees it.
        prop_assume!(path.parse::<http::Uri>().is_ok());
        let mut request = post(&path, body);
        *request.method_mut() = Method::from_bytes(method.as_bytes()).expect("a token");
        if json {
            let json = HeaderValue::from_static("application/json");
            request.headers_mut().insert("content-type", json);
        }
        for (name, value) in headers {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                let name = http::HeaderName::from_bytes(name.as_bytes()).expect("a name");
                request.headers_mut().insert(name, value);
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let status = runtime.expect("a runtime").block_on(async {
            // `call` checks the shape.
            let reply = call(&ingress(), request).await;
            assert!(reply.message().chars().count() < 300);
            reply.status
        });
        prop_assert!(matches!(status, 200 | 400 | 404 | 405 | 413 | 415), "{status}");
    }
}
