//! What is to be done with a message, so that a router says once where it goes.

use std::future::Future;

use crate::{NativeHandler, SparkChannelError, SparkGenericModuleDispatcher};

/// What a [`Router`](crate::Router) is to do with a message: answer a request, act on a
/// command, or take back a command that will not be handled.
///
/// A router need not know which; it says where the message goes with one of the methods.
/// The trait is sealed.
pub trait Verb: private::Sealed + Copy + Send + Sync + 'static {
    /// What comes of it: the response of a request, nothing of a command.
    type Outcome<Response: Send>: Send;

    /// Hands `message` to a sub-handler of the router, and what it answers to `wrap`.
    ///
    /// # Errors
    ///
    /// The sub-handler's, converted.
    fn delegate<H, R, E>(
        self,
        to: &mut H,
        message: H::Message,
        wrap: impl FnOnce(H::Response) -> R + Send,
    ) -> impl Future<Output = Result<Self::Outcome<R>, E>> + Send
    where
        H: NativeHandler,
        R: Send,
        E: From<H::Error> + Send;

    /// Passes `message` on to another module, and what it answers to `wrap`.
    ///
    /// A request is made with what is left of the deadline and awaited; a command waits
    /// for room. A command that is taken back, because the router stops, is passed on
    /// all the same if the other module has room, and dropped if not.
    ///
    /// # Errors
    ///
    /// The other module's, converted; of a command, why it was refused.
    fn forward<M, S, C, F, R, E>(
        self,
        to: &SparkGenericModuleDispatcher<M, S, C, F>,
        message: impl Into<M>,
        wrap: impl FnOnce(S) -> R + Send,
    ) -> impl Future<Output = Result<Self::Outcome<R>, E>> + Send
    where
        M: Send,
        S: Send,
        C: Send,
        F: From<SparkChannelError> + Send,
        R: Send,
        E: From<F> + From<SparkChannelError> + Send;

    /// Handles the message in the router itself: awaits `answer`, and drops the response
    /// if nobody asked for one. `answer` is dropped, unpolled, when a command is taken
    /// back.
    ///
    /// # Errors
    ///
    /// Those of `answer`.
    fn handle<R, E>(
        self,
        answer: impl Future<Output = Result<R, E>> + Send,
    ) -> impl Future<Output = Result<Self::Outcome<R>, E>> + Send
    where
        R: Send,
        E: Send;
}

/// Answers a request.
#[derive(Clone, Copy)]
pub(super) struct Answer;

/// Acts on a command.
#[derive(Clone, Copy)]
pub(super) struct Act;

/// Takes back a command that will not be handled.
#[derive(Clone, Copy)]
pub(super) struct TakeBack;

mod private {
    pub trait Sealed {}

    impl Sealed for super::Answer {}
    impl Sealed for super::Act {}
    impl Sealed for super::TakeBack {}
}

// === impl Verb ===

impl Verb for Answer {
    type Outcome<Response: Send> = Response;

    async fn delegate<H, R, E>(
        self,
        to: &mut H,
        message: H::Message,
        wrap: impl FnOnce(H::Response) -> R + Send,
    ) -> Result<R, E>
    where
        H: NativeHandler,
        R: Send,
        E: From<H::Error> + Send,
    {
        Ok(wrap(to.handle_request(message).await?))
    }

    fn forward<M, S, C, F, R, E>(
        self,
        to: &SparkGenericModuleDispatcher<M, S, C, F>,
        message: impl Into<M>,
        wrap: impl FnOnce(S) -> R + Send,
    ) -> impl Future<Output = Result<R, E>> + Send
    where
        M: Send,
        S: Send,
        C: Send,
        F: From<SparkChannelError> + Send,
        R: Send,
        E: From<F> + From<SparkChannelError> + Send,
    {
        let request = to.request(message);
        async move { Ok(wrap(request.await?)) }
    }

    fn handle<R, E>(
        self,
        answer: impl Future<Output = Result<R, E>> + Send,
    ) -> impl Future<Output = Result<R, E>> + Send
    where
        R: Send,
        E: Send,
    {
        answer
    }
}

impl Verb for Act {
    type Outcome<Response: Send> = ();

    async fn delegate<H, R, E>(
        self,
        to: &mut H,
        message: H::Message,
        _: impl FnOnce(H::Response) -> R + Send,
    ) -> Result<(), E>
    where
        H: NativeHandler,
        R: Send,
        E: From<H::Error> + Send,
    {
        Ok(to.handle_command(message).await?)
    }

    fn forward<M, S, C, F, R, E>(
        self,
        to: &SparkGenericModuleDispatcher<M, S, C, F>,
        message: impl Into<M>,
        _: impl FnOnce(S) -> R + Send,
    ) -> impl Future<Output = Result<(), E>> + Send
    where
        M: Send,
        S: Send,
        C: Send,
        F: From<SparkChannelError> + Send,
        R: Send,
        E: From<F> + From<SparkChannelError> + Send,
    {
        let message = message.into();
        async move {
            Ok(to
                .command(message)
                .await
                .map_err(|refused| refused.reason)?)
        }
    }

    async fn handle<R, E>(self, answer: impl Future<Output = Result<R, E>> + Send) -> Result<(), E>
    where
        R: Send,
        E: Send,
    {
        answer.await.map(drop)
    }
}

impl Verb for TakeBack {
    type Outcome<Response: Send> = ();

    async fn delegate<H, R, E>(
        self,
        to: &mut H,
        message: H::Message,
        _: impl FnOnce(H::Response) -> R + Send,
    ) -> Result<(), E>
    where
        H: NativeHandler,
        R: Send,
        E: From<H::Error> + Send,
    {
        to.undelivered(message).await;
        Ok(())
    }

    fn forward<M, S, C, F, R, E>(
        self,
        to: &SparkGenericModuleDispatcher<M, S, C, F>,
        message: impl Into<M>,
        _: impl FnOnce(S) -> R + Send,
    ) -> impl Future<Output = Result<(), E>> + Send
    where
        M: Send,
        S: Send,
        C: Send,
        F: From<SparkChannelError> + Send,
        R: Send,
        E: From<F> + From<SparkChannelError> + Send,
    {
        // Without waiting: a stop is bounded, and the other module may be stopping too.
        let sent = to.try_command(message);
        std::future::ready(sent.map_err(|refused| refused.reason.into()))
    }

    fn handle<R, E>(
        self,
        answer: impl Future<Output = Result<R, E>> + Send,
    ) -> impl Future<Output = Result<(), E>> + Send
    where
        R: Send,
        E: Send,
    {
        drop(answer);
        std::future::ready(Ok(()))
    }
}
