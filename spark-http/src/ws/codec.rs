//! How messages of a WebSocket become a module's, and its responses messages.

use crate::{Context, ErrorAnswer, Verb, WsMessage};

mod json;
mod text;

pub use json::{WsId, WsJson};
pub use text::WsText;

/// Translates between the messages of a [`WebSocket`](crate::WebSocket) and a module's types.
///
/// [`WsJson`] and [`WsText`] are two; this is the trait for one's own. The context is that of the
/// request which opened the socket, so it knows path, query, headers, peer and identity. Runs on the
/// connection's task, so it should be quick. A panic in it closes the socket (1011), without its
/// text.
pub trait WsCodec<Message, Response>: Send + Sync + 'static {
    /// By which the client knows again what an answer is to.
    type Id: Send + 'static;

    /// Makes the message.
    ///
    /// # Errors
    ///
    /// What happens instead of running the handler.
    fn decode(
        &self,
        context: &Context,
        message: WsMessage,
    ) -> Result<WsCall<Message, Self::Id>, WsRefusal<Self::Id>>;

    /// Makes the answer; `None` if nothing is to be sent.
    ///
    /// # Errors
    ///
    /// The error to encode in its place. If that fails as well, the socket is closed (1011).
    fn encode(
        &self,
        context: &Context,
        id: &Self::Id,
        answer: WsAnswer<Response>,
    ) -> Result<Option<WsMessage>, ErrorAnswer>;

    /// Whether answers may come in another order than their requests, because each has the id of
    /// its own. If not, one message is dealt with at a time. Default: they may.
    fn is_correlated(&self) -> bool {
        true
    }
}

/// What a message of a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WsCall<Message, Id> {
    /// How it is sent to the module.
    pub verb: Verb,
    /// What the client calls it.
    pub id: Id,
    /// The module's message.
    pub message: Message,
}

/// What becomes of a message that was read.
#[derive(Clone, Debug)]
pub enum WsAnswer<Response> {
    /// A request was answered.
    Response(Response),
    /// A command is in the module's mailbox.
    Accepted,
    /// It failed, or was refused.
    Error(ErrorAnswer),
}

/// Why a message of a client is not sent to the module.
#[derive(Clone, Debug)]
pub enum WsRefusal<Id> {
    /// It is answered with an error, and the socket goes on.
    Answer {
        /// What the client calls it.
        id: Id,
        /// The answer.
        error: ErrorAnswer,
    },
    /// It is of a kind that this socket does not take, text or binary: closes with 1003.
    Unsupported(&'static str),
    /// It is not what the protocol of this socket has: closes with 1007, and as much of the text as
    /// fits.
    Malformed(String),
}
