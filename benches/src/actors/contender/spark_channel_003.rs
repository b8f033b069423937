//! spark-channel 0.0.3, the crate Spark's module API descends from, from the registry.
//!
//! A bounded tokio channel, `run_module_server` in a spawned task, and a dispatcher: the form of its
//! documentation. Its `request` asks `AsRef<dyn Any + Send>` and `Debug` of a response and
//! `std::error::Error` of an error, so the sum travels in a wrapper and the error type is the one
//! the crate brings. A module ends with its `Shutdown` message.

use std::any::Any;

use async_trait::async_trait;
use spark_channel_003::{
    cancellation_token::SparkChannelCancellationToken,
    listener::{
        SparkChannelError, SparkGenericModuleDispatcher, SparkGenericModuleHandler,
        SparkGenericModuleMessage, run_module_server,
    },
};
use tokio::{sync::mpsc, task::JoinHandle};

use super::Contender;
use crate::actors::workload::{Counter, MAILBOX_CAPACITY};

/// spark-channel 0.0.3.
#[derive(Debug, Default)]
pub struct SparkChannel003;

/// The dispatcher and the task of a module.
#[expect(
    missing_debug_implementations,
    reason = "the crate's dispatcher has no `Debug`"
)]
pub struct Module {
    dispatcher: Dispatcher,
    task: JoinHandle<()>,
}

/// What a caller holds.
pub type Dispatcher =
    SparkGenericModuleDispatcher<Amount, Sum, SparkChannelCancellationToken, SparkChannelError>;

/// The message. `Clone`, because the dispatcher's derived `Clone` asks for it.
#[derive(Debug, Clone)]
pub struct Amount(u64);

/// The response.
#[derive(Debug, Clone)]
pub struct Sum(u64);

struct CounterModule(Counter);

// === impl SparkChannel003 ===

impl Contender for SparkChannel003 {
    const NAME: &'static str = "spark-channel-0.0.3";
    const ABOUT: &'static str = "the original, from the registry, on a bounded channel";

    type Module = Module;
    type Handle = Dispatcher;

    async fn start(&self, counter: Counter) -> Module {
        let (sender, receiver) = mpsc::channel(MAILBOX_CAPACITY);
        let task = tokio::spawn(run_module_server(CounterModule(counter), receiver));
        let dispatcher = Dispatcher::new(sender);
        Module { dispatcher, task }
    }

    fn handle(module: &Module) -> Dispatcher {
        module.dispatcher.clone()
    }

    async fn ask(handle: &Dispatcher, amount: u64) -> u64 {
        handle
            .request(Amount(amount))
            .await
            .expect("the module runs until it is stopped")
            .0
    }

    async fn tell(handle: &Dispatcher, amount: u64) {
        handle
            .send_command::<_, Result<(), SparkChannelError>>(Amount(amount))
            .await
            .expect("the module runs until it is stopped");
    }

    async fn stop(module: Module) {
        let token = SparkChannelCancellationToken::new();
        module
            .dispatcher
            .sender
            .send(SparkGenericModuleMessage::Shutdown(token))
            .await
            .unwrap_or_else(|_| unreachable!("the module runs until it is stopped"));
        module.task.await.expect("the module does not panic");
    }
}

// === impl Sum ===

impl AsRef<dyn Any + Send> for Sum {
    fn as_ref(&self) -> &(dyn Any + Send + 'static) {
        self
    }
}

// === impl CounterModule ===

#[async_trait]
impl SparkGenericModuleHandler<Amount, Sum, SparkChannelError> for CounterModule {
    async fn handle_request(&mut self, request: Amount) -> Result<Sum, SparkChannelError> {
        Ok(Sum(self.0.request(request.0)))
    }

    async fn handle_command(&mut self, command: Amount) -> Result<(), SparkChannelError> {
        self.0.command(command.0);
        Ok(())
    }
}
