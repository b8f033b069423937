//! Bytes in, bytes out.

use bytes::Bytes;
use http::{HeaderValue, header::CONTENT_TYPE};

use crate::{Answer, Body, Codec, Context, ErrorAnswer};

/// The body is the message, the response is the answer's body; both as they are.
///
/// For modules whose message can be made `From<Bytes>`, and whose response can be made into
/// [`Bytes`]. The request's content type is ignored; the answer's is
/// `application/octet-stream`, or what [`content_type`](Self::content_type) says.
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use http::HeaderValue;
/// use spark_channel::SparkGenericModuleDispatcher;
/// use spark_http::{BytesCodec, ConfigError, Ingress};
///
/// fn ingress(thumbnails: SparkGenericModuleDispatcher<Bytes, Bytes>) -> Result<Ingress, ConfigError> {
///     let png = BytesCodec::new().content_type(HeaderValue::from_static("image/png"));
///     Ingress::builder().module("thumbnail", png, thumbnails).build()
/// }
/// ```
#[derive(Clone, Debug)]
pub struct BytesCodec {
    content_type: HeaderValue,
}

// === impl BytesCodec ===

impl BytesCodec {
    /// Makes the codec.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            content_type: HeaderValue::from_static("application/octet-stream"),
        }
    }

    /// The answers' content type. Default: `application/octet-stream`, which browsers neither
    /// show nor run.
    #[must_use]
    pub fn content_type(mut self, content_type: HeaderValue) -> Self {
        self.content_type = content_type;
        self
    }
}

impl<M: From<Bytes>, R: Into<Bytes>> Codec<M, R> for BytesCodec {
    fn decode(&self, _: &Context, body: Bytes) -> Result<M, ErrorAnswer> {
        Ok(body.into())
    }

    #[cfg(feature = "openapi")]
    fn describe(&self, operation: &mut crate::Operation<'_>) {
        let anything = || serde_json::json!({});
        operation.request_schema("*/*", anything());
        operation.optional_request();
        // A value that is no text would break the document, not the route.
        if let Ok(content_type) = self.content_type.to_str() {
            operation.response_schema(content_type, anything());
        }
    }

    fn encode(&self, _: &Context, response: R) -> Result<Answer, ErrorAnswer> {
        let mut answer = Answer::new(Body::from(response.into()));
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, self.content_type.clone());
        Ok(answer)
    }
}

impl Default for BytesCodec {
    fn default() -> Self {
        Self::new()
    }
}
