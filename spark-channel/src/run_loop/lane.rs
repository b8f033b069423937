//! A replica's own queue, filled by a router and emptied by one run loop.
//!
//! Invariants:
//!
//! 1. Only the router pushes, so what it reads of a load is never too small.
//! 2. A load is lowered before [`Space`]'s lock is taken, and the router leaves its
//!    waker there before it looks at the loads for the last time: one of the two
//!    sees the other.
//! 3. No user code runs under a lane's lock: messages are moved, never dropped.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

use tokio::{task::coop::poll_proceed, time::Instant};

use super::{mailbox::Waited, quietly};
use crate::control::Control;

pub(crate) struct Lane<T> {
    state: Mutex<State<T>>,
    /// Messages that wait here or are being handled.
    load: AtomicUsize,
    space: Arc<Space>,
}

struct State<T> {
    queue: VecDeque<Entry<T>>,
    waker: Option<Waker>,
    closed: bool,
    /// Since when its replica has waited for a message, if that is asked for.
    idle_since: Option<Instant>,
}

/// A message on its way to one replica.
pub(crate) struct Entry<T> {
    pub(crate) message: T,
    pub(crate) mark: Mark,
}

/// What is known of a message in a lane.
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    /// It came before the module was told to give back the rest.
    pub(crate) in_time: bool,
    /// One of several, of which another is the one to be counted.
    pub(crate) copy: bool,
    /// When it was accepted, if that is noted.
    pub(crate) arrived: Option<Instant>,
}

/// What the lanes of one router have in common: how much is in them, and who waits
/// for it to become less.
pub(crate) struct Space {
    control: Arc<Control>,
    load: AtomicUsize,
    router: Mutex<Option<Waker>>,
}

/// The replica's end of a lane.
pub(crate) struct LaneReceiver<T> {
    lane: Arc<Lane<T>>,
    /// Whether it is closed by its replica as well, and not only by the router.
    closes: bool,
    /// Whether it notes since when it has waited.
    keeps_time: bool,
    /// What is known of the message taken last.
    mark: Mark,
    /// Whether the message taken last still counts as this lane's load.
    holding: bool,
}

// === impl Lane ===

impl<T> Lane<T> {
    pub(crate) fn new(space: Arc<Space>) -> Self {
        Self {
            state: Mutex::new(State {
                queue: VecDeque::new(),
                waker: None,
                closed: false,
                idle_since: None,
            }),
            load: AtomicUsize::new(0),
            space,
        }
    }

    /// Messages that wait here or are being handled.
    pub(crate) fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    /// Adds a message, or gives it back if the lane is closed.
    pub(crate) fn push(&self, entry: Entry<T>) -> Result<(), Entry<T>> {
        let mut state = lock(&self.state);
        if state.closed {
            return Err(entry);
        }
        state.queue.push_back(entry);
        // Under the lock: the replica lowers them only after it has taken the message.
        self.load.fetch_add(1, Ordering::Relaxed);
        self.space.entered();
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Since when its replica has waited for a message, if it does and keeps time.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        lock(&self.state).idle_since
    }

    /// Whether it takes no more.
    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.state).closed
    }

    /// Takes no more; what is in it can still be taken.
    pub(crate) fn close(&self) {
        let waker = {
            let mut state = lock(&self.state);
            state.closed = true;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes what nobody will handle any more.
    pub(crate) fn take_left(&self) -> Option<Entry<T>> {
        let entry = lock(&self.state).queue.pop_front()?;
        self.space.left_lane();
        self.done();
        Some(entry)
    }

    fn done(&self) {
        self.load.fetch_sub(1, Ordering::Relaxed);
        self.space.freed();
    }
}

impl<T> Drop for Lane<T> {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        // One by one: where two panic that are dropped at once, the process ends.
        for entry in state
            .unwrap_or_else(PoisonError::into_inner)
            .queue
            .drain(..)
        {
            quietly(|| drop(entry));
        }
    }
}

// === impl Space ===

