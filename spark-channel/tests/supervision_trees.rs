//! Supervisors under supervisors: what one cannot put right is its parent's to answer.

use std::time::Duration;

use spark_channel::{
    Backoff, Child, ChildFailure, ChildReport, ModuleState, Restart, SparkChannelError,
    SparkGenericModuleDispatcher, Stop, StopReason, Strategy, Supervisor, SupervisorEnd,
};
use tokio::time::Instant;

use crate::support::{Gate, Gated, queued, reason, within};

mod support;

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

type Dispatcher = SparkGenericModuleDispatcher<String, String>;

fn tree(name: &'static str, strategy: Strategy) -> Supervisor {
    Supervisor::new(name, strategy).backoff(Backoff::none())
}

fn child(gate: &Gate, name: &'static str) -> Child<Gated> {
    let gate = gate.clone();
    Child::new(move || gate.module()).name(name)
}

async fn ask(dispatcher: &Dispatcher) {
    let answer = within(dispatcher.request("hello")).await;
    assert_eq!(answer.expect("handled"), "hello");
}

async fn crash(dispatcher: &Dispatcher) {
    let crashed = within(dispatcher.request("panic")).await;
    assert!(matches!(
        reason(crashed),
        SparkChannelError::Panicked { .. }
    ));
}

/// Lets everything that needs no time happen.
async fn settled() {
    tokio::time::sleep(MS).await;
}

/// `outer` with a child `a`, and under it `inner` with the children `b` and `c`.
fn nested(gate: &Gate, outer: &mut Supervisor, mut inner: Supervisor) -> [Dispatcher; 3] {
    let a = outer.child(child(gate, "a"));
    let b = inner.child(child(gate, "b"));
    let c = inner.child(child(gate, "c"));
    outer.supervisor(inner);
    [a, b, c]
}

