//! How a request becomes a module's message, and its response an answer.

use ::bytes::Bytes;

#[cfg(feature = "openapi")]
use crate::Operation;
use crate::{Answer, Context, ErrorAnswer};

mod bytes;
mod envelope;
mod from_fn;
pub(crate) mod json;
mod params;
mod text;

pub use bytes::BytesCodec;
pub use envelope::{Envelope, EnvelopeCodec};
pub use from_fn::{CodecFn, codec_fn};
pub use json::JsonCodec;
pub use params::{ParamsCodec, WithParams};
pub use text::TextCodec;

/// How a message is sent to a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// It is answered.
    Request,
    /// It is not; the client learns that it was accepted (202).
    Command,
}

/// Translates between HTTP and a module's types.
///
/// Runs on the connection's task, so it should be quick; what takes long belongs
/// into the module. A panic in it is answered like one in a handler.
///
/// # Examples
///
/// A codec that puts a header into the message:
///
/// ```
/// use bytes::Bytes;
/// use spark_http::{Answer, Body, Codec, Context, ErrorAnswer};
///
/// struct Upload { kind: String, data: Bytes }
///
/// struct UploadCodec;
///
/// impl Codec<Upload, Bytes> for UploadCodec {
///     fn decode(&self, context: &Context, body: Bytes) -> Result<Upload, ErrorAnswer> {
///         let kind = context.headers().get("content-type").and_then(|kind| kind.to_str().ok());
///         match kind {
///             Some(kind) => Ok(Upload { kind: kind.to_owned(), data: body }),
///             None => Err(ErrorAnswer::unsupported_media_type("any")),
///         }
///     }
///
///     fn encode(&self, _: &Context, response: Bytes) -> Result<Answer, ErrorAnswer> {
///         Ok(Answer::new(Body::from(response)))
///     }
/// }
/// ```
pub trait Codec<Message, Response>: Send + Sync + 'static {
    /// Makes the message. The body is complete: a request cut in the middle never
    /// comes here.
    ///
    /// # Errors
    ///
    /// The answer to send instead of running the handler.
    fn decode(&self, context: &Context, body: Bytes) -> Result<Message, ErrorAnswer>;

    /// Makes the message, and says whether it asks for an answer. Called by
    /// [`Route::module`](crate::Route::module) in place of [`decode`](Self::decode), which is
    /// what it does if not implemented, for a request.
    ///
    /// # Errors
    ///
    /// As [`decode`](Self::decode).
    fn decode_call(&self, context: &Context, body: Bytes) -> Result<(Verb, Message), ErrorAnswer> {
        Ok((Verb::Request, self.decode(context, body)?))
    }

    /// Describes what it reads and writes, for the OpenAPI document. Says nothing if not
    /// implemented.
    #[cfg(feature = "openapi")]
    fn describe(&self, operation: &mut Operation<'_>) {
        let _ = operation;
    }

    /// Makes the answer.
    ///
    /// # Errors
    ///
    /// The answer to send instead.
    fn encode(&self, context: &Context, response: Response) -> Result<Answer, ErrorAnswer>;
}
