//! How many requests are in flight, who waits, and who is turned away. Without a socket, polled by
//! hand, so that who is where is known.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::BodyExt as _;
use proptest::prelude::*;
use spark_http::{Answer, Answering, Body, ConfigError, Context, Ingress, IngressBuilder, Route};
use tokio::sync::Semaphore;
use tokio_test::task::{Spawn, spawn};
use tower::{Service as _, service_fn};

use crate::call::{call, post};

#[path = "support/call.rs"]
mod call;

/// A handler that notes who starts, and goes on when it is let.
#[derive(Clone)]
struct Gate {
    started: Arc<Mutex<Vec<String>>>,
    open: Arc<Semaphore>,
}

impl Gate {
    fn new() -> Self {
        Self {
            started: Arc::default(),
            open: Arc::new(Semaphore::new(0)),
        }
    }

    fn route(&self) -> Route {
        let gate = self.clone();
        Route::handler_fn(move |_, body: Bytes| {
            let gate = gate.clone();
            async move {
                let text = String::from_utf8_lossy(&body).into_owned();
                gate.started
                    .lock()
                    .expect("not poisoned")
                    .push(text.clone());
                gate.open.acquire().await.expect("never closed").forget();
                assert!(text != "panic", "secret");
                text
            }
        })
    }

    fn started(&self) -> Vec<String> {
        self.started.lock().expect("not poisoned").clone()
    }
}

type Sent = Spawn<Answering>;

fn send_to<B>(ingress: &Ingress, request: Request<B>) -> Sent
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut sent = spawn(ingress.clone().call(request));
    assert!(sent.poll().is_pending(), "answered at once");
    sent
}

/// The answer, which is there.
fn answer(sent: &mut Sent) -> Answer {
    match sent.poll() {
        Poll::Ready(Ok(answer)) => answer,
        Poll::Pending => panic!("not answered"),
    }
}

fn status(sent: &mut Sent) -> u16 {
    answer(sent).status().as_u16()
}

fn slow(gate: &Gate, limits: impl FnOnce(Route) -> Route) -> IngressBuilder {
    Ingress::builder().route("slow", limits(gate.route()))
}

fn refused(builder: IngressBuilder) -> ConfigError {
    builder.build().expect_err("invalid")
}

#[tokio::test]
async fn those_who_wait_go_in_the_order_in_which_they_came_and_one_too_many_is_turned_away() {
    let gate = Gate::new();
    let ingress = slow(&gate, |route| route.concurrency(1).queue(2));
    let ingress = ingress.build().expect("valid");
    let [mut a, mut b, mut c] = ["a", "b", "c"].map(|body| send_to(&ingress, post("/slow", body)));

    let reply = call(&ingress, post("/slow", "d")).await;
    assert_eq!(
        (reply.status, reply.message()),
        (503, "too many requests in flight")
    );
    assert_eq!(reply.headers["retry-after"], "1");

    for (sent, started) in [
        (&mut a, &["a"][..]),
        (&mut b, &["a", "b"]),
        (&mut c, &["a", "b", "c"]),
    ] {
        assert!(sent.poll().is_pending());
        assert_eq!(gate.started(), started);
        gate.open.add_permits(1);
        assert_eq!(status(sent), 200);
    }
}

#[tokio::test]
async fn a_saturated_handler_does_not_starve_the_others() {
    let gate = Gate::new();
    let ingress = slow(&gate, |route| route.concurrency(1).queue(10))
        .handler_fn("fast", |_, _| async { "fast" })
        .max_in_flight(2)
        .queue(0)
        .build()
        .expect("valid");
    let _slow: Vec<_> = (0..11)
        .map(|_| send_to(&ingress, post("/slow", "")))
        .collect();
    assert_eq!(gate.started().len(), 1);
    for _ in 0..3 {
        assert_eq!(call(&ingress, post("/fast", "")).await.status, 200);
    }
}

