//! One message of a WebSocket, whole.

use bytes::Bytes;
use serde::Serialize;
use tokio_tungstenite::tungstenite::{Message as Wire, Utf8Bytes};

/// One message of a WebSocket, in either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WsMessage(Kind);

/// Error of a message that cannot be told on the wire: its data is not JSON.
#[derive(Debug, thiserror::Error)]
#[error("the data of a message is not JSON")]
pub struct InvalidWsMessage(#[source] serde_json::Error);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Text(Utf8Bytes),
    Binary(Bytes),
}

#[derive(Serialize)]
struct EventWire<'a, T: ?Sized> {
    #[serde(rename = "type")]
    kind: &'static str,
    name: &'a str,
    data: &'a T,
}

// === impl WsMessage ===

impl WsMessage {
    /// A text message.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self(Kind::Text(text.into().into()))
    }

    /// A binary message.
    #[must_use]
    pub fn binary(bytes: impl Into<Bytes>) -> Self {
        Self(Kind::Binary(bytes.into()))
    }

    /// A text message that is the JSON of `value`.
    ///
    /// # Errors
    ///
    /// [`InvalidWsMessage`], as serde has it.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, InvalidWsMessage> {
        let json = serde_json::to_string(value).map_err(InvalidWsMessage)?;
        Ok(Self::text(json))
    }

    /// `{"type": "event", "name": .., "data": ..}`: an event as clients of [`WsJson`](crate::WsJson)
    /// expect it.
    ///
    /// # Errors
    ///
    /// As [`json`](Self::json).
    pub fn event<T: Serialize + ?Sized>(name: &str, data: &T) -> Result<Self, InvalidWsMessage> {
        let kind = "event";
        Self::json(&EventWire { kind, name, data })
    }

    /// The text of a text message.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match &self.0 {
            Kind::Text(text) => Some(text),
            Kind::Binary(_) => None,
        }
    }

    /// The bytes of a message of either kind.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        match self.0 {
            Kind::Text(text) => text.into(),
            Kind::Binary(bytes) => bytes,
        }
    }

    /// How many bytes it has.
    pub(super) fn len(&self) -> usize {
        match &self.0 {
            Kind::Text(text) => text.len(),
            Kind::Binary(bytes) => bytes.len(),
        }
    }

    pub(super) fn into_wire(self) -> Wire {
        match self.0 {
            Kind::Text(text) => Wire::Text(text),
            Kind::Binary(bytes) => Wire::Binary(bytes),
        }
    }

    /// `None` for what is no message of the application's.
    pub(super) fn from_wire(wire: Wire) -> Option<Self> {
        match wire {
            Wire::Text(text) => Some(Self(Kind::Text(text))),
            Wire::Binary(bytes) => Some(Self(Kind::Binary(bytes))),
            Wire::Ping(_) | Wire::Pong(_) | Wire::Close(_) | Wire::Frame(_) => None,
        }
    }
}
