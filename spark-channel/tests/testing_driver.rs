//! A module driven by hand, one message per step, most of it without a runtime.
#![cfg(feature = "test-util")]

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use spark_channel::{
    Class, NativeHandler, Overflow, PanicPolicy, Priority, SparkChannelCancellationToken,
    SparkChannelError, SparkGenericModuleMessage, Stage, Stop, StopReason, WeakDispatcher, current,
    module, pool,
    testing::{Driver, Step},
};

use crate::support::{Gate, Runner, job, reason};

mod support;

fn opened() -> (
    Gate,
    Driver<impl NativeHandler<Message = String, Response = String, Error = eyre::Report>>,
) {
    let gate = Gate::opened();
    let driver = Driver::new(gate.module());
    (gate, driver)
}

#[test]
fn a_request_is_answered_and_a_command_handled_without_a_runtime() {
    let (gate, mut driver) = opened();

    assert_eq!(driver.request("a").answer().expect("handled"), "a");
    assert_eq!(driver.command("b").expect("room"), Step::Handled);
    assert_eq!(driver.step(), Step::Idle);

    let report = driver.finish();
    assert_eq!((report.stats.handled, report.stats.accounted()), (2, 2));
    assert_eq!(report.reason, StopReason::Requested(Stop::Drain));
    assert_eq!(gate.log.lines(), ["a", "b", "stopped"]);
}

#[test]
fn a_step_handles_exactly_one_message() {
    let (gate, mut driver) = opened();
    let dispatcher = driver.dispatcher();
    for command in ["1", "2", "3"] {
        dispatcher.try_command(command).expect("room");
    }

    assert_eq!((driver.stats().depth, gate.log.lines().len()), (3, 0));
    for handled in 1..=3 {
        assert_eq!(driver.step(), Step::Handled);
        assert_eq!(driver.stats().handled, handled);
        assert_eq!(driver.stats().depth, 3 - gate.log.lines().len());
    }
    assert_eq!(driver.step(), Step::Idle);
}

#[test]
fn a_step_takes_what_its_class_says_comes_first() {
    const URGENT: Class = Class::new("urgent").priority(Priority::High);
    let gate = Gate::opened();
    let mut driver = module(gate.module())
        .capacity(1)
        .overflow(Overflow::DropOldest)
        .classify(|message: &String| match message.as_str() {
            "urgent" => URGENT,
            _ => Class::DEFAULT,
        })
        .driver();
    let dispatcher = driver.dispatcher();
    let dropped = driver.submit("dropped").expect("accepted");
    for command in ["kept", "urgent"] {
        dispatcher.try_command(command).expect("accepted");
    }

    let dropped = reason(driver.resume(dropped).answer());
    assert_eq!(dropped, SparkChannelError::Overflowed);
    assert_eq!(driver.stats().depth, 2);
    assert_eq!(
        (driver.step(), driver.step()),
        (Step::Handled, Step::Handled)
    );
    assert_eq!(driver.step(), Step::Idle);

    let stats = driver.finish().stats;
    assert_eq!(gate.log.lines(), ["urgent", "kept", "stopped"]);
    assert_eq!((stats.dropped, stats.accounted()), (1, 3));
}

#[test]
fn a_request_waits_for_what_was_sent_before_it() {
    let (gate, mut driver) = opened();
    driver.dispatcher().try_command("first").expect("room");
    let second = driver.submit("second").expect("room");

    let third = driver.request("third").answer();
    let second = driver.resume(second).answer();

    assert_eq!(
        (second.expect("handled"), third.expect("handled")),
        ("second".into(), "third".into())
    );
    assert_eq!(gate.log.lines(), ["first", "second", "third"]);
}

#[test]
fn a_pending_handler_is_reported_and_goes_on_at_the_next_step() {
    let gate = Gate::closed();
    let mut driver = Driver::new(gate.module());

    let waiting = driver.request("slow").pending();
    assert_eq!(driver.step(), Step::Pending);
    assert_eq!(driver.command("behind").expect("room"), Step::Pending);
    gate.let_pass(1);

    assert_eq!(driver.step(), Step::Handled);
    assert_eq!(driver.resume(waiting).answer().expect("handled"), "slow");
    assert_eq!(gate.log.lines(), ["slow"], "one message per step");
    gate.open();
    assert_eq!(driver.step(), Step::Handled);
}

#[test]
fn a_command_steps_through_the_one_in_hand_before_it() {
    let gate = Gate::closed();
    let mut driver = Driver::new(gate.module());
    assert_eq!(driver.command("first").expect("room"), Step::Pending);
    gate.open();

    assert_eq!(driver.command("fail").expect("room"), Step::Failed);

    let lines = ["first", "fail", "failed: told to fail"];
    assert_eq!(gate.log.lines(), lines);
}

