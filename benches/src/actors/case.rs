//! The cases: how each one drives a module, for any contender.

use std::{
    fmt::{self, Display},
    sync::Arc,
    time::Duration,
};

use tokio::{task::JoinHandle, time::Instant};

use super::{
    contender::{Contender, Threads},
    counting_allocator,
    workload::{Counter, FinishLine, MAILBOX_CAPACITY},
};

/// One column of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// Measured in time, in rounds, on one and on two threads.
    Timed(Timed),
    /// Counted with the allocator, once: what is counted is exact on one thread, and depends a little
    /// on who is idle when on two.
    Counted(Counted),
}

/// A case that is timed. The value is nanoseconds per operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timed {
    /// Requests of this many concurrent callers, each in a task of its own and waiting for the
    /// answer before it asks again. An operation is one answered request.
    Ask {
        /// How many callers.
        callers: u32,
    },
    /// Commands of this many producers, each in a task of its own. An operation is one *handled*
    /// command.
    Tell {
        /// How many producers.
        producers: u32,
    },
    /// Start a module, get its first answer, stop it and wait for its end. An operation is one
    /// module.
    Spawn,
}

/// A case that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Bytes allocated and still alive per idle module: its task, its mailbox, whatever it keeps
    /// after having answered one request.
    Memory,
    /// Allocations per answered request, in the steady state.
    AllocationsPerAsk,
    /// Allocations per handled command, in the steady state.
    AllocationsPerTell,
}

/// What one slice took.
#[derive(Debug, Clone, Copy)]
pub struct Slice {
    /// How many operations came before, to warm up.
    pub warm_up: u32,
    /// How many operations were timed. At least what the case can do at the smallest.
    pub operations: u32,
    /// How long they took together.
    pub elapsed: Duration,
}

// === impl Case ===

impl Case {
    /// All cases, in the order of the columns.
    pub const ALL: [Self; 9] = [
        Self::Timed(Timed::Ask { callers: 1 }),
        Self::Timed(Timed::Ask { callers: 64 }),
        Self::Timed(Timed::Ask { callers: 1024 }),
        Self::Timed(Timed::Tell { producers: 1 }),
        Self::Timed(Timed::Tell { producers: 4 }),
        Self::Timed(Timed::Spawn),
        Self::Counted(Counted::Memory),
        Self::Counted(Counted::AllocationsPerAsk),
        Self::Counted(Counted::AllocationsPerTell),
    ];
}

/// The name in `--case` and in JSON.
impl Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timed(timed) => timed.fmt(f),
            Self::Counted(Counted::Memory) => f.write_str("memory"),
            Self::Counted(Counted::AllocationsPerAsk) => f.write_str("allocations-ask"),
            Self::Counted(Counted::AllocationsPerTell) => f.write_str("allocations-tell"),
        }
    }
}

// === impl Timed ===

impl Display for Timed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ask { callers } => write!(f, "ask{callers}"),
            Self::Tell { producers } => write!(f, "tell{producers}"),
            Self::Spawn => f.write_str("spawn"),
        }
    }
}

// === impl Slice ===

impl Slice {
    /// Returns the nanoseconds per operation.
    pub fn nanoseconds(self) -> f64 {
        self.elapsed.as_secs_f64() * 1e9 / f64::from(self.operations)
    }
}

/// Runs a slice of about `operations` operations on a fresh runtime and a fresh module, after an
/// untimed tenth of it to warm up.
///
/// # Panics
///
/// Panics if the module has not done all the work.
pub fn time<C: Contender>(place: C, case: Timed, threads: Threads, operations: u32) -> Slice {
    match case {
        Timed::Ask { callers } => time_ask(place, callers, threads, operations),
        Timed::Tell { producers } => time_tell(place, producers, threads, operations),
        Timed::Spawn => time_spawn(place, threads, operations),
    }
}

