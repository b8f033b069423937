//! From the workers of a module to its report: one task for a single module, one per
//! replica of a pool.

use std::{future::Future, pin::pin, sync::Arc};

use tokio::task::JoinSet;

use super::{
    Notice, Pause, Worker,
    conclusion::Conclusion,
    guarded::{Guard, Guarded, quietly},
    mailbox::Noted,
    timed::arrival,
};
use crate::{
    NativeHandler, SparkChannelCancellationTrait, SparkGenericModuleMessage, control::Control,
    current::Scope,
};

/// Stops a pool when the shutdown message is taken, and not only when the replica
/// that took it comes to handle it: the message behind it is not to be started.
pub(crate) fn stop_at_shutdown<M, R, C, E>(
    control: Arc<Control>,
) -> Notice<SparkGenericModuleMessage<M, R, C, E>> {
    Arc::new(move |message| {
        let in_time = !control.is_past_draining();
        if let SparkGenericModuleMessage::Shutdown(_) = message {
            control.shutdown_message_taken();
        }
        let arrived = arrival(&control, message);
        Noted { in_time, arrived }
    })
}

/// Runs a module of one replica to its end.
pub(crate) fn run_one<H, C>(worker: Worker<H, C>) -> impl Future<Output = ()> + Send
where
    H: NativeHandler,
    C: SparkChannelCancellationTrait + Send + 'static,
{
    // Made here: a future that is dropped before it is polled ends its module too.
    let conclusion = Conclusion::new(Arc::clone(&worker.control));
    run(worker, |tokens| conclusion.conclude(tokens))
}

/// Runs the replicas of a pool to their end. Dropping the future aborts them.
pub(crate) fn run_pool<H, C>(
    workers: Vec<Worker<H, C>>,
    control: Arc<Control>,
) -> impl Future<Output = ()> + Send
where
    H: NativeHandler,
    C: SparkChannelCancellationTrait + Send + 'static,
{
    let conclusion = Conclusion::new(control);
    async move {
        let replicas = start(workers);
        conclusion.conclude(tokens_of(replicas).await);
    }
}

/// Runs each replica in a task of its own.
pub(super) fn start<H, C>(workers: Vec<Worker<H, C>>) -> JoinSet<Vec<C>>
where
    H: NativeHandler,
    C: SparkChannelCancellationTrait + Send + 'static,
{
    let run = |worker| run(worker, |tokens| tokens);
    workers.into_iter().map(run).collect()
}

/// Waits for the replicas to end, for the tokens of the shutdown messages they took.
pub(super) async fn tokens_of<C: 'static>(mut replicas: JoinSet<Vec<C>>) -> Vec<C> {
    let mut tokens = Vec::new();
    while let Some(replica) = replicas.join_next().await {
        // A replica catches its panics; one that was aborted has no tokens to give.
        tokens.extend(replica.unwrap_or_default());
    }
    tokens
}

/// Runs one replica to its end, and then `finish` with the tokens of the shutdown
/// messages it took.
#[expect(
    clippy::manual_async_fn,
    reason = "an `async fn` would hold its arguments twice"
)]
pub(super) fn run<H, C, T>(
    mut worker: Worker<H, C>,
    finish: impl FnOnce(Vec<C>) -> T + Send,
) -> impl Future<Output = T> + Send
where
    H: NativeHandler,
    C: SparkChannelCancellationTrait + Send + 'static,
{
    async move {
        let control = Arc::clone(&worker.control);
        let span = tracing::info_span!("module", name = &*control.name);
        let span = (!span.is_disabled()).then(|| Box::new(span));
        let mut guard = Guard::new(Scope {
            control: Arc::clone(&control),
            slot: Arc::clone(&worker.slot),
        });
        loop {
            let ended = {
                let turn = pin!(Some(worker.serve()));
                Guarded::new(turn, &mut guard, span.as_deref()).await
            };
            match ended {
                Ok(Pause::HandedOver) => {}
                Ok(Pause::Idle | Pause::Ended) => break,
                Err(panic) => {
                    worker.after_panic(&*panic, span.as_deref());
                    quietly(|| drop(panic));
                }
            }
        }
        finish(worker.end(()))
    }
}
