//! Rounds, in which everybody has a turn.

use std::{
    fmt::{self, Display},
    hint::black_box,
    sync::Barrier,
    thread,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    contender::{Entrant, Timeable},
    options::Options,
};
use crate::{order::Order, statistics::Summary};

/// A share of writes on some threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// How many threads work at the same time.
    pub threads: usize,
    /// How many of a hundred operations write.
    pub writes_percent: usize,
}

/// What was measured of one contender in one case.
#[derive(Debug, Clone)]
pub struct Cell {
    /// Whom it is about.
    pub entrant: &'static Entrant,
    /// In which case.
    pub case: Case,
    /// Nanoseconds per operation of a thread.
    pub value: Summary,
    /// Times that of the first contender in the same round.
    pub ratio: Summary,
}

// === impl Case ===

impl Case {
    /// All of them, for these numbers of threads.
    pub fn all(threads: &[usize]) -> Vec<Self> {
        let shares = [0, 10, 50];
        let cases = shares.into_iter().flat_map(|writes_percent| {
            threads.iter().map(move |&threads| Self {
                threads,
                writes_percent,
            })
        });
        cases.collect()
    }
}

impl Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.threads == 1 { "" } else { "s" };
        let Self {
            threads,
            writes_percent,
        } = self;
        write!(f, "{writes_percent} % writes, {threads} thread{plural}")
    }
}

/// Measures every case.
///
/// # Panics
///
/// Panics if a contender loses a key.
pub fn measure(options: &Options, progress: impl Fn(&Case)) -> Vec<Cell> {
    let keys: Vec<String> = (0..KEYS).map(|n| format!("user/{n}/hits")).collect();
    let made: Vec<_> = options.entrants.iter().map(|e| (e.make)(&keys)).collect();
    let mut order = Order::default();
    let mut cells = Vec::new();
    for case in Case::all(&options.threads) {
        progress(&case);
        let works: Vec<_> = (0..case.threads)
            .map(|_| work(&mut order, case, options.operations))
            .collect();
        let mut times = vec![Vec::new(); made.len()];
        for round in 0..=options.rounds {
            for index in order.shuffled(made.len()) {
                let time = slice(&*made[index], &keys, &works);
                // The first round is to warm up.
                if round != 0 {
                    times[index].push(time.as_secs_f64() * 1e9 / options.operations as f64);
                }
            }
        }
        for (index, entrant) in options.entrants.iter().enumerate() {
            cells.push(Cell {
                entrant,
                case,
                value: Summary::of(&times[index]),
                ratio: Summary::of_ratios(&times[index], &times[0]),
            });
        }
    }
    cells
}

/// What a thread does: which key is next, and what is written there.
fn work(order: &mut Order, case: Case, operations: usize) -> Vec<(usize, Option<i64>)> {
    let mut keys = Vec::with_capacity(operations + KEYS);
    while keys.len() < operations {
        keys.extend(order.shuffled(KEYS));
    }
    keys.truncate(operations);
    let shares = order.shuffled(100);
    let written = shares.into_iter().map(|share| share < case.writes_percent);
    let mut written = written.collect::<Vec<_>>().into_iter().cycle();
    let value = |key: usize| i64::try_from(key).expect("keys are few");
    let work = keys.into_iter().map(|key| {
        let writes = written.next().unwrap_or(false);
        (key, writes.then(|| value(key)))
    });
    work.collect()
}

/// From when all threads may begin to when the last has ended.
fn slice(
    contender: &dyn Timeable,
    keys: &[String],
    works: &[Vec<(usize, Option<i64>)>],
) -> Duration {
    let barrier = Barrier::new(works.len());
    let spans: Vec<(Instant, Instant)> = thread::scope(|scope| {
        let threads: Vec<_> = works
            .iter()
            .map(|work| {
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    let start = Instant::now();
                    black_box(contender.run(keys, work));
                    (start, Instant::now())
                })
            })
            .collect();
        let spans = threads
            .into_iter()
            .map(|thread| thread.join().expect("no thread panics"));
        spans.collect()
    });
    let start = spans.iter().map(|(start, _)| *start).min();
    let end = spans.iter().map(|(_, end)| *end).max();
    match (start, end) {
        (Some(start), Some(end)) => end - start,
        _ => Duration::ZERO,
    }
}

/// So few that they stay in a processor's second cache: what is compared is code, not memory.
const KEYS: usize = 1024;
