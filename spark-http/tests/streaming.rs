//! Bodies that are not held whole: answers as streams, and requests as streams.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http::Request;
use http_body::Frame;
use http_body_util::BodyExt as _;
use spark_http::{
    Answer, Body, BodyStream, Context, HttpServer, Ingress, ModuleError as _, ReceiveError, Route,
};
use tokio::{io::AsyncWriteExt as _, sync::mpsc};
use tower::ServiceExt as _;

use crate::{
    stream_support::{read_to_end, read_until},
    wire::{serve, within},
};

#[path = "support/stream.rs"]
mod stream_support;
#[path = "support/wire.rs"]
mod wire;

fn ingress(route: Route) -> Ingress {
    Ingress::builder().route("r", route).build().expect("valid")
}

fn received<T: Send + 'static>(mut from: mpsc::Receiver<T>) -> impl Stream<Item = T> + Send {
    stream::poll_fn(move |cx| from.poll_recv(cx))
}

/// Answers with what is sent, once.
fn answers_with(from: mpsc::Receiver<Result<&'static str, String>>) -> Ingress {
    let from = std::sync::Mutex::new(Some(from));
    ingress(Route::handler_fn(move |_, _| {
        let from = from.lock().expect("not poisoned").take();
        async move { Answer::new(Body::stream(received(from.expect("asked once")))) }
    }))
}

async fn status(ingress: &Ingress, request: Request<Body>) -> u16 {
    let answer = ingress.clone().oneshot(request).await;
    answer.expect("infallible").status().as_u16()
}

const POST: &str = "POST /r HTTP/1.1\r\nhost: t\r\ncontent-length: 0\r\n\r\n";
const CHUNKED: &str = "POST /r HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n";

