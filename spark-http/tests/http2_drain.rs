//! The ends of HTTP/2: drains, deadlines, and what the report counts.
#![cfg(feature = "http2")]

use std::{sync::Mutex, time::Duration};

use h2::client::Builder;
use http::Request;
use spark_http::{Body, HttpServer, Ingress};
use tokio::sync::mpsc;

use crate::{
    http2::{END_HEADERS, END_STREAM, GOAWAY, HEADERS, Http2, POST_ECHO, Raw, echo, post, reply},
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
async fn a_drain_finishes_streams_under_way_and_tells_the_client_to_go() {
    let gated = Gated::closed();
    let serving = serve(HttpServer::builder(), echo(&gated)).await;
    let mut client = Http2::connect(&serving).await;
    let answer = client.send(post("wait"), b"").await;
    gated.has_started().await;
    let mut idle = Http2::connect(&serving).await;
    idle.post("nobody", b"").await;

    serving.handle.drain();
    // Told to go, it opens no more streams, and leaves once it has none.
    assert!(idle.ended().await.is_ok());
    gated.gate.add_permits(1);
    assert_eq!(reply(answer).await.status(), 200);
    assert!(client.ended().await.is_ok());
    let report = serving.report().await;
    assert_eq!((report.served, report.refused, report.cut), (2, 0, 0));
    assert!(!report.deadline_passed);
}

#[tokio::test]
async fn a_stream_that_is_opened_during_the_drain_is_a_503() {
    let gated = Gated::closed();
    let serving = serve(HttpServer::builder(), echo(&gated)).await;
    let mut raw = Raw::connect(&serving).await;
    let ends = END_HEADERS | END_STREAM;
    raw.send(HEADERS, ends, 1, POST_ECHO).await;
    gated.has_started().await;
    serving.handle.drain();
    raw.read(|kind, _, _| kind == GOAWAY).await.expect("told");
    raw.send(HEADERS, ends, 3, POST_ECHO).await;
    let ended = raw.read(|_, flags, stream| stream == 3 && flags & END_STREAM != 0);
    assert!(ended.await.is_some());
    gated.gate.add_permits(1);
    let ended = raw.read(|_, flags, stream| stream == 1 && flags & END_STREAM != 0);
    assert!(ended.await.is_some());
    drop(raw);
    let report = serving.report().await;
    assert_eq!((report.served, report.refused), (2, 1));
    assert_eq!(gated.runs(), 1);
}

#[tokio::test]
async fn the_deadline_cuts_streams_and_counts_each() {
    let gated = Gated::closed();
    let builder = HttpServer::builder().drain_timeout(Duration::from_millis(50));
    let serving = serve(builder, echo(&gated)).await;
    let mut client = Http2::connect(&serving).await;
    let mut answers = Vec::new();
    for _ in 0..3 {
        answers.push(client.send(post("wait"), b"").await);
        gated.has_started().await;
    }
    let report = serving.drain().await;
    assert!(report.deadline_passed);
    assert_eq!((report.served, report.abandoned, report.cut), (0, 0, 3));
    for answer in answers {
        assert!(within(answer).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stream_that_blocks_its_thread_is_left_behind_and_counted() {
    // Dropped however the test ends, which releases the thread.
    let (_release, held) = std::sync::mpsc::sync_channel::<()>(0);
    let held = Mutex::new(held);
    let (started, mut starts) = mpsc::channel(1);
    let block = move |_, _| {
        started.try_send(()).expect("room");
        let _ = held.lock().expect("one request").recv();
        async { "" }
    };
    let ingress = Ingress::builder().handler_fn("block", block).build();
    let builder = HttpServer::builder().drain_timeout(Duration::from_millis(50));
    let serving = serve(builder, ingress.expect("valid")).await;
    let mut client = Http2::connect(&serving).await;
    let _answer = client.send(post("block"), b"").await;
    within(starts.recv()).await.expect("started");
    let report = serving.drain().await;
    assert!(report.deadline_passed);
    assert_eq!((report.cut, report.unresponsive), (0, 1));
}

#[tokio::test]
async fn the_end_of_an_answer_that_is_never_taken_does_not_hold_a_drain_up() {
    let builder = HttpServer::builder().write_timeout(Duration::from_millis(100));
    let serving = serve(builder, echo(&Gated::open())).await;
    let mut none = Builder::new();
    // The answer is in h2's hands, whole, but for the room that the client does not give.
    none.initial_window_size(10);
    let mut client = Http2::with(&none, &serving).await;
    let answer = client
        .send(post("echo"), b"a longer answer than ten bytes")
        .await;
    let _body = within(answer).await.expect("begun");
    let report = serving.drain().await;
    assert!(!report.deadline_passed);
    assert_eq!((report.served, report.abandoned, report.cut), (0, 1, 0));
}

#[tokio::test]
async fn each_request_is_counted_once_whatever_becomes_of_it() {
    let gated = Gated::open();
    let begun = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let (ingress, count) = (echo(&gated), begun.clone());
    let service = tower::service_fn(move |request: Request<Body>| {
        count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        tower::ServiceExt::oneshot(ingress.clone(), request)
    });
    let serving = serve(HttpServer::builder(), service).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = Http2::connect(&serving).await;
        clients.push(tokio::spawn(async move {
            for round in 0..50 {
                let name = ["echo", "nobody", "large"][round % 3];
                let answer = client.send(post(name), b"").await;
                if round % 5 == 0 {
                    drop(answer);
                } else {
                    reply(answer).await;
                }
            }
            // Held open until all is counted.
            client
        }));
    }
    let mut open = Vec::new();
    for client in clients {
        open.push(within(client).await.expect("no panic"));
    }
    let report = serving.drain().await;
    let begun = begun.load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(report.served + report.abandoned, begun);
    assert!(report.served >= 160 && report.cut == 0, "{report}");
}

#[tokio::test]
async fn an_answer_that_h2_makes_does_not_pass_for_one_that_was_lost() {
    let builder = HttpServer::builder().head_limit(8 * 1024);
    let serving = serve(builder, echo(&Gated::open())).await;
    let mut none = Builder::new();
    none.initial_window_size(10);
    let mut client = Http2::with(&none, &serving).await;
    let mut request = post("echo");
    let long = "x".repeat(15_000).parse::<http::HeaderValue>();
    let long = long.expect("valid");
    request.headers_mut().insert("long", long.clone());
    request.headers_mut().insert("longer", long);
    let answer = client.send(request, b"").await;
    let status = within(answer).await.expect("answered").status();
    assert_eq!(status, 431);
    // In h2's hands, whole, and never taken.
    let answer = client.send(post("echo"), b"").await;
    let answer = within(answer).await.expect("begun");
    let Http2 {
        requests,
        connection,
    } = client;
    connection.abort();
    assert!(connection.await.is_err());
    drop((requests, answer));
    let report = serving.drain().await;
    assert_eq!((report.served, report.abandoned), (0, 1), "{report}");
}
