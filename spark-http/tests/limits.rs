//! Bodies and deadlines, without a socket and under a paused clock.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body::Frame;
use spark_channel::{NativeHandler, SparkChannelError, Stop, module, spawn_module};
use spark_http::{BodyStream, Ingress, ReceiveError, Route, TextCodec};

use crate::{
    call::{call, post},
    modules::Gated,
};

#[path = "support/call.rs"]
mod call;
#[path = "support/modules.rs"]
mod modules;

/// A body in chunks, which then ends, fails, or never goes on.
struct Chunks {
    chunks: Vec<&'static str>,
    then: Then,
}

#[derive(Clone, Copy)]
enum Then {
    End,
    Fail,
    Hang,
    Panic,
}

fn chunks(chunks: &[&'static str], then: Then) -> Chunks {
    let chunks = chunks.iter().rev().copied().collect();
    Chunks { chunks, then }
}

impl http_body::Body for Chunks {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        if let Some(chunk) = self.chunks.pop() {
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(chunk.as_bytes())))));
        }
        match self.then {
            Then::End => Poll::Ready(None),
            Then::Fail => Poll::Ready(Some(Err(std::io::Error::other("secret")))),
            Then::Hang => Poll::Pending,
            Then::Panic => panic!("read beyond what is needed"),
        }
    }
}

fn request(length: Option<&str>, body: Chunks) -> Request<Chunks> {
    let request = Request::post("/m");
    match length {
        Some(length) => request.header("content-length", length),
        None => request,
    }
    .body(body)
    .expect("a request")
}

fn ingress(gated: &Gated, body_limit: usize) -> Ingress {
    let module = spawn_module(gated.clone()).dispatcher();
    let builder = Ingress::builder().body_limit(body_limit);
    builder
        .module("m", TextCodec, module)
        .build()
        .expect("valid")
}

async fn check(length: Option<&str>, body: Chunks, status: u16, message: &str) {
    let gated = Gated::open();
    let reply = call(&ingress(&gated, 8), request(length, body)).await;
    assert_eq!((reply.status, reply.message()), (status, message));
    assert_eq!(gated.runs(), usize::from(status == 200));
}

#[tokio::test]
async fn a_body_of_exactly_the_limit_is_taken() {
    check(None, chunks(&["1234", "5678"], Then::End), 200, "12345678").await;
    check(Some("8"), chunks(&["12345678"], Then::End), 200, "12345678").await;
}

#[tokio::test]
async fn a_content_length_over_the_limit_is_refused_without_reading() {
    let too_large = "body is larger than 8 bytes";
    check(Some("9"), chunks(&[], Then::Panic), 413, too_large).await;
    check(
        Some("18446744073709551615"),
        chunks(&[], Then::Panic),
        413,
        too_large,
    )
    .await;
}

#[tokio::test]
async fn a_chunked_body_is_refused_at_its_first_excess_byte() {
    let body = chunks(&["1234", "5678", "9"], Then::Panic);
    check(None, body, 413, "body is larger than 8 bytes").await;
}

