//! Codecs whose body is not plain JSON: bytes, envelopes, parameters, functions; and commands.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use spark_channel::{NativeHandler, SparkChannelError, SparkGenericModuleDispatcher, spawn_module};
use spark_http::{
    Body, BytesCodec, Context, Envelope, EnvelopeCodec, ErrorAnswer, Ingress, Json, JsonCodec,
    ParamsCodec, Route, TextCodec, WithParams, codec_fn,
};
use tokio::sync::{Semaphore, mpsc};
use tower::ServiceExt as _;

use crate::{
    call::{call, post},
    echo::Echo,
};

#[path = "support/call.rs"]
mod call;
#[path = "support/echo.rs"]
mod echo;

fn ingress(route: Route) -> Ingress {
    Ingress::builder().route("r", route).build().expect("valid")
}

/// Says what it was asked, and which commands came.
struct Heard(mpsc::Sender<String>);

impl NativeHandler for Heard {
    type Message = String;
    type Response = String;
    type Error = SparkChannelError;

    async fn handle_request(&mut self, text: String) -> Result<String, SparkChannelError> {
        Ok(format!("asked {text}"))
    }

    async fn handle_command(&mut self, text: String) -> Result<(), SparkChannelError> {
        self.0.try_send(text).map_err(|_| SparkChannelError::Closed)
    }
}

type Strings = SparkGenericModuleDispatcher<
    String,
    String,
    spark_channel::SparkChannelCancellationToken,
    SparkChannelError,
>;

fn heard() -> (Strings, mpsc::Receiver<String>) {
    let (tell, commands) = mpsc::channel(16);
    (spawn_module(Heard(tell)).dispatcher(), commands)
}

fn json_post(path: &str, body: &Value) -> Request<Body> {
    Request::post(path)
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))
        .expect("a request")
}

/// Status and body of an answer that is not JSON.
async fn raw(ingress: &Ingress, request: Request<Body>) -> (u16, HeaderMap, Bytes) {
    let answer: Result<_, Infallible> = ingress.clone().oneshot(request).await;
    let (parts, body) = answer.expect("infallible").into_parts();
    let body = body.collect().await.expect("in memory").to_bytes();
    (parts.status.as_u16(), parts.headers, body)
}

struct Reverse;

impl NativeHandler for Reverse {
    type Message = Bytes;
    type Response = Vec<u8>;
    type Error = SparkChannelError;

    async fn handle_request(&mut self, bytes: Bytes) -> Result<Vec<u8>, SparkChannelError> {
        Ok(bytes.iter().rev().copied().collect())
    }

    async fn handle_command(&mut self, _: Bytes) -> Result<(), SparkChannelError> {
        Ok(())
    }
}

#[tokio::test]
async fn bytes_come_and_go_as_they_are() {
    let reverse = spawn_module(Reverse).dispatcher();
    let plain = ingress(Route::module(BytesCodec::new(), reverse.clone()));
    let (status, headers, body) = raw(&plain, post("/r", vec![0, 255, 7])).await;
    assert_eq!((status, &*body), (200, &[7, 255, 0][..]));
    assert_eq!(headers["content-type"], "application/octet-stream");

    let png = BytesCodec::new().content_type(HeaderValue::from_static("image/png"));
    let (_, headers, body) = raw(&ingress(Route::module(png, reverse)), post("/r", "")).await;
    assert_eq!(headers["content-type"], "image/png");
    assert!(body.is_empty());
}

#[tokio::test]
async fn an_envelope_is_a_request_or_a_command_as_its_type_says() {
    let (module, mut commands) = heard();
    let ingress = ingress(Route::module(EnvelopeCodec, module));
    for kind in ["request", "publish"] {
        let body = json!({"type": kind, "src": "client", "data": "hello world"});
        let reply = call(&ingress, json_post("/r", &body)).await;
        assert_eq!(reply.status, 200);
        assert_eq!(
            reply.json,
            json!({"message": "asked hello world", "status": "Ok"})
        );
    }
    for kind in ["command", "dispatch"] {
        let body = json!({"type": kind, "src": "client", "data": kind});
        let (status, headers, body) = raw(&ingress, json_post("/r", &body)).await;
        assert_eq!((status, body.len()), (202, 0));
        assert!(!headers.contains_key("content-type"));
        assert_eq!(commands.recv().await.as_deref(), Some(kind));
    }
    let short = call(&ingress, json_post("/r", &json!({"data": "x", "more": 1}))).await;
    assert_eq!(short.message(), "asked x");
}

