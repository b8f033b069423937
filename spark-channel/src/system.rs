//! A registry of modules by name, and the trees that belong together. No globals: a
//! [`System`] is a value.

mod error;
mod owned;
mod registry;
mod tree;

use std::{fmt, sync::Arc, time::Duration};

pub use self::{
    error::{LookupError, RegisterError, SystemClosed},
    registry::RegisteredModule,
};
use self::{
    owned::Owned,
    registry::{Place, Registry},
};
use crate::{
    ChildReport, ChildStatus, ModuleHandle, Report, SparkChannelCancellationToken,
    SparkGenericModuleDispatcher, Stop, Supervisor, WeakDispatcher, stop::Wish,
    supervision::modules_of,
};

/// Modules that belong together: found by name, and stopped as one.
///
/// Cheap to clone; all clones are the same system. A registered module is not kept
/// alive by its entry, which vanishes when the module ends. What a system
/// [starts](Self::supervise) or [adopts](Self::adopt) is stopped by
/// [`shutdown`](Self::shutdown), in reverse order; without one, it is told to stop
/// when the last clone is dropped, as [`Stop::Drain`] does and without order.
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
    owned: Owned,
}

// === impl System ===

impl System {
    /// A system that knows nothing yet.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(Arc::new(Inner {
            name: name.into(),
            registry: Registry::default(),
            owned: Owned::default(),
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
        let registry = &self.0.registry;
        let id = registry.new_id();
        let vanish = {
            let (system, name) = (Arc::downgrade(&self.0), Arc::clone(&name));
            move |_: &Report| {
                if let Some(system) = system.upgrade() {
                    system.registry.remove(&name, id);
                }
            }
        };
        let Ok(notice) = control.ending.add(Box::new(vanish)) else {
            return Err(RegisterError::Ended);
        };
        let place = Place {
            id,
            notice,
            control: Arc::clone(&control),
        };
        registry.add(Arc::clone(&name), module, place)?;
        if control.has_ended() {
            // It may have been too early for the notice to find the entry.
            registry.remove(&name, id);
            return Err(RegisterError::Ended);
        }
        Ok(())
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
        let owned = &self.0.owned;
        let added = owned.add(supervisor, |supervisor| Box::new(supervisor.spawn()));
        added.map_err(SystemClosed::new)
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
        let added = self.0.owned.add(module, |module| Box::new(module));
        added.map_err(SystemClosed::new)
    }

    /// What the system owns, in the order it was given to it. What has ended stays
    /// until the [`shutdown`](Self::shutdown), for its report.
    #[must_use]
    pub fn trees(&self) -> Vec<ChildStatus> {
        self.0.owned.status()
    }

    /// Stops everything the system owns, the last one first, each with what is left
    /// of `within`, and reports.
    ///
    /// Once the time is over, all that is left is stopped at the same time. From
    /// the first poll on nothing more is owned. The registry goes on; what has
    /// ended is gone from it.
    ///
    /// May be called again: a stronger [`Stop`] replaces a weaker one, an earlier
    /// deadline a later one, for the call that is under way as well. (Only an adopted
    /// module that blocks its thread is still waited for as it was first told.) This
    /// call waits for that one, and has nothing to report.
    ///
    /// # Cancel safety
    ///
    /// What it had not come to is told to stop at once, without order. Another call
    /// waits for the end of all, and has the whole report.
    pub async fn shutdown(&self, stop: Stop, within: Duration) -> SystemReport {
        let trees = self.0.owned.shut_down(Wish::within(stop, within)).await;
        SystemReport {
            system: Arc::clone(&self.0.name),
            deadline_passed: trees.iter().any(ChildReport::deadline_passed),
            trees,
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

// === impl SystemReport ===

impl SystemReport {
    /// The reports of all modules, also of those below supervisors, in the order they
    /// were given to the system.
    pub fn modules(&self) -> impl Iterator<Item = &Report> {
        modules_of(&self.trees)
    }
}
