//! Spans: a command is handled in a span that follows from its sender's, and is no less a
//! command for it.

use std::time::Duration;

use spark_channel::{
    Child, Class, NativeHandler, Overflow, PanicPolicy, Reply, SparkGenericModuleDispatcher,
    SparkGenericModuleMessage, Stats, Stop, Strategy, Supervisor, keyed, module, pool,
    run_module_server,
    testing::{Driver, Step},
};
use tokio::{sync::mpsc, task::yield_now};
use tracing::{Instrument, Level};

use crate::{
    recording::Recorder,
    support::{Runner, job, queued, within},
};

#[path = "support/reading.rs"]
mod reading;
#[path = "support/recording.rs"]
mod recording;
mod support;

/// Traces what it is sent, as an event. `panic` panics and `fail` fails.
struct Says;

type Dispatcher = SparkGenericModuleDispatcher<String, String>;

impl NativeHandler for Says {
    type Message = String;
    type Response = String;
    type Error = eyre::Report;

    async fn handle_request(&mut self, message: String) -> eyre::Result<String> {
        tracing::info!("asked {message}");
        Ok(message)
    }

    async fn handle_command(&mut self, message: String) -> eyre::Result<()> {
        yield_now().await;
        tracing::info!("{message}");
        assert!(message != "panic", "told to panic");
        eyre::ensure!(message != "fail", "told to fail");
        Ok(())
    }

    async fn undelivered(&mut self, message: String) {
        yield_now().await;
        tracing::info!("undelivered {message}");
    }

    fn command_failed(&mut self, _: eyre::Report) {
        tracing::info!("informed");
    }
}

/// Sends a command from a span of its own.
fn tell(dispatcher: &Dispatcher, message: &str) {
    let sender = tracing::info_span!("sender", name = message);
    let sent = sender.in_scope(|| dispatcher.try_command(message));
    sent.expect("room");
}

/// What happened, but for modules that stopped.
fn events(recorder: &Recorder) -> Vec<String> {
    let events = recorder.events().into_iter();
    events
        .filter(|event| !event.contains("| DEBUG: module stopped"))
        .collect()
}

fn told(module: &str, message: &str) -> String {
    format!("sender({message}) ~> command({module}) | INFO: {message}")
}

// === where it is linked ===

#[tokio::test]
async fn a_commands_span_follows_from_its_senders_however_it_is_sent() {
    let recorder = Recorder::new(Level::DEBUG);
    let _recording = tracing::subscriber::set_default(recorder.clone());
    let module = module(Says).name("m").capacity(2).spawn();
    let dispatcher = module.dispatcher();

    tell(&dispatcher, "try_command");
    let sending = async {
        within(dispatcher.command("first")).await.expect("sent");
        // These have to wait for room.
        within(dispatcher.command("command")).await.expect("sent");
        let sent = dispatcher.send_command::<_, eyre::Result<()>>("send_command");
        within(sent).await.expect("sent");
        let all = ["command_all 1", "command_all 2", "command_all 3"];
        within(dispatcher.command_all(all)).await.expect("sent");
    };
    sending.instrument(tracing::info_span!("caller")).await;
    within(module.shutdown(Stop::Drain)).await;

    let mut expected = vec![told("m", "try_command")];
    let others = [
        "first",
        "command",
        "send_command",
        "command_all 1",
        "command_all 2",
        "command_all 3",
    ];
    expected.extend(others.map(|other| format!("caller ~> command(m) | INFO: {other}")));
    assert_eq!(events(&recorder), expected);
    let links = recorder.paths().into_iter();
    assert_eq!(links.filter(|path| path.contains("~>")).count(), 7);
    assert!(recorder.entered().is_none());
}

