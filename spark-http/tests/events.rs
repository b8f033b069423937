//! Server-sent events: from a topic, from a streamed reply, and of one's own.

use std::{num::NonZeroUsize, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request};
use http_body_util::BodyExt as _;
use serde::Deserialize;
use spark_channel::{
    Backlog, NativeHandler, ReplyStreamSender, SparkChannelCancellationToken, SparkChannelError,
    SparkGenericModuleDispatcher, Topic, spawn_module,
};
use spark_http::{
    Answer, Body, Context, HttpServer, Ingress, ReplyEvents, Route, Sse, SseEvent, TopicEvents,
};
use tokio::{sync::mpsc, time::Instant};
use tower::ServiceExt as _;

use crate::{
    stream_support::{read_to_end, read_until},
    wire::{Client, Serving, serve, within},
};

#[path = "support/stream.rs"]
mod stream_support;
#[path = "support/wire.rs"]
mod wire;

fn ingress(route: Route) -> Ingress {
    Ingress::builder().route("r", route).build().expect("valid")
}

fn topic_route(topic: &Topic<u32>, backlog: fn() -> Backlog<u32>) -> Route {
    let told = |number: u32| match number {
        13 => Err(SseEvent::new("").id("\n").expect_err("not a line")),
        number => SseEvent::new(format!("n\n{number}"))
            .name("number")?
            .id(number.to_string()),
    };
    Route::topic_events(TopicEvents::new(topic.clone(), backlog, told))
}

fn wait() -> Backlog<u32> {
    Backlog::wait(8)
}

/// A client that has asked for events, and been told that there will be some.
async fn listener(serving: &Serving) -> Client {
    let mut client = serving.connect().await;
    client.send("GET /r HTTP/1.1\r\nhost: t\r\n\r\n").await;
    let head = read_until(&mut client.stream, ":\n\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(
        head.contains("content-type: text/event-stream\r\n"),
        "{head}"
    );
    assert!(head.contains("cache-control: no-store\r\n"), "{head}");
    client
}

#[tokio::test]
async fn what_is_published_reaches_every_client_in_order() {
    let topic = Topic::new("numbers");
    let serving = serve(HttpServer::builder(), ingress(topic_route(&topic, wait))).await;
    let mut clients = [listener(&serving).await, listener(&serving).await];
    for number in [1, 2] {
        assert_eq!(topic.publish(number).await.expect("open"), 2);
    }
    for client in &mut clients {
        for number in [1, 2] {
            let event = read_until(&mut client.stream, "\n\n\r\n").await;
            let told = format!("event: number\nid: {number}\ndata: n\ndata: {number}\n\n");
            assert!(event.contains(&told), "{event}");
        }
    }
    topic.close();
    for mut client in clients {
        assert_eq!(
            read_until(&mut client.stream, "0\r\n\r\n").await,
            "0\r\n\r\n"
        );
    }
    assert_eq!(serving.drain().await.served, 2);
}

