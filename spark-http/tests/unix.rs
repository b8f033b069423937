//! Servers on Unix sockets: what they take the place of, and what they leave behind.
#![cfg(unix)]

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, net::UnixListener},
    path::Path,
};

use spark_http::{Address, BindError, Endpoint, HttpServer, Ingress};
use tokio::net::UnixStream;

use crate::{
    scratch::Scratch,
    wire::{Client, Serving, serve, within},
};

#[path = "support/scratch.rs"]
mod scratch;
#[path = "support/wire.rs"]
mod wire;

/// Answers with the client's address.
fn peer() -> Ingress {
    Ingress::builder()
        .handler_fn("peer", |context, _| async move {
            context.peer().map(ToString::to_string).unwrap_or_default()
        })
        .build()
        .expect("valid")
}

async fn ask(path: &Path) -> String {
    let stream = within(UnixStream::connect(path)).await;
    let mut client = Client::new(stream.expect("accepted"));
    client.post("peer", "").await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.closes()), (200, false));
    reply.body
}

async fn refused(endpoint: Endpoint) -> BindError {
    HttpServer::bind(endpoint).await.expect_err("taken")
}

#[tokio::test]
async fn a_unix_socket_serves_beside_a_port_and_is_gone_after_the_drain() {
    let files = Scratch::new();
    let path = files.path("http.sock");
    let builder = HttpServer::builder().endpoint("127.0.0.1:0");
    let server = builder.bind(Endpoint::unix(&path)).await;
    let server = server.expect("a free path");
    assert_eq!(server.local_addrs()[1], Address::Unix(Some(path.clone())));
    assert_eq!(server.local_addrs()[1].as_path(), Some(&*path));
    let serving = Serving::start(server, peer());
    assert_eq!(ask(&path).await, r#"{"message":"unix:","status":"Ok"}"#);
    let mut other = serving.connect().await;
    other.post("peer", "").await;
    assert!(other.reply().await.body.contains("127.0.0.1:"));

    let report = serving.drain().await;
    other.closed().await;
    assert_eq!((report.connections, report.served), (2, 2));
    assert!(!path.exists());
    assert!(UnixStream::connect(&path).await.is_err());
}

#[tokio::test]
async fn a_server_that_never_serves_leaves_nothing_behind() {
    let files = Scratch::new();
    let path = files.path("http.sock");
    let server = HttpServer::bind(Endpoint::unix(&path)).await;
    assert!(path.exists());
    drop(server);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_socket_that_nobody_listens_on_is_replaced() {
    let files = Scratch::new();
    let path = files.path("http.sock");
    drop(UnixListener::bind(&path).expect("a free path"));
    assert!(path.exists());
    let server = HttpServer::bind(Endpoint::unix(&path)).await;
    let task = tokio::spawn(server.expect("replaced").serve(peer()));
    ask(&path).await;
    task.abort();
    assert!(task.await.expect_err("aborted").is_cancelled());
    assert!(!path.exists());
}

#[tokio::test]
async fn a_socket_that_somebody_listens_on_is_left_alone() {
    let files = Scratch::new();
    let path = files.path("http.sock");
    let server = HttpServer::bind(Endpoint::unix(&path)).await;
    let _task = tokio::spawn(server.expect("a free path").serve(peer()));
    let error = refused(Endpoint::unix(&path)).await;
    assert!(error.is_address_in_use());
    let expected = format!("cannot listen on unix:{}", path.display());
    assert_eq!(error.to_string(), expected);
    ask(&path).await;
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_left_alone() {
    let files = Scratch::new();
    let path = files.write("precious", "content");
    let error = refused(Endpoint::unix(&path)).await;
    assert!(matches!(error, BindError::Listen { .. }));
    assert_eq!(fs::read(&path).expect("still there"), b"content");
}

#[tokio::test]
async fn a_socket_that_took_the_place_of_ours_is_left_alone() {
    let files = Scratch::new();
    let path = files.path("http.sock");
    let ours = HttpServer::bind(Endpoint::unix(&path)).await;
    fs::remove_file(&path).expect("removed by somebody");
    let theirs = HttpServer::bind(Endpoint::unix(&path)).await;
    drop(ours);
    let _task = tokio::spawn(theirs.expect("a free path").serve(peer()));
    ask(&path).await;
}

#[tokio::test]
async fn permissions_are_those_that_are_asked_for() {
    let files = Scratch::new();
    let path = files.path("http.sock");
    let server = HttpServer::bind(Endpoint::unix_with_mode(&path, 0o620)).await;
    let found = fs::metadata(&path).expect("there").permissions();
    assert_eq!(found.mode() & 0o777, 0o620);
    drop(server);
}

#[tokio::test]
async fn several_servers_with_several_endpoints_end_apart() {
    let files = Scratch::new();
    let (one, other) = (files.path("one.sock"), files.path("other.sock"));
    let first = HttpServer::builder().endpoint(Endpoint::unix(&one));
    let first = serve(first, peer()).await;
    let second = serve(
        HttpServer::builder().endpoint(Endpoint::unix(&other)),
        peer(),
    )
    .await;
    ask(&one).await;
    assert_eq!(first.drain().await.served, 1);
    assert!(!one.exists());
    ask(&other).await;
    assert_eq!(second.drain().await.served, 1);
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_had_frees_the_others() {
    let files = Scratch::new();
    let (free, taken) = (files.path("free.sock"), files.write("taken", ""));
    let builder = HttpServer::builder().endpoint(Endpoint::unix(&free));
    assert!(builder.bind(Endpoint::unix(taken)).await.is_err());
    assert!(!free.exists());
}
