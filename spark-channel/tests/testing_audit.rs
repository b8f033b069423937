//! Tests fail when their modules panic, lose messages, or do not end.
#![cfg(feature = "test-util")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use spark_channel::{
    ModuleHandle, NativeHandler, Overflow, PanicPolicy, Stop, module, spawn_module,
    testing::{Audit, Driver, Expected, audited},
};

use tokio::time::sleep;

use crate::support::{Gate, Runner, job, queued, within};

mod support;

#[tokio::test(start_paused = true)]
async fn modules_that_handled_everything_pass_whether_they_were_stopped_or_not() {
    let audit = Audit::new();
    let (stopped, running) = (Gate::opened().module(), Gate::opened().module());
    let (stopped, running) = (spawn_module(stopped), spawn_module(running));
    audit.watch(&stopped);
    audit.watch(&running);
    within(stopped.dispatcher().request("a"))
        .await
        .expect("handled");
    running.dispatcher().try_command("b").expect("room");
    within(stopped.shutdown(Stop::Drain)).await;

    within(audit.finish()).await;

    assert!(running.is_finished());
    assert_eq!(running.stats().handled, 1);
}

#[tokio::test(start_paused = true)]
async fn an_audited_test_has_its_modules_stopped_and_its_result_passed_on() {
    let gate = Gate::opened();

    let answer = audited(async |audit| {
        let module = spawn_module(gate.module());
        audit.watch(&module);
        module.dispatcher().request("a").await
    });

    assert_eq!(within(answer).await.expect("handled"), "a");
    assert_eq!(gate.log.lines(), ["a", "stopped"]);
}

/// Starts another module, which it keeps, behind a gate.
struct Founder {
    audit: Audit,
    gate: Gate,
    founded: Arc<Mutex<Option<ModuleHandle<String, String>>>>,
}

impl NativeHandler for Founder {
    type Message = ();
    type Response = ();
    type Error = eyre::Report;

    async fn handle_request(&mut self, (): ()) -> eyre::Result<()> {
        self.gate.wait().await?;
        let founded = spawn_module(Gate::opened().module());
        self.audit.watch(&founded);
        *self.founded.lock().expect("no panic under it") = Some(founded);
        Ok(())
    }

