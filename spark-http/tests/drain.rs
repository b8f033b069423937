//! How a server stops: what it finishes, refuses, closes and cuts.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Mutex, mpsc::sync_channel},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::Frame;

use spark_channel::spawn_module;
use spark_http::{HttpServer, Ingress, TextCodec};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    modules::Gated,
    wire::{serve, within},
};

#[path = "support/modules.rs"]
mod modules;
#[path = "support/wire.rs"]
mod wire;

const EMPTY_POST: &[u8] = b"POST /echo HTTP/1.1\r\nhost: t\r\ncontent-length: 0\r\n\r\n";

fn echo(gated: &Gated) -> Ingress {
    let module = spawn_module(gated.clone()).dispatcher();
    Ingress::builder()
        .module("echo", TextCodec, module)
        .build()
        .expect("valid")
}

#[tokio::test]
async fn requests_under_way_are_finished_and_their_connections_closed() {
    let gated = Gated::closed();
    let serving = serve(HttpServer::builder(), echo(&gated)).await;
    let mut client = serving.connect().await;
    client.post("echo", "under way").await;
    gated.has_started().await;

    serving.handle.drain();
    gated.gate.add_permits(1);
    let reply = client.reply().await;
    assert_eq!(reply.status, 200);
    client.closed().await;
    let report = serving.report().await;
    assert_eq!((report.served, report.refused, report.cut), (1, 0, 0));
    assert!(!report.deadline_passed);
}

#[tokio::test]
async fn a_new_request_on_an_open_connection_is_a_503_that_closes_it() {
    let gated = Gated::closed();
    let serving = serve(HttpServer::builder(), echo(&gated)).await;
    let mut open = serving.connect().await;
    gated.gate.add_permits(1);
    open.post("echo", "before").await;
    assert_eq!(open.reply().await.status, 200);
    gated.has_started().await;
    let mut busy = serving.connect().await;
    busy.post("echo", "under way").await;
    gated.has_started().await;

    serving.handle.drain();
    // Nobody has that name, until the server looks at names no more.
    let mut asked = 0;
    let refused = within(async {
        loop {
            asked += 1;
            open.post("nobody", "").await;
            let reply = open.reply().await;
            if reply.status != 404 {
                return reply;
            }
        }
    })
    .await;
    assert_eq!((refused.status, refused.closes()), (503, true));
    assert!(refused.head.contains("\r\nretry-after: 1\r\n"));
    assert_eq!(
        refused.body,
        r#"{"message":"server is shutting down","status":"Error"}"#
    );

    gated.gate.add_permits(1);
    let finished = busy.reply().await;
    assert_eq!((finished.status, finished.closes()), (200, true));
    let report = serving.report().await;
    assert_eq!((report.served, report.refused), (2 + asked, 1));
    assert_eq!(gated.runs(), 2);
}

#[tokio::test]
async fn idle_and_half_spoken_connections_do_not_hold_a_drain_up() {
    let serving = serve(HttpServer::builder(), echo(&Gated::open())).await;
    let mut idle = serving.connect().await;
    idle.post("echo", "once").await;
    idle.reply().await;
    let mut half = serving.connect().await;
    half.send("POST /echo HTTP/1.1\r\nhost:").await;
    let mut silent = serving.connect().await;

    let report = serving.drain().await;
    assert!(!report.deadline_passed);
    idle.closed().await;
    half.closed().await;
    silent.closed().await;
}

#[tokio::test]
async fn what_waits_in_the_backlog_is_answered_rather_than_reset() {
    let server = HttpServer::bind("127.0.0.1:0").await.expect("a free port");
    let address = server.local_addr().as_socket_addr().expect("TCP");
    let mut client = TcpStream::connect(address).await.expect("queued");
    client.write_all(EMPTY_POST).await.expect("sent");
    // Never served: told to stop before it begins.
    server.handle().drain();
    let report = within(server.serve(echo(&Gated::open()))).await;
    assert_eq!((report.connections, report.refused), (1, 1));
    let mut answer = String::new();
    within(client.read_to_string(&mut answer))
        .await
        .expect("not reset");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
}

#[tokio::test]
async fn a_long_backlog_is_answered_to_its_end() {
    let server = HttpServer::bind("127.0.0.1:0").await.expect("a free port");
    let address = server.local_addr().as_socket_addr().expect("TCP");
    let mut clients = Vec::new();
    for _ in 0..400 {
        let mut client = within(TcpStream::connect(address)).await.expect("queued");
        client.write_all(EMPTY_POST).await.expect("sent");
        clients.push(client);
    }
    server.handle().drain();
    let report = within(server.serve(echo(&Gated::open()))).await;
    assert_eq!((report.connections, report.refused), (400, 400));
    for mut client in clients {
        let mut answer = String::new();
        let read = within(client.read_to_string(&mut answer)).await;
        read.expect("not reset");
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    }
}

