//! The times that modules tell of their messages are those that their handlers measure
//! themselves, on random schedules and whatever kind of module it is.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use proptest::{collection::vec, prelude::*, test_runner::TestCaseError};
use spark_channel::{
    Access, Backoff, Child, Class, MessageStats, NativeHandler, Overflow, Priority,
    ReaderWriterHandler, SparkGenericModuleDispatcher, Stop, Strategy as Restarts, Supervisor,
    keyed, module, pool, reader_writer,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::schedules::{EXPECTED, quiet_expected_panics, virtual_time};

#[path = "support/schedules.rs"]
mod schedules;

const NAMES: [&str; 3] = ["ask", "tell", "list"];
const CAPACITY: usize = 1_024;

#[derive(Clone, Debug)]
struct Plan {
    kind: Kind,
    ops: Vec<Op>,
    end: Stop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Direct,
    Queued,
    SharedPool,
    RoundRobin,
    ByKey,
    Broadcast,
    ReaderWriter,
    Keyed,
    Supervised,
    Classes,
    ClassesDirect,
    ClassesInPool,
    ClassesInFrontOfPool,
    ClassesOfReads,
    ClassesOfKeys,
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Send {
        name: usize,
        key: u8,
        takes: u64,
        fate: Fate,
        how: How,
    },
    Pause(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Succeeds,
    Fails,
    Panics,
}

#[derive(Clone, Copy, Debug)]
enum How {
    Request,
    /// With a timeout, after which the caller goes away.
    Impatient(u64),
    Command,
    /// Several at once.
    Commands(usize),
}

#[derive(Clone, Debug)]
struct Order {
    name: usize,
    key: u8,
    takes: u64,
    fate: Fate,
    sent: Instant,
}

const HALT: Class = Class::new("halt")
    .priority(Priority::Control)
    .capacity(CAPACITY);
const HIGH: Class = Class::new("high")
    .priority(Priority::High)
    .capacity(CAPACITY);
const QUOTES: Class = Class::new("quotes")
    .capacity(2)
    .overflow(Overflow::DropOldest);

/// What handlers have measured.
#[derive(Clone, Default)]
struct Books(Arc<Mutex<BTreeMap<&'static str, Measured>>>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Measured {
    waited: Vec<Duration>,
    ran: Vec<Duration>,
    running: Vec<Instant>,
}

#[derive(Clone)]
struct Clerk(Books);

/// One who reads side by side.
struct Reader(Clerk);

struct Run<'a> {
    books: &'a Books,
    name: &'static str,
    since: Instant,
}

type Dispatcher = SparkGenericModuleDispatcher<Order, ()>;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_is_told_is_what_handlers_measure(plan in plan()) {
        quiet_expected_panics();
        virtual_time().block_on(carry_out(&plan))?;
    }
}

async fn carry_out(plan: &Plan) -> Result<(), TestCaseError> {
    let books = Books::default();
    let (dispatcher, stop) = start(plan.kind, &books);
    let mut callers = JoinSet::new();
    for op in &plan.ops {
        match *op {
            Op::Pause(ms) => {
                sleep(Duration::from_millis(ms)).await;
                let stats = dispatcher.message_stats().expect("asked for");
                prop_assert_eq!(books.running(), running(&stats));
            }
            Op::Send {
                name,
                key,
                takes,
                fate,
                how,
            } => {
                let order = move || Order {
                    name,
                    key,
                    takes,
                    fate,
                    sent: Instant::now(),
                };
                callers.spawn(send(dispatcher.clone(), order, how));
            }
        }
    }
    timeout(Duration::from_secs(60), stop(plan.end))
        .await
        .expect("it ends");
    while let Some(caller) = callers.join_next().await {
        caller.expect("a caller does not panic");
    }
    let stats = dispatcher.message_stats().expect("asked for");
    prop_assert!(stats.current.is_empty(), "{:?}", stats.current);
    let told: Vec<_> = stats.by_name.iter().map(|one| one.name).collect();
    let measured = books.0.lock().expect("no panic under it");
    prop_assert_eq!(told, measured.keys().copied().collect::<Vec<_>>());
    for (told, measured) in stats.by_name.iter().zip(measured.values()) {
        for (told, measured) in [
            (told.waiting, &measured.waited),
            (told.handling, &measured.ran),
        ] {
            prop_assert_eq!(told.count, measured.len() as u64);
            prop_assert_eq!(told.total, measured.iter().sum());
            prop_assert_eq!(told.max, measured.iter().max().copied().unwrap_or_default());
        }
    }
    Ok(())
}

