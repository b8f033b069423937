//! The limits of HTTP/2: of time, streams and windows.
#![cfg(feature = "http2")]

use std::{convert::Infallible, num::NonZeroU32, time::Duration};

use h2::client::Builder;
use http::{Request, Response};
use spark_http::{BindError, Body, ConfigError, HttpServer, HttpServerBuilder};
use tokio::io::AsyncReadExt as _;

use crate::{
    http2::{
        DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Http2, POST_ECHO, PREFACE, RST_STREAM, Raw,
        SETTINGS, WINDOW_UPDATE, echo, frame, post,
    },
    modules::Gated,
    wire::{Serving, serve, within},
};

#[path = "support/http2.rs"]
mod http2;
#[path = "support/modules.rs"]
mod modules;
#[path = "support/wire.rs"]
mod wire;

/// It stands still unless it is moved, until what this returns is dropped.
fn stop_the_clock() -> std::sync::mpsc::SyncSender<()> {
    let (still, held) = std::sync::mpsc::sync_channel::<()>(0);
    // While a task blocks, the clock does not move by itself.
    tokio::task::spawn_blocking(move || held.recv());
    tokio::time::pause();
    still
}

#[tokio::test]
async fn a_connection_that_is_idle_is_told_to_go_and_closed() {
    let builder = HttpServer::builder().keep_alive(Duration::from_millis(50));
    let serving = serve(builder, echo(&Gated::open())).await;
    let mut client = Http2::connect(&serving).await;
    assert_eq!(client.post("echo", b"once").await.status(), 200);
    // Without an error: it was told.
    let Http2 {
        requests,
        connection,
    } = client;
    assert!(within(connection).await.expect("no panic").is_ok());
    drop(requests);

    let mut deaf = Raw::connect(&serving).await;
    let ends = END_HEADERS | END_STREAM;
    deaf.send(HEADERS, ends, 1, POST_ECHO).await;
    deaf.read(|kind, _, _| kind == GOAWAY).await.expect("told");
    assert!(deaf.read(|_, _, _| false).await.is_none(), "it ends");
    assert_eq!(serving.drain().await.served, 2);
}

#[tokio::test]
async fn a_connection_that_begins_and_does_not_go_on_is_closed() {
    let builder = HttpServer::builder().head_timeout(Duration::from_millis(100));
    let serving = serve(builder, echo(&Gated::open())).await;
    let mut begun = serving.connect().await;
    begun.send(&PREFACE[..10]).await;
    let mut spoken = serving.connect().await;
    spoken.send(PREFACE).await;
    let mut set = Raw::connect(&serving).await;
    let mut head = Raw::connect(&serving).await;
    head.send(HEADERS, END_STREAM, 1, POST_ECHO).await;
    let mut part = Raw::connect(&serving).await;
    part.0
        .send(&frame(HEADERS, END_HEADERS, 1, POST_ECHO)[..12])
        .await;

    let reply = begun.reply().await;
    assert_eq!((reply.status, reply.closes()), (408, true));
    let mut rest = Vec::new();
    let _ = within(spoken.stream.read_to_end(&mut rest)).await;
    for raw in [&mut set, &mut head, &mut part] {
        assert!(raw.read(|_, _, _| false).await.is_none(), "it ends");
    }
    assert_eq!(serving.drain().await.served, 0);
}

/// Sends the head of a request that is answered without its body, and reads the answer.
async fn ask_nobody(raw: &mut Raw) {
    let nobody = b"\x83\x86\x04\x07/nobody\x01\x01t";
    raw.send(HEADERS, END_HEADERS, 1, nobody).await;
    let last = |kind, flags, _| (kind, flags) == (DATA, END_STREAM);
    raw.read(last).await.expect("answered");
}

