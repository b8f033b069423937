//! What modules tell of their messages by name; that the times are right on random
//! schedules is in `message_stats_laws.rs`.

use std::time::Duration;

use reading::{Message as ReadOrWrite, doing, read, subject, write};
use spark_channel::{
    Access, NativeHandler, Reply, SparkChannelError, SparkGenericModuleDispatcher,
    SparkGenericModuleMessage, Stage, Stop, module, reader_writer,
};
use tokio::{runtime, time::sleep};

use crate::support::{Gate, Runner, job, queued, reason, within};

#[path = "support/reading.rs"]
mod reading;
mod support;

const SECOND: Duration = Duration::from_secs(1);

/// A message by its name; `held` waits at the gate, `answered` is told to.
enum Message {
    Plain(&'static str),
    Answered(Reply<()>),
}

struct Clerk(Gate);

type Dispatcher = SparkGenericModuleDispatcher<Message, ()>;

impl Message {
    fn name(&self) -> &'static str {
        match self {
            Self::Plain("nameless") => panic!("told to panic"),
            Self::Plain(name) => name,
            Self::Answered(_) => "answered",
        }
    }
}

impl From<&'static str> for Message {
    fn from(name: &'static str) -> Self {
        Self::Plain(name)
    }
}

impl NativeHandler for Clerk {
    type Message = Message;
    type Response = ();
    type Error = eyre::Report;

    async fn handle_request(&mut self, message: Message) -> eyre::Result<()> {
        match message {
            Message::Plain("held") => self.0.wait().await,
            Message::Plain(_) => Ok(()),
            Message::Answered(reply) => {
                let _ = reply.send(Ok(()));
                Ok(())
            }
        }
    }

    async fn handle_command(&mut self, message: Message) -> eyre::Result<()> {
        self.handle_request(message).await
    }
}

#[tokio::test]
async fn a_module_that_was_not_asked_tells_nothing() {
    let handle = module(Runner).spawn();
    within(handle.dispatcher().request(job(async { Ok(1) })))
        .await
        .expect("handled");

    assert_eq!(handle.message_stats(), None);
    assert_eq!(handle.dispatcher().message_stats(), None);
}

#[tokio::test(start_paused = true)]
async fn the_current_message_and_its_age_are_seen_while_its_handler_runs() {
    let gate = Gate::closed();
    let handle = module(Clerk(gate.clone()))
        .message_names(Message::name)
        .spawn();
    let dispatcher = handle.dispatcher();
    let held = queued(dispatcher.request("held"));
    within(gate.entered()).await;
    let behind = queued(dispatcher.request("behind"));
    sleep(3 * SECOND).await;

    let stats = handle.message_stats().expect("asked for");
    let current: Vec<_> = stats.current.iter().map(|m| (m.name, m.age)).collect();
    assert_eq!(current, [("held", 3 * SECOND)]);
    assert_eq!(stats.named("behind"), None);
    assert_eq!(stats.named("held").expect("started").handling.count, 0);

    gate.open();
    within(held).await.expect("handled");
    within(behind).await.expect("handled");

    let weak = handle.downgrade();
    within(handle.shutdown(Stop::Drain)).await;
    drop(dispatcher);
    let stats = weak.message_stats().expect("asked for");
    assert!(stats.current.is_empty());
    let held = stats.named("held").expect("started");
    assert_eq!(
        (held.waiting.max, held.handling.max),
        (Duration::ZERO, 3 * SECOND)
    );
    let behind = stats.named("behind").expect("started");
    assert_eq!(
        (behind.waiting.mean(), behind.handling.max),
        (3 * SECOND, Duration::ZERO)
    );
}