async fn send(dispatcher: Dispatcher, order: impl Fn() -> Order, how: How) {
    match how {
        How::Request => drop(dispatcher.request(order()).await),
        How::Impatient(ms) => {
            let limit = Duration::from_millis(ms);
            drop(dispatcher.request(order()).timeout(limit).await);
        }
        How::Command => drop(dispatcher.command(order()).await),
        How::Commands(count) => {
            let orders: Vec<_> = (0..count).map(|_| order()).collect();
            drop(dispatcher.command_all(orders).await);
        }
    }
}

type Ending = std::pin::Pin<Box<dyn Future<Output = ()>>>;

/// Starts a module of this kind; returns how to reach it, and how to stop it.
fn start(kind: Kind, books: &Books) -> (Dispatcher, Box<dyn FnOnce(Stop) -> Ending>) {
    let name = |order: &Order| NAMES[order.name];
    let clerk = Clerk(books.clone());
    let again = clerk.clone();
    let replicas = pool(2, move || again.clone())
        .capacity(CAPACITY)
        .message_names(name);
    let handle = match kind {
        Kind::Direct => module(clerk).capacity(CAPACITY).message_names(name).spawn(),
        Kind::Queued => module(clerk)
            .capacity(CAPACITY)
            .without_direct_calls()
            .message_names(name)
            .spawn(),
        Kind::SharedPool => replicas.spawn(),
        Kind::RoundRobin => replicas.round_robin().spawn(),
        Kind::ByKey => replicas.by_key(|order: &Order| order.key).spawn(),
        Kind::Broadcast => replicas.broadcast().spawn(),
        Kind::ReaderWriter => reader_writer(Reader(clerk))
            .readers(2)
            .capacity(CAPACITY)
            .message_names(name)
            .spawn(),
        Kind::Keyed => keyed(|order: &Order| order.key, move |_| clerk.clone())
            .live_max(2)
            .idle_timeout(Duration::from_millis(3))
            .capacity(CAPACITY)
            .message_names(name)
            .spawn()
            .into_module(),
        Kind::Classes => module(clerk)
            .capacity(CAPACITY)
            .without_direct_calls()
            .classify(classify)
            .message_names(name)
            .spawn(),
        Kind::ClassesDirect => module(clerk)
            .capacity(CAPACITY)
            .classify(classify)
            .message_names(name)
            .spawn(),
        Kind::ClassesInPool => replicas.classify(classify).spawn(),
        Kind::ClassesInFrontOfPool => replicas.least_loaded().classify(classify).spawn(),
        Kind::ClassesOfReads => reader_writer(Reader(clerk))
            .readers(2)
            .capacity(CAPACITY)
            .classify(classify)
            .message_names(name)
            .spawn(),
        Kind::ClassesOfKeys => keyed(|order: &Order| order.key, move |_| clerk.clone())
            .live_max(2)
            .capacity(CAPACITY)
            .classify(classify)
            .message_names(name)
            .spawn()
            .into_module(),
        Kind::Supervised => {
            let mut tree = Supervisor::new("tree", Restarts::OneForOne)
                .unlimited()
                .backoff(Backoff::exponential(
                    Duration::from_millis(2),
                    Duration::from_millis(4),
                ));
            let child = Child::new(move || clerk.clone())
                .capacity(CAPACITY)
                .message_names(name);
            let dispatcher = tree.child(child);
            let tree = tree.spawn();
            let end = move |stop| -> Ending {
                Box::pin(async move {
                    tree.shutdown(stop).await;
                })
            };
            return (dispatcher, Box::new(end));
        }
    };
    let dispatcher = handle.dispatcher();
    let end = move |stop| -> Ending {
        Box::pin(async move {
            handle.shutdown(stop).await;
        })
    };
    (dispatcher, Box::new(end))
}

fn classify(order: &Order) -> Class {
    match order.key {
        0 => HALT,
        1 => HIGH,
        2 => QUOTES.conflate(&order.name),
        _ => Class::DEFAULT,
    }
}

/// The names and ages of what is said to run, the oldest first.
fn running(stats: &MessageStats) -> Vec<(Duration, &'static str)> {
    let current = stats.current.iter().map(|one| (one.age, one.name));
    let mut current: Vec<_> = current.collect();
    assert!(current.is_sorted_by(|one, next| one.0 >= next.0));
    current.sort_unstable();
    current
}

