//! What the codecs read and write.

use http::Request;
use serde::{Deserialize, Serialize};
use serde_json::json;
use spark_channel::{NativeHandler, SparkChannelError, spawn_module};
use spark_http::{Answer, Body, Codec, Context, ErrorAnswer, Ingress, JsonCodec, TextCodec};

use crate::{
    call::{Reply, call, post},
    echo::Echo,
};

#[path = "support/call.rs"]
mod call;
#[path = "support/echo.rs"]
mod echo;

/// The wire's order, and the module's.
#[derive(Deserialize)]
struct OrderJson {
    items: Vec<ItemJson>,
}

#[derive(Deserialize)]
struct ItemJson {
    quantity: u32,
}

struct Order {
    quantities: Vec<u32>,
}

enum Placed {
    Total(u32),
    Nothing,
}

#[derive(Serialize)]
struct PlacedJson {
    total: u32,
}

impl TryFrom<OrderJson> for Order {
    type Error = &'static str;

    fn try_from(order: OrderJson) -> Result<Self, &'static str> {
        if order.items.len() > 3 {
            return Err("at most 3 items");
        }
        let quantities = order.items.iter().map(|item| item.quantity).collect();
        Ok(Self { quantities })
    }
}

impl TryFrom<Placed> for PlacedJson {
    type Error = &'static str;

    fn try_from(placed: Placed) -> Result<Self, &'static str> {
        match placed {
            Placed::Total(total) => Ok(Self { total }),
            Placed::Nothing => Err("internal: nothing placed"),
        }
    }
}

struct Sums;

impl NativeHandler for Sums {
    type Message = Order;
    type Response = Placed;
    type Error = SparkChannelError;

    async fn handle_request(&mut self, order: Order) -> Result<Placed, SparkChannelError> {
        match order.quantities.iter().sum() {
            0 => Ok(Placed::Nothing),
            total => Ok(Placed::Total(total)),
        }
    }

    async fn handle_command(&mut self, _: Order) -> Result<(), SparkChannelError> {
        Ok(())
    }
}

async fn order(content_type: Option<&str>, body: &'static str) -> Reply {
    let sums = spawn_module(Sums).dispatcher();
    let codec = JsonCodec::<OrderJson, PlacedJson>::new();
    let ingress = Ingress::builder()
        .module("order", codec, sums)
        .build()
        .expect("valid");
    let mut request = Request::post("/order");
    if let Some(content_type) = content_type {
        request = request.header("content-type", content_type);
    }
    call(&ingress, request.body(Body::from(body)).expect("a request")).await
}

async fn text(body: impl Into<Body>) -> Reply {
    let echo = spawn_module(Echo).dispatcher();
    let ingress = Ingress::builder()
        .module("echo", TextCodec, echo)
        .build()
        .expect("valid");
    call(&ingress, post("/echo", body)).await
}

#[tokio::test]
async fn text_is_answered_as_manager_handlers_answers_it() {
    let reply = text("say \"hé\"\n").await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.headers["content-type"], "application/json");
    assert_eq!(
        reply.json,
        json!({"message": "say \"hé\"\n", "status": "Ok"})
    );
    assert_eq!(text("").await.json["message"], "");
}

#[tokio::test]
async fn json_is_answered_with_the_response_and_nothing_around_it() {
    let reply = order(
        Some("application/json"),
        r#"{"items":[{"quantity":2},{"quantity":3}]}"#,
    )
    .await;
    assert_eq!((reply.status, reply.json), (200, json!({"total": 5})));
}

#[tokio::test]
async fn json_is_known_by_its_content_type() {
    let body = r#"{"items":[{"quantity":2}]}"#;
    for json in [
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/vnd.x+json",
    ] {
        assert_eq!(order(Some(json), body).await.status, 200, "{json}");
    }
    for other in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "text/json",
        "json",
        "",
    ] {
        assert_eq!(order(Some(other), body).await.status, 415, "{other}");
    }
    assert_eq!(order(None, body).await.status, 415);
}

#[tokio::test]
async fn bad_json_is_a_400_that_points_to_the_field() {
    let reply = order(
        Some("application/json"),
        r#"{"items":[{"quantity":1},{"quantity":"x"}]}"#,
    )
    .await;
    assert_eq!(reply.status, 400);
    assert_eq!(reply.json["pointer"], "/items/1/quantity");
    assert!(
        reply
            .message()
            .starts_with("invalid type: string \"x\", expected u32")
    );

    let cases = [
        (r#"{"items":[{}]}"#, "/items/0"),
        ("{}", ""),
        ("", ""),
        (r#"{"items":[{"quantity":1}"#, "/items"),
    ];
    for (body, pointer) in cases {
        let reply = order(Some("application/json"), body).await;
        assert_eq!(
            (reply.status, reply.json["pointer"].as_str()),
            (400, Some(pointer)),
            "{body}"
        );
    }
    assert_eq!(
        order(Some("application/json"), r#"{"items":[]} x"#)
            .await
            .status,
        400
    );
}

#[tokio::test]
async fn a_message_that_cannot_be_made_is_a_400_with_its_reason() {
    let four = r#"{"items":[{"quantity":1},{"quantity":1},{"quantity":1},{"quantity":1}]}"#;
    let reply = order(Some("application/json"), four).await;
    assert_eq!((reply.status, reply.message()), (400, "at most 3 items"));
}

#[tokio::test]
async fn a_response_that_cannot_be_made_is_a_500_without_its_reason() {
    let reply = order(Some("application/json"), r#"{"items":[]}"#).await;
    assert_eq!((reply.status, reply.message()), (500, "internal error"));
}

/// Reads the query, and answers with a status and a header of its own.
struct Own;

impl Codec<String, String> for Own {
    fn decode(&self, context: &Context, _: bytes::Bytes) -> Result<String, ErrorAnswer> {
        let query = context.query().map(str::to_owned);
        query.ok_or_else(|| ErrorAnswer::bad_body("no query"))
    }

    fn encode(&self, context: &Context, response: String) -> Result<Answer, ErrorAnswer> {
        let answer = http::Response::builder()
            .status(201)
            .header("x-for", context.request_id());
        Ok(answer
            .body(Body::from(format!("{response:?}")))
            .expect("valid"))
    }
}

#[tokio::test]
async fn an_own_codec_sees_the_request_and_chooses_the_answer() {
    let echo = spawn_module(Echo).dispatcher();
    let ingress = Ingress::builder()
        .module("own", Own, echo)
        .build()
        .expect("valid");
    let reply = call(&ingress, post("/own?q", "")).await;
    assert_eq!((reply.status, reply.json), (201, json!("q")));
    assert_eq!(reply.headers["x-for"], reply.headers["x-request-id"]);
    assert_eq!(call(&ingress, post("/own", "")).await.status, 400);
}
