//! HTTP/2: the same answers, limits and ends as over HTTP/1, with many requests on a connection.
#![cfg(feature = "http2")]

use std::{convert::Infallible, num::NonZeroU32, sync::Mutex, time::Duration};

use bytes::Bytes;
use h2::{
    RecvStream,
    client::{Builder, SendRequest},
};
use http::{Method, Request, Response};
use serde_json::{Value, json};
use spark_channel::spawn_module;
use spark_http::{Answer, Body, HttpServer, Ingress, TextCodec};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
    task::JoinHandle,
};

use crate::{
    modules::Gated,
    wire::{Client, Serving, serve, within},
};

#[path = "support/modules.rs"]
mod modules;
#[path = "support/wire.rs"]
mod wire;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// `POST /echo`, in words of the static table and a literal.
const POST_ECHO: &[u8] = b"\x83\x86\x04\x05/echo\x01\x01t";
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn echo(gated: &Gated) -> Ingress {
    let module = spawn_module(gated.clone()).dispatcher();
    let huge = |_, _| async { Answer::new(Body::from(vec![0; 8 * 1024 * 1024])) };
    let large = |_, _| async { Answer::new(Body::from(vec![0; 200 * 1024])) };
    let builder = Ingress::builder().body_limit(100);
    let builder = builder.module("echo", TextCodec, module);
    // Each on a task of its own, so that several run at once.
    let waits = gated.clone();
    let wait = move |_, _| {
        let gated = waits.clone();
        async move {
            gated.started.add_permits(1);
            gated.gate.acquire().await.expect("open").forget();
            "waited"
        }
    };
    let builder = builder.handler_fn("large", large);
    let builder = builder.handler_fn("huge", huge).handler_fn("wait", wait);
    builder.build().expect("valid")
}

/// A client that knows from the start what is spoken.
struct Http2 {
    requests: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

struct Reply {
    response: Response<()>,
    body: Bytes,
}

impl Reply {
    fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

impl Http2 {
    async fn connect(serving: &Serving) -> Self {
        Self::with(&Builder::new(), serving).await
    }

    async fn with(builder: &Builder, serving: &Serving) -> Self {
        let stream = serving.connect().await.stream;
        let (requests, connection) = within(builder.handshake(stream)).await.expect("begun");
        Self {
            requests,
            connection: tokio::spawn(connection),
        }
    }

    /// Sends a request, whose answer comes whenever the future is polled.
    async fn send(
        &mut self,
        request: Request<()>,
        body: &'static [u8],
    ) -> impl Future<Output = Result<Response<RecvStream>, h2::Error>> + use<> {
        let mut requests = within(self.requests.clone().ready()).await.expect("open");
        let ends = body.is_empty();
        let (answer, mut stream) = requests.send_request(request, ends).expect("valid");
        if !ends {
            let body = Bytes::from_static(body);
            stream.send_data(body, true).expect("sent");
        }
        answer
    }

    async fn post(&mut self, name: &str, body: &'static [u8]) -> Reply {
        let answer = self.send(post(name), body).await;
        reply(answer).await
    }

    /// How the connection ended.
    async fn ended(self) -> Result<(), h2::Error> {
        drop(self.requests);
        within(self.connection).await.expect("no panic")
    }
}

/// It stands still unless it is moved, until what this returns is dropped.
fn stop_the_clock() -> std::sync::mpsc::SyncSender<()> {
    let (still, held) = std::sync::mpsc::sync_channel::<()>(0);
    // While a task blocks, the clock does not move by itself.
    tokio::task::spawn_blocking(move || held.recv());
    tokio::time::pause();
    still
}

fn post(name: &str) -> Request<()> {
    let uri = format!("http://test/{name}");
    Request::post(uri).body(()).expect("valid")
}

async fn reply(answer: impl Future<Output = Result<Response<RecvStream>, h2::Error>>) -> Reply {
    let (parts, mut stream) = within(answer).await.expect("answered").into_parts();
    let mut body = Vec::new();
    while let Some(data) = within(stream.data()).await {
        let data = data.expect("whole");
        body.extend_from_slice(&data);
        let _ = stream.flow_control().release_capacity(data.len());
    }
    let id = parts.headers["x-request-id"].as_bytes();
    assert!((1..=128).contains(&id.len()));
    assert!(!parts.headers.contains_key("connection"));
    Reply {
        response: Response::from_parts(parts, ()),
        body: body.into(),
    }
}

/// Frames, one at a time.
struct Raw(Client);

impl Raw {
    async fn connect(serving: &Serving) -> Self {
        let mut raw = Self(serving.connect().await);
        raw.0.send(PREFACE).await;
        raw.send(SETTINGS, 0, 0, b"").await;
        raw
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.0.send(frame(kind, flags, stream, payload)).await;
    }

    /// Reads up to a frame that is wanted; `None` if the connection ends first.
    async fn read(&mut self, wanted: impl Fn(u8, u8, u32) -> bool) -> Option<Vec<u8>> {
        within(async {
            loop {
                let mut header = [0; 9];
                self.0.stream.read_exact(&mut header).await.ok()?;
                let [a, b, c, kind, flags, stream @ ..] = header;
                let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
                self.0.stream.read_exact(&mut payload).await.ok()?;
                if wanted(kind, flags, u32::from_be_bytes(stream)) {
                    return Some(payload);
                }
            }
        })
        .await
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

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
