//! A module before it is given to its supervisor.

use std::{fmt, hash::Hash, num::NonZeroUsize, sync::Arc, time::Duration};

use super::renewed::Renewed;
use crate::{
    Class, Deadlocks, Factory, HandleOf, IntoHandler, ModuleBuilder, NativeHandler, Overflow,
    PanicPolicy, Restart, SparkChannelCancellationToken, SparkChannelCancellationTrait,
    config::short_type_name, module, oversight::Oversight, pool,
};

/// A module, or a pool, that a [`Supervisor`](crate::Supervisor) is to keep alive.
///
/// Its handlers come from a factory, which is called for the first start and for
/// each restart. The mailbox and the dispatchers stay.
#[must_use = "a child starts when its supervisor does"]
pub struct Child<H: NativeHandler, C = SparkChannelCancellationToken> {
    module: ModuleBuilder<Renewed<H>, C>,
    replicas: usize,
    restart: Restart,
}

// === impl Child ===

impl<H: NativeHandler> Child<H> {
    /// A module that handles one message at a time.
    pub fn new<T, Marker>(factory: impl Fn() -> T + Send + Sync + 'static) -> Self
    where
        T: IntoHandler<Marker, Handler = H>,
    {
        let factory: Factory<H> = Arc::new(move || factory().into_handler());
        Self {
            module: module(Renewed::new(factory)).name(short_type_name(std::any::type_name::<T>())),
            replicas: 1,
            restart: Restart::default(),
        }
    }

    /// A pool of `replicas` that take from one mailbox; see [`pool`](crate::pool()).
    ///
    /// Under [`OneForOne`](crate::Strategy::OneForOne) a replica that fails restarts
    /// alone. The other strategies restart all of them.
    ///
    /// # Panics
    ///
    /// Panics if `replicas` is zero.
    pub fn pool<T, Marker>(replicas: usize, factory: impl Fn() -> T + Send + Sync + 'static) -> Self
    where
        T: IntoHandler<Marker, Handler = H>,
    {
        let replicas = NonZeroUsize::new(replicas).expect("a pool needs at least one replica");
        let factory: Factory<H> = Arc::new(move || factory().into_handler());
        let replica = move || Renewed::new(Arc::clone(&factory));
        Self {
            module: pool(replicas.get(), replica).name(short_type_name(std::any::type_name::<T>())),
            replicas: replicas.get(),
            restart: Restart::default(),
        }
    }
}

impl<H, C> Child<H, C>
where
    H: NativeHandler,
    C: SparkChannelCancellationTrait + Send + 'static,
{
    /// When to restart it. Default: [`Permanent`](Restart::Permanent).
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// See [`ModuleBuilder::name`].
    pub fn name(self, name: impl Into<Arc<str>>) -> Self {
        self.with(|module| module.name(name))
    }

    /// See [`ModuleBuilder::capacity`]. Messages wait in the mailbox while the child
    /// is restarted, so its bound is also what a restart can hold up.
    ///
    /// # Panics
    ///
    /// [`Supervisor::child`](crate::Supervisor::child) panics for what
    /// [`ModuleBuilder::capacity`] does.
    pub fn capacity(self, messages: usize) -> Self {
        self.with(|module| module.capacity(messages))
    }

    /// See [`ModuleBuilder::overflow`]. It holds while the child is restarted as well.
    pub fn overflow(self, overflow: Overflow) -> Self {
        self.with(|module| module.overflow(overflow))
    }

    /// See [`ModuleBuilder::classify`]. What waits in the classes stays there while the
    /// child is restarted.
    pub fn classify(self, classify: impl Fn(&H::Message) -> Class + Send + Sync + 'static) -> Self {
        self.with(|module| module.classify(classify))
    }

    /// See [`ModuleBuilder::default_timeout`]. The time a restart takes counts.
    pub fn default_timeout(self, timeout: Duration) -> Self {
        self.with(|module| module.default_timeout(timeout))
    }

    /// Bounds the time a handler has to finish its message and its `stopped`, when it
    /// has to leave for a restart; what still runs then is dropped. Default: 15 s.
    pub fn shutdown_timeout(self, timeout: Duration) -> Self {
        self.with(|module| module.shutdown_timeout(timeout))
    }

    /// See [`ModuleBuilder::drop_abandoned`].
    pub fn drop_abandoned(self) -> Self {
        self.with(ModuleBuilder::drop_abandoned)
    }

    /// See [`ModuleBuilder::without_direct_calls`].
    pub fn without_direct_calls(self) -> Self {
        self.with(ModuleBuilder::without_direct_calls)
    }

    /// See [`ModuleBuilder::deadlocks`].
    pub fn deadlocks(self, deadlocks: Deadlocks) -> Self {
        self.with(|module| module.deadlocks(deadlocks))
    }

    /// See [`ModuleBuilder::message_names`].
    pub fn message_names<F>(self, name_of: F) -> Self
    where
        F: Fn(&H::Message) -> &'static str + Send + Sync + 'static,
    {
        self.with(|module| module.message_names(name_of))
    }

    /// See [`ModuleBuilder::round_robin`]. A replica that waits for its restart keeps
    /// what it was given, as it does with the other ways to choose one.
    pub fn round_robin(self) -> Self {
        self.with(ModuleBuilder::round_robin)
    }

    /// See [`ModuleBuilder::least_loaded`].
    pub fn least_loaded(self) -> Self {
        self.with(ModuleBuilder::least_loaded)
    }

    /// See [`ModuleBuilder::by_key`].
    pub fn by_key<K, F>(self, key_of: F) -> Self
    where
        K: Hash,
        F: Fn(&H::Message) -> K + Send + Sync + 'static,
    {
        self.with(|module| module.by_key(key_of))
    }

    /// See [`ModuleBuilder::broadcast`].
    pub fn broadcast(self) -> Self
    where
        H::Message: Clone,
    {
        self.with(ModuleBuilder::broadcast)
    }

    /// See [`ModuleBuilder::cancellation_token`].
    pub fn cancellation_token<Token>(self) -> Child<H, Token>
    where
        Token: SparkChannelCancellationTrait + Send + 'static,
    {
        Child {
            module: self.module.cancellation_token(),
            replicas: self.replicas,
            restart: self.restart,
        }
    }

    pub(super) const fn replicas(&self) -> usize {
        self.replicas
    }

    pub(super) const fn kind(&self) -> Restart {
        self.restart
    }

    /// Starts the module's task, which waits for orders.
    pub(super) fn spawn(self, oversight: Arc<Oversight>) -> HandleOf<Renewed<H>, C> {
        self.module
            // Of a child that is not restarted. All others ask their supervisor.
            .on_panic(PanicPolicy::Stop)
            .overseen(oversight, Renewed::vacate)
            .spawn()
    }

    fn with(
        mut self,
        set: impl FnOnce(ModuleBuilder<Renewed<H>, C>) -> ModuleBuilder<Renewed<H>, C>,
    ) -> Self {
        self.module = set(self.module);
        self
    }
}

impl<H: NativeHandler, C> fmt::Debug for Child<H, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("module", &self.module)
            .field("replicas", &self.replicas)
            .field("restart", &self.restart)
            .finish()
    }
}
