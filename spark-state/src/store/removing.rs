//! Taking entries out: on request, and when they have expired.

use std::sync::{Arc, atomic::Ordering};

use super::Store;
use crate::{
    Change, StateError, StateValue, clock::LazyNow, containment::contain, entry::Entry,
    listeners::Wakes, reentry,
};

// === impl Store ===

impl Store {
    /// Removes a live value, if `admits` agrees. It runs while the shard is locked.
    pub(crate) fn remove(
        &self,
        name: &str,
        admits: impl FnOnce(&Entry) -> Result<(), StateError>,
    ) -> Result<Option<StateValue>, StateError> {
        reentry::check()?;
        let mut wakes = Wakes::default();
        let mut refused = None;
        let mut over = false;
        let removed = self.map.remove_if(name, |key, entry| {
            over = self.retire_if_over(key, entry, &mut self.clock.lazy(), &mut wakes);
            if over {
                return true;
            }
            match admits(entry) {
                Ok(()) => self.retire(key, entry, Change::Removed, &mut wakes),
                Err(error) => refused = Some(error),
            }
            refused.is_none()
        });
        wakes.wake();
        match refused {
            Some(error) => Err(error),
            None => Ok(removed.filter(|_| !over).map(|(_, entry)| entry.value)),
        }
    }

    /// Removes a value that has expired. Says whether there was one.
    pub(super) fn remove_expired(&self, name: &str) -> bool {
        let mut wakes = Wakes::default();
        let mut now = self.clock.lazy();
        let removed = self.map.remove_if(name, |key, entry| {
            self.retire_if_over(key, entry, &mut now, &mut wakes)
        });
        wakes.wake();
        let was_there = removed.is_some();
        contain(|| drop(removed));
        was_there
    }

    /// Removes every value that has expired, and says how many those were. If somebody else is at
    /// it, waits until that one is done.
    pub(crate) fn sweep(&self) -> usize {
        let mut now = self.clock.lazy();
        if self.unless_expired(&mut now, || ()).is_some() {
            return 0;
        }
        let mut wakes = Wakes::default();
        let mut removed = Vec::new();
        if let Some(_sweep) = self.next_due.sweep(now.get().to_raw()) {
            self.sweep_alone(&mut now, &mut removed, &mut wakes);
        }
        wakes.wake();
        let swept = removed.len();
        // Here, where they may sweep themselves; and each by itself, as two destructors that panic
        // would end the process.
        for entry in removed {
            contain(|| drop(entry));
        }
        if swept != 0 {
            self.give_back_memory();
        }
        swept
    }

    /// Gives back what many entries have left behind, if that is most of the map. No lock is held.
    pub(crate) fn give_back_memory(&self) {
        let capacity = self.map.capacity();
        if capacity > CAPACITY_KEPT && self.map.len() < capacity / 8 {
            self.map.shrink_to_fit();
        }
    }

    fn sweep_alone(&self, now: &mut LazyNow, removed: &mut Vec<Entry>, wakes: &mut Wakes) {
        let mut expired = Vec::new();
        for place in &self.map {
            if place.value().is_over(now) {
                expired.push(Arc::clone(place.key()));
            } else {
                self.note_deadline(place.value());
            }
        }
        for key in expired {
            let entry = self.map.remove_if(&*key, |key, entry| {
                let over = self.retire_if_over(key, entry, now, wakes);
                if !over {
                    // It was used or replaced meanwhile.
                    self.note_deadline(entry);
                }
                over
            });
            removed.extend(entry.map(|(_, entry)| entry));
        }
    }

    /// Returns what `look` sees, if there is no value among it that has expired. `look` locks shards.
    pub(super) fn unless_expired<R>(
        &self,
        now: &mut LazyNow,
        look: impl FnOnce() -> R,
    ) -> Option<R> {
        self.next_due.unless_due(|| now.get().to_raw(), look)
    }

    /// Whether an entry has expired, and is about to be removed; its shard is locked.
    fn retire_if_over(
        &self,
        key: &Arc<str>,
        entry: &Entry,
        now: &mut LazyNow,
        wakes: &mut Wakes,
    ) -> bool {
        let over = entry.is_over(now);
        if over {
            self.retire(key, entry, Change::Expired, wakes);
        }
        over
    }

    /// An entry is about to be removed; its shard is locked.
    pub(super) fn retire(&self, key: &Arc<str>, entry: &Entry, change: Change, wakes: &mut Wakes) {
        self.floor
            .fetch_max(entry.version.to_u64(), Ordering::Relaxed);
        if let (Some(room), Some(charge)) = (&self.room, &entry.charge) {
            room.release(charge);
        }
        match change {
            Change::Expired => self.counts.expired.fetch_add(1, Ordering::Relaxed),
            Change::Evicted => self.counts.evicted.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
        self.listeners.publish(key, change, entry.version, wakes);
    }
}

/// So many places are kept for entries that may come.
const CAPACITY_KEPT: usize = 4_096;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::{Expiry, SharedState};

    fn check_memory(go: impl FnOnce(&SharedState)) {
        let state = SharedState::new();
        let soon = Expiry::ttl(Duration::from_nanos(1));
        for n in 0..20_000 {
            let inserted = state.insert_with(n.to_string(), true, soon);
            inserted.expect("there is room");
        }
        for n in 0..10 {
            let inserted = state.insert(n.to_string(), true);
            inserted.expect("there is room");
        }
        assert!(state.store.map.capacity() >= 20_000);
        go(&state);
        assert!(state.store.map.capacity() < 1_000);
    }

    #[test]
    fn of_many_values_that_are_swept_no_memory_is_kept() {
        check_memory(|state| assert_eq!(state.sweep(), 19_990));
    }

    #[test]
    fn of_many_values_that_are_cleared_no_memory_is_kept() {
        check_memory(|state| {
            for n in 0..20_000 {
                let inserted = state.insert(n.to_string(), true);
                inserted.expect("there is room");
            }
            assert_eq!(state.clear(), 20_000);
        });
    }
}