#[tokio::test]
async fn a_command_that_a_handler_sends_follows_from_what_is_handled() {
    let recorder = Recorder::new(Level::DEBUG);
    let _recording = tracing::subscriber::set_default(recorder.clone());
    let first = module(Runner).name("first").spawn();
    let second = module(Runner).name("second").spawn();
    let third = module(Says).name("third").spawn();
    let (to_second, to_third) = (second.dispatcher(), third.dispatcher());

    let asks = job(async move {
        let tells = job(async move {
            to_third.command("the end").await?;
            Ok(0)
        });
        assert!(to_second.command(tells).await.is_ok());
        Ok(0)
    });
    let caller = tracing::info_span!("caller");
    let to_first = first.dispatcher();
    let asked = within(to_first.request(asks)).instrument(caller);
    asked.await.expect("handled");
    within(second.shutdown(Stop::Drain)).await;
    within(third.shutdown(Stop::Drain)).await;

    let path = "caller > request(first) ~> command(second) ~> command(third)";
    assert_eq!(events(&recorder), [format!("{path} | INFO: the end")]);
}

#[tokio::test]
async fn a_command_sent_outside_of_any_span_has_one_that_follows_from_none() {
    let recorder = Recorder::new(Level::DEBUG);
    let _recording = tracing::subscriber::set_default(recorder.clone());
    let module = module(Says).name("m").spawn();

    module.dispatcher().try_command("alone").expect("room");
    within(module.shutdown(Stop::Drain)).await;

    assert_eq!(events(&recorder), ["command(m) | INFO: alone"]);
}

#[tokio::test]
async fn every_kind_of_pool_handles_a_command_in_its_link() {
    let recorder = Recorder::new(Level::DEBUG);
    let _recording = tracing::subscriber::set_default(recorder.clone());
    let builder = |name| pool(2, || Says).name(name);
    let pools = [
        builder("shared").spawn(),
        builder("in turn").round_robin().spawn(),
        builder("by key").by_key(|_| 1).spawn(),
        builder("least loaded").least_loaded().spawn(),
    ];
    for pool in pools {
        tell(&pool.dispatcher(), "told");
        let report = within(pool.shutdown(Stop::Drain)).await;
        assert_eq!((report.stats.handled, report.stats.accounted()), (1, 1));
    }

    let names = ["shared", "in turn", "by key", "least loaded"];
    assert_eq!(events(&recorder), names.map(|name| told(name, "told")));
}

#[tokio::test]
async fn every_replica_of_a_broadcast_pool_handles_its_copy_in_the_link() {
    let recorder = Recorder::new(Level::DEBUG);
    let _recording = tracing::subscriber::set_default(recorder.clone());
    let pool = pool(3, || Says).name("all").broadcast().spawn();

    tell(&pool.dispatcher(), "told");
    let report = within(pool.shutdown(Stop::Drain)).await;

    assert_eq!((report.stats.handled, report.stats.copies), (1, 2));
    assert_eq!(events(&recorder), vec![told("all", "told"); 3]);
}

#[tokio::test]
async fn a_keyed_module_handles_a_command_in_its_link() {
    let recorder = Recorder::new(Level::DEBUG);
    let _recording = tracing::subscriber::set_default(recorder.clone());
    let set = keyed(String::len, |_: &usize| Says).name("set").spawn();

    tell(&set.dispatcher(), "one");
    tell(&set.dispatcher(), "three");
    let report = within(set.shutdown(Stop::Drain)).await;

    assert_eq!(report.report.stats.handled, 2);
    let mut handled = events(&recorder);
    handled.sort();
    let expected = ["one", "three"].map(|message| told("set", message));
    assert_eq!(handled, expected);
}