#[tokio::test]
async fn all_routes_together_are_bounded_too() {
    let gate = Gate::new();
    let ingress = slow(&gate, |route| route)
        .route("other", gate.route())
        .max_in_flight(2)
        .queue(1)
        .build()
        .expect("valid");
    let [mut a, mut b] = ["/slow", "/other"].map(|path| send_to(&ingress, post(path, "")));
    let mut waits = send_to(&ingress, post("/slow", "waits"));
    assert_eq!(gate.started().len(), 2);
    assert_eq!(call(&ingress, post("/other", "")).await.status, 503);
    gate.open.add_permits(1);
    assert_eq!(status(&mut a), 200);
    assert!(waits.is_woken() && waits.poll().is_pending());
    gate.open.add_permits(2);
    assert_eq!((status(&mut b), status(&mut waits)), (200, 200));
}

#[tokio::test(start_paused = true)]
async fn waiting_counts_against_the_deadline() {
    let gate = Gate::new();
    let limits = |route: Route| route.concurrency(1).handler_timeout(Duration::from_secs(3));
    let ingress = slow(&gate, limits).build().expect("valid");
    let start = tokio::time::Instant::now();
    let mut running = send_to(&ingress, post("/slow", "running"));
    let reply = call(&ingress, post("/slow", "waits")).await;
    assert_eq!(
        (reply.status, reply.message()),
        (504, "deadline passed before the handler started")
    );
    assert_eq!(start.elapsed().as_secs(), 3);
    assert_eq!(status(&mut running), 504);
    assert_eq!(gate.started(), ["running"]);
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_permit_or_its_place_at_once() {
    let gate = Gate::new();
    let ingress = slow(&gate, |route| route.concurrency(1).queue(2)).max_in_flight(1);
    let ingress = ingress.build().expect("valid");
    let [a, b, mut c] = ["a", "b", "c"].map(|body| send_to(&ingress, post("/slow", body)));
    drop(b);
    let mut d = send_to(&ingress, post("/slow", "d"));
    drop(a);
    assert!(c.is_woken() && !d.is_woken());
    assert!(c.poll().is_pending());
    drop(c);
    assert!(d.poll().is_pending());
    assert_eq!(gate.started(), ["a", "c", "d"]);
    gate.open.add_permits(1);
    assert_eq!(status(&mut d), 200);
}

#[tokio::test]
async fn a_permit_given_to_a_client_that_has_just_left_goes_to_the_next() {
    let gate = Gate::new();
    let ingress = slow(&gate, |route| route.concurrency(1))
        .build()
        .expect("valid");
    let [a, b, mut c] = ["a", "b", "c"].map(|body| send_to(&ingress, post("/slow", body)));
    drop(a);
    assert!(b.is_woken());
    drop(b);
    assert!(c.is_woken());
    assert!(c.poll().is_pending());
    assert_eq!(gate.started(), ["a", "c"]);
}

#[tokio::test]
async fn a_handler_that_panics_gives_its_permit_back() {
    let gate = Gate::new();
    gate.open.add_permits(2);
    let ingress = slow(&gate, |route| route.concurrency(1).queue(0));
    let ingress = ingress.max_in_flight(1).queue(0).build().expect("valid");
    assert_eq!(call(&ingress, post("/slow", "panic")).await.status, 500);
    assert_eq!(call(&ingress, post("/slow", "next")).await.status, 200);
}

/// A body, or an answer's, in chunks that come one by one.
#[derive(Clone, Default)]
struct Chunks(Arc<Mutex<VecDeque<Option<&'static str>>>>);

impl Chunks {
    fn push(&self, chunk: Option<&'static str>) {
        self.0.lock().expect("not poisoned").push_back(chunk);
    }
}

impl http_body::Body for Chunks {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut TaskContext<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.0.lock().expect("not poisoned").pop_front() {
            Some(chunk) => Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk.into())))),
            None => Poll::Pending,
        }
    }
}

