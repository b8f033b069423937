//! Spark with an `#[async_trait]` handler: set up as [`spark`](super::spark), for what the boxed
//! future per message costs.

use async_trait::async_trait;
use spark_channel::{
    ModuleHandle, SparkGenericModuleDispatcher, SparkGenericModuleHandler, module,
};

use super::{
    Contender,
    spark::{Spark, shared_settings},
};
use crate::actors::workload::Counter;

/// Spark, with an `#[async_trait]` handler.
#[derive(Debug, Default)]
pub struct SparkAsyncTrait;

struct CounterModule(Counter);

// === impl SparkAsyncTrait ===

impl Contender for SparkAsyncTrait {
    const NAME: &'static str = "spark-async-trait";
    const ABOUT: &'static str = "as spark, with an #[async_trait] handler";

    type Module = ModuleHandle<u64, u64>;
    type Handle = SparkGenericModuleDispatcher<u64, u64>;

    async fn start(&self, counter: Counter) -> Self::Module {
        shared_settings(module(CounterModule(counter))).spawn()
    }

    // The dispatcher does not know what kind of handler it talks to.

    fn handle(module: &Self::Module) -> Self::Handle {
        Spark::handle(module)
    }

    fn ask(handle: &Self::Handle, amount: u64) -> impl Future<Output = u64> + Send {
        Spark::ask(handle, amount)
    }

    fn tell(handle: &Self::Handle, amount: u64) -> impl Future<Output = ()> + Send {
        Spark::tell(handle, amount)
    }

    async fn stop(module: Self::Module) {
        Spark::stop(module).await;
    }
}

// === impl CounterModule ===

#[async_trait]
impl SparkGenericModuleHandler<u64, u64> for CounterModule {
    async fn handle_request(&mut self, amount: u64) -> eyre::Result<u64> {
        Ok(self.0.request(amount))
    }

    async fn handle_command(&mut self, amount: u64) -> eyre::Result<()> {
        self.0.command(amount);
        Ok(())
    }
}
