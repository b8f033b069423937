//! Raw connections: slow, broken and hostile clients, over a real socket.

use std::{io, num::NonZeroUsize, time::Duration};

use spark_channel::spawn_module;
use spark_http::{Answer, BindError, Body, ConfigError, HttpServer, Ingress, TextCodec};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
#[cfg(target_os = "linux")]
use tokio::net::TcpSocket;

use crate::{
    modules::Gated,
    wire::{serve, within},
};

#[path = "support/modules.rs"]
mod modules;
#[path = "support/wire.rs"]
mod wire;

fn echo(gated: &Gated) -> Ingress {
    let module = spawn_module(gated.clone()).dispatcher();
    let builder = Ingress::builder().body_limit(100);
    builder
        .module("echo", TextCodec, module)
        .build()
        .expect("valid")
}

#[tokio::test]
async fn requests_on_one_connection_are_answered_one_after_the_other() {
    let serving = serve(HttpServer::builder(), echo(&Gated::open())).await;
    let mut client = serving.connect().await;
    for number in 0..3 {
        client.post("echo", &number.to_string()).await;
        let reply = client.reply().await;
        assert_eq!((reply.status, reply.closes()), (200, false));
        assert_eq!(
            reply.body,
            format!(r#"{{"message":"{number}","status":"Ok"}}"#)
        );
    }
    let report = serving.drain().await;
    assert_eq!((report.connections, report.served), (1, 3));
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let serving = serve(HttpServer::builder(), echo(&Gated::open())).await;
    let mut client = serving.connect().await;
    let requests = (0..20).map(|number| {
        format!("POST /echo HTTP/1.1\r\nhost: t\r\ncontent-length: 2\r\n\r\n{number:02}")
    });
    let all = requests.collect::<String>();
    client.send(all + "rubbish\r\n\r\n").await;
    for number in 0..20 {
        assert!(client.reply().await.body.contains(&format!("{number:02}")));
    }
    let refused = client.reply().await;
    assert_eq!((refused.status, refused.closes()), (400, true));
    client.closed().await;
}

#[tokio::test]
async fn rubbish_is_answered_from_the_table_and_the_connection_closed() {
    let serving = serve(HttpServer::builder(), echo(&Gated::open())).await;
    let rubbish: [&[u8]; 5] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03rubbish\r\n\r\n",
        b"POST /echo\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nhost: t\r\ncontent-length: x\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nhost: t\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
    ];
    for bytes in rubbish {
        let mut client = serving.connect().await;
        client.send(bytes).await;
        let reply = client.reply().await;
        assert_eq!(
            (reply.status, reply.closes()),
            (400, true),
            "{}",
            bytes.escape_ascii()
        );
        assert_eq!(
            reply.body,
            r#"{"message":"not an HTTP request","status":"Error"}"#
        );
        client.closed().await;
    }
}

#[tokio::test]
async fn a_head_over_its_limit_is_a_431() {
    let builder = HttpServer::builder().head_limit(8 * 1024);
    let serving = serve(builder, echo(&Gated::open())).await;
    let long = "x".repeat(9_000);
    for head in [
        format!("POST /echo HTTP/1.1\r\nhost: t\r\nlong: {long}\r\n\r\n"),
        format!("POST /echo HTTP/1.1\r\nhost: t\r\nunfinished: {long}"),
        format!("POST /{long} HTTP/1.1\r\nhost: t\r\n\r\n"),
    ] {
        let mut client = serving.connect().await;
        client.send(&head).await;
        let reply = client.reply().await;
        assert_eq!(
            (reply.status, reply.closes()),
            (431, true),
            "{}",
            &head[..40]
        );
        client.closed().await;
    }
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let builder = HttpServer::builder().head_timeout(Duration::from_millis(50));
    let serving = serve(builder, echo(&Gated::open())).await;
    serving.connect().await.closed().await;
}

#[tokio::test]
async fn a_connection_that_does_not_come_back_is_closed() {
    let builder = HttpServer::builder().keep_alive(Duration::from_millis(50));
    let serving = serve(builder, echo(&Gated::open())).await;
    let mut client = serving.connect().await;
    client.post("echo", "once").await;
    assert_eq!(client.reply().await.status, 200);
    client.closed().await;
}

