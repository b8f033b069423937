//! JSON in, JSON out.

use std::{fmt, fmt::Display, marker::PhantomData};

use bytes::Bytes;
use http::{HeaderMap, header::CONTENT_TYPE};
#[cfg(feature = "openapi")]
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
#[cfg(feature = "openapi")]
use serde_json::{Map, Value};
use serde_path_to_error::{Path, Segment};

#[cfg(feature = "openapi")]
use crate::Operation;
use crate::{Answer, Codec, Context, ErrorAnswer, answer};

/// The body is the JSON of an `M`; the answer is the JSON of an `R`, with nothing around it.
///
/// `M` and `R` are the shapes on the wire. The module keeps its own types: its
/// message is made from `M`, and `R` from its response, by `From`, or by `TryFrom`
/// where that can fail: a message that cannot be made is a 400 with the error's
/// text, a response that cannot is a 500 without. A module whose own types are
/// serde's can be its own wire.
///
/// A content type other than JSON (`application/json`, `application/*+json`), or none,
/// is a 415: a browser sends those only after asking this server. JSON that does not
/// fit is a 400 whose `pointer` says where.
///
/// # Examples
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use spark_channel::SparkGenericModuleDispatcher;
/// use spark_http::{ConfigError, Ingress, JsonCodec};
///
/// #[derive(Deserialize)]
/// struct Add { a: i64, b: i64 }
///
/// #[derive(Serialize)]
/// struct Sum { sum: i64 }
///
/// fn ingress(sums: SparkGenericModuleDispatcher<Add, Sum>) -> Result<Ingress, ConfigError> {
///     Ingress::builder().module("sum", JsonCodec::<Add, Sum>::new(), sums).build()
/// }
/// ```
pub struct JsonCodec<M, R> {
    types: PhantomData<fn(M) -> R>,
    #[cfg(feature = "openapi")]
    describe: fn(&mut Operation<'_>),
}

// === impl JsonCodec ===

impl<M, R> JsonCodec<M, R> {
    /// Makes the codec.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            types: PhantomData,
            #[cfg(feature = "openapi")]
            describe: |operation| {
                operation.request_schema("application/json", Value::Object(Map::new()));
            },
        }
    }

    /// Describes `M` and `R` in the OpenAPI document, where there is nothing of their fields
    /// otherwise.
    #[cfg(feature = "openapi")]
    #[must_use]
    pub const fn described(mut self) -> Self
    where
        M: JsonSchema,
        R: JsonSchema,
    {
        self.describe = |operation| {
            operation.request::<M>("application/json");
            operation.response::<R>("application/json");
        };
        self
    }
}

impl<M, R, Message, Response> Codec<Message, Response> for JsonCodec<M, R>
where
    M: DeserializeOwned + 'static,
    R: Serialize + TryFrom<Response, Error: Display> + 'static,
    Message: TryFrom<M, Error: Display>,
{
    fn decode(&self, context: &Context, body: Bytes) -> Result<Message, ErrorAnswer> {
        expect(context.headers())?;
        let wire: M = parse(&body)?;
        Message::try_from(wire).map_err(ErrorAnswer::bad_body)
    }

    #[cfg(feature = "openapi")]
    fn describe(&self, operation: &mut Operation<'_>) {
        (self.describe)(operation);
    }

    fn encode(&self, _: &Context, response: Response) -> Result<Answer, ErrorAnswer> {
        let wire = R::try_from(response).map_err(ErrorAnswer::internal)?;
        answer::json(&wire)
    }
}

impl<M, R> Clone for JsonCodec<M, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M, R> Copy for JsonCodec<M, R> {}

impl<M, R> Default for JsonCodec<M, R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M, R> fmt::Debug for JsonCodec<M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JsonCodec")
    }
}

/// Fails unless the headers say that the body is JSON.
pub(super) fn expect(headers: &HeaderMap) -> Result<(), ErrorAnswer> {
    if is_json(headers) {
        Ok(())
    } else {
        Err(ErrorAnswer::unsupported_media_type("application/json"))
    }
}

pub(crate) fn parse<M: DeserializeOwned>(body: &[u8]) -> Result<M, ErrorAnswer> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let parsed = match serde_path_to_error::deserialize(&mut json) {
        Ok(parsed) => parsed,
        Err(error) => {
            let pointer = pointer(error.path());
            return Err(ErrorAnswer::bad_body(error.inner()).with_pointer(pointer));
        }
    };
    match json.end() {
        Ok(()) => Ok(parsed),
        Err(error) => Err(ErrorAnswer::bad_body(error)),
    }
}

/// RFC 6901. Ends where the parser lost its way.
fn pointer(path: &Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        let step = match segment {
            Segment::Seq { index } => index.to_string(),
            Segment::Map { key } => key.replace('~', "~0").replace('/', "~1"),
            Segment::Enum { variant } => variant.replace('~', "~0").replace('/', "~1"),
            Segment::Unknown => break,
        };
        pointer.push('/');
        pointer.push_str(&step);
    }
    pointer
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(content_type)) = headers.get(CONTENT_TYPE).map(|value| value.to_str()) else {
        return false;
    };
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let Some((kind, subtype)) = essence.split_once('/') else {
        return false;
    };
    let suffix = subtype
        .rsplit_once('+')
        .map_or(subtype, |(_, suffix)| suffix);
    kind.eq_ignore_ascii_case("application") && suffix.eq_ignore_ascii_case("json")
}