#[tokio::test]
async fn a_streamed_answer_goes_out_as_it_comes_and_has_an_end() {
    let (chunks, from) = mpsc::channel(1);
    let serving = serve(HttpServer::builder(), answers_with(from)).await;
    let mut client = serving.connect().await;
    client.send(POST).await;
    chunks.send(Ok("one")).await.expect("asked for");
    let head = read_until(&mut client.stream, "3\r\none\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    chunks.send(Ok("")).await.expect("asked for");
    chunks.send(Ok("two")).await.expect("asked for");
    drop(chunks);
    let rest = read_until(&mut client.stream, "0\r\n\r\n").await;
    assert!(rest.ends_with("3\r\ntwo\r\n0\r\n\r\n"), "{rest}");
    assert_eq!(serving.drain().await.served, 1);
}

#[tokio::test]
async fn an_error_in_a_streamed_answer_cuts_it_and_tells_nothing() {
    let (chunks, from) = mpsc::channel(1);
    let serving = serve(HttpServer::builder(), answers_with(from)).await;
    let mut client = serving.connect().await;
    client.send(POST).await;
    chunks.send(Ok("one")).await.expect("asked for");
    read_until(&mut client.stream, "3\r\none\r\n").await;
    chunks
        .send(Err("secret".to_owned()))
        .await
        .expect("asked for");
    client.closed().await;
    assert_eq!(serving.drain().await.served, 0);
}

#[tokio::test]
async fn a_panic_in_a_streamed_answer_cuts_it_and_the_server_goes_on() {
    let ingress = ingress(Route::handler_fn(|_, _| async {
        let chunks =
            stream::iter(["one"]).chain(stream::once(async { panic!("secret-panic-text") }));
        Answer::new(Body::stream(chunks.map(Ok::<_, Infallible>)))
    }));
    let serving = serve(HttpServer::builder(), ingress).await;
    for _ in 0..2 {
        let mut client = serving.connect().await;
        client.send(POST).await;
        let all = read_to_end(&mut client.stream).await;
        assert!(
            !all.ends_with("0\r\n\r\n") && !all.contains("secret"),
            "{all}"
        );
    }
}

#[tokio::test]
async fn a_client_that_leaves_drops_the_stream_of_its_answer() {
    let (chunks, from) = mpsc::channel(1);
    let serving = serve(HttpServer::builder(), answers_with(from)).await;
    let mut client = serving.connect().await;
    client.send(POST).await;
    chunks.send(Ok("one")).await.expect("asked for");
    read_until(&mut client.stream, "one\r\n").await;
    drop(client);
    within(chunks.closed()).await;
}

/// Passes on what it receives, chunk by chunk, and how it ended.
fn passes_on(to: mpsc::Sender<Result<Bytes, ReceiveError>>) -> Route {
    Route::streaming(move |_: Context, mut body: BodyStream| {
        let to = to.clone();
        async move {
            while let Some(chunk) = body.next().await {
                to.send(chunk).await.expect("read");
            }
            assert!(body.chunk().await.is_ok_and(|chunk| chunk.is_none()));
            format!("{} bytes", body.received())
        }
    })
}

#[tokio::test]
async fn a_streaming_route_gets_the_body_as_it_comes() {
    let (to, mut chunks) = mpsc::channel(8);
    let serving = serve(HttpServer::builder(), ingress(passes_on(to))).await;
    let mut client = serving.connect().await;
    client.send(CHUNKED).await;
    for chunk in ["one", "three"] {
        client
            .send(format!("{:x}\r\n{chunk}\r\n", chunk.len()))
            .await;
        let received = within(chunks.recv()).await.expect("running");
        assert_eq!(received.expect("whole"), chunk);
    }
    client.send("0\r\n\r\n").await;
    let reply = client.reply().await;
    assert!(reply.body.contains("8 bytes"), "{}", reply.body);
    assert!(!reply.closes());
    // The connection can be used again.
    client.post("r", "four").await;
    assert!(client.reply().await.body.contains("4 bytes"));
}

#[tokio::test]
async fn a_streamed_body_that_is_cut_is_an_error_to_its_handler() {
    let (to, mut chunks) = mpsc::channel(8);
    let serving = serve(HttpServer::builder(), ingress(passes_on(to))).await;
    for head in [
        CHUNKED.to_owned() + "3\r\none\r\n",
        "POST /r HTTP/1.1\r\nhost: t\r\ncontent-length: 9\r\n\r\none".to_owned(),
    ] {
        let mut client = serving.connect().await;
        client.send(head).await;
        assert!(matches!(within(chunks.recv()).await, Some(Ok(_))));
        drop(client);
        let cut = within(chunks.recv()).await;
        assert!(
            matches!(cut, Some(Err(ReceiveError::Cut { .. }))),
            "{cut:?}"
        );
    }
}

/// Counts its runs and what it reads.
fn counts(runs: &Arc<AtomicUsize>) -> Route {
    let runs = Arc::clone(runs);
    Route::streaming(move |_: Context, mut body: BodyStream| {
        runs.fetch_add(1, Ordering::SeqCst);
        async move {
            while body.chunk().await?.is_some() {}
            Ok::<_, ReceiveError>(body.received().to_string())
        }
    })
    .body_limit(5)
}

#[tokio::test]
async fn a_streamed_body_over_its_limit_is_a_413_before_the_handler_runs_or_at_the_excess_byte() {
    let runs = Arc::new(AtomicUsize::new(0));
    let serving = serve(HttpServer::builder(), ingress(counts(&runs))).await;
    let mut client = serving.connect().await;
    client.post("r", "12345").await;
    assert_eq!(client.reply().await.status, 200);
    client.post("r", "123456").await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.closes()), (413, true));
    assert_eq!(runs.load(Ordering::SeqCst), 1);

    let mut client = serving.connect().await;
    client.send(CHUNKED).await;
    client.send("5\r\n12345\r\n1\r\n6\r\n").await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.closes()), (413, true));
    assert_eq!(runs.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn each_chunk_has_its_time_and_the_handler_has_the_whole() {
    let slow = |pause: Duration| {
        let chunks = stream::unfold((), move |()| async move {
            tokio::time::sleep(pause).await;
            Some((Ok::<_, Infallible>(Bytes::from_static(b"x")), ()))
        });
        let request = Request::post("/r").body(Body::stream(chunks.take(100)));
        request.expect("a request")
    };
    let runs = Arc::new(AtomicUsize::new(0));
    let build = |handler: u64| {
        let route = counts(&runs)
            .body_limit(100)
            .handler_timeout(Duration::from_secs(handler));
        let ingress = Ingress::builder().route("r", route);
        let ingress = ingress.body_timeout(Duration::from_secs(10));
        ingress.build().expect("valid")
    };
    let nine = Duration::from_secs(9);
    assert_eq!(status(&build(1_000), slow(nine)).await, 200);
    assert_eq!(status(&build(899), slow(nine)).await, 504);
    let eleven = Duration::from_secs(11);
    assert_eq!(status(&build(1_000), slow(eleven)).await, 408);
}

#[tokio::test]
async fn an_early_answer_reaches_a_client_that_still_writes_and_closes() {
    let early = Route::streaming(|_, mut body: BodyStream| async move {
        let first = body
            .chunk()
            .await
            .map_err(ReceiveError::into_error_answer)?;
        Ok::<_, spark_http::ErrorAnswer>(format!("{:?}", first.is_some()))
    });
    let serving = serve(HttpServer::builder(), ingress(early.body_limit(1 << 30))).await;
    let mut client = serving.connect().await;
    client
        .send("POST /r HTTP/1.1\r\nhost: t\r\ncontent-length: 100000000\r\n\r\nbegin")
        .await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.closes()), (200, true));
    assert!(reply.body.contains("true"));
    // What is written meanwhile does not reset the connection under the answer.
    client.send(vec![b'x'; 100_000]).await;
    within(client.stream.shutdown()).await.expect("shut down");
    client.closed().await;
    assert_eq!(serving.drain().await.served, 1);
}

