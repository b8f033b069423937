//! WebSocket: through a server, by a client of another crate.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderValue, Request};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use spark_channel::{Backlog, Stop, Topic, module, spawn_module};
use spark_http::{
    ApiKeys, Body, Context, ErrorAnswer, HttpServer, Ingress, Origins, Route, Verb, WebSocket,
    WsAnswer, WsCall, WsCodec, WsJson, WsMessage, WsRefusal, WsText,
};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error as WireError, Message, client::IntoClientRequest as _},
};
use tower::ServiceExt as _;

use crate::{
    modules::Gated,
    stream_support::{read_to_end, read_until},
    wire::{Serving, serve, within},
};

#[path = "support/modules.rs"]
mod modules;
#[path = "support/stream.rs"]
mod stream_support;
#[path = "support/wire.rs"]
mod wire;

type Socket = WebSocketStream<TcpStream>;

/// What the wire says, and what the gated module makes of it.
#[derive(Deserialize)]
struct Say {
    text: String,
}

#[derive(Serialize)]
struct Said {
    said: String,
}

impl TryFrom<Say> for String {
    type Error = &'static str;

    fn try_from(say: Say) -> Result<Self, &'static str> {
        match say.text.as_str() {
            "" => Err("nothing said"),
            text => Ok(text.to_owned()),
        }
    }
}

impl From<String> for Said {
    fn from(said: String) -> Self {
        Self { said }
    }
}

fn ingress(route: Route) -> Ingress {
    Ingress::builder()
        .route("ws", route)
        .build()
        .expect("valid")
}

fn json_route(gated: &Gated) -> Route {
    let module = spawn_module(gated.clone()).dispatcher();
    Route::websocket(WebSocket::new(WsJson::<Say, Said>::new(), module))
}

async fn try_open(
    serving: &Serving,
    headers: &[(&'static str, &'static str)],
) -> Result<(Socket, http::HeaderMap), WireError> {
    let stream = within(TcpStream::connect(serving.address))
        .await
        .expect("accepted");
    let url = format!("ws://{}/ws", serving.address);
    let mut request = url.into_client_request().expect("a request");
    for (name, value) in headers {
        request
            .headers_mut()
            .insert(*name, HeaderValue::from_static(value));
    }
    let (socket, answer) = within(client_async(request, stream)).await?;
    Ok((socket, answer.headers().clone()))
}

async fn open(serving: &Serving) -> Socket {
    try_open(serving, &[]).await.expect("accepted").0
}

/// The status that a handshake is refused with.
async fn refused(serving: &Serving, headers: &[(&'static str, &'static str)]) -> u16 {
    match try_open(serving, headers).await {
        Err(WireError::Http(answer)) => answer.status().as_u16(),
        other => panic!("{other:?}"),
    }
}

async fn say(socket: &mut Socket, json: Value) {
    let text = Message::text(json.to_string());
    within(socket.send(text)).await.expect("open");
}

async fn hear(socket: &mut Socket) -> Value {
    loop {
        match within(socket.next()).await {
            Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).expect("JSON"),
            Some(Ok(Message::Ping(_))) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Code and reason of the close that comes next.
async fn closed(socket: &mut Socket) -> (u16, String) {
    // As a whole: pings come for ever.
    within(async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Close(Some(frame)))) => {
                    // Answers it, and sees that the server closes.
                    while socket.next().await.is_some() {}
                    return (frame.code.into(), frame.reason.to_string());
                }
                Some(Ok(Message::Ping(_) | Message::Text(_))) => {}
                other => panic!("{other:?}"),
            }
        }
    })
    .await
}

