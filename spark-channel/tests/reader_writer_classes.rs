//! Reader-writer modules with classes of messages: what waits for the running reads
//! gives way to control messages, and to nothing else.

use spark_channel::{
    Access, Class, Overflow, Priority, ReaderWriterBuilder, ReaderWriterHandler,
    SparkChannelCancellationToken, SparkChannelError, SparkGenericModuleMessage, Stop, StopReason,
    reader_writer,
};
use support::{Gate, queued, reason, within};
use tokio::task::yield_now;

mod support;

const CONTROL: Class = Class::new("control").priority(Priority::Control);
const LOW: Class = Class::new("low").priority(Priority::Low);

/// Passes its gate with each message; `read` stands in those that only look.
struct Subject(Gate);

impl ReaderWriterHandler for Subject {
    type Message = String;
    type Response = String;
    type Error = eyre::Report;

    fn access(message: &String) -> Access {
        if message.contains("read") {
            Access::Read
        } else {
            Access::Write
        }
    }

    async fn handle_read(&self, message: String) -> eyre::Result<String> {
        self.0.pass(&message).await?;
        Ok(message)
    }

    async fn handle_write(&mut self, message: String) -> eyre::Result<String> {
        self.handle_read(message).await
    }

    async fn handle_command(&mut self, message: String) -> eyre::Result<()> {
        self.0.pass(&message).await
    }

    async fn undelivered(&mut self, message: String) {
        self.0.log.push(format!("undelivered {message}"));
    }
}

fn sorted(gate: &Gate) -> ReaderWriterBuilder<Subject> {
    reader_writer(Subject(gate.clone())).classify(|message: &String| {
        match message.split(' ').next() {
            Some("control") => CONTROL,
            Some("low") => LOW,
            _ => Class::DEFAULT,
        }
    })
}

#[tokio::test]
async fn control_goes_before_a_write_that_waits_for_reads_and_keeps_its_own_order() {
    let gate = Gate::closed();
    let module = sorted(&gate).spawn();
    let dispatcher = module.dispatcher();
    let mut calls = vec![queued(dispatcher.request("read"))];
    gate.entered().await;
    for message in ["write", "low read", "read behind"] {
        calls.push(queued(dispatcher.request(message)));
    }
    yield_now().await;

    calls.push(queued(dispatcher.request("control read")));
    // Beside the read that runs: the write that waits for that one lets it pass.
    gate.entered().await;
    for message in ["control write", "control read behind"] {
        calls.push(queued(dispatcher.request(message)));
    }
    yield_now().await;
    gate.open();

    for call in calls {
        within(call).await.expect("handled");
    }
    let order = [
        "read",
        "control read",
        "control write",
        "control read behind",
        "write",
        "read behind",
        "low read",
    ];
    assert_eq!(gate.log.lines(), order);
    let stats = within(module.shutdown(Stop::Drain)).await.stats;
    assert_eq!((stats.handled, stats.accounted()), (7, 7));
}

#[tokio::test]
async fn control_goes_before_a_read_for_which_there_is_no_room() {
    let gate = Gate::closed();
    let module = sorted(&gate).readers(1).spawn();
    let dispatcher = module.dispatcher();
    let mut calls = vec![queued(dispatcher.request("read"))];
    gate.entered().await;
    calls.push(queued(dispatcher.request("read behind")));
    yield_now().await;
    calls.push(queued(dispatcher.request("control write")));
    gate.open();

    for call in calls {
        within(call).await.expect("handled");
    }
    assert_eq!(gate.log.lines(), ["read", "control write", "read behind"]);
}

#[tokio::test]
async fn a_full_class_does_what_its_policy_says() {
    let gate = Gate::closed();
    let module = reader_writer(Subject(gate.clone()))
        .capacity(1)
        .overflow(Overflow::DropOldest)
        .spawn();
    let dispatcher = module.dispatcher();
    let running = queued(dispatcher.request("read"));
    gate.entered().await;
    // Taken out of the mailbox, it waits for the read.
    let next = queued(dispatcher.request("write next"));
    yield_now().await;
    let dropped = queued(dispatcher.request("read dropped"));
    dispatcher.try_command("write").expect("accepted");
    assert_eq!(reason(within(dropped).await), SparkChannelError::Overflowed);
    gate.open();

    within(running).await.expect("handled");
    within(next).await.expect("handled");
    let stats = within(module.shutdown(Stop::Drain)).await.stats;
    assert_eq!(gate.log.lines(), ["read", "write next", "write"]);
    assert_eq!((stats.dropped, stats.accounted()), (1, 4));
}

#[tokio::test]
async fn a_shutdown_message_comes_after_everything_accepted_before_it_in_any_class() {
    let gate = Gate::closed();
    let module = sorted(&gate).spawn();
    let dispatcher = module.dispatcher();
    let reading = queued(dispatcher.request("read"));
    gate.entered().await;
    for command in ["low write", "write"] {
        dispatcher.try_command(command).expect("room");
    }
    let token = SparkChannelCancellationToken::new();
    let shutdown = SparkGenericModuleMessage::Shutdown(token.clone());
    dispatcher.sender.try_send(shutdown).expect("room");
    dispatcher.try_command("control late").expect("room");
    yield_now().await;
    gate.open();

    let report = within(module.wait()).await;

    within(reading).await.expect("handled");
    assert_eq!(report.reason, StopReason::ShutdownMessage);
    assert!(token.inner().is_cancelled());
    let lines = ["read", "write", "low write", "undelivered control late"];
    assert_eq!(gate.log.lines(), lines);
    assert_eq!(report.stats.accounted(), 5);
}
