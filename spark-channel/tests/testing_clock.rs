//! The clock that tests move.
#![cfg(feature = "test-util")]

use std::time::Duration;

use spark_channel::{
    SparkChannelError, Stage, Stop, spawn_module,
    testing::{Driver, Step, VirtualClock},
};
use tokio::time::{Instant, interval, sleep};

use crate::support::{Log, Runner, job, reason, within};

mod support;

const SECOND: Duration = Duration::from_secs(1);

/// What a timer may be late by.
const MILLISECOND: Duration = Duration::from_millis(1);

#[tokio::test]
async fn a_paused_clock_stands_still_until_it_is_moved() {
    let clock = VirtualClock::pause();
    assert_eq!(clock.elapsed(), Duration::ZERO);

    clock.advance(5 * SECOND).await;

    let late = clock
        .elapsed()
        .checked_sub(5 * SECOND)
        .expect("never early");
    assert!(late <= MILLISECOND, "{late:?}");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_paused_already_can_be_had_as_well() {
    let (first, second) = (VirtualClock::pause(), VirtualClock::pause());

    first.advance(SECOND).await;

    assert_eq!((first.elapsed(), second.elapsed()), (SECOND, SECOND));
}

#[tokio::test]
async fn timers_fire_at_their_own_time_and_not_all_at_the_end() {
    let clock = VirtualClock::pause();
    let log = Log::default();
    let ticking = tokio::spawn({
        let log = log.clone();
        async move {
            let started = Instant::now();
            let mut ticks = interval(2 * SECOND);
            loop {
                ticks.tick().await;
                // Armed after the tick, and due before the next one.
                sleep(SECOND).await;
                log.push(format!("{}", started.elapsed().as_secs()));
            }
        }
    });

    clock.advance(6 * SECOND).await;

    ticking.abort();
    assert_eq!(log.lines(), ["1", "3", "5"]);
}

#[tokio::test]
async fn what_is_due_at_the_end_has_run_through_a_module_and_its_caller() {
    let clock = VirtualClock::pause();
    let module = spawn_module(Runner);
    let dispatcher = module.dispatcher();
    let asking = tokio::spawn(async move {
        let slept = job(async {
            sleep(3 * SECOND).await;
            Ok(3)
        });
        dispatcher.request(slept).await
    });

    clock.advance(3 * SECOND).await;

    assert!(asking.is_finished());
    assert_eq!(within(asking).await.expect("no panic").expect("handled"), 3);
    assert_eq!(within(module.shutdown(Stop::Drain)).await.stats.handled, 1);
}

#[tokio::test]
async fn deadlines_of_modules_follow_it_to_the_millisecond() {
    let clock = VirtualClock::pause();
    let dispatcher = spawn_module(Runner).dispatcher();

    let hangs = dispatcher.request(job(std::future::pending()));
    let timed_out = within(hangs.timeout(30 * SECOND)).await;

    let stage = Stage::Running;
    assert_eq!(reason(timed_out), SparkChannelError::TimedOut { stage });
    let late = clock
        .elapsed()
        .checked_sub(30 * SECOND)
        .expect("never early");
    assert!(late <= MILLISECOND, "{late:?}");
}

#[tokio::test]
async fn it_moves_the_timers_of_a_driven_handler() {
    let clock = VirtualClock::pause();
    let mut driver = Driver::new(Runner);
    let slept = job(async {
        sleep(SECOND).await;
        Ok(1)
    });
    assert_eq!(driver.command(slept).expect("room"), Step::Pending);

    assert_eq!(driver.step(), Step::Pending);
    clock.advance(SECOND).await;

    assert_eq!(driver.step(), Step::Handled);
}