#[tokio::test]
async fn requests_are_answered_by_their_ids_and_commands_accepted() {
    let gated = Gated::open();
    let serving = serve(HttpServer::builder(), ingress(json_route(&gated))).await;
    let mut socket = open(&serving).await;
    say(
        &mut socket,
        json!({"type": "request", "id": 1, "data": {"text": "hi"}}),
    )
    .await;
    let answer = json!({"type": "response", "id": 1, "data": {"said": "hi"}});
    assert_eq!(hear(&mut socket).await, answer);
    say(&mut socket, json!({"id": "b", "data": {"text": "short"}})).await;
    assert_eq!(hear(&mut socket).await["id"], "b");
    say(
        &mut socket,
        json!({"type": "command", "id": 3, "data": {"text": "go"}}),
    )
    .await;
    assert_eq!(
        hear(&mut socket).await,
        json!({"type": "accepted", "id": 3})
    );
    // A command without an id is not talked about.
    say(
        &mut socket,
        json!({"type": "command", "data": {"text": "go"}}),
    )
    .await;
    say(&mut socket, json!({"id": 4, "data": {"text": "x"}})).await;
    assert_eq!(hear(&mut socket).await["id"], 4);
    within(socket.close(None)).await.expect("open");
    let report = serving.drain().await;
    assert_eq!((report.upgraded, report.upgraded_cut), (1, 0));
}

