//! Any request: names, paths, parameters, JSON, envelopes and text. It is answered, and every error
//! is one of the table.

#![no_main]

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::BodyExt as _;
use libfuzzer_sys::fuzz_target;
use serde::{Deserialize, Serialize};
use spark_channel::{NativeHandler, SparkChannelError, spawn_module};
use spark_http::{Body, EnvelopeCodec, Ingress, Json, JsonCodec, PathParameters, Route, TextCodec};
use tower::ServiceExt as _;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    method: u8,
    route: u8,
    target: &'a str,
    headers: Vec<(&'a str, &'a [u8])>,
    body: &'a [u8],
}

#[derive(Deserialize, Serialize)]
struct Tree {
    name: String,
    weight: Option<u8>,
    children: Vec<Tree>,
}

#[derive(Deserialize, Serialize)]
struct Parameters {
    id: u32,
    #[serde(default)]
    tags: Vec<String>,
    flag: Option<bool>,
}

struct Same<T>(std::marker::PhantomData<fn(T)>);

fuzz_target!(|input: Input<'_>| {
    let Some(request) = request(&input) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let has_body = request.method() != Method::HEAD;
    runtime.block_on(async {
        let answer = ingress().oneshot(request).await.expect("infallible");
        let status = answer.status();
        assert!(answer.headers().contains_key("x-request-id"));
        assert_ne!(status, 502, "no module is gone");
        let body = answer.into_body().collect().await.expect("in memory");
        if has_body && (status.is_client_error() || status.is_server_error()) {
            let body = body.to_bytes();
            let error: BTreeMap<String, String> =
                serde_json::from_slice(&body).expect("an error of the table");
            assert_eq!(error["status"], "Error");
        }
    });
});

fn ingress() -> Ingress {
    Ingress::builder()
        .body_limit(4096)
        .module("echo", TextCodec, same::<String>())
        .module("envelope", EnvelopeCodec, same::<String>())
        .module("tree", JsonCodec::<Tree, Tree>::new(), same::<Tree>())
        .path(
            "/items/{id}",
            Route::handler_fn(|context, _| async move { context.params::<Parameters>().map(Json) })
                .methods([Method::GET, Method::POST]),
        )
        .path(
            "/names/{first}/{second}",
            Route::handler_fn(|context, _| async move {
                let named: &PathParameters = context.path_parameters();
                assert_eq!(named.iter().count(), 2);
                context.path::<(String, String)>().map(|(first, _)| first)
            }),
        )
        .build()
        .expect("valid")
}

fn request(input: &Input<'_>) -> Option<Request<Body>> {
    let routes = ["/echo", "/envelope", "/tree", "/items/", "/names/", "/", ""];
    let route = routes[usize::from(input.route) % routes.len()];
    let methods = [
        Method::POST,
        Method::POST,
        Method::GET,
        Method::HEAD,
        Method::PUT,
    ];
    let uri: Uri = format!("{route}{}", input.target).parse().ok()?;
    let mut request = Request::builder()
        .method(&methods[usize::from(input.method) % methods.len()])
        .uri(uri);
    for (name, value) in &input.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        request = request.header(name, HeaderValue::from_bytes(value).ok()?);
    }
    if input.method.is_multiple_of(2) {
        request = request.header("content-type", "application/json");
    }
    request.body(Body::from(input.body.to_vec())).ok()
}

fn same<T: Send + 'static>() -> spark_channel::SparkGenericModuleDispatcher<
    T,
    T,
    spark_channel::SparkChannelCancellationToken,
    SparkChannelError,
> {
    spawn_module(Same(std::marker::PhantomData)).dispatcher()
}

impl<T: Send + 'static> NativeHandler for Same<T> {
    type Message = T;
    type Response = T;
    type Error = SparkChannelError;

    async fn handle_request(&mut self, message: T) -> Result<T, SparkChannelError> {
        Ok(message)
    }

    async fn handle_command(&mut self, _: T) -> Result<(), SparkChannelError> {
        Ok(())
    }
}
