//! Plain text in.

use std::fmt::Display;

use super::{WsAnswer, WsCall, WsCodec, WsRefusal};
use crate::{Context, ErrorAnswer, Verb, WsMessage, answer};

/// A text message is a request; its answer is what [`TextCodec`](crate::TextCodec) would answer.
///
/// That is `{"message": .., "status": "Ok"}`, or `"Error"`. Answers come in the order of the
/// requests, which are dealt with one at a time. Binary messages close the socket (1003).
///
/// For modules whose message can be made `From<String>` and whose response implements `Display`.
#[derive(Clone, Copy, Debug, Default)]
pub struct WsText;

// === impl WsText ===

impl<M: From<String>, R: Display> WsCodec<M, R> for WsText {
    type Id = ();

    fn decode(&self, _: &Context, message: WsMessage) -> Result<WsCall<M, ()>, WsRefusal<()>> {
        let Some(text) = message.as_text() else {
            return Err(WsRefusal::Unsupported("this socket takes text"));
        };
        Ok(WsCall {
            verb: Verb::Request,
            id: (),
            message: text.to_owned().into(),
        })
    }

    fn encode(
        &self,
        _: &Context,
        (): &(),
        answer: WsAnswer<R>,
    ) -> Result<Option<WsMessage>, ErrorAnswer> {
        let answer = match answer {
            WsAnswer::Response(response) => answer::text(response)?,
            WsAnswer::Accepted => return Ok(None),
            WsAnswer::Error(error) => error.into_response(),
        };
        let json = String::from_utf8(answer.into_body().into_bytes().into());
        Ok(Some(WsMessage::text(json.map_err(ErrorAnswer::internal)?)))
    }

    fn is_correlated(&self) -> bool {
        false
    }
}
