//! The OpenAPI document. `scripts/check-openapi` holds it to the schema of OpenAPI as well, and a
//! running service to the document.

use std::collections::BTreeSet;

use http::{Method, Request};
use http_body_util::BodyExt as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use spark_channel::{NativeHandler, SparkGenericModuleDispatcher, module};
use spark_http::{
    ApiKeys, Body, EnvelopeCodec, Ingress, IngressBuilder, Json, JsonCodec, ParamsCodec, Route,
    Seeing, TextCodec,
};

use tower::ServiceExt as _;

use crate::support::call::call;

mod support {
    #[expect(dead_code, reason = "nothing is posted here")]
    pub(crate) mod call;
}

#[derive(Deserialize, Serialize, JsonSchema)]
struct Add {
    a: i64,
    b: i64,
    /// What it is for.
    #[serde(default)]
    note: Option<Note>,
}

#[derive(Deserialize, Serialize, JsonSchema)]
struct Note {
    // Optional to read, and always written.
    #[serde(default)]
    text: String,
}

#[derive(Serialize, JsonSchema)]
struct Sum {
    sum: i64,
    note: Option<Note>,
}

#[derive(Deserialize, JsonSchema)]
struct Search {
    shelf: u32,
    q: String,
    #[serde(default)]
    limit: Option<u8>,
}

struct Adder;

impl NativeHandler for Adder {
    type Message = Add;
    type Response = Sum;
    type Error = eyre::Report;

    async fn handle_request(&mut self, Add { a, b, note }: Add) -> eyre::Result<Sum> {
        let sum = a.checked_add(b).ok_or_else(|| eyre::eyre!("too large"))?;
        Ok(Sum { sum, note })
    }

    async fn handle_command(&mut self, _: Add) -> eyre::Result<()> {
        Ok(())
    }
}

struct Echo;

impl NativeHandler for Echo {
    type Message = Message;
    type Response = String;
    type Error = eyre::Report;

    async fn handle_request(&mut self, Message(text): Message) -> eyre::Result<String> {
        Ok(text)
    }

    async fn handle_command(&mut self, _: Message) -> eyre::Result<()> {
        Ok(())
    }
}

struct Message(String);

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<spark_http::Envelope> for Message {
    fn from(envelope: spark_http::Envelope) -> Self {
        Self(envelope.into())
    }
}

impl From<Search> for Message {
    fn from(Search { shelf, q, limit }: Search) -> Self {
        Self(format!("{shelf} {q} {limit:?}"))
    }
}

fn adder() -> SparkGenericModuleDispatcher<Add, Sum> {
    module(Adder).spawn().dispatcher()
}

fn echo() -> SparkGenericModuleDispatcher<Message, String> {
    module(Echo).spawn().dispatcher()
}

/// One route of each kind.
fn routes() -> IngressBuilder {
    let search = Route::module(ParamsCodec::<Search, String>::new().described(), echo());
    let dice = Route::handler_fn(|_, _| async { Json(4) }).describe(|operation| {
        operation
            .summary("Throws a die")
            .description("Fair.")
            .response::<u8>("application/json");
    });
    Ingress::builder()
        .module("sum", JsonCodec::<Add, Sum>::new().described(), adder())
        .module("plain sum", JsonCodec::<Add, Sum>::new(), adder())
        .module("echo", TextCodec, echo())
        .module("envelope", EnvelopeCodec, echo())
        .route("told", Route::command(TextCodec, echo()))
        .path("shelves/{shelf}/books", search.methods([Method::GET]))
        .path("/dice", dice.methods([Method::GET, Method::PUT]))
        .handler_fn("100% {odd} é", |_, _| async { "odd" })
        .mount("files", Route::handler_fn(|_, _| async { "file" }))
        .fallback(Route::handler_fn(|_, _| async { "else" }))
}

/// The document of these routes, which is held to the rules of OpenAPI.
fn document(builder: IngressBuilder) -> Value {
    let seeing = Seeing::named("shop", "1.2.3");
    builder.seeing(&seeing).build().expect("valid");
    let document = seeing.openapi();
    check(&document);
    document
}

