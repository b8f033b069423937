//! Spark with the attribute `#[module]`, the module of
//! [`hand_written_enum`](super::hand_written_enum) once more.

use spark_channel::{ModuleHandle, Stop, module};

use super::shared_settings;
use crate::actors::{contender::Contender, workload::Counter};

/// Spark, with the attribute `#[module]`.
#[derive(Debug, Default)]
pub struct SparkModuleMacro;

/// The counter as a module.
#[derive(Debug)]
pub struct Tally(Counter);

// === impl SparkModuleMacro ===

impl Contender for SparkModuleMacro {
    const NAME: &'static str = "spark-module-macro";
    const ABOUT: &'static str = "as spark-hand-written-enum, written by #[module]";

    type Module = ModuleHandle<TallyMessage, TallyResponse>;
    type Handle = TallyClient;

    async fn start(&self, counter: Counter) -> Self::Module {
        shared_settings(module(Tally(counter))).spawn()
    }

    fn handle(module: &Self::Module) -> Self::Handle {
        TallyClient::from(module.dispatcher())
    }

    async fn ask(handle: &Self::Handle, amount: u64) -> u64 {
        handle
            .add(amount)
            .await
            .expect("the module runs until it is stopped")
    }

    async fn tell(handle: &Self::Handle, amount: u64) {
        handle
            .note(amount)
            .await
            .expect("the module runs until it is stopped");
    }

    async fn stop(module: Self::Module) {
        module.shutdown(Stop::Drain).await;
    }
}

// === impl Tally ===

#[module]
impl Tally {
    /// Adds and returns the sum.
    #[request]
    pub async fn add(&mut self, amount: u64) -> u64 {
        self.0.request(amount)
    }

    /// Returns the sum, less an amount.
    #[request]
    pub async fn less(&self, amount: u64) -> Option<u64> {
        self.0.request(0).checked_sub(amount)
    }

    /// Adds.
    #[command]
    pub async fn note(&mut self, amount: u64) {
        self.0.command(amount);
    }
}
