//! Making room.

use std::sync::Arc;

use super::Store;
use crate::{
    Change, StateError,
    containment::contain,
    listeners::Wakes,
    room::{AtBound, Reservation, Room, Seat, Shortage},
};

// === impl Store ===

impl Store {
    /// Makes another try worth while: reserves what is missing, at the cost of what has expired, and
    /// of others if the store evicts. `name` is not evicted for its own sake. No lock is held.
    pub(super) fn make_room(
        &self,
        name: &str,
        reserved: &mut Option<Reservation<'_>>,
        shortage: Shortage,
    ) -> Result<(), StateError> {
        let (Some(room), Some(reserved)) = (&self.room, reserved) else {
            return Ok(());
        };
        if reserved.extend(shortage).is_ok() {
            return Ok(());
        }
        // Who waits for others, or drops their values, holds nothing that others wait for.
        if reserved.give_back() {
            return Ok(());
        }
        loop {
            self.sweep();
            // Again, as the room may be another one's sweep's.
            let Err(Shortage { bound, .. }) = reserved.extend(shortage) else {
                return Ok(());
            };
            if room.at_bound() == AtBound::Reject {
                return Err(StateError::Full { bound });
            }
            if !self.evict_one(room, name) {
                // What is missing is reserved by others: in a moment those are entries.
                std::thread::yield_now();
                return Ok(());
            }
        }
    }

    /// Evicts until the bounds hold again, after a value has outgrown them. No lock is held.
    pub(super) fn shrink(&self, name: &str) {
        let Some(room) = &self.room else { return };
        while room.is_exceeded() {
            if self.sweep() == 0 && !self.evict_one(room, name) {
                // As above.
                std::thread::yield_now();
            }
        }
    }

    /// Evicts the least recently used of some. Returns false if there is nobody but `name`.
    fn evict_one(&self, room: &Room, name: &str) -> bool {
        let candidates = room.candidates().into_iter();
        let oldest = candidates
            .filter(|seat| *seat.key != *name)
            .map(|seat| (seat.charge.used(), seat))
            .min_by_key(|(used, _)| *used);
        let Some((used, seat)) = oldest else {
            return false;
        };
        self.evict(&seat, used);
        true
    }

    /// One that is gone, or was used meanwhile, is not evicted, but there is another try: who
    /// removed it or used it got on.
    fn evict(&self, seat: &Seat, used: u64) {
        let mut wakes = Wakes::default();
        let evicted = self.map.remove_if(&*seat.key, |key, entry| {
            let charge = entry.charge.as_ref();
            let same = charge.is_some_and(|charge| Arc::ptr_eq(charge, &seat.charge));
            let unused = same && seat.charge.used() == used;
            if unused {
                self.retire(key, entry, Change::Evicted, &mut wakes);
            }
            unused
        });
        wakes.wake();
        contain(|| drop(evicted));
    }
}
