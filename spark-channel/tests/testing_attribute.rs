//! `#[testing::test]`: a test fails on panics, dead letters and unanswered requests.
#![cfg(feature = "test-util")]

use std::{num::NonZeroUsize, time::Duration};

use spark_channel::{
    ModuleTasks, NativeHandler, Overflow, PanicPolicy, Reply, SparkChannelError, Stop, module,
    spawn_module,
    testing::{Audit, Driver, Expected, Probe},
};
use tokio::{
    runtime::Builder,
    time::{Instant, sleep},
};

use crate::support::{Gate, queued, within};

mod support;

/// Answers later, or never.
struct Lazy {
    tasks: ModuleTasks,
}

enum Ask {
    Drop(Reply<u8>),
    Panic,
}

impl NativeHandler for Lazy {
    type Message = Ask;
    type Response = ();
    type Error = eyre::Report;

    async fn handle_request(&mut self, ask: Ask) -> eyre::Result<()> {
        self.handle_command(ask).await
    }

    async fn handle_command(&mut self, ask: Ask) -> eyre::Result<()> {
        match ask {
            Ask::Drop(reply) => drop(reply),
            Ask::Panic => {
                let panics = self.tasks.spawn(async { panic!("in the background") });
                panics.map_err(|refused| refused.reason)?;
            }
        }
        Ok(())
    }

    async fn stopped(&mut self) {
        self.tasks.shutdown().await;
    }
}

fn lazy() -> Lazy {
    let tasks = ModuleTasks::at_most(NonZeroUsize::MIN);
    Lazy { tasks }
}

// --- what passes

#[spark_channel::testing::test]
async fn a_test_without_losses_passes_and_its_modules_are_stopped() {
    let running = spawn_module(Gate::opened().module()).dispatcher();
    assert_eq!(within(running.request("a")).await.expect("handled"), "a");
    running.try_command("b").expect("room");
}

#[spark_channel::testing::test]
async fn time_costs_no_time() {
    let start = std::time::SystemTime::now();
    sleep(Duration::from_secs(600)).await;
    assert!(start.elapsed().expect("no leap") < Duration::from_secs(60));
}

#[spark_channel::testing::test(start_paused = false)]
async fn the_clock_may_run() {
    let before = Instant::now();
    std::thread::sleep(Duration::from_millis(1));
    assert!(before.elapsed() >= Duration::from_millis(1));
}

#[spark_channel::testing::test(flavor = "multi_thread", worker_threads = 2, panics = 1)]
async fn modules_started_on_any_thread_are_seen() {
    let started = tokio::spawn(async {
        let module = spawn_module(Gate::opened().module());
        assert!(module.dispatcher().request("panic").await.is_err());
        module.shutdown(Stop::Drain).await
    });
    assert_eq!(within(started).await.expect("no panic").stats.panics, 1);
}

#[spark_channel::testing::test(
    panics = 2,
    dead_letters = 2,
    interrupted = 1,
    dropped = 1,
    unanswered = 1
)]
async fn what_is_expected_of_all_modules_passes() {
    let gate = Gate::closed();
    let module = spawn_module(gate.module());
    let dispatcher = module.dispatcher();
    gate.let_pass(1);
    assert!(within(dispatcher.request("panic")).await.is_err());
    dispatcher.try_command("interrupted").expect("room");
    gate.entered().await;
    gate.entered().await;
    dispatcher.try_command("undelivered").expect("room");
    let _returned = queued(dispatcher.request("returned"));
    within(module.shutdown(Stop::Now)).await;

    let lazy = spawn_module(lazy()).dispatcher();
    lazy.try_command(Ask::Panic).expect("room");
    let dropped = within(lazy.ask_with(Ask::Drop)).await;
    assert_eq!(support::reason(dropped), SparkChannelError::ReplyDropped);

    let gate = Gate::closed();
    let full = spark_channel::module(gate.module()).capacity(1);
    let full = full.overflow(Overflow::DropOldest).spawn();
    let dispatcher = full.dispatcher();
    dispatcher.try_command("held").expect("room");
    gate.entered().await;
    dispatcher.try_command("dropped").expect("room");
    dispatcher.try_command("waits").expect("room");
    gate.open();
}

#[spark_channel::testing::test(panics = 1)]
#[should_panic(expected = "module `Gated`: aborted with all it had accepted")]
async fn what_is_expected_of_all_modules_excuses_none_that_is_aborted() {
    let panicking = spawn_module(Gate::opened().module()).dispatcher();
    assert!(within(panicking.request("panic")).await.is_err());
    let other = Builder::new_current_thread().build();
    let other = other.expect("it starts");
    {
        let _entered = other.enter();
        drop(spawn_module(Gate::opened().module()));
    }
    other.shutdown_background();
}

