//! Spark with messages and responses as enums, written by hand: what
//! [`module_macro`](super::module_macro) is to be compared with. The work of each message
//! is a method of its own, as it is there.

use spark_channel::{ModuleHandle, NativeHandler, SparkGenericModuleDispatcher, Stop, module};

use super::shared_settings;
use crate::actors::{contender::Contender, workload::Counter};

/// Spark, with enums written by hand.
#[derive(Debug, Default)]
pub struct SparkHandWrittenEnum;

/// What the module is sent.
#[derive(Debug)]
pub enum Message {
    /// A request: adds and answers with the sum.
    Add(u64),
    /// A request: answers with the sum, less an amount.
    Less(u64),
    /// A command: adds.
    Note(u64),
}

/// What it answers.
#[derive(Debug)]
pub enum Response {
    /// To [`Message::Add`].
    Add(u64),
    /// To [`Message::Less`].
    Less(Option<u64>),
}

struct CounterModule(Counter);

// === impl SparkHandWrittenEnum ===

impl Contender for SparkHandWrittenEnum {
    const NAME: &'static str = "spark-hand-written-enum";
    const ABOUT: &'static str = "as spark, messages and responses are enums";

    type Module = ModuleHandle<Message, Response>;
    type Handle = SparkGenericModuleDispatcher<Message, Response>;

    async fn start(&self, counter: Counter) -> Self::Module {
        shared_settings(module(CounterModule(counter))).spawn()
    }

    fn handle(module: &Self::Module) -> Self::Handle {
        module.dispatcher()
    }

    async fn ask(handle: &Self::Handle, amount: u64) -> u64 {
        let response = handle
            .request(Message::Add(amount))
            .await
            .expect("the module runs until it is stopped");
        match response {
            Response::Add(sum) => sum,
            Response::Less(_) => unreachable!("an addition is answered with a sum"),
        }
    }

    async fn tell(handle: &Self::Handle, amount: u64) {
        handle
            .command(Message::Note(amount))
            .await
            .expect("the module runs until it is stopped");
    }

    async fn stop(module: Self::Module) {
        module.shutdown(Stop::Drain).await;
    }
}

// === impl CounterModule ===

#[expect(clippy::unused_async, reason = "as they would be with more to do")]
impl CounterModule {
    async fn add(&mut self, amount: u64) -> u64 {
        self.0.request(amount)
    }

    async fn less(&mut self, amount: u64) -> Option<u64> {
        self.0.request(0).checked_sub(amount)
    }

    async fn note(&mut self, amount: u64) {
        self.0.command(amount);
    }
}

impl NativeHandler for CounterModule {
    type Message = Message;
    type Response = Response;
    type Error = eyre::Report;

    async fn handle_request(&mut self, message: Message) -> eyre::Result<Response> {
        match message {
            Message::Add(amount) => Ok(Response::Add(self.add(amount).await)),
            Message::Less(amount) => Ok(Response::Less(self.less(amount).await)),
            Message::Note(_) => eyre::bail!("a note is a command"),
        }
    }

    async fn handle_command(&mut self, message: Message) -> eyre::Result<()> {
        match message {
            Message::Note(amount) => {
                self.note(amount).await;
                Ok(())
            }
            Message::Add(_) | Message::Less(_) => eyre::bail!("asked without a caller"),
        }
    }
}