#[tokio::test]
async fn a_body_that_fails_or_ends_early_never_runs() {
    check(None, chunks(&["1234"], Then::Fail), 400, "body ended early").await;
    check(
        Some("5"),
        chunks(&["1234"], Then::End),
        400,
        "body ended early",
    )
    .await;
    check(
        Some("x"),
        chunks(&[], Then::Panic),
        400,
        "content-length is not a number",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_hangs_is_a_408_after_its_timeout() {
    let start = tokio::time::Instant::now();
    check(
        None,
        chunks(&["1234"], Then::Hang),
        408,
        "body came too slowly",
    )
    .await;
    assert!((30..31).contains(&start.elapsed().as_secs()));
}

#[tokio::test]
async fn a_route_has_limits_of_its_own() {
    let gated = Gated::open();
    let route = Route::module(TextCodec, spawn_module(gated).dispatcher()).body_limit(2);
    let ingress = Ingress::builder().route("m", route).build().expect("valid");
    assert_eq!(call(&ingress, post("/m", "12")).await.status, 200);
    assert_eq!(call(&ingress, post("/m", "123")).await.status, 413);
}

#[tokio::test(start_paused = true)]
async fn a_handler_function_is_dropped_at_its_deadline() {
    let route = Route::handler_fn(|_, _| std::future::pending::<&str>())
        .handler_timeout(Duration::from_secs(3));
    let ingress = Ingress::builder()
        .route("slow", route)
        .build()
        .expect("valid");
    let start = tokio::time::Instant::now();
    assert_eq!(call(&ingress, post("/slow", "")).await.status, 504);
    assert_eq!(start.elapsed().as_secs(), 3);
}

#[tokio::test]
async fn a_timeout_as_long_as_a_duration_is_none() {
    let longest = Duration::MAX;
    let look = |context: spark_http::Context, _| async move {
        format!("{:?} {:?}", context.deadline(), context.remaining())
    };
    let module = spawn_module(Gated::open()).dispatcher();
    let builders = [
        Ingress::builder()
            .handler_timeout(longest)
            .handler_fn("look", look),
        Ingress::builder().route("look", Route::handler_fn(look).handler_timeout(longest)),
    ];
    for builder in builders {
        let ingress = builder
            .body_timeout(longest)
            .module("m", TextCodec, module.clone())
            .build()
            .expect("valid");
        let body = request(None, chunks(&["in time"], Then::End));
        assert_eq!(call(&ingress, body).await.status, 200);
        let reply = call(&ingress, post("/look", "")).await;
        assert_eq!(reply.message(), "None None");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_in_the_queue_means_that_the_handler_never_started() {
    let gated = Gated::closed();
    let module = spawn_module(gated.clone());
    let ingress = Ingress::builder()
        .handler_timeout(Duration::from_secs(3))
        .module("m", TextCodec, module.dispatcher())
        .build()
        .expect("valid");
    let (running, queued) = tokio::join!(
        call(&ingress, post("/m", "running")),
        call(&ingress, post("/m", "queued")),
    );
    assert_eq!((running.status, queued.status), (504, 504));
    assert_eq!(running.message(), "deadline passed while the handler ran");
    assert_eq!(
        queued.message(),
        "deadline passed before the handler started"
    );

    gated.gate.add_permits(2);
    let report = module.shutdown(Stop::Drain).await;
    assert_eq!((gated.runs(), report.stats.handled), (1, 1));
}

/// Answers how many seconds its request has left, to the nearest.
struct Clock;

impl NativeHandler for Clock {
    type Message = String;
    type Response = String;
    type Error = SparkChannelError;

    async fn handle_request(&mut self, _: String) -> Result<String, SparkChannelError> {
        let left = spark_channel::current::remaining();
        Ok(format!("{:?}", left.map(|left| left.as_secs_f64().round())))
    }

    async fn handle_command(&mut self, _: String) -> Result<(), SparkChannelError> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn the_deadline_travels_into_the_module() {
    let clock = module(Clock).spawn().dispatcher();
    let route = Route::module(TextCodec, clock).handler_timeout(Duration::from_secs(7));
    let ingress = Ingress::builder()
        .route("clock", route)
        .build()
        .expect("valid");
    assert_eq!(
        call(&ingress, post("/clock", "")).await.message(),
        "Some(7.0)"
    );
}

#[tokio::test(start_paused = true)]
async fn the_modules_own_timeout_holds_if_it_is_the_smaller_one() {
    let clock = module(Clock)
        .default_timeout(Duration::from_secs(2))
        .spawn()
        .dispatcher();
    let ingress = Ingress::builder()
        .handler_timeout(Duration::from_secs(7))
        .module("clock", TextCodec, clock)
        .build()
        .expect("valid");
    assert_eq!(
        call(&ingress, post("/clock", "")).await.message(),
        "Some(2.0)"
    );
}

#[tokio::test]
async fn dropping_the_answer_skips_the_queued_message() {
    let gated = Gated::closed();
    let module = spawn_module(gated.clone());
    let dispatcher = module.dispatcher();
    let ingress = Ingress::builder()
        .module("m", TextCodec, dispatcher)
        .build()
        .expect("valid");
    let running = tokio::spawn({
        let ingress = ingress.clone();
        async move { call(&ingress, post("/m", "running")).await.status }
    });
    gated.has_started().await;

    let mut queued = tokio_test::task::spawn(call(&ingress, post("/m", "queued")));
    assert!(queued.poll().is_pending());
    assert_eq!(module.stats().depth, 1);
    drop(queued);

    gated.gate.add_permits(2);
    assert_eq!(running.await.ok(), Some(200));
    let report = module.shutdown(Stop::Drain).await;
    assert_eq!((report.stats.handled, report.stats.abandoned), (1, 1));
}

#[tokio::test]
async fn any_body_type_will_do() {
    let ingress = ingress(&Gated::open(), 64);
    let body = http_body_util::Full::new(&b"borrowed"[..]);
    let body: Request<http_body_util::Full<&[u8]>> = Request::post("/m").body(body).expect("valid");
    let reply = call::<_>(&ingress, body).await;
    assert_eq!(reply.message(), "borrowed");
}

#[tokio::test]
async fn a_body_over_its_limit_is_a_413_also_while_memory_is_short() {
    let ingress = Ingress::builder()
        .body_limit(8)
        .body_memory(8)
        .handler_fn("m", |_, _| async { "" })
        .build()
        .expect("valid");
    let reply = call(&ingress, request(None, chunks(&["123456789"], Then::Panic))).await;
    assert_eq!(
        (reply.status, reply.message()),
        (413, "body is larger than 8 bytes")
    );
}

#[tokio::test]
async fn a_length_that_is_no_number_or_said_in_two_ways_never_runs() {
    let run = async |lengths: &[&'static str], route: Route| {
        let ingress = Ingress::builder().route("m", route).build().expect("valid");
        let mut request = request(None, chunks(&["four"], Then::End));
        for length in lengths {
            let length = http::HeaderValue::from_static(length);
            request.headers_mut().append("content-length", length);
        }
        call(&ingress, request).await.status
    };
    let whole = || Route::handler_fn(|_, _| async { "" });
    let streamed = || {
        Route::streaming(|_, mut body: BodyStream| async move {
            while body.chunk().await?.is_some() {}
            Ok::<_, ReceiveError>("")
        })
    };
    for lengths in [
        &["+4"][..],
        &["4", "5"],
        &["5", "4"],
        &["4, 5"],
        &[""],
        &["-0"],
    ] {
        assert_eq!(run(lengths, whole()).await, 400, "{lengths:?}");
        assert_eq!(run(lengths, streamed()).await, 400, "{lengths:?}");
    }
    assert_eq!(run(&["4", "4"], whole()).await, 200);
}
