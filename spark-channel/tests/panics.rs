//! Panics in user code: the caller learns it, and the module goes on, starts
//! afresh or stops, as its policy says.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use spark_channel::{
    ModuleHandle, NativeHandler, PanicPolicy, SparkChannelError, Stop, StopReason, module, pool,
};

use crate::support::{Gate, Log, queued, reason, within};

mod support;

/// Counts its requests; panics at the places named by `breaks_in`, by a message
/// `panic`, or where one of its hooks is told to.
#[derive(Clone)]
struct Fragile {
    breaks_in: &'static str,
    log: Log,
    count: usize,
}

type Handle = ModuleHandle<&'static str, usize>;

impl Fragile {
    fn new(breaks_in: &'static str, log: &Log) -> Self {
        let log = log.clone();
        Self {
            breaks_in,
            log,
            count: 0,
        }
    }

    fn enter(&self, place: &str) {
        self.log.push(place);
        assert!(self.breaks_in != place, "{place} broke");
    }
}

impl NativeHandler for Fragile {
    type Message = &'static str;
    type Response = usize;
    type Error = eyre::Report;

    async fn handle_request(&mut self, message: &'static str) -> eyre::Result<usize> {
        self.count += 1;
        self.log.push(message);
        tokio::task::yield_now().await;
        assert!(message != "panic", "request broke");
        Ok(self.count)
    }

    async fn handle_command(&mut self, message: &'static str) -> eyre::Result<()> {
        self.count += 1;
        self.log.push(message);
        tokio::task::yield_now().await;
        assert!(message != "panic", "command broke");
        eyre::ensure!(message != "fail", "command failed");
        Ok(())
    }

    async fn started(&mut self) -> eyre::Result<()> {
        self.enter("started");
        Ok(())
    }

    async fn stopped(&mut self) {
        self.enter("stopped");
    }

    async fn undelivered(&mut self, command: &'static str) {
        self.log.push(command);
        self.enter("undelivered");
    }

    fn command_failed(&mut self, _: eyre::Report) {
        self.enter("command_failed");
    }
}

fn spawn(breaks_in: &'static str, policy: PanicPolicy<Fragile>, log: &Log) -> Handle {
    let fragile = Fragile::new(breaks_in, log);
    module(fragile).on_panic(policy).spawn()
}

fn fresh(log: &Log) -> PanicPolicy<Fragile> {
    let fragile = Fragile::new("nothing", log);
    PanicPolicy::restart(move || fragile.clone())
}

fn panicked(text: &str) -> SparkChannelError {
    let text = text.into();
    SparkChannelError::Panicked { text }
}

// --- the three policies

#[tokio::test]
async fn continue_goes_on_with_the_state_there_is() {
    let log = Log::default();
    let module = spawn("nothing", PanicPolicy::Continue, &log);
    let dispatcher = module.dispatcher();

    let before = within(dispatcher.request("before")).await;
    let crashed = within(dispatcher.request("panic")).await;
    let after = within(dispatcher.request("after")).await;

    assert_eq!(before.expect("handled"), 1);
    assert_eq!(reason(crashed), panicked("request broke"));
    assert_eq!(after.expect("handled"), 3);
    let report = within(module.shutdown(Stop::Drain)).await;
    let lines = ["started", "before", "panic", "after", "stopped"];
    assert_eq!(log.lines(), lines);
    assert_eq!((report.stats.panicked, report.stats.panics), (1, 1));
    assert_eq!((report.stats.handled, report.stats.restarts), (2, 0));
}

#[tokio::test]
async fn restart_goes_on_with_a_new_handler_that_is_started_first() {
    let log = Log::default();
    let module = spawn("nothing", fresh(&log), &log);
    let dispatcher = module.dispatcher();

    let before = within(dispatcher.request("before")).await;
    let crashed = within(dispatcher.request("panic")).await;
    let after = within(dispatcher.request("after")).await;

    assert_eq!(before.expect("handled"), 1);
    assert_eq!(reason(crashed), panicked("request broke"));
    assert_eq!(after.expect("handled"), 1);
    let report = within(module.shutdown(Stop::Drain)).await;
    let lines = ["started", "before", "panic", "started", "after", "stopped"];
    assert_eq!(log.lines(), lines);
    assert_eq!((report.stats.panicked, report.stats.restarts), (1, 1));
}