// === impl Books ===

impl Books {
    fn begin(&self, order: &Order) -> Run<'_> {
        let (name, since) = (NAMES[order.name], Instant::now());
        let mut books = self.0.lock().expect("no panic under it");
        let measured = books.entry(name).or_default();
        measured.waited.push(since - order.sent);
        measured.running.push(since);
        Run {
            books: self,
            name,
            since,
        }
    }

    fn running(&self) -> Vec<(Duration, &'static str)> {
        let now = Instant::now();
        let books = self.0.lock().expect("no panic under it");
        let ages = |(name, measured): (&&'static str, &Measured)| {
            let name = *name;
            let ages = measured.running.clone().into_iter();
            ages.map(move |since| (now - since, name))
        };
        let mut running: Vec<_> = books.iter().flat_map(ages).collect();
        running.sort_unstable();
        running
    }
}

// === impl Run ===

impl Drop for Run<'_> {
    fn drop(&mut self) {
        let mut books = self.books.0.lock().expect("no panic under it");
        let measured = books.entry(self.name).or_default();
        measured.ran.push(self.since.elapsed());
        let at = measured.running.iter().position(|one| *one == self.since);
        measured.running.swap_remove(at.expect("it runs"));
    }
}

// === impl Clerk ===

impl Clerk {
    async fn work(&self, order: Order) -> eyre::Result<()> {
        let _run = self.0.begin(&order);
        if order.takes > 0 {
            sleep(Duration::from_millis(order.takes)).await;
        }
        assert!(order.fate != Fate::Panics, "{EXPECTED}");
        eyre::ensure!(order.fate != Fate::Fails, "expected failure");
        Ok(())
    }
}

impl NativeHandler for Clerk {
    type Message = Order;
    type Response = ();
    type Error = eyre::Report;

    async fn handle_request(&mut self, order: Order) -> eyre::Result<()> {
        self.work(order).await
    }

    async fn handle_command(&mut self, order: Order) -> eyre::Result<()> {
        self.work(order).await
    }
}

impl ReaderWriterHandler for Reader {
    type Message = Order;
    type Response = ();
    type Error = eyre::Report;

    fn access(order: &Order) -> Access {
        if order.key < 3 {
            Access::Read
        } else {
            Access::Write
        }
    }

    async fn handle_read(&self, order: Order) -> eyre::Result<()> {
        self.0.work(order).await
    }

    async fn handle_write(&mut self, order: Order) -> eyre::Result<()> {
        self.0.work(order).await
    }

    async fn handle_command(&mut self, order: Order) -> eyre::Result<()> {
        self.0.work(order).await
    }
}

fn plan() -> impl Strategy<Value = Plan> {
    let kind = prop_oneof![
        Just(Kind::Direct),
        Just(Kind::Queued),
        Just(Kind::SharedPool),
        Just(Kind::RoundRobin),
        Just(Kind::ByKey),
        Just(Kind::Broadcast),
        Just(Kind::ReaderWriter),
        Just(Kind::Keyed),
        Just(Kind::Supervised),
        Just(Kind::Classes),
        Just(Kind::ClassesDirect),
        Just(Kind::ClassesInPool),
        Just(Kind::ClassesInFrontOfPool),
        Just(Kind::ClassesOfReads),
        Just(Kind::ClassesOfKeys),
    ];
    let end = prop_oneof![
        2 => Just(Stop::Drain),
        1 => Just(Stop::AfterCurrent),
        1 => Just(Stop::Now)
    ];
    (kind, vec(op(), 0..24), end).prop_map(|(kind, ops, end)| Plan { kind, ops, end })
}

fn op() -> impl Strategy<Value = Op> {
    let takes = prop_oneof![Just(0), 1..6_u64];
    let fate = prop_oneof![
        8 => Just(Fate::Succeeds),
        1 => Just(Fate::Fails),
        1 => Just(Fate::Panics)
    ];
    let how = prop_oneof![
        3 => Just(How::Request),
        1 => (0..8_u64).prop_map(How::Impatient),
        2 => Just(How::Command),
        1 => (0..4_usize).prop_map(How::Commands),
    ];
    prop_oneof![
        4 => (0..NAMES.len(), 0..5_u8, takes, fate, how).prop_map(|(name, key, takes, fate, how)| {
            Op::Send { name, key, takes, fate, how }
        }),
        1 => (0..9_u64).prop_map(Op::Pause),
    ]
}