fn restarts(of: &[Dispatcher]) -> Vec<u64> {
    of.iter()
        .map(|child| child.stats().expect("known").restarts)
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_gives_up_is_restarted_with_its_children_at_their_addresses() {
    let gate = Gate::opened();
    let mut outer = tree("outer", Strategy::OneForOne);
    let inner = tree("inner", Strategy::OneForOne).intensity(0, SECOND);
    let children = nested(&gate, &mut outer, inner);
    let outer = outer.spawn();
    for child in &children {
        ask(child).await;
    }
    let [_, b, c] = &children;
    let behind = {
        b.try_command("panic").expect("room");
        queued(b.request("behind"))
    };

    assert_eq!(within(behind).await.expect("handled"), "behind");
    ask(c).await;

    assert_eq!(restarts(&children), [0, 1, 1]);
    let report = within(outer.shutdown(Stop::Drain)).await;
    assert_eq!(report.restarts, 1);
    let ChildReport::Supervisor(inner) = &report.children[1] else {
        panic!("a module");
    };
    assert_eq!(inner.reason, SupervisorEnd::Requested(Stop::Drain));
    assert_eq!(inner.restarts, 0);
    let accounted: Vec<_> = report.modules().map(|m| m.stats.accounted()).collect();
    assert_eq!(accounted, [1, 3, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_root_that_gives_up_over_its_supervisor_ends_all_and_says_why() {
    let gate = Gate::opened();
    let mut outer = tree("outer", Strategy::OneForOne).intensity(1, SECOND);
    let inner = tree("inner", Strategy::OneForOne).intensity(0, SECOND);
    let children = nested(&gate, &mut outer, inner);
    let outer = outer.spawn();

    for _ in 0..2 {
        crash(&children[1]).await;
    }

    let report = within(outer.wait()).await;
    let (child, failure) = ("inner".into(), ChildFailure::GaveUp);
    assert_eq!(report.reason, SupervisorEnd::GaveUp { child, failure });
    assert_eq!(report.modules().count(), 3);
    assert!(children.iter().all(Dispatcher::is_closed));
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_restarts_with_its_siblings_and_its_children_leave_in_reverse() {
    let gate = Gate::opened();
    let mut outer = tree("outer", Strategy::OneForAll);
    let inner = tree("inner", Strategy::OneForOne);
    let children = nested(&gate, &mut outer, inner);
    let outer = outer.spawn();
    for child in &children {
        ask(child).await;
    }

    crash(&children[0]).await;
    settled().await;

    assert_eq!(restarts(&children), [1, 1, 1]);
    for child in &children {
        ask(child).await;
    }
    let status = outer.children();
    assert_eq!(&*status[1].name, "inner");
    let names: Vec<_> = status[1].children.iter().map(|c| &*c.name).collect();
    assert_eq!(names, ["b", "c"]);
    let states = [&status[0], &status[1], &status[1].children[0]].map(|child| child.state);
    assert_eq!(states, [ModuleState::Running; 3]);
    within(outer.shutdown(Stop::Drain)).await;
}

#[tokio::test(start_paused = true)]
async fn a_temporary_supervisor_ends_when_it_gives_up_and_its_parent_goes_on() {
    let gate = Gate::opened();
    let mut outer = tree("outer", Strategy::OneForOne);
    let inner = tree("inner", Strategy::OneForOne)
        .intensity(0, SECOND)
        .restart(Restart::Temporary);
    let [a, b, c] = nested(&gate, &mut outer, inner);
    let outer = outer.spawn();
    ask(&c).await;

    crash(&b).await;
    within(b.watch().expect("known").ended()).await;
    within(c.watch().expect("known").ended()).await;

    ask(&a).await;
    let report = within(outer.shutdown(Stop::Drain)).await;
    assert_eq!(report.reason, SupervisorEnd::Requested(Stop::Drain));
    let ChildReport::Supervisor(inner) = &report.children[1] else {
        panic!("a module");
    };
    let (child, failure) = ("b".into(), ChildFailure::Panicked);
    assert_eq!(inner.reason, SupervisorEnd::GaveUp { child, failure });
}

#[tokio::test(start_paused = true)]
async fn what_comes_after_a_supervisor_starts_when_all_its_children_have() {
    let gate = Gate::opened();
    let mut outer = tree("outer", Strategy::RestForOne);
    let backoff = Backoff::exponential(5 * SECOND, 5 * SECOND).jitter(0.0);
    let mut inner = Supervisor::new("inner", Strategy::OneForOne).backoff(backoff);
    let slow = {
        let gate = gate.clone();
        let first = std::sync::atomic::AtomicBool::new(true);
        Child::new(move || {
            let first = first.swap(false, std::sync::atomic::Ordering::Relaxed);
            assert!(!first, "not at first");
            gate.module()
        })
    };
    let slow = inner.child(slow.name("slow"));
    outer.supervisor(inner);
    let after = outer.child(child(&gate, "after"));
    let before = Instant::now();
    let _outer = outer.spawn();

    ask(&after).await;

    assert_eq!(before.elapsed().as_secs(), 5);
    ask(&slow).await;
}

#[tokio::test(start_paused = true)]
async fn one_deadline_bounds_the_whole_tree() {
    let gate = Gate::closed();
    let mut outer = tree("outer", Strategy::OneForOne);
    let inner = tree("inner", Strategy::OneForOne).shutdown_timeout(100 * SECOND);
    let children = nested(&gate, &mut outer, inner);
    let outer = outer.spawn();
    for child in &children {
        child.try_command("held").expect("room");
        gate.entered().await;
    }
    let before = Instant::now();

    let report = within(outer.shutdown_within(Stop::Drain, 3 * SECOND)).await;

    assert_eq!(before.elapsed().as_secs(), 3);
    assert!(report.deadline_passed);
    assert!(report.modules().all(|module| module.stats.interrupted == 1));
}

#[tokio::test(start_paused = true)]
async fn a_stronger_stop_reaches_those_who_drain_already() {
    let gate = Gate::closed();
    let mut outer = tree("outer", Strategy::OneForOne);
    let inner = tree("inner", Strategy::OneForOne);
    let children = nested(&gate, &mut outer, inner);
    let outer = outer.spawn();
    children[2].try_command("held").expect("room");
    gate.entered().await;
    outer.stop(Stop::Drain);
    settled().await;
    assert_eq!(outer.state(), ModuleState::Stopping);

    let before = Instant::now();
    let report = within(outer.shutdown(Stop::Now)).await;

    assert!(before.elapsed() < SECOND);
    assert_eq!(report.reason, SupervisorEnd::Requested(Stop::Now));
    let last = report.modules().last().expect("three of them");
    assert_eq!(last.reason, StopReason::Requested(Stop::Drain));
    assert_eq!(last.stats.interrupted, 1);
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_stopped_while_it_waits_for_its_own_restart_gives_back_what_its_children_have()
{
    let gate = Gate::opened();
    let backoff = Backoff::exponential(50 * SECOND, 50 * SECOND);
    let mut outer = Supervisor::new("outer", Strategy::OneForOne).backoff(backoff);
    let inner = tree("inner", Strategy::OneForOne).intensity(0, SECOND);
    let children = nested(&gate, &mut outer, inner);
    let outer = outer.spawn();
    ask(&children[2]).await;
    crash(&children[1]).await;
    settled().await;
    assert_eq!(outer.children()[1].state, ModuleState::Restarting);
    let waiting = [1, 2].map(|index: usize| queued(children[index].request("waiting")));

    let report = within(outer.shutdown(Stop::AfterCurrent)).await;

    for waits in waiting {
        assert_eq!(reason(within(waits).await), SparkChannelError::ShuttingDown);
    }
    let returned: Vec<_> = report.modules().map(|m| m.stats.returned).collect();
    assert_eq!(returned, [0, 1, 1]);
}
