//! A module as a subscriber: events become commands.

use std::{
    fmt,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::Poll,
};

use tokio::task::JoinHandle;

use super::{Backlog, Hub, Subscription, SubscriptionStats, Topic, subscription::Subscriber};
use crate::SparkGenericModuleDispatcher;

/// A module's subscription: the owner's end of the task that sends it commands.
///
/// Dropping it unsubscribes and ends the task, at once and without waiting for it: what
/// has not been sent is dropped.
#[must_use = "dropping a subscription unsubscribes"]
pub struct ModuleSubscription<T> {
    hub: Arc<Hub<T>>,
    subscriber: Arc<Subscriber<T>>,
    task: JoinHandle<()>,
}

// === impl Topic ===

impl<T: Clone + Send + 'static> Topic<T> {
    /// Sends every event to a module, as the command that `to_command` makes of it.
    ///
    /// A task forwards what is in the backlog, one command at a time and in order, and
    /// waits while the module's mailbox is full: with [`Backlog::wait`] the module's
    /// backpressure reaches the publishers. It ends when the subscription does, after
    /// what waits has been sent, and when the module stops. It holds a dispatcher, so the
    /// module runs on for as long as the subscription.
    ///
    /// If `to_command` panics, that event is dropped and traced, and the next one follows.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// # use spark_channel::NativeHandler;
    /// # #[derive(Default)]
    /// # struct Audit(u64);
    /// # enum AuditMessage { Login(String), Count }
    /// # impl NativeHandler for Audit {
    /// #     type Message = AuditMessage;
    /// #     type Response = u64;
    /// #     type Error = eyre::Report;
    /// #     async fn handle_request(&mut self, _: AuditMessage) -> eyre::Result<u64> { Ok(self.0) }
    /// #     async fn handle_command(&mut self, _: AuditMessage) -> eyre::Result<()> { self.0 += 1; Ok(()) }
    /// # }
    /// use spark_channel::{Backlog, Topic, spawn_module};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> eyre::Result<()> {
    /// let audit = spawn_module(Audit::default()).dispatcher();
    /// let logins = Topic::new("logins");
    /// let subscription =
    ///     logins.subscribe_module(audit.clone(), Backlog::wait(64), AuditMessage::Login);
    ///
    /// logins.publish("ada".to_owned()).await.map_err(|refused| refused.reason)?;
    /// logins.close();
    /// assert_eq!(subscription.wait().await.received, 1);
    /// assert_eq!(audit.request(AuditMessage::Count).await?, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn subscribe_module<M, R, C, E, F>(
        &self,
        dispatcher: SparkGenericModuleDispatcher<M, R, C, E>,
        backlog: Backlog<T>,
        to_command: F,
    ) -> ModuleSubscription<T>
    where
        M: Send + 'static,
        R: Send + 'static,
        C: Send + 'static,
        E: Send + 'static,
        F: Fn(T) -> M + Send + 'static,
    {
        let subscription = self.subscribe(backlog);
        ModuleSubscription {
            hub: Arc::clone(subscription.hub()),
            subscriber: Arc::clone(subscription.subscriber()),
            task: tokio::spawn(forward(subscription, dispatcher, to_command)),
        }
    }
}

// === impl ModuleSubscription ===

impl<T> ModuleSubscription<T> {
    /// Ends the subscription and waits for its task: what waits is dropped, a command
    /// that waits for room in the mailbox is not sent.
    ///
    /// # Cancel safety
    ///
    /// Once polled, the subscription ends by itself; dropping the future loses the counts.
    pub async fn unsubscribe(mut self) -> SubscriptionStats {
        self.cut_off();
        // Aborted, which is what it was told.
        let _ = (&mut self.task).await;
        self.stats()
    }

    /// Waits until the subscription has ended and what waited has been sent, or until the
    /// module has stopped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future unsubscribes, as dropping the subscription does.
    pub async fn wait(mut self) -> SubscriptionStats {
        // Its panics are caught, and nobody else can abort it.
        let _ = (&mut self.task).await;
        self.stats()
    }

    /// Whether the task has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// What has been counted so far; an event is received when it is taken to be sent.
    #[must_use]
    pub fn stats(&self) -> SubscriptionStats {
        self.subscriber.stats()
    }

    fn cut_off(&self) {
        self.task.abort();
        self.hub.unsubscribe(&self.subscriber);
    }
}

impl<T> Drop for ModuleSubscription<T> {
    fn drop(&mut self) {
        self.cut_off();
    }
}

impl<T> fmt::Debug for ModuleSubscription<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModuleSubscription")
            .field("topic", &self.hub.name)
            .field("finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}

async fn forward<T, M, R, C, E>(
    mut subscription: Subscription<T>,
    dispatcher: SparkGenericModuleDispatcher<M, R, C, E>,
    to_command: impl Fn(T) -> M,
) {
    // Also while no event comes: publishers must not wait for a module that has gone.
    let mut closed = pin!(dispatcher.closed());
    loop {
        let event = poll_fn(|cx| {
            if closed.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            subscription.poll_recv(cx)
        })
        .await;
        let Some(event) = event else {
            return;
        };
        let Ok(command) = catch_unwind(AssertUnwindSafe(|| to_command(event))) else {
            let topic = &*subscription.hub().name;
            tracing::error!(topic, "making a command of an event panicked");
            continue;
        };
        if let Err(refused) = dispatcher.command(command).await {
            let topic = &*subscription.hub().name;
            tracing::debug!(topic, reason = %refused.reason, "module has left the topic");
            return;
        }
    }
}
