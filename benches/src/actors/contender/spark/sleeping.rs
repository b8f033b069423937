//! Spark with handlers that wait: a serial module and a reader-writer module whose requests sleep
//! for [`PAUSE`], as one that asks a database would.

use std::time::Duration;

use spark_channel::{
    Access, ModuleHandle, NativeHandler, ReaderWriterHandler, SparkGenericModuleDispatcher, module,
    reader_writer,
};
use tokio::time::sleep;

use super::{DEFAULT_TIMEOUT, Spark, shared_settings};
use crate::actors::{
    contender::Contender,
    workload::{Counter, MAILBOX_CAPACITY},
};

/// Sleeps with one request at a time.
#[derive(Debug, Default)]
pub struct SparkSleeping;

/// Sleeps with up to 64 requests at a time, which is the default.
#[derive(Debug, Default)]
pub struct SparkSleepingReaderWriter;

struct Serial(Counter);

struct SideBySide(Counter);

/// How long a request sleeps. tokio's timer counts in milliseconds and rounds up, so it takes up to
/// twice as long.
pub const PAUSE: Duration = Duration::from_millis(1);

// === impl SparkSleeping ===

impl Contender for SparkSleeping {
    const NAME: &'static str = "spark-sleeping";
    const ABOUT: &'static str = "as spark, each request sleeps for 1 ms";

    type Module = ModuleHandle<u64, u64>;
    type Handle = SparkGenericModuleDispatcher<u64, u64>;

    async fn start(&self, counter: Counter) -> Self::Module {
        shared_settings(module(Serial(counter))).spawn()
    }

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

// === impl SparkSleepingReaderWriter ===

impl Contender for SparkSleepingReaderWriter {
    const NAME: &'static str = "spark-sleeping-reader-writer";
    const ABOUT: &'static str = "as spark-reader-writer, each request sleeps for 1 ms";

    type Module = ModuleHandle<u64, u64>;
    type Handle = SparkGenericModuleDispatcher<u64, u64>;

    async fn start(&self, counter: Counter) -> Self::Module {
        reader_writer(SideBySide(counter))
            .name("counter")
            .capacity(MAILBOX_CAPACITY)
            .default_timeout(DEFAULT_TIMEOUT)
            .spawn()
    }

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

// === impl Serial ===

impl NativeHandler for Serial {
    type Message = u64;
    type Response = u64;
    type Error = eyre::Report;

    async fn handle_request(&mut self, amount: u64) -> eyre::Result<u64> {
        sleep(PAUSE).await;
        Ok(self.0.request(amount))
    }

    async fn handle_command(&mut self, amount: u64) -> eyre::Result<()> {
        self.0.command(amount);
        Ok(())
    }
}

// === impl SideBySide ===

impl ReaderWriterHandler for SideBySide {
    type Message = u64;
    type Response = u64;
    type Error = eyre::Report;

    fn access(_: &u64) -> Access {
        Access::Read
    }

    // What follows the sleep awaits nothing, and reads share the module's task.
    async fn handle_read(&self, amount: u64) -> eyre::Result<u64> {
        sleep(PAUSE).await;
        Ok(self.0.request(amount))
    }

    async fn handle_write(&mut self, amount: u64) -> eyre::Result<u64> {
        sleep(PAUSE).await;
        Ok(self.0.request(amount))
    }

    async fn handle_command(&mut self, amount: u64) -> eyre::Result<()> {
        self.0.command(amount);
        Ok(())
    }
}