#[test]
fn a_panic_is_reported_and_the_module_goes_on_by_its_policy() {
    let gate = Gate::opened();
    let policy = {
        let gate = gate.clone();
        PanicPolicy::restart(move || gate.module())
    };
    let mut driver = module(gate.module()).on_panic(policy).driver();

    let asked = driver.request("panic");
    assert!(matches!(&asked, spark_channel::testing::Asked::Panicked(_)));
    let text = Arc::from("told to panic");
    assert_eq!(reason(asked.answer()), SparkChannelError::Panicked { text });
    assert_eq!(driver.command("panic").expect("room"), Step::Panicked);
    assert_eq!(driver.request("next").answer().expect("handled"), "next");

    let stats = driver.finish().stats;
    assert_eq!((stats.panicked, stats.restarts, stats.handled), (2, 2, 1));
}

#[test]
fn an_abandoned_request_is_not_handled() {
    let (gate, mut driver) = opened();
    drop(driver.submit("nobody waits").expect("room"));

    assert_eq!(driver.step(), Step::NotHandled);

    assert_eq!(driver.finish().stats.abandoned, 1);
    assert_eq!(gate.log.lines(), ["stopped"]);
}

#[test]
fn a_full_mailbox_refuses_while_the_handler_is_pending() {
    let gate = Gate::closed();
    let mut driver = module(gate.module()).capacity(1).driver();
    let running = driver.request("running").pending();
    let queued = driver.request("queued").pending();

    let refused = driver.request("full").answer();

    assert_eq!(reason(refused), SparkChannelError::Full);
    assert!(driver.command("full").is_err());
    gate.open();
    assert_eq!(driver.resume(queued).answer().expect("handled"), "queued");
    assert_eq!(driver.resume(running).answer().expect("handled"), "running");
}

#[test]
fn a_stopping_module_gives_back_one_message_per_step_and_then_ends() {
    let (gate, mut driver) = opened();
    let returned = driver.submit("request").expect("room");
    driver.dispatcher().try_command("command").expect("room");

    driver.stop(Stop::AfterCurrent);
    let late = driver.request("late").answer();
    let returned = driver.resume(returned).answer();
    let rest = [driver.step(), driver.step(), driver.step()];

    assert_eq!(reason(late), SparkChannelError::ShuttingDown);
    assert_eq!(reason(returned), SparkChannelError::ShuttingDown);
    assert_eq!(rest, [Step::NotHandled, Step::Ended, Step::Ended]);
    assert_eq!(gate.log.lines(), ["undelivered command", "stopped"]);
    let report = driver.report().expect("it has ended");
    assert_eq!((report.stats.returned, report.stats.undelivered), (1, 1));
}

#[test]
fn a_drain_and_a_shutdown_message_are_steps_too() {
    let (gate, mut driver) = opened();
    let dispatcher = driver.dispatcher();
    dispatcher.try_command("before").expect("room");
    let token = SparkChannelCancellationToken::new();
    dispatcher
        .sender
        .try_send(SparkGenericModuleMessage::Shutdown(token.clone()))
        .expect("room");

    assert_eq!(driver.step(), Step::Handled);
    assert_eq!(driver.step(), Step::NotHandled);
    assert!(!token.inner().is_cancelled());
    assert_eq!(driver.step(), Step::Ended);

    assert!(token.inner().is_cancelled());
    assert_eq!(driver.finish().reason, StopReason::ShutdownMessage);
    assert_eq!(gate.log.lines(), ["before", "stopped"]);
}

#[test]
fn stop_now_interrupts_a_pending_handler_without_a_runtime() {
    let gate = Gate::closed();
    let mut driver = Driver::new(gate.module());
    let waiting = driver.request("hangs").pending();

    driver.stop(Stop::Now);

    assert_eq!(
        reason(driver.resume(waiting).answer()),
        SparkChannelError::Cancelled
    );
    assert_eq!(driver.step(), Step::Ended);
}

#[test]
#[should_panic(expected = "lost messages")]
fn finish_fails_the_test_when_a_message_was_lost() {
    let gate = Gate::closed();
    let mut driver = Driver::new(gate.module());
    driver.command("interrupted").expect("room");
    driver.stop(Stop::Now);

    driver.finish();
}

#[test]
#[should_panic(expected = "module `Gated` cannot stop")]
fn finish_fails_the_test_when_a_handler_is_pending() {
    let gate = Gate::closed();
    let mut driver = Driver::new(gate.module());
    driver.command("hangs").expect("room");

    driver.finish();
}

