//! One process with a paused and a running clock, as test binaries have them: the
//! deadlines of the one must not be moved by the other.
//!
//! One test and no other, since the clocks are compared once per process.

use std::time::Duration;

use spark_channel::{current, spawn_module};
use tokio::{runtime::Builder, time::Instant};

use crate::support::{Runner, job, within};

mod support;

const LIMIT: Duration = Duration::from_secs(5);

const HOUR: Duration = Duration::from_secs(60 * 60);

/// What is left of a request's five seconds once its handler runs, in milliseconds.
async fn what_is_left() -> u64 {
    let module = spawn_module(Runner);
    let dispatcher = module.dispatcher();
    let asked = dispatcher.request(job(async {
        let left = current::remaining().expect("it has a deadline");
        Ok(u64::try_from(left.as_millis())?)
    }));
    within(asked.timeout(LIMIT)).await.expect("in time")
}

#[test]
fn a_clock_that_was_moved_in_one_runtime_does_not_move_deadlines_in_another() {
    let paused = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let running = Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");

    let in_the_future = paused.block_on(async {
        tokio::time::advance(HOUR).await;
        let left = what_is_left().await;
        (left, Instant::now())
    });
    let now = running.block_on(what_is_left());

    assert!(
        (4_990..=5_000).contains(&in_the_future.0),
        "{in_the_future:?}"
    );
    // Less what a loaded machine may take, more what a coarse stamp may be late.
    assert!((3_000..=5_025).contains(&now), "{now}");
}
