//! Supervision where it is not a message that goes wrong: a supervisor that is late or
//! left alone, siblings that wait for each other, and settings without an end.

use std::time::Duration;

use spark_channel::{
    Backoff, Child, Deadlocks, ModuleState, NativeHandler, SparkChannelError, Stop, StopReason,
    Strategy, Supervisor, SupervisorEnd,
};
use tokio::{runtime, time::Instant};

use crate::{
    support::{Gate, Runner, job, queued, reason, within},
    world::*,
};

mod support;
#[path = "supervision/world.rs"]
mod world;

// --- a supervisor that is late

#[tokio::test(start_paused = true)]
async fn a_sibling_is_not_lost_because_its_supervisor_notices_late_that_its_time_is_over() {
    let world = World::new();
    let mut tree = at_once(Strategy::OneForAll);
    let a = tree.child(world.child("a"));
    let b = tree.child(world.child("b").shutdown_timeout(2 * SECOND));
    let tree = tree.spawn();
    all_up(&[a.clone(), b.clone()]).await;
    let hanging = queued(b.request("hang"));
    settled().await;
    crash(&a).await;
    settled().await;

    // As if the thread had been blocked for so long.
    tokio::time::advance(9 * SECOND).await;

    assert_eq!(reason(within(hanging).await), SparkChannelError::Cancelled);
    assert_eq!(all_up(&[a, b]).await, [2, 2]);
    within(tree.shutdown(Stop::Drain)).await;
}