// Apart from `time`, for who times a contender in one case only: each is a good deal to compile.

pub(super) fn time_ask<C: Contender>(
    place: C,
    callers: u32,
    threads: Threads,
    operations: u32,
) -> Slice {
    place.run(threads, move |place| ask::<C>(place, callers, operations))
}

pub(super) fn time_tell<C: Contender>(
    place: C,
    producers: u32,
    threads: Threads,
    operations: u32,
) -> Slice {
    place.run(threads, move |place| {
        tell::<C>(place, producers, operations)
    })
}

pub(super) fn time_spawn<C: Contender>(place: C, threads: Threads, operations: u32) -> Slice {
    place.run(threads, move |place| spawn::<C>(place, operations))
}

/// Counts over `operations` modules, requests or commands, as long as nothing else in the process
/// allocates meanwhile.
pub fn count<C: Contender>(place: C, case: Counted, threads: Threads, operations: u32) -> f64 {
    match case {
        Counted::Memory => place.run(threads, move |place| memory::<C>(place, operations)),
        Counted::AllocationsPerAsk => place.run(threads, move |place| {
            allocations_per_ask::<C>(place, operations)
        }),
        Counted::AllocationsPerTell => place.run(threads, move |place| {
            allocations_per_tell::<C>(place, operations)
        }),
    }
}

// `place` is owned by these futures, rather than borrowed, because they are spawned.

async fn ask<C: Contender>(place: C, callers: u32, operations: u32) -> Slice {
    let module = place.start(Counter::new(Arc::default())).await;
    let warm_up = (operations / callers / 10).max(1);
    let rounds = (operations / callers).max(1);

    ask_concurrently::<C>(&module, callers, warm_up).await;
    let start = Instant::now();
    ask_concurrently::<C>(&module, callers, rounds).await;
    let elapsed = start.elapsed();

    stop_checked::<C>(module, callers * (warm_up + rounds)).await;
    Slice {
        warm_up: callers * warm_up,
        operations: callers * rounds,
        elapsed,
    }
}

async fn ask_concurrently<C: Contender>(module: &C::Module, callers: u32, rounds: u32) {
    let tasks = (0..callers).map(|_| {
        let handle = C::handle(module);
        C::spawn(async move {
            for _ in 0..rounds {
                C::ask(&handle, 1).await;
            }
        })
    });
    join(tasks.collect()).await;
}

async fn tell<C: Contender>(place: C, producers: u32, operations: u32) -> Slice {
    let finish_line = Arc::new(FinishLine::default());
    let module = place.start(Counter::new(Arc::clone(&finish_line))).await;
    // So that the module has started, and has set its capacity where that is its own business.
    C::ask(&C::handle(&module), 0).await;
    let warm_up = (operations / BURST / 10).max(1);
    let bursts = (operations / BURST).max(1);

    for _ in 0..warm_up {
        tell_burst::<C>(&module, &finish_line, producers).await;
    }
    let start = Instant::now();
    for _ in 0..bursts {
        tell_burst::<C>(&module, &finish_line, producers).await;
    }
    let elapsed = start.elapsed();

    stop_checked::<C>(module, BURST * (warm_up + bursts)).await;
    Slice {
        warm_up: BURST * warm_up,
        operations: BURST * bursts,
        elapsed,
    }
}

async fn tell_burst<C: Contender>(module: &C::Module, finish_line: &FinishLine, producers: u32) {
    let share = BURST / producers;
    finish_line.expect_more(share * producers);
    let tasks = (0..producers).map(|_| {
        let handle = C::handle(module);
        C::spawn(async move {
            for _ in 0..share {
                C::tell(&handle, 1).await;
            }
        })
    });
    join(tasks.collect()).await;
    finish_line.reached().await;
}

