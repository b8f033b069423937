//! Death watch: learning that a module has ended, without owning it.

use std::{
    fmt,
    future::{Future, IntoFuture},
    hash::{Hash, Hasher},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use crate::{
    ModuleState, Report, SparkChannelError, SparkGenericModuleDispatcher, control::Control,
    ending::NoticeId,
};

/// Watches one module: whether it runs, restarts, or has ended, and with what report.
///
/// Does not keep the module alive, and can be made before or after its end. A
/// restart is not an end. Made by [`ModuleHandle::watch`](crate::ModuleHandle::watch)
/// and [`SparkGenericModuleDispatcher::watch`]; awaited, it resolves as
/// [`ended`](Self::ended) does.
///
/// # Examples
///
/// ```
/// use spark_channel::{Stop, StopReason, spawn_module};
/// # use spark_channel::NativeHandler;
/// # struct Orders;
/// # impl NativeHandler for Orders {
/// #     type Message = String;
/// #     type Response = usize;
/// #     type Error = eyre::Report;
/// #     async fn handle_request(&mut self, m: String) -> eyre::Result<usize> { Ok(m.len()) }
/// #     async fn handle_command(&mut self, _: String) -> eyre::Result<()> { Ok(()) }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let orders = spawn_module(Orders);
/// let watch = orders.watch();
/// orders.stop(Stop::Drain);
/// assert_eq!(watch.await.reason, StopReason::Requested(Stop::Drain));
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a watch does nothing unless it is asked or awaited"]
pub struct Watch {
    control: Arc<Control>,
    seen: u64,
}

/// The future of [`Watch::ended`].
#[must_use = "futures do nothing unless polled"]
pub struct Ended(Pin<Box<dyn Future<Output = Report> + Send + Sync>>);

/// A command that [`Watch::send_into`] sends when the watched module ends.
///
/// Dropping it calls the command off, unless it was [kept](Self::keep).
#[must_use = "dropping it calls the command off; `keep` it to let it stand"]
pub struct DeathNotice {
    /// Empty once it is not to be called off any more.
    standing: Option<(Arc<Control>, NoticeId)>,
    outcome: Arc<OnceLock<Result<(), SparkChannelError>>>,
}

// === impl Watch ===

impl Watch {
    pub(crate) fn new(control: Arc<Control>) -> Self {
        let seen = control.restarts();
        Self { control, seen }
    }

    /// The watched module's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.control.name
    }

    /// What the module is doing.
    #[must_use]
    pub fn state(&self) -> ModuleState {
        self.control.state()
    }

    /// The report, once the module has ended.
    #[must_use]
    pub fn report(&self) -> Option<Report> {
        self.control.ending.report().cloned()
    }

    /// How often a handler of the module was replaced by a new one so far.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.control.restarts()
    }

    /// Resolves with the module's report when it has ended, at once if it has.
    ///
    /// If the module's task was aborted, or its runtime ended, the reason is
    /// [`Aborted`](crate::StopReason::Aborted).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the end can be awaited again.
    pub fn ended(&self) -> Ended {
        let control = Arc::clone(&self.control);
        Ended(Box::pin(async move {
            loop {
                // Before the look, or an end in between would be missed.
                let next = control.ending.next_change();
                if let Some(report) = control.ending.report() {
                    return report.clone();
                }
                next.await;
            }
        }))
    }

    /// Waits for a restart that this watch has not told of, and returns how many
    /// there have been; `None` once the module has ended.
    ///
    /// Several restarts in quick succession may be told as one.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a restart is told only when this returns.
    pub async fn restarted(&mut self) -> Option<u64> {
        loop {
            let next = self.control.ending.next_change();
            let restarts = self.control.restarts();
            if restarts > self.seen {
                self.seen = restarts;
                return Some(restarts);
            }
            if self.control.ending.report().is_some() {
                return None;
            }
            next.await;
        }
    }

    /// Sends `target` the command that `command` makes of the report, when the
    /// watched module ends; at once if it has.
    ///
    /// The ended module waits for nobody: if the target's mailbox is full then, or
    /// the target is stopping, the command is dropped. That is counted in the
    /// target's [`rejected`](crate::Stats::rejected) and told by
    /// [`DeathNotice::outcome`]. Whoever must not miss an end awaits
    /// [`ended`](Self::ended). The target is not kept alive by this.
    ///
    /// `command` runs where the module ends and should be quick; a panic of it is
    /// caught, and then there is no [`outcome`](DeathNotice::outcome).
    ///
    /// # Panics
    ///
    /// If the module has ended, with what `command` panics with.
    pub fn send_into<M, R, C, E>(
        &self,
        target: &SparkGenericModuleDispatcher<M, R, C, E>,
        command: impl FnOnce(&Report) -> M + Send + 'static,
    ) -> DeathNotice
    where
        M: Send + 'static,
        R: Send + 'static,
        C: Send + 'static,
        E: Send + 'static,
    {
        let target = target.downgrade();
        let outcome = Arc::new(OnceLock::new());
        let told = Arc::clone(&outcome);
        let notice = Box::new(move |report: &Report| {
            let sent = match target.upgrade() {
                None => Err(SparkChannelError::Closed),
                Some(target) => target
                    .try_command(command(report))
                    .map_err(|refused| refused.reason),
            };
            if let Err(reason) = &sent {
                tracing::warn!(module = &*report.module, %reason, "death notice not delivered");
            }
            let _ = told.set(sent);
        });
        let standing = match self.control.ending.add(notice) {
            Ok(id) => Some((Arc::clone(&self.control), id)),
            Err(notice) => {
                if let Some(report) = self.control.ending.report() {
                    notice(report);
                }
                None
            }
        };
        DeathNotice { standing, outcome }
    }
}

/// Whether both watch the same module.
impl PartialEq for Watch {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.control, &other.control)
    }
}

impl Eq for Watch {}

impl Hash for Watch {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.control).hash(state);
    }
}

impl IntoFuture for Watch {
    type Output = Report;
    type IntoFuture = Ended;

    fn into_future(self) -> Ended {
        self.ended()
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("name", &self.name())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

// === impl Ended ===

impl Future for Ended {
    type Output = Report;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Report> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ended").finish_non_exhaustive()
    }
}

// === impl DeathNotice ===

impl DeathNotice {
    /// What became of the command; `None` while the watched module lives.
    ///
    /// `Closed` if nobody could send to the target any more, otherwise the reason
    /// for which the target refused.
    #[must_use]
    pub fn outcome(&self) -> Option<Result<(), SparkChannelError>> {
        self.outcome.get().cloned()
    }

    /// Lets the command stand for as long as the watched module lives.
    pub fn keep(mut self) {
        self.standing = None;
    }
}

impl Drop for DeathNotice {
    fn drop(&mut self) {
        if let Some((control, id)) = self.standing.take() {
            control.ending.remove(id);
        }
    }
}

impl fmt::Debug for DeathNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeathNotice")
            .field("outcome", &self.outcome())
            .finish_non_exhaustive()
    }
}
