//! What is counted of each route: a few relaxed atomics per request.
//!
//! Invariants:
//!
//! 1. `begun` is bumped before a request's end is counted, and read after the ends, so that what
//!    is in flight is never negative.
//! 2. There is one set of counters per registered route, and one for all requests that reached
//!    none: what clients make up has no place of its own.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use http::StatusCode;
use tokio::time::Instant;

use crate::{Answer, ErrorAnswer};

/// The counters of one route.
#[derive(Debug, Default)]
pub(crate) struct RouteCounters {
    begun: AtomicU64,
    /// Ended with an answer, by the first digit of its status.
    classes: [AtomicU64; CLASSES.len()],
    /// Dropped before there was an answer.
    abandoned: AtomicU64,
    buckets: [AtomicU64; BOUNDS.len() + 1],
    /// All answered requests took this long together.
    nanos: AtomicU64,
}

/// What a route has counted so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RouteCounts {
    pub(crate) classes: [u64; CLASSES.len()],
    pub(crate) abandoned: u64,
    pub(crate) in_flight: u64,
    pub(crate) times: Times,
}

/// How long requests took from their route to the head of their answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Times {
    /// One per bound, and one for what took longer; not cumulative.
    pub(crate) buckets: [u64; BOUNDS.len() + 1],
    pub(crate) total: Duration,
}

/// A request under way. Dropped without an answer, it counts as abandoned.
pub(crate) struct Counting<'a> {
    counters: &'a RouteCounters,
    begun: Instant,
    answered: bool,
}

// === impl RouteCounters ===

impl RouteCounters {
    /// Counts a request that was refused before it reached a route.
    pub(crate) fn count_refused(&self, status: StatusCode) {
        bump(&self.begun);
        bump(&self.classes[class(status)]);
    }

    pub(crate) fn read(&self) -> RouteCounts {
        let classes = self.classes.each_ref().map(read);
        let abandoned = read(&self.abandoned);
        let ended = classes.iter().sum::<u64>() + abandoned;
        RouteCounts {
            classes,
            abandoned,
            in_flight: self.begun.load(Ordering::Acquire).saturating_sub(ended),
            times: Times {
                buckets: self.buckets.each_ref().map(read),
                total: Duration::from_nanos(read(&self.nanos)),
            },
        }
    }

    /// A request has reached the route.
    pub(crate) fn begin(&self) -> Counting<'_> {
        bump(&self.begun);
        Counting {
            counters: self,
            begun: Instant::now(),
            answered: false,
        }
    }
}

// === impl Times ===

#[cfg(feature = "dashboard")]
impl Times {
    pub(crate) fn add(&mut self, other: &Self) {
        for (bucket, more) in self.buckets.iter_mut().zip(other.buckets) {
            *bucket += more;
        }
        self.total += other.total;
    }

    /// What came after `earlier`.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let mut buckets = self.buckets;
        for (bucket, before) in buckets.iter_mut().zip(earlier.buckets) {
            *bucket = bucket.saturating_sub(before);
        }
        Self {
            buckets,
            total: self.total.saturating_sub(earlier.total),
        }
    }
}

// === impl Counting ===

impl Counting<'_> {
    /// Counts how the request ended.
    pub(crate) fn end(mut self, outcome: &Result<Answer, ErrorAnswer>) {
        let status = match outcome {
            Ok(answer) => answer.status(),
            Err(error) => error.status(),
        };
        self.answered_with(class(status));
    }

    fn answered_with(&mut self, class: usize) {
        let took = self.begun.elapsed();
        let counters = self.counters;
        let bucket = BOUNDS.partition_point(|bound| *bound < took);
        bump(&counters.buckets[bucket]);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        counters.nanos.fetch_add(nanos, Ordering::Relaxed);
        bump(&counters.classes[class]);
        self.answered = true;
    }
}

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        // A panic in user code is on its way to where it becomes an answer.
        if std::thread::panicking() {
            self.answered_with(FAULT);
        } else {
            bump(&self.counters.abandoned);
        }
    }
}

/// The index into [`CLASSES`].
fn class(status: StatusCode) -> usize {
    usize::from(status.as_u16() / 100 - 1).min(CLASSES.len() - 1)
}

fn bump(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

fn read(count: &AtomicU64) -> u64 {
    // Acquire, so that `begun` is not read before it.
    count.load(Ordering::Acquire)
}

/// The class of a panic's answer.
const FAULT: usize = 4;

pub(crate) const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// From what an idle module on the same machine takes to where people have given up.
pub(crate) const BOUNDS: [Duration; 17] = [
    Duration::from_micros(50),
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2_500),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_is_in_flight_until_it_is_answered_or_dropped() {
        let counters = RouteCounters::default();
        {
            let _waiting = counters.begin();
            assert_eq!(counters.read().in_flight, 1);
        }
        let answered = counters.begin();
        tokio::time::sleep(Duration::from_millis(5)).await;
        answered.end(&Ok(Answer::default()));
        counters.begin().end(&Err(ErrorAnswer::deadline_passed()));

        let counts = counters.read();
        assert_eq!(counts.classes, [0, 1, 0, 0, 1]);
        assert_eq!((counts.abandoned, counts.in_flight), (1, 0));
        assert_eq!(counts.times.buckets.iter().sum::<u64>(), 2);
        assert_eq!(counts.times.total, Duration::from_millis(5));
        // A bound belongs to its own bucket.
        assert_eq!(counts.times.buckets[6], 1);
    }
}
