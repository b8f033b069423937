//! Stopping a server over HTTP, and by a token.

use std::time::Duration;

use spark_channel::{SparkChannelCancellationToken, spawn_module};
use spark_http::{
    ApiKeys, Body, ConfigError, HttpServer, Ingress, IngressBuilder, ServerHandle,
    ShutdownCredential, TextCodec,
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::{
    modules::Gated,
    wire::{Client, Reply, Serving, within},
};

#[path = "support/modules.rs"]
mod modules;
#[path = "support/wire.rs"]
mod wire;

fn credential() -> ShutdownCredential {
    ShutdownCredential::new("stop-it").expect("valid")
}

/// Serves `m`, and whatever `routes` makes of the server's handle.
async fn serve(
    gated: &Gated,
    routes: impl FnOnce(IngressBuilder, ServerHandle) -> IngressBuilder,
) -> Serving {
    let module = spawn_module(gated.clone()).dispatcher();
    let server = HttpServer::bind("127.0.0.1:0").await.expect("a free port");
    let builder = Ingress::builder().module("m", TextCodec, module);
    let ingress = routes(builder, server.handle()).build().expect("valid");
    wire::Serving::start(server, ingress)
}

async fn ask(client: &mut Client, method: &str, key: &str) -> Reply {
    client
        .send(format!(
            "{method} /shutdown HTTP/1.1\r\nhost: t\r\nauthorization: {key}\r\ncontent-length: 0\r\n\r\n"
        ))
        .await;
    client.reply().await
}

#[tokio::test]
async fn the_right_credential_drains_and_the_answer_comes_first() {
    let gated = Gated::closed();
    let serving = serve(&gated, |builder, server| {
        builder.shutdown_route(server, credential())
    })
    .await;
    let mut busy = serving.connect().await;
    busy.post("m", "under way").await;
    within(gated.has_started()).await;

    let mut client = serving.connect().await;
    let reply = ask(&mut client, "POST", "Bearer stop-it").await;
    assert_eq!(
        (reply.status, &*reply.body),
        (200, r#"{"status":"Shutting down"}"#)
    );
    assert!(reply.closes());
    client.closed().await;
    assert!(serving.handle.is_draining());

    gated.gate.add_permits(1);
    assert_eq!(busy.reply().await.status, 200);
    let report = serving.report().await;
    assert_eq!((report.served, report.cut, report.abandoned), (2, 0, 0));
    assert_eq!(gated.runs(), 1);
}

#[tokio::test]
async fn anything_else_drains_nothing() {
    let keys = ApiKeys::new([("ci", "api-key")]).expect("valid");
    let serving = serve(&Gated::open(), |builder, server| {
        builder.api_keys(keys).shutdown_route(server, credential())
    })
    .await;
    for (method, key, status) in [
        ("GET", "stop-it", 401),
        ("GET", "api-key", 405),
        ("PUT", "api-key", 405),
        ("POST", "api-key", 401),
        ("POST", "", 401),
        ("POST", "stop-i", 401),
        ("POST", "stop-it!", 401),
    ] {
        let mut client = serving.connect().await;
        let reply = ask(&mut client, method, key).await;
        assert_eq!(reply.status, status, "{method} {key}");
    }
    assert!(!serving.handle.is_draining());
    // The credential opens nothing but the shutdown route.
    let mut client = serving.connect().await;
    client
        .send("POST /m HTTP/1.1\r\nhost: t\r\nx-api-key: stop-it\r\ncontent-length: 0\r\n\r\n")
        .await;
    assert_eq!(client.reply().await.status, 401);
}

#[tokio::test]
async fn a_second_request_neither_hastens_nor_hinders() {
    let gated = Gated::closed();
    let module = spawn_module(gated.clone()).dispatcher();
    let server = HttpServer::bind("127.0.0.1:0").await.expect("a free port");
    let ingress = Ingress::builder()
        .module("m", TextCodec, module)
        .shutdown_route(server.handle(), credential())
        .build()
        .expect("valid");
    let serving = wire::Serving::start(server, ingress.clone());
    let mut busy = serving.connect().await;
    busy.post("m", "under way").await;
    within(gated.has_started()).await;

    // Past the server, which would answer 503 while it drains.
    for _ in 0..2 {
        let request = http::Request::post("/shutdown").header("x-api-key", "stop-it");
        let request = request.body(Body::empty()).expect("a request");
        let answer = ingress.clone().oneshot(request).await.expect("infallible");
        assert_eq!(answer.status(), 200);
    }
    gated.gate.add_permits(1);
    assert_eq!(busy.reply().await.status, 200);
    let report = serving.report().await;
    assert_eq!((report.cut, report.abandoned), (0, 0));
}

#[tokio::test]
async fn without_being_asked_for_there_is_no_such_route() {
    let serving = serve(&Gated::open(), |builder, _| builder).await;
    for method in ["POST", "GET"] {
        let mut client = serving.connect().await;
        let reply = ask(&mut client, method, "stop-it").await;
        assert_eq!(reply.status, 404);
        assert_eq!(
            reply.body,
            r#"{"message":"Handler not found: shutdown","status":"Error"}"#
        );
    }
    assert!(!serving.handle.is_draining());
}

#[tokio::test]
async fn a_credential_that_protects_nothing_is_a_configuration_error() {
    for secret in ["", "Bearer ", " x", "x\r"] {
        let error = ShutdownCredential::new(secret).expect_err("invalid");
        assert!(
            matches!(error, ConfigError::InvalidCredential { .. }),
            "{secret:?}"
        );
    }
    let server = HttpServer::bind("127.0.0.1:0").await.expect("a port");
    let keys = ApiKeys::new([("ci", "stop-it")]).expect("valid");
    let both = Ingress::builder()
        .shutdown_route(server.handle(), credential())
        .api_keys(keys);
    assert_eq!(
        both.build().expect_err("invalid").to_string(),
        r#"credential "shutdown" is an API key"#
    );
    let twice = Ingress::builder()
        .handler_fn("shutdown", |_, _| async { "" })
        .shutdown_route(server.handle(), credential());
    let error = twice.build().expect_err("invalid");
    assert!(matches!(error, ConfigError::DuplicateRoute { .. }));
}

#[tokio::test]
async fn a_token_drains_every_server_that_was_given_it() {
    let token = CancellationToken::new();
    let builder = HttpServer::builder().drain_on(token.clone());
    let ingress = Ingress::builder().build().expect("valid");
    let one = wire::serve(builder.clone(), ingress.clone()).await;
    let other = wire::serve(builder, ingress).await;
    token.cancel();
    assert!(!one.report().await.deadline_passed);
    assert!(!other.report().await.deadline_passed);

    let token = SparkChannelCancellationToken::new();
    let builder = HttpServer::builder()
        .drain_timeout(Duration::from_secs(5))
        .drain_on(token.clone());
    let serving = wire::serve(builder, Ingress::builder().build().expect("valid")).await;
    let report = serving.drain().await;
    assert!(!report.deadline_passed && !token.0.is_cancelled());
}
