//! HTTP/2: the same answers as over HTTP/1, with many requests on a connection.
#![cfg(feature = "http2")]

use std::convert::Infallible;

use http::{Method, Request, Response};
use serde_json::json;
use spark_http::{Body, HttpServer, Ingress};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, sync::mpsc};

use crate::{
    http2::{END_HEADERS, END_STREAM, HEADERS, Http2, Raw, echo, post, reply},
    modules::Gated,
    wire::{serve, within},
};

#[path = "support/http2.rs"]
mod http2;
#[path = "support/modules.rs"]
mod modules;
#[path = "support/wire.rs"]
mod wire;

#[tokio::test]
async fn requests_with_prior_knowledge_are_answered_beside_http_1_on_one_port() {
    let serving = serve(HttpServer::builder(), echo(&Gated::open())).await;
    let mut client = Http2::connect(&serving).await;
    for _ in 0..3 {
        let reply = client.post("echo", b"hi").await;
        assert_eq!(reply.status(), 200);
        assert_eq!(reply.json(), json!({ "message": "hi", "status": "Ok" }));
        assert!(reply.response.headers().contains_key("date"));
    }
    let mut old = serving.connect().await;
    old.post("echo", "hi").await;
    assert_eq!(old.reply().await.status, 200);
    let report = serving.drain().await;
    assert_eq!((report.connections, report.served), (2, 4));
    assert!(client.ended().await.is_ok());
}

#[tokio::test]
async fn requests_of_one_connection_run_side_by_side() {
    let gated = Gated::closed();
    let serving = serve(HttpServer::builder(), echo(&gated)).await;
    let mut client = Http2::connect(&serving).await;
    let mut answers = Vec::new();
    for _ in 0..10 {
        answers.push(client.send(post("wait"), b"").await);
        gated.has_started().await;
    }
    gated.gate.add_permits(10);
    for answer in answers {
        assert_eq!(reply(answer).await.status(), 200);
    }
    assert_eq!(serving.drain().await.served, 10);
}

#[tokio::test]
async fn errors_are_those_of_the_table() {
    let serving = serve(
        HttpServer::builder().head_limit(8 * 1024),
        echo(&Gated::open()),
    )
    .await;
    let mut client = Http2::connect(&serving).await;
    let unknown = client.post("nobody", b"").await;
    assert_eq!(unknown.status(), 404);
    assert_eq!(unknown.json()["message"], "Handler not found: nobody");
    let large = client.post("echo", &[b'x'; 101]).await;
    assert_eq!(
        (large.status(), large.json()["status"].as_str()),
        (413, Some("Error"))
    );

    let mut request = post("echo");
    let long = "x".repeat(9_000).parse().expect("valid");
    request.headers_mut().insert("long", long);
    let answer = client.send(request, b"").await;
    let refused = reply(answer).await;
    assert_eq!(refused.status(), 431);
    assert_eq!(refused.json()["message"], "request head is too large");

    let mut request = post("echo");
    *request.method_mut() = Method::HEAD;
    let answer = client.send(request, b"").await;
    let head = reply(answer).await;
    assert_eq!((head.status(), &head.body[..]), (405, &b""[..]));
    let length = head.response.headers()["content-length"].to_str();
    assert_ne!(length.expect("a number"), "0");

    let connect = Request::connect("test:80").body(()).expect("valid");
    let answer = client.send(connect, b"").await;
    assert_eq!(reply(answer).await.status(), 501);
    assert_eq!(client.post("echo", b"still here").await.status(), 200);
    assert_eq!(serving.drain().await.served, 6);
}

#[tokio::test]
async fn a_client_that_resets_a_stream_drops_its_request_and_keeps_its_connection() {
    let (ended, mut ends) = mpsc::channel(1);
    struct OnDrop(mpsc::Sender<()>);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            self.0.try_send(()).expect("room");
        }
    }
    let (started, mut starts) = mpsc::channel(1);
    let hang = move |_, _| {
        let (started, ended) = (started.clone(), OnDrop(ended.clone()));
        async move {
            let _ended = ended;
            started.send(()).await.expect("room");
            std::future::pending::<&str>().await
        }
    };
    let ingress = Ingress::builder().handler_fn("hang", hang).build();
    let serving = serve(HttpServer::builder(), ingress.expect("valid")).await;
    let mut client = Http2::connect(&serving).await;
    let answer = client.send(post("hang"), b"").await;
    within(starts.recv()).await.expect("started");
    drop(answer);
    within(ends.recv()).await.expect("dropped");
    assert_eq!(client.post("nobody", b"").await.status(), 404);
    let report = serving.drain().await;
    assert_eq!((report.served, report.abandoned, report.cut), (1, 1, 0));
}

#[tokio::test]
async fn a_service_that_panics_ends_one_stream_only() {
    let service = tower::service_fn(|request: Request<Body>| async move {
        assert!(request.uri().path() != "/panic", "secret-panic-text");
        Ok::<_, Infallible>(
            Response::builder()
                .header("x-request-id", "1")
                .body(Body::from("fine"))
                .expect("valid"),
        )
    });
    let serving = serve(HttpServer::builder(), service).await;
    let mut client = Http2::connect(&serving).await;
    let answer = client.send(post("panic"), b"").await;
    assert!(within(answer).await.expect_err("reset").is_reset());
    assert_eq!(&client.post("fine", b"").await.body[..], b"fine");
    let report = serving.drain().await;
    assert_eq!((report.served, report.abandoned), (1, 1));
}

#[tokio::test]
async fn a_request_for_two_hosts_or_none_is_a_400_that_never_runs() {
    let gated = Gated::open();
    let serving = serve(HttpServer::builder(), echo(&gated)).await;
    let mut client = Http2::connect(&serving).await;
    for hosts in [&["other"][..], &["test", "test"], &["test", "other"]] {
        let mut request = post("echo");
        for host in hosts {
            let host = host.parse().expect("valid");
            request.headers_mut().append("host", host);
        }
        let answer = client.send(request, b"").await;
        assert_eq!(reply(answer).await.status(), 400, "{hosts:?}");
    }
    let mut request = post("echo");
    *request.uri_mut() = "http://user@test/echo".parse().expect("valid");
    let answer = client.send(request, b"").await;
    assert_eq!(reply(answer).await.status(), 400);
    let mut raw = Raw::connect(&serving).await;
    let nobody = b"\x83\x86\x04\x05/echo";
    raw.send(HEADERS, END_HEADERS | END_STREAM, 1, nobody).await;
    let head = raw.read(|kind, _, _| kind == HEADERS).await;
    assert_eq!(head.expect("answered")[0], 0x8c, "`:status: 400`, indexed");
    assert_eq!(gated.runs(), 0);

    let mut request = post("echo");
    request
        .headers_mut()
        .insert("host", "Test".parse().expect("valid"));
    let answer = client.send(request, b"").await;
    assert_eq!(reply(answer).await.status(), 200);
    assert_eq!(client.post("echo", b"again").await.status(), 200);
}

#[tokio::test]
async fn what_is_not_quite_http_2_is_a_400() {
    let serving = serve(HttpServer::builder(), echo(&Gated::open())).await;
    let mut client = serving.connect().await;
    client.send(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n").await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.closes()), (400, true));
    let expected = r#"{"message":"not an HTTP request","status":"Error"}"#;
    assert_eq!(reply.body, expected);
    client.closed().await;
    let mut eager = TcpStream::connect(serving.address).await.expect("accepted");
    eager.write_all(b"P").await.expect("sent");
    drop((eager, client));
    assert_eq!(serving.drain().await.abandoned, 0);
}