#[spark_channel::testing::test(panics = 1)]
async fn the_audit_may_expect_something_else_of_a_module(audit: Audit) -> eyre::Result<()> {
    let (one, other) = (Gate::opened().module(), Gate::opened().module());
    let (one, other) = (spawn_module(one), spawn_module(other));
    audit.watch_expecting(&other, Expected::nothing().panics(2));

    assert!(within(one.dispatcher().request("panic")).await.is_err());
    assert!(within(other.dispatcher().request("panic")).await.is_err());
    assert!(within(other.dispatcher().request("panic")).await.is_err());

    let mut driver = Driver::new(Gate::opened().module());
    driver.command("panic")?;
    audit.check_expecting(&driver.finish(), Expected::nothing().panics(1));
    Ok(())
}

#[spark_channel::testing::test]
async fn a_test_needs_no_await() {}

// --- what fails

#[spark_channel::testing::test]
#[should_panic(expected = "the audit of the test found: module `Gated`: 1 panics (0 expected)")]
async fn a_panic_nobody_expected_fails_the_test() {
    let module = spawn_module(Gate::opened().module());
    assert!(within(module.dispatcher().request("panic")).await.is_err());
}

#[spark_channel::testing::test]
#[should_panic(expected = "found: a background task panicked: in the background")]
async fn a_panic_in_the_background_fails_the_test() {
    let lazy = spawn_module(lazy()).dispatcher();
    within(lazy.request(Ask::Panic)).await.expect("spawned");
    sleep(Duration::from_secs(1)).await;
}

#[spark_channel::testing::test(panics = 2)]
#[should_panic(expected = "found: all modules together: 1 panics (2 expected)")]
async fn a_panic_that_does_not_come_fails_the_test() {
    let module = spawn_module(Gate::opened().module());
    assert!(within(module.dispatcher().request("panic")).await.is_err());
}

#[spark_channel::testing::test(panics = 1)]
#[should_panic(expected = "all modules together: 1 dead letters (0 expected)")]
async fn a_dead_letter_fails_the_test() {
    let gate = Gate::closed();
    let module = module(gate.module()).on_panic(PanicPolicy::Stop).spawn();
    module.dispatcher().try_command("panic").expect("room");
    module.dispatcher().try_command("lost").expect("room");
    gate.open();
}

#[spark_channel::testing::test]
#[should_panic(
    expected = "found: module `Gated`: has not ended, a handler may be pending, 0 messages wait"
)]
async fn a_request_that_is_never_answered_fails_the_test() {
    let gate = Gate::closed();
    let dispatcher = spawn_module(gate.module()).dispatcher();
    let _hangs = queued(dispatcher.request("hangs"));
    gate.entered().await;
}

#[spark_channel::testing::test]
#[should_panic(expected = "found: 1 unanswered requests (0 expected)")]
async fn a_reply_that_is_dropped_fails_the_test() {
    let lazy = spawn_module(lazy()).dispatcher();
    assert!(within(lazy.ask_with(Ask::Drop)).await.is_err());
}

#[spark_channel::testing::test]
#[should_panic(expected = "found: 1 unanswered requests (0 expected)")]
async fn a_reply_that_a_probe_drops_fails_the_test() {
    let mut probe = Probe::<String, String>::new();
    let dispatcher = probe.dispatcher();
    let asking = tokio::spawn(async move { dispatcher.request("a").await });
    let (_, reply) = probe.expect_request().await;
    drop(reply);
    assert!(within(asking).await.expect("no panic").is_err());
}

#[spark_channel::testing::test]
#[should_panic(expected = "the test still waits after 3600s by its clock")]
async fn a_test_that_waits_for_ever_fails_at_once() {
    std::future::pending::<()>().await;
}

#[spark_channel::testing::test(timeout = "5s")]
#[should_panic(expected = "the test still waits after 5s by its clock")]
async fn a_test_may_have_a_time_limit() {
    sleep(Duration::from_secs(6)).await;
}

#[spark_channel::testing::test]
#[should_panic(expected = "the test's own panic")]
async fn a_test_that_fails_by_itself_says_why() {
    let module = spawn_module(Gate::opened().module());
    assert!(within(module.dispatcher().request("panic")).await.is_err());
    panic!("the test's own panic");
}

mod imported {
    use spark_channel::{spawn_module, testing::test};

    use crate::support::Gate;

    #[test]
    async fn it_may_be_imported_in_the_place_of_the_plain_one() -> eyre::Result<()> {
        let module = spawn_module(Gate::opened().module());
        module.dispatcher().request("a").await?;
        Ok(())
    }
}

#[test]
fn other_tests_of_the_same_thread_are_not_looked_at() {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime").block_on(async {
        let module = spawn_module(Gate::opened().module());
        assert!(module.dispatcher().request("panic").await.is_err());
    });
}
