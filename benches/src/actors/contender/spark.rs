//! Spark: `spark-channel` of this workspace, with everything on that it offers by default and more.
//!
//! A [`NativeHandler`] on [`module`](fn@spark_channel::module), named, with the shared mailbox
//! capacity and a default timeout of 30 s for every request. Panic isolation, statistics, tracing,
//! inherited deadlines and the deadlock check are part of every module. None of the peers is given a timeout, because it would
//! cost them a timer per request.

use std::time::Duration;

use spark_channel::{ModuleHandle, NativeHandler, SparkGenericModuleDispatcher, Stop, module};

use super::Contender;
use crate::actors::workload::{Counter, MAILBOX_CAPACITY};

/// Spark, with a native handler.
#[derive(Debug, Default)]
pub struct Spark;

struct CounterModule(Counter);

// === impl Spark ===

impl Contender for Spark {
    const NAME: &'static str = "spark";
    const ABOUT: &'static str = "this workspace, native handler; bounded mailbox, name, default \
        timeout of 30 s, panic isolation and statistics on";

    type Module = ModuleHandle<u64, u64>;
    type Handle = SparkGenericModuleDispatcher<u64, u64>;

    async fn start(&self, counter: Counter) -> Self::Module {
        module(CounterModule(counter))
            .name("counter")
            .capacity(MAILBOX_CAPACITY)
            .default_timeout(DEFAULT_TIMEOUT)
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

/// What the default timeout of Spark's modules is, here.
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