#[tokio::test]
async fn a_request_under_way_outlives_the_timeouts_of_idle_connections() {
    let gated = Gated::closed();
    let short = Duration::from_millis(20);
    let builder = HttpServer::builder().head_timeout(short).keep_alive(short);
    let serving = serve(builder, echo(&gated)).await;
    let mut client = serving.connect().await;
    client.post("echo", "slow").await;
    gated.has_started().await;
    // Until another connection has run into both.
    serving.connect().await.closed().await;
    gated.gate.add_permits(1);
    assert_eq!(client.reply().await.status, 200);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut() {
    let huge = |_, _| async { Answer::new(Body::from(vec![0; 64 * 1024 * 1024])) };
    let ingress = Ingress::builder()
        .handler_fn("huge", huge)
        .build()
        .expect("valid");
    let builder = HttpServer::builder().write_timeout(Duration::from_millis(100));
    let serving = serve(builder, ingress).await;
    let mut client = serving.connect().await;
    client.post("huge", "").await;
    // The drain waits for the answer to go out, which it never does.
    within(client.stream.readable())
        .await
        .expect("the answer has begun");
    let report = serving.drain().await;
    assert_eq!((report.served, report.abandoned, report.cut), (0, 1, 0));
    assert!(!report.deadline_passed);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_client_that_reads_slowly_is_not_cut() {
    let (still, held) = std::sync::mpsc::sync_channel::<()>(0);
    // While a task blocks, the clock does not move by itself.
    tokio::task::spawn_blocking(move || held.recv());
    tokio::time::pause();
    let huge = |_, _| async { Answer::new(Body::from(vec![0; 16 * 1024 * 1024])) };
    let ingress = Ingress::builder().handler_fn("huge", huge).build();
    let timeout = Duration::from_secs(10);
    let builder = HttpServer::builder().write_timeout(timeout);
    let serving = serve(builder, ingress.expect("valid")).await;
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(16 * 1024).expect("set");
    let stream = within(socket.connect(serving.address)).await;
    let mut client = wire::Client::new(stream.expect("accepted"));
    client.post("huge", "").await;
    let mut taken = vec![0; 256 * 1024];
    // Each time less than what the system by itself would want taken before it had room for more; in
    // all more than what it would deliver of a connection that was cut.
    for _ in 0..32 {
        let read = within(client.stream.read_exact(&mut taken)).await;
        read.expect("not cut");
        tokio::time::advance(timeout * 2 / 3).await;
    }
    drop(still);
}

#[tokio::test]
async fn a_body_over_its_limit_is_a_413_that_arrives() {
    let gated = Gated::open();
    let serving = serve(HttpServer::builder(), echo(&gated)).await;
    let announced = "POST /echo HTTP/1.1\r\nhost: t\r\ncontent-length: 10000000\r\n\r\n";
    let chunked = "POST /echo HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n989680\r\n";
    // More than the sockets' buffers hold, so that the answer is there before the body is sent.
    let body = vec![b'x'; 10_000_000];
    for head in [announced, chunked] {
        let mut client = serving.connect().await;
        client.send(head).await;
        let sent = within(client.stream.write_all(&body)).await;
        sent.expect("neither refused nor reset");
        let reply = client.reply().await;
        assert_eq!((reply.status, reply.closes()), (413, true));
        let end: io::Result<usize> = within(client.stream.read(&mut [0])).await;
        assert_eq!(end.expect("an end rather than a reset"), 0);
    }
    assert_eq!(gated.runs(), 0);
}

#[tokio::test]
async fn what_the_server_refuses_by_itself_arrives_too() {
    let serving = serve(HttpServer::builder(), echo(&Gated::open())).await;
    let body = vec![b'x'; 10_000_000];
    let mut client = serving.connect().await;
    client
        .send("POST /echo HTTP/1.1\r\ncontent-length: 10000000\r\n\r\n")
        .await;
    let sent = within(client.stream.write_all(&body)).await;
    sent.expect("neither refused nor reset");
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.closes()), (400, true));
    let end: io::Result<usize> = within(client.stream.read(&mut [0])).await;
    assert_eq!(end.expect("an end rather than a reset"), 0);
}

#[tokio::test]
async fn a_connection_that_closes_over_an_unread_body_says_so() {
    let serving = serve(HttpServer::builder(), echo(&Gated::open())).await;
    let mut client = serving.connect().await;
    client.post("nobody", "small").await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.closes()), (404, false));
    client.post("nobody", &"x".repeat(1_000_000)).await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.closes()), (404, true));
    client.closed().await;
}

