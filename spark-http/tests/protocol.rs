//! What HTTP/1.1 demands of a server beside answering.

use spark_channel::spawn_module;
use spark_http::{HttpServer, Ingress, TextCodec};

use crate::{
    modules::Gated,
    wire::{Serving, serve},
};

#[path = "support/modules.rs"]
mod modules;
#[path = "support/wire.rs"]
mod wire;

async fn serve_echo(gated: &Gated) -> Serving {
    let module = spawn_module(gated.clone()).dispatcher();
    let ingress = Ingress::builder()
        .module("echo", TextCodec, module)
        .build()
        .expect("valid");
    serve(HttpServer::builder(), ingress).await
}

#[tokio::test]
async fn a_request_without_exactly_one_host_is_a_400_that_closes_and_never_runs() {
    let gated = Gated::open();
    let serving = serve_echo(&gated).await;
    for hosts in ["", "host: a\r\nhost: b\r\n", "host: a\r\nHost: a\r\n"] {
        let mut client = serving.connect().await;
        client
            .send(format!(
                "POST /echo HTTP/1.1\r\n{hosts}content-length: 2\r\n\r\nhi"
            ))
            .await;
        let reply = client.reply().await;
        assert_eq!((reply.status, reply.closes()), (400, true), "{hosts}");
        assert_eq!(
            reply.body,
            r#"{"message":"exactly one host is needed","status":"Error"}"#
        );
        client.closed().await;
    }
    assert_eq!(gated.runs(), 0);
    let report = serving.drain().await;
    assert_eq!((report.served, report.abandoned), (3, 0));
}

#[tokio::test]
async fn two_hosts_are_too_many_for_a_client_of_any_age() {
    let gated = Gated::open();
    let serving = serve_echo(&gated).await;
    for head in [
        "POST /echo HTTP/1.0\r\nhost: a\r\nhost: b\r\n",
        "POST http://a/echo HTTP/1.1\r\nhost: b\r\n",
        "POST http://a/echo HTTP/1.0\r\nhost: b\r\n",
    ] {
        let mut client = serving.connect().await;
        client
            .send(format!("{head}content-length: 2\r\n\r\nhi"))
            .await;
        let reply = client.reply().await;
        assert_eq!((reply.status, reply.closes()), (400, true), "{head}");
        client.closed().await;
    }
    let mut client = serving.connect().await;
    client
        .send("POST http://A:80/echo HTTP/1.1\r\nhost: a:80\r\ncontent-length: 2\r\n\r\nhi")
        .await;
    assert_eq!(client.reply().await.status, 200);
    assert_eq!(gated.runs(), 1);
}

#[tokio::test]
async fn a_host_that_is_none_is_a_400_and_never_runs() {
    let gated = Gated::open();
    let serving = serve_echo(&gated).await;
    for (target, host) in [
        ("/echo", "a b"),
        ("/echo", "a/b"),
        ("/echo", "u@a"),
        ("/echo", "a, b"),
        ("/echo", "a:b"),
        ("http://u@a/echo", "u@a"),
    ] {
        let mut client = serving.connect().await;
        client
            .send(format!(
                "POST {target} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 2\r\n\r\nhi"
            ))
            .await;
        let reply = client.reply().await;
        assert_eq!((reply.status, reply.closes()), (400, true), "{host}");
        client.closed().await;
    }
    assert_eq!(gated.runs(), 0);
}

#[tokio::test]
async fn a_coding_that_nobody_undoes_is_a_501_that_closes_and_never_runs() {
    let gated = Gated::open();
    let serving = serve_echo(&gated).await;
    for codings in [
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked, chunked\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
    ] {
        let mut client = serving.connect().await;
        client
            .send(format!(
                "POST /echo HTTP/1.1\r\nhost: t\r\n{codings}\r\n2\r\nhi\r\n0\r\n\r\n"
            ))
            .await;
        let reply = client.reply().await;
        assert_eq!((reply.status, reply.closes()), (501, true), "{codings}");
        client.closed().await;
    }
    assert_eq!(gated.runs(), 0);
    let mut client = serving.connect().await;
    client
        .send("POST /echo HTTP/1.1\r\nhost: t\r\ntransfer-encoding: Chunked \r\n\r\n2\r\nhi\r\n0\r\n\r\n")
        .await;
    assert_eq!(client.reply().await.status, 200);
}

#[tokio::test]
async fn what_is_behind_a_body_of_two_lengths_is_never_a_request() {
    for lengths in [
        "content-length: 6\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 6\r\n",
    ] {
        let gated = Gated::open();
        let serving = serve_echo(&gated).await;
        let mut client = serving.connect().await;
        client
            .send(format!(
                "POST /echo HTTP/1.1\r\nhost: t\r\n{lengths}\r\n0\r\n\r\n\
                 POST /echo HTTP/1.1\r\nhost: t\r\ncontent-length: 0\r\n\r\n"
            ))
            .await;
        client.reply().await;
        client.closed().await;
        assert_eq!(gated.runs(), 1);
    }
}

#[tokio::test]
async fn a_client_older_than_the_host_header_needs_none() {
    let gated = Gated::closed();
    let serving = serve_echo(&gated).await;
    let mut client = serving.connect().await;
    client
        .send("POST /echo HTTP/1.0\r\ncontent-length: 2\r\n\r\nhi")
        .await;
    gated.has_started().await;
    gated.gate.add_permits(1);
    assert_eq!(client.reply().await.status, 200);
    client.closed().await;
}

#[tokio::test]
async fn the_preface_of_http_2_where_it_is_not_spoken_is_a_400_like_other_rubbish() {
    let serving = serve_echo(&Gated::open()).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let mut used = serving.connect().await;
    used.post("echo", "hi").await;
    assert_eq!(used.reply().await.status, 200);
    let mut clients = vec![used];
    if !cfg!(feature = "http2") {
        clients.push(serving.connect().await);
    }
    for client in &mut clients {
        client.send(preface).await;
        let reply = client.reply().await;
        assert_eq!((reply.status, reply.closes()), (400, true));
        client.closed().await;
    }
}
