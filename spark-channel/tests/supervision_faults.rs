//! Supervision where more goes wrong than one message: panics in hooks and destructors,
//! siblings that wait for each other, a supervisor that is late, and settings without an end.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use spark_channel::{
    Backoff, Child, ModuleState, NativeHandler, Restart, SparkChannelError,
    SparkGenericModuleDispatcher, Stop, StopReason, Strategy, Supervisor, SupervisorEnd,
};
use tokio::{runtime, time::Instant};

use crate::{
    support::{Gate, Log, Runner, job, queued, reason, within},
    world::*,
};

mod support;
#[path = "supervision/world.rs"]
mod world;

// --- panics outside of messages

#[derive(Clone, Copy, PartialEq)]
enum Panics {
    Stopped,
    Dropped,
    GivenBack,
}

/// Panics in one of its hooks, or in its destructor, each time.
struct Rude {
    panics: Panics,
    generation: usize,
    log: Log,
}

impl Rude {
    fn child(panics: Panics, log: &Log) -> Child<Self> {
        let (generations, log) = (AtomicUsize::new(0), log.clone());
        let make = move || Self {
            panics,
            generation: generations.fetch_add(1, Ordering::Relaxed) + 1,
            log: log.clone(),
        };
        Child::new(make).name("rude")
    }

    fn panic_at(&self, at: Panics) {
        assert!(self.panics != at, "told to panic");
    }
}

impl NativeHandler for Rude {
    type Message = &'static str;
    type Response = (usize, usize);
    type Error = eyre::Report;

    async fn handle_request(&mut self, message: &'static str) -> eyre::Result<(usize, usize)> {
        assert!(message != "panic", "told to panic");
        Ok((self.generation, 1))
    }

    async fn handle_command(&mut self, message: &'static str) -> eyre::Result<()> {
        self.log.push(message);
        Ok(())
    }

    async fn stopped(&mut self) {
        tokio::task::yield_now().await;
        self.panic_at(Panics::Stopped);
    }

    async fn undelivered(&mut self, command: &'static str) {
        self.log.push(format!("undelivered {command}"));
        self.panic_at(Panics::GivenBack);
    }
}

impl Drop for Rude {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.panic_at(Panics::Dropped);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_sibling_that_panics_while_it_leaves_comes_back_with_the_others() {
    for panics in [Panics::Stopped, Panics::Dropped] {
        let world = World::new();
        let mut tree = at_once(Strategy::OneForAll);
        let a = tree.child(world.child("a"));
        let rude = tree.child(Rude::child(panics, &world.log));
        let tree = tree.spawn();
        all_up(&[a.clone(), rude.clone()]).await;

        crash(&a).await;
        settled().await;

        assert_eq!(all_up(&[a, rude]).await, [2, 2]);
        let report = within(tree.shutdown(Stop::Drain)).await;
        // The sibling's own panic is not one more failure.
        assert_eq!(report.restarts, 1);
        assert_eq!(module(&report, 1).stats.accounted(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_whose_destructor_panics_is_replaced_all_the_same() {
    let log = Log::default();
    let mut tree = at_once(Strategy::OneForOne);
    let rude = tree.child(Rude::child(Panics::Dropped, &log));
    let tree = tree.spawn();

    for generation in 1..5 {
        assert_eq!(ask(&rude).await.0, generation);
        crash(&rude).await;
    }

    let report = within(tree.shutdown(Stop::Drain)).await;
    assert_eq!(module(&report, 0).stats.accounted(), 8);
}

#[tokio::test(start_paused = true)]
async fn each_command_is_given_back_once_though_taking_it_back_panics() {
    let log = Log::default();
    let mut tree = Supervisor::new("tree", Strategy::OneForOne);
    let rude = tree.child(Rude::child(Panics::GivenBack, &log));
    let tree = tree.spawn();
    crash(&rude).await;
    for command in ["one", "two", "three"] {
        rude.try_command(command).expect("room");
    }

    let report = within(tree.shutdown(Stop::AfterCurrent)).await;

    assert_eq!(
        log.lines(),
        ["undelivered one", "undelivered two", "undelivered three"]
    );
    let stats = module(&report, 0).stats;
    assert_eq!((stats.undelivered, stats.accounted()), (3, 4));
}

#[tokio::test(start_paused = true)]
async fn a_factory_that_panics_for_what_is_given_back_loses_no_account() {
    let world = World::new();
    let mut tree = Supervisor::new("tree", Strategy::OneForOne);
    let child = tree.child(world.child("a"));
    let tree = tree.spawn();
    crash(&child).await;
    world.will_be_ill("a", Start::PanicsInTheFactory, 2);
    for command in ["one", "two", "three"] {
        child.try_command(command).expect("room");
    }
    world.news();

    let report = within(tree.shutdown(Stop::AfterCurrent)).await;

    let lines = ["a undelivered three", "a stops", "a dropped"];
    assert_eq!(world.news(), lines);
    let stats = module(&report, 0).stats;
    assert_eq!((stats.undelivered, stats.accounted()), (3, 4));
}

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
async fn a_sibling_that_waits_for_the_one_that_failed_holds_up_the_restart_for_its_own_time_only() {
    let mut tree = at_once(Strategy::OneForAll);
    let a = tree.child(Child::new(|| Runner).name("a"));
    let b = tree.child(Child::new(|| Runner).name("b").shutdown_timeout(2 * SECOND));
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_wait_for_their_restart_drain_all_they_have_between_them() {
    for _ in 0..200 {
        let mut tree = Supervisor::new("tree", Strategy::OneForAll).unlimited();
        let pool = tree.child(Child::pool(2, || Runner));
        let tree = tree.spawn();
        let crashed = within(pool.request(job(async { panic!("told to panic") }))).await;
        assert!(crashed.is_err());
        for _ in 0..20 {
            pool.try_command(job(async {
                tokio::task::yield_now().await;
                Ok(1)
            }))
            .expect("room");
        }

        let report = within(tree.shutdown(Stop::Drain)).await;

        let stats = module(&report, 0).stats;
        assert_eq!((stats.undelivered, stats.handled), (0, 20));
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

// --- kinds, once more

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_beside_each_other_are_all_answered_while_everything_restarts() {
    type Runners = SparkGenericModuleDispatcher<support::Job, u64>;

    async fn call(to: [Runners; 2], caller: usize) -> [u64; 2] {
        let mut accepted = [0, 0];
        for round in 0..300 {
            let which = (caller + round) % 2;
            let work = if round % 29 == caller {
                job(async { panic!("told to panic") })
            } else if round % 3 == 0 {
                job(async {
                    tokio::task::yield_now().await;
                    Ok(1)
                })
            } else {
                job(async { Ok(2) })
            };
            // The answer may be a panic; that there is one is the point.
            let _ = within(to[which].request(work)).await;
            accepted[which] += 1;
        }
        accepted
    }

    let mut tree = at_once(Strategy::OneForAll).unlimited();
    let runners = ["a", "b"].map(|name| tree.child(Child::new(|| Runner).name(name)));
    let tree = tree.spawn();
    let callers: Vec<_> = (0..4)
        .map(|caller| tokio::spawn(call(runners.clone(), caller)))
        .collect();
    let mut accepted = [0, 0];
    for caller in callers {
        let its = within(caller).await.expect("no panic");
        accepted = [accepted[0] + its[0], accepted[1] + its[1]];
    }

    let report = within(tree.shutdown(Stop::Drain)).await;

    let accounted = [0, 1].map(|child| module(&report, child).stats.accounted());
    assert_eq!(accounted, accepted);
    assert!(report.restarts > 10);
}
