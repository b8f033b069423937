//! Kinds of supervised children: what brings a permanent, a transient and a temporary one
//! back, and what ends it.

use spark_channel::{Restart, Stop, StopReason, Strategy, SupervisorEnd};

use crate::{
    support::{queued, within},
    world::*,
};

mod support;
#[path = "supervision/world.rs"]
mod world;

#[tokio::test(start_paused = true)]
async fn a_shutdown_message_restarts_a_permanent_child_at_its_place_in_the_queue() {
    let world = World::new();
    let mut tree = at_once(Strategy::OneForOne);
    let child = tree.child(world.child("a"));
    let tree = tree.spawn();
    let before = queued(child.request("before"));
    let token = shutdown(&child);
    let behind = queued(child.request("behind"));

    assert_eq!(within(before).await.expect("handled"), (1, 1));
    within(token.inner().cancelled()).await;
    assert_eq!(within(behind).await.expect("handled"), (2, 1));

    let lines = [
        "a starts",
        "a started",
        "a before",
        "a stops",
        "a dropped",
        "a starts",
        "a started",
        "a behind",
    ];
    assert_eq!(world.news(), lines);
    let report = within(tree.shutdown(Stop::Drain)).await;
    let stats = module(&report, 0).stats;
    assert_eq!(
        (stats.shutdowns, stats.restarts, stats.accounted()),
        (1, 1, 3)
    );
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_message_restarts_all_replicas_of_a_permanent_pool() {
    let world = World::new();
    let mut tree = at_once(Strategy::OneForOne);
    let pool = tree.child(world.pool("p", 3));
    let tree = tree.spawn();
    ask(&pool).await;

    let token = shutdown(&pool);

    within(token.inner().cancelled()).await;
    assert!(ask(&pool).await.0 > 3);
    let report = within(tree.shutdown(Stop::Drain)).await;
    assert_eq!(module(&report, 0).stats.restarts, 3);
}

#[tokio::test(start_paused = true)]
async fn a_transient_child_is_restarted_after_a_panic_and_ended_by_a_shutdown_message() {
    let world = World::new();
    let mut tree = at_once(Strategy::OneForAll);
    let child = tree.child(world.child("a").restart(Restart::Transient));
    let other = tree.child(world.child("b"));
    let tree = tree.spawn();
    all_up(&[child.clone(), other.clone()]).await;
    crash(&child).await;
    settled().await;

    let token = shutdown(&child);

    within(token.inner().cancelled()).await;
    assert_eq!(ask(&other).await.0, 2);
    assert!(child.is_closed());
    let report = within(tree.shutdown(Stop::Drain)).await;
    assert_eq!(module(&report, 0).reason, StopReason::ShutdownMessage);
}

#[tokio::test(start_paused = true)]
async fn a_temporary_child_is_ended_by_its_panic_and_by_its_siblings() {
    let world = World::new();
    let mut tree = at_once(Strategy::OneForAll);
    let first = tree.child(world.child("a").restart(Restart::Temporary));
    let second = tree.child(world.child("b").restart(Restart::Temporary));
    let third = tree.child(world.child("c"));
    let tree = tree.spawn();
    all_up(&[first.clone(), second.clone(), third.clone()]).await;

    crash(&first).await;
    within(first.watch().expect("known").ended()).await;
    let after_the_first = all_up(&[second.clone(), third.clone()]).await;
    crash(&third).await;
    settled().await;
    within(second.watch().expect("known").ended()).await;

    assert_eq!(after_the_first, [1, 1]);
    assert_eq!(ask(&third).await.0, 2);
    let report = within(tree.shutdown(Stop::Drain)).await;
    assert_eq!(module(&report, 0).reason, StopReason::Panicked);
    let left = StopReason::Requested(Stop::AfterCurrent);
    assert_eq!(module(&report, 1).reason, left);
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_ends_once_all_its_children_have() {
    let world = World::new();
    let mut tree = at_once(Strategy::OneForOne);
    let child = tree.child(world.child("a").restart(Restart::Temporary));
    let tree = tree.spawn();

    crash(&child).await;

    let report = within(tree.wait()).await;
    assert_eq!(report.reason, SupervisorEnd::Deserted);
    assert_eq!(module(&report, 0).reason, StopReason::Panicked);
}

#[tokio::test(start_paused = true)]
async fn a_child_that_has_ended_for_good_stays_so_when_its_supervisor_is_restarted() {
    let world = World::new();
    let mut outer = at_once(Strategy::OneForOne);
    let mut inner = at_once(Strategy::OneForOne).intensity(0, SECOND);
    let temporary = inner.child(world.child("t").restart(Restart::Temporary));
    let permanent = inner.child(world.child("p"));
    outer.supervisor(inner);
    let outer = outer.spawn();
    ask(&permanent).await;
    crash(&temporary).await;
    settled().await;

    crash(&permanent).await;

    assert_eq!(ask(&permanent).await.0, 2);
    assert!(temporary.is_closed());
    let report = within(outer.shutdown(Stop::Drain)).await;
    assert_eq!(report.restarts, 1);
}
