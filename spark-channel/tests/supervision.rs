//! Supervision: children that fail are started again at the same address, with what
//! was queued, together with those that their supervisor's strategy names.

use spark_channel::{
    Backoff, Child, ChildReport, ModuleState, SparkChannelError, Stop, StopReason, Strategy,
    Supervisor, SupervisorEnd,
};
use tokio::time::Instant;

use crate::{
    support::{queued, reason, within},
    world::*,
};

mod support;
#[path = "supervision/world.rs"]
mod world;

// --- starting and stopping

#[tokio::test(start_paused = true)]
async fn children_start_in_order_and_stop_in_reverse_one_after_the_other() {
    let world = World::new();
    let mut tree = at_once(Strategy::OneForOne);
    let children = three(&world, &mut tree);
    let tree = tree.spawn();

    assert_eq!(all_up(&children).await, [1, 1, 1]);
    let report = within(tree.shutdown(Stop::Drain)).await;

    let lines = [
        "a starts",
        "a started",
        "b starts",
        "b started",
        "c starts",
        "c started",
        "c stops",
        "c dropped",
        "b stops",
        "b dropped",
        "a stops",
        "a dropped",
    ];
    assert_eq!(without_hellos(world.news()), lines);
    assert_eq!(report.reason, SupervisorEnd::Requested(Stop::Drain));
    let names: Vec<_> = report.children.iter().map(ChildReport::name).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert!(report.modules().all(|module| module.stats.accounted() == 1));
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_before_the_start_waits_for_it() {
    let world = World::new();
    let mut tree = at_once(Strategy::OneForOne);
    let child = tree.child(world.child("a"));
    let early = queued(child.request("early"));
    tokio::time::sleep(SECOND).await;
    assert_eq!(world.news(), [""; 0]);

    let _tree = tree.spawn();

    assert_eq!(within(early).await.expect("handled"), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_is_never_spawned_ends_its_children() {
    let world = World::new();
    let mut tree = at_once(Strategy::OneForOne);
    let child = tree.child(world.child("a"));
    let early = queued(child.request("early"));
    child.try_command("told").expect("room");

    drop(tree);

    assert_eq!(reason(within(early).await), SparkChannelError::ShuttingDown);
    within(child.watch().expect("known").ended()).await;
    // A handler was made, to take back what it was told.
    assert_eq!(world.news(), ["a undelivered told", "a stops", "a dropped"]);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_handle_stops_the_tree() {
    let world = World::new();
    let mut tree = at_once(Strategy::OneForOne);
    let children = three(&world, &mut tree);
    let tree = tree.spawn();
    all_up(&children).await;

    drop(tree);

    for child in children {
        let report = within(child.watch().expect("known").ended()).await;
        assert_eq!(report.reason, StopReason::Requested(Stop::Drain));
    }
}

#[tokio::test(start_paused = true)]
async fn one_deadline_bounds_the_stop_of_all_children() {
    let world = World::new();
    let mut tree = at_once(Strategy::OneForOne);
    let children = three(&world, &mut tree);
    let tree = tree.spawn();
    all_up(&children).await;
    for child in &children {
        child.try_command("hang").expect("room");
    }
    tokio::task::yield_now().await;
    let before = Instant::now();

    let report = within(tree.shutdown_within(Stop::Drain, 3 * SECOND)).await;

    assert_eq!(before.elapsed().as_secs(), 3);
    assert!(report.deadline_passed);
    assert!(report.modules().all(|module| module.stats.interrupted == 1));
}

// --- addresses, mailboxes and accounts

#[tokio::test(start_paused = true)]
async fn an_address_survives_a_restart_and_what_is_queued_is_handled_in_order_without_the_crash() {
    let world = World::new();
    let mut tree = Supervisor::new("tree", Strategy::OneForOne);
    let child = tree.child(world.child("a"));
    let tree = tree.spawn();
    assert_eq!(ask(&child).await, (1, 1));
    world.news();
    let crashing = queued(child.request("panic"));
    let behind = queued(child.request("one"));
    child.try_command("two").expect("room");
    assert!(within(crashing).await.is_err());
    let meanwhile = queued(child.request("three"));
    assert_eq!(tree.children()[0].state, ModuleState::Restarting);

    assert_eq!(within(behind).await.expect("handled"), (2, 1));

    assert_eq!(within(meanwhile).await.expect("handled"), (2, 3));
    let lines = [
        "a panic",
        "a dropped",
        "a starts",
        "a started",
        "a one",
        "a two",
        "a three",
    ];
    assert_eq!(world.news(), lines);
    let report = within(tree.shutdown(Stop::Drain)).await;
    let stats = module(&report, 0).stats;
    assert_eq!((stats.handled, stats.panicked, stats.restarts), (4, 1, 1));
    assert_eq!((stats.accounted(), report.restarts), (5, 1));
}

#[tokio::test(start_paused = true)]
async fn a_mailbox_keeps_its_bound_while_its_module_waits_for_a_restart() {
    let world = World::new();
    let mut tree = Supervisor::new("tree", Strategy::OneForOne);
    let child = tree.child(world.child("a").capacity(2));
    let _tree = tree.spawn();
    crash(&child).await;

    assert!(child.try_command("one").is_ok() && child.try_command("two").is_ok());
    let refused = child.try_command("three").expect_err("full");

    assert_eq!(refused.reason, SparkChannelError::Full);
    assert_eq!(ask(&child).await, (2, 3));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_expires_while_its_module_waits_is_not_started() {
    let world = World::new();
    let backoff = Backoff::exponential(5 * SECOND, 5 * SECOND).jitter(0.0);
    let mut tree = Supervisor::new("tree", Strategy::OneForOne).backoff(backoff);
    let child = tree.child(world.child("a"));
    let tree = tree.spawn();
    crash(&child).await;

    let expired = within(child.request("late").timeout(SECOND)).await;

    assert!(reason(expired).never_started());
    assert_eq!(ask(&child).await, (2, 1));
    let report = within(tree.shutdown(Stop::Drain)).await;
    let stats = module(&report, 0).stats;
    assert_eq!(stats.expired + stats.abandoned, 1);
    assert_eq!(stats.accounted(), 3);
}

// --- strategies

#[tokio::test(start_paused = true)]
async fn one_for_one_restarts_the_one_that_failed() {
    let world = World::new();
    let mut tree = at_once(Strategy::OneForOne);
    let children = three(&world, &mut tree);
    let _tree = tree.spawn();
    all_up(&children).await;
    world.news();

    crash(&children[1]).await;
    settled().await;

    assert_eq!(all_up(&children).await, [1, 2, 1]);
    let lines = ["b panic", "b dropped", "b starts", "b started"];
    assert_eq!(without_hellos(world.news()), lines);
}

#[tokio::test(start_paused = true)]
async fn one_for_all_stops_the_others_in_reverse_and_restarts_all_in_order() {
    let world = World::new();
    let mut tree = at_once(Strategy::OneForAll);
    let children = three(&world, &mut tree);
    let _tree = tree.spawn();
    all_up(&children).await;
    world.news();

    crash(&children[1]).await;
    settled().await;

    assert_eq!(all_up(&children).await, [2, 2, 2]);
    let lines = [
        "b panic",
        "b dropped",
        "c stops",
        "c dropped",
        "a stops",
        "a dropped",
        "a starts",
        "a started",
        "b starts",
        "b started",
        "c starts",
        "c started",
    ];
    assert_eq!(without_hellos(world.news()), lines);
}

#[tokio::test(start_paused = true)]
async fn rest_for_one_restarts_the_one_that_failed_and_those_after_it() {
    let world = World::new();
    let mut tree = at_once(Strategy::RestForOne);
    let children = three(&world, &mut tree);
    let _tree = tree.spawn();
    all_up(&children).await;
    world.news();

    crash(&children[1]).await;
    settled().await;

    assert_eq!(all_up(&children).await, [1, 2, 2]);
    let lines = [
        "b panic",
        "b dropped",
        "c stops",
        "c dropped",
        "b starts",
        "b started",
        "c starts",
        "c started",
    ];
    assert_eq!(without_hellos(world.news()), lines);
}

#[tokio::test(start_paused = true)]
async fn a_sibling_finishes_its_message_before_it_leaves_and_keeps_its_mailbox() {
    let world = World::new();
    let mut tree = at_once(Strategy::OneForAll);
    let [a, b] = ["a", "b"].map(|name| tree.child(world.child(name)));
    let _tree = tree.spawn();
    all_up(&[a.clone(), b.clone()]).await;
    let held = queued(b.request("hold"));
    let behind = queued(b.request("behind"));
    world.gate.entered().await;
    crash(&a).await;
    world.news();

    world.gate.open();

    assert_eq!(within(held).await.expect("handled"), (1, 2));
    assert_eq!(within(behind).await.expect("handled"), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_sibling_that_does_not_leave_in_time_is_cut_off() {
    let world = World::new();
    let mut tree = at_once(Strategy::OneForAll);
    let a = tree.child(world.child("a"));
    let b = tree.child(world.child("b").shutdown_timeout(2 * SECOND));
    let tree = tree.spawn();
    all_up(&[a.clone(), b.clone()]).await;
    let hanging = queued(b.request("hang"));
    tokio::task::yield_now().await;
    let before = Instant::now();

    crash(&a).await;

    assert_eq!(reason(within(hanging).await), SparkChannelError::Cancelled);
    assert_eq!(before.elapsed().as_secs(), 2);
    assert_eq!(all_up(&[a, b]).await, [2, 2]);
    let report = within(tree.shutdown(Stop::Drain)).await;
    assert_eq!(module(&report, 1).stats.interrupted, 1);
    assert_eq!(module(&report, 1).stats.accounted(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_replica_of_a_pool_restarts_alone_under_one_for_one() {
    let world = World::new();
    let mut tree = at_once(Strategy::OneForOne);
    let pool = tree.child(world.pool("p", 2));
    let tree = tree.spawn();
    let held = queued(pool.request("hold"));
    world.gate.entered().await;

    crash(&pool).await;
    let (generation, handled) = ask(&pool).await;

    assert_eq!((generation, handled), (3, 1));
    world.gate.open();
    assert!(within(held).await.is_ok());
    let report = within(tree.shutdown(Stop::Drain)).await;
    let stats = module(&report, 0).stats;
    assert_eq!((stats.restarts, stats.accounted()), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn a_replica_with_a_queue_of_its_own_keeps_it_while_it_waits_for_its_restart() {
    let world = World::new();
    let mut tree = Supervisor::new("tree", Strategy::OneForOne);
    let pool = tree.child(world.pool("p", 2).by_key(|message| *message));
    let tree = tree.spawn();
    // Both have the same key.
    let crashing = queued(pool.request("panic"));
    let behind = queued(pool.request("panic"));

    assert!(within(crashing).await.is_err());
    assert!(within(behind).await.is_err());

    assert!(ask(&pool).await.0 <= 4);
    let report = within(tree.shutdown(Stop::Drain)).await;
    let stats = module(&report, 0).stats;
    assert_eq!((stats.panicked, stats.accounted()), (2, 3));
    assert_eq!(report.restarts, 2);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_message_restarts_a_permanent_pool_of_any_routing() {
    let routed: [fn(Child<Worker>) -> Child<Worker>; 4] = [
        |pool| pool.round_robin(),
        |pool| pool.least_loaded(),
        |pool| pool.by_key(|message| *message),
        |pool| pool.broadcast(),
    ];
    for route in routed {
        let world = World::new();
        let mut tree = at_once(Strategy::OneForOne);
        let pool = tree.child(route(world.pool("p", 2)));
        let tree = tree.spawn();
        ask(&pool).await;

        let token = shutdown(&pool);

        within(token.inner().cancelled()).await;
        settled().await;
        assert!(ask(&pool).await.0 > 2);
        let report = within(tree.shutdown(Stop::Drain)).await;
        let stats = module(&report, 0).stats;
        assert_eq!((stats.shutdowns, stats.restarts), (1, 2));
        assert_eq!(stats.accounted(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_direct_call_that_crashes_its_module_restarts_it_and_none_is_made_meanwhile() {
    let world = World::new();
    let mut tree = Supervisor::new("tree", Strategy::OneForOne);
    let child = tree.child(world.child("a"));
    let tree = tree.spawn();
    for restarts in 0..3 {
        // The module rests, so this is called directly.
        settled().await;
        assert_eq!(ask(&child).await.0, restarts + 1);
        settled().await;
        crash(&child).await;
        let waits = queued(child.request("waits"));
        assert_eq!(within(waits).await.expect("handled"), (restarts + 2, 1));
    }
    let report = within(tree.shutdown(Stop::Drain)).await;
    assert_eq!(module(&report, 0).stats.accounted(), 9);
}

#[tokio::test(start_paused = true)]
async fn a_whole_pool_restarts_with_its_siblings() {
    let world = World::new();
    let mut tree = at_once(Strategy::OneForAll);
    let pool = tree.child(world.pool("p", 2));
    let other = tree.child(world.child("a"));
    let tree = tree.spawn();
    all_up(&[pool.clone(), other.clone()]).await;

    crash(&other).await;
    settled().await;

    assert_eq!(ask(&other).await.0, 2);
    assert!(ask(&pool).await.0 > 2);
    let report = within(tree.shutdown(Stop::Drain)).await;
    assert_eq!(module(&report, 0).stats.restarts, 2);
}
