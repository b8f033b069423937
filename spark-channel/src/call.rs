//! Calls that know the type of their answer, over a module that knows only its enums.

use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::Instant;

use crate::{
    Refused, Request, SparkChannelCancellationToken, SparkChannelError,
    SparkGenericModuleDispatcher,
};

/// A question with one type of answer, put to a module that takes `Message` and
/// answers `Response`.
///
/// A module has one message enum and one response enum. A type with this trait pairs
/// one variant of each, so that [`call`](SparkGenericModuleDispatcher::call) returns
/// what the caller wants rather than a response to be taken apart. [`calls!`](crate::calls)
/// writes such types, and [`AnyResponse`](crate::AnyResponse) is for modules that have
/// no response enum.
///
/// # Examples
///
/// ```
/// use spark_channel::{Call, NativeHandler, SparkChannelError, spawn_module};
///
/// enum Ask { GetData(String), IsEmpty }
/// enum Answer { Data(Vec<u32>), Flag(bool) }
///
/// struct GetData(String);
///
/// impl Call<Ask, Answer> for GetData {
///     type Reply = Vec<u32>;
///
///     fn into_message(self) -> Ask {
///         Ask::GetData(self.0)
///     }
///
///     fn project(answer: Answer) -> Result<Vec<u32>, SparkChannelError> {
///         match answer {
///             Answer::Data(data) => Ok(data),
///             Answer::Flag(_) => Err(SparkChannelError::unexpected_response("Data", "Flag")),
///         }
///     }
/// }
/// # struct Store;
/// # impl NativeHandler for Store {
/// #     type Message = Ask;
/// #     type Response = Answer;
/// #     type Error = eyre::Report;
/// #     async fn handle_request(&mut self, ask: Ask) -> eyre::Result<Answer> {
/// #         Ok(match ask {
/// #             Ask::GetData(key) => Answer::Data(vec![key.len() as u32]),
/// #             Ask::IsEmpty => Answer::Flag(false),
/// #         })
/// #     }
/// #     async fn handle_command(&mut self, _: Ask) -> eyre::Result<()> { Ok(()) }
/// # }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> eyre::Result<()> {
/// let store = spawn_module(Store).dispatcher();
/// let data: Vec<u32> = store.call(GetData("key".into())).await?;
/// assert_eq!(data, [3]);
/// # Ok(())
/// # }
/// ```
pub trait Call<Message, Response> {
    /// What the caller gets.
    type Reply;

    /// The message that asks the question.
    fn into_message(self) -> Message;

    /// Takes the reply out of the module's response.
    ///
    /// # Errors
    ///
    /// [`UnexpectedResponse`](SparkChannelError::UnexpectedResponse), made with
    /// [`unexpected_response`](SparkChannelError::unexpected_response), if the module
    /// answered with something else.
    fn project(response: Response) -> Result<Self::Reply, SparkChannelError>;
}

/// How the reply is taken out of a module's response: what a [`TypedRequest`] does with it.
///
/// Functions do, and so do types without a value of which there is one for each message, as
/// `#[module]` writes them: with those it is known to the compiler what runs.
pub trait Projection<Response> {
    /// What the caller gets.
    type Reply;

    /// Takes the reply out of the module's response.
    ///
    /// # Errors
    ///
    /// As [`Call::project`].
    fn project(&self, response: Response) -> Result<Self::Reply, SparkChannelError>;
}

pin_project! {
    /// A request whose response is projected to a `T`: the future of
    /// [`SparkGenericModuleDispatcher::call`] and of [`Request::typed`].
    #[must_use = "a request is sent when it is awaited"]
    pub struct TypedRequest<
        'a,
        T,
        M,
        R,
        C = SparkChannelCancellationToken,
        E = eyre::Report,
        P = fn(R) -> Result<T, SparkChannelError>,
    > {
        #[pin]
        request: Request<'a, M, R, C, E>,
        project: P,
        reply: PhantomData<fn() -> T>,
    }
}