fn check(document: &Value) {
    assert_eq!(document["openapi"], "3.1.0");
    assert!(document["info"]["title"].is_string() && document["info"]["version"].is_string());
    check_references(document, document);
    for (name, _) in fields(&document["components"]["schemas"]) {
        let is_plain = |char: char| char.is_ascii_alphanumeric() || "._-".contains(char);
        assert!(name.chars().all(is_plain), "{name}");
    }
    let mut ids = BTreeSet::new();
    for (path, item) in fields(&document["paths"]) {
        assert!(
            path.is_ascii() && path.starts_with('/') && !path.contains(' '),
            "{path}"
        );
        for (method, operation) in fields(item) {
            assert!(["get", "put", "post"].contains(&method), "{path}: {method}");
            let id = operation["operationId"].as_str().expect("an id");
            assert!(ids.insert(id), "{id} is there twice");
            check_operation(path, operation, document);
        }
    }
}

fn check_operation(path: &str, operation: &Value, document: &Value) {
    let mut of_path = BTreeSet::new();
    let mut names = BTreeSet::new();
    for parameter in operation["parameters"].as_array().expect("a list") {
        let (name, place) = (&parameter["name"], &parameter["in"]);
        assert!(
            names.insert((name.to_string(), place.to_string())),
            "{name} is there twice"
        );
        assert!(parameter["schema"].is_object());
        if place == "path" {
            assert_eq!(parameter["required"], true);
            of_path.insert(name.as_str().expect("text").to_owned());
        } else {
            assert_eq!(place, "query");
        }
    }
    let braces = path.split('{').skip(1);
    let named = braces.map(|rest| rest.split('}').next().expect("closed").to_owned());
    assert_eq!(named.collect::<BTreeSet<_>>(), of_path, "{path}");
    for (status, response) in fields(&operation["responses"]) {
        let is_status = status.len() == 3 && status.starts_with(char::is_numeric);
        assert!(is_status || status == "default", "{status}");
        assert!(response["$ref"].is_string() || response["description"].is_string());
    }
    for requirement in operation["security"].as_array().into_iter().flatten() {
        for (scheme, _) in fields(requirement) {
            let scheme = &document["components"]["securitySchemes"][scheme];
            assert!(scheme["type"].is_string());
        }
    }
}

fn check_references(part: &Value, document: &Value) {
    match part {
        Value::Object(fields) => {
            if let Some(Value::String(to)) = fields.get("$ref") {
                let pointer = to.strip_prefix('#').expect("of this document");
                assert!(document.pointer(pointer).is_some(), "{to} leads nowhere");
            }
            for value in fields.values() {
                check_references(value, document);
            }
        }
        Value::Array(items) => {
            for item in items {
                check_references(item, document);
            }
        }
        _ => {}
    }
}

fn fields(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let fields = value.as_object().expect("an object");
    fields.iter().map(|(name, value)| (name.as_str(), value))
}

/// What a reference leads to, or the value itself.
fn resolved<'a>(value: &'a Value, document: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(to) => document.pointer(&to[1..]).expect("checked"),
        None => value,
    }
}

#[tokio::test]
async fn every_route_that_has_a_path_and_methods_is_in_the_document() {
    let document = document(routes());
    assert_eq!(
        document["info"],
        json!({ "title": "shop", "version": "1.2.3" })
    );
    let mut all = Vec::new();
    for (path, item) in fields(&document["paths"]) {
        all.extend(fields(item).map(|(method, _)| format!("{method} {path}")));
    }
    all.sort_unstable();
    assert_eq!(
        all,
        [
            "get /dice",
            "get /shelves/{shelf}/books",
            "post /100%25%20%7Bodd%7D%20%C3%A9",
            "post /echo",
            "post /envelope",
            "post /plain%20sum",
            "post /sum",
            "post /told",
            "put /dice",
        ]
    );
    let dice = &document["paths"]["/dice"]["get"];
    assert_eq!(
        (&dice["summary"], &dice["description"]),
        (&json!("Throws a die"), &json!("Fair."))
    );
}

