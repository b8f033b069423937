//! Supervision when user code panics outside of a message: in hooks, in destructors and
//! in factories that are called to take something back.

use std::sync::atomic::{AtomicUsize, Ordering};

use spark_channel::{Child, NativeHandler, Stop, Strategy, Supervisor};

use crate::{
    support::{Log, within},
    world::*,
};

mod support;
#[path = "supervision/world.rs"]
mod world;

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
        self.log.push("stops");
        tokio::time::sleep(10 * MS).await;
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
        tokio::time::sleep(SECOND).await;

        assert_eq!(all_up(&[a, rude]).await, [2, 2]);
        let report = within(tree.shutdown(Stop::Drain)).await;
        // The sibling's own panic is not one more failure.
        assert_eq!(report.restarts, 1);
        assert_eq!(module(&report, 1).stats.accounted(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_panics_while_a_sibling_leaves_is_not_run_again_by_the_stop() {
    let world = World::new();
    let mut tree = at_once(Strategy::OneForAll);
    let a = tree.child(world.child("a"));
    let rude = tree.child(Rude::child(Panics::Stopped, &world.log));
    let tree = tree.spawn();
    all_up(&[a.clone(), rude]).await;
    crash(&a).await;
    settled().await;

    within(tree.shutdown(Stop::AfterCurrent)).await;

    let lines = world.news();
    assert_eq!(lines.iter().filter(|line| *line == "stops").count(), 1);
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
        [
            "undelivered one",
            "undelivered two",
            "undelivered three",
            "stops"
        ]
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
