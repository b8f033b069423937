//! A world of workers that log their lives, for a supervisor to keep alive.

#![allow(dead_code, reason = "each test file uses another part of this one")]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use spark_channel::{
    Backoff, Child, ChildReport, NativeHandler, Report, SparkChannelCancellationToken,
    SparkChannelError, SparkGenericModuleDispatcher, SparkGenericModuleMessage, Strategy,
    Supervisor, SupervisorReport,
};

use crate::support::{Gate, Log, reason, within};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MS: Duration = Duration::from_millis(1);

/// A module that logs its life. It panics at `panic`, and answers with the number of
/// the handler and the number of messages it has handled.
pub(crate) struct Worker {
    name: &'static str,
    generation: usize,
    handled: usize,
    world: World,
}

/// What the workers of a test share.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) log: Log,
    pub(crate) gate: Gate,
    /// Who fails to start, and how, one entry each time.
    ill: Arc<Mutex<Vec<(&'static str, Start)>>>,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Start {
    Fails,
    Panics,
    PanicsInTheFactory,
    Hangs,
}

pub(crate) type Dispatcher = SparkGenericModuleDispatcher<&'static str, (usize, usize)>;

// === impl World ===

impl World {
    pub(crate) fn new() -> Self {
        Self {
            log: Log::default(),
            gate: Gate::closed(),
            ill: Arc::default(),
        }
    }

    pub(crate) fn child(&self, name: &'static str) -> Child<Worker> {
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

    pub(crate) fn pool(&self, name: &'static str, replicas: usize) -> Child<Worker> {
        let (world, generations) = (self.clone(), Arc::new(AtomicUsize::new(0)));
        let make = move || Worker {
            name,
            generation: generations.fetch_add(1, Ordering::Relaxed) + 1,
            handled: 0,
            world: world.clone(),
        };
        Child::pool(replicas, make).name(name)
    }

    pub(crate) fn will_be_ill(&self, name: &'static str, how: Start, times: usize) {
        let mut ill = self.ill.lock().expect("no panic under it");
        ill.extend(std::iter::repeat_n((name, how), times));
    }

    fn takes_ill(&self, name: &str, how: Start) -> bool {
        let mut ill = self.ill.lock().expect("no panic under it");
        let found = ill.iter().position(|entry| *entry == (name, how));
        found.map(|index| ill.remove(index)).is_some()
    }

    /// What has been logged since it was last asked.
    pub(crate) fn news(&self) -> Vec<String> {
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

pub(crate) fn at_once(strategy: Strategy) -> Supervisor {
    Supervisor::new("tree", strategy).backoff(Backoff::none())
}

/// Three children under `strategy`.
pub(crate) fn three(world: &World, tree: &mut Supervisor) -> [Dispatcher; 3] {
    ["a", "b", "c"].map(|name| tree.child(world.child(name)))
}

pub(crate) async fn ask(dispatcher: &Dispatcher) -> (usize, usize) {
    within(dispatcher.request("hello")).await.expect("handled")
}

/// Waits until each of them has a handler that answers.
pub(crate) async fn all_up(dispatchers: &[Dispatcher]) -> Vec<usize> {
    let mut generations = Vec::new();
    for dispatcher in dispatchers {
        generations.push(ask(dispatcher).await.0);
    }
    generations
}

/// Lets everything that needs no time happen.
pub(crate) async fn settled() {
    tokio::time::sleep(MS).await;
}

pub(crate) async fn crash(dispatcher: &Dispatcher) {
    let crashed = within(dispatcher.request("panic")).await;
    let text = "told to panic".into();
    assert_eq!(reason(crashed), SparkChannelError::Panicked { text });
}

/// Sends a shutdown message.
pub(crate) fn shutdown(child: &Dispatcher) -> SparkChannelCancellationToken {
    let token = SparkChannelCancellationToken::new();
    let message = SparkGenericModuleMessage::Shutdown(token.clone());
    assert!(child.sender.try_send(message).is_ok(), "room");
    token
}

pub(crate) fn module(report: &SupervisorReport, index: usize) -> &Report {
    match &report.children[index] {
        ChildReport::Module(report) => report,
        ChildReport::Supervisor(_) => panic!("a supervisor"),
    }
}

pub(crate) fn without_hellos(lines: Vec<String>) -> Vec<String> {
    lines
        .into_iter()
        .filter(|line| !line.ends_with("hello"))
        .collect()
}
