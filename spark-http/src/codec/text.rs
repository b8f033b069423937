//! Raw text in, a small JSON object out.

use std::fmt::Display;

use bytes::Bytes;

use crate::{Answer, Codec, Context, ErrorAnswer, answer};

/// The body is the message; the answer is `{"message": <text>, "status": "Ok"}`.
///
/// Wire compatible with `manager_handlers` 0.7.2, except that a body that is not
/// UTF-8 is answered with 400 where that replaced what it could not read. The
/// content type is ignored, and so is the query.
///
/// For modules whose message can be made `From<String>` and whose response
/// implements `Display`.
#[derive(Clone, Copy, Debug, Default)]
pub struct TextCodec;

// === impl TextCodec ===

impl<M: From<String>, R: Display> Codec<M, R> for TextCodec {
    fn decode(&self, _: &Context, body: Bytes) -> Result<M, ErrorAnswer> {
        match String::from_utf8(body.into()) {
            Ok(text) => Ok(text.into()),
            Err(error) => Err(ErrorAnswer::bad_body(format_args!(
                "body is not UTF-8 at byte {}",
                error.utf8_error().valid_up_to()
            ))),
        }
    }

    #[cfg(feature = "openapi")]
    fn describe(&self, operation: &mut crate::Operation<'_>) {
        operation.request::<str>("text/plain").optional_request();
        operation.text_response();
    }

    fn encode(&self, _: &Context, response: R) -> Result<Answer, ErrorAnswer> {
        answer::text(response)
    }
}
