//! How a keyed set is started.

use std::{fmt, hash::Hash, marker::PhantomData, sync::Arc, time::Duration};

use tokio::sync::mpsc;

use super::{Census, KeyedHandle, KeyedPanicPolicy};
use crate::{
    Class, IntoHandler, ModuleHandle, NativeHandler, Overflow, SparkChannelCancellationToken,
    SparkChannelCancellationTrait, SparkGenericModuleDispatcher,
    classes::Classify,
    config::Config,
    inlet::inlet,
    run_loop::{self, Keeper, Seating},
};

/// Settings of a keyed set that does not run yet. Made by [`keyed`](crate::keyed()).
#[must_use = "a keyed set starts when it is spawned"]
pub struct KeyedBuilder<K, H: NativeHandler, C = SparkChannelCancellationToken> {
    seating: Seating<K, H>,
    config: Config,
    classify: Option<Classify<H::Message>>,
    token: PhantomData<fn(C)>,
}

// === impl KeyedBuilder ===

impl<K, H: NativeHandler> KeyedBuilder<K, H> {
    pub(super) fn new<T, Marker, KeyOf, F>(key_of: KeyOf, factory: F) -> Self
    where
        T: IntoHandler<Marker, Handler = H>,
        KeyOf: Fn(&H::Message) -> K + Send + 'static,
        F: Fn(&K) -> T + Send + Sync + 'static,
    {
        Self {
            seating: Seating {
                key_of: Box::new(key_of),
                factory: Arc::new(move |key| factory(key).into_handler()),
                on_panic: KeyedPanicPolicy::default(),
                name_of: None,
                undelivered: Box::new(drop),
                idle_timeout: None,
                live_max: 256,
            },
            config: Config::named_after::<T>(),
            classify: H::classes().map(|classify| Arc::new(classify) as _),
            token: PhantomData,
        }
    }
}