    async fn handle_command(&mut self, (): ()) -> eyre::Result<()> {
        self.handle_request(()).await
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_started_while_the_rest_ends_is_stopped_as_well() {
    let (audit, gate) = (Audit::new(), Gate::closed());
    let founded = Arc::default();
    let founder = spawn_module(Founder {
        audit: audit.clone(),
        gate: gate.clone(),
        founded: Arc::clone(&founded),
    });
    audit.watch(&founder);
    founder.dispatcher().try_command(()).expect("room");
    gate.entered().await;

    let open = async {
        sleep(Duration::from_secs(1)).await;
        gate.open();
    };
    within(async { tokio::join!(audit.finish(), open) }).await;

    let founded = founded.lock().expect("no panic under it").take();
    assert!(founded.expect("it was started").is_finished());
}

#[tokio::test(start_paused = true)]
async fn what_is_expected_passes() {
    let gate = Gate::closed();
    let expected = Expected::nothing().panics(1).dead_letters(2).interrupted(1);

    within(audited(async |audit| {
        let module = module(gate.module()).spawn();
        audit.watch_expecting(&module, expected);
        let dispatcher = module.dispatcher();
        gate.let_pass(1);
        assert!(within(dispatcher.request("panic")).await.is_err());
        dispatcher.try_command("interrupted").expect("room");
        gate.entered().await;
        gate.entered().await;
        dispatcher.try_command("undelivered").expect("room");
        let _returned = queued(dispatcher.request("returned"));
        within(module.shutdown(Stop::Now)).await;
    }))
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_a_full_class_drops_is_expected_or_fails_the_test() {
    for (expected, fails) in [
        (Expected::nothing().dropped(2), false),
        (Expected::nothing(), true),
    ] {
        let audit = Audit::new();
        let gate = Gate::closed();
        let module = module(gate.module())
            .capacity(1)
            .overflow(Overflow::DropOldest)
            .spawn();
        audit.watch_expecting(&module, expected);
        for command in ["1", "2", "3"] {
            module.dispatcher().try_command(command).expect("accepted");
        }
        gate.open();

        let audited = tokio::spawn(within(audit.finish())).await;

        assert_eq!(audited.is_err(), fails);
    }
}

#[test]
fn reports_of_driven_modules_are_checked_without_a_runtime() {
    let audit = Audit::new();
    let mut driver = Driver::new(Gate::opened().module());
    driver.command("panic").expect("room");

    audit.check_expecting(&driver.finish(), Expected::nothing().panics(1));
    audit.check(&Driver::new(Gate::opened().module()).finish());
}

// --- what fails a test

#[tokio::test(start_paused = true)]
#[should_panic(expected = "found: module `Gated`: 1 panics (0 expected)")]
async fn a_panic_nobody_expected_fails_the_test() {
    audited(async |audit| {
        let module = spawn_module(Gate::opened().module());
        audit.watch(&module);
        assert!(within(module.dispatcher().request("panic")).await.is_err());
    })
    .await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "module `Gated`: 0 panics (1 expected)")]
async fn a_panic_that_was_expected_and_did_not_come_fails_the_test() {
    audited(async |audit| {
        let module = spawn_module(Gate::opened().module());
        audit.watch_expecting(&module, Expected::nothing().panics(1));
    })
    .await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "1 panics (0 expected), 1 dead letters (0 expected)")]
async fn a_dead_letter_fails_the_test() {
    let gate = Gate::closed();
    audited(async |audit| {
        let module = module(gate.module()).on_panic(PanicPolicy::Stop).spawn();
        audit.watch(&module);
        module.dispatcher().try_command("panic").expect("room");
        module.dispatcher().try_command("lost").expect("room");
        gate.open();
    })
    .await;
}

#[tokio::test(start_paused = true)]
#[should_panic(
    expected = "module `Gated`: has not ended, a handler may be pending, 1 messages wait"
)]
async fn an_unanswered_request_fails_the_test() {
    let gate = Gate::closed();
    let module = module(gate.module()).capacity(1).spawn();
    let dispatcher = module.dispatcher();
    let _running = queued(dispatcher.request("running"));
    gate.entered().await;
    let _waiting = queued(dispatcher.request("waiting"));
    let audit = Audit::new();
    audit.watch(&module);

    audit.finish().await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "the audit that was not finished found: module `Gated`: has not ended")]
async fn an_audit_that_was_forgotten_looks_when_it_is_dropped() {
    let module = spawn_module(Gate::opened().module());
    let audit = Audit::new();

    audit.watch(&module);
}

#[test]
#[should_panic(expected = "the test's own panic")]
fn a_test_that_fails_by_itself_says_why() {
    let audit = Audit::new();
    let mut driver = Driver::new(Gate::opened().module());
    driver.command("panic").expect("room");
    audit.check(&driver.finish());

    panic!("the test's own panic");
}

#[test]
#[should_panic(expected = "module `Gated`: aborted with all it had accepted")]
fn a_module_that_was_aborted_fails_the_test() {
    let audit = Audit::new();
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime")
    };
    runtime().block_on(async {
        let module = spawn_module(Gate::closed().module());
        audit.watch(&module);
        module.dispatcher().try_command("lost").expect("room");
    });

    runtime().block_on(audit.finish());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[should_panic(expected = "module `Runner`: did not respond to its stop")]
async fn a_module_that_blocked_its_thread_fails_the_test() {
    let audit = Audit::new();
    let module = spawn_module(Runner);
    let (release, blocked) = std::sync::mpsc::sync_channel::<()>(1);
    let (entered, entering) = tokio::sync::oneshot::channel();
    let blocking = job(async move {
        let _ = entered.send(());
        let _ = blocked.recv();
        Ok(0)
    });
    assert!(module.dispatcher().try_command(blocking).is_ok());
    within(entering).await.expect("it has begun");

    audit.check(&within(module.shutdown_within(Stop::Now, Duration::ZERO)).await);
    drop(release);

    audit.finish().await;
}