// === impl SparkGenericModuleDispatcher ===

impl<M, R, C, E> SparkGenericModuleDispatcher<M, R, C, E> {
    /// Asks a question and awaits the type of answer that belongs to it.
    ///
    /// As [`request`](Self::request) otherwise, also in what its methods
    /// `timeout`, `deadline` and `at_most` do.
    ///
    /// # Errors
    ///
    /// As [`request`](Self::request), and
    /// [`UnexpectedResponse`](SparkChannelError::UnexpectedResponse) when the module
    /// answered with another type.
    ///
    /// # Cancel safety
    ///
    /// As [`request`](Self::request).
    ///
    /// # Examples
    ///
    /// See [`Call`].
    #[inline]
    pub fn call<K: Call<M, R>>(&self, call: K) -> TypedRequest<'_, K::Reply, M, R, C, E> {
        self.request(call.into_message()).typed(K::project)
    }

    /// Asks a question now, or gives its message back; the returned future awaits the answer.
    ///
    /// # Errors
    ///
    /// As [`try_request`](Self::try_request).
    #[expect(
        clippy::type_complexity,
        reason = "an alias would only hide the future's name"
    )]
    pub fn try_call<K: Call<M, R>>(
        &self,
        call: K,
    ) -> Result<TypedRequest<'_, K::Reply, M, R, C, E>, Refused<M>> {
        let request = self.try_request(call.into_message())?;
        Ok(request.typed(K::project))
    }
}

// === impl Request ===

impl<'a, M, R, C, E> Request<'a, M, R, C, E> {
    /// Takes a part out of the response, or says that it was an unexpected one.
    ///
    /// # Examples
    ///
    /// ```
    /// # use spark_channel::{SparkChannelError, SparkGenericModuleDispatcher};
    /// enum Answer { Count(u64), Names(Vec<String>) }
    ///
    /// async fn count(store: &SparkGenericModuleDispatcher<&str, Answer>) -> eyre::Result<u64> {
    ///     let count = |answer| match answer {
    ///         Answer::Count(count) => Ok(count),
    ///         Answer::Names(_) => Err(SparkChannelError::unexpected_response("Count", "Names")),
    ///     };
    ///     store.request("count").typed(count).await
    /// }
    /// ```
    #[inline]
    pub fn typed<T>(
        self,
        project: fn(R) -> Result<T, SparkChannelError>,
    ) -> TypedRequest<'a, T, M, R, C, E> {
        self.projected(project)
    }

    /// As [`typed`](Self::typed), with another [`Projection`] than a function.
    #[inline]
    pub fn projected<P: Projection<R>>(
        self,
        project: P,
    ) -> TypedRequest<'a, P::Reply, M, R, C, E, P> {
        TypedRequest {
            request: self,
            project,
            reply: PhantomData,
        }
    }
}

// === impl Projection ===

impl<R, T> Projection<R> for fn(R) -> Result<T, SparkChannelError> {
    type Reply = T;

    #[inline]
    fn project(&self, response: R) -> Result<T, SparkChannelError> {
        self(response)
    }
}

// === impl TypedRequest ===

impl<T, M, R, C, E, P> TypedRequest<'_, T, M, R, C, E, P> {
    /// Gives up after `timeout`; see [`Request::timeout`].
    #[inline]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.request = self.request.timeout(timeout);
        self
    }

    /// Gives up at `deadline`; see [`Request::deadline`].
    #[inline]
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.request = self.request.deadline(deadline);
        self
    }

    /// Gives up at `deadline` at the latest; see [`Request::at_most`].
    #[inline]
    pub fn at_most(mut self, deadline: Instant) -> Self {
        self.request = self.request.at_most(deadline);
        self
    }
}

