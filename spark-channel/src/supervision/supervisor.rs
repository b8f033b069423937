//! The supervisor before it runs, and the handle of one that does.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::Notify, task::JoinHandle, time::Instant};

use super::{
    branch::{Branch, Shared},
    child::Child,
    decision::{Decision, Plan},
    driver::Driver,
    policy::{Backoff, Intensity, Strategy},
    report::{ChildStatus, SupervisorReport},
};
use crate::{
    ModuleState, NativeHandler, Restart, SparkChannelCancellationTrait,
    SparkGenericModuleDispatcher, Stop, oversight::Oversight, stop::Wish,
};

/// Keeps modules alive: starts them in order, restarts them when they fail, and stops
/// them in reverse order.
///
/// Supervisors nest: one that [gives up](Self::intensity) has failed for its parent,
/// which restarts it, or gives up as well.
///
/// What a restart means for callers: the address stays, so a dispatcher taken before
/// works after it; what is queued is handled by the next handler, in order; the
/// message that crashed the handler is answered
/// [`Panicked`](crate::SparkChannelError::Panicked) and not tried again. While a
/// child waits for its restart its mailbox accepts messages up to its bound.
///
/// A handler that panicked is dropped; one that has to leave because another failed,
/// whose start failed with an error, or that a shutdown message ended, gets its
/// [`stopped`](NativeHandler::stopped) first. The next one is made by the factory
/// after the old one is gone. A child that has ended for good stays so, also when its
/// supervisor is restarted.
///
/// While a handler waits for its restart nobody answers; what that means for siblings
/// that ask it is said at [`Strategy`]. In the same way a `started` that asks a child
/// added later waits for ever, unless with a timeout.
///
/// Children are added before the start; a supervisor whose children have all ended
/// ends, at once if there are none.
///
/// # Examples
///
/// ```
/// use spark_channel::{Child, NativeHandler, Stop, Strategy, Supervisor};
///
/// #[derive(Default)]
/// struct Division { done: u64 }
///
/// impl NativeHandler for Division {
///     type Message = (u64, u64);
///     type Response = (u64, u64);
///     type Error = eyre::Report;
///
///     async fn handle_request(&mut self, (a, b): (u64, u64)) -> eyre::Result<(u64, u64)> {
///         self.done += 1;
///         Ok((a / b, self.done))
///     }
///
///     async fn handle_command(&mut self, _: (u64, u64)) -> eyre::Result<()> {
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> eyre::Result<()> {
/// # std::panic::set_hook(Box::new(|_| {}));
/// let mut arithmetic = Supervisor::new("arithmetic", Strategy::OneForOne);
/// let divide = arithmetic.child(Child::new(Division::default).name("divide"));
/// let arithmetic = arithmetic.spawn();
///
/// assert_eq!(divide.request((6, 3)).await?, (2, 1));
/// assert!(divide.request((6, 0)).await.is_err());
/// assert_eq!(divide.request((6, 2)).await?, (3, 1)); // the same address, a new handler
///
/// let report = arithmetic.shutdown(Stop::Drain).await;
/// assert_eq!(report.restarts, 1);
/// assert!(report.modules().all(|module| module.stats.accounted() == 3));
/// # Ok(())
/// # }
/// ```
#[must_use = "a supervisor starts its children when it is spawned"]
pub struct Supervisor {
    name: Arc<str>,
    strategy: Strategy,
    intensity: Intensity,
    backoff: Backoff,
    seed: Option<u64>,
    restart: Restart,
    shutdown_timeout: Duration,
    bell: Arc<Notify>,
    children: Vec<Seed>,
}

/// The owner's end of a running supervisor.
///
/// Dropping it stops the tree, as [`Stop::Drain`] does, without waiting for it.
#[must_use = "dropping it stops the tree; `shutdown` or `wait` says what became of it"]
pub struct SupervisorHandle {
    shared: Arc<Shared>,
    task: JoinHandle<SupervisorReport>,
}

/// A child that is not started.
enum Seed {
    Module(Branch),
    Supervisor(Supervisor),
}

// === impl Supervisor ===

impl Supervisor {
    /// A supervisor without children.
    pub fn new(name: impl Into<Arc<str>>, strategy: Strategy) -> Self {
        Self {
            name: name.into(),
            strategy,
            intensity: Intensity::default(),
            backoff: Backoff::default(),
            seed: None,
            restart: Restart::default(),
            shutdown_timeout: Duration::from_secs(15),
            bell: Arc::default(),
            children: Vec::new(),
        }
    }

    /// Gives up at the failure that comes after `restarts` others within `within`.
    /// Default: 5 restarts within 10 s.
    ///
    /// A supervisor that gives up stops its children in reverse order. Its parent
    /// then restarts it, children, mailboxes and addresses included; without a
    /// parent it ends. A larger number hides a fault for longer.
    pub fn intensity(mut self, restarts: usize, within: Duration) -> Self {
        let restarts = Some(restarts);
        self.intensity = Intensity { restarts, within };
        self
    }

    /// Never gives up, however often a child fails. The backoff alone keeps a child
    /// that always fails from taking up the processor.
    pub fn unlimited(mut self) -> Self {
        self.intensity.restarts = None;
        self
    }

    /// How long to wait before a restart. Default: see [`Backoff`].
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Makes the jitter of the backoff repeatable. Default: a random seed.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// When the parent restarts this supervisor, if it has one. Default:
    /// [`Permanent`](Restart::Permanent). A [`Temporary`](Restart::Temporary) one ends
    /// when it gives up.
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// Bounds the time all children together have to stop. Default: 15 s.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.shutdown_timeout = timeout;
        self
    }

    /// Adds a child, and returns its address, which works from now on and for all of
    /// its restarts. What it is sent before the supervisor is spawned waits.
    ///
    /// The supervisor keeps its children alive, whether or not anybody has a
    /// dispatcher.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime, and for a capacity out of range.
    pub fn child<H, C>(
        &mut self,
        child: Child<H, C>,
    ) -> SparkGenericModuleDispatcher<H::Message, H::Response, C, H::Error>
    where
        H: NativeHandler,
        C: SparkChannelCancellationTrait + Send + 'static,
    {
        let restart = child.kind();
        let oversight = self.oversight(child.replicas(), restart);
        let handle = child.spawn(Arc::clone(&oversight));
        let dispatcher = handle.dispatcher();
        let bell = Arc::clone(&self.bell);
        let branch = Branch::module(handle, oversight, restart, bell);
        self.children.push(Seed::Module(branch));
        dispatcher
    }

    /// Adds a supervisor as a child. It counts as started once all of its children are.
    pub fn supervisor(&mut self, child: Self) {
        self.children.push(Seed::Supervisor(child));
    }

    /// Starts the children in the order they were added, each when the one before it
    /// has started.
    ///
    /// A child whose start fails is restarted like any other that fails.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn spawn(self) -> SupervisorHandle {
        let (shared, task) = self.spawn_under(None);
        SupervisorHandle { shared, task }
    }

    fn spawn_under(
        self,
        oversight: Option<Arc<Oversight>>,
    ) -> (Arc<Shared>, JoinHandle<SupervisorReport>) {
        let bell = &self.bell;
        let branches: Vec<Branch> = self
            .children
            .into_iter()
            .map(|seed| match seed {
                Seed::Module(branch) => branch,
                Seed::Supervisor(child) => child.into_branch(Arc::clone(bell)),
            })
            .collect();
        let plans: Vec<Plan> = branches.iter().map(Branch::plan).collect();
        let decision = Decision::new(
            self.strategy,
            self.intensity,
            self.backoff,
            oversight.as_ref().is_some_and(|o| o.comes_back()),
            self.seed
                .unwrap_or_else(|| RandomState::new().hash_one(&self.name)),
            &plans,
            Instant::now(),
        );
        let shared = Arc::new(Shared::new(
            self.name,
            self.bell,
            self.shutdown_timeout,
            branches.iter().map(Branch::probe).collect(),
            oversight,
        ));
        let driver = Driver::new(decision, branches, Arc::clone(&shared));
        (shared, tokio::spawn(driver.run()))
    }

    fn into_branch(self, parents_bell: Arc<Notify>) -> Branch {
        let restart = self.restart;
        let oversight = Arc::new(Oversight::new(1, restart, parents_bell));
        let (shared, task) = self.spawn_under(Some(Arc::clone(&oversight)));
        Branch::supervisor(shared, task, oversight, restart)
    }

    fn oversight(&self, replicas: usize, restart: Restart) -> Arc<Oversight> {
        let bell = Arc::clone(&self.bell);
        Arc::new(Oversight::new(replicas, restart, bell))
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor")
            .field("name", &self.name)
            .field("strategy", &self.strategy)
            .field("intensity", &self.intensity)
            .field("backoff", &self.backoff)
            .field("children", &self.children.len())
            .finish_non_exhaustive()
    }
}