impl Space {
    pub(crate) fn new(control: Arc<Control>) -> Self {
        Self {
            control,
            load: AtomicUsize::new(0),
            router: Mutex::new(None),
        }
    }

    /// What waits in the lanes, or is being handled.
    pub(crate) fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    /// Whether `there_is_room`; if not, the task is woken when there may be.
    pub(crate) fn poll_room(
        &self,
        cx: &mut Context<'_>,
        there_is_room: impl Fn() -> bool,
    ) -> Poll<()> {
        if there_is_room() {
            return Poll::Ready(());
        }
        self.watch(cx.waker());
        if there_is_room() {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Wakes `waker` the next time something is done with.
    pub(crate) fn watch(&self, waker: &Waker) {
        *lock(&self.router) = Some(waker.clone());
    }

    fn entered(&self) {
        self.load.fetch_add(1, Ordering::Relaxed);
        self.control.moved_to_replica();
    }

    fn left_lane(&self) {
        self.control.taken_by_replica();
    }

    fn freed(&self) {
        self.load.fetch_sub(1, Ordering::Relaxed);
        let waker = lock(&self.router).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

// === impl LaneReceiver ===

impl<T> LaneReceiver<T> {
    /// The end of a lane that only its router closes.
    pub(crate) const fn new(lane: Arc<Lane<T>>) -> Self {
        Self {
            lane,
            closes: false,
            keeps_time: false,
            mark: Mark {
                in_time: true,
                copy: false,
                arrived: None,
            },
            holding: false,
        }
    }

    /// The end of a lane that its module closes as well, when it stops by itself.
    /// `keeps_time` if the router asks since when the module has been idle.
    pub(crate) const fn owned(lane: Arc<Lane<T>>, keeps_time: bool) -> Self {
        let mut receiver = Self::new(lane);
        receiver.closes = true;
        receiver.keeps_time = keeps_time;
        receiver
    }

    /// Whether the message taken last is one of several and not the one to be counted.
    pub(super) const fn has_taken_copy(&self) -> bool {
        self.mark.copy
    }

    /// When the message taken last was accepted, if that is noted.
    pub(super) const fn arrived(&self) -> Option<Instant> {
        self.mark.arrived
    }

    /// Whether the message to be handled next, in `taken` or still in the lane, came
    /// in time.
    pub(super) fn next_is_in_time(&self, taken: &[T]) -> bool {
        if !taken.is_empty() {
            return self.mark.in_time;
        }
        let state = lock(&self.lane.state);
        state.queue.front().is_some_and(|entry| entry.mark.in_time)
    }

    /// Puts the next message into `taken`. Asks `interrupted` when there is none.
    pub(super) fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        taken: &mut Vec<T>,
        interrupted: impl Fn() -> bool,
    ) -> Poll<Waited> {
        self.let_go();
        let mut state = lock(&self.lane.state);
        if state.queue.is_empty() {
            if state.closed {
                return Poll::Ready(Waited::Ended);
            }
            if interrupted() {
                return Poll::Ready(Waited::Interrupted);
            }
            if self.keeps_time {
                state.idle_since.get_or_insert_with(Instant::now);
            }
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        // A lane that is never empty must not keep its task from yielding.
        if !interrupted() {
            ready!(poll_proceed(cx)).made_progress();
        }
        if let Some(entry) = state.queue.pop_front() {
            state.idle_since = None;
            drop(state);
            self.lane.space.left_lane();
            self.mark = entry.mark;
            self.holding = true;
            taken.push(entry.message);
        }
        Poll::Ready(Waited::Received)
    }

    pub(super) fn close(&self) {
        if self.closes {
            self.lane.close();
        }
    }

    fn let_go(&mut self) {
        if std::mem::replace(&mut self.holding, false) {
            self.lane.done();
        }
    }
}

impl<T> Drop for LaneReceiver<T> {
    fn drop(&mut self) {
        self.let_go();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that can panic runs under these locks; a poisoned one is still whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