impl<T, M, R, C, E, P> Future for TypedRequest<'_, T, M, R, C, E, P>
where
    P: Projection<R, Reply = T>,
    M: Send,
    R: Send,
    C: Send,
    E: From<SparkChannelError> + Send,
{
    type Output = Result<T, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, E>> {
        let this = self.project();
        let response = ready!(this.request.poll(cx))?;
        Poll::Ready(this.project.project(response).map_err(E::from))
    }
}

impl<T, M, R, C, E, P> fmt::Debug for TypedRequest<'_, T, M, R, C, E, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedRequest")
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

/// Writes a type with [`Call`] for each pair of a message and a response variant.
///
/// First the two enums, then a line per call: the name of the message variant, its
/// fields if it has any, and the response variant that answers it. Each line becomes a
/// public-field tuple struct (or a unit struct) of the variant's name, with the
/// attributes and the visibility given. Variants must be unit or tuple variants; a call
/// of another shape is written by hand.
///
/// # Examples
///
/// ```
/// # use spark_channel::{NativeHandler, spawn_module};
/// enum Ask { GetData(String), IsEmpty }
/// enum Answer { Data(Vec<u32>), Flag(bool) }
///
/// mod ask {
///     spark_channel::calls! {
///         super::Ask => super::Answer;
///
///         /// The numbers under a key.
///         pub(super) GetData(key: String) -> Data(Vec<u32>);
///         /// Whether there is no data at all.
///         pub(super) IsEmpty -> Flag(bool);
///     }
/// }
/// # struct Store;
/// # impl NativeHandler for Store {
/// #     type Message = Ask;
/// #     type Response = Answer;
/// #     type Error = eyre::Report;
/// #     async fn handle_request(&mut self, ask: Ask) -> eyre::Result<Answer> {
/// #         Ok(match ask {
/// #             Ask::GetData(key) => Answer::Data(vec![key.len() as u32]),
/// #             Ask::IsEmpty => Answer::Flag(false),
/// #         })
/// #     }
/// #     async fn handle_command(&mut self, _: Ask) -> eyre::Result<()> { Ok(()) }
/// # }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> eyre::Result<()> {
/// let store = spawn_module(Store).dispatcher();
/// assert_eq!(store.call(ask::GetData("key".into())).await?, [3]);
/// assert!(!store.call(ask::IsEmpty).await?);
/// # Ok(())
/// # }
/// ```
#[macro_export]
macro_rules! calls {
    (
        $message:path => $response:path;
        $(
            $(#[$attribute:meta])*
            $vis:vis $name:ident $(($($field:ident: $type:ty),+ $(,)?))? -> $variant:ident($reply:ty);
        )+
    ) => {
        const _: () = {
            // Of the variants that are answers here; any other is a response of the
            // module that no call in this list expects.
            fn __spark_found(response: &$response) -> &'static str {
                use $response as Response;
                $(
                    if ::core::matches!(response, Response::$variant(..)) {
                        return ::core::stringify!($variant);
                    }
                )+
                "another variant"
            }
            $(
                impl $crate::Call<$message, $response> for $name {
                    type Reply = $reply;

                    fn into_message(self) -> $message {
                        use $message as Message;
                        $(let Self($($field),+) = self;)?
                        Message::$name $(($($field),+))?
                    }

                    fn project(
                        response: $response,
                    ) -> ::core::result::Result<$reply, $crate::SparkChannelError> {
                        use $response as Response;
                        match response {
                            Response::$variant(reply) => ::core::result::Result::Ok(reply),
                            #[allow(unreachable_patterns, reason = "an enum of one variant")]
                            other => ::core::result::Result::Err(
                                $crate::SparkChannelError::unexpected_response(
                                    ::core::stringify!($variant),
                                    __spark_found(&other),
                                ),
                            ),
                        }
                    }
                }
            )+
        };
        $(
            $(#[$attribute])*
            $vis struct $name $(($(#[doc = ::core::concat!("`", ::core::stringify!($field), "`.")] pub $type),+))?;
        )+
    };
}
