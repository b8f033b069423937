//! The modules that are seen, from systems and by hand, each once.

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use spark_channel::{ChildStatus, MessageStats, ModuleState, Stats, System, Watch, WeakDispatcher};

/// Where modules are found.
#[derive(Default)]
pub(crate) struct Modules {
    sources: Mutex<Sources>,
}

#[derive(Clone, Default)]
struct Sources {
    systems: Vec<System>,
    modules: Vec<Arc<WatchedModule>>,
}

/// A module that was named by hand, or that a route leads to.
pub(crate) struct WatchedModule {
    watch: Watch,
    read: Box<dyn Fn() -> Told + Send + Sync>,
}

struct Told {
    stats: Stats,
    messages: Option<MessageStats>,
}

/// A module as it is now.
#[derive(Clone, Debug)]
pub(crate) struct SeenModule {
    pub(crate) name: Arc<str>,
    pub(crate) state: ModuleState,
    pub(crate) stats: Stats,
    pub(crate) messages: Option<MessageStats>,
    /// `None` for a child of a supervisor that is not registered by name.
    pub(crate) watch: Option<Watch>,
    /// Whether the service can do without it: a child that may end for good.
    pub(crate) may_end: bool,
}

// === impl Modules ===

impl Modules {
    pub(crate) fn add_system(&self, system: &System) {
        self.lock().systems.push(system.clone());
    }

    /// Adds a module unless it is there.
    pub(crate) fn add(&self, module: Arc<WatchedModule>) {
        let mut sources = self.lock();
        if !sources
            .modules
            .iter()
            .any(|known| known.watch == module.watch)
        {
            sources.modules.push(module);
        }
    }

    /// Takes the modules of this name off that were added one by one.
    pub(crate) fn remove(&self, name: &str) {
        let mut removed = Vec::new();
        self.lock().modules.retain(|module| {
            let stays = module.watch.name() != name;
            if !stays {
                removed.push(Arc::clone(module));
            }
            stays
        });
        // They may hold the last of a mailbox, and messages of the user's in it.
        drop(removed);
    }

    /// All modules, in the order of their names.
    pub(crate) fn see(&self) -> Vec<SeenModule> {
        let sources = self.lock().clone();
        let mut seen = Seen::default();
        for system in &sources.systems {
            for module in system.modules() {
                seen.add(SeenModule {
                    name: module.name,
                    state: module.state,
                    stats: module.stats,
                    messages: module.messages,
                    watch: Some(module.watch),
                    may_end: false,
                });
            }
        }
        for module in &sources.modules {
            seen.add(module.see());
        }
        let registered: HashSet<String> = seen.names();
        for system in &sources.systems {
            for tree in system.trees() {
                seen.add_tree(tree, false, &registered);
            }
        }
        seen.modules.sort_by(|one, other| one.name.cmp(&other.name));
        seen.modules
    }

    fn lock(&self) -> MutexGuard<'_, Sources> {
        // Nothing that can panic runs under the lock; a poisoned one is still whole.
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Modules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources = self.lock();
        let names = sources.modules.iter().map(|module| module.watch.name());
        f.debug_struct("Modules")
            .field("systems", &sources.systems)
            .field("modules", &names.collect::<Vec<_>>())
            .finish()
    }
}

// === impl WatchedModule ===

impl WatchedModule {
    /// `None` for a dispatcher that knows only a mailbox.
    pub(crate) fn new<M, R, C, E>(module: WeakDispatcher<M, R, C, E>) -> Option<Arc<Self>>
    where
        M: Send + 'static,
        R: Send + 'static,
        C: Send + 'static,
        E: Send + 'static,
    {
        let watch = module.watch()?;
        let read = Box::new(move || Told {
            stats: module.stats().unwrap_or_default(),
            messages: module.message_stats(),
        });
        Some(Arc::new(Self { watch, read }))
    }

    pub(crate) fn watch(&self) -> &Watch {
        &self.watch
    }

    fn see(&self) -> SeenModule {
        // Before the counts are read: whoever has ended counts no more.
        let state = self.watch.state();
        let Told { stats, messages } = (self.read)();
        SeenModule {
            name: self.watch.name().into(),
            state,
            stats,
            messages,
            watch: Some(self.watch.clone()),
            may_end: false,
        }
    }
}

impl fmt::Debug for WatchedModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.watch.fmt(f)
    }
}

// === impl SeenModule ===

impl SeenModule {
    pub(crate) fn is_missed(&self) -> bool {
        match self.state {
            ModuleState::Running => false,
            ModuleState::Ended => !self.may_end,
            _ => true,
        }
    }
}

#[derive(Default)]
struct Seen {
    modules: Vec<SeenModule>,
    watches: HashSet<Watch>,
}

// === impl Seen ===

impl Seen {
    fn add(&mut self, module: SeenModule) {
        let is_new = match &module.watch {
            Some(watch) => self.watches.insert(watch.clone()),
            None => true,
        };
        if is_new {
            self.modules.push(module);
        }
    }

    /// Adds the modules of a tree that nobody registered. A supervisor is no module; it is shown
    /// only once it is missed.
    fn add_tree(&mut self, tree: ChildStatus, may_end: bool, registered: &HashSet<String>) {
        let is_module = tree.stats.is_some();
        let module = SeenModule {
            name: tree.name,
            state: tree.state,
            stats: tree.stats.unwrap_or_default(),
            messages: None,
            watch: None,
            may_end: is_module && may_end,
        };
        let is_known = is_module && registered.contains(&*module.name);
        if !is_known && (is_module || module.is_missed()) {
            self.add(module);
        }
        for child in tree.children {
            self.add_tree(child, true, registered);
        }
    }

    /// What the modules call themselves.
    fn names(&self) -> HashSet<String> {
        let watches = self
            .modules
            .iter()
            .filter_map(|module| module.watch.as_ref());
        watches.map(|watch| watch.name().to_owned()).collect()
    }
}

/// How a state is called outside of the process.
pub(crate) fn state_name(state: ModuleState) -> &'static str {
    match state {
        ModuleState::Running => "running",
        ModuleState::Restarting => "restarting",
        ModuleState::Stopping => "stopping",
        ModuleState::Ended => "ended",
        // `ModuleState` may grow.
        _ => "unknown",
    }
}

pub(crate) const STATES: [&str; 4] = ["running", "restarting", "stopping", "ended"];