#[tokio::test]
async fn a_slow_body_holds_no_permit() {
    let gate = Gate::new();
    gate.open.add_permits(2);
    let ingress = slow(&gate, |route| route.concurrency(1).queue(0));
    let ingress = ingress.max_in_flight(1).queue(0).build().expect("valid");
    let body = Chunks::default();
    body.push(Some("slow"));
    let request = Request::post("/slow")
        .body(body.clone())
        .expect("a request");
    let mut sent = send_to(&ingress, request);
    assert_eq!(call(&ingress, post("/slow", "fast")).await.status, 200);
    body.push(None);
    assert_eq!(status(&mut sent), 200);
    assert_eq!(gate.started(), ["fast", "slow"]);
}

#[tokio::test]
async fn a_body_that_was_read_is_gone_before_its_request_waits_for_a_permit() {
    let gate = Gate::new();
    let ingress = slow(&gate, |route| route.concurrency(1).queue(1));
    let ingress = ingress.build().expect("valid");
    let _running = send_to(&ingress, post("/slow", "running"));
    let body = Chunks::default();
    body.push(Some("waiting"));
    body.push(None);
    let request = Request::post("/slow").body(body.clone());
    let _waiting = send_to(&ingress, request.expect("a request"));
    assert_eq!(Arc::strong_count(&body.0), 1);
}

struct Unread;

impl http_body::Body for Unread {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut TaskContext<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        panic!("read")
    }
}

#[tokio::test]
async fn whoever_is_turned_away_is_so_before_its_body_is_read() {
    let gate = Gate::new();
    let ingress = slow(&gate, |route| route.concurrency(1).queue(0))
        .build()
        .expect("valid");
    let _running = send_to(&ingress, post("/slow", ""));
    let request = Request::post("/slow").body(Unread).expect("a request");
    assert_eq!(call(&ingress, request).await.status, 503);
}

#[tokio::test]
async fn a_streamed_body_that_is_too_large_waits_for_no_permit() {
    let hang = Route::streaming(|_, _| std::future::pending::<&str>());
    let route = hang.body_limit(4).concurrency(1).queue(1);
    let ingress = Ingress::builder().route("s", route).build();
    let ingress = ingress.expect("valid");
    let _running = send_to(&ingress, post("/s", "four"));
    assert_eq!(
        status(&mut spawn(ingress.clone().call(post("/s", "12345")))),
        413
    );
    let _waiting = send_to(&ingress, post("/s", "four"));
}

#[tokio::test]
async fn bodies_are_bounded_together() {
    let gate = Gate::new();
    let ingress = slow(&gate, |route| route).body_limit(8).body_memory(10);
    let ingress = ingress.build().expect("valid");
    let _running = send_to(&ingress, post("/slow", "12345678"));
    let body = Chunks::default();
    body.push(Some("12"));
    let coming = Request::post("/slow")
        .body(body.clone())
        .expect("a request");
    let coming = send_to(&ingress, coming);

    let reply = call(&ingress, post("/slow", "1")).await;
    assert_eq!(
        (reply.status, reply.message()),
        (503, "too many bodies in memory")
    );
    assert_eq!(reply.headers["retry-after"], "1");
    assert_eq!(reply.headers["connection"], "close");
    // Without a body there is nothing to hold.
    let mut empty = send_to(&ingress, post("/slow", ""));
    drop(coming);
    let mut fits = send_to(&ingress, post("/slow", "12"));
    // The first goes to the one that runs.
    gate.open.add_permits(4);
    assert_eq!((status(&mut empty), status(&mut fits)), (200, 200));
    assert_eq!(call(&ingress, post("/slow", "12")).await.status, 200);
}