#[tokio::test(start_paused = true)]
async fn a_reader_writer_module_runs_a_linked_command_alone_and_in_its_turn() {
    let recorder = Recorder::new(Level::DEBUG);
    let _recording = tracing::subscriber::set_default(recorder.clone());
    let module = reading::subject().spawn();
    let dispatcher = module.dispatcher();
    let (gate, behind) = (support::Gate::closed(), support::Gate::opened());
    let before = queued(dispatcher.request(reading::read(&gate, "before")));
    let log = gate.log.clone();
    // Its access is unknown, and asking for it would panic: nobody may ask.
    let command = reading::Message {
        access: None,
        work: Box::pin(async move {
            tracing::info!("alone, behind {:?}", log.lines());
            Ok(String::new())
        }),
    };
    let sender = tracing::info_span!("sender");
    assert!(sender.in_scope(|| dispatcher.try_command(command)).is_ok());
    let after = queued(dispatcher.request(reading::read(&behind, "after")));
    reading::settle().await;
    assert!(events(&recorder).is_empty() && behind.log.lines().is_empty());

    gate.open();
    within(before).await.expect("handled");
    within(after).await.expect("handled");

    let report = within(module.shutdown(Stop::Drain)).await;
    assert_eq!((report.stats.handled, report.stats.panics), (3, 0));
    let alone = r#"sender ~> command(subject) | INFO: alone, behind ["before"]"#;
    assert_eq!(events(&recorder), [alone]);
}

#[tokio::test]
async fn classes_sort_conflate_and_drop_linked_commands_as_commands() {
    let recorder = Recorder::new(Level::DEBUG);
    let _recording = tracing::subscriber::set_default(recorder.clone());
    let one = Class::new("one").capacity(1);
    let module = module(Says)
        .name("m")
        .classify(move |message: &String| match &**message {
            "key 1" | "key 2" => Class::new("latest").conflate("key"),
            "old" | "new" => one.overflow(Overflow::DropOldest),
            "kept" | "lost" => Class::new("first")
                .capacity(1)
                .overflow(Overflow::DropNewest),
            _ => Class::new("waits").capacity(1),
        })
        .spawn();
    let dispatcher = module.dispatcher();

    for message in ["key 1", "old", "key 2", "new", "kept", "lost", "waits 1"] {
        tell(&dispatcher, message);
    }
    let refused = dispatcher.try_command("full").expect_err("no room");
    assert_eq!(refused.into_inner(), "full");
    let sender = tracing::info_span!("sender", name = "waits 2");
    let waits = within(dispatcher.command("waits 2")).instrument(sender);
    waits.await.expect("sent");
    let report = within(module.shutdown(Stop::Drain)).await;

    let stats = report.stats;
    assert_eq!((stats.handled, stats.conflated, stats.dropped), (5, 1, 2));
    assert_eq!((stats.accounted(), stats.rejected), (8, 1));
    let handled = ["key 2", "new", "kept", "waits 1", "waits 2"];
    assert_eq!(events(&recorder), handled.map(|message| told("m", message)));
}

#[tokio::test(start_paused = true)]
async fn a_supervised_module_keeps_links_across_a_restart() {
    let recorder = Recorder::new(Level::DEBUG);
    let _recording = tracing::subscriber::set_default(recorder.clone());
    let mut tree = Supervisor::new("tree", Strategy::OneForOne);
    let dispatcher: Dispatcher = tree.child(Child::new(|| Says).name("child"));
    let tree = tree.spawn();

    tell(&dispatcher, "panic");
    tell(&dispatcher, "behind");
    within(dispatcher.request("last")).await.expect("handled");
    within(tree.shutdown(Stop::Drain)).await;

    let events = events(&recorder);
    let of_child: Vec<_> = events.iter().filter(|e| e.contains("sender(")).collect();
    let panicked = "sender(panic) ~> command(child) | ERROR: handler panicked(child)";
    let expected = [&told("child", "panic"), panicked, &told("child", "behind")];
    assert_eq!(of_child, expected);
}