#[tokio::test]
async fn a_body_may_end_behind_an_answer_that_did_not_need_it() {
    let serving = serve(HttpServer::builder(), echo(&Gated::open())).await;
    let mut raw = Raw::connect(&serving).await;
    ask_nobody(&mut raw).await;
    for flags in [0, 0, END_STREAM] {
        raw.send(DATA, flags, 1, &[b'x'; 1_000]).await;
    }
    assert!(is_well(&mut raw).await, "nothing is reset");
    assert_eq!(serving.drain().await.served, 1);
}

#[tokio::test]
async fn a_body_that_does_not_end_behind_its_answer_is_cut_short_without_an_error() {
    let _still = stop_the_clock();
    let serving = serve(HttpServer::builder(), echo(&Gated::open())).await;
    let mut raw = Raw::connect(&serving).await;
    ask_nobody(&mut raw).await;
    tokio::time::advance(Duration::from_secs(3)).await;
    let reset = raw.read(|kind, _, stream| (kind, stream) == (RST_STREAM, 1));
    assert_eq!(reset.await.expect("reset"), [0; 4]);
}

#[tokio::test]
async fn a_stream_whose_client_takes_nothing_is_reset_and_the_others_go_on() {
    let builder = HttpServer::builder().write_timeout(Duration::from_millis(100));
    let serving = serve(builder, echo(&Gated::open())).await;
    let mut small = Builder::new();
    small
        .initial_window_size(20_000)
        .initial_connection_window_size(1 << 20);
    let mut client = Http2::with(&small, &serving).await;
    let answer = client.send(post("huge"), b"").await;
    let mut stalled = within(answer).await.expect("begun").into_body();
    let reset = within(async {
        loop {
            // Taken, and never given back.
            if let Err(error) = stalled.data().await.expect("not its end") {
                return error;
            }
        }
    });
    assert!(reset.await.is_reset());
    assert_eq!(client.post("echo", b"hi").await.status(), 200);
    let report = serving.drain().await;
    assert_eq!((report.served, report.abandoned, report.cut), (1, 1, 0));
}

#[tokio::test]
async fn a_stream_whose_client_takes_little_at_a_time_is_not_reset() {
    let _still = stop_the_clock();
    let timeout = Duration::from_secs(10);
    let builder = HttpServer::builder().write_timeout(timeout);
    let serving = serve(builder, echo(&Gated::open())).await;
    let mut small = Builder::new();
    small.initial_window_size(100);
    let mut client = Http2::with(&small, &serving).await;
    let answer = client.send(post("large"), b"").await;
    let mut taken = within(answer).await.expect("begun").into_body();
    // Less in all than what hyper was given at first.
    for _ in 0..10 {
        let data = within(taken.data()).await.expect("not its end");
        let length = data.expect("not reset").len();
        tokio::time::advance(timeout / 2).await;
        let flow = taken.flow_control();
        flow.release_capacity(length).expect("taken");
    }
}

#[tokio::test]
async fn a_client_that_reads_slowly_gets_its_answer_however_much_waits_before_a_ping() {
    let _still = stop_the_clock();
    let builder = HttpServer::builder().write_timeout(Duration::from_secs(600));
    let serving = serve(builder, echo(&Gated::open())).await;
    let mut raw = Raw::connect(&serving).await;
    let window = 0x7fff_0000_u32.to_be_bytes();
    let initial = [&b"\0\x04"[..], &window].concat();
    raw.send(SETTINGS, 0, 0, &initial).await;
    raw.send(WINDOW_UPDATE, 0, 0, &window).await;
    let ends = END_HEADERS | END_STREAM;
    let post_huge = b"\x83\x86\x04\x05/huge\x01\x01t";
    raw.send(HEADERS, ends, 1, post_huge).await;
    for _ in 0..20 {
        // Far less than what the operating system holds.
        let data = raw.read(|kind, _, stream| (kind, stream) == (DATA, 1));
        assert!(data.await.is_some_and(|data| !data.is_empty()));
        tokio::time::advance(Duration::from_secs(5)).await;
    }
    let ended = raw.read(|_, flags, stream| stream == 1 && flags & END_STREAM != 0);
    assert!(ended.await.is_some());
}

