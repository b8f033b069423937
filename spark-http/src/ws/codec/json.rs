//! JSON with ids, so that several requests can be under way.

use std::{fmt, fmt::Display, marker::PhantomData};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::{WsAnswer, WsCall, WsCodec, WsRefusal};
use crate::{Context, ErrorAnswer, Verb, WsMessage, codec};

/// Text messages that are JSON envelopes around an `M`, answered around an `R`.
///
/// `M` and `R` meet the module's types as those of [`JsonCodec`](crate::JsonCodec) do.
///
/// | from the client | |
/// |---|---|
/// | `{"type": "request", "id": 1, "data": ..}` | a request; `type` may be left out |
/// | `{"type": "command", "data": ..}` | a command; with an `id` it is acknowledged |
///
/// | to the client | |
/// |---|---|
/// | `{"type": "response", "id": 1, "data": ..}` | answers a request |
/// | `{"type": "accepted", "id": 1}` | a command is in the module's mailbox |
/// | `{"type": "error", "id": 1, "status": 404, "message": ..}` | what the [error table](crate#errors) has; `pointer` as there |
/// | `{"type": "event", "name": .., "data": ..}` | from a topic, by [`WsMessage::event`] |
///
/// An id is a string or an integer (of 64 bits) of the client's choice; answers come as they are ready, so it should
/// not be one that is under way. `data` may be left out, which is `null`. Text that is no such envelope
/// closes the socket with 1007, binary messages with 1003.
pub struct WsJson<M, R>(PhantomData<fn(M) -> R>);

/// What a client of [`WsJson`] calls a message of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WsId(Option<IdWire>);

#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(untagged, expecting = "an id is a string or an integer of 64 bits")]
enum IdWire {
    // Not `Number`: what has no place in an integer would come back as another number.
    Unsigned(u64),
    Signed(i64),
    Text(String),
}

#[derive(Deserialize)]
struct CallWire<'a> {
    #[serde(rename = "type", default)]
    kind: KindWire,
    #[serde(default)]
    id: Option<IdWire>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KindWire {
    #[default]
    Request,
    Command,
}

#[derive(Serialize)]
struct AnswerWire<'a, T> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a IdWire>,
    #[serde(flatten)]
    rest: T,
}

#[derive(Serialize)]
struct DataWire<T> {
    data: T,
}

#[derive(Serialize)]
struct Nothing {}

#[derive(Serialize)]
struct ErrorWire<'a> {
    status: u16,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<&'a str>,
}

// === impl WsJson ===

impl<M, R> WsJson<M, R> {
    /// Makes the codec.
    #[must_use]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<M, R, Message, Response> WsCodec<Message, Response> for WsJson<M, R>
where
    M: DeserializeOwned + 'static,
    R: Serialize + TryFrom<Response, Error: Display> + 'static,
    Message: TryFrom<M, Error: Display>,
{
    type Id = WsId;

    fn decode(
        &self,
        _: &Context,
        message: WsMessage,
    ) -> Result<WsCall<Message, WsId>, WsRefusal<WsId>> {
        let Some(text) = message.as_text() else {
            return Err(WsRefusal::Unsupported("this socket takes text"));
        };
        let CallWire { kind, id, data } =
            serde_json::from_str(text).map_err(|error| WsRefusal::Malformed(error.to_string()))?;
        let id = WsId(id);
        let verb = match kind {
            KindWire::Request if id.0.is_none() => {
                let error = ErrorAnswer::bad_body("a request needs an id").with_pointer("/id");
                return Err(WsRefusal::Answer { id, error });
            }
            KindWire::Request => Verb::Request,
            KindWire::Command => Verb::Command,
        };
        let data = data.map_or("null", RawValue::get);
        let made = codec::json::parse::<M>(data.as_bytes())
            .map_err(|error| error.within("/data"))
            .and_then(|wire| Message::try_from(wire).map_err(ErrorAnswer::bad_body));
        match made {
            Ok(message) => Ok(WsCall { verb, id, message }),
            Err(error) => Err(WsRefusal::Answer { id, error }),
        }
    }

    fn encode(
        &self,
        _: &Context,
        WsId(id): &WsId,
        answer: WsAnswer<Response>,
    ) -> Result<Option<WsMessage>, ErrorAnswer> {
        let id = id.as_ref();
        match answer {
            WsAnswer::Response(response) => {
                let data = R::try_from(response).map_err(ErrorAnswer::internal)?;
                told("response", id, DataWire { data })
            }
            // Nobody would know which one.
            WsAnswer::Accepted if id.is_none() => Ok(None),
            WsAnswer::Accepted => told("accepted", id, Nothing {}),
            WsAnswer::Error(error) => {
                let wire = ErrorWire {
                    status: error.status().as_u16(),
                    message: error.message(),
                    pointer: error.pointer(),
                };
                told("error", id, wire)
            }
        }
    }
}

impl<M, R> Clone for WsJson<M, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M, R> Copy for WsJson<M, R> {}

impl<M, R> Default for WsJson<M, R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M, R> fmt::Debug for WsJson<M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WsJson")
    }
}

fn told(
    kind: &'static str,
    id: Option<&IdWire>,
    rest: impl Serialize,
) -> Result<Option<WsMessage>, ErrorAnswer> {
    let message = WsMessage::json(&AnswerWire { kind, id, rest });
    message.map(Some).map_err(ErrorAnswer::internal)
}
