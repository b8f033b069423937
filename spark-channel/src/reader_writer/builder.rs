//! How a reader-writer module is started.

use std::{fmt, marker::PhantomData, num::NonZeroUsize, sync::Arc, time::Duration};

use tokio::sync::mpsc;

use super::{ReaderWriter, ReaderWriterHandler};
use crate::{
    Class, Deadlocks, HandleOf, ModuleHandle, Overflow, PanicPolicy, SparkChannelCancellationToken,
    SparkChannelCancellationTrait, SparkGenericModuleDispatcher,
    classes::Classify,
    config::Config,
    inlet::inlet,
    run_loop::{self, Worker},
    timings::NameOf,
};

/// Prepares a module whose reads run side by side.
///
/// # Examples
///
/// See [`ReaderWriterHandler`].
pub fn reader_writer<H: ReaderWriterHandler>(handler: H) -> ReaderWriterBuilder<H> {
    ReaderWriterBuilder {
        handler,
        readers: READERS,
        policy: PanicPolicy::Continue,
        name_of: None,
        config: Config::named_after::<H>(),
        classify: H::classes().map(|classify| Arc::new(classify) as _),
        token: PhantomData,
    }
}

/// Settings of a reader-writer module that does not run yet. Made by [`reader_writer`].
#[must_use = "a module starts when it is spawned"]
pub struct ReaderWriterBuilder<H: ReaderWriterHandler, C = SparkChannelCancellationToken> {
    handler: H,
    readers: usize,
    policy: PanicPolicy<ReaderWriter<H>>,
    name_of: Option<NameOf<H::Message>>,
    config: Config,
    classify: Option<Classify<H::Message>>,
    token: PhantomData<fn(C)>,
}

// === impl ReaderWriterBuilder ===