/// A route that answers with `chunks`, and one at a time.
fn streamed(chunks: &Chunks) -> Ingress {
    let chunks = chunks.clone();
    let service = service_fn(move |_: Request<Body>| {
        let chunks = chunks.clone();
        async move { Ok::<_, io::Error>(Response::new(chunks)) }
    });
    Ingress::builder()
        .route("s", Route::service(service).concurrency(1).queue(0))
        .build()
        .expect("valid")
}

fn stream(ingress: &Ingress) -> Answer {
    answer(&mut spawn(ingress.clone().call(post("/s", ""))))
}

#[tokio::test]
async fn a_streamed_answer_holds_its_permit_until_its_end() {
    let chunks = Chunks::default();
    let ingress = streamed(&chunks);
    let mut first = stream(&ingress).into_body();
    assert_eq!(stream(&ingress).status(), 503);
    chunks.push(Some("one"));
    assert!(first.frame().await.is_some());
    assert_eq!(stream(&ingress).status(), 503);
    chunks.push(None);
    assert!(first.frame().await.is_none());

    let second = stream(&ingress);
    assert_eq!(second.status(), 200);
    assert_eq!(stream(&ingress).status(), 503);
    drop(second);
    assert_eq!(stream(&ingress).status(), 200);
}

#[tokio::test]
async fn head_holds_no_permit_for_a_body_that_is_not_sent() {
    let ingress = streamed(&Chunks::default());
    let head = || {
        let mut request = post("/s", "");
        *request.method_mut() = Method::HEAD;
        answer(&mut spawn(ingress.clone().call(request)))
    };
    let _kept = [head(), head()];
    assert_eq!(stream(&ingress).status(), 200);
}

#[tokio::test]
async fn each_place_of_a_route_counts_for_itself() {
    let gate = Gate::new();
    let route = gate.route().concurrency(1).queue(0);
    let ingress = Ingress::builder()
        .route("a", route.clone())
        .path("b/{c}", route)
        .build()
        .expect("valid");
    let _running = ["/a", "/b/c"].map(|path| send_to(&ingress, post(path, "")));
    assert_eq!(gate.started().len(), 2);
    assert_eq!(call(&ingress, post("/b/d", "")).await.status, 503);
}

#[tokio::test]
async fn nothing_is_limited_to_one_by_default() {
    let gate = Gate::new();
    let ingress = slow(&gate, |route| route).build().expect("valid");
    let _running: Vec<_> = (0..100)
        .map(|_| send_to(&ingress, post("/slow", "")))
        .collect();
    assert_eq!(gate.started().len(), 100);
}

#[test]
fn a_limit_that_lets_nobody_in_is_a_configuration_error() {
    let look =
        || Route::handler_fn(|context: Context, _| async move { context.handler().to_owned() });
    let zero = |setting| ConfigError::ZeroLimit { setting };
    let none = Ingress::builder().route("a", look().concurrency(0));
    assert_eq!(refused(none), zero("concurrency"));
    assert_eq!(
        refused(Ingress::builder().max_in_flight(0)),
        zero("max_in_flight")
    );
    let queue = Ingress::builder().route("a", look().queue(2));
    let name = "a".to_owned();
    assert_eq!(
        refused(queue),
        ConfigError::QueueWithoutConcurrency { name }
    );
    let large = Ingress::builder()
        .body_memory(2 * 1024 * 1024)
        .route("a", look().body_limit(3 * 1024 * 1024));
    let expected = ConfigError::BodyLimitAboveMemory {
        body_limit: 3 * 1024 * 1024,
        body_memory: 2 * 1024 * 1024,
    };
    assert_eq!(refused(large), expected);
    // The default gives way.
    let largest = Ingress::builder().route("a", look().body_limit(usize::MAX));
    assert!(largest.max_in_flight(usize::MAX).build().is_ok());
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Answers,
    Panics,
    PanicsAtOnce,
    Streams,
    StreamPanics,
    Hangs,
    BodyFails,
    BodyPanics,
    BodyHangs,
}

