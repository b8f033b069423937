//! Spark with a reader-writer module, whose every request is a read: set up as
//! [`spark`](super::super::spark), for what keeping reads apart costs where they need not wait.

use spark_channel::{
    Access, ModuleHandle, ReaderWriterHandler, SparkGenericModuleDispatcher, reader_writer,
};

use super::{DEFAULT_TIMEOUT, Spark};
use crate::actors::{
    contender::{Contender, Variant},
    workload::{Counter, MAILBOX_CAPACITY},
};

/// Spark, with a reader-writer module.
#[derive(Debug)]
pub struct SparkReaderWriter {
    direct_calls: bool,
}

/// Without direct calls: every request goes through the mailbox.
#[derive(Debug)]
pub struct SparkReaderWriterQueued;

struct CounterModule(Counter);

// === impl SparkReaderWriter ===

/// What the builder's default is.
impl Default for SparkReaderWriter {
    fn default() -> Self {
        Self { direct_calls: true }
    }
}

impl Contender for SparkReaderWriter {
    const NAME: &'static str = "spark-reader-writer";
    const ABOUT: &'static str = "as spark, with a reader-writer module whose requests are reads";

    type Module = ModuleHandle<u64, u64>;
    type Handle = SparkGenericModuleDispatcher<u64, u64>;

    async fn start(&self, counter: Counter) -> Self::Module {
        let builder = reader_writer(CounterModule(counter))
            .name("counter")
            .capacity(MAILBOX_CAPACITY)
            .default_timeout(DEFAULT_TIMEOUT);
        if self.direct_calls {
            builder.spawn()
        } else {
            builder.without_direct_calls().spawn()
        }
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

impl Variant for SparkReaderWriterQueued {
    type Contender = SparkReaderWriter;

    const NAME: &'static str = "spark-reader-writer-queued";
    const ABOUT: &'static str = "as spark-reader-writer, without direct calls";

    fn contender() -> SparkReaderWriter {
        SparkReaderWriter {
            direct_calls: false,
        }
    }
}

// === impl CounterModule ===

impl ReaderWriterHandler for CounterModule {
    type Message = u64;
    type Response = u64;
    type Error = eyre::Report;

    fn access(_: &u64) -> Access {
        Access::Read
    }

    // Reads share the module's task, and nothing is awaited here, so no read sees another's half.
    async fn handle_read(&self, amount: u64) -> eyre::Result<u64> {
        Ok(self.0.request(amount))
    }

    async fn handle_write(&mut self, amount: u64) -> eyre::Result<u64> {
        Ok(self.0.request(amount))
    }

    async fn handle_command(&mut self, amount: u64) -> eyre::Result<()> {
        self.0.command(amount);
        Ok(())
    }
}