#[tokio::test]
async fn stop_gives_back_what_is_queued() {
    let log = Log::default();
    let module = spawn("nothing", PanicPolicy::Stop, &log);
    let dispatcher = module.dispatcher();
    let crashing = queued(dispatcher.request("panic"));
    let behind = queued(dispatcher.request("behind"));
    within(dispatcher.command("told")).await.expect("room");

    let report = within(module.wait()).await;

    assert_eq!(reason(within(crashing).await), panicked("request broke"));
    assert_eq!(
        reason(within(behind).await),
        SparkChannelError::ShuttingDown
    );
    assert_eq!(report.reason, StopReason::Panicked);
    assert_eq!((report.stats.returned, report.stats.undelivered), (1, 1));
    let lines = ["started", "panic", "told", "undelivered", "stopped"];
    assert_eq!(log.lines(), lines);
}

#[tokio::test]
async fn what_is_queued_behind_a_crash_is_handled_in_order_and_the_crash_is_not_replayed() {
    let policies: [fn(&Log) -> PanicPolicy<Fragile>; 2] = [|_| PanicPolicy::Continue, fresh];
    for policy in policies {
        let log = Log::default();
        let module = spawn("started twice", policy(&log), &log);
        let dispatcher = module.dispatcher();
        let crash = queued(dispatcher.request("panic"));
        for command in ["one", "two", "panic", "three"] {
            dispatcher.try_command(command).expect("room");
        }

        within(module.shutdown(Stop::Drain)).await;

        assert!(within(crash).await.is_err());
        let lines = log.lines().into_iter();
        let handled: Vec<_> = lines.filter(|line| line != "started").collect();
        let expected = ["panic", "one", "two", "panic", "three", "stopped"];
        assert_eq!(handled, expected);
    }
}

#[tokio::test]
async fn a_factory_that_panics_stops_the_module() {
    let log = Log::default();
    let broken = || -> Fragile { panic!("no more of them") };
    let module = spawn("nothing", PanicPolicy::restart(broken), &log);
    let dispatcher = module.dispatcher();

    let crashed = within(dispatcher.request("panic")).await;

    assert_eq!(reason(crashed), panicked("request broke"));
    assert_eq!(within(module.wait()).await.reason, StopReason::Panicked);
    assert_eq!(log.lines(), ["started", "panic", "stopped"]);
}

// --- places

#[tokio::test]
async fn a_command_that_panics_is_counted_and_answered_for_by_the_policy() {
    let log = Log::default();
    let module = spawn("nothing", fresh(&log), &log);
    let dispatcher = module.dispatcher();

    within(dispatcher.command("panic")).await.expect("room");
    let next = within(dispatcher.request("next")).await;

    assert_eq!(next.expect("handled"), 1);
    let report = within(module.shutdown(Stop::Drain)).await;
    assert_eq!((report.stats.panicked, report.stats.restarts), (1, 1));
    assert_eq!(report.stats.accounted(), 2);
}

#[tokio::test]
async fn a_start_that_panics_ends_the_module_whatever_the_policy() {
    let policies: [fn(&Log) -> PanicPolicy<Fragile>; 3] =
        [|_| PanicPolicy::Continue, |_| PanicPolicy::Stop, fresh];
    for policy in policies {
        let log = Log::default();
        let module = spawn("started", policy(&log), &log);
        let dispatcher = module.dispatcher();
        let asked = queued(dispatcher.request("asked"));

        let report = within(module.wait()).await;

        assert_eq!(report.reason, StopReason::StartFailed);
        assert_eq!(reason(within(asked).await), SparkChannelError::ShuttingDown);
        assert_eq!(log.lines(), ["started", "stopped"]);
        assert_eq!((report.stats.panics, report.stats.returned), (1, 1));
    }
}

#[tokio::test]
async fn a_restarted_handler_whose_start_panics_ends_the_module() {
    let log = Log::default();
    let broken = Fragile::new("started", &log);
    let policy = PanicPolicy::restart(move || broken.clone());
    let module = spawn("nothing", policy, &log);

    let crashed = within(module.dispatcher().request("panic")).await;

    assert_eq!(reason(crashed), panicked("request broke"));
    assert_eq!(within(module.wait()).await.reason, StopReason::StartFailed);
    assert_eq!(log.lines(), ["started", "panic", "started", "stopped"]);
}

