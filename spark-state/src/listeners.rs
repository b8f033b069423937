//! Who is told of changes.
//!
//! Invariants:
//!
//! 1. Locks are taken in one order: a shard's, the table's, a listener's. Nobody who holds one of
//!    the latter two takes a shard's.
//! 2. Changes are published while their shard is locked, so those of one key arrive in order.
//! 3. No user code runs under a lock: wakers are cloned before, and woken and dropped after.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    task::{Context, Poll, Waker},
};

mod backlog;

pub(crate) use self::backlog::{Backlog, Taken};
use crate::{Change, Version, containment::contain, presence::Presence};

pub(crate) struct Listeners {
    presence: Presence,
    table: RwLock<Table>,
}

#[derive(Default)]
struct Table {
    flags: HashMap<Arc<str>, Vec<Arc<Flag>>>,
    backlogs: Vec<Arc<Backlog>>,
}

/// Says that a key has changed, however often.
pub(crate) struct Flag(Mutex<FlagState>);

struct FlagState {
    raised: bool,
    closed: bool,
    waker: Option<Waker>,
}

/// What a flag's owner is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Raised {
    Changed,
    Closed,
}

/// Who is to be woken once no lock is held.
#[derive(Default)]
#[must_use = "somebody waits"]
pub(crate) struct Wakes(Vec<Waker>);

// === impl Listeners ===

impl Listeners {
    pub(crate) fn none() -> Self {
        Self {
            presence: Presence::nobody(),
            table: RwLock::default(),
        }
    }

    /// Whether anybody listens to anything. The shard of what has changed is locked.
    #[inline]
    pub(crate) fn anybody(&self) -> bool {
        self.presence.anybody()
    }

    /// Tells who listens to `key`. Its shard is locked.
    #[inline]
    pub(crate) fn publish(
        &self,
        key: &Arc<str>,
        change: Change,
        version: Version,
        wakes: &mut Wakes,
    ) {
        if self.presence.anybody() {
            self.tell(key, change, version, wakes);
        }
    }

    #[cold]
    fn tell(&self, key: &Arc<str>, change: Change, version: Version, wakes: &mut Wakes) {
        let table = self.read();
        for flag in table.flags.get(key).into_iter().flatten() {
            wakes.0.extend(flag.raise());
        }
        for backlog in &table.backlogs {
            wakes.0.extend(backlog.push(key, change, version));
        }
    }

    /// From now on, changes of `key` raise the flag; it is raised to begin with.
    pub(crate) fn flag(&self, key: Arc<str>) -> Arc<Flag> {
        let flag = Arc::new(Flag::raised());
        self.presence.enter();
        let mut table = self.write();
        table.flags.entry(key).or_default().push(Arc::clone(&flag));
        flag
    }

    pub(crate) fn remove_flag(&self, key: &Arc<str>, flag: &Arc<Flag>) {
        let mut table = self.write();
        let Some(flags) = table.flags.get_mut(key) else {
            return;
        };
        flags.retain(|other| !Arc::ptr_eq(other, flag));
        if flags.is_empty() {
            table.flags.remove(key);
        }
        self.presence.leave();
    }

    pub(crate) fn add_backlog(&self, backlog: Arc<Backlog>) {
        self.presence.enter();
        self.write().backlogs.push(backlog);
    }

    pub(crate) fn remove_backlog(&self, backlog: &Arc<Backlog>) {
        let mut table = self.write();
        table.backlogs.retain(|other| !Arc::ptr_eq(other, backlog));
        self.presence.leave();
    }

    /// How many listen.
    pub(crate) fn len(&self) -> usize {
        let table = self.read();
        table.flags.values().map(Vec::len).sum::<usize>() + table.backlogs.len()
    }

    // Nothing that could panic runs under these locks.
    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The store is gone.
impl Drop for Listeners {
    fn drop(&mut self) {
        let mut wakes = Wakes::default();
        let table = std::mem::take(&mut *self.write());
        for flag in table.flags.values().flatten() {
            wakes.0.extend(flag.close());
        }
        for backlog in &table.backlogs {
            wakes.0.extend(backlog.close());
        }
        wakes.wake();
    }
}

// === impl Flag ===

impl Flag {
    fn raised() -> Self {
        Self(Mutex::new(FlagState {
            raised: true,
            closed: false,
            waker: None,
        }))
    }

    fn raise(&self) -> Option<Waker> {
        let mut state = self.lock();
        state.raised = true;
        state.waker.take()
    }

    fn close(&self) -> Option<Waker> {
        let mut state = self.lock();
        state.closed = true;
        state.waker.take()
    }

    /// Lowers the flag, or waits for it to be raised.
    pub(crate) fn poll_lower(&self, cx: &mut Context<'_>) -> Poll<Raised> {
        let waker = cx.waker().clone();
        let mut state = self.lock();
        if state.closed {
            return Poll::Ready(Raised::Closed);
        }
        if std::mem::take(&mut state.raised) {
            return Poll::Ready(Raised::Changed);
        }
        let former = state.waker.replace(waker);
        drop(state);
        drop(former);
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, FlagState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Wakes ===

impl Wakes {
    #[inline]
    pub(crate) fn wake(self) {
        if !self.0.is_empty() {
            self.wake_all();
        }
    }

    #[cold]
    fn wake_all(self) {
        for waker in self.0 {
            // One that panics is neither the writer's affair nor that of the others.
            contain(|| waker.wake());
        }
    }
}