#[tokio::test]
async fn a_message_that_carries_its_reply_slot_is_handled_in_the_span_of_its_call() {
    let recorder = Recorder::new(Level::DEBUG);
    let _recording = tracing::subscriber::set_default(recorder.clone());
    let direct = module(Runner).name("direct").spawn();
    let sorted = module(Runner).name("sorted").classify(|_| Class::DEFAULT);
    let modules = [direct, sorted.spawn()];
    for module in modules {
        let dispatcher = module.dispatcher();
        let ask = dispatcher.ask_with(|reply: Reply<u64>| {
            job(async move {
                tracing::info!("handled");
                let _ = reply.send(Ok(1));
                Ok(0)
            })
        });
        let caller = tracing::info_span!("caller");
        let answer = within(ask).instrument(caller).await;
        assert_eq!(answer.expect("answered"), 1);
        assert_eq!(dispatcher.stats().expect("ours").abandoned, 0);
    }

    let expected = ["direct", "sorted"].map(|m| format!("caller > request({m}) | INFO: handled"));
    assert_eq!(events(&recorder), expected);
}

#[test]
fn a_driver_steps_through_linked_commands() {
    let recorder = Recorder::new(Level::DEBUG);
    let _recording = tracing::subscriber::set_default(recorder.clone());
    let mut driver = Driver::new(Runner);
    let sender = tracing::info_span!("sender");
    let command = job(async {
        tracing::info!("stepped");
        Ok(0)
    });

    let step = sender.in_scope(|| driver.command(command));

    assert_eq!(step.ok(), Some(Step::Handled));
    assert_eq!(driver.finish().stats.handled, 1);
    assert_eq!(events(&recorder).len(), 1);
    assert!(events(&recorder)[0].starts_with("sender ~> command("));
}

// === what belongs to it ===

#[tokio::test]
async fn what_goes_wrong_with_a_command_is_told_in_its_link() {
    let recorder = Recorder::new(Level::DEBUG);
    let _recording = tracing::subscriber::set_default(recorder.clone());
    let module = module(Says).name("m").spawn();

    tell(&module.dispatcher(), "fail");
    tell(&module.dispatcher(), "panic");
    let report = within(module.shutdown(Stop::Drain)).await;

    let stats = report.stats;
    assert_eq!((stats.handled, stats.failed, stats.panicked), (1, 1, 1));
    let fail = "sender(fail) ~> command(m)";
    let expected = [
        told("m", "fail"),
        format!("{fail} | WARN: command failed(m)"),
        format!("{fail} | INFO: informed"),
        told("m", "panic"),
        "sender(panic) ~> command(m) | ERROR: handler panicked(m)".into(),
    ];
    assert_eq!(events(&recorder), expected);
    assert!(recorder.entered().is_none());
}

#[tokio::test]
async fn an_undelivered_command_is_handed_back_in_its_link() {
    let recorder = Recorder::new(Level::DEBUG);
    let _recording = tracing::subscriber::set_default(recorder.clone());
    let module = module(Says).name("m").spawn();

    tell(&module.dispatcher(), "late");
    let report = within(module.shutdown(Stop::AfterCurrent)).await;

    assert_eq!((report.stats.undelivered, report.stats.abandoned), (1, 0));
    let expected = "sender(late) ~> command(m) | INFO: undelivered late";
    assert_eq!(events(&recorder), [expected]);
}

#[tokio::test]
async fn a_linked_command_is_timed_by_its_name() {
    let recorder = Recorder::new(Level::DEBUG);
    let _recording = tracing::subscriber::set_default(recorder.clone());
    let module = module(Says)
        .message_names(|message: &String| if message.is_empty() { "empty" } else { "text" })
        .spawn();
    let dispatcher = module.dispatcher();

    tell(&dispatcher, "one");
    within(dispatcher.request("two")).await.expect("handled");
    tell(&dispatcher, "");
    within(dispatcher.request("")).await.expect("handled");

    let stats = dispatcher.message_stats().expect("named");
    let counted: Vec<_> = stats
        .by_name
        .iter()
        .map(|one| (one.name, one.waiting.count, one.handling.count))
        .collect();
    assert_eq!(counted, [("empty", 2, 2), ("text", 2, 2)]);
}

// === where it is not ===

