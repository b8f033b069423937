//! A set of modules behind one dispatcher, each of which starts and ends by itself.
//!
//! A member has a `Control` of its own, and shares one slot with that of its set: what
//! it counts, and what it runs, is the set's as well.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{Control, Slot, Slots, lock};
use crate::SparkChannelError;

/// What a module is to others behind the same dispatcher.
pub(super) enum Family {
    /// It is reached through the set.
    Member(Arc<Control>),
    /// They are reached through it. By their addresses, to be found when they end.
    Set(Mutex<HashMap<usize, Weak<Control>>>),
}

// === impl Control ===

impl Control {
    /// Makes it that of a set without members.
    pub(crate) fn with_members(mut self) -> Self {
        self.family = Some(Box::new(Family::Set(Mutex::default())));
        self
    }

    /// That of a member of `set`, in which it has `slot`. It is told of whatever cuts
    /// the set off, until it is [released](Self::release).
    pub(crate) fn member(set: &Arc<Self>, slot: Arc<Slot>) -> Arc<Self> {
        let (name, capacity) = (Arc::clone(&set.name), set.capacity);
        let member = Arc::new(Self {
            clock: set.clock,
            shutdown_timeout: set.shutdown_timeout,
            slots: Slots::One(slot),
            timings: set.timings.clone(),
            family: Some(Box::new(Family::Member(Arc::clone(set)))),
            ..Self::new(name, 0, capacity, None, Duration::ZERO, set.deadlocks)
        });
        if let Some(Family::Set(members)) = set.family.as_deref() {
            lock(members).insert(address(&member), Arc::downgrade(&member));
        }
        // Or the set was cut off before it could tell.
        if set.is_cut_off() {
            member.follow(set);
        }
        member
    }

    /// Forgets a member that has ended.
    pub(crate) fn release(&self, member: &Arc<Self>) {
        if let Some(Family::Set(members)) = self.family.as_deref() {
            lock(members).remove(&address(member));
        }
    }

    /// Tells the members, if there are any, that their set is cut off.
    #[inline]
    pub(super) fn cut_off_members(&self) {
        if let Some(Family::Set(members)) = self.family.as_deref()
            && self.is_cut_off()
        {
            let members: Vec<_> = lock(members).values().filter_map(Weak::upgrade).collect();
            for member in members {
                member.follow(self);
            }
        }
    }

    /// Stops as `set` was told to, by the same deadline. Does nothing the second time.
    pub(crate) fn follow(&self, set: &Self) {
        let flag = |flag: &AtomicBool| flag.load(Ordering::Acquire);
        let _ = self.cause.set(set.reason());
        self.cut_off.fetch_or(flag(&set.cut_off), Ordering::AcqRel);
        // Before the stop, as whoever stops a module does it.
        let deadline = set.stop_deadline.load(Ordering::Acquire);
        let earlier = self.stop_deadline.fetch_min(deadline, Ordering::AcqRel) > deadline;
        let passes =
            flag(&set.deadline_passed) && !self.deadline_passed.swap(true, Ordering::AcqRel);
        let stop = set.stop.load(Ordering::Acquire);
        let stronger = self.stop.fetch_max(stop, Ordering::AcqRel) < stop;
        if earlier || passes || stronger {
            self.ending.changed();
            for slot in self.slots.iter() {
                slot.wake();
            }
        }
    }

    /// Whether a handler of this module is one of those that `set` leads to.
    pub(crate) fn is_within(&self, set: &Arc<Self>) -> bool {
        matches!(self.family.as_deref(), Some(Family::Member(own)) if Arc::ptr_eq(own, set))
    }

    /// Why a request is given back: the module stops, or one of several does that can be
    /// started again.
    pub(crate) fn reason_given_back(&self) -> SparkChannelError {
        let set = match self.family.as_deref() {
            None => return SparkChannelError::ShuttingDown,
            Some(Family::Member(set)) => set,
            Some(Family::Set(_)) => self,
        };
        if set.is_stopping() {
            SparkChannelError::ShuttingDown
        } else {
            SparkChannelError::Unavailable
        }
    }

    /// Tells those who watch that a handler was replaced.
    pub(crate) fn announce_restart(&self) {
        self.ending.changed();
        if let Some(Family::Member(set)) = self.family.as_deref() {
            set.ending.changed();
        }
    }
}

fn address(control: &Arc<Control>) -> usize {
    Arc::as_ptr(control).addr()
}