const FATES: [Fate; 9] = [
    Fate::Answers,
    Fate::Panics,
    Fate::PanicsAtOnce,
    Fate::Streams,
    Fate::StreamPanics,
    Fate::Hangs,
    Fate::BodyFails,
    Fate::BodyPanics,
    Fate::BodyHangs,
];

/// Two bytes, and then as its fate has it.
struct Fated(Fate, usize);

impl http_body::Body for Fated {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut TaskContext<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.1 += 1;
        match (self.1, self.0) {
            (1 | 2, _) => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x"))))),
            (_, Fate::BodyFails) => Poll::Ready(Some(Err(io::Error::other("fails")))),
            (_, Fate::BodyPanics) => panic!("fated"),
            (_, Fate::BodyHangs) => Poll::Pending,
            _ => Poll::Ready(None),
        }
    }
}

async fn meet(fate: Fate) -> Answer {
    let chunks = |then: Fate| {
        Body::stream(futures_util::stream::iter(0..3).map(move |number| {
            assert!(number < 2 || !matches!(then, Fate::StreamPanics), "fated");
            Ok::<_, io::Error>("x")
        }))
    };
    tokio::task::yield_now().await;
    match fate {
        Fate::Panics => panic!("fated"),
        Fate::Hangs => std::future::pending().await,
        Fate::Streams | Fate::StreamPanics => Response::new(chunks(fate)),
        _ => Response::new(Body::from("done")),
    }
}

fn fated_route() -> Route {
    Route::handler_fn(|context: Context, _| {
        let fate = *context.extensions().get::<Fate>().expect("a fate");
        assert!(!matches!(fate, Fate::PanicsAtOnce), "fated");
        meet(fate)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_becomes_of_requests_all_that_they_held_comes_back(
        steps in proptest::collection::vec((0..FATES.len(), any::<bool>(), 0_usize..12), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime").block_on(async {
            let gate = Gate::new();
            let ingress = slow(&gate, |route| route.concurrency(2).queue(2))
                .route("other", fated_route().concurrency(1).queue(3))
                .route("fated", fated_route())
                .max_in_flight(2)
                .queue(3)
                .body_limit(8)
                .body_memory(16)
                .build()
                .expect("valid");
            let mut sent: VecDeque<(Sent, usize)> = VecDeque::new();
            for (fate, is_other, polls) in steps {
                let path = if is_other { "/other" } else { "/fated" };
                let mut request = Request::post(path).body(Fated(FATES[fate], 0)).expect("a request");
                request.extensions_mut().insert(FATES[fate]);
                sent.push_back((spawn(ingress.clone().call(request)), polls));
                // Each is polled now and then, and dropped where it stands, an answer's body as well.
                for (sending, left) in &mut sent {
                    if *left > 0 {
                        *left -= 1;
                        if let Poll::Ready(Ok(answer)) = sending.poll() {
                            let mut body = spawn(answer.into_body());
                            for _ in 0..polls {
                                let frame = body.enter(|cx, body| http_body::Body::poll_frame(body, cx));
                                if !matches!(frame, Poll::Ready(Some(Ok(_)))) {
                                    break;
                                }
                            }
                            *left = 0;
                        }
                    }
                }
                sent.retain(|(_, left)| *left > 0);
            }
            drop(sent);
            // Two run, with all the memory that there is, and two wait.
            let bodies = ["12345678"; 2];
            let mut running: Vec<_> = bodies.iter().map(|body| send_to(&ingress, post("/slow", *body))).collect();
            let mut waiting: Vec<_> = (0..2).map(|_| send_to(&ingress, post("/slow", ""))).collect();
            assert_eq!(gate.started().len(), 2);
            assert_eq!(call(&ingress, post("/slow", "")).await.status, 503);
            gate.open.add_permits(4);
            for sending in running.iter_mut().chain(&mut waiting) {
                assert_eq!(status(sending), 200);
            }
        });
    }
}
