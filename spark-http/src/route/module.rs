//! Routes that lead to a module: by requests, or by commands.

use std::sync::Arc;

use bytes::Bytes;
use spark_channel::{SparkChannelError, SparkGenericModuleDispatcher, Stage};
use tokio::time::{Instant, timeout_at};

use super::{Running, WholeTarget};
use crate::{Codec, Context, ErrorAnswer, ModuleError, Verb};

/// Asks a module, or sends it what the codec makes a command.
pub(super) struct ModuleTarget<K, M, R, C, E, F> {
    pub(super) codec: K,
    pub(super) dispatcher: SparkGenericModuleDispatcher<M, R, C, E>,
    pub(super) classify: F,
}

/// Sends a module a command, and does not wait for what comes of it.
pub(super) struct CommandTarget<K, M, R, C, E> {
    pub(super) codec: K,
    pub(super) dispatcher: SparkGenericModuleDispatcher<M, R, C, E>,
}

// === impl ModuleTarget ===

impl<K, M, R, C, E, F> WholeTarget for ModuleTarget<K, M, R, C, E, F>
where
    K: Codec<M, R>,
    M: Send + 'static,
    R: Send + 'static,
    C: Send + 'static,
    E: From<SparkChannelError> + Send + 'static,
    F: Fn(E) -> ErrorAnswer + Send + Sync + 'static,
{
    fn call(self: Arc<Self>, context: Context, body: Bytes) -> Running {
        Box::pin(async move {
            let (verb, message) = self.codec.decode_call(&context, body)?;
            if verb == Verb::Command {
                let sent = send_command(&self.dispatcher, message, context.deadline()).await;
                return match sent {
                    Ok(()) => Ok(ErrorAnswer::accepted()),
                    Err(error) => Err((self.classify)(error.into())),
                };
            }
            let mut request = self.dispatcher.request(message);
            if let Some(deadline) = context.deadline() {
                request = request.at_most(deadline);
            }
            match request.await {
                Ok(response) => self.codec.encode(&context, response),
                Err(error) => Err((self.classify)(error)),
            }
        })
    }
}

// === impl CommandTarget ===

impl<K, M, R, C, E> WholeTarget for CommandTarget<K, M, R, C, E>
where
    K: Codec<M, R>,
    M: Send + 'static,
    R: Send + 'static,
    C: Send + 'static,
    E: ModuleError + From<SparkChannelError> + Send + 'static,
{
    fn call(self: Arc<Self>, context: Context, body: Bytes) -> Running {
        Box::pin(async move {
            let message = self.codec.decode(&context, body)?;
            match send_command(&self.dispatcher, message, context.deadline()).await {
                Ok(()) => Ok(ErrorAnswer::accepted()),
                Err(error) => Err(E::from(error).into_error_answer()),
            }
        })
    }
}

/// Sends a command within the deadline.
pub(crate) async fn send_command<M, R, C, E>(
    dispatcher: &SparkGenericModuleDispatcher<M, R, C, E>,
    message: M,
    deadline: Option<Instant>,
) -> Result<(), SparkChannelError> {
    let sending = dispatcher.command(message);
    let sent = match deadline {
        Some(deadline) => timeout_at(deadline, sending).await.map_err(|_| {
            let stage = Stage::NotAdmitted;
            SparkChannelError::TimedOut { stage }
        })?,
        None => sending.await,
    };
    sent.map_err(|refused| refused.reason)
}