#[tokio::test]
async fn a_described_codec_has_the_schemas_of_its_types_and_another_one_has_none() {
    let document = document(routes());
    let json_of = |operation: &Value, part: &str| match part {
        "request" => operation["requestBody"]["content"]["application/json"]["schema"].clone(),
        _ => operation["responses"]["2XX"]["content"]["application/json"]["schema"].clone(),
    };
    let sum = &document["paths"]["/sum"]["post"];
    let read = json_of(sum, "request");
    let read = resolved(&read, &document);
    assert_eq!(read["required"], json!(["a", "b"]));
    assert_eq!(read["properties"]["note"]["description"], "What it is for.");
    let written = json_of(sum, "response");
    let written = resolved(&written, &document);
    assert_eq!(written["properties"]["sum"]["type"], "integer");

    let plain = &document["paths"]["/plain%20sum"]["post"];
    assert_eq!(json_of(plain, "request"), json!({}));
    assert_eq!(plain["responses"]["2XX"]["content"], json!({ "*/*": {} }));

    let echo = &document["paths"]["/echo"]["post"];
    assert_eq!(
        echo["requestBody"]["content"]["text/plain"]["schema"]["type"],
        "string"
    );
    assert_eq!(
        json_of(echo, "response")["properties"]["status"]["const"],
        "Ok"
    );
    // An empty body is an empty text, and no JSON.
    assert_eq!(echo["requestBody"]["required"], false);
    assert_eq!(sum["requestBody"]["required"], true);
    let told = &document["paths"]["/told"]["post"];
    assert!(told["responses"]["2XX"]["content"].is_null());
}

#[tokio::test]
async fn a_type_that_is_read_in_another_shape_than_it_is_written_has_two_schemas() {
    let document = document(routes());
    let schemas = &document["components"]["schemas"];
    assert_eq!(schemas["Note"]["required"], Value::Null);
    assert_eq!(schemas["NoteAnswer"]["required"], json!(["text"]));
    assert!(
        schemas["Sum"]
            .to_string()
            .contains("#/components/schemas/NoteAnswer")
    );
    assert!(
        schemas["Add"]
            .to_string()
            .contains("#/components/schemas/Note\"")
    );
}

/// Has one shape, but what is in it has two.
#[derive(Deserialize, Serialize, JsonSchema)]
struct Page {
    note: Note,
    next: Vec<Page>,
}

#[tokio::test]
async fn a_type_with_one_that_has_two_schemas_in_it_has_two() {
    let page = Route::handler_fn(|_, _| async { "page" }).describe(|operation| {
        operation.request::<Page>("application/json");
        operation.response::<Page>("application/json");
    });
    let document = document(Ingress::builder().route("page", page));
    let page = &document["paths"]["/page"]["post"];
    let read = &page["requestBody"]["content"]["application/json"]["schema"];
    let written = &page["responses"]["2XX"]["content"]["application/json"]["schema"];
    let read = resolved(read, &document);
    let written = resolved(written, &document);
    let note = |page: &Value| resolved(&page["properties"]["note"], &document)["required"].clone();
    assert_eq!(note(read), Value::Null);
    assert_eq!(note(written), json!(["text"]));
    let next = |page: &Value| page["properties"]["next"].to_string();
    assert!(next(read).contains("#/components/schemas/Page\""), "{read}");
    assert!(
        next(written).contains("#/components/schemas/PageAnswer\""),
        "{written}"
    );
}

/// Has the name of what the document says of errors.
#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "described, and never read")]
struct Error {
    code: u8,
}

/// Has a name that is no name of a component.
#[derive(Deserialize, Serialize, JsonSchema)]
#[schemars(rename = "no ~name/50%")]
struct Odd {
    #[serde(default)]
    text: String,
}

#[tokio::test]
async fn a_type_may_have_any_name() {
    let odd = Route::handler_fn(|_, _| async { "odd" }).describe(|operation| {
        operation.request::<(Error, Odd)>("application/json");
        operation.response::<Odd>("application/json");
    });
    let document = document(Ingress::builder().route("odd", odd));
    let odd = &document["paths"]["/odd"]["post"];
    let read = &odd["requestBody"]["content"]["application/json"]["schema"]["prefixItems"];
    assert_eq!(resolved(&read[0], &document)["required"], json!(["code"]));
    assert_eq!(resolved(&read[1], &document)["required"], Value::Null);
    let written = &odd["responses"]["2XX"]["content"]["application/json"]["schema"];
    assert_eq!(resolved(written, &document)["required"], json!(["text"]));
    let error = &document["components"]["responses"]["Unavailable"]["content"];
    let error = resolved(&error["application/json"]["schema"], &document);
    assert_eq!(error["required"], json!(["message", "status"]));
}

