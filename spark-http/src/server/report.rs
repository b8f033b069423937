//! What a server counts, and the report made of it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// What became of everything a server accepted.
///
/// Every request is counted in exactly one of `served`, `abandoned`, `cut` and `unresponsive`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainReport {
    /// Connections accepted.
    pub connections: u64,
    /// Requests whose answer, with whatever status, was written out.
    pub served: u64,
    /// Requests answered 503 because the server was stopping; usually served ones, too.
    pub refused: u64,
    /// Requests whose client left, or whose connection broke, before the answer was written out.
    pub abandoned: u64,
    /// Requests dropped because the drain ended first.
    pub cut: u64,
    /// Requests that the end of the drain could not drop, because their handlers blocked their
    /// threads. They run on, and their connections with them, until those let go.
    pub unresponsive: u64,
    /// Connections that changed their protocol, WebSockets for instance. The request that asked
    /// for it is counted above as well.
    pub upgraded: u64,
    /// Of those, how many the end of the drain cut.
    pub upgraded_cut: u64,
    /// Whether it was the drain timeout that ended it.
    pub deadline_passed: bool,
}

/// What a server has counted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Connections accepted.
    pub connections: u64,
    /// Connections that are open.
    pub open: u64,
    /// Requests that have been answered, as far as is known. Each is counted in here, in `lost`, or
    /// is under way.
    pub served: u64,
    /// Requests answered 503 because the server was stopping; usually served ones, too.
    pub refused: u64,
    /// Requests whose answer was not written out to its end.
    pub lost: u64,
    /// Connections that changed their protocol.
    pub upgraded: u64,
}

/// The counts of a server that runs.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) connections: AtomicU64,
    closed: AtomicU64,
    /// Requests whose head came in whole.
    pub(super) begun: AtomicU64,
    pub(super) served: AtomicU64,
    pub(super) refused: AtomicU64,
    /// Not answered completely: abandoned, or cut.
    pub(super) lost: AtomicU64,
    pub(super) upgraded: AtomicU64,
    pub(super) upgraded_cut: AtomicU64,
    /// Of the lost ones, those lost before the connections were cut.
    abandoned: AtomicU64,
}

/// Counts a connection as closed when dropped.
pub(super) struct Open(Arc<Counts>);

// === impl DrainReport ===

impl fmt::Display for DrainReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            connections,
            served,
            refused,
            abandoned,
            cut,
            unresponsive,
            upgraded,
            upgraded_cut,
            deadline_passed,
        } = self;
        write!(
            f,
            "connections={connections} served={served} refused={refused} abandoned={abandoned} \
             cut={cut} unresponsive={unresponsive} upgraded={upgraded} \
             upgraded_cut={upgraded_cut} deadline_passed={deadline_passed}"
        )
    }
}

// === impl Counts ===

impl Counts {
    /// What is lost from now on was cut.
    pub(super) fn before_cut(&self) {
        let lost = self.lost.load(Ordering::Relaxed);
        self.abandoned.store(lost, Ordering::Relaxed);
    }

    /// The report, once every connection has ended or been given up.
    pub(super) fn report(&self, deadline_passed: bool) -> DrainReport {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let abandoned = read(&self.abandoned);
        // Each once: a connection that was given up may end in between.
        let (served, lost) = (read(&self.served), read(&self.lost));
        DrainReport {
            connections: read(&self.connections),
            served,
            refused: read(&self.refused),
            abandoned,
            cut: lost.saturating_sub(abandoned),
            unresponsive: read(&self.begun).saturating_sub(served + lost),
            upgraded: read(&self.upgraded),
            upgraded_cut: read(&self.upgraded_cut),
            deadline_passed,
        }
    }
}

impl Counts {
    /// Counts a connection, which is open until what this returns is dropped.
    pub(super) fn open(self: &Arc<Self>) -> Open {
        bump(&self.connections);
        Open(Arc::clone(self))
    }

    pub(super) fn stats(&self) -> ServerStats {
        // Acquire and in this order, or more would be closed than were opened.
        let closed = self.closed.load(Ordering::Acquire);
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let connections = read(&self.connections);
        ServerStats {
            connections,
            open: connections.saturating_sub(closed),
            served: read(&self.served),
            refused: read(&self.refused),
            lost: read(&self.lost),
            upgraded: read(&self.upgraded),
        }
    }
}

// === impl Open ===

impl Drop for Open {
    fn drop(&mut self) {
        self.0.closed.fetch_add(1, Ordering::Release);
    }
}

pub(super) fn bump(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}
