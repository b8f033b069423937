//! The messages of a module, and the loop that serves a plain tokio receiver.

use std::{fmt, sync::Arc};

use tokio::sync::mpsc;

use crate::{
    CallbackWrapper, IntoHandler, NativeHandler, PanicPolicy, Report,
    cancellation_token::SparkChannelCancellationToken, config::Config, run_loop,
};
pub use crate::{
    cancellation_token::SparkChannelCancellationTrait,
    dispatcher::SparkGenericModuleDispatcher,
    error::{IntoResult, SparkChannelError},
    handler::SparkGenericModuleHandler,
};

/// What travels through a module's mailbox.
pub enum SparkGenericModuleMessage<
    Message,
    Response,
    CancellationToken = SparkChannelCancellationToken,
    Error = eyre::Report,
> {
    /// A message whose sender awaits a reply.
    Request(CallbackWrapper<Message, Result<Response, Error>>),
    /// A message whose sender awaits nothing.
    Command(Message),
    /// Stops the module once everything before it has been handled. The token is
    /// cancelled when the module has stopped.
    Shutdown(CancellationToken),
}

/// Serves `receiver` with `handler` until the module stops, and reports.
///
/// The loop for those who make the channel themselves. It stops after a
/// [`Shutdown`](SparkGenericModuleMessage::Shutdown) message, or once every
/// sender is gone. Everything section "Shutdown" of the crate docs says holds.
/// A dispatcher made with
/// [`SparkGenericModuleDispatcher::new`] cannot see into this loop, so it has no
/// default timeout, no [`Stop`](crate::Stop) and does not detect self-calls;
/// [`module`](crate::module()) has them.
///
/// A panic in a handler answers its caller and the loop goes on.
///
/// # Panics
///
/// Panics outside of a tokio runtime only when it has to bound a shutdown in time
/// and the runtime has no timer.
///
/// # Cancel safety
///
/// Dropping the future ends the module at once: the running handler is dropped,
/// and callers get [`ReplyDropped`](SparkChannelError::ReplyDropped).
///
/// # Examples
///
/// ```
/// use spark_channel::{
///     NativeHandler, SparkChannelCancellationToken, SparkGenericModuleDispatcher,
///     SparkGenericModuleMessage, run_module_server,
/// };
///
/// struct Length;
///
/// impl NativeHandler for Length {
///     type Message = String;
///     type Response = usize;
///     type Error = eyre::Report;
///
///     async fn handle_request(&mut self, text: String) -> eyre::Result<usize> {
///         Ok(text.len())
///     }
///
///     async fn handle_command(&mut self, _: String) -> eyre::Result<()> {
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> eyre::Result<()> {
/// let (sender, receiver) = tokio::sync::mpsc::channel(32);
/// let dispatcher: SparkGenericModuleDispatcher<_, _> = SparkGenericModuleDispatcher::new(sender);
/// let server = tokio::spawn(run_module_server(Length, receiver));
///
/// assert_eq!(dispatcher.request("four").await?, 4);
///
/// let token = SparkChannelCancellationToken::new();
/// let shutdown = SparkGenericModuleMessage::Shutdown(token.clone());
/// dispatcher.sender.send(shutdown).await?;
/// token.inner().cancelled().await;
/// assert_eq!(server.await?.stats.handled, 1);
/// # Ok(())
/// # }
/// ```
pub async fn run_module_server<H, M, R, C, E, Marker>(
    handler: H,
    receiver: mpsc::Receiver<SparkGenericModuleMessage<M, R, C, E>>,
) -> Report
where
    H: IntoHandler<Marker>,
    H::Handler: NativeHandler<Message = M, Response = R, Error = E>,
    C: SparkChannelCancellationTrait + Send + 'static,
{
    let config = Config::named_after::<H>();
    let control = config.control(1, receiver.max_capacity());
    let mailbox = run_loop::Mailbox::own(receiver);
    let worker = run_loop::Worker::new(
        handler.into_handler(),
        PanicPolicy::Continue,
        &config,
        mailbox,
        Arc::clone(&control),
        0,
    );
    run_loop::run_one(worker).await;
    control.reported()
}

// === impl SparkGenericModuleMessage ===

impl<M: fmt::Debug, R, C, E> fmt::Debug for SparkGenericModuleMessage<M, R, C, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(wrapper) => {
                let kind = if self.is_command() {
                    "Command"
                } else {
                    "Request"
                };
                f.debug_tuple(kind).field(&wrapper.message).finish()
            }
            Self::Command(message) => f.debug_tuple("Command").field(message).finish(),
            Self::Shutdown(_) => f.debug_tuple("Shutdown").finish_non_exhaustive(),
        }
    }
}