#[tokio::test]
async fn parameters_are_told_by_place_type_and_whether_they_must_be_there() {
    let document = document(routes());
    let books = &document["paths"]["/shelves/{shelf}/books"]["get"];
    let told: Vec<_> = books["parameters"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| {
            let text = |name: &str| one[name].as_str().expect("text").to_owned();
            (text("name"), text("in"), one["required"] == true)
        })
        .collect();
    let expected = [
        ("shelf", "path", true),
        ("limit", "query", false),
        ("q", "query", true),
    ];
    let expected =
        expected.map(|(name, place, required)| (name.to_owned(), place.to_owned(), required));
    assert_eq!(told, expected);
    assert_eq!(books["parameters"][0]["schema"]["type"], "integer");
}

#[tokio::test]
async fn the_error_table_is_shared_and_credentials_are_told_of_only_where_they_are_asked_for() {
    let open = document(routes());
    let sum = &open["paths"]["/sum"]["post"]["responses"];
    let unavailable = json!({ "$ref": "#/components/responses/Unavailable" });
    assert_eq!(sum["503"], unavailable);
    assert!(sum["401"].is_null());
    assert_eq!(open["components"]["securitySchemes"], json!({}));
    let error = &open["components"]["schemas"]["Error"];
    assert_eq!(error["required"], json!(["message", "status"]));

    let keys = ApiKeys::new([("tester", "a-key-of-some-length")]).expect("valid");
    let public = Route::handler_fn(|_, _| async { "open" }).public();
    let guarded = document(routes().api_keys(keys).route("public", public));
    let scheme = &guarded["components"]["securitySchemes"]["apiKey"];
    assert_eq!(
        (&scheme["type"], &scheme["scheme"]),
        (&json!("http"), &json!("bearer"))
    );
    let sum = &guarded["paths"]["/sum"]["post"];
    assert_eq!(sum["security"], json!([{ "apiKey": [] }]));
    assert_eq!(
        sum["responses"]["401"]["$ref"],
        "#/components/responses/Unauthorized"
    );
    let public = &guarded["paths"]["/public"]["post"];
    assert!(public["security"].is_null() && public["responses"]["401"].is_null());
}

#[tokio::test]
async fn a_panic_of_a_description_is_an_error_for_whoever_asked() {
    let seeing = Seeing::new();
    let odd = Route::handler_fn(|_, _| async { "odd" }).describe(|_| panic!("secret-panic-text"));
    let builder = Ingress::builder().route("odd", odd).seeing(&seeing);
    let ingress = builder.build().expect("valid");
    let request = || {
        Request::get("/openapi.json")
            .body(Body::empty())
            .expect("valid")
    };
    assert_eq!(call(&ingress, request()).await.status, 500);
    // As well where nothing but it is served.
    let told = seeing.oneshot(request()).await.expect("infallible");
    assert_eq!(told.status(), 500);
    let told = told.into_body().collect().await.expect("in memory");
    let told = String::from_utf8_lossy(&told.to_bytes()).into_owned();
    assert!(told.contains("Error") && !told.contains("secret"), "{told}");
}

#[tokio::test]
async fn the_document_is_served_to_whoever_may_use_the_routes() {
    let seeing = Seeing::new();
    let keys = ApiKeys::new([("tester", "a-key-of-some-length")]).expect("valid");
    let ingress = routes()
        .api_keys(keys)
        .seeing(&seeing)
        .build()
        .expect("valid");
    let request = || Request::get("/openapi.json");

    let nobody = call(&ingress, request().body(Body::empty()).expect("valid")).await;
    assert_eq!(nobody.status, 401);
    let somebody = request().header("authorization", "Bearer a-key-of-some-length");
    let told = call(&ingress, somebody.body(Body::empty()).expect("valid")).await;
    assert_eq!(told.status, 200);
    assert_eq!(told.headers["content-type"], "application/json");
    assert_eq!(told.json, seeing.openapi());
}
