//! Deadlines: where they come from, how they travel, and what happens at them.

use std::{
    future::pending,
    sync::{Arc, mpsc::sync_channel},
    time::Duration,
};

use spark_channel::{
    ModuleHandle, NativeHandler, Reply, Request, SparkChannelError, SparkGenericModuleDispatcher,
    Stage, Stop, current, module, run_module_server, spawn_module,
};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::Instant,
};

use crate::support::{Gate, Job, Log, Runner, job, queued, reason, within};

mod support;

const SECOND: Duration = Duration::from_secs(1);

const RUNNING: SparkChannelError = SparkChannelError::TimedOut {
    stage: Stage::Running,
};

const QUEUED: SparkChannelError = SparkChannelError::TimedOut {
    stage: Stage::Queued,
};

fn forever() -> Job {
    job(pending())
}

/// Answers with the milliseconds that are left; `u64::MAX` without a deadline.
fn what_is_left() -> Job {
    job(async {
        let left = current::remaining().map_or(u128::from(u64::MAX), |left| left.as_millis());
        Ok(u64::try_from(left)?)
    })
}

/// `left` milliseconds of a paused clock, less what rounding may take.
fn about(left: u64) -> std::ops::RangeInclusive<u64> {
    left - 1..=left
}

// --- where they come from