#[tokio::test]
async fn a_stop_that_panics_is_reported_and_nothing_is_started_again() {
    let policies: [fn(&Log) -> PanicPolicy<Fragile>; 3] =
        [|_| PanicPolicy::Continue, |_| PanicPolicy::Stop, fresh];
    for policy in policies {
        for stop in [Stop::Drain, Stop::AfterCurrent, Stop::Now] {
            let log = Log::default();
            let module = spawn("stopped", policy(&log), &log);
            let asked = within(module.dispatcher().request("asked")).await;

            let report = within(module.shutdown(stop)).await;

            assert!(asked.is_ok());
            assert_eq!(report.reason, StopReason::Requested(stop));
            assert_eq!((report.stats.panics, report.stats.restarts), (1, 0));
            assert_eq!(log.lines(), ["started", "asked", "stopped"]);
        }
    }
}

#[tokio::test]
async fn a_stop_that_panics_after_the_last_dispatcher_went_starts_nothing_again() {
    let log = Log::default();
    let module = spawn("stopped", fresh(&log), &log);

    let report = within(module.wait()).await;

    assert_eq!(report.reason, StopReason::NoDispatchers);
    assert_eq!((report.stats.panics, report.stats.restarts), (1, 0));
    assert_eq!(log.lines(), ["started", "stopped"]);
}

#[tokio::test]
async fn a_command_that_cannot_be_handed_back_is_not_handed_back_twice() {
    let log = Log::default();
    let module = spawn("undelivered", PanicPolicy::Continue, &log);
    let dispatcher = module.dispatcher();
    dispatcher.try_command("one").expect("room");
    dispatcher.try_command("two").expect("room");

    let report = within(module.shutdown(Stop::AfterCurrent)).await;

    let lines = [
        "started",
        "one",
        "undelivered",
        "two",
        "undelivered",
        "stopped",
    ];
    assert_eq!(log.lines(), lines);
    assert_eq!((report.stats.undelivered, report.stats.panics), (2, 2));
}

#[tokio::test]
async fn a_panic_in_the_hook_for_failures_does_not_count_the_command_twice() {
    let log = Log::default();
    let module = spawn("command_failed", PanicPolicy::Continue, &log);
    let dispatcher = module.dispatcher();

    within(dispatcher.command("fail")).await.expect("room");
    let next = within(dispatcher.request("next")).await;

    assert_eq!(next.expect("handled"), 2);
    let report = within(module.shutdown(Stop::Drain)).await;
    assert_eq!((report.stats.handled, report.stats.failed), (2, 1));
    assert_eq!((report.stats.panicked, report.stats.panics), (0, 1));
}

#[tokio::test]
async fn a_panic_while_draining_does_not_end_the_draining() {
    let gate = Gate::closed();
    let module = module(gate.module()).spawn();
    let dispatcher = module.dispatcher();
    let crashing = queued(dispatcher.request("panic"));
    gate.entered().await;
    let behind = queued(dispatcher.request("behind"));

    module.stop(Stop::Drain);
    gate.open();

    assert_eq!(reason(within(crashing).await), panicked("told to panic"));
    assert_eq!(within(behind).await.expect("handled"), "behind");
    assert_eq!(gate.log.lines(), ["panic", "behind", "stopped"]);
}

// --- pools

#[tokio::test]
async fn a_replica_that_panics_is_replaced_and_the_others_do_not_notice() {
    let (gate, made) = (Gate::closed(), Arc::new(AtomicUsize::new(0)));
    let (behind, making) = (gate.clone(), Arc::clone(&made));
    let module = pool(2, move || {
        making.fetch_add(1, Ordering::SeqCst);
        behind.module()
    })
    .spawn();
    let dispatcher = module.dispatcher();
    let crashing = queued(dispatcher.request("panic"));
    let beside = queued(dispatcher.request("beside"));
    gate.entered().await;
    gate.entered().await;

    gate.open();

    assert_eq!(reason(within(crashing).await), panicked("told to panic"));
    assert_eq!(within(beside).await.expect("handled"), "beside");
    let report = within(module.shutdown(Stop::Drain)).await;
    assert_eq!((report.stats.restarts, report.stats.panicked), (1, 1));
    assert_eq!(made.load(Ordering::SeqCst), 3);
}