impl<K, H, C> KeyedBuilder<K, H, C>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    H: NativeHandler,
    C: SparkChannelCancellationTrait + Send + 'static,
{
    /// Names the set, and each of its modules, in errors, spans and reports. Default: the
    /// handler's type name.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.config.name = Some(name.into());
        self
    }

    /// Bounds the modules that run at once. Default: 256.
    ///
    /// Each costs about 250 bytes from the start, and a task while it runs. A call that
    /// times out looks at all of them.
    ///
    /// # Panics
    ///
    /// [`spawn`](Self::spawn) panics if it is zero.
    pub fn live_max(mut self, modules: usize) -> Self {
        self.seating.live_max = modules;
        self
    }

    /// Passivates a module once no message has come for it for this long. Default: only
    /// when its place is wanted. At least a millisecond; a year at most.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.seating.idle_timeout = Some(timeout.clamp(Duration::from_millis(1), LONGEST_IDLE));
        self
    }

    /// Bounds the mailbox, in messages, and what waits for modules behind it. Default: 64.
    ///
    /// # Panics
    ///
    /// [`spawn`](Self::spawn) panics if it is out of range; see
    /// [`ModuleBuilder::capacity`](crate::ModuleBuilder::capacity).
    pub fn capacity(mut self, messages: usize) -> Self {
        self.config.capacity = messages;
        self
    }

    /// As [`ModuleBuilder::default_timeout`](crate::ModuleBuilder::default_timeout).
    pub fn default_timeout(mut self, timeout: Duration) -> Self {
        self.config.default_timeout = Some(timeout);
        self
    }

    /// Bounds the time between being told to stop and having stopped, and that of each
    /// `stopped` of a module that is passivated. Default: 15 s.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.config.shutdown_timeout = timeout;
        self
    }

    /// As [`ModuleBuilder::drop_abandoned`](crate::ModuleBuilder::drop_abandoned).
    pub fn drop_abandoned(mut self) -> Self {
        self.config.drop_abandoned = true;
        self
    }

    /// What to do after a panic in a handler. Default: restart it from the factory.
    pub fn on_panic(mut self, policy: KeyedPanicPolicy) -> Self {
        self.seating.on_panic = policy;
        self
    }

    /// Takes back the commands that were accepted and will not be handled, because the set
    /// is stopping or the factory panicked, and that no module has been given whose own
    /// [`undelivered`](NativeHandler::undelivered) could take them back: also those for the
    /// key of a module that runs, if they are still in the mailbox. Default: they are
    /// dropped. They are counted in either case; not called once the deadline of the
    /// shutdown has passed. Runs on the set's own task; a panic of it is traced and counted.
    pub fn undelivered(mut self, take_back: impl Fn(H::Message) + Send + 'static) -> Self {
        self.seating.undelivered = Box::new(take_back);
        self
    }

    /// What happens to a message that finds the mailbox full. Default: its sender
    /// [waits](Overflow::Wait). As [`ModuleBuilder::overflow`](crate::ModuleBuilder::overflow).
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.config.overflow = overflow;
        self
    }

    /// Sorts what waits in the mailbox into classes; what a module has been given, it
    /// handles in that order. Default: what the handler says, see
    /// [`NativeHandler::classes`]. As [`ModuleBuilder::classify`](crate::ModuleBuilder::classify).
    pub fn classify(
        mut self,
        classify: impl Fn(&H::Message) -> Class + Send + Sync + 'static,
    ) -> Self {
        self.classify = Some(Arc::new(classify));
        self
    }

    /// Times messages by name; see
    /// [`ModuleBuilder::message_names`](crate::ModuleBuilder::message_names).
    pub fn message_names<F>(mut self, name_of: F) -> Self
    where
        F: Fn(&H::Message) -> &'static str + Send + Sync + 'static,
    {
        self.seating.name_of = Some(self.config.timed(name_of));
        self
    }

    /// As [`ModuleBuilder::cancellation_token`](crate::ModuleBuilder::cancellation_token).
    pub fn cancellation_token<Token>(self) -> KeyedBuilder<K, H, Token>
    where
        Token: SparkChannelCancellationTrait + Send + 'static,
    {
        KeyedBuilder {
            seating: self.seating,
            config: self.config,
            classify: self.classify,
            token: PhantomData,
        }
    }

    /// Starts the set, without any module, on the current runtime.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime, if [`live_max`](Self::live_max) is zero, and for
    /// a [`capacity`](Self::capacity) out of range.
    pub fn spawn(self) -> KeyedHandle<H::Message, H::Response, C, H::Error> {
        let Self {
            seating,
            config,
            classify,
            ..
        } = self;
        assert!(
            seating.live_max > 0,
            "a keyed set needs room for one module"
        );
        let live_max = seating.live_max;
        let (sender, receiver) = mpsc::channel(config.capacity);
        // One more, for what no module counts.
        let control = config.control_of_set(live_max + 1, config.capacity);
        let (inlet, intake) = inlet(receiver, &config, classify, &control);
        let census = Arc::new(Census::default());
        let keeper = Keeper::new(
            seating,
            config,
            inlet.front(live_max),
            Arc::clone(&control),
            Arc::clone(&census),
        );
        let task = tokio::spawn(run_loop::run_keyed(keeper));
        let dispatcher =
            SparkGenericModuleDispatcher::of_module(sender, Arc::clone(&control), None, intake);
        KeyedHandle {
            handle: ModuleHandle::new(dispatcher, control, task),
            census,
        }
    }
}

impl<K, H: NativeHandler, C> fmt::Debug for KeyedBuilder<K, H, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedBuilder")
            .field("name", &self.config.name)
            .field("capacity", &self.config.capacity)
            .field("live_max", &self.seating.live_max)
            .field("idle_timeout", &self.seating.idle_timeout)
            .field("default_timeout", &self.config.default_timeout)
            .field("shutdown_timeout", &self.config.shutdown_timeout)
            .field("on_panic", &self.seating.on_panic)
            .finish_non_exhaustive()
    }
}

/// The clock can be moved ahead by so much, and no module is idle for longer.
const LONGEST_IDLE: Duration = Duration::from_secs(60 * 60 * 24 * 365);
