//! What a connection owes its client, and for how long it may go on like this. Knows the clock
//! only as an argument.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use http::Extensions;
use tokio::time::Instant;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{
    streams::{Pace, Streams},
    wire::Wire,
};
use crate::{
    body::Unread,
    due,
    server::{
        exchange::{Entry, Ledger, Shared},
        limits::Limits,
    },
};

/// Shared by a connection's driver, its socket and its streams.
#[derive(Clone)]
pub(super) struct Account(Arc<Mutex<State>>);

struct State {
    shared: Arc<Shared>,
    wire: Wire,
    /// Requests whose answer is not yet in hyper's hands, whole.
    under_way: usize,
    /// Answers that were, whole.
    answered: u64,
    /// Of those, the ones whose ends were written out.
    served: u64,
    /// What was written waits in the transport.
    is_unflushed: bool,
    /// Keeps the server's drain waiting while the client is owed something.
    busy: Option<TaskTrackerToken>,
    /// Whether there has been a request.
    has_asked: bool,
    /// Since when a head is on its way.
    head_since: Option<Instant>,
    idle_since: Instant,
    /// Since when the transport takes nothing.
    stalled_since: Option<Instant>,
    /// How much of what was written the client had taken, by the transport's own count.
    taken: u64,
    /// When a part of an answer last went out.
    progress: Instant,
    /// Since when the client knows that it should open no more streams.
    leaving_since: Option<Instant>,
}

/// What a connection's requests are entered in.
pub(super) struct Book {
    pub(super) account: Account,
    pub(super) streams: Streams,
}

/// A request in the account.
pub(super) struct Stream {
    account: Account,
    pace: Arc<Pace>,
}

/// A limit that has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// Nothing was asked for a while.
    Idle,
    /// The client was told to go, is owed nothing, and stays.
    Leaving,
    /// A head, or the beginning of the connection, did not come to its end.
    Head,
    /// The client does not read.
    Write,
}

// === impl Account ===

impl Account {
    pub(super) fn new(accepted: Instant, shared: Arc<Shared>) -> Self {
        Self(Arc::new(Mutex::new(State {
            shared,
            wire: Wire::new(),
            under_way: 0,
            answered: 0,
            served: 0,
            is_unflushed: false,
            busy: None,
            has_asked: false,
            head_since: Some(accepted),
            idle_since: accepted,
            stalled_since: None,
            taken: 0,
            progress: accepted,
            leaving_since: None,
        })))
    }

    /// Bytes came from the client.
    pub(super) fn read(&self, bytes: &[u8], now: Instant) {
        let mut state = self.lock();
        state.wire.read(bytes);
        if state.wire.is_mid_head() {
            state.head_since.get_or_insert(now);
        } else {
            state.head_since = None;
        }
        state.settle(now);
    }

    /// The transport took `bytes`.
    pub(super) fn wrote(&self, bytes: &[u8], now: Instant) {
        let mut state = self.lock();
        let before = state.wire.written();
        state.wire.wrote(bytes);
        if state.wire.written() != before {
            state.progress = now;
        }
        state.is_unflushed = true;
        state.stalled_since = None;
    }

    /// The transport has passed everything on.
    pub(super) fn flushed(&self, now: Instant) {
        let mut state = self.lock();
        state.is_unflushed = false;
        state.stalled_since = None;
        state.settle(now);
    }

    /// The transport takes nothing; the client has taken `taken` of it so far.
    pub(super) fn stalled(&self, taken: u64, now: Instant) {
        let mut state = self.lock();
        if std::mem::replace(&mut state.taken, taken) != taken {
            state.stalled_since = None;
        }
        state.stalled_since.get_or_insert(now);
    }

    /// The client was told to open no more streams.
    pub(super) fn leave(&self, now: Instant) {
        self.lock().leaving_since.get_or_insert(now);
    }

    /// When, and for what, the connection is overdue unless something happens.
    pub(super) fn due(&self, limits: &Limits) -> Option<(Instant, Overdue)> {
        let state = self.lock();
        let head = state
            .head_since
            .map(|since| (since, limits.head, Overdue::Head));
        let idle = (!state.is_busy()).then(|| match state.leaving_since {
            Some(leaving) => (leaving.max(state.idle_since), GRACE, Overdue::Leaving),
            None if state.has_asked => (state.idle_since, limits.keep_alive, Overdue::Idle),
            None => (state.idle_since, limits.head, Overdue::Idle),
        });
        let stall = state
            .stalled_since
            .map(|since| (since, limits.write, Overdue::Write));
        // What hyper holds of an answer is watched by its stream; what h2 holds, by nobody else.
        let tail = (state.under_way == 0 && state.wire.is_open()).then_some((
            state.progress,
            limits.write,
            Overdue::Write,
        ));
        [head, idle, stall, tail]
            .into_iter()
            .flatten()
            .map(|(since, limit, overdue)| (due::after(since, limit), overdue))
            .min_by_key(|(due, _)| *due)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that panics runs under it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    fn is_busy(&self) -> bool {
        self.under_way > 0 || self.wire.is_open() || self.is_unflushed
    }

    fn settle(&mut self, now: Instant) {
        if !self.is_unflushed {
            // h2 ends streams of its own making as well, so there may be more ends than answers.
            let served = self.answered.min(self.wire.ended());
            let more = served.saturating_sub(self.served);
            self.served += more;
            self.shared.counts.served.fetch_add(more, Ordering::Relaxed);
        }
        match (self.is_busy(), &self.busy) {
            (true, None) => {
                self.busy = Some(self.shared.busy.token());
                self.progress = now;
            }
            (false, Some(_)) => {
                self.busy = None;
                self.idle_since = now;
            }
            _ => {}
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let lost = self.answered - self.served;
        self.shared.counts.lost.fetch_add(lost, Ordering::Relaxed);
    }
}

// === impl Book ===

impl Ledger for Book {
    type Entry = Stream;

    fn begin(&self) -> Stream {
        let mut state = self.account.lock();
        state.has_asked = true;
        state.under_way += 1;
        state.settle(Instant::now());
        drop(state);
        let pace = Arc::new(Pace::default());
        self.streams.expect(Arc::clone(&pace));
        Stream {
            account: self.account.clone(),
            pace,
        }
    }
}

// === impl Stream ===

impl Entry for Stream {
    const FRAME: Option<usize> = Some(FRAME);
    type Progress = Arc<Pace>;

    fn progress(&self) -> Arc<Pace> {
        Arc::clone(&self.pace)
    }

    fn unread(&self) -> Arc<Unread> {
        self.pace.unread()
    }

    fn streams(&self) {
        drop(self.pace.unread().take());
    }

    fn asks_to_switch(&self, _extensions: &mut Extensions) {}

    fn switches(&self) {}

    fn given(&self) {
        self.pace.given(Instant::now());
    }

    fn taken(&self) {
        self.pace.taken();
    }

    fn end(&self, answered: bool) {
        let mut state = self.account.lock();
        let now = Instant::now();
        state.under_way -= 1;
        state.progress = now;
        if answered && !self.pace.is_given_up() {
            state.answered += 1;
        } else {
            state.shared.counts.lost.fetch_add(1, Ordering::Relaxed);
        }
        state.settle(now);
    }
}

/// The size that every client takes a frame of, so that one stream does not hold up the others.
pub(super) const FRAME: usize = 16 * 1024;

/// How long a client may take to acknowledge that it should go.
const GRACE: Duration = Duration::from_secs(2);
