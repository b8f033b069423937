//! What a module counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// What has become of everything a module accepted, as far as it has come.
///
/// Each accepted message is counted in exactly one of the fields that
/// [`accounted`](Self::accounted) adds up; what is missing from
/// it is still in the mailbox (`depth`), taken from it but not started, or running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Handlers that ran to their end, with whatever result.
    pub handled: u64,
    /// Of the handled ones, those that ended with an error.
    pub failed: u64,
    /// Messages whose handler panicked.
    pub panicked: u64,
    /// Handlers dropped while they ran: by [`Stop::Now`](crate::Stop::Now), at the
    /// deadline of a shutdown, or because their caller had gone and the module
    /// was built to [`drop_abandoned`](crate::ModuleBuilder::drop_abandoned).
    pub interrupted: u64,
    /// Requests answered [`ShuttingDown`](crate::SparkChannelError::ShuttingDown), or, by a
    /// [reader-writer module](crate::ReaderWriterHandler) that had accepted them,
    /// [`WouldDeadlock`](crate::SparkChannelError::WouldDeadlock) (unless their askers, who
    /// learn it at once, had gone before their turn), or, by a
    /// [keyed set](crate::keyed()), [`Unavailable`](crate::SparkChannelError::Unavailable).
    pub returned: u64,
    /// Commands handed to the handler's `undelivered` when the module stopped, or,
    /// once the deadline of its shutdown had passed, dropped without asking.
    pub undelivered: u64,
    /// Requests not started because their deadline had passed.
    pub expired: u64,
    /// Requests not started because their caller had gone.
    pub abandoned: u64,
    /// Messages dropped because their class was full, by its
    /// [`Overflow`](crate::Overflow) policy.
    pub dropped: u64,
    /// Commands replaced, before they started, by a newer one with the same
    /// [key](crate::Class::conflate).
    pub conflated: u64,
    /// [`Shutdown`](crate::SparkGenericModuleMessage::Shutdown) messages taken from the mailbox.
    pub shutdowns: u64,
    /// Panics of handlers and hooks, those outside of a message included.
    pub panics: u64,
    /// What the other replicas of a [broadcast](crate::ModuleBuilder::broadcast) pool
    /// did with commands that are counted above as what the first one did, whatever
    /// became of each.
    pub copies: u64,
    /// Times a handler was replaced by a new one from its factory.
    pub restarts: u64,
    /// Sends through a dispatcher that were refused, for whatever reason; they were
    /// not accepted.
    pub rejected: u64,
    /// Messages in the mailbox now, and in the queues of the replicas behind it, if
    /// they have any.
    pub depth: usize,
    /// The most messages seen waiting at once, looked at when messages are taken.
    pub high_water: usize,
    /// The mailbox's bound, in messages; with [classes](crate::ModuleBuilder::classify),
    /// that of the default class.
    pub capacity: usize,
}

/// One replica's counters. Only that replica writes them.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) handled: Counter,
    pub(crate) failed: Counter,
    pub(crate) panicked: Counter,
    pub(crate) interrupted: Counter,
    pub(crate) returned: Counter,
    pub(crate) undelivered: Counter,
    pub(crate) expired: Counter,
    pub(crate) abandoned: Counter,
    pub(crate) shutdowns: Counter,
    pub(crate) panics: Counter,
    pub(crate) copies: Counter,
    pub(crate) restarts: Counter,
    high_water: AtomicU64,
}

/// A counter with a single writer, so that a bump needs no locked instruction.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

// === impl Stats ===

impl Stats {
    /// Everything accepted whose fate is known, each message once.
    #[must_use]
    pub const fn accounted(&self) -> u64 {
        let outcomes = self.outcomes();
        let (mut sum, mut next) = (0, 0);
        while next < outcomes.len() {
            sum += outcomes[next].1;
            next += 1;
        }
        sum
    }

    /// What can become of an accepted message, by the names that metrics have for it, each
    /// with its count. Their sum is [`accounted`](Self::accounted).
    #[must_use]
    pub const fn outcomes(&self) -> [(&'static str, u64); 10] {
        [
            ("handled", self.handled),
            ("panicked", self.panicked),
            ("interrupted", self.interrupted),
            ("returned", self.returned),
            ("undelivered", self.undelivered),
            ("expired", self.expired),
            ("abandoned", self.abandoned),
            ("dropped", self.dropped),
            ("conflated", self.conflated),
            ("shutdown", self.shutdowns),
        ]
    }
}

// === impl Counters ===

impl Counters {
    #[inline]
    pub(crate) fn saw_depth(&self, depth: usize) {
        let depth = depth as u64;
        if depth > self.high_water.load(Ordering::Relaxed) {
            self.high_water.store(depth, Ordering::Relaxed);
        }
    }

    pub(crate) fn restarts(&self) -> u64 {
        self.restarts.value()
    }

    pub(crate) fn add_to(&self, stats: &mut Stats) {
        stats.handled += self.handled.value();
        stats.failed += self.failed.value();
        stats.panicked += self.panicked.value();
        stats.interrupted += self.interrupted.value();
        stats.returned += self.returned.value();
        stats.undelivered += self.undelivered.value();
        stats.expired += self.expired.value();
        stats.abandoned += self.abandoned.value();
        stats.shutdowns += self.shutdowns.value();
        stats.panics += self.panics.value();
        stats.copies += self.copies.value();
        stats.restarts += self.restarts();
        let high_water = self.high_water.load(Ordering::Relaxed);
        stats.high_water = stats
            .high_water
            .max(usize::try_from(high_water).unwrap_or(usize::MAX));
    }
}

// === impl Counter ===

impl Counter {
    #[inline]
    pub(crate) fn bump(&self) {
        self.0
            .store(self.0.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