#[tokio::test(start_paused = true)]
async fn every_way_to_send_is_timed() {
    let gate = Gate::closed();
    let handle = module(Clerk(gate.clone()))
        .message_names(Message::name)
        .spawn();
    let dispatcher = handle.dispatcher();
    let held = queued(dispatcher.request("held"));
    within(gate.entered()).await;

    within(dispatcher.command("told")).await.expect("room");
    dispatcher.try_command("told").expect("room");
    within(dispatcher.command_all(["told", "told"]))
        .await
        .expect("room");
    let asked = queued(dispatcher.request("asked"));
    let tried = dispatcher.try_request("asked").expect("room");
    let all = queued(dispatcher.request_all(["asked", "asked"]));
    let answered = queued(dispatcher.ask_with(Message::Answered));
    let (slot, forwarded) = tokio::sync::oneshot::channel::<eyre::Result<()>>();
    let reply = Reply::from(slot);
    let forwarding = reply.try_forward_to(&dispatcher, "forwarded");
    assert!(forwarding.is_ok());
    #[cfg(feature = "tower")]
    let called = {
        use tower::{Service, ServiceExt};
        let mut service = dispatcher.service();
        within(service.ready()).await.expect("room");
        service.call("called".into())
    };
    sleep(SECOND).await;
    let last = queued(dispatcher.request("last"));
    sleep(SECOND).await;
    gate.open();

    for request in [held, asked, last] {
        within(request).await.expect("handled");
    }
    within(tried).await.expect("handled");
    within(answered).await.expect("handled");
    within(forwarded).await.expect("answered").expect("handled");
    assert!(within(all).await.into_iter().all(|one| one.is_ok()));
    #[cfg(feature = "tower")]
    within(called).await.expect("handled");
    let stats = handle.message_stats().expect("asked for");
    let waited = |name| {
        let waiting = stats.named(name).expect("started").waiting;
        (waiting.count, waiting.max)
    };
    assert_eq!(waited("told"), (4, 2 * SECOND));
    assert_eq!(waited("asked"), (4, 2 * SECOND));
    assert_eq!(waited("answered"), (1, 2 * SECOND));
    assert_eq!(waited("forwarded"), (1, 2 * SECOND));
    #[cfg(feature = "tower")]
    assert_eq!(waited("called"), (1, 2 * SECOND));
    // With a time too many or too few before it, it would have another's.
    assert_eq!(waited("last"), (1, SECOND));
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_room_in_the_mailbox_does_not_count() {
    let gate = Gate::closed();
    let handle = module(Clerk(gate.clone()))
        .capacity(1)
        .message_names(Message::name)
        .spawn();
    let dispatcher = handle.dispatcher();
    let held = queued(dispatcher.request("held"));
    within(gate.entered()).await;
    let accepted = queued(dispatcher.request("accepted"));
    let asked = queued(dispatcher.request("late"));
    let told = queued(dispatcher.command("late"));
    sleep(SECOND).await;

    gate.open();
    within(held).await.expect("handled");
    within(accepted).await.expect("handled");
    within(asked).await.expect("handled");
    within(told).await.expect("room");
    within(handle.shutdown(Stop::Drain)).await;

    let stats = dispatcher.message_stats().expect("asked for");
    let waited = |name| stats.named(name).expect("started").waiting;
    assert_eq!(
        (waited("accepted").count, waited("accepted").total),
        (1, SECOND)
    );
    assert_eq!(
        (waited("late").count, waited("late").total),
        (2, Duration::ZERO)
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_put_into_the_mailbox_by_hand_is_not_timed_and_spoils_nothing_for_long() {
    let gate = Gate::closed();
    let handle = module(Clerk(gate.clone()))
        .message_names(Message::name)
        .spawn();
    let dispatcher = handle.dispatcher();
    let held = queued(dispatcher.request("held"));
    within(gate.entered()).await;
    let by_hand = SparkGenericModuleMessage::Command("by hand".into());
    within(dispatcher.sender.send(by_hand)).await.expect("room");
    gate.let_pass(1);
    within(held).await.expect("handled");
    within(dispatcher.request("asked")).await.expect("handled");

    let held = queued(dispatcher.request("held"));
    within(gate.entered()).await;
    let behind = queued(dispatcher.request("behind"));
    sleep(SECOND).await;
    gate.let_pass(1);
    within(held).await.expect("handled");
    within(behind).await.expect("handled");

    let stats = handle.message_stats().expect("asked for");
    let named = |name| *stats.named(name).expect("started");
    assert_eq!(named("by hand").waiting.count, 0);
    assert_eq!(named("by hand").handling.count, 1);
    assert_eq!(named("behind").waiting.total, SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_request_taken_out_of_the_middle_takes_its_time_along() {
    let name = |message: &ReadOrWrite| match message.access {
        Some(Access::Read) => "read",
        _ => "write",
    };
    let handle = subject().message_names(name).spawn();
    let dispatcher = handle.dispatcher();
    let gate = Gate::closed();
    let (own, held) = (dispatcher.clone(), gate.clone());
    let asking = doing(Access::Read, async move {
        // Behind the write, which waits for this read: it could never be answered.
        let nested = own.request(read(&Gate::opened(), "nested")).await;
        assert!(matches!(
            reason(nested),
            SparkChannelError::WouldDeadlock { .. }
        ));
        reading::pass(&held, "asking").await;
        Ok(String::new())
    });
    let asking = queued(dispatcher.request(asking));
    let writing = queued(dispatcher.request(write(&Gate::opened(), "write")));
    within(gate.entered()).await;
    sleep(SECOND).await;
    let late = queued(dispatcher.request(read(&Gate::opened(), "late")));
    sleep(SECOND).await;
    gate.open();
    for call in [asking, writing, late] {
        within(call).await.expect("handled");
    }

    let stats = handle.message_stats().expect("asked for");
    let waited = |name| {
        let waiting = stats.named(name).expect("started").waiting;
        (waiting.count, waiting.max)
    };
    assert_eq!(waited("write"), (1, 2 * SECOND));
    assert_eq!(waited("read"), (2, SECOND));
}

#[tokio::test]
async fn a_message_that_cannot_be_named_is_an_error_for_its_caller() {
    let direct = module(Clerk(Gate::opened())).message_names(Message::name);
    check_nameless(direct.spawn().dispatcher()).await;
    let queued = module(Clerk(Gate::opened())).without_direct_calls();
    check_nameless(queued.message_names(Message::name).spawn().dispatcher()).await;
    let reads = reader_writer(Reads).message_names(Message::name);
    check_nameless(reads.spawn().dispatcher()).await;
}

/// An error whose making panics when a request has expired in the queue.
#[derive(Debug)]
struct Picky;

impl From<SparkChannelError> for Picky {
    fn from(error: SparkChannelError) -> Self {
        let stage = Stage::Queued;
        assert!(error != SparkChannelError::TimedOut { stage }, "expired");
        Self
    }
}

struct Touchy(Gate);

impl NativeHandler for Touchy {
    type Message = &'static str;
    type Response = ();
    type Error = Picky;

    async fn handle_request(&mut self, _: &'static str) -> Result<(), Picky> {
        self.0.wait().await.map_err(|_| Picky)
    }

    async fn handle_command(&mut self, name: &'static str) -> Result<(), Picky> {
        self.handle_request(name).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_an_expired_request_is_answered_leaves_no_time_behind() {
    let gate = Gate::closed();
    let handle = module(Touchy(gate.clone()))
        .message_names(|name: &&'static str| *name)
        .spawn();
    let dispatcher = handle.dispatcher();
    let held = queued(dispatcher.request("held"));
    within(gate.entered()).await;
    let expired = queued(dispatcher.request("expired").timeout(SECOND));
    sleep(2 * SECOND).await;
    drop(expired);
    let behind = queued(dispatcher.request("behind"));
    gate.open();
    within(held).await.expect("handled");
    within(behind).await.expect("handled");
    sleep(SECOND).await;
    within(dispatcher.command("last")).await.expect("room");
    within(handle.shutdown(Stop::Drain)).await;

    let stats = dispatcher.message_stats().expect("asked for");
    let waited = |name| stats.named(name).expect("started").waiting.total;
    assert_eq!(waited("behind"), Duration::ZERO);
    assert_eq!(waited("last"), Duration::ZERO);
    let counts = dispatcher.stats().expect("known");
    assert_eq!((counts.expired, counts.panics), (1, 1));
}

async fn check_nameless(dispatcher: Dispatcher) {
    let nameless = reason(within(dispatcher.request("nameless")).await);
    within(dispatcher.request("named")).await.expect("handled");

    assert!(matches!(nameless, SparkChannelError::Panicked { .. }));
    let stats = dispatcher.message_stats().expect("asked for");
    assert!(stats.current.is_empty());
    let names: Vec<_> = stats.by_name.iter().map(|one| one.name).collect();
    assert_eq!(names, ["named"]);
    let counts = dispatcher.stats().expect("known");
    assert_eq!((counts.panicked, counts.handled), (1, 1));
}

struct Reads;

impl spark_channel::ReaderWriterHandler for Reads {
    type Message = Message;
    type Response = ();
    type Error = eyre::Report;

    fn access(_: &Message) -> Access {
        Access::Read
    }

    async fn handle_read(&self, _: Message) -> eyre::Result<()> {
        Ok(())
    }

    async fn handle_write(&mut self, _: Message) -> eyre::Result<()> {
        Ok(())
    }

    async fn handle_command(&mut self, _: Message) -> eyre::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn names_are_bounded_in_number() {
    let names: Vec<&'static str> = (0..300).map(|n| &*format!("{n:03}").leak()).collect();
    let handle = module(Clerk(Gate::opened()))
        .message_names(Message::name)
        .spawn();
    let dispatcher = handle.dispatcher();
    for name in &names {
        within(dispatcher.request(*name)).await.expect("handled");
    }

    let stats = handle.message_stats().expect("asked for");
    assert_eq!(stats.by_name.len(), 256);
    let other = stats.named("(other)").expect("started");
    assert_eq!(other.handling.count, 300 - 255);
}

#[test]
fn nothing_is_current_in_a_module_whose_runtime_has_ended() {
    let gate = Gate::closed();
    let runtime = runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("the runtime starts");
    let weak = runtime.block_on(async {
        let handle = module(Clerk(gate.clone()))
            .message_names(Message::name)
            .spawn();
        let dispatcher = handle.dispatcher();
        dispatcher.try_command("held").expect("room");
        gate.entered().await;
        let stats = handle.message_stats().expect("asked for");
        assert_eq!(stats.current.len(), 1);
        handle.downgrade()
    });

    drop(runtime);

    let stats = weak.message_stats().expect("asked for");
    assert!(stats.current.is_empty());
    assert_eq!(stats.named("held").expect("started").handling.count, 1);
}

#[cfg(feature = "test-util")]
#[tokio::test(start_paused = true)]
async fn a_driver_times_its_messages() {
    let mut driver = module(Clerk(Gate::opened()))
        .message_names(Message::name)
        .driver();
    let dispatcher = driver.dispatcher();
    dispatcher.try_command("told").expect("room");
    tokio::time::advance(SECOND).await;

    let _ = driver.step();

    let stats = dispatcher.message_stats().expect("asked for");
    assert_eq!(stats.named("told").expect("started").waiting.total, SECOND);
}