#[tokio::test]
async fn a_handler_that_does_not_read_answers_all_the_same() {
    let deaf = Route::streaming(|_, _: BodyStream| async { "no, thanks" });
    let serving = serve(HttpServer::builder(), ingress(deaf)).await;
    let mut client = serving.connect().await;
    client
        .send("POST /r HTTP/1.1\r\nhost: t\r\ncontent-length: 1000\r\n\r\n")
        .await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.closes()), (200, true));
    // Without a body there is nothing to leave unread.
    let mut client = serving.connect().await;
    client.post("r", "").await;
    assert!(!client.reply().await.closes());
}

#[tokio::test]
async fn a_body_that_is_shorter_or_longer_than_announced_is_cut_whoever_serves_it() {
    let runs = Arc::new(AtomicUsize::new(0));
    let ingress = ingress(counts(&runs));
    let request = Request::post("/r").header("content-length", "4");
    let request = request.body(Body::from("abc")).expect("a request");
    assert_eq!(status(&ingress, request).await, 400);
}

#[test]
fn a_receive_error_is_an_io_error_for_those_who_read() {
    let error = std::io::Error::from(ReceiveError::TooLarge { limit: 5 });
    assert_eq!(error.kind(), std::io::ErrorKind::FileTooLarge);
    assert_eq!(error.to_string(), "body is larger than 5 bytes");
}

/// One chunk, and then a panic.
struct Fragile(Option<Bytes>);

impl http_body::Body for Fragile {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let chunk = self.0.take().expect("secret-panic-text");
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }
}

#[tokio::test]
async fn a_panic_in_the_body_of_a_services_answer_is_its_end_and_gives_the_permit_back() {
    let service = tower::service_fn(|_: Request<Body>| async {
        Ok::<_, Infallible>(http::Response::new(Fragile(Some("one".into()))))
    });
    let ingress = ingress(Route::service(service).concurrency(1).queue(0));
    for _ in 0..2 {
        let request = Request::post("/r").body(Body::empty()).expect("a request");
        let answer = ingress.clone().oneshot(request).await.expect("infallible");
        assert_eq!(answer.status(), 200);
        let mut body = answer.into_body();
        let first = body.frame().await.expect("a chunk").expect("well");
        assert_eq!(first.into_data().expect("data"), "one");
        let error = body.frame().await.expect("an error").expect_err("panicked");
        assert!(
            !format!("{error:?} {error}").contains("secret"),
            "{error:?}"
        );
        assert!(body.frame().await.is_none());
    }
}