impl<H, C> ReaderWriterBuilder<H, C>
where
    H: ReaderWriterHandler,
    C: SparkChannelCancellationTrait + Send + 'static,
{
    /// Bounds how many reads run at once. Default: 64.
    ///
    /// While as many run, messages wait in the mailbox. A larger bound costs the
    /// memory of one handler future for each read that does run beside others, kept until
    /// no read runs, and eight bytes for each that could.
    ///
    /// # Panics
    ///
    /// [`spawn`](Self::spawn) panics if it is zero.
    pub fn readers(mut self, at_once: usize) -> Self {
        self.readers = at_once;
        self
    }

    /// Names the module; see [`ModuleBuilder::name`](crate::ModuleBuilder::name).
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.config.name = Some(name.into());
        self
    }

    /// Bounds the mailbox, in messages; see
    /// [`ModuleBuilder::capacity`](crate::ModuleBuilder::capacity). Running reads do not
    /// count against it.
    ///
    /// # Panics
    ///
    /// [`spawn`](Self::spawn) panics if it is out of range.
    pub fn capacity(mut self, messages: usize) -> Self {
        self.config.capacity = messages;
        self
    }

    /// What happens to a message that finds the mailbox full; see
    /// [`ModuleBuilder::overflow`](crate::ModuleBuilder::overflow).
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.config.overflow = overflow;
        self
    }

    /// Sorts messages into classes; see
    /// [`ModuleBuilder::classify`](crate::ModuleBuilder::classify).
    ///
    /// What waits for the running reads has been taken out of its class, and gives way to
    /// messages of priority [`Control`](crate::Priority::Control) all the same.
    pub fn classify(
        mut self,
        classify: impl Fn(&H::Message) -> Class + Send + Sync + 'static,
    ) -> Self {
        self.classify = Some(Arc::new(classify));
        self
    }

    /// Limits requests that set no limit of their own; see
    /// [`ModuleBuilder::default_timeout`](crate::ModuleBuilder::default_timeout).
    pub fn default_timeout(mut self, timeout: Duration) -> Self {
        self.config.default_timeout = Some(timeout);
        self
    }

    /// Bounds the time between being told to stop and having stopped. Default: 15 s.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.config.shutdown_timeout = timeout;
        self
    }

    /// What to do after a panic. Default: [`Continue`](PanicPolicy::Continue).
    ///
    /// Reads that run beside the one that panicked go on: a restart waits for them, and
    /// nothing starts meanwhile; a stop lets them end.
    pub fn on_panic(mut self, policy: PanicPolicy<ReaderWriter<H>>) -> Self {
        self.policy = policy;
        self
    }

    /// Drops a running request handler, at its next `.await`, once its caller has
    /// gone or its deadline has passed. Default: it runs to its end.
    pub fn drop_abandoned(mut self) -> Self {
        self.config.drop_abandoned = true;
        self
    }

    /// What becomes of a request, made by this module's handler, that could never be
    /// answered. Default: [`Error`](Deadlocks::Error).
    pub fn deadlocks(mut self, mode: Deadlocks) -> Self {
        self.config.deadlocks = mode;
        self
    }

    /// Handles every request on the module's own task; see
    /// [`ModuleBuilder::without_direct_calls`](crate::ModuleBuilder::without_direct_calls).
    pub fn without_direct_calls(mut self) -> Self {
        self.config.direct_calls = false;
        self
    }

    /// Times messages by name; see
    /// [`ModuleBuilder::message_names`](crate::ModuleBuilder::message_names).
    pub fn message_names<F>(mut self, name_of: F) -> Self
    where
        F: Fn(&H::Message) -> &'static str + Send + Sync + 'static,
    {
        self.name_of = Some(self.config.timed(name_of));
        self
    }

    /// Uses `Token` in [`Shutdown`](crate::SparkGenericModuleMessage::Shutdown) messages.
    /// Default: [`SparkChannelCancellationToken`].
    pub fn cancellation_token<Token>(self) -> ReaderWriterBuilder<H, Token>
    where
        Token: SparkChannelCancellationTrait + Send + 'static,
    {
        ReaderWriterBuilder {
            handler: self.handler,
            readers: self.readers,
            policy: self.policy,
            name_of: self.name_of,
            config: self.config,
            classify: self.classify,
            token: PhantomData,
        }
    }

    /// Starts the module on the current runtime.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime, for a [`capacity`](Self::capacity) out of
    /// range, and for zero [`readers`](Self::readers).
    pub fn spawn(self) -> HandleOf<ReaderWriter<H>, C> {
        let Self {
            handler,
            readers,
            policy,
            name_of,
            config,
            classify,
            ..
        } = self;
        let readers = NonZeroUsize::new(readers)
            .expect("a reader-writer module needs room for at least one reader");
        let (sender, receiver) = mpsc::channel(config.capacity);
        let control = config.control_of_readers(readers, config.capacity);
        let (inlet, intake) = inlet(receiver, &config, classify, &control);
        let direct_calls = config.direct_calls;
        let mailbox = if direct_calls {
            inlet.resting(&control)
        } else {
            inlet.own(&control)
        };
        let handler = ReaderWriter::new(handler);
        let worker = Worker::new(handler, policy, &config, mailbox, Arc::clone(&control), 0);
        let (seat, run) = run_loop::seated_readers(worker.timed(name_of));
        let task = tokio::spawn(run);
        let direct = direct_calls.then_some(seat);
        let dispatcher =
            SparkGenericModuleDispatcher::of_module(sender, Arc::clone(&control), direct, intake);
        control.keep(H::feeds(&dispatcher.downgrade()));
        ModuleHandle::new(dispatcher, control, task)
    }
}

impl<H: ReaderWriterHandler, C> fmt::Debug for ReaderWriterBuilder<H, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReaderWriterBuilder")
            .field("name", &self.config.name)
            .field("readers", &self.readers)
            .field("capacity", &self.config.capacity)
            .field("default_timeout", &self.config.default_timeout)
            .field("shutdown_timeout", &self.config.shutdown_timeout)
            .field("on_panic", &self.policy)
            .field("drop_abandoned", &self.config.drop_abandoned)
            .field("overflow", &self.config.overflow)
            .finish_non_exhaustive()
    }
}

/// As many as a mailbox holds by default.
const READERS: usize = 64;
