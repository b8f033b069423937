//! Messages made of a request's parameters.

use std::{fmt, fmt::Display, marker::PhantomData};

use bytes::Bytes;
#[cfg(feature = "openapi")]
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

#[cfg(feature = "openapi")]
use crate::Operation;
use crate::{Answer, Codec, Context, ErrorAnswer, Verb, answer};

/// Path and query parameters are the message `P`; the answer is the JSON of an `R`.
///
/// For routes that are read with GET: the body is ignored. `P` and `R` are shapes on the wire, as
/// those of [`JsonCodec`](crate::JsonCodec) are, and meet the module's types in the same way.
/// How text becomes `P` is told at [`Context::params`].
///
/// # Examples
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use spark_channel::SparkGenericModuleDispatcher;
/// use spark_http::{ParamsCodec, Route};
///
/// #[derive(Deserialize)]
/// struct Search {
///     q: String,
///     #[serde(default)]
///     tag: Vec<String>, // ?q=lamp&tag=red&tag=small
/// }
///
/// #[derive(Serialize)]
/// struct Found { names: Vec<String> }
///
/// fn route(catalogue: SparkGenericModuleDispatcher<Search, Found>) -> Route {
///     Route::module(ParamsCodec::<Search, Found>::new(), catalogue)
/// }
/// ```
pub struct ParamsCodec<P, R> {
    types: PhantomData<fn(P) -> R>,
    #[cfg(feature = "openapi")]
    describe: fn(&mut Operation<'_>),
}

/// Adds parameters to the message of another codec.
///
/// The module's message is made `From<(P, B)>`, or `TryFrom`: `P` are the path and query parameters,
/// as [`Context::params`] reads them, and `B` is what `K` makes of the body. The answer is `K`'s.
///
/// # Examples
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use spark_channel::SparkGenericModuleDispatcher;
/// use spark_http::{JsonCodec, Route, WithParams};
///
/// #[derive(Deserialize)]
/// struct Place { shelf: u32 }
///
/// #[derive(Deserialize)]
/// struct Book { title: String }
///
/// #[derive(Serialize)]
/// struct Number { number: u64 }
///
/// struct Store { shelf: u32, title: String }
///
/// impl From<(Place, Book)> for Store {
///     fn from((place, book): (Place, Book)) -> Self {
///         Self { shelf: place.shelf, title: book.title }
///     }
/// }
///
/// fn route(library: SparkGenericModuleDispatcher<Store, Number>) -> Route {
///     let codec = WithParams::<Place, Book, _>::new(JsonCodec::<Book, Number>::new());
///     Route::module(codec, library)
/// }
/// ```
pub struct WithParams<P, B, K> {
    inner: K,
    types: PhantomData<fn(P, B)>,
    #[cfg(feature = "openapi")]
    describe: fn(&mut Operation<'_>),
}

// === impl ParamsCodec ===

impl<P, R> ParamsCodec<P, R> {
    /// Makes the codec.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            types: PhantomData,
            #[cfg(feature = "openapi")]
            describe: |_| {},
        }
    }

    /// Describes `P` and `R` in the OpenAPI document.
    #[cfg(feature = "openapi")]
    #[must_use]
    pub const fn described(mut self) -> Self
    where
        P: JsonSchema,
        R: JsonSchema,
    {
        self.describe = |operation| {
            operation.parameters::<P>();
            operation.response::<R>("application/json");
        };
        self
    }
}

impl<P, R, Message, Response> Codec<Message, Response> for ParamsCodec<P, R>
where
    P: DeserializeOwned + 'static,
    R: Serialize + TryFrom<Response, Error: Display> + 'static,
    Message: TryFrom<P, Error: Display>,
{
    fn decode(&self, context: &Context, _: Bytes) -> Result<Message, ErrorAnswer> {
        let params: P = context.params()?;
        Message::try_from(params).map_err(ErrorAnswer::bad_parameter)
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

impl<P, R> Clone for ParamsCodec<P, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P, R> Copy for ParamsCodec<P, R> {}

impl<P, R> Default for ParamsCodec<P, R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P, R> fmt::Debug for ParamsCodec<P, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ParamsCodec")
    }
}

// === impl WithParams ===

impl<P, B, K> WithParams<P, B, K> {
    /// Adds parameters to what `inner` reads.
    #[must_use]
    pub const fn new(inner: K) -> Self {
        Self {
            inner,
            types: PhantomData,
            #[cfg(feature = "openapi")]
            describe: |_| {},
        }
    }

    /// Describes `P` in the OpenAPI document. What is read of the body, and the answer, are the
    /// inner codec's to describe.
    #[cfg(feature = "openapi")]
    #[must_use]
    pub fn described(mut self) -> Self
    where
        P: JsonSchema,
    {
        self.describe = |operation| {
            operation.parameters::<P>();
        };
        self
    }
}

impl<P, B, K, Message, Response> Codec<Message, Response> for WithParams<P, B, K>
where
    P: DeserializeOwned + 'static,
    B: 'static,
    K: Codec<B, Response>,
    Message: TryFrom<(P, B), Error: Display>,
{
    fn decode(&self, context: &Context, body: Bytes) -> Result<Message, ErrorAnswer> {
        let (_, message) = self.decode_call(context, body)?;
        Ok(message)
    }

    fn decode_call(&self, context: &Context, body: Bytes) -> Result<(Verb, Message), ErrorAnswer> {
        let params: P = context.params()?;
        let (verb, body) = self.inner.decode_call(context, body)?;
        match Message::try_from((params, body)) {
            Ok(message) => Ok((verb, message)),
            Err(error) => Err(ErrorAnswer::bad_parameter(error)),
        }
    }

    #[cfg(feature = "openapi")]
    fn describe(&self, operation: &mut Operation<'_>) {
        self.inner.describe(operation);
        (self.describe)(operation);
    }

    fn encode(&self, context: &Context, response: Response) -> Result<Answer, ErrorAnswer> {
        self.inner.encode(context, response)
    }
}

impl<P, B, K: Clone> Clone for WithParams<P, B, K> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            types: PhantomData,
            #[cfg(feature = "openapi")]
            describe: self.describe,
        }
    }
}

impl<P, B, K: fmt::Debug> fmt::Debug for WithParams<P, B, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WithParams").field(&self.inner).finish()
    }
}