#[tokio::test]
async fn the_deadline_cuts_what_is_left_and_counts_it() {
    let gated = Gated::closed();
    let builder = HttpServer::builder().drain_timeout(Duration::from_millis(50));
    let serving = serve(builder, echo(&gated)).await;
    let mut client = serving.connect().await;
    client.post("echo", "never ends").await;
    gated.has_started().await;

    let report = serving.drain().await;
    assert!(report.deadline_passed);
    assert_eq!((report.served, report.abandoned, report.cut), (0, 0, 1));
    client.closed().await;
}

#[tokio::test]
async fn cutting_ends_a_drain_at_once() {
    let gated = Gated::closed();
    let serving = serve(HttpServer::builder(), echo(&gated)).await;
    let mut client = serving.connect().await;
    client.post("echo", "never ends").await;
    gated.has_started().await;

    serving.handle.drain();
    serving.handle.cut();
    let report = serving.report().await;
    assert!(!report.deadline_passed);
    assert_eq!(report.cut, 1);
    client.closed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_handler_that_blocks_its_thread_is_left_behind_and_counted() {
    // Dropped however the test ends, which releases the thread.
    let (_release, held) = sync_channel::<()>(0);
    let held = Mutex::new(held);
    let (started, mut starts) = tokio::sync::mpsc::channel(1);
    let block = move |_, _| {
        started.try_send(()).expect("room");
        let _ = held.lock().expect("one request").recv();
        async { "" }
    };
    let ingress = Ingress::builder()
        .handler_fn("block", block)
        .build()
        .expect("valid");
    let builder = HttpServer::builder().drain_timeout(Duration::from_millis(50));
    let serving = serve(builder, ingress).await;
    let mut client = serving.connect().await;
    client.post("block", "").await;
    within(starts.recv()).await.expect("started");

    let report = serving.drain().await;
    assert!(report.deadline_passed);
    assert_eq!((report.served, report.abandoned), (0, 0));
    assert_eq!((report.cut, report.unresponsive), (0, 1));
}

/// A body that does not say how long it is, nor that it has ended before it is asked.
struct Streamed(Option<&'static str>);

impl http_body::Body for Streamed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|text| Ok(Frame::data(text.into()))))
    }
}

#[tokio::test]
async fn an_answer_whose_body_is_not_read_to_its_end_is_served() {
    for (status, length, received) in [
        (204, None, ""),
        (304, None, ""),
        (200, Some("5"), "hello"),
        (200, Some("0"), ""),
    ] {
        let service = tower::service_fn(move |_| async move {
            let mut answer = http::Response::new(Streamed(Some("hello")));
            *answer.status_mut() = http::StatusCode::from_u16(status).expect("a status");
            if let Some(length) = length {
                let length = http::HeaderValue::from_static(length);
                answer.headers_mut().insert("content-length", length);
            }
            Ok::<_, Infallible>(answer)
        });
        let serving = serve(HttpServer::builder(), service).await;
        let mut client = serving.connect().await;
        let close = "POST /any HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n";
        client.send(close).await;
        let mut answer = String::new();
        within(client.stream.read_to_string(&mut answer))
            .await
            .expect("not reset");
        let start = format!("HTTP/1.1 {status} ");
        let end = format!("\r\n\r\n{received}");
        assert!(
            answer.starts_with(&start) && answer.ends_with(&end),
            "{answer}"
        );
        let report = serving.drain().await;
        assert_eq!((report.served, report.abandoned), (1, 0), "{status}");
    }
}

#[tokio::test]
async fn dropping_the_server_closes_its_connections_and_its_port() {
    let server = HttpServer::bind("127.0.0.1:0").await.expect("a free port");
    let address = server.local_addr().as_socket_addr().expect("TCP");
    let mut serving = Box::pin(server.serve(echo(&Gated::open())));
    let mut client = TcpStream::connect(address).await.expect("accepted");
    client.write_all(EMPTY_POST).await.expect("sent");
    let mut first = [0];
    within(async {
        tokio::select! {
            _ = &mut serving => panic!("nobody told it to stop"),
            read = client.read_exact(&mut first) => read.expect("answered"),
        }
    })
    .await;

    drop(serving);
    let mut rest = Vec::new();
    within(client.read_to_end(&mut rest)).await.expect("closed");
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_busy_server_that_drains_answers_exactly_the_requests_it_counts() {
    let serving = serve(HttpServer::builder(), echo(&Gated::open())).await;
    let under_load = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let mut client = serving.connect().await;
        let under_load = std::sync::Arc::clone(&under_load);
        clients.spawn(async move {
            let mut answered = 0;
            loop {
                client.post("echo", "again").await;
                // A connection that was idle in the last moment may just be closed.
                let Some(reply) = client.reply_or_end().await else {
                    return answered;
                };
                assert!(matches!(reply.status, 200 | 503), "{reply:?}");
                answered += 1;
                under_load.add_permits(1);
            }
        });
    }
    within(under_load.acquire_many(320))
        .await
        .expect("open")
        .forget();
    let report = serving.drain().await;

    let answered: u64 = within(clients.join_all()).await.iter().sum();
    assert_eq!(answered, report.served);
    assert_eq!((report.abandoned, report.cut), (0, 0));
    assert!(!report.deadline_passed);
}