#[tokio::test]
async fn a_loop_that_is_not_the_librarys_gets_a_command_as_one() {
    let recorder = Recorder::new(Level::DEBUG);
    let _recording = tracing::subscriber::set_default(recorder.clone());
    let (sender, mut receiver) = mpsc::channel(8);
    let dispatcher = Dispatcher::new(sender);

    tell(&dispatcher, "try_command");
    dispatcher.command("command").await.expect("room");
    dispatcher.command_all(["command_all"]).await.expect("room");
    let answer = dispatcher.ask_with(|_: Reply<u64>| "ask_with".into());
    assert!(within(answer).await.is_err());

    for expected in ["try_command", "command", "command_all", "ask_with"] {
        let received = receiver.recv().await.expect("sent");
        let SparkGenericModuleMessage::Command(message) = received else {
            panic!("{expected} came as something else");
        };
        assert_eq!(message, expected);
    }
}

#[tokio::test]
async fn what_comes_past_the_dispatcher_is_in_the_modules_span() {
    let recorder = Recorder::new(Level::DEBUG);
    let _recording = tracing::subscriber::set_default(recorder.clone());
    let ours = module(Says).name("ours").spawn();
    let (sender, receiver) = mpsc::channel(8);
    let served = tokio::spawn(run_module_server(Says, receiver));

    for sender in [ours.dispatcher().sender, sender.clone()] {
        let raw = SparkGenericModuleMessage::Command("raw".to_owned());
        sender.send(raw).await.expect("room");
    }
    tell(&Dispatcher::new(sender), "bare");
    within(ours.shutdown(Stop::Drain)).await;
    within(served).await.expect("no panic");

    let events = events(&recorder);
    assert_eq!(events.len(), 3);
    assert!(events.iter().all(|event| event.starts_with("module(")));
}

#[tokio::test]
async fn a_subscriber_that_wants_no_such_spans_gets_none() {
    let recorder = Recorder::new(Level::INFO);
    let _recording = tracing::subscriber::set_default(recorder.clone());
    let module = module(Says).name("m").spawn();

    tell(&module.dispatcher(), "told");
    within(module.shutdown(Stop::Drain)).await;

    assert_eq!(events(&recorder), ["module(m) | INFO: told"]);
}

// === that nothing else changes ===

#[tokio::test(start_paused = true)]
async fn a_subscriber_changes_no_count() {
    for stop in [Stop::Drain, Stop::AfterCurrent, Stop::Now] {
        for broadcast in [false, true] {
            for overflow in [Overflow::Wait, Overflow::DropOldest, Overflow::DropNewest] {
                let without = counted(stop, broadcast, overflow).await;
                let recorder = Recorder::new(Level::DEBUG);
                let recording = tracing::subscriber::set_default(recorder.clone());
                let with = counted(stop, broadcast, overflow).await;
                drop(recording);
                assert_eq!(with, without);
                assert!(recorder.paths().contains(&"command(m)".to_owned()));
            }
        }
    }
}

/// What a pool counts that is stopped among commands and requests, some of which fail.
async fn counted(stop: Stop, broadcast: bool, overflow: Overflow) -> Stats {
    let builder = pool(2, || Says)
        .name("m")
        .capacity(4)
        .overflow(overflow)
        .on_panic(PanicPolicy::restart(|| Says));
    let pool = if broadcast {
        builder.broadcast().spawn()
    } else {
        builder.round_robin().spawn()
    };
    let dispatcher = pool.dispatcher();
    for message in ["a", "panic", "b", "fail", "c", "d"] {
        // Some have no room.
        let _ = dispatcher.try_command(message);
    }
    let mut asking = Vec::new();
    for _ in 0..3 {
        yield_now().await;
        let _ = dispatcher.try_command("e");
        asking.push(queued(dispatcher.request("asked")));
        asking.truncate(1);
    }
    within(pool.shutdown_within(stop, Duration::from_secs(1)))
        .await
        .stats
}