// === impl SupervisorHandle ===

impl SupervisorHandle {
    /// The supervisor's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// What the supervisor is doing.
    #[must_use]
    pub fn state(&self) -> ModuleState {
        self.shared.state()
    }

    /// What the children are doing, in the order they were added.
    #[must_use]
    pub fn children(&self) -> Vec<ChildStatus> {
        self.shared.children()
    }

    /// Tells the tree to stop and returns at once. May be called again: a stronger
    /// [`Stop`] replaces a weaker one, an earlier deadline a later one.
    pub fn stop(&self, stop: Stop) {
        self.stop_within(stop, self.shared.shutdown_timeout);
    }

    /// Stops the children in reverse order, within the
    /// [`shutdown_timeout`](Supervisor::shutdown_timeout), and reports.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses the report. Once polled, the tree stops on its own.
    pub async fn shutdown(self, stop: Stop) -> SupervisorReport {
        let within = self.shared.shutdown_timeout;
        self.shutdown_within(stop, within).await
    }

    /// Stops the children in reverse order, all of them within `within`, and reports.
    ///
    /// Each is told to stop when the one added after it has ended, with what is left
    /// of the time; at the deadline all that still run are. A child that is waiting
    /// for its restart gives back what is queued, except that with [`Stop::Drain`] it
    /// is started for it. To take commands back ([`undelivered`](NativeHandler::undelivered))
    /// it gets a handler that is stopped but was never started. A handler that blocks its thread is reported
    /// [`Unresponsive`](crate::StopReason::Unresponsive) 100 ms after the deadline.
    ///
    /// # Cancel safety
    ///
    /// As [`shutdown`](Self::shutdown).
    pub async fn shutdown_within(self, stop: Stop, within: Duration) -> SupervisorReport {
        self.stop_within(stop, within);
        self.wait().await
    }

    /// Waits until the supervisor has ended by itself, because it gave up or every
    /// child has ended, and reports.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the tree, as dropping the handle does.
    pub async fn wait(mut self) -> SupervisorReport {
        match (&mut self.task).await {
            Ok(report) => report,
            Err(_) => self.shared.aborted(),
        }
    }

    pub(crate) fn status(&self) -> ChildStatus {
        self.shared.status()
    }

    fn stop_within(&self, stop: Stop, within: Duration) {
        self.shared.stop(Wish::within(stop, within));
    }

    /// Tells the tree to stop, whoever has the handle.
    pub(crate) fn stopper(&self) -> Arc<dyn Fn(Wish) + Send + Sync> {
        let shared = Arc::clone(&self.shared);
        Arc::new(move |wish| shared.stop(wish))
    }
}

impl Drop for SupervisorHandle {
    fn drop(&mut self) {
        if !self.shared.has_ended() {
            self.stop(Stop::Drain);
        }
    }
}

impl fmt::Debug for SupervisorHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupervisorHandle")
            .field("name", &self.name())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
