//! Supervision: children that fail are started again at the same address, with what
//! was queued, as often and as soon as their supervisor says.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use spark_channel::{
    Backoff, Child, ChildFailure, ChildReport, ModuleState, NativeHandler, Report, Restart,
    SparkChannelCancellationToken, SparkChannelError, SparkGenericModuleDispatcher,
    SparkGenericModuleMessage, Stop, StopReason, Strategy, Supervisor, SupervisorEnd,
    SupervisorReport,
};
use tokio::time::Instant;

use crate::support::{Gate, Log, queued, reason, within};

mod support;

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// A module that logs its life. It panics at `panic`, and answers with the number of
/// the handler and the number of messages it has handled.
struct Worker {
    name: &'static str,
    generation: usize,
    handled: usize,
    world: World,
}

/// What the workers of a test share.
#[derive(Clone)]
struct World {
    log: Log,
    gate: Gate,
    /// Who fails to start, and how, one entry each time.
    ill: Arc<Mutex<Vec<(&'static str, Start)>>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Start {
    Fails,
    Panics,
    PanicsInTheFactory,
    Hangs,
}

type Dispatcher = SparkGenericModuleDispatcher<&'static str, (usize, usize)>;

// === impl World ===

impl World {
    fn new() -> Self {
        Self {
            log: Log::default(),
            gate: Gate::closed(),
            ill: Arc::default(),
        }
    }

    fn child(&self, name: &'static str) -> Child<Worker> {
        let (world, generations) = (self.clone(), Arc::new(AtomicUsize::new(0)));
        let make = move || {
            let generation = generations.fetch_add(1, Ordering::Relaxed) + 1;
            assert!(
                !world.takes_ill(name, Start::PanicsInTheFactory),
                "no {name} today"
            );
            Worker {
                name,
                generation,
                handled: 0,
                world: world.clone(),
            }
        };
        Child::new(make).name(name)
    }

    fn pool(&self, name: &'static str, replicas: usize) -> Child<Worker> {
        let (world, generations) = (self.clone(), Arc::new(AtomicUsize::new(0)));
        let make = move || Worker {
            name,
            generation: generations.fetch_add(1, Ordering::Relaxed) + 1,
            handled: 0,
            world: world.clone(),
        };
        Child::pool(replicas, make).name(name)
    }

    fn will_be_ill(&self, name: &'static str, how: Start, times: usize) {
        let mut ill = self.ill.lock().expect("no panic under it");
        ill.extend(std::iter::repeat_n((name, how), times));
    }

    fn takes_ill(&self, name: &str, how: Start) -> bool {
        let mut ill = self.ill.lock().expect("no panic under it");
        let found = ill.iter().position(|entry| *entry == (name, how));
        found.map(|index| ill.remove(index)).is_some()
    }

    /// What has been logged since it was last asked.
    fn news(&self) -> Vec<String> {
        self.log.take()
    }
}

// === impl Worker ===

impl Worker {
    fn log(&self, what: &str) {
        self.world.log.push(format!("{} {what}", self.name));
    }

    async fn handle(&mut self, message: &'static str) -> eyre::Result<()> {
        self.handled += 1;
        self.log(message);
        match message {
            "panic" => panic!("told to panic"),
            "hold" => self.world.gate.wait().await,
            "hang" => std::future::pending().await,
            _ => Ok(()),
        }
    }
}

impl NativeHandler for Worker {
    type Message = &'static str;
    type Response = (usize, usize);
    type Error = eyre::Report;

    async fn handle_request(&mut self, message: &'static str) -> eyre::Result<(usize, usize)> {
        self.handle(message).await?;
        Ok((self.generation, self.handled))
    }

    async fn handle_command(&mut self, message: &'static str) -> eyre::Result<()> {
        self.handle(message).await
    }

    async fn started(&mut self) -> eyre::Result<()> {
        self.log("starts");
        tokio::task::yield_now().await;
        assert!(!self.world.takes_ill(self.name, Start::Panics), "ill");
        eyre::ensure!(!self.world.takes_ill(self.name, Start::Fails), "ill");
        if self.world.takes_ill(self.name, Start::Hangs) {
            std::future::pending::<()>().await;
        }
        self.log("started");
        Ok(())
    }

    async fn stopped(&mut self) {
        self.log("stops");
        tokio::task::yield_now().await;
    }

    async fn undelivered(&mut self, command: &'static str) {
        self.log(&format!("undelivered {command}"));
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.log("dropped");
    }
}

// --- the shape of a test

fn at_once(strategy: Strategy) -> Supervisor {
    Supervisor::new("tree", strategy).backoff(Backoff::none())
}

/// Three children under `strategy`.
fn three(world: &World, tree: &mut Supervisor) -> [Dispatcher; 3] {
    ["a", "b", "c"].map(|name| tree.child(world.child(name)))
}

async fn ask(dispatcher: &Dispatcher) -> (usize, usize) {
    within(dispatcher.request("hello")).await.expect("handled")
}

/// Waits until each of them has a handler that answers.
async fn all_up(dispatchers: &[Dispatcher]) -> Vec<usize> {
    let mut generations = Vec::new();
    for dispatcher in dispatchers {
        generations.push(ask(dispatcher).await.0);
    }
    generations
}

/// Lets everything that needs no time happen.
async fn settled() {
    tokio::time::sleep(MS).await;
}

async fn crash(dispatcher: &Dispatcher) {
    let crashed = within(dispatcher.request("panic")).await;
    let text = "told to panic".into();
    assert_eq!(reason(crashed), SparkChannelError::Panicked { text });
}

fn module(report: &SupervisorReport, index: usize) -> &Report {
    match &report.children[index] {
        ChildReport::Module(report) => report,
        ChildReport::Supervisor(_) => panic!("a supervisor"),
    }
}

fn without_hellos(lines: Vec<String>) -> Vec<String> {
    lines
        .into_iter()
        .filter(|line| !line.ends_with("hello"))
        .collect()
}

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

// --- kinds of children

fn shutdown(child: &Dispatcher) -> SparkChannelCancellationToken {
    let token = SparkChannelCancellationToken::new();
    let message = SparkGenericModuleMessage::Shutdown(token.clone());
    assert!(child.sender.try_send(message).is_ok(), "room");
    token
}

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