#[tokio::test]
async fn an_envelope_that_is_none_is_a_400_with_a_pointer() {
    let (module, _commands) = heard();
    let ingress = ingress(Route::module(EnvelopeCodec, module));
    let cases = [
        (json!({"type": "request"}), ""),
        (json!({"type": "other", "data": ""}), "/type"),
        (json!({"data": {"a": 1}}), "/data"),
        (json!([1]), "/0"),
    ];
    for (body, pointer) in cases {
        let reply = call(&ingress, json_post("/r", &body)).await;
        assert_eq!(
            (reply.status, reply.json["pointer"].as_str()),
            (400, Some(pointer)),
            "{body}"
        );
    }
    assert_eq!(
        call(&ingress, post("/r", r#"{"data":"x"}"#)).await.status,
        415
    );
}

#[test]
fn an_envelope_keeps_its_sender_for_messages_that_want_it() {
    let envelope = Envelope {
        src: "me".to_owned(),
        data: "text".to_owned(),
    };
    assert_eq!(String::from(envelope), "text");
}

#[tokio::test]
async fn a_command_route_answers_202_once_the_mailbox_has_the_command() {
    let (module, mut commands) = heard();
    let ingress = ingress(Route::command(TextCodec, module.clone()));
    let (status, headers, body) = raw(&ingress, post("/r", "do it")).await;
    assert_eq!((status, body.len()), (202, 0));
    assert!(headers.contains_key("x-request-id"));
    assert_eq!(commands.recv().await.as_deref(), Some("do it"));
}

/// Handles one command per permit, and says when it begins.
struct Slow {
    gate: Arc<Semaphore>,
    begun: Arc<Semaphore>,
}

impl NativeHandler for Slow {
    type Message = String;
    type Response = String;
    type Error = SparkChannelError;

    async fn handle_request(&mut self, text: String) -> Result<String, SparkChannelError> {
        Ok(text)
    }

    async fn handle_command(&mut self, _: String) -> Result<(), SparkChannelError> {
        self.begun.add_permits(1);
        self.gate.acquire().await.expect("open").forget();
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_that_finds_no_room_until_its_deadline_is_a_504_and_not_sent() {
    let (gate, begun) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let slow = Slow {
        gate: Arc::clone(&gate),
        begun: Arc::clone(&begun),
    };
    let handle = spark_channel::module(slow).capacity(1).spawn();
    let route =
        Route::command(TextCodec, handle.dispatcher()).handler_timeout(Duration::from_secs(1));
    let ingress = ingress(route);
    // One that runs, one that waits in the mailbox.
    assert_eq!(raw(&ingress, post("/r", "1")).await.0, 202);
    begun.acquire().await.expect("open").forget();
    assert_eq!(raw(&ingress, post("/r", "2")).await.0, 202);
    assert_eq!(call(&ingress, post("/r", "3")).await.status, 504);
    gate.add_permits(10);
    let report = handle.shutdown(spark_channel::Stop::Drain).await;
    assert_eq!(report.stats.handled, 2);
    assert_eq!(call(&ingress, post("/r", "4")).await.status, 502);
}

/// What the wire says of a search, and what the module makes of it.
#[derive(Deserialize)]
struct Search {
    q: String,
    #[serde(default)]
    tag: Vec<String>,
}

#[derive(Serialize)]
struct Found {
    found: String,
}

impl TryFrom<Search> for String {
    type Error = &'static str;

    fn try_from(search: Search) -> Result<Self, &'static str> {
        match search.q.as_str() {
            "" => Err("nothing to search for"),
            q => Ok(format!("{q} {}", search.tag.join("+"))),
        }
    }
}

impl From<String> for Found {
    fn from(found: String) -> Self {
        Self { found }
    }
}

#[tokio::test]
async fn parameters_can_be_the_whole_message() {
    let echo = spawn_module(Echo).dispatcher();
    let ingress = ingress(Route::module(ParamsCodec::<Search, Found>::new(), echo));
    let reply = call(&ingress, post("/r?q=a%20b&tag=x&tag=y", "ignored")).await;
    assert_eq!(
        (reply.status, reply.json),
        (200, json!({"found": "a b x+y"}))
    );

    let reply = call(&ingress, post("/r", "")).await;
    assert_eq!(
        (reply.status, reply.json["pointer"].as_str()),
        (400, Some("/q"))
    );
    let reply = call(&ingress, post("/r?q=", "")).await;
    assert_eq!(
        (reply.status, reply.message()),
        (400, "nothing to search for")
    );
}

#[derive(Deserialize)]
struct Amount {
    amount: u32,
}

#[derive(Deserialize)]
struct Currency {
    currency: String,
}

struct Price(String);

impl From<(Currency, Amount)> for Price {
    fn from((Currency { currency }, Amount { amount }): (Currency, Amount)) -> Self {
        Self(format!("{amount} {currency}"))
    }
}

struct Prices;

impl NativeHandler for Prices {
    type Message = Price;
    type Response = String;
    type Error = SparkChannelError;

    async fn handle_request(&mut self, price: Price) -> Result<String, SparkChannelError> {
        Ok(price.0)
    }

    async fn handle_command(&mut self, _: Price) -> Result<(), SparkChannelError> {
        Ok(())
    }
}

#[tokio::test]
async fn parameters_can_be_added_to_what_another_codec_reads() {
    let prices = spawn_module(Prices).dispatcher();
    let codec = WithParams::<Currency, Amount, _>::new(JsonCodec::<Amount, Found>::new());
    let ingress = ingress(Route::module(codec, prices));
    let reply = call(
        &ingress,
        json_post("/r?currency=EUR", &json!({"amount": 3})),
    )
    .await;
    assert_eq!((reply.status, reply.json), (200, json!({"found": "3 EUR"})));
    let reply = call(&ingress, json_post("/r", &json!({"amount": 3}))).await;
    assert_eq!(reply.json["pointer"], "/currency");
    let reply = call(
        &ingress,
        json_post("/r?currency=EUR", &json!({"amount": "x"})),
    )
    .await;
    assert_eq!(reply.json["pointer"], "/amount");
    assert_eq!(
        call(&ingress, post("/r?currency=EUR", "{}")).await.status,
        415
    );
}

#[tokio::test]
async fn a_codec_of_functions_reads_anything_and_chooses_status_and_headers() {
    let echo = spawn_module(Echo).dispatcher();
    let codec = codec_fn(
        |context: &Context, body: Bytes| {
            let agent = context.headers().get("user-agent");
            let agent = agent.and_then(|agent| agent.to_str().ok());
            match agent {
                Some(agent) => Ok(format!("{agent}: {} bytes", body.len())),
                None => Err(ErrorAnswer::bad_body("who asks?")),
            }
        },
        |context: &Context, text: String| {
            let mut headers = HeaderMap::new();
            let id = HeaderValue::from_str(context.request_id());
            headers.insert("x-for", id.expect("visible"));
            (StatusCode::CREATED, headers, Json(text))
        },
    );
    let ingress = ingress(Route::module(codec, echo));
    let mut request = post("/r", "12345");
    let headers = request.headers_mut();
    headers.insert("user-agent", HeaderValue::from_static("test"));
    let reply = call(&ingress, request).await;
    assert_eq!((reply.status, reply.json), (201, json!("test: 5 bytes")));
    assert_eq!(reply.headers["x-for"], reply.headers["x-request-id"]);
    assert_eq!(reply.headers["content-type"], "application/json");
    assert_eq!(call(&ingress, post("/r", "")).await.status, 400);
}

#[tokio::test]
async fn parameters_of_a_path_are_typed_and_cannot_be_said_again_in_the_query() {
    #[derive(Deserialize)]
    struct Page {
        shelf: u32,
        page: Option<u8>,
    }
    let route = Route::handler_fn(|context: Context, _| async move {
        let Page { shelf, page } = context.params()?;
        let same: u32 = context.path()?;
        Ok::<_, ErrorAnswer>(Json(json!([shelf, same, page])))
    });
    let ingress = Ingress::builder().path("/shelves/{shelf}", route);
    let ingress = ingress.build().expect("valid");
    let reply = call(&ingress, post("/shelves/4?page=2", "")).await;
    assert_eq!((reply.status, reply.json), (200, json!([4, 4, 2])));
    for (target, pointer) in [
        ("/shelves/x", "/shelf"),
        ("/shelves/4?page=x", "/page"),
        ("/shelves/4?shelf=5", "/shelf"),
    ] {
        let reply = call(&ingress, post(target, "")).await;
        assert_eq!(reply.status, 400);
        assert_eq!(reply.json["pointer"], pointer, "{target}");
    }
}