#[test]
fn a_failed_start_ends_the_module_and_a_pending_one_is_a_step() {
    struct Starts(Gate, &'static str);
    impl NativeHandler for Starts {
        type Message = ();
        type Response = ();
        type Error = eyre::Report;
        async fn handle_request(&mut self, (): ()) -> eyre::Result<()> {
            Ok(())
        }
        async fn handle_command(&mut self, (): ()) -> eyre::Result<()> {
            Ok(())
        }
        async fn started(&mut self) -> eyre::Result<()> {
            let Self(gate, message) = self;
            gate.module().handle_command((*message).into()).await
        }
    }
    let gate = Gate::closed();
    let mut slow = Driver::new(Starts(gate.clone(), "slow"));
    let mut fails = Driver::new(Starts(Gate::opened(), "fail"));
    let mut panics = Driver::new(Starts(Gate::opened(), "panic"));

    assert_eq!(slow.command(()).expect("room"), Step::Pending);
    gate.open();
    assert_eq!(slow.command(()).expect("room"), Step::Handled);
    assert_eq!(slow.finish().stats.handled, 2);
    fails.dispatcher().try_command(()).expect("room");
    assert_eq!(
        (fails.step(), fails.step()),
        (Step::NotHandled, Step::Ended)
    );
    assert_eq!(panics.step(), Step::Ended);
    assert_eq!(panics.stats().panics, 1);
    let report = fails.report().expect("it has ended");
    assert_eq!(report.reason, StopReason::StartFailed);
}

#[test]
fn a_handler_that_yields_goes_on_in_the_same_step_and_one_that_only_yields_is_pending() {
    let mut driver = Driver::new(Runner);

    let yields = driver.request(job(async {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        Ok(7)
    }));
    assert_eq!(yields.answer().expect("handled"), 7);
    let spins = driver.request(job(async {
        loop {
            tokio::task::yield_now().await;
        }
    }));
    drop(spins.pending());
}

#[test]
fn a_handler_waits_for_another_driven_module() {
    let mut lower = Driver::new(Gate::opened().module());
    let mut upper = Driver::new(Runner);
    let dispatcher = lower.dispatcher();

    let waiting = upper
        .request(job(async move {
            Ok(dispatcher.request("word").await?.len() as u64)
        }))
        .pending();
    assert_eq!(lower.step(), Step::Handled);

    assert_eq!(upper.resume(waiting).answer().expect("handled"), 4);
}

#[test]
fn the_module_knows_itself_by_its_name_and_its_dispatcher() {
    let mut driver = module(Runner).name("driven").driver();
    let weak: WeakDispatcher<_, _> = driver.dispatcher().downgrade();
    let (names, name) = mpsc::sync_channel(1);

    let itself = driver.request(job(async move {
        names.try_send(current::module_name()).expect("room");
        weak.upgrade()
            .expect("alive")
            .request(job(async { Ok(1) }))
            .await
    }));

    let path = ["driven".into(), "driven".into()].into();
    assert_eq!(
        reason(itself.answer()),
        SparkChannelError::WouldDeadlock { path }
    );
    assert_eq!(name.recv().expect("sent").as_deref(), Some("driven"));
}

#[test]
fn of_a_pool_one_replica_is_driven() {
    let mut driver = pool(4, || Gate::opened().module()).driver();

    assert!(driver.request("panic").answer().is_err());

    assert_eq!(driver.finish().stats.restarts, 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_expires_in_the_mailbox_as_ever() {
    let gate = Gate::opened();
    let timeout = Duration::from_secs(2);
    let mut driver = module(gate.module()).default_timeout(timeout).driver();
    let expires = driver.submit("expires").expect("room");

    tokio::time::advance(Duration::from_secs(2)).await;

    let stage = Stage::Queued;
    let expired = driver.resume(expires).answer();
    assert_eq!(reason(expired), SparkChannelError::TimedOut { stage });
    assert_eq!(driver.finish().stats.expired, 1);
}

#[tokio::test(start_paused = true)]
async fn a_handler_with_a_timer_is_driven_inside_of_a_runtime() {
    let mut driver = Driver::new(Runner);

    let waiting = driver
        .request(job(async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            Ok(5)
        }))
        .pending();
    tokio::time::advance(Duration::from_secs(6)).await;

    assert_eq!(driver.resume(waiting).answer().expect("handled"), 5);
}

#[tokio::test]
async fn a_step_does_not_depend_on_the_budget_of_the_tests_task() {
    let (_gate, mut driver) = opened();

    for number in 1..=1_000 {
        assert!(driver.request("a").answer().is_ok());
        assert_eq!(driver.stats().handled, number);
    }
}

#[tokio::test(start_paused = true)]
async fn a_spawned_module_without_a_shutdown_timeout_is_waited_for() {
    let gate = Gate::closed();
    let module = module(gate.module())
        .shutdown_timeout(Duration::MAX)
        .spawn();
    module.dispatcher().try_command("slow").expect("room");
    gate.entered().await;

    let mut stopping = support::queued(module.shutdown(Stop::Drain));
    tokio::time::advance(Duration::from_secs(60 * 60 * 24)).await;
    assert!(stopping.poll().is_pending());
    gate.open();

    let report = support::within(stopping).await;
    assert_eq!((report.stats.handled, report.deadline_passed), (1, false));
}