#[tokio::test]
async fn a_connection_whose_client_does_not_read_is_cut() {
    let builder = HttpServer::builder().write_timeout(Duration::from_millis(100));
    let serving = serve(builder, echo(&Gated::open())).await;
    let mut raw = serving.connect().await;
    raw.send(PREFACE).await;
    // As much room as there can be, in each stream and all of them.
    raw.send(frame(SETTINGS, 0, 0, b"\0\x04\x7f\xff\xff\xff"))
        .await;
    raw.send(frame(8, 0, 0, &(i32::MAX as u32 - 65_535).to_be_bytes()))
        .await;
    let huge: &[u8] = b"\x83\x86\x04\x05/huge\x01\x01t";
    raw.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, huge))
        .await;
    within(raw.stream.readable())
        .await
        .expect("the answer has begun");
    let report = serving.drain().await;
    assert_eq!((report.served, report.abandoned, report.cut), (0, 1, 0));
    assert!(!report.deadline_passed);
}

#[tokio::test]
async fn a_flood_of_resets_ends_its_connection_and_no_other() {
    let gated = Gated::open();
    let serving = serve(HttpServer::builder(), echo(&gated)).await;
    let mut other = Http2::connect(&serving).await;
    let mut raw = Raw::connect(&serving).await;
    let mut flood = Vec::new();
    for stream in (1..4_000).step_by(2) {
        flood.extend(frame(HEADERS, END_HEADERS, stream, POST_ECHO));
        flood.extend(frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
    }
    raw.0.send(flood).await;
    let told = raw.read(|kind, _, _| kind == GOAWAY).await.expect("told");
    assert_eq!(told[4..8], 11_u32.to_be_bytes(), "ENHANCE_YOUR_CALM");
    assert_eq!(other.post("echo", b"hi").await.status(), 200);
    drop(raw);
    assert_eq!(gated.runs(), 1, "a request that is cut never runs");
    let report = serving.drain().await;
    assert_eq!((report.served, report.cut, report.unresponsive), (1, 0, 0));
}

#[tokio::test]
async fn streams_are_bounded_and_clients_told() {
    let gated = Gated::closed();
    let builder = HttpServer::builder().streams_max(NonZeroU32::MIN);
    let serving = serve(builder, echo(&gated)).await;
    let mut raw = Raw::connect(&serving).await;
    let settings = raw.read(|kind, _, _| kind == SETTINGS).await.expect("told");
    assert!(
        settings
            .chunks(6)
            .any(|setting| setting == b"\0\x03\0\0\0\x01")
    );
    let ends = END_HEADERS | END_STREAM;
    raw.send(HEADERS, ends, 1, POST_ECHO).await;
    gated.has_started().await;
    raw.send(HEADERS, ends, 3, POST_ECHO).await;
    let refused = raw
        .read(|kind, _, stream| kind == RST_STREAM && stream == 3)
        .await;
    assert_eq!(refused.expect("refused"), 7_u32.to_be_bytes());
    gated.gate.add_permits(1);
    let ended = raw.read(|_, flags, stream| stream == 1 && flags & END_STREAM != 0);
    assert!(ended.await.is_some());
    drop(raw);
    assert_eq!(serving.drain().await.served, 1);
}

#[tokio::test]
async fn the_windows_are_as_documented_and_clients_told() {
    let serving = serve(HttpServer::builder(), echo(&Gated::open())).await;
    let mut raw = Raw::connect(&serving).await;
    let settings = raw.read(|kind, _, _| kind == SETTINGS).await.expect("told");
    let settings: Vec<_> = settings.chunks(6).collect();
    let stream = [&b"\0\x04"[..], &(128_u32 * 1024).to_be_bytes()].concat();
    assert!(settings.contains(&&stream[..]), "{settings:x?}");
    let update = raw.read(|kind, _, stream| (kind, stream) == (WINDOW_UPDATE, 0));
    // Each connection begins with 65 535.
    let more = 256_u32 * 1024 - 65_535;
    assert_eq!(update.await.expect("told"), more.to_be_bytes());
}

/// Serves what never reads a body.
async fn serve_unread(builder: HttpServerBuilder) -> Serving {
    let unread = tower::service_fn(|request: Request<Body>| async move {
        let _held = request;
        std::future::pending::<Result<Response<Body>, Infallible>>().await
    });
    serve(builder, unread).await
}

/// Whether all that was sent before is well with the server.
async fn is_well(raw: &mut Raw) -> bool {
    const PING: u8 = 6;
    raw.send(PING, 0, 0, b"are you?").await;
    let answer = raw.read_frame(|kind, _, _| [PING, RST_STREAM, GOAWAY].contains(&kind));
    answer.await.is_some_and(|(kind, _)| kind == PING)
}

const ACK: u8 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;

#[tokio::test]
async fn a_body_that_nobody_reads_comes_no_further_than_its_streams_window() {
    let serving = serve_unread(HttpServer::builder().stream_window(20_000)).await;
    let mut raw = Raw::connect(&serving).await;
    // Until it is acknowledged, a window is as large as the protocol's first one.
    raw.send(SETTINGS, ACK, 0, b"").await;
    raw.send(HEADERS, END_HEADERS, 1, POST_ECHO).await;
    raw.send(DATA, 0, 1, &[b'x'; 16_000]).await;
    raw.send(DATA, 0, 1, &[b'x'; 4_000]).await;
    assert!(is_well(&mut raw).await);
    raw.send(DATA, 0, 1, b"x").await;
    let reset = raw.read(|kind, _, stream| (kind, stream) == (RST_STREAM, 1));
    assert_eq!(
        reset.await.expect("reset"),
        FLOW_CONTROL_ERROR.to_be_bytes()
    );
    raw.send(HEADERS, END_HEADERS, 3, POST_ECHO).await;
    assert!(is_well(&mut raw).await, "the others go on");
}

#[tokio::test]
async fn bodies_that_nobody_reads_come_no_further_than_their_connections_window() {
    let builder = HttpServer::builder().connection_window(100_000);
    let serving = serve_unread(builder).await;
    let mut raw = Raw::connect(&serving).await;
    let update = raw.read(|kind, _, _| kind == WINDOW_UPDATE).await;
    assert_eq!(update.expect("told"), (100_000_u32 - 65_535).to_be_bytes());
    for stream in (1..20).step_by(2) {
        raw.send(HEADERS, END_HEADERS, stream, POST_ECHO).await;
        raw.send(DATA, 0, stream, &[b'x'; 10_000]).await;
    }
    assert!(is_well(&mut raw).await);
    raw.send(DATA, 0, 1, b"x").await;
    let told = raw.read(|kind, _, _| kind == GOAWAY).await.expect("told");
    assert_eq!(told[4..8], FLOW_CONTROL_ERROR.to_be_bytes());
}

#[tokio::test]
async fn windows_that_the_protocol_does_not_allow_are_configuration_errors() {
    let builder = HttpServer::builder;
    let wrong = [
        (builder().stream_window(0), "stream_window"),
        (builder().stream_window(1 << 31), "stream_window"),
        (builder().connection_window(65_534), "connection_window"),
        (builder().connection_window(1 << 31), "connection_window"),
    ];
    for (builder, name) in wrong {
        let error = builder.bind("127.0.0.1:0").await.expect_err("refused");
        assert!(
            matches!(
                error,
                BindError::Config(ConfigError::WindowOutOfRange { setting, .. }) if setting == name
            ),
            "{error:?}"
        );
    }
    let least = builder().stream_window(1).connection_window(65_535);
    let most = (1 << 31) - 1;
    let most = builder().stream_window(most).connection_window(most);
    for builder in [least, most] {
        let serving = serve(builder, echo(&Gated::open())).await;
        let mut client = Http2::connect(&serving).await;
        assert_eq!(client.post("echo", b"hi").await.status(), 200);
    }
}