#[tokio::test]
async fn a_413_comes_before_the_client_is_asked_for_the_body() {
    let serving = serve(HttpServer::builder(), echo(&Gated::open())).await;
    let mut client = serving.connect().await;
    client
        .send(
            "POST /echo HTTP/1.1\r\nhost: t\r\nexpect: 100-continue\r\ncontent-length: 101\r\n\r\n",
        )
        .await;
    assert_eq!(client.reply().await.status, 413);
}

#[tokio::test]
async fn a_chunk_that_is_no_chunk_never_runs() {
    let gated = Gated::open();
    let serving = serve(HttpServer::builder(), echo(&gated)).await;
    let mut client = serving.connect().await;
    client
        .send("POST /echo HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n")
        .await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.closes()), (400, true));
    assert_eq!(gated.runs(), 0);
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_until_one_closes() {
    let builder = HttpServer::builder().connections_max(NonZeroUsize::MIN);
    let serving = serve(builder, echo(&Gated::open())).await;
    let mut first = serving.connect().await;
    first.post("echo", "first").await;
    assert_eq!(first.reply().await.status, 200);
    let mut second = serving.connect().await;
    second.post("echo", "second").await;
    first.post("echo", "first again").await;
    assert_eq!(first.reply().await.status, 200);

    drop(first);
    assert_eq!(second.reply().await.status, 200);
}

#[tokio::test]
async fn two_servers_live_in_one_process_and_end_apart() {
    let one = serve(HttpServer::builder(), echo(&Gated::open())).await;
    let other = serve(HttpServer::builder(), echo(&Gated::open())).await;
    assert_ne!(one.address, other.address);
    one.drain().await;
    let mut client = other.connect().await;
    client.post("echo", "still here").await;
    assert_eq!(client.reply().await.status, 200);
}

#[tokio::test]
async fn a_service_that_fails_is_a_500_without_its_reason() {
    let service = tower::service_fn(|_| async { Err::<Answer, _>(io::Error::other("secret")) });
    let serving = serve(HttpServer::builder(), service).await;
    let mut client = serving.connect().await;
    client.post("any", "").await;
    let reply = client.reply().await;
    assert_eq!(reply.status, 500);
    assert_eq!(
        reply.body,
        r#"{"message":"internal error","status":"Error"}"#
    );
}

#[tokio::test]
async fn an_address_in_use_is_an_error_that_names_it() {
    let taken = HttpServer::bind("127.0.0.1:0").await.expect("a free port");
    let error = HttpServer::bind(taken.local_addr().to_string())
        .await
        .expect_err("taken");
    assert!(error.is_address_in_use());
    assert_eq!(
        error.to_string(),
        format!("cannot listen on {}", taken.local_addr())
    );
    assert!(HttpServer::bind("no address").await.is_err());
}

#[tokio::test]
async fn settings_may_be_as_large_as_their_types() {
    let longest = Duration::MAX;
    for builder in [
        HttpServer::builder().head_timeout(longest),
        HttpServer::builder().keep_alive(longest),
        HttpServer::builder().write_timeout(longest),
        HttpServer::builder().drain_timeout(longest),
        HttpServer::builder().connections_max(NonZeroUsize::MAX),
    ] {
        let serving = serve(builder, echo(&Gated::open())).await;
        let mut client = serving.connect().await;
        for _ in 0..2 {
            client.post("echo", "").await;
            assert_eq!(client.reply().await.status, 200);
        }
        assert_eq!(serving.drain().await.served, 2);
    }
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_before_anything_listens() {
    let small = HttpServer::builder()
        .head_limit(100)
        .bind("127.0.0.1:0")
        .await;
    let config = |error| match error {
        BindError::Config(config) => config,
        other => panic!("{other:?}"),
    };
    assert!(matches!(
        config(small.expect_err("too small")),
        ConfigError::HeadLimitTooSmall { bytes: 100, .. }
    ));
    let zero = HttpServer::builder()
        .keep_alive(Duration::ZERO)
        .bind("127.0.0.1:0")
        .await;
    let zero = config(zero.expect_err("zero"));
    assert_eq!(
        zero,
        ConfigError::ZeroTimeout {
            setting: "keep_alive"
        }
    );
}