#[tokio::test]
async fn what_fails_is_an_error_for_its_one_message() {
    let gated = Gated::open();
    let serving = serve(HttpServer::builder(), ingress(json_route(&gated))).await;
    let mut socket = open(&serving).await;
    let cases = [
        (
            json!({"id": 1, "data": {"text": 7}}),
            400,
            Some("/data/text"),
        ),
        (json!({"id": 1}), 400, Some("/data")),
        (json!({"id": 1, "data": {"text": ""}}), 400, None),
        (json!({"id": 1, "data": {"text": "panic"}}), 500, None),
    ];
    for (call, status, pointer) in cases {
        say(&mut socket, call).await;
        let error = hear(&mut socket).await;
        assert_eq!(
            (&error["type"], &error["id"]),
            (&json!("error"), &json!(1)),
            "{error}"
        );
        assert_eq!(error["status"], status, "{error}");
        assert_eq!(error["pointer"].as_str(), pointer, "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    say(&mut socket, json!({"data": {"text": "who?"}})).await;
    let error = hear(&mut socket).await;
    assert_eq!(
        (error["pointer"].as_str(), error.get("id")),
        (Some("/id"), None)
    );
    say(
        &mut socket,
        json!({"id": 2, "data": {"text": "still here"}}),
    )
    .await;
    assert_eq!(hear(&mut socket).await["data"]["said"], "still here");
}

#[tokio::test]
async fn bad_data_closes_with_the_code_for_it() {
    let gated = Gated::open();
    let serving = serve(HttpServer::builder(), ingress(json_route(&gated))).await;
    let cases = [
        (Message::binary(vec![1, 2]), 1003),
        (Message::text("not JSON"), 1007),
        (Message::text(r#"{"type":"other"}"#), 1007),
        (Message::text("x".repeat(2 * 1024 * 1024)), 1009),
    ];
    for (message, code) in cases {
        let mut socket = open(&serving).await;
        within(socket.send(message)).await.expect("open");
        assert_eq!(closed(&mut socket).await.0, code);
    }
    assert_eq!(gated.runs(), 0);
    // Raw: text that is no UTF-8, a frame without a mask.
    for (frame, code) in [
        (&b"\x81\x82\0\0\0\0\xff\xfe"[..], 1007_u16),
        (b"\x81\x02hi", 1002),
    ] {
        let mut client = serving.connect().await;
        client.send(HANDSHAKE).await;
        read_until(&mut client.stream, "\r\n\r\n").await;
        client.send(frame).await;
        let close = read_raw(&mut client.stream).await;
        assert_eq!((close[0], &close[2..4]), (0x88, &code.to_be_bytes()[..]));
    }
}

const HANDSHAKE: &str = "GET /ws HTTP/1.1\r\nhost: t\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

async fn read_raw(stream: &mut TcpStream) -> Vec<u8> {
    use tokio::io::AsyncReadExt as _;
    let mut read = Vec::new();
    let _ = within(stream.read_to_end(&mut read)).await;
    read
}

#[tokio::test]
async fn an_id_comes_back_as_it_was_or_is_none() {
    let gated = Gated::open();
    let serving = serve(HttpServer::builder(), ingress(json_route(&gated))).await;
    let mut socket = open(&serving).await;
    for id in [
        "18446744073709551615",
        "-9223372036854775808",
        "\"\"",
        "\"1\"",
    ] {
        let text = format!(r#"{{"id":{id},"data":{{"text":"x"}}}}"#);
        within(socket.send(Message::text(text)))
            .await
            .expect("open");
        assert_eq!(hear(&mut socket).await["id"].to_string(), id);
    }
    for id in ["1.5", "18446744073709551616", "true", "[1]"] {
        let mut socket = open(&serving).await;
        let text = format!(r#"{{"id":{id},"data":{{"text":"x"}}}}"#);
        within(socket.send(Message::text(text)))
            .await
            .expect("open");
        let (code, reason) = closed(&mut socket).await;
        assert_eq!(code, 1007, "{id}");
        assert!(reason.contains("string or an integer"), "{reason}");
    }
}

#[tokio::test]
async fn http_1_0_opens_no_socket() {
    let gated = Gated::open();
    let serving = serve(HttpServer::builder(), ingress(json_route(&gated))).await;
    let mut client = serving.connect().await;
    client.send(HANDSHAKE.replace("HTTP/1.1", "HTTP/1.0")).await;
    let reply = client.reply().await;
    assert_eq!(reply.status, 426, "{}", reply.body);
}

#[tokio::test]
async fn text_is_answered_in_its_order() {
    let module = spawn_module(Gated::open()).dispatcher();
    let route = Route::websocket(WebSocket::new(WsText, module));
    let serving = serve(HttpServer::builder(), ingress(route)).await;
    let mut socket = open(&serving).await;
    for text in ["one", "panic", "three"] {
        within(socket.send(Message::text(text)))
            .await
            .expect("open");
    }
    assert_eq!(
        hear(&mut socket).await,
        json!({"message": "one", "status": "Ok"})
    );
    assert_eq!(hear(&mut socket).await["status"], "Error");
    assert_eq!(hear(&mut socket).await["message"], "three");
}

fn events_route(topic: &Topic<u32>, backlog: fn() -> Backlog<u32>) -> Route {
    let module = spawn_module(Gated::open()).dispatcher();
    let socket = WebSocket::new(WsText, module);
    Route::websocket(socket.events(topic.clone(), backlog, |n| WsMessage::event("n", &n)))
}

#[tokio::test]
async fn events_of_a_topic_come_unasked_and_a_client_that_leaves_is_unsubscribed() {
    let topic = Topic::new("numbers");
    let serving = serve(
        HttpServer::builder(),
        ingress(events_route(&topic, || Backlog::wait(1))),
    )
    .await;
    let mut socket = open(&serving).await;
    for number in [1, 2] {
        assert_eq!(topic.publish(number).await.expect("open"), 1);
        let event = json!({"type": "event", "name": "n", "data": number});
        assert_eq!(hear(&mut socket).await, event);
    }
    drop(socket);
    within(async {
        while topic.stats().subscribers > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_too_slow_for_its_backlog_is_told_so_and_the_end_of_a_topic_is_not_the_end() {
    let topic = Topic::new("numbers");
    let route = events_route(&topic, || Backlog::disconnect(4));
    let serving = serve(HttpServer::builder(), ingress(route)).await;
    let mut slow = open(&serving).await;
    while topic.stats().disconnected == 0 {
        for number in 0..100 {
            topic.publish(number).await.expect("open");
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(closed(&mut slow).await.0, 1013);

    let mut socket = open(&serving).await;
    topic.close();
    within(socket.send(Message::text("still here")))
        .await
        .expect("open");
    assert_eq!(hear(&mut socket).await["message"], "still here");
}

#[tokio::test]
async fn at_the_drain_what_is_under_way_is_answered_and_the_socket_closed_with_1001() {
    let gated = Gated::closed();
    let serving = serve(HttpServer::builder(), ingress(json_route(&gated))).await;
    let mut socket = open(&serving).await;
    let mut idle = open(&serving).await;
    say(&mut socket, json!({"id": 1, "data": {"text": "slow"}})).await;
    gated.has_started().await;
    serving.handle.drain();
    assert_eq!(closed(&mut idle).await.0, 1001);
    gated.gate.add_permits(1);
    assert_eq!(hear(&mut socket).await["data"]["said"], "slow");
    assert_eq!(closed(&mut socket).await.0, 1001);
    let report = serving.report().await;
    assert_eq!(
        (report.upgraded, report.upgraded_cut, report.deadline_passed),
        (2, 0, false)
    );
}

/// Counts what it reads.
struct Counting(Arc<AtomicUsize>);

impl WsCodec<String, String> for Counting {
    type Id = ();

    fn decode(
        &self,
        context: &Context,
        message: WsMessage,
    ) -> Result<WsCall<String, ()>, WsRefusal<()>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let message = message.as_text().unwrap_or_default().to_owned();
        assert!(message != context.handler(), "secret-panic-text");
        let verb = Verb::Request;
        Ok(WsCall {
            verb,
            id: (),
            message,
        })
    }

    fn encode(
        &self,
        _: &Context,
        (): &(),
        answer: WsAnswer<String>,
    ) -> Result<Option<WsMessage>, ErrorAnswer> {
        Ok(match answer {
            WsAnswer::Response(text) => Some(WsMessage::text(json!(text).to_string())),
            _ => None,
        })
    }
}

#[tokio::test]
async fn a_client_that_sends_more_than_may_be_under_way_is_not_read_any_further() {
    let read = Arc::new(AtomicUsize::new(0));
    let gated = Gated::closed();
    let handle = module(gated.clone()).capacity(1).spawn();
    let socket = WebSocket::new(Counting(Arc::clone(&read)), handle.dispatcher());
    let socket = socket.calls_max(NonZeroUsize::new(4).expect("not zero"));
    let serving = serve(HttpServer::builder(), ingress(Route::websocket(socket))).await;
    let mut socket = open(&serving).await;
    for number in 0..20 {
        within(socket.send(Message::text(number.to_string())))
            .await
            .expect("open");
    }
    gated.has_started().await;
    // By the time that another client has been heard, this one would have been, too.
    let mut other = open(&serving).await;
    within(other.send(Message::text("other")))
        .await
        .expect("open");
    within(async {
        while read.load(Ordering::SeqCst) < 5 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(read.load(Ordering::SeqCst), 5);
    gated.gate.add_permits(100);
    for number in 0..20 {
        assert_eq!(hear(&mut socket).await, json!(number.to_string()));
    }
    // What waits for a client that left is skipped.
    drop((socket, other));
    handle.shutdown(Stop::Drain).await;
}

#[tokio::test]
async fn what_waits_for_a_client_that_left_does_not_run() {
    let gated = Gated::closed();
    let module = spawn_module(gated.clone());
    let route = Route::websocket(WebSocket::new(
        WsJson::<Say, Said>::new(),
        module.dispatcher(),
    ));
    let serving = serve(HttpServer::builder(), ingress(route)).await;
    let mut socket = open(&serving).await;
    for id in 0..3 {
        say(&mut socket, json!({"id": id, "data": {"text": "x"}})).await;
    }
    gated.has_started().await;
    within(socket.close(None)).await.expect("open");
    // The server has closed as well, so what was under way is gone.
    while within(socket.next()).await.is_some() {}
    gated.gate.add_permits(10);
    let report = module.shutdown(Stop::Drain).await;
    assert_eq!((gated.runs(), report.stats.abandoned), (1, 2));
}

#[tokio::test]
async fn a_panic_of_the_codec_closes_with_1011_and_without_its_text() {
    let module = spawn_module(Gated::open()).dispatcher();
    let socket = WebSocket::new(Counting(Arc::default()), module);
    let serving = serve(HttpServer::builder(), ingress(Route::websocket(socket))).await;
    let mut socket = open(&serving).await;
    within(socket.send(Message::text("ws")))
        .await
        .expect("open");
    assert_eq!(
        closed(&mut socket).await,
        (1011, "internal error".to_owned())
    );
}

#[tokio::test]
async fn pages_of_other_origins_are_refused_unless_they_are_listed() {
    let gated = Gated::open();
    let serving = serve(HttpServer::builder(), ingress(json_route(&gated))).await;
    assert_eq!(
        refused(&serving, &[("origin", "https://evil.example")]).await,
        403
    );
    assert_eq!(refused(&serving, &[("origin", "null")]).await, 403);

    let module = spawn_module(gated).dispatcher();
    let listed = Origins::Listed(vec!["https://app.example".to_owned()]);
    let socket = WebSocket::new(WsText, module).origins(listed);
    let socket = socket.subprotocols([HeaderValue::from_static("v1.test")]);
    let serving = serve(HttpServer::builder(), ingress(Route::websocket(socket))).await;
    let headers = [
        ("origin", "https://app.example"),
        ("sec-websocket-protocol", "v0.test, v1.test"),
    ];
    let (_, answered) = try_open(&serving, &headers).await.expect("accepted");
    assert_eq!(answered["sec-websocket-protocol"], "v1.test");
    assert!(answered.contains_key("x-request-id"));
}

#[tokio::test]
async fn a_socket_is_opened_behind_authentication_only() {
    let keys = ApiKeys::new([("test", "key-of-sixteen-characters")]).expect("a key");
    let ingress = Ingress::builder()
        .api_keys(keys)
        .route("ws", json_route(&Gated::open()))
        .build()
        .expect("valid");
    let serving = serve(HttpServer::builder(), ingress).await;
    assert_eq!(refused(&serving, &[]).await, 401);
    let bearer = [("authorization", "Bearer key-of-sixteen-characters")];
    let (mut socket, _) = try_open(&serving, &bearer).await.expect("accepted");
    say(&mut socket, json!({"id": 1, "data": {"text": "hi"}})).await;
    assert_eq!(hear(&mut socket).await["id"], 1);
}

#[tokio::test]
async fn what_opens_no_socket_is_a_426_and_a_client_too_many_a_503() {
    let module = spawn_module(Gated::open()).dispatcher();
    let socket = WebSocket::new(WsText, module).clients_max(NonZeroUsize::MIN);
    let ingress = ingress(Route::websocket(socket));
    let serving = serve(HttpServer::builder(), ingress.clone()).await;
    let mut client = serving.connect().await;
    client.send("GET /ws HTTP/1.1\r\nhost: t\r\n\r\n").await;
    let reply = client.reply().await;
    assert_eq!(
        (reply.status, reply.closes()),
        (426, false),
        "{}",
        reply.body
    );
    assert!(
        reply.head.contains("upgrade: websocket\r\n"),
        "{}",
        reply.head
    );
    assert!(
        reply.head.contains("sec-websocket-version: 13\r\n"),
        "{}",
        reply.head
    );
    client.post("ws", "").await;
    assert_eq!(client.reply().await.status, 405);

    let socket = open(&serving).await;
    assert_eq!(refused(&serving, &[]).await, 503);
    drop(socket);

    // A path may have something else for those who ask for none.
    let module = spawn_module(Gated::open()).dispatcher();
    let plain = Route::handler_fn(|_, _| async { "no socket" });
    let both = Route::websocket(WebSocket::new(WsText, module).otherwise(plain));
    let both_serving = serve(HttpServer::builder(), self::ingress(both)).await;
    open(&both_serving).await;
    let mut plain = both_serving.connect().await;
    plain.send("GET /ws HTTP/1.1\r\nhost: t\r\n\r\n").await;
    assert!(plain.reply().await.body.contains("no socket"));

    // Where nobody drives an upgraded connection, there is nothing to say yes to.
    let request = HANDSHAKE
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(": "));
    let mut handshake = Request::get("/ws");
    for (name, value) in request {
        handshake = handshake.header(name, value);
    }
    let handshake = handshake.body(Body::empty()).expect("a request");
    let answer = within(async {
        loop {
            let answer = ingress
                .clone()
                .oneshot(clone(&handshake))
                .await
                .expect("infallible");
            if answer.status() != 503 {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(answer.status(), 500);
    serving.drain().await;
    client.closed().await;
    assert_eq!(read_to_end(&mut client.stream).await, "");
}

fn clone(request: &Request<Body>) -> Request<Body> {
    let mut copy = Request::get(request.uri().clone());
    for (name, value) in request.headers() {
        copy = copy.header(name, value);
    }
    copy.body(Body::empty()).expect("a request")
}

#[tokio::test]
async fn a_message_has_the_handler_timeout_for_itself() {
    let gated = Gated::closed();
    let route = json_route(&gated).handler_timeout(Duration::from_millis(50));
    let serving = serve(HttpServer::builder(), ingress(route)).await;
    let mut socket = open(&serving).await;
    for id in [1, 2] {
        say(&mut socket, json!({"id": id, "data": {"text": "slow"}})).await;
        let late = hear(&mut socket).await;
        assert_eq!(
            (&late["id"], &late["status"]),
            (&json!(id), &json!(504)),
            "{late}"
        );
    }
}
