//! Spark: `spark-channel` of this workspace, with everything on that it offers by default and more.
//!
//! A [`NativeHandler`] on [`module`](fn@spark_channel::module), named, with the shared mailbox
//! capacity and a default timeout of 30 s for every request. Panic isolation, statistics, tracing,
//! inherited deadlines and the deadlock check are part of every module. None of the peers is given a timeout, because it would
//! cost them a timer per request.
//!
//! A request to an idle module is a direct call, so most requests of a single caller are.
//! [`SparkQueued`] is the same module without direct calls. What else is in this folder has no row
//! of its own: it is what Spark is [compared](crate::actors::comparison) with itself in.

use std::time::Duration;

use spark_channel::{
    Deadlocks, ModuleBuilder, ModuleHandle, NativeHandler, SparkGenericModuleDispatcher, Stop,
    module,
};

use super::{Contender, Variant};
use crate::actors::workload::{Counter, MAILBOX_CAPACITY};

pub mod hand_written_enum;
pub mod module_macro;
pub mod reader_writer;
pub mod sleeping;

/// Spark, with a native handler.
#[derive(Debug, Clone, Copy)]
pub struct Spark {
    direct_calls: bool,
    deadlocks: Deadlocks,
}

/// Without direct calls: every request goes through the mailbox.
#[derive(Debug)]
pub struct SparkQueued;

/// Without the deadlock check.
#[derive(Debug)]
pub struct SparkUnchecked;

/// Without direct calls and without the deadlock check.
#[derive(Debug)]
pub struct SparkQueuedUnchecked;

/// The module of these contenders.
struct CounterModule(Counter);

// === impl Spark ===

impl Spark {
    /// Sets what can be different from module to module.
    pub(crate) fn set<H: NativeHandler>(self, builder: ModuleBuilder<H>) -> ModuleBuilder<H> {
        let builder = builder.deadlocks(self.deadlocks);
        if self.direct_calls {
            builder
        } else {
            builder.without_direct_calls()
        }
    }
}

/// What the builder's defaults are.
impl Default for Spark {
    fn default() -> Self {
        Self {
            direct_calls: true,
            deadlocks: Deadlocks::Error,
        }
    }
}

impl Contender for Spark {
    const NAME: &'static str = "spark";
    const ABOUT: &'static str = "this workspace, native handler; bounded mailbox, name, default \
        timeout of 30 s, panic isolation and statistics on";

    type Module = ModuleHandle<u64, u64>;
    type Handle = SparkGenericModuleDispatcher<u64, u64>;

    async fn start(&self, counter: Counter) -> Self::Module {
        self.set(shared_settings(module(CounterModule(counter))))
            .spawn()
    }

    fn handle(module: &Self::Module) -> Self::Handle {
        module.dispatcher()
    }

    async fn ask(handle: &Self::Handle, amount: u64) -> u64 {
        handle
            .request(amount)
            .await
            .expect("the module runs until it is stopped")
    }

    async fn tell(handle: &Self::Handle, amount: u64) {
        handle
            .command(amount)
            .await
            .expect("the module runs until it is stopped");
    }

    async fn stop(module: Self::Module) {
        module.shutdown(Stop::Drain).await;
    }
}

// === impl Variant ===

impl Variant for SparkQueued {
    type Contender = Spark;

    const NAME: &'static str = "spark-queued";
    const ABOUT: &'static str = "as spark, without direct calls";

    fn contender() -> Spark {
        Spark {
            direct_calls: false,
            ..Spark::default()
        }
    }
}

impl Variant for SparkUnchecked {
    type Contender = Spark;

    const NAME: &'static str = "spark-unchecked";
    const ABOUT: &'static str = "as spark, with Deadlocks::Off";

    fn contender() -> Spark {
        Spark {
            deadlocks: Deadlocks::Off,
            ..Spark::default()
        }
    }
}

impl Variant for SparkQueuedUnchecked {
    type Contender = Spark;

    const NAME: &'static str = "spark-queued-unchecked";
    const ABOUT: &'static str = "as spark-queued, with Deadlocks::Off";

    fn contender() -> Spark {
        Spark {
            direct_calls: false,
            deadlocks: Deadlocks::Off,
        }
    }
}

// === impl CounterModule ===

impl NativeHandler for CounterModule {
    type Message = u64;
    type Response = u64;
    type Error = eyre::Report;

    async fn handle_request(&mut self, amount: u64) -> eyre::Result<u64> {
        Ok(self.0.request(amount))
    }

    async fn handle_command(&mut self, amount: u64) -> eyre::Result<()> {
        self.0.command(amount);
        Ok(())
    }
}

/// Sets what all of Spark's modules have here.
pub(crate) fn shared_settings<H: NativeHandler>(builder: ModuleBuilder<H>) -> ModuleBuilder<H> {
    builder
        .name("counter")
        .capacity(MAILBOX_CAPACITY)
        .default_timeout(DEFAULT_TIMEOUT)
}

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
