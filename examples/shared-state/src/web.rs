//! What the store looks like from outside.

use futures_util::StreamExt as _;
use http::{Method, StatusCode};
use serde_json::json;
use spark_channel::{ModuleHandle, SparkChannelCancellationToken, SparkGenericModuleDispatcher};
use spark_http::{
    Codec, ErrorAnswer, Ingress, InvalidSseEvent, Json, JsonCodec, Route, Seeing, ServerHandle,
    Sse, SseEvent, codec_fn,
};
use spark_state::{
    StateError, StateValue, WireValue,
    module::{StateModuleError, StateReply, StateRequest, Watch, WireReply, WireRequest},
};

type Dispatcher = SparkGenericModuleDispatcher<
    StateRequest,
    StateReply,
    SparkChannelCancellationToken,
    StateModuleError,
>;

type Handle =
    ModuleHandle<StateRequest, StateReply, SparkChannelCancellationToken, StateModuleError>;

/// # Errors
///
/// If the routes do not fit together.
pub(crate) fn ingress(module: &Handle, server: &ServerHandle) -> eyre::Result<Ingress> {
    let seeing = Seeing::named("shared-state", env!("CARGO_PKG_VERSION"));
    seeing.watch_server("shared-state", server);
    let ingress = Ingress::builder()
        .path("/state", requests(module.dispatcher()))
        .path("/watch/{key}", watching(module.dispatcher()))
        .seeing(&seeing);
    Ok(ingress.build()?)
}

/// Lines for whoever has started the program.
pub(crate) fn commands(address: &str) -> String {
    let post = |request: &str| {
        format!("curl http://{address}/state -H 'content-type: application/json' -d '{request}'")
    };
    [
        post(r#"{"do": "increment", "key": "hits", "by": 1}"#),
        post(r#"{"do": "insert", "key": "tea", "value": {"kind": "json", "value": {"price": 3}}, "ttl_ms": 60000}"#),
        post(r#"{"do": "merge", "key": "tea", "patch": {"price": 4}}"#),
        post(r#"{"do": "get", "key": "tea"}"#),
        post(r#"{"do": "call", "key": "double", "argument": {"kind": "long", "value": 21}}"#),
        post(r#"{"do": "keys"}"#),
        format!("curl -N http://{address}/watch/hits"),
    ]
    .join("\n")
}

fn requests(dispatcher: Dispatcher) -> Route {
    let json = JsonCodec::<WireRequest, WireReply>::new();
    let codec = codec_fn(
        move |context, body| Codec::<StateRequest, WireReply>::decode(&json, context, body),
        |_, reply: StateReply| {
            WireReply::try_from(reply)
                .map(Json)
                .map_err(|error| state_error(&error))
        },
    );
    Route::module_with(codec, dispatcher, error).methods([Method::POST])
}

fn watching(dispatcher: Dispatcher) -> Route {
    Route::handler_fn(move |context, _| {
        let dispatcher = dispatcher.clone();
        async move {
            let key: String = context.path()?;
            let values = dispatcher.call(Watch::new(key)).await.map_err(error)?;
            Ok::<_, ErrorAnswer>(Sse::new(&context, values.map(event)))
        }
    })
    .methods([Method::GET])
}

/// `null` is a key without a value; what cannot leave the process is named.
fn event(value: Result<Option<StateValue>, StateError>) -> Result<SseEvent, InvalidSseEvent> {
    match value.and_then(|value| value.map(WireValue::try_from).transpose()) {
        Ok(value) => SseEvent::json(&value),
        Err(error) => SseEvent::json(&json!({ "error": error.to_string() })),
    }
}

fn error(error: StateModuleError) -> ErrorAnswer {
    match error {
        StateModuleError::State(error) => state_error(&error),
        StateModuleError::Call(error) => error.into(),
    }
}

fn state_error(error: &StateError) -> ErrorAnswer {
    let status = match error {
        StateError::Missing { .. } => StatusCode::NOT_FOUND,
        StateError::WrongType { .. }
        | StateError::Conflict { .. }
        | StateError::NotAFunction { .. }
        | StateError::Overflow => StatusCode::CONFLICT,
        StateError::Full { .. } => StatusCode::INSUFFICIENT_STORAGE,
        StateError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        StateError::NotSerialisable { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        // Faults of the program. What they say is for its log.
        other => return ErrorAnswer::internal(other),
    };
    ErrorAnswer::new(status, error.to_string())
}
