//! What the modules look like from outside.

use std::time::Duration;

use serde_json::{Value, json};
use spark_channel::Backlog;
use spark_http::{
    ErrorAnswer, Ingress, Json, JsonCodec, ModuleError, Route, Seeing, ServerHandle, SseEvent,
    TextCodec, TopicEvents, WebSocket, WsJson, WsMessage, codec_fn,
};

use crate::{
    modules::{Modules, Published, Sum, SumError, Summands},
    options::{Options, Shutdown},
};

/// # Errors
///
/// If the options do not fit together.
pub(crate) fn ingress(
    options: &Options,
    modules: &Modules,
    server: &ServerHandle,
) -> eyre::Result<Ingress> {
    let mut ingress = Ingress::builder().api_keys(options.api_keys()?);
    if let Some(bytes) = options.body_limit {
        ingress = ingress.body_limit(bytes);
    }
    if let Some(timeout) = options.handler_timeout() {
        ingress = ingress.handler_timeout(timeout);
    }
    ingress = match options.shutdown()? {
        Shutdown::Off => ingress,
        Shutdown::ByCredential(credential) => ingress.shutdown_route(server.clone(), credential),
        Shutdown::ByApiKey => ingress.route("shutdown", shutdown(server.clone())),
    };
    if let Some(requests) = options.max_in_flight {
        ingress = ingress.max_in_flight(requests);
    }
    if let Some(requests) = options.queue {
        ingress = ingress.queue(requests);
    }
    let seeing = Seeing::named("ingress", env!("CARGO_PKG_VERSION"));
    seeing.watch_server("ingress", server);

    let ingress = ingress
        .module("echo", TextCodec, modules.echo.dispatcher())
        .route("fail", fail(modules))
        .route("panics", panics(modules))
        .route("slow", slow(options, modules))
        .module(
            "sum",
            JsonCodec::<Summands, Sum>::new().described(),
            modules.sum.dispatcher(),
        )
        .path("/events", publish(modules))
        .path("/events", events(modules))
        .seeing(&seeing);
    Ok(ingress.build()?)
}

impl ModuleError for SumError {
    fn into_error_answer(self) -> ErrorAnswer {
        match self {
            Self::TooLarge => ErrorAnswer::bad_body("the sum is no integer of 64 bits"),
            Self::Call(error) => error.into(),
        }
    }
}

/// For whoever has an API key, as every other route.
fn shutdown(server: ServerHandle) -> Route {
    Route::handler_fn(move |_, _| {
        server.drain();
        async { Json(json!({ "status": "Shutting down" })) }
    })
}

fn fail(modules: &Modules) -> Route {
    let route = Route::module(TextCodec, modules.fail.dispatcher());
    route.describe(|operation| {
        operation.summary("Fails with what it was sent: always a 500");
    })
}

fn panics(modules: &Modules) -> Route {
    let route = Route::module(TextCodec, modules.panics.dispatcher());
    route.describe(|operation| {
        operation.summary("Panics with what it was sent: always a 500, which does not say it");
    })
}

fn slow(options: &Options, modules: &Modules) -> Route {
    let codec = codec_fn(
        |_, body| {
            let text = str::from_utf8(&body).map_err(ErrorAnswer::bad_body)?;
            let milliseconds = text.trim().parse().map_err(ErrorAnswer::bad_body)?;
            Ok(Duration::from_millis(milliseconds))
        },
        |_, slept: Duration| format!("slept {} ms", slept.as_millis()),
    );
    let route = Route::module(codec, modules.slow.dispatcher());
    let mut route = route.concurrency(1).queue(2).describe(|operation| {
        let milliseconds = json!({ "type": "integer", "minimum": 0, "maximum": 60_000 });
        operation
            .summary("Sleeps as many milliseconds as it is sent, one request at a time")
            .request_schema(TEXT, milliseconds)
            .response_schema("application/json", message());
    });
    if let Some(timeout) = options.slow_timeout() {
        route = route.handler_timeout(timeout);
    }
    route
}

fn publish(modules: &Modules) -> Route {
    let codec = codec_fn(
        |_, body| String::from_utf8(body.to_vec()).map_err(ErrorAnswer::bad_body),
        |_, Published { number }| format!("published {number}"),
    );
    let route = Route::module(codec, modules.events.dispatcher());
    route.describe(|operation| {
        operation
            .summary("Publishes what it is sent")
            .request::<String>(TEXT)
            .optional_request()
            .response_schema("application/json", message());
    })
}

fn events(modules: &Modules) -> Route {
    let events = TopicEvents::new(
        modules.published.clone(),
        || Backlog::drop_oldest(256),
        |event| SseEvent::json(&event)?.id(event.number.to_string()),
    );
    // `{"id": 1, "data": "text"}` publishes, as POST does.
    let socket = WebSocket::new(
        WsJson::<String, Published>::new(),
        modules.events.dispatcher(),
    )
    .events(
        modules.published.clone(),
        || Backlog::drop_oldest(256),
        |event| WsMessage::event("published", &event),
    )
    .otherwise(Route::topic_events(events));
    Route::websocket(socket).describe(|operation| {
        operation
            .summary("Everything published from now on: server-sent events, or a WebSocket")
            .description("It does not end before the server does.")
            .response::<String>("text/event-stream");
    })
}

/// What a text becomes that is answered.
fn message() -> Value {
    json!({
        "type": "object",
        "properties": { "message": { "type": "string" }, "status": { "const": "Ok" } },
        "required": ["message", "status"],
    })
}

const TEXT: &str = "text/plain";
