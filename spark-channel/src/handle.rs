//! The owner's end of a module: how it is stopped, and what it reports.

use std::{fmt, future::poll_fn, sync::Arc, task::Poll, time::Duration};

use tokio::{task::JoinHandle, time::timeout_at};

use crate::{
    ClassStats, DeathNotice, MessageStats, Report, SparkChannelCancellationToken,
    SparkGenericModuleDispatcher, Stats, Stop, StopReason, Watch, WeakDispatcher,
    clock::Length,
    control::Control,
    run_loop::announce,
    stop::{GRACE, Wish},
};

/// The owner's end of a module.
///
/// Dropping it lets the module run on for as long as dispatchers exist. Use
/// [`shutdown`](Self::shutdown) or [`wait`](Self::wait) to see it end.
#[must_use = "the module's owner should wait for it; take a `dispatcher()` first to let it run alone"]
pub struct ModuleHandle<
    Message,
    Response,
    CancellationToken = SparkChannelCancellationToken,
    Error = eyre::Report,
> {
    dispatcher: SparkGenericModuleDispatcher<Message, Response, CancellationToken, Error>,
    control: Arc<Control>,
    task: JoinHandle<()>,
}

type Parts<M, R, C, E> = (
    SparkGenericModuleDispatcher<M, R, C, E>,
    Arc<Control>,
    JoinHandle<()>,
);

// === impl ModuleHandle ===

impl<M, R, C, E> ModuleHandle<M, R, C, E>
where
    M: Send + 'static,
    R: Send + 'static,
    C: Send + 'static,
    E: Send + 'static,
{
    /// The handle of a module that has just been started.
    pub(crate) fn new(
        dispatcher: SparkGenericModuleDispatcher<M, R, C, E>,
        control: Arc<Control>,
        task: JoinHandle<()>,
    ) -> Self {
        let handle = Self {
            dispatcher,
            control,
            task,
        };
        #[cfg(feature = "test-util")]
        crate::testing::seen(&handle);
        handle
    }
}

impl<M, R, C, E> ModuleHandle<M, R, C, E> {
    pub(crate) fn into_parts(self) -> Parts<M, R, C, E> {
        (self.dispatcher, self.control, self.task)
    }

    /// A dispatcher for this module.
    #[must_use]
    pub fn dispatcher(&self) -> SparkGenericModuleDispatcher<M, R, C, E> {
        self.dispatcher.clone()
    }

    /// A dispatcher that does not keep the module alive.
    #[must_use]
    pub fn downgrade(&self) -> WeakDispatcher<M, R, C, E> {
        self.dispatcher.downgrade()
    }

    /// The module's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.control.name
    }

    /// What the module has counted so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.dispatcher.stats().unwrap_or_default()
    }

    /// What the module has counted of each class of messages; see
    /// [`SparkGenericModuleDispatcher::class_stats`].
    #[must_use]
    pub fn class_stats(&self) -> Vec<ClassStats> {
        self.dispatcher.class_stats()
    }

    /// How long messages waited and were handled, by name, and which is handled now;
    /// `None` unless the module was built with
    /// [`message_names`](crate::ModuleBuilder::message_names).
    #[must_use]
    pub fn message_stats(&self) -> Option<MessageStats> {
        self.control.message_stats()
    }

    /// Whether the module has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    #[cfg(feature = "test-util")]
    pub(crate) const fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// Watches the module, without owning it: any number may, also after its end.
    pub fn watch(&self) -> Watch {
        Watch::new(Arc::clone(&self.control))
    }

    /// Sends `target` a command when this module ends; see [`Watch::send_into`].
    pub fn watch_into<M2, R2, C2, E2>(
        &self,
        target: &SparkGenericModuleDispatcher<M2, R2, C2, E2>,
        command: impl FnOnce(&Report) -> M2 + Send + 'static,
    ) -> DeathNotice
    where
        M2: Send + 'static,
        R2: Send + 'static,
        C2: Send + 'static,
        E2: Send + 'static,
    {
        self.watch().send_into(target, command)
    }

    /// Tells the module to stop and returns at once.
    ///
    /// May be called again: a stronger [`Stop`] replaces a weaker one, an earlier
    /// deadline a later one. The deadline is the module's
    /// [`shutdown_timeout`](crate::ModuleBuilder::shutdown_timeout) from now.
    pub fn stop(&self, stop: Stop) {
        self.control
            .request_stop(stop, self.control.shutdown_timeout);
    }

    /// Tells the module to stop, whoever has the handle.
    pub(crate) fn stopper(&self) -> Arc<dyn Fn(Wish) + Send + Sync> {
        let control = Arc::clone(&self.control);
        Arc::new(move |wish| control.request_stop(wish.stop, wish.left().into()))
    }

    /// Stops the module within its
    /// [`shutdown_timeout`](crate::ModuleBuilder::shutdown_timeout) and reports.
    ///
    /// # Cancel safety
    ///
    /// Once polled, the module is told to stop and does so on its own; dropping
    /// the future only loses the report.
    ///
    /// # Panics
    ///
    /// Panics when the runtime has no timer.
    pub async fn shutdown(self, stop: Stop) -> Report {
        let within = self.control.shutdown_timeout;
        self.stop_within(stop, within).await
    }

    /// Stops the module and reports, within `within`.
    ///
    /// At the deadline the running handler is dropped and what is left is given
    /// back without asking the handler. A handler that blocks its thread cannot
    /// be dropped: then, 100 ms later, the report is
    /// [`Unresponsive`](StopReason::Unresponsive).
    ///
    /// # Cancel safety
    ///
    /// As [`shutdown`](Self::shutdown).
    ///
    /// # Panics
    ///
    /// As [`shutdown`](Self::shutdown).
    pub async fn shutdown_within(self, stop: Stop, within: Duration) -> Report {
        self.stop_within(stop, within.into()).await
    }

    async fn stop_within(self, stop: Stop, within: Length) -> Report {
        let Self {
            dispatcher,
            control,
            mut task,
        } = self;
        control.request_stop(stop, within);
        // Most modules stop at once: no timer for those. Unlike tokio's `yield_now`,
        // this does not wait for the runtime's driver as well.
        let mut yielded = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        if task.is_finished() {
            return control.reported();
        }
        let Some(deadline) = control.stop_deadline() else {
            let _ = task.await;
            return control.reported();
        };
        if timeout_at(deadline.to_instant() + GRACE, &mut task)
            .await
            .is_ok()
        {
            return control.reported();
        }
        task.abort();
        let report = Report {
            stats: dispatcher.stats().unwrap_or_default(),
            ..control.report(StopReason::Unresponsive, 0)
        };
        // It may have ended at the last moment: what watchers have learnt counts.
        announce(&control, report).clone()
    }

    /// Waits until the module has ended by itself, and reports.
    ///
    /// The handle's own dispatcher is dropped first, so this also ends when all
    /// others are gone.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses the report; the module runs on.
    pub async fn wait(self) -> Report {
        let Self {
            dispatcher,
            control,
            task,
        } = self;
        drop(dispatcher);
        let _ = task.await;
        control.reported()
    }
}

impl<M, R, C, E> From<&ModuleHandle<M, R, C, E>> for WeakDispatcher<M, R, C, E> {
    fn from(handle: &ModuleHandle<M, R, C, E>) -> Self {
        handle.downgrade()
    }
}

impl<M, R, C, E> fmt::Debug for ModuleHandle<M, R, C, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModuleHandle")
            .field("name", &self.control.name)
            .field("finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}
