//! The envelope that `manager_handlers` documents: who sends, what, and whether it waits.

use std::fmt::Display;

use bytes::Bytes;
use serde::Deserialize;

use super::json;
use crate::{Answer, Codec, Context, ErrorAnswer, Verb, answer};

/// The body is `{"type": .., "src": .., "data": ..}`; the answer is that of
/// [`TextCodec`](crate::TextCodec).
///
/// This is the body that the documentation of `manager_handlers` 0.7.2 shows, with its answers.
/// There it reached the handler as text, to be taken apart by each; here `data` and `src`
/// are what a module's message is made of. `type` says what the words mean on that crate's bus:
///
/// | `type` | is | answered with |
/// |---|---|---|
/// | `request`, `publish` | a request | 200 `{"message": .., "status": "Ok"}` |
/// | `command`, `dispatch` | a command | 202, no body |
///
/// A body without `src` comes from `""`, one without `type` is a request. `data` is a string;
/// fields beside these are ignored. A content type other than JSON is a 415, as with
/// [`JsonCodec`](crate::JsonCodec).
///
/// For modules whose message can be made `From<`[`Envelope`]`>`, of which `String` is one: it gets
/// the data. The response implements `Display`.
///
/// `src` is whatever the client says. It is no identity.
#[derive(Clone, Copy, Debug, Default)]
pub struct EnvelopeCodec;

/// What an [`EnvelopeCodec`] has read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Who says to have sent it.
    pub src: String,
    /// What it is about.
    pub data: String,
}

#[derive(Deserialize)]
struct Wire {
    #[serde(rename = "type", default)]
    kind: Kind,
    #[serde(default)]
    src: String,
    data: String,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    #[default]
    Request,
    Publish,
    Command,
    Dispatch,
}

// === impl EnvelopeCodec ===

impl<M: From<Envelope>, R: Display> Codec<M, R> for EnvelopeCodec {
    fn decode(&self, context: &Context, body: Bytes) -> Result<M, ErrorAnswer> {
        let (_, message) = Codec::<M, R>::decode_call(self, context, body)?;
        Ok(message)
    }

    fn decode_call(&self, context: &Context, body: Bytes) -> Result<(Verb, M), ErrorAnswer> {
        json::expect(context.headers())?;
        let Wire { kind, src, data } = json::parse(&body)?;
        Ok((kind.verb(), Envelope { src, data }.into()))
    }

    #[cfg(feature = "openapi")]
    fn describe(&self, operation: &mut crate::Operation<'_>) {
        let schema = serde_json::json!({
            "type": "object",
            "properties": {
                "type": { "enum": ["request", "publish", "command", "dispatch"] },
                "src": { "type": "string" },
                "data": { "type": "string" },
            },
            "required": ["data"],
        });
        operation
            .request_schema("application/json", schema)
            .text_response();
    }

    fn encode(&self, _: &Context, response: R) -> Result<Answer, ErrorAnswer> {
        answer::text(response)
    }
}

// === impl Envelope ===

impl From<Envelope> for String {
    fn from(envelope: Envelope) -> Self {
        envelope.data
    }
}

// === impl Kind ===

impl Kind {
    fn verb(self) -> Verb {
        match self {
            Self::Request | Self::Publish => Verb::Request,
            Self::Command | Self::Dispatch => Verb::Command,
        }
    }
}