async fn spawn<C: Contender>(place: C, operations: u32) -> Slice {
    let modules = operations.max(1);
    let warm_up = (modules / 10).max(1);
    spawn_in_turn(&place, warm_up).await;
    let start = Instant::now();
    spawn_in_turn(&place, modules).await;
    Slice {
        warm_up,
        operations: modules,
        elapsed: start.elapsed(),
    }
}

async fn spawn_in_turn<C: Contender>(place: &C, modules: u32) {
    let finish_line = Arc::new(FinishLine::default());
    for _ in 0..modules {
        let module = place.start(Counter::new(Arc::clone(&finish_line))).await;
        C::ask(&C::handle(&module), 1).await;
        C::stop(module).await;
    }
}

async fn memory<C: Contender>(place: C, modules: u32) -> f64 {
    let finish_line = Arc::new(FinishLine::default());
    // One first, so that what a framework sets up once is not charged to a module.
    let first = place.start(Counter::new(Arc::clone(&finish_line))).await;
    C::ask(&C::handle(&first), 1).await;
    // Room for all of them beforehand, so that the growing of this vector is not counted.
    let mut running = Vec::with_capacity(modules as usize);

    let window = counting_allocator::Window::open();
    for _ in 0..modules {
        let module = place.start(Counter::new(Arc::clone(&finish_line))).await;
        C::ask(&C::handle(&module), 1).await;
        running.push(module);
    }
    let tally = window.close();

    running.push(first);
    for module in running {
        C::stop(module).await;
    }
    tally.live_bytes as f64 / f64::from(modules)
}

async fn allocations_per_ask<C: Contender>(place: C, operations: u32) -> f64 {
    let module = place.start(Counter::new(Arc::default())).await;
    let handle = C::handle(&module);
    for _ in 0..operations {
        C::ask(&handle, 1).await;
    }

    let window = counting_allocator::Window::open();
    for _ in 0..operations {
        C::ask(&handle, 1).await;
    }
    let tally = window.close();

    drop(handle);
    stop_checked::<C>(module, 2 * operations).await;
    tally.allocations as f64 / f64::from(operations)
}

async fn allocations_per_tell<C: Contender>(place: C, operations: u32) -> f64 {
    let finish_line = Arc::new(FinishLine::default());
    let module = place.start(Counter::new(Arc::clone(&finish_line))).await;
    let handle = C::handle(&module);
    C::ask(&handle, 0).await;
    let bursts = (operations / BURST).max(1);

    // From this very task: a task for the producer would be an allocation of ours.
    let tell_bursts = async || {
        for _ in 0..bursts {
            finish_line.expect_more(BURST);
            for _ in 0..BURST {
                C::tell(&handle, 1).await;
            }
            finish_line.reached().await;
        }
    };
    tell_bursts().await;
    let window = counting_allocator::Window::open();
    tell_bursts().await;
    let tally = window.close();

    drop(handle);
    stop_checked::<C>(module, 2 * BURST * bursts).await;
    tally.allocations as f64 / f64::from(BURST * bursts)
}

/// Stops a module after checking that its sum is the number of ones it was sent.
pub(super) async fn stop_checked<C: Contender>(module: C::Module, expected: u32) {
    let sum = C::ask(&C::handle(&module), 0).await;
    assert_eq!(
        sum,
        u64::from(expected),
        "{} lost or repeated work",
        C::NAME
    );
    C::stop(module).await;
}

async fn join(tasks: Vec<JoinHandle<()>>) {
    for task in tasks {
        task.await
            .expect("a panic in a caller has been printed and ends the program");
    }
}

/// How many commands are sent before the producers wait until all have been handled.
///
/// Several times the capacity of a mailbox, so that backpressure is part of what bounded contenders
/// pay; and few enough that the queue of an unbounded one stays in the cache instead of growing for
/// as long as the slice lasts. Divisible by the numbers of producers.
#[expect(clippy::cast_possible_truncation, reason = "8192 fits")]
const BURST: u32 = 8 * MAILBOX_CAPACITY as u32;