#[tokio::test(start_paused = true)]
async fn children_are_not_unresponsive_because_their_supervisor_notices_the_deadline_late() {
    let world = World::new();
    let mut tree = at_once(Strategy::OneForOne);
    let children = three(&world, &mut tree);
    let tree = tree.spawn();
    all_up(&children).await;
    for child in &children {
        child.try_command("hang").expect("room");
    }
    settled().await;
    tree.stop(Stop::Drain);
    settled().await;

    tokio::time::advance(60 * 60 * SECOND).await;

    let report = within(tree.wait()).await;
    assert!(report.deadline_passed);
    for module in report.modules() {
        assert_eq!(module.reason, StopReason::Requested(Stop::Drain));
        assert_eq!(module.stats.interrupted, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_child_that_was_cut_off_takes_its_time_again_once_it_is_restarted_or_drains() {
    for drains in [false, true] {
        let world = World::new();
        let backoff = Backoff::exponential(50 * SECOND, 50 * SECOND).jitter(0.0);
        let mut tree = Supervisor::new("tree", Strategy::OneForAll).backoff(backoff);
        let a = tree.child(world.child("a"));
        let b = tree.child(world.child("b").shutdown_timeout(2 * SECOND));
        let tree = tree.spawn();
        all_up(&[a.clone(), b.clone()]).await;
        let hanging = queued(b.request("hang"));
        settled().await;
        crash(&a).await;
        assert_eq!(reason(within(hanging).await), SparkChannelError::Cancelled);

        let held = queued(b.request("hold"));
        if drains {
            tree.stop(Stop::Drain);
        }
        world.gate.entered().await;
        world.gate.open();

        assert_eq!(within(held).await.expect("handled"), (2, 1));
        assert_eq!(tree.children()[1].restarts, 1);
        within(tree.shutdown(Stop::Drain)).await;
    }
}

// --- settings without an end

#[tokio::test(start_paused = true)]
async fn times_longer_than_the_clock_can_tell_stand_for_never() {
    let world = World::new();
    let backoff = Backoff::exponential(MS, SECOND).reset_after(Duration::MAX);
    let mut tree = Supervisor::new("tree", Strategy::OneForOne)
        .backoff(backoff)
        .intensity(3, Duration::MAX)
        .shutdown_timeout(Duration::MAX);
    let child = tree.child(world.child("a").shutdown_timeout(Duration::MAX));
    let tree = tree.spawn();

    for restarts in 0..4 {
        assert_eq!(ask(&child).await.0, restarts + 1);
        crash(&child).await;
        tokio::time::sleep(1_000 * SECOND).await;
    }

    let report = within(tree.wait()).await;
    assert!(matches!(report.reason, SupervisorEnd::GaveUp { .. }));
    assert_eq!(report.restarts, 3);
}

#[tokio::test(start_paused = true)]
async fn a_wait_without_an_end_before_a_restart_ends_with_the_tree() {
    for jitter in [0.0, 1.0] {
        let world = World::new();
        let backoff = Backoff::exponential(Duration::MAX, Duration::MAX).jitter(jitter);
        let mut tree = Supervisor::new("tree", Strategy::OneForOne).backoff(backoff);
        let child = tree.child(world.child("a"));
        let tree = tree.spawn();
        crash(&child).await;
        settled().await;

        assert_eq!(tree.children()[0].state, ModuleState::Restarting);
        let report = within(tree.shutdown(Stop::Drain)).await;
        assert_eq!(report.reason, SupervisorEnd::Requested(Stop::Drain));
    }
}

// --- intensity at its boundary

#[tokio::test(start_paused = true)]
async fn failures_count_together_until_exactly_their_window_is_over() {
    async fn survives(apart: Duration) -> bool {
        let world = World::new();
        let mut tree = at_once(Strategy::OneForOne).intensity(2, 3 * SECOND);
        let child = tree.child(world.child("a"));
        let tree = tree.spawn();
        crash(&child).await;
        ask(&child).await;
        crash(&child).await;
        ask(&child).await;
        tokio::time::advance(apart).await;
        crash(&child).await;
        settled().await;
        tree.state() == ModuleState::Running
    }

    assert!(!survives(2_999 * MS).await);
    assert!(survives(3 * SECOND).await);
}

// --- what waits, and who stops it

#[tokio::test(start_paused = true)]
async fn a_sibling_that_nobody_sees_wait_holds_up_the_restart_for_its_own_time_only() {
    let mut tree = at_once(Strategy::OneForAll);
    let a = tree.child(Child::new(|| Runner).name("a"));
    let b = Child::new(|| Runner).shutdown_timeout(2 * SECOND);
    let b = tree.child(b.deadlocks(Deadlocks::Off));
    let tree = tree.spawn();
    let gate = Gate::closed();
    let crashing = queued(a.request(job({
        let gate = gate.clone();
        async move {
            gate.wait().await?;
            panic!("told to panic")
        }
    })));
    gate.entered().await;
    let asks = queued(b.request(job({
        let a = a.clone();
        async move { a.request(job(async { Ok(7) })).await }
    })));
    settled().await;
    let before = Instant::now();

    gate.open();

    assert!(within(crashing).await.is_err());
    assert_eq!(reason(within(asks).await), SparkChannelError::Cancelled);
    assert_eq!(before.elapsed().as_secs(), 2);
    let answer = within(b.request(job(async { Ok(8) }))).await;
    assert_eq!(answer.expect("handled"), 8);
    within(tree.shutdown(Stop::Drain)).await;
}

#[tokio::test(start_paused = true)]
async fn a_sibling_that_leaves_is_not_held_up_by_one_that_fails_meanwhile() {
    let mut tree = at_once(Strategy::OneForAll);
    let [first, failing, last] =
        ["first", "failing", "last"].map(|name| tree.child(Child::new(|| Runner).name(name)));
    let tree = tree.spawn();
    let gate = Gate::closed();
    let crashing = queued(first.request(job({
        let gate = gate.clone();
        async move {
            gate.wait().await?;
            panic!("told to panic")
        }
    })));
    gate.entered().await;
    let asks = queued(last.request(job({
        let first = first.clone();
        async move { first.request(job(async { Ok(7) })).await }
    })));
    settled().await;
    let failed = within(failing.request(job(async { panic!("told to panic") }))).await;
    assert!(failed.is_err());
    settled().await;
    let before = Instant::now();

    gate.open();

    assert!(within(crashing).await.is_err());
    assert_eq!(reason(within(asks).await), SparkChannelError::Cancelled);
    assert!(before.elapsed() < SECOND);
    within(tree.shutdown(Stop::Drain)).await;
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_the_tree_also_bounds_a_sibling_that_leaves() {
    struct Lingers;

    impl NativeHandler for Lingers {
        type Message = &'static str;
        type Response = (usize, usize);
        type Error = eyre::Report;

        async fn handle_request(&mut self, _: &'static str) -> eyre::Result<(usize, usize)> {
            Ok((1, 1))
        }

        async fn handle_command(&mut self, _: &'static str) -> eyre::Result<()> {
            Ok(())
        }

        async fn stopped(&mut self) {
            std::future::pending::<()>().await;
        }
    }

    let world = World::new();
    let mut tree = at_once(Strategy::OneForAll);
    let a = tree.child(world.child("a"));
    let lingers = tree.child(Child::new(|| Lingers).shutdown_timeout(100 * SECOND));
    let tree = tree.spawn();
    all_up(&[a.clone(), lingers.clone()]).await;
    crash(&a).await;
    settled().await;
    let before = Instant::now();

    let report = within(tree.shutdown_within(Stop::Drain, 2 * SECOND)).await;

    assert_eq!(before.elapsed().as_secs(), 2);
    assert!(report.deadline_passed);
}

#[tokio::test(start_paused = true)]
async fn a_tree_drains_without_starting_what_has_nothing_to_handle() {
    let routed: [fn(Child<Worker>) -> Child<Worker>; 3] = [
        |pool| pool,
        |pool| pool.by_key(|message| *message),
        |pool| pool.round_robin(),
    ];
    for route in routed {
        let world = World::new();
        let backoff = Backoff::exponential(9 * SECOND, 9 * SECOND);
        let mut tree = Supervisor::new("tree", Strategy::OneForAll).backoff(backoff);
        let pool = tree.child(route(world.pool("p", 2)));
        let tree = tree.spawn();
        crash(&pool).await;
        settled().await;
        world.news();

        let report = within(tree.shutdown(Stop::Drain)).await;

        assert_eq!(world.news(), [""; 0]);
        assert_eq!(module(&report, 0).stats.accounted(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_given_up_stops_the_tree() {
    let world = World::new();
    let mut tree = at_once(Strategy::OneForOne);
    let child = tree.child(world.child("a"));
    let waiting = queued(tree.spawn().wait());
    ask(&child).await;

    drop(waiting);

    let ended = within(child.watch().expect("known").ended()).await;
    assert_eq!(ended.reason, StopReason::Requested(Stop::Drain));
}

#[tokio::test(start_paused = true)]
async fn a_tree_left_alone_while_it_waits_or_starts_ends() {
    for hangs in [false, true] {
        let world = World::new();
        let backoff = Backoff::exponential(1_000 * SECOND, 1_000 * SECOND);
        let mut tree = Supervisor::new("tree", Strategy::OneForAll)
            .backoff(backoff)
            .shutdown_timeout(5 * SECOND);
        let children = three(&world, &mut tree);
        if hangs {
            world.will_be_ill("b", Start::Hangs, 1);
        }
        let tree = tree.spawn();
        ask(&children[0]).await;
        if !hangs {
            crash(&children[0]).await;
        }

        drop(tree);

        for child in children {
            within(child.watch().expect("known").ended()).await;
        }
    }
}

#[tokio::test]
async fn a_runtime_that_ends_ends_its_trees_for_whoever_watches() {
    let other = std::thread::spawn(|| {
        let mut runtime = runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let world = World::new();
            let mut tree = Supervisor::new("tree", Strategy::OneForOne);
            let children = three(&world, &mut tree);
            let tree = tree.spawn();
            all_up(&children).await;
            crash(&children[2]).await;
            (tree, children.map(|child| child.watch().expect("known")))
        })
    });
    let (tree, watches) = other.join().expect("no panic");

    let report = within(tree.wait()).await;

    assert_eq!(report.reason, SupervisorEnd::Aborted);
    for watch in watches {
        within(watch).await;
    }
}
