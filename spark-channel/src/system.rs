//! A registry of modules by name, and the trees that belong together. No globals: a
//! [`System`] is a value.

mod error;
mod registry;
mod tree;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

pub use self::{
    error::{LookupError, RegisterError, SystemClosed},
    registry::RegisteredModule,
};
use self::{registry::Registry, tree::Tree};
use crate::{
    ChildReport, ChildStatus, ModuleHandle, Report, SparkChannelCancellationToken,
    SparkGenericModuleDispatcher, Stop, Supervisor, WeakDispatcher,
};

/// Modules that belong together: found by name, and stopped as one.
///
/// Cheap to clone; all clones are the same system. A registered module is not kept
/// alive by its entry, which vanishes when the module ends. What a system
/// [starts](Self::supervise) or [adopts](Self::adopt) is stopped by
/// [`shutdown`](Self::shutdown), in reverse order.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use spark_channel::{Child, Stop, Strategy, Supervisor, System};
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
/// # async fn main() -> eyre::Result<()> {
/// let system = System::new("shop");
/// let mut sales = Supervisor::new("sales", Strategy::OneForOne);
/// let orders = sales.child(Child::new(|| Orders).name("orders"));
/// system.register(&orders)?;
/// system.supervise(sales)?;
///
/// let found = system.lookup::<String, usize>("orders")?;
/// assert_eq!(found.request("three").await?, 5);
///
/// let report = system.shutdown(Stop::Drain, Duration::from_secs(5)).await;
/// assert!(!report.deadline_passed);
/// assert!(system.lookup::<String, usize>("orders").is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct System(Arc<Inner>);

/// What became of everything a system owned.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SystemReport {
    /// The system's name.
    pub system: Arc<str>,
    /// Whether the deadline cut something short.
    pub deadline_passed: bool,
    /// The reports of its supervisors and modules, in the order they were given to it.
    pub trees: Vec<ChildReport>,
}