#[tokio::test(start_paused = true)]
async fn a_timeout_ends_the_call_when_it_has_passed_and_not_before() {
    let module = spawn_module(Runner);
    let dispatcher = module.dispatcher();
    let start = Instant::now();

    let asked = within(dispatcher.request(forever()).timeout(5 * SECOND)).await;

    assert_eq!(reason(asked), RUNNING);
    let took = start.elapsed();
    assert!(
        took >= 5 * SECOND && took < 5 * SECOND + SECOND / 100,
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_the_call_when_it_is_reached() {
    let module = spawn_module(Runner);
    let dispatcher = module.dispatcher();
    let at = Instant::now() + 5 * SECOND;

    let asked = within(dispatcher.request(forever()).deadline(at)).await;

    assert_eq!(reason(asked), RUNNING);
    assert!(Instant::now() >= at);
}

#[tokio::test(start_paused = true)]
async fn a_module_gives_its_default_to_requests_without_a_limit_of_their_own() {
    let module = module(Runner).default_timeout(5 * SECOND).spawn();
    let dispatcher = module.dispatcher();

    let default = within(dispatcher.request(what_is_left())).await;
    let shorter = within(dispatcher.request(what_is_left()).timeout(SECOND)).await;
    let longer = within(dispatcher.request(what_is_left()).timeout(9 * SECOND)).await;
    let tried = dispatcher.try_request(what_is_left()).expect("room");
    let tried = within(tried).await;

    assert!(about(5_000).contains(&default.expect("in time")));
    assert!(about(1_000).contains(&shorter.expect("in time")));
    assert!(about(9_000).contains(&longer.expect("in time")));
    assert!(about(5_000).contains(&tried.expect("in time")));
}

#[tokio::test]
async fn without_any_limit_there_is_no_deadline() {
    let module = spawn_module(Runner);
    let dispatcher = module.dispatcher();

    let unlimited = within(dispatcher.request(what_is_left())).await;

    assert_eq!(unlimited.expect("handled"), u64::MAX);
}

#[tokio::test(start_paused = true)]
async fn a_bare_dispatcher_has_timeouts_too() {
    let (sender, receiver) = mpsc::channel(4);
    let dispatcher = SparkGenericModuleDispatcher::<Job, u64>::new(sender);
    tokio::spawn(run_module_server(Runner, receiver));

    let left = within(dispatcher.request(what_is_left()).timeout(SECOND)).await;
    let late = within(dispatcher.request(forever()).timeout(SECOND)).await;

    assert!(about(1_000).contains(&left.expect("in time")));
    assert_eq!(reason(late), RUNNING);
}

#[tokio::test(start_paused = true)]
async fn a_module_that_starts_after_a_paused_clock_was_moved_follows_it_all_the_same() {
    let hour = 3_600 * SECOND;
    tokio::time::advance(hour).await;
    let module = spawn_module(Runner);
    let dispatcher = module.dispatcher();
    tokio::time::advance(hour).await;

    let left = within(dispatcher.request(what_is_left()).timeout(5 * SECOND)).await;

    assert!(about(5_000).contains(&left.expect("in time")));
}

// --- how they travel

type Asked<'a> = Request<'a, Job, u64>;

#[tokio::test(start_paused = true)]
async fn a_nested_request_has_the_smaller_of_its_own_and_the_inherited_deadline() {
    let outer = spawn_module(Runner);
    let inner = module(Runner).default_timeout(7 * SECOND).spawn();
    let ask = async |limit: Duration, nested: fn(Asked<'_>) -> Asked<'_>| {
        let (outer, inner) = (outer.dispatcher(), inner.dispatcher());
        let work = job(async move { nested(inner.request(what_is_left())).await });
        let asked = outer.request(work).timeout(limit);
        within(asked).await.expect("in time")
    };

    let own_is_later = ask(2 * SECOND, |asked| asked.timeout(5 * SECOND)).await;
    let own_is_earlier = ask(9 * SECOND, |asked| asked.timeout(3 * SECOND)).await;
    let default_is_later = ask(2 * SECOND, |asked| asked).await;
    let default_is_earlier = ask(9 * SECOND, |asked| asked).await;

    assert!(about(2_000).contains(&own_is_later));
    assert!(about(3_000).contains(&own_is_earlier));
    assert!(about(2_000).contains(&default_is_later));
    assert!(about(7_000).contains(&default_is_earlier));
}

#[tokio::test(start_paused = true)]
async fn a_nested_request_that_is_sent_at_once_keeps_the_inherited_deadline() {
    let (outer, inner) = (spawn_module(Runner), spawn_module(Runner));
    let ask = async |limit: fn(Asked<'_>) -> Asked<'_>| {
        let (outer, inner) = (outer.dispatcher(), inner.dispatcher());
        let (gave_up, at) = oneshot::channel();
        let start = Instant::now();
        let work = job(async move {
            let nested = inner.try_request(forever()).map_err(|one| one.reason)?;
            let nested = reason(limit(nested).await);
            let _ = gave_up.send((nested, start.elapsed().as_secs()));
            Ok(0)
        });
        let asked = outer.request(work).timeout(2 * SECOND);
        assert_eq!(reason(within(asked).await), RUNNING);
        within(at).await.expect("given up")
    };

    let timeout = ask(|asked| asked.timeout(9 * SECOND)).await;
    let deadline = ask(|asked| asked.deadline(Instant::now() + 9 * SECOND)).await;

    assert_eq!(timeout, (RUNNING, 2));
    // The first one is still being handled.
    assert_eq!(deadline, (QUEUED, 2));
}

#[tokio::test(start_paused = true)]
async fn the_earliest_of_the_bounds_of_a_request_holds_in_whatever_order_they_are_given() {
    let gate = Gate::closed();
    let dispatcher = spawn_module(gate.module()).dispatcher();
    let held = queued(dispatcher.request("held"));
    let start = Instant::now();
    let (soon, late) = (start + SECOND, start + 9 * SECOND);

    let sent = dispatcher.try_request("sent").expect("room");
    let sent = sent.at_most(soon).timeout(9 * SECOND);
    let (one, all) = (dispatcher.request("one"), dispatcher.request_all(["all"]));
    let one = one.at_most(soon).at_most(late);
    let all = all.at_most(soon).at_most(late);
    let with = dispatcher.ask_with(|_: Reply<()>| "with".to_owned());
    let with = with.at_most(soon).at_most(late);
    let (sent, one, all, with) = within(async { tokio::join!(sent, one, all, with) }).await;

    assert!(sent.is_err() && one.is_err() && all[0].is_err() && with.is_err());
    assert_eq!(start.elapsed().as_secs(), 1);
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_reaches_the_third_module_less_what_has_passed() {
    let modules = [Runner, Runner, Runner].map(spawn_module);
    let [first, second, third] = modules.each_ref().map(ModuleHandle::dispatcher);

    let asked = first.request(job(async move {
        tokio::time::sleep(SECOND).await;
        let nested = second.request(job(async move {
            tokio::time::sleep(SECOND).await;
            third.request(what_is_left()).await
        }));
        nested.await
    }));
    let left = within(asked.timeout(5 * SECOND)).await.expect("in time");

    assert!((2_990..=3_000).contains(&left), "{left}");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_a_handler_spawns_inherits_nothing() {
    let module = spawn_module(Runner);
    let dispatcher = module.dispatcher();

    let asked = dispatcher.request(job(async {
        let free = async { current::deadline().is_none() && current::module_name().is_none() };
        Ok(u64::from(tokio::spawn(free).await?))
    }));

    let free = within(asked.timeout(SECOND)).await;
    assert_eq!(free.expect("in time"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_handler_can_learn_its_deadline_and_its_module() {
    let module = module(Runner).name("clock").spawn();
    let dispatcher = module.dispatcher();
    let (tell, told) = oneshot::channel();
    let at = Instant::now() + 5 * SECOND;

    let asked = dispatcher.request(job(async {
        let _ = tell.send((current::deadline(), current::module_name()));
        Ok(0)
    }));
    within(asked.deadline(at)).await.expect("in time");

    let (deadline, name) = within(told).await.expect("told");
    let early = at - deadline.expect("it has one");
    // It travels in units of 15 µs.
    assert!(early < Duration::from_micros(16), "{early:?}");
    assert_eq!(name.as_deref(), Some("clock"));
    assert_eq!(current::deadline(), None);
    assert_eq!(current::remaining(), None);
    assert_eq!(current::module_name(), None);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_gone_with_its_message() {
    let module = spawn_module(Runner);
    let dispatcher = module.dispatcher();
    let (tell, told) = oneshot::channel();

    let first = within(dispatcher.request(what_is_left()).timeout(SECOND)).await;
    let second = within(dispatcher.request(what_is_left())).await;
    let panicking = dispatcher.request(job(async { panic!("with a deadline") }));
    let third = within(panicking.timeout(SECOND)).await;
    let command = job(async {
        let _ = tell.send(current::deadline());
        Ok(0)
    });
    within(dispatcher.command(command)).await.expect("room");

    assert!(first.is_ok() && third.is_err());
    assert_eq!(second.expect("handled"), u64::MAX);
    assert_eq!(within(told).await, Ok(None));
}

// --- what happens at them

#[tokio::test(start_paused = true)]
async fn a_request_that_expired_in_the_queue_never_runs() {
    let gate = Gate::closed();
    let module = spawn_module(gate.module());
    let dispatcher = module.dispatcher();
    let running = queued(dispatcher.request("running"));
    gate.entered().await;

    let late = within(dispatcher.request("late").timeout(SECOND)).await;
    let patient = queued(dispatcher.request("patient").timeout(SECOND));
    gate.open();

    let error = reason(late);
    assert_eq!(error, QUEUED);
    assert!(error.never_started());
    assert_eq!(within(running).await.expect("handled"), "running");
    assert_eq!(within(patient).await.expect("in time"), "patient");
    let report = within(module.shutdown(Stop::Drain)).await;
    assert_eq!(gate.log.lines(), ["running", "patient", "stopped"]);
    assert_eq!(report.stats.expired + report.stats.abandoned, 1);
    assert_eq!(report.stats.accounted(), 3);
}

struct Sleepy(Log);

impl NativeHandler for Sleepy {
    type Message = Duration;
    type Response = ();
    type Error = eyre::Report;

    async fn handle_request(&mut self, message: Duration) -> eyre::Result<()> {
        self.0.push(format!("{message:?}"));
        std::thread::sleep(message);
        Ok(())
    }

    async fn handle_command(&mut self, _: Duration) -> eyre::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_request_that_expired_while_the_thread_was_blocked_never_runs() {
    let log = Log::default();
    let module = spawn_module(Sleepy(log.clone()));
    let dispatcher = module.dispatcher();
    let limit = Duration::from_millis(20);
    let blocking = dispatcher.request(3 * limit);
    let behind = dispatcher.request(Duration::ZERO).timeout(limit);

    let (blocking, behind) = within(async { tokio::join!(blocking, behind) }).await;

    assert!(blocking.is_ok());
    assert_eq!(reason(behind), QUEUED);
    let report = within(module.shutdown(Stop::Drain)).await;
    assert_eq!(log.lines(), ["60ms"]);
    assert_eq!(report.stats.expired, 1);
}

#[tokio::test(start_paused = true)]
async fn a_handler_goes_on_when_its_caller_has_timed_out() {
    let gate = Gate::closed();
    let module = spawn_module(gate.module());
    let dispatcher = module.dispatcher();

    let asked = within(dispatcher.request("slow").timeout(SECOND)).await;
    let next = queued(dispatcher.request("next"));
    gate.let_pass(2);

    assert_eq!(reason(asked), RUNNING);
    assert_eq!(within(next).await.expect("handled"), "next");
    let report = within(module.shutdown(Stop::Drain)).await;
    assert_eq!((report.stats.handled, report.stats.interrupted), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_handler_is_dropped_at_the_deadline_if_the_module_was_built_so() {
    let gate = Gate::closed();
    let module = module(gate.module()).drop_abandoned().spawn();
    let dispatcher = module.dispatcher();

    let asked = within(dispatcher.request("slow").timeout(SECOND)).await;
    gate.entered().await;
    let next = queued(dispatcher.request("next"));
    gate.entered().await;
    gate.let_pass(1);

    assert_eq!(reason(asked), RUNNING);
    assert_eq!(within(next).await.expect("handled"), "next");
    let report = within(module.shutdown(Stop::Drain)).await;
    assert_eq!((report.stats.handled, report.stats.interrupted), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_time_wins_although_the_deadline_passes_before_it_is_read() {
    let module = spawn_module(Runner);
    let dispatcher = module.dispatcher();
    let answered = Arc::new(Notify::new());
    let answering = Arc::clone(&answered);
    let request = dispatcher.request(job(async move {
        answering.notify_one();
        Ok(7)
    }));
    let request = queued(request.timeout(SECOND));
    within(answered.notified()).await;

    tokio::time::advance(2 * SECOND).await;

    assert_eq!(within(request).await.expect("it was answered in time"), 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_module_that_blocks_its_thread_cannot_hold_its_caller() {
    // A direct call is polled by the caller: whoever blocks turns them off.
    let module = module(Runner).without_direct_calls().spawn();
    let dispatcher = module.dispatcher();
    let (release, blocked) = sync_channel::<()>(1);
    let blocking = job(async move {
        let _ = blocked.recv();
        Ok(0)
    });

    // From a task of the same runtime: the caller shares its threads.
    let asking = tokio::spawn(async move {
        let asked = dispatcher.request(blocking).timeout(SECOND / 20).await;
        reason(asked)
    });
    let error = within(asking).await.expect("no panic");

    assert_eq!(error, RUNNING);
    drop(release);
    let report = within(module.shutdown(Stop::Drain)).await;
    assert_eq!(report.stats.handled, 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_already_sent_can_still_be_given_a_timeout() {
    let gate = Gate::closed();
    let module = spawn_module(gate.module());
    let dispatcher = module.dispatcher();
    let _running = queued(dispatcher.request("running"));
    gate.entered().await;
    let start = Instant::now();

    let sent = dispatcher.try_request("sent").expect("room");
    let error = reason(within(sent.timeout(5 * SECOND)).await);

    assert!(matches!(error, SparkChannelError::TimedOut { .. }));
    assert_eq!(start.elapsed().as_secs(), 5);
    gate.open();
    within(module.shutdown(Stop::Drain)).await;
    assert_eq!(gate.log.lines(), ["running", "stopped"]);
}
