//! A reader-writer module that does whatever it is sent.

#![allow(dead_code, reason = "each test file uses another part of this one")]

use std::{future::Future, pin::Pin, time::Duration};

use spark_channel::{
    Access, HandleOf, ReaderWriter, ReaderWriterBuilder, ReaderWriterHandler,
    SparkGenericModuleDispatcher, current, reader_writer,
};
use tokio::time::{Instant, sleep};

use crate::support::{Gate, Log};

/// Work, and what it does to the module.
pub(crate) struct Message {
    /// Unknown, so that asking for it panics.
    pub(crate) access: Option<Access>,
    pub(crate) work: Work,
}

pub(crate) type Work = Pin<Box<dyn Future<Output = eyre::Result<String>> + Send>>;

/// Does the work it is sent.
pub(crate) struct Subject {
    pub(crate) log: Log,
}

pub(crate) type Dispatcher = SparkGenericModuleDispatcher<Message, String>;
pub(crate) type Handle = HandleOf<ReaderWriter<Subject>>;

impl ReaderWriterHandler for Subject {
    type Message = Message;
    type Response = String;
    type Error = eyre::Report;

    fn access(message: &Message) -> Access {
        message.access.expect("told to panic")
    }

    async fn handle_read(&self, message: Message) -> eyre::Result<String> {
        message.work.await
    }

    async fn handle_write(&mut self, message: Message) -> eyre::Result<String> {
        message.work.await
    }

    async fn handle_command(&mut self, message: Message) -> eyre::Result<()> {
        message.work.await.map(drop)
    }

    async fn started(&mut self) -> eyre::Result<()> {
        self.log.push("started");
        Ok(())
    }

    async fn stopped(&mut self) {
        self.log.push("stopped");
    }

    async fn undelivered(&mut self, message: Message) {
        drop(message);
        self.log.push("undelivered");
    }
}

pub(crate) fn subject() -> ReaderWriterBuilder<Subject> {
    reader_writer(Subject {
        log: Log::default(),
    })
    .name("subject")
}

pub(crate) fn doing<F>(access: Access, work: F) -> Message
where
    F: Future<Output = eyre::Result<String>> + Send + 'static,
{
    Message {
        access: Some(access),
        work: Box::pin(work),
    }
}

/// Logs its name, and answers with it once the gate lets it pass.
pub(crate) fn read(gate: &Gate, name: &str) -> Message {
    held(Access::Read, gate, name)
}

pub(crate) fn write(gate: &Gate, name: &str) -> Message {
    held(Access::Write, gate, name)
}

pub(crate) fn held(access: Access, gate: &Gate, name: &str) -> Message {
    let (gate, name) = (gate.clone(), name.to_owned());
    doing(access, async move {
        pass(&gate, &name).await;
        Ok(name)
    })
}

pub(crate) fn panicking(access: Access) -> Message {
    doing(access, async { panic!("told to panic") })
}

pub(crate) async fn pass(gate: &Gate, name: &str) {
    gate.pass(name)
        .await
        .expect("told neither to panic nor to fail");
}

/// Lets everything happen that can: a paused clock moves on only when all are idle.
pub(crate) async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

/// The module and the deadline, in whole seconds, that a handler sees.
pub(crate) fn describe(start: Instant) -> String {
    let name = current::module_name().expect("within a handler");
    match current::deadline() {
        None => format!("{name} none"),
        // In the mailbox it was rounded down.
        Some(at) => format!("{name} {:.0}", (at - start).as_secs_f64()),
    }
}