#[tokio::test]
async fn a_client_that_leaves_is_unsubscribed_at_once() {
    let topic = Topic::new("numbers");
    // A publisher would wait for it for ever.
    let one = || Backlog::wait(1);
    let serving = serve(HttpServer::builder(), ingress(topic_route(&topic, one))).await;
    let client = listener(&serving).await;
    assert_eq!(topic.stats().subscribers, 1);
    drop(client);
    within(async {
        while topic.stats().subscribers > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(topic.publish(1).await.expect("open"), 0);
}

#[tokio::test]
async fn events_end_at_the_drain_after_what_waits() {
    let topic = Topic::new("numbers");
    let serving = serve(HttpServer::builder(), ingress(topic_route(&topic, wait))).await;
    let mut client = listener(&serving).await;
    topic.publish(7).await.expect("open");
    serving.handle.drain();
    let rest = read_to_end(&mut client.stream).await;
    assert!(rest.contains("id: 7\n"), "{rest}");
    assert!(rest.ends_with(": draining\n\n\r\n0\r\n\r\n"), "{rest}");
    let report = serving.report().await;
    assert_eq!(
        (report.served, report.abandoned, report.deadline_passed),
        (1, 0, false)
    );
}

#[tokio::test]
async fn a_slow_client_misses_what_its_backlog_says_and_holds_nobody_up() {
    let topic = Topic::new("numbers");
    let serving = serve(
        HttpServer::builder(),
        ingress(topic_route(&topic, || Backlog::drop_oldest(4))),
    )
    .await;
    let mut client = listener(&serving).await;
    // More than any socket buffers, and the client does not read.
    let mut number = 0;
    while topic.stats().dropped == 0 {
        number += 100;
        topic.publish(number).await.expect("open");
        tokio::task::yield_now().await;
    }
    let last = number;
    let all = read_until(&mut client.stream, &format!("data: {last}\n\n\r\n")).await;
    let ids = all.lines().filter_map(|line| line.strip_prefix("id: "));
    let ids: Vec<u32> = ids.map(|id| id.parse().expect("a number")).collect();
    assert!(
        ids.is_sorted() && ids.len() < (last / 100) as usize,
        "{}",
        ids.len()
    );
}

#[tokio::test]
async fn a_client_too_many_is_a_503_and_another_method_a_405() {
    let topic = Topic::<u32>::new("numbers");
    let events = TopicEvents::new(topic.clone(), wait, |n| Ok(SseEvent::new(n.to_string())));
    let events = events.clients_max(NonZeroUsize::MIN);
    let serving = serve(HttpServer::builder(), ingress(Route::topic_events(events))).await;
    let first = listener(&serving).await;

    let mut second = serving.connect().await;
    second.send("GET /r HTTP/1.1\r\nhost: t\r\n\r\n").await;
    let refused = second.reply().await;
    assert!(
        refused.head.contains("retry-after: 1\r\n"),
        "{}",
        refused.head
    );
    assert!(
        refused.body.contains("too many clients"),
        "{}",
        refused.body
    );
    assert_eq!((refused.status, refused.closes()), (503, false));
    second.post("r", "").await;
    assert_eq!(second.reply().await.status, 405);

    drop(first);
    within(async {
        while topic.stats().subscribers > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    listener(&serving).await;
    serving.drain().await;
    second.closed().await;
}

#[tokio::test]
async fn a_closed_topic_tells_clients_not_to_come_back() {
    let topic = Topic::new("numbers");
    let ingress = ingress(topic_route(&topic, wait));
    topic.close();
    let request = Request::get("/r").body(Body::empty()).expect("a request");
    let answer = ingress.oneshot(request).await.expect("infallible");
    assert_eq!(answer.status(), 204);
}

#[tokio::test]
async fn an_event_that_cannot_be_told_is_an_error_event_and_the_end() {
    let topic = Topic::new("numbers");
    let ingress = ingress(topic_route(&topic, wait));
    let request = Request::get("/r").body(Body::empty()).expect("a request");
    let answer = ingress.oneshot(request).await.expect("infallible");
    topic.publish(13).await.expect("open");
    topic.publish(14).await.expect("open");
    let all = collected(answer).await;
    let error = r#"{"message":"internal error","status":"Error"}"#;
    assert_eq!(all, format!(":\n\nevent: error\ndata: {error}\n\n"));
    assert_eq!(topic.stats().subscribers, 0);
}

async fn collected(answer: Answer) -> String {
    let bytes = within(answer.into_body().collect())
        .await
        .expect("an end")
        .to_bytes();
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

#[tokio::test(start_paused = true)]
async fn silence_is_broken_by_comments_and_the_first_one_tells_the_retry() {
    let topic = Topic::<u32>::new("numbers");
    let events = TopicEvents::new(topic.clone(), wait, |n| Ok(SseEvent::new(n.to_string())));
    let events = events
        .keep_alive(Duration::from_secs(20))
        .retry(Duration::from_secs(2));
    let ingress = ingress(Route::topic_events(events));
    let request = Request::get("/r").body(Body::empty()).expect("a request");
    let mut body = ingress
        .oneshot(request)
        .await
        .expect("infallible")
        .into_body();
    let mut next = async || {
        let frame = body.frame().await.expect("goes on").expect("well");
        frame.into_data().expect("data")
    };
    let start = Instant::now();
    assert_eq!(next().await, ":\nretry: 2000\n\n");
    assert_eq!(next().await, ":\n\n");
    assert_eq!(start.elapsed().as_secs(), 20);
    topic.publish(1).await.expect("open");
    assert_eq!(next().await, "data: 1\n\n");
    tokio::time::advance(Duration::from_secs(19)).await;
    topic.publish(2).await.expect("open");
    assert_eq!(next().await, "data: 2\n\n");
    assert_eq!(next().await, ":\n\n");
    assert_eq!(start.elapsed().as_secs(), 59);
}

#[tokio::test(start_paused = true)]
async fn a_keep_alive_of_nothing_is_no_flood() {
    let pending = stream::pending::<Result<SseEvent, std::convert::Infallible>>;
    let route = Route::handler_fn(move |context: Context, _| async move {
        Sse::new(&context, pending()).keep_alive(Duration::ZERO)
    });
    let request = Request::post("/r").body(Body::empty()).expect("a request");
    let answer = ingress(route).oneshot(request).await.expect("infallible");
    let mut body = answer.into_body();
    let start = Instant::now();
    for _ in 0..4 {
        body.frame().await.expect("goes on").expect("well");
    }
    assert_eq!(start.elapsed().as_secs(), 3);
}

/// Counts to a number, and then does as it is told.
struct Counter;

struct Count {
    to: u32,
    then: String,
    numbers: ReplyStreamSender<u32>,
}

impl NativeHandler for Counter {
    type Message = Count;
    type Response = ();
    type Error = eyre::Report;

    async fn handle_request(&mut self, count: Count) -> eyre::Result<()> {
        for number in 1..=count.to {
            count.numbers.send(number).await?;
        }
        match &*count.then {
            "fail" => eyre::bail!("sold out"),
            "panic" => panic!("secret-panic-text"),
            "hang" => count.numbers.closed().await,
            _ => {}
        }
        count.numbers.finish();
        Ok(())
    }

    async fn handle_command(&mut self, _: Count) -> eyre::Result<()> {
        Ok(())
    }
}

#[derive(Deserialize)]
struct Query {
    to: u32,
    #[serde(default)]
    then: String,
}

fn counter_route(counter: SparkGenericModuleDispatcher<Count, ()>) -> Route {
    Route::reply_events(ReplyEvents::new(
        counter,
        |context: &Context, _: Bytes| context.query_as::<Query>(),
        |Query { to, then }, numbers| Count { to, then, numbers },
        |number: u32| SseEvent::json(&number),
    ))
}

async fn count(query: &str) -> (u16, String) {
    let ingress = ingress(counter_route(spawn_module(Counter).dispatcher()));
    let request = Request::get(format!("/r?{query}")).body(Body::empty());
    let answer = ingress.oneshot(request.expect("a request")).await;
    let answer = answer.expect("infallible");
    (answer.status().as_u16(), collected(answer).await)
}

#[tokio::test]
async fn a_streamed_reply_is_events_and_a_last_one_that_says_so() {
    let (status, all) = count("to=3").await;
    assert_eq!(status, 200);
    assert_eq!(
        all,
        ":\n\ndata: 1\n\ndata: 2\n\ndata: 3\n\nevent: end\ndata:\n\n"
    );
}

#[tokio::test]
async fn a_reply_that_fails_is_a_status_before_the_first_item_and_an_event_after_it() {
    let (status, body) = count("to=0&then=fail").await;
    assert_eq!(
        (status, body.as_str()),
        (500, r#"{"message":"sold out","status":"Error"}"#)
    );
    let (status, body) = count("to=x").await;
    assert!(
        status == 400 && body.contains(r#""pointer":"/to""#),
        "{body}"
    );
    let (status, all) = count("to=1&then=fail").await;
    assert_eq!(status, 200);
    let error = r#"{"message":"sold out","status":"Error"}"#;
    assert_eq!(
        all,
        format!(":\n\ndata: 1\n\nevent: error\ndata: {error}\n\n")
    );
    let (_, all) = count("to=1&then=panic").await;
    assert!(
        all.contains("event: error") && !all.contains("secret"),
        "{all}"
    );
}

#[tokio::test]
async fn a_client_that_leaves_cancels_the_producer() {
    /// Tells when nobody reads any more.
    struct Told(mpsc::Sender<()>);

    impl NativeHandler for Told {
        type Message = ReplyStreamSender<u32, SparkChannelError>;
        type Response = ();
        type Error = SparkChannelError;

        async fn handle_request(&mut self, numbers: Self::Message) -> Result<(), Self::Error> {
            numbers
                .send(1)
                .await
                .map_err(|_| SparkChannelError::Closed)?;
            numbers.closed().await;
            self.0.send(()).await.map_err(|_| SparkChannelError::Closed)
        }

        async fn handle_command(&mut self, _: Self::Message) -> Result<(), Self::Error> {
            Ok(())
        }
    }

    type Numbers = SparkGenericModuleDispatcher<
        ReplyStreamSender<u32, SparkChannelError>,
        (),
        SparkChannelCancellationToken,
        SparkChannelError,
    >;

    let (tell, mut left) = mpsc::channel(1);
    let numbers: Numbers = spawn_module(Told(tell)).dispatcher();
    let route = Route::reply_events(ReplyEvents::new(
        numbers,
        |_: &Context, _: Bytes| Ok(()),
        |(), numbers| numbers,
        |number: u32| SseEvent::json(&number),
    ));
    let serving = serve(HttpServer::builder(), ingress(route)).await;
    let mut client = serving.connect().await;
    client.send("GET /r HTTP/1.1\r\nhost: t\r\n\r\n").await;
    read_until(&mut client.stream, "data: 1\n\n\r\n").await;
    drop(client);
    within(left.recv()).await.expect("told");
}

#[tokio::test]
async fn a_streamed_reply_is_finished_while_the_server_drains() {
    let route = counter_route(spawn_module(Counter).dispatcher());
    let serving = serve(HttpServer::builder(), ingress(route)).await;
    let mut client = serving.connect().await;
    // Far more than is buffered on the way.
    client
        .send("GET /r?to=50000 HTTP/1.1\r\nhost: t\r\n\r\n")
        .await;
    read_until(&mut client.stream, "data: 1\n\n\r\n").await;
    serving.handle.drain();
    let rest = read_to_end(&mut client.stream).await;
    assert!(rest.contains("data: 50000\n"));
    assert!(rest.ends_with("event: end\ndata:\n\n\r\n0\r\n\r\n"));
    assert_eq!(serving.report().await.served, 1);
}

#[tokio::test]
async fn a_handler_sees_the_last_event_that_its_client_has_seen() {
    let route = Route::handler_fn(|context: Context, _| async move {
        let seen = context.last_event_id().unwrap_or("nothing").to_owned();
        let events = stream::iter([SseEvent::new(seen).name("seen")]);
        Sse::new(&context, events)
    });
    let ingress = ingress(route.methods([Method::GET]));
    for (header, seen) in [(None, "nothing"), (Some("7-é"), "7-é")] {
        let mut request = Request::get("/r");
        if let Some(header) = header {
            request = request.header("last-event-id", header.as_bytes());
        }
        let request = request.body(Body::empty()).expect("a request");
        let answer = ingress.clone().oneshot(request).await.expect("infallible");
        let all = collected(answer).await;
        assert_eq!(all, format!(":\n\nevent: seen\ndata: {seen}\n\n"));
    }
}

#[tokio::test]
async fn a_client_of_a_topic_holds_no_permit_and_one_of_a_stream_of_ones_own_does() {
    let topic = Topic::new("numbers");
    let own = Route::handler_fn(|context: Context, _| async move {
        Sse::new(
            &context,
            stream::pending::<Result<SseEvent, std::convert::Infallible>>(),
        )
    });
    let ingress = Ingress::builder()
        .route("topic", topic_route(&topic, wait))
        .route("own", own.methods([Method::GET]))
        .max_in_flight(1)
        .queue(0)
        .build()
        .expect("valid");
    let get = async |path: &str| {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        ingress.clone().oneshot(request).await.expect("infallible")
    };
    let _clients = [get("/topic").await, get("/topic").await];
    let own = get("/own").await;
    assert_eq!(own.status(), 200);
    assert_eq!(get("/own").await.status(), 503);
    assert_eq!(get("/topic").await.status(), 200);
    drop(own);
    assert_eq!(get("/own").await.status(), 200);
}
