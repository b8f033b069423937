//! Supervision at its limits: starts that fail, too many failures, waits between
//! restarts, and stops while something is restarted.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use spark_channel::{
    Backoff, Child, ChildFailure, NativeHandler, SparkChannelError, Stop, StopReason, Strategy,
    Supervisor, SupervisorEnd,
};
use tokio::time::Instant;

use crate::{
    support::{Gate, queued, reason, within},
    world::*,
};

mod support;
#[path = "supervision/world.rs"]
mod world;

// --- failing to start

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_in_whatever_way_is_tried_again() {
    for how in [Start::Fails, Start::Panics, Start::PanicsInTheFactory] {
        let world = World::new();
        let mut tree = at_once(Strategy::OneForOne);
        let children = three(&world, &mut tree);
        world.will_be_ill("b", how, 2);
        let tree = tree.spawn();

        assert_eq!(all_up(&children).await, [1, 3, 1]);
        let report = within(tree.shutdown(Stop::Drain)).await;

        let stats = module(&report, 1).stats;
        assert_eq!(
            (report.restarts, stats.restarts, stats.accounted()),
            (2, 2, 1)
        );
        // The child after it was not started before it.
        let lines = world.news();
        let at = |line| {
            lines
                .iter()
                .position(|found| found == line)
                .expect("logged")
        };
        assert!(at("b started") < at("c starts"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_that_hangs_is_cut_off_by_the_stop_of_the_tree() {
    let world = World::new();
    let mut tree = at_once(Strategy::OneForOne);
    let child = tree.child(world.child("a"));
    world.will_be_ill("a", Start::Hangs, 1);
    let tree = tree.spawn();
    let asked = queued(child.request("asked"));
    tokio::time::sleep(SECOND).await;

    let report = within(tree.shutdown(Stop::Now)).await;

    assert_eq!(reason(within(asked).await), SparkChannelError::ShuttingDown);
    assert_eq!(module(&report, 0).stats.accounted(), 1);
}

// --- how often, how soon

#[tokio::test(start_paused = true)]
async fn too_many_failures_end_the_tree_in_reverse_order_and_say_why() {
    let world = World::new();
    let mut tree = at_once(Strategy::OneForOne).intensity(2, 10 * SECOND);
    let children = three(&world, &mut tree);
    let tree = tree.spawn();
    all_up(&children).await;
    for _ in 0..2 {
        crash(&children[1]).await;
        ask(&children[1]).await;
    }
    world.news();
    let behind = {
        children[1].try_command("panic").expect("room");
        queued(children[1].request("behind"))
    };

    let report = within(tree.wait()).await;

    let failure = ChildFailure::Panicked;
    let child = "b".into();
    assert_eq!(report.reason, SupervisorEnd::GaveUp { child, failure });
    assert_eq!(report.restarts, 2);
    assert_eq!(
        reason(within(behind).await),
        SparkChannelError::ShuttingDown
    );
    let lines = [
        "b panic",
        "b dropped",
        "c stops",
        "c dropped",
        "a stops",
        "a dropped",
    ];
    assert_eq!(world.news(), lines);
    assert_eq!(module(&report, 1).reason, StopReason::Panicked);
    assert!(children.iter().all(Dispatcher::is_closed));
}

#[tokio::test(start_paused = true)]
async fn failures_that_are_far_apart_are_never_too_many() {
    let world = World::new();
    let mut tree = at_once(Strategy::OneForOne).intensity(1, SECOND);
    let child = tree.child(world.child("a"));
    let _tree = tree.spawn();

    for restarts in 0..20 {
        assert_eq!(ask(&child).await.0, restarts + 1);
        crash(&child).await;
        tokio::time::sleep(SECOND).await;
    }
}

#[tokio::test(start_paused = true)]
async fn no_failures_are_too_many_for_an_unlimited_supervisor() {
    let world = World::new();
    let mut tree = at_once(Strategy::OneForOne).unlimited();
    let child = tree.child(world.child("a"));
    let _tree = tree.spawn();
    for _ in 0..100 {
        crash(&child).await;
    }
    assert_eq!(ask(&child).await.0, 101);
}

#[tokio::test(start_paused = true)]
async fn restarts_wait_longer_each_time_up_to_a_maximum_and_over_again_after_a_quiet_time() {
    let world = World::new();
    let backoff = Backoff::exponential(100 * MS, 300 * MS).jitter(0.0);
    let mut tree = Supervisor::new("tree", Strategy::OneForOne)
        .unlimited()
        .backoff(backoff.reset_after(10 * SECOND));
    let child = tree.child(world.child("a"));
    let _tree = tree.spawn();
    ask(&child).await;

    let mut waits = Vec::new();
    for quiet in [0, 0, 0, 0, 9, 11, 0] {
        tokio::time::sleep(quiet * SECOND).await;
        crash(&child).await;
        let before = Instant::now();
        ask(&child).await;
        waits.push(before.elapsed().as_millis());
    }

    assert_eq!(waits, [100, 200, 300, 300, 300, 100, 200]);
}

#[tokio::test(start_paused = true)]
async fn jitter_shortens_the_waits_by_chance_and_repeatably() {
    async fn waits(seed: u64) -> Vec<u128> {
        let world = World::new();
        let backoff = Backoff::exponential(SECOND, SECOND).jitter(0.5);
        let mut tree = Supervisor::new("tree", Strategy::OneForOne)
            .unlimited()
            .seed(seed)
            .backoff(backoff);
        let child = tree.child(world.child("a"));
        let _tree = tree.spawn();
        let mut waits = Vec::new();
        for _ in 0..8 {
            crash(&child).await;
            let before = Instant::now();
            ask(&child).await;
            waits.push(before.elapsed().as_millis());
        }
        waits
    }

    let first = waits(1).await;

    assert!(first.iter().all(|wait| (500..=1_001).contains(wait)));
    assert!(first.windows(2).any(|pair| pair[0] != pair[1]));
    assert_eq!(waits(1).await, first);
    assert_ne!(waits(2).await, first);
}

// --- stopping while something is restarted

#[tokio::test(start_paused = true)]
async fn a_child_that_waits_for_its_restart_is_started_to_drain_what_it_has() {
    let world = World::new();
    let backoff = Backoff::exponential(9 * SECOND, 9 * SECOND);
    let mut tree = Supervisor::new("tree", Strategy::OneForOne).backoff(backoff);
    let children = ["a", "b"].map(|name| tree.child(world.child(name)));
    let tree = tree.spawn();
    all_up(&children).await;
    for child in &children {
        crash(child).await;
    }
    world.news();
    let waiting = queued(children[0].request("waiting"));
    let before = Instant::now();

    let report = within(tree.shutdown(Stop::Drain)).await;

    assert_eq!(within(waiting).await.expect("handled"), (2, 1));
    assert!(before.elapsed() < SECOND);
    // The other one had nothing to be started for.
    let lines = ["a starts", "a started", "a waiting", "a stops", "a dropped"];
    assert_eq!(world.news(), lines);
    assert_eq!(module(&report, 0).stats.accounted(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_child_that_waits_for_its_restart_gives_back_what_it_has_when_it_is_not_to_drain() {
    for stop in [Stop::AfterCurrent, Stop::Now] {
        let world = World::new();
        let mut tree = Supervisor::new("tree", Strategy::OneForOne);
        let child = tree.child(world.child("a"));
        let tree = tree.spawn();
        crash(&child).await;
        let asked = queued(child.request("asked"));
        child.try_command("told").expect("room");
        world.news();

        let report = within(tree.shutdown(stop)).await;

        assert_eq!(reason(within(asked).await), SparkChannelError::ShuttingDown);
        assert_eq!(world.news(), ["a undelivered told", "a stops", "a dropped"]);
        let stats = module(&report, 0).stats;
        assert_eq!((stats.returned, stats.undelivered), (1, 1));
        assert_eq!(stats.accounted(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_while_draining_does_not_keep_the_rest_from_being_handled() {
    let world = World::new();
    let mut tree = Supervisor::new("tree", Strategy::OneForOne);
    let child = tree.child(world.child("a"));
    let tree = tree.spawn();
    let held = queued(child.request("hold"));
    world.gate.entered().await;
    let crashing = queued(child.request("panic"));
    let behind = queued(child.request("behind"));
    tree.stop(Stop::Drain);
    tokio::task::yield_now().await;

    world.gate.open();

    assert!(within(held).await.is_ok() && within(crashing).await.is_err());
    assert_eq!(within(behind).await.expect("handled"), (2, 1));
    assert_eq!(module(&within(tree.wait()).await, 0).stats.accounted(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sibling_that_blocks_its_thread_is_given_up_and_so_is_the_tree() {
    struct Blocks(Arc<Mutex<std::sync::mpsc::Receiver<()>>>, Gate);

    impl NativeHandler for Blocks {
        type Message = ();
        type Response = ();
        type Error = eyre::Report;

        async fn handle_request(&mut self, (): ()) -> eyre::Result<()> {
            Ok(())
        }

        async fn handle_command(&mut self, (): ()) -> eyre::Result<()> {
            // Whoever this poll has woken may be next on this very thread.
            tokio::task::yield_now().await;
            self.1.announce();
            let _ = self.0.lock().expect("one at a time").recv();
            Ok(())
        }
    }

    let world = World::new();
    let (release, held) = std::sync::mpsc::sync_channel(1);
    let held = Arc::new(Mutex::new(held));
    let gate = Gate::closed();
    let mut tree = at_once(Strategy::OneForAll);
    let child = tree.child(world.child("a"));
    let blocks = {
        let gate = gate.clone();
        let make = move || Blocks(Arc::clone(&held), gate.clone());
        tree.child(Child::new(make).shutdown_timeout(Duration::ZERO))
    };
    let tree = tree.spawn();
    within(blocks.request(())).await.expect("handled");
    blocks.try_command(()).expect("room");
    gate.entered().await;

    crash(&child).await;
    let report = within(tree.wait()).await;
    release.send(()).expect("it waits");

    let (child, failure) = ("Blocks".into(), ChildFailure::Lost);
    assert_eq!(report.reason, SupervisorEnd::GaveUp { child, failure });
    assert_eq!(module(&report, 1).reason, StopReason::Unresponsive);
}