struct Inner {
    name: Arc<str>,
    registry: Registry,
    owned: Mutex<Owned>,
    /// Held by the shutdown that is under way: another one waits for it.
    shutting_down: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Owned {
    trees: Vec<Box<dyn Tree>>,
    closed: bool,
}

/// What a shutdown has not come to. Dropped, all of it is told to stop.
struct Rest {
    trees: Vec<Box<dyn Tree>>,
    stop: Stop,
    deadline: Instant,
}

// === impl System ===

impl System {
    /// A system that knows nothing yet.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(Arc::new(Inner {
            name: name.into(),
            registry: Registry::default(),
            owned: Mutex::default(),
            shutting_down: tokio::sync::Mutex::default(),
        }))
    }

    /// The system's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    // --- by name

    /// Registers a module under its own name, until it ends.
    ///
    /// Takes a reference to its dispatcher or handle, or a weak dispatcher.
    ///
    /// # Errors
    ///
    /// [`Taken`](RegisterError::Taken) while another module has the name,
    /// [`Ended`](RegisterError::Ended), or [`Unknown`](RegisterError::Unknown).
    pub fn register<M, R, C, E>(
        &self,
        module: impl Into<WeakDispatcher<M, R, C, E>>,
    ) -> Result<(), RegisterError>
    where
        M: Send + 'static,
        R: Send + 'static,
        C: Send + 'static,
        E: Send + 'static,
    {
        let module = module.into();
        let control = module.control().ok_or(RegisterError::Unknown)?;
        let name = Arc::clone(&control.name);
        self.register_as(name, module)
    }

    /// Registers a module under `name`, until it ends. It may have several names.
    ///
    /// # Errors
    ///
    /// As [`register`](Self::register).
    pub fn register_as<M, R, C, E>(
        &self,
        name: impl Into<Arc<str>>,
        module: impl Into<WeakDispatcher<M, R, C, E>>,
    ) -> Result<(), RegisterError>
    where
        M: Send + 'static,
        R: Send + 'static,
        C: Send + 'static,
        E: Send + 'static,
    {
        let module = module.into();
        let name = name.into();
        let control = Arc::clone(module.control().ok_or(RegisterError::Unknown)?);
        if control.has_ended() {
            return Err(RegisterError::Ended);
        }
        let registry = &self.0.registry;
        let id = registry.add(Arc::clone(&name), module, Arc::clone(&control))?;
        let system = Arc::downgrade(&self.0);
        let vanish = Box::new(move |_: &Report| {
            if let Some(system) = system.upgrade() {
                system.registry.remove(&name, id);
            }
        });
        control.ending.add(vanish).map(drop).map_err(|vanish| {
            if let Some(report) = control.ending.report() {
                vanish(report);
            }
            RegisterError::Ended
        })
    }

    /// Takes a name off, if it is there. The module goes on.
    pub fn deregister(&self, name: &str) -> bool {
        self.0.registry.deregister(name)
    }

    /// A dispatcher for the module registered as `name`, of the default token and
    /// error types; see [`lookup_as`](Self::lookup_as) for others.
    ///
    /// # Errors
    ///
    /// [`Absent`](LookupError::Absent), or [`TypeMismatch`](LookupError::TypeMismatch).
    pub fn lookup<M, R>(
        &self,
        name: &str,
    ) -> Result<SparkGenericModuleDispatcher<M, R>, LookupError>
    where
        M: Send + 'static,
        R: Send + 'static,
    {
        self.lookup_as::<M, R, SparkChannelCancellationToken, eyre::Report>(name)
    }

    /// A dispatcher of any type for the module registered as `name`.
    ///
    /// # Errors
    ///
    /// As [`lookup`](Self::lookup).
    pub fn lookup_as<M, R, C, E>(
        &self,
        name: &str,
    ) -> Result<SparkGenericModuleDispatcher<M, R, C, E>, LookupError>
    where
        M: Send + 'static,
        R: Send + 'static,
        C: Send + 'static,
        E: Send + 'static,
    {
        self.0.registry.lookup(name)
    }

    /// Waits until a module is registered as `name`, and returns a dispatcher for it.
    ///
    /// # Errors
    ///
    /// [`TypeMismatch`](LookupError::TypeMismatch), if its types are other ones.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn appeared<M, R>(
        &self,
        name: &str,
    ) -> Result<SparkGenericModuleDispatcher<M, R>, LookupError>
    where
        M: Send + 'static,
        R: Send + 'static,
    {
        self.appeared_as(name).await
    }

    /// As [`appeared`](Self::appeared), for a dispatcher of any type.
    ///
    /// # Errors
    ///
    /// As [`appeared`](Self::appeared).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn appeared_as<M, R, C, E>(
        &self,
        name: &str,
    ) -> Result<SparkGenericModuleDispatcher<M, R, C, E>, LookupError>
    where
        M: Send + 'static,
        R: Send + 'static,
        C: Send + 'static,
        E: Send + 'static,
    {
        loop {
            // Before the look, or what is registered in between would be missed.
            let next = self.0.registry.next_change();
            match self.lookup_as(name) {
                Err(LookupError::Absent { .. }) => next.await,
                found => return found,
            }
        }
    }

    /// The registered modules, in the order of their names.
    #[must_use]
    pub fn modules(&self) -> Vec<RegisteredModule> {
        self.0.registry.list()
    }

    // --- what it owns

    /// Spawns a supervisor that belongs to this system.
    ///
    /// # Errors
    ///
    /// Gives it back once [`shutdown`](Self::shutdown) has begun.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn supervise(&self, supervisor: Supervisor) -> Result<(), SystemClosed<Supervisor>> {
        let mut owned = self.0.owned();
        if owned.closed {
            return Err(SystemClosed::new(supervisor));
        }
        owned.trees.push(Box::new(supervisor.spawn()));
        Ok(())
    }

    /// Takes over a module that has been spawned, and keeps it alive.
    ///
    /// # Errors
    ///
    /// Gives it back once [`shutdown`](Self::shutdown) has begun.
    pub fn adopt<M, R, C, E>(
        &self,
        module: ModuleHandle<M, R, C, E>,
    ) -> Result<(), SystemClosed<ModuleHandle<M, R, C, E>>>
    where
        M: Send + 'static,
        R: Send + 'static,
        C: Send + 'static,
        E: Send + 'static,
    {
        let mut owned = self.0.owned();
        if owned.closed {
            return Err(SystemClosed::new(module));
        }
        owned.trees.push(Box::new(module));
        Ok(())
    }

    /// What the system owns, in the order it was given to it. What has ended stays
    /// until the [`shutdown`](Self::shutdown), for its report.
    #[must_use]
    pub fn trees(&self) -> Vec<ChildStatus> {
        let owned = self.0.owned();
        owned.trees.iter().map(|tree| tree.status()).collect()
    }

    /// Stops everything the system owns, the last one first, each with what is left
    /// of `within`, and reports.
    ///
    /// Once the time is over, all that is left is stopped at the same time. From
    /// the first poll on nothing more is owned. The registry goes on; what has
    /// ended is gone from it. If the system is being shut down already, this
    /// waits for that, and has nothing to report.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses the report, and what it had not come to is told to
    /// stop at once, without order.
    pub async fn shutdown(&self, stop: Stop, within: Duration) -> SystemReport {
        let now = Instant::now();
        let mut rest = Rest {
            trees: Vec::new(),
            stop,
            deadline: now.checked_add(within).unwrap_or(now + NEVER),
        };
        self.0.owned().closed = true;
        let _other = self.0.shutting_down.lock().await;
        rest.trees = std::mem::take(&mut self.0.owned().trees);
        let mut reports = Vec::with_capacity(rest.trees.len());
        while let Some(tree) = rest.trees.pop() {
            let left = rest.left();
            if left.is_zero() {
                rest.stop_all();
            }
            reports.push(tree.shutdown(stop, left).await);
        }
        reports.reverse();
        SystemReport {
            system: Arc::clone(&self.0.name),
            deadline_passed: reports.iter().any(ChildReport::deadline_passed),
            trees: reports,
        }
    }
}

impl fmt::Debug for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("System")
            .field("name", &self.name())
            .field("modules", &self.modules().len())
            .finish_non_exhaustive()
    }
}

// === impl Inner ===

impl Inner {
    fn owned(&self) -> MutexGuard<'_, Owned> {
        // Spawning may panic under it, before anything is changed.
        self.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Rest ===

impl Rest {
    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn stop_all(&self) {
        let left = self.left();
        for tree in self.trees.iter().rev() {
            tree.stop(self.stop, left);
        }
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        self.stop_all();
    }
}

/// Thirty years: what is longer stands for "never".
const NEVER: Duration = Duration::from_secs(60 * 60 * 24 * 365 * 30);
