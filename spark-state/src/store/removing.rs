//! Taking entries out: on request, and when they have expired.

use std::sync::{Arc, atomic::Ordering};

use super::Store;
use crate::{Change, StateError, StateValue, entry::Entry, listeners::Wakes, reentry};

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
            over = entry.is_over(&mut self.clock.lazy());
            if over {
                self.retire(key, entry, Change::Expired, &mut wakes);
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
            let over = entry.is_over(&mut now);
            if over {
                self.retire(key, entry, Change::Expired, &mut wakes);
            }
            over
        });
        wakes.wake();
        removed.is_some()
    }

    /// Removes every value that has expired, and says how many those were.
    pub(crate) fn sweep(&self) -> usize {
        let mut now = self.clock.lazy();
        if self.next_due.get() > now.get().to_raw() {
            return 0;
        }
        self.next_due.raise();
        let mut expired = Vec::new();
        for place in &self.map {
            if place.value().is_over(&mut now) {
                expired.push(Arc::clone(place.key()));
            } else {
                self.note_deadline(place.value());
            }
        }
        expired
            .into_iter()
            .filter(|key| self.remove_expired(key))
            .count()
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
