//! A codec made of two functions.

use std::fmt;

use bytes::Bytes;

use crate::{Answer, Codec, Context, ErrorAnswer, IntoAnswer};

/// A [`Codec`] made by [`codec_fn`].
#[derive(Clone, Copy)]
pub struct CodecFn<D, E> {
    decode: D,
    encode: E,
}

/// Makes a [`Codec`] of one function for each way.
///
/// What `encode` returns may be anything that a handler function may return.
///
/// # Examples
///
/// A message made of path, query, header and body; a status and a header of one's own:
///
/// ```
/// use bytes::Bytes;
/// use http::{HeaderMap, HeaderValue, StatusCode};
/// use serde::{Deserialize, Serialize};
/// use spark_http::{Codec, Context, ErrorAnswer, Json, codec_fn};
///
/// struct Put { shelf: u32, dry_run: bool, agent: Option<String>, label: Bytes }
///
/// #[derive(Serialize)]
/// struct Stored { id: u64 }
///
/// #[derive(Deserialize)]
/// struct Options {
///     #[serde(default)]
///     dry_run: bool,
/// }
///
/// fn codec() -> impl Codec<Put, u64> {
///     codec_fn(
///         |context: &Context, body: Bytes| {
///             let agent = context.headers().get("user-agent").and_then(|agent| agent.to_str().ok());
///             Ok(Put {
///                 shelf: context.path()?,
///                 dry_run: context.query_as::<Options>()?.dry_run,
///                 agent: agent.map(str::to_owned),
///                 label: body,
///             })
///         },
///         |_: &Context, id: u64| {
///             let mut headers = HeaderMap::new();
///             headers.insert("x-shelf", HeaderValue::from_static("new"));
///             (StatusCode::CREATED, headers, Json(Stored { id }))
///         },
///     )
/// }
/// ```
pub fn codec_fn<M, R, A, D, E>(decode: D, encode: E) -> CodecFn<D, E>
where
    D: Fn(&Context, Bytes) -> Result<M, ErrorAnswer> + Send + Sync + 'static,
    E: Fn(&Context, R) -> A + Send + Sync + 'static,
    A: IntoAnswer,
{
    CodecFn { decode, encode }
}

// === impl CodecFn ===

impl<M, R, A, D, E> Codec<M, R> for CodecFn<D, E>
where
    D: Fn(&Context, Bytes) -> Result<M, ErrorAnswer> + Send + Sync + 'static,
    E: Fn(&Context, R) -> A + Send + Sync + 'static,
    A: IntoAnswer,
{
    fn decode(&self, context: &Context, body: Bytes) -> Result<M, ErrorAnswer> {
        (self.decode)(context, body)
    }

    fn encode(&self, context: &Context, response: R) -> Result<Answer, ErrorAnswer> {
        (self.encode)(context, response).into_answer()
    }
}

impl<D, E> fmt::Debug for CodecFn<D, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CodecFn")
    }
}
