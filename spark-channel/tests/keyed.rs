//! Keyed sets: one module per key, started on demand and passivated.

use std::{
    future::pending,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use spark_channel::{KeyedPanicPolicy, NativeHandler, SparkChannelError, Stop, StopReason, keyed};
use tokio::{
    sync::Notify,
    task::{JoinSet, yield_now},
    time::sleep,
};

use grains::{World, ask};

use crate::support::{Gate, Job, Log, Runner, job, queued, reason, until, within};

#[path = "support/grains.rs"]
mod grains;
mod support;

const SECOND: Duration = Duration::from_secs(1);

// --- one per key

#[tokio::test]
async fn a_key_has_a_module_of_its_own_started_by_its_first_message() {
    let world = World::new();
    let grains = world.grains().spawn();
    let dispatcher = grains.dispatcher();
    assert_eq!(grains.population().started, 0);

    assert_eq!(ask(&dispatcher, "a1").await, 1);
    assert_eq!(ask(&dispatcher, "b1").await, 1);
    assert_eq!(ask(&dispatcher, "a2").await, 2);

    assert_eq!(
        world.log.lines(),
        ["a started", "a 1", "b started", "b 1", "a 2"]
    );
    let population = grains.population();
    assert_eq!(
        (population.live, population.started, population.passivated),
        (2, 2, 0)
    );
}

#[tokio::test]
async fn a_module_that_is_busy_does_not_hold_up_another() {
    let world = World::new();
    let grains = world.grains().spawn();
    let dispatcher = grains.dispatcher();
    let held = queued(dispatcher.request("a held"));

    assert_eq!(ask(&dispatcher, "b").await, 1);

    world.gate.open();
    assert_eq!(within(held).await.expect("handled"), 1);
}

// --- passivation

#[tokio::test(start_paused = true)]
async fn a_module_is_passivated_once_it_has_been_idle_for_that_long_and_not_before() {
    let world = World::new();
    let grains = world.grains().idle_timeout(SECOND).spawn();
    let dispatcher = grains.dispatcher();
    ask(&dispatcher, "a").await;
    sleep(SECOND * 9 / 10).await;
    ask(&dispatcher, "a").await;

    sleep(SECOND * 9 / 10).await;
    assert_eq!(grains.population().live, 1);
    sleep(SECOND / 5).await;

    let population = grains.population();
    assert_eq!((population.live, population.passivated), (0, 1));
    assert_eq!(world.log.lines().last().expect("a line"), "a stopped");
    assert_eq!(ask(&dispatcher, "a").await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_module_that_handles_a_message_for_long_is_not_idle() {
    let world = World::new();
    let grains = world.grains().idle_timeout(SECOND).spawn();
    let dispatcher = grains.dispatcher();
    let held = queued(dispatcher.request("a held"));
    sleep(SECOND * 5).await;
    assert_eq!(grains.population().passivated, 0);

    world.gate.open();
    assert_eq!(within(held).await.expect("handled"), 1);
    sleep(SECOND * 2 + SECOND / 10).await;

    assert_eq!(grains.population().passivated, 1);
}

#[tokio::test]
async fn the_idle_module_used_the_longest_ago_makes_room_for_another() {
    let world = World::new();
    let grains = world.grains().live_max(2).spawn();
    let dispatcher = grains.dispatcher();
    ask(&dispatcher, "a").await;
    ask(&dispatcher, "b").await;
    ask(&dispatcher, "a").await;

    ask(&dispatcher, "c").await;

    let lines = world.log.lines();
    assert!(lines.contains(&"b stopped".to_owned()), "{lines:?}");
    assert!(!lines.contains(&"a stopped".to_owned()), "{lines:?}");
    assert_eq!(ask(&dispatcher, "a").await, 3);
    assert_eq!(
        (grains.population().live, grains.population().started),
        (2, 3)
    );
}

#[tokio::test]
async fn if_none_is_idle_one_ends_after_what_it_has() {
    let world = World::new();
    let grains = world.grains().live_max(1).spawn();
    let dispatcher = grains.dispatcher();
    let first = queued(dispatcher.request("a held"));
    let second = queued(dispatcher.request("a2"));
    within(world.gate.entered()).await;
    let other = queued(dispatcher.request("b"));
    // Behind the other: for the next module of that key.
    let third = queued(dispatcher.request("a3"));
    until(|| grains.population().waiting > 0).await;

    world.gate.open();

    assert_eq!(within(first).await.expect("handled"), 1);
    assert_eq!(within(second).await.expect("handled"), 2);
    assert_eq!(within(other).await.expect("handled"), 1);
    assert!(within(third).await.is_ok());
    within(grains.shutdown(Stop::Drain)).await;
    let lines = world.log.lines();
    let at = |line: &str| {
        lines
            .iter()
            .position(|found| found == line)
            .expect("logged")
    };
    assert!(at("a 2") < at("a stopped") && at("a stopped") < at("b started"));
}

/// Runs the job of each message.
struct Runs;

impl NativeHandler for Runs {
    type Message = (char, Job);
    type Response = u64;
    type Error = eyre::Report;

    async fn handle_request(&mut self, (_, job): (char, Job)) -> eyre::Result<u64> {
        Runner.handle_request(job).await
    }

    async fn handle_command(&mut self, message: (char, Job)) -> eyre::Result<()> {
        self.handle_request(message).await.map(drop)
    }
}

#[tokio::test]
async fn one_that_hangs_and_one_that_is_never_idle_do_not_keep_a_third_out() {
    const TIMES: u64 = 5_000;
    let set = keyed(|(key, _): &(char, Job)| *key, |_| Runs)
        .live_max(2)
        .spawn();
    let dispatcher = set.dispatcher();
    let hangs = queued(dispatcher.request(('a', job(pending()))));
    let mut busy = JoinSet::new();
    for _ in 0..3 {
        let dispatcher = set.dispatcher();
        busy.spawn(async move {
            for _ in 0..TIMES {
                let work = async {
                    for _ in 0..4 {
                        yield_now().await;
                    }
                    Ok(0)
                };
                let again = dispatcher.request(('b', job(work)));
                again.await.expect("handled");
            }
        });
    }
    until(|| set.stats().handled >= 9).await;

    let third = within(dispatcher.request(('c', job(async { Ok(3) })))).await;

    assert_eq!(third.expect("handled"), 3);
    let before = set.stats().handled;
    assert!(before < TIMES, "after {before} others");
    while let Some(ended) = within(busy.join_next()).await {
        ended.expect("no panic");
    }
    drop(hangs);
    let report = within(set.shutdown(Stop::Now)).await.report;
    assert_eq!(
        (report.stats.handled, report.stats.interrupted),
        (3 * TIMES + 1, 1)
    );
}

#[tokio::test]
async fn a_key_that_waits_gets_the_place_of_one_that_is_idle_first_though_another_was_to_end() {
    let set = keyed(|(key, _): &(char, Job)| *key, |_| Runs)
        .live_max(2)
        .spawn();
    let dispatcher = set.dispatcher();
    let finish = Arc::new(Notify::new());
    let finishes = Arc::clone(&finish);
    let hangs = queued(dispatcher.request(('a', job(pending()))));
    let busy = async move {
        finishes.notified().await;
        Ok(2)
    };
    let busy = queued(dispatcher.request(('b', job(busy))));
    let third = queued(dispatcher.request(('c', job(async { Ok(3) }))));
    until(|| set.population().passivated != 0).await;

    finish.notify_one();

    assert_eq!(within(busy).await.expect("handled"), 2);
    assert_eq!(within(third).await.expect("handled"), 3);
    assert_eq!(set.population().passivated, 2);
    drop(hangs);
    within(set.shutdown(Stop::Now)).await;
}

#[tokio::test]
async fn no_more_modules_make_room_than_is_wanted() {
    let mut world = World::new();
    world.stopping = Gate::closed();
    let grains = world.grains().live_max(3).spawn();
    let dispatcher = grains.dispatcher();
    for key in ["a", "b", "c"] {
        ask(&dispatcher, key).await;
    }
    let other = queued(dispatcher.request("d"));
    world.stopping.entered().await;

    // While one is ending, the others stay, however often there is something to do.
    assert_eq!(ask(&dispatcher, "b").await, 2);
    assert_eq!(ask(&dispatcher, "c").await, 2);
    assert_eq!(grains.population().passivated, 1);
    world.stopping.open();

    assert_eq!(within(other).await.expect("handled"), 1);
    assert_eq!(grains.population().live, 3);
}

#[tokio::test(start_paused = true)]
async fn what_arrives_while_a_module_is_passivated_goes_to_the_next_one() {
    let mut world = World::new();
    world.stopping = Gate::closed();
    let grains = world.grains().idle_timeout(SECOND).spawn();
    let dispatcher = grains.dispatcher();
    ask(&dispatcher, "a").await;
    sleep(SECOND * 2).await;
    world.stopping.entered().await;

    let arrived = ["a1", "a2"].map(|message| queued(dispatcher.request(message)));
    yield_now().await;
    assert_eq!(world.log.lines(), ["a started", "a "]);
    let population = grains.population();
    assert_eq!((population.live, population.waiting), (1, 1));
    world.stopping.open();

    for (number, arrived) in (1..).zip(arrived) {
        assert_eq!(within(arrived).await.expect("handled"), number);
    }
    let lines = world.log.lines();
    assert_eq!(lines[2..], ["a stopped", "a started", "a 1", "a 2"]);
    assert_eq!(grains.population().waiting, 0);
    let report = within(grains.shutdown(Stop::Drain)).await;
    assert_eq!(
        (report.report.stats.handled, report.report.stats.accounted()),
        (3, 3)
    );
    assert_eq!((report.population.started, report.population.live), (2, 0));
}

// --- panics, failures

#[tokio::test]
async fn a_panic_concerns_one_key_only() {
    for policy in [
        KeyedPanicPolicy::Continue,
        KeyedPanicPolicy::Restart,
        KeyedPanicPolicy::Stop,
    ] {
        let world = World::new();
        let grains = world.grains().on_panic(policy).spawn();
        let dispatcher = grains.dispatcher();
        ask(&dispatcher, "a").await;
        ask(&dispatcher, "b").await;

        let panicked = reason(within(dispatcher.request("a panic")).await);

        assert!(matches!(panicked, SparkChannelError::Panicked { .. }));
        assert_eq!(ask(&dispatcher, "b").await, 2);
        let seen = u64::from(policy == KeyedPanicPolicy::Continue);
        assert_eq!(ask(&dispatcher, "a").await, seen + 1);
        let report = within(grains.shutdown(Stop::Drain)).await;
        assert_eq!(report.report.reason, StopReason::Requested(Stop::Drain));
        assert_eq!(report.report.stats.accounted(), 5);
    }
}

#[tokio::test]
async fn a_key_whose_module_stops_after_a_panic_gives_back_what_waits_and_starts_again() {
    let world = World::new();
    let grains = world.grains().on_panic(KeyedPanicPolicy::Stop).spawn();
    let dispatcher = grains.dispatcher();
    let held = queued(dispatcher.request("a held"));
    within(world.gate.entered()).await;
    let panics = queued(dispatcher.request("a panic"));
    let waits = queued(dispatcher.request("a"));
    within(dispatcher.command("a told")).await.expect("room");
    until(|| grains.stats().depth >= 3).await;

    world.gate.open();

    assert!(within(held).await.is_ok());
    assert!(matches!(
        reason(within(panics).await),
        SparkChannelError::Panicked { .. }
    ));
    assert_eq!(reason(within(waits).await), SparkChannelError::Unavailable);
    assert_eq!(ask(&dispatcher, "a").await, 1);
    let lines = world.log.lines();
    assert!(
        lines.contains(&"a undelivered  told".to_owned()),
        "{lines:?}"
    );
    let stats = within(grains.shutdown(Stop::Drain)).await.report.stats;
    assert_eq!((stats.returned, stats.undelivered), (1, 1));
    assert_eq!(stats.accounted(), 5);
}

#[tokio::test]
async fn a_module_that_fails_to_start_gives_back_what_waits_and_the_next_message_tries_again() {
    let world = World::new();
    world.x_fails.store(true, Ordering::SeqCst);
    let grains = world.grains().spawn();
    let dispatcher = grains.dispatcher();

    dispatcher.try_command("x told").expect("room");
    let failed = reason(within(dispatcher.request("x")).await);
    assert_eq!(ask(&dispatcher, "a").await, 1);
    world.x_fails.store(false, Ordering::SeqCst);

    assert_eq!(failed, SparkChannelError::Unavailable);
    assert!(failed.never_started() && failed.is_retryable());
    assert_eq!(ask(&dispatcher, "x").await, 1);
    let lines = world.log.lines();
    assert_eq!(
        lines[..3],
        ["x started", "x undelivered  told", "x stopped"]
    );
    let report = within(grains.shutdown(Stop::Drain)).await.report;
    assert_eq!((report.stats.panics, report.stats.accounted()), (0, 4));
}

#[tokio::test]
async fn a_factory_that_panics_gives_back_what_waits_and_does_not_poison_its_key() {
    let world = World::new();
    let returned = Log::default();
    let returning = returned.clone();
    let grains = world
        .grains()
        .live_max(1)
        .undelivered(move |command| returning.push(command))
        .spawn();
    let dispatcher = grains.dispatcher();
    let held = queued(dispatcher.request("a held"));
    within(world.gate.entered()).await;
    let waiting = ["!1", "!2"].map(|message| queued(dispatcher.request(message)));
    within(dispatcher.command("!3")).await.expect("room");
    until(|| grains.population().waiting > 0).await;

    world.gate.open();
    for waiting in waiting {
        assert_eq!(
            reason(within(waiting).await),
            SparkChannelError::Unavailable
        );
    }
    world.none_is_made.store(false, Ordering::SeqCst);

    assert_eq!(ask(&dispatcher, "!").await, 1);
    assert!(within(held).await.is_ok());
    assert_eq!(returned.lines(), ["!3"]);
    let stats = within(grains.shutdown(Stop::Drain)).await.report.stats;
    assert_eq!((stats.panics, stats.panicked), (1, 0));
    assert_eq!((stats.returned, stats.undelivered), (2, 1));
    assert_eq!(stats.accounted(), 5);
}

#[tokio::test]
async fn a_key_that_cannot_be_told_is_an_error_for_one_caller() {
    let world = World::new();
    let grains = world.grains().spawn();
    let dispatcher = grains.dispatcher();

    let no_key = reason(within(dispatcher.request("")).await);

    let text = Arc::from("a key");
    assert_eq!(no_key, SparkChannelError::Panicked { text });
    assert_eq!(ask(&dispatcher, "a").await, 1);
    let report = within(grains.shutdown(Stop::Drain)).await.report;
    assert_eq!((report.stats.panicked, report.stats.accounted()), (1, 2));
}

// --- what travels

#[tokio::test(start_paused = true)]
async fn a_request_brings_its_deadline_to_the_module_of_its_key() {
    let world = World::new();
    let grains = world.grains().default_timeout(SECOND * 9).spawn();
    let dispatcher = grains.dispatcher();

    let own = dispatcher.request("a deadline").timeout(SECOND * 5);
    within(own).await.expect("handled");
    ask(&dispatcher, "a deadline").await;

    let lines = world.log.lines();
    let left: Vec<_> = lines.iter().filter(|line| line.contains("has")).collect();
    assert_eq!(left, ["a has 5 s", "a has 9 s"]);
}

#[tokio::test(start_paused = true)]
async fn a_request_for_a_key_without_a_module_keeps_its_deadline_and_never_starts_after_it() {
    let world = World::new();
    let grains = world.grains().live_max(1).spawn();
    let dispatcher = grains.dispatcher();
    let held = queued(dispatcher.request("a held"));
    let late = queued(dispatcher.request("b late").timeout(SECOND));

    let given_up = reason(within(late).await);
    world.gate.open();
    assert!(within(held).await.is_ok());

    assert!(given_up.never_started(), "{given_up:?}");
    let report = within(grains.shutdown(Stop::Drain)).await.report;
    assert_eq!((report.stats.expired, report.stats.accounted()), (1, 2));
    assert!(!world.log.lines().contains(&"b late".to_owned()));
}

#[tokio::test]
async fn a_command_of_a_handler_to_its_own_set_does_not_wait_for_room() {
    let world = World::new();
    let grains = world.grains().capacity(1).spawn();
    let dispatcher = grains.dispatcher();
    world.set.set(dispatcher.clone()).expect("set once");
    let held = queued(dispatcher.request("a held"));
    within(world.gate.entered()).await;
    let tells = queued(dispatcher.request("a tell"));
    while grains.stats().depth < 2 {
        if dispatcher.try_command("a").is_err() {
            yield_now().await;
        }
    }

    world.gate.open();

    assert!(within(held).await.is_ok());
    assert!(within(tells).await.is_ok());
    let lines = world.log.lines();
    assert!(
        lines.contains(&"a refused: mailbox full".to_owned()),
        "{lines:?}"
    );
}
