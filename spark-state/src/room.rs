//! The bounds of a store, and what is taken of them.
//!
//! Invariant: what is taken is never more than the bounds, but by what [`Room::force`] adds, whose
//! caller then evicts.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use crate::{Bound, StateError, StateValue};

/// What a store does at its bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AtBound {
    /// A write that needs more fails with [`Full`](StateError::Full).
    #[default]
    Reject,
    /// The value that was not used for the longest time makes room.
    ///
    /// Which one that is, is exact among 16 values, and above that the oldest of 16 taken at
    /// random. Reading and writing are using, watching is not. Of values read since the last
    /// insertion of a new key, all count as equally old.
    EvictLeastRecentlyUsed,
}

pub(crate) struct Room {
    bounds: Amount,
    at_bound: AtBound,
    /// Time for "recently": how many keys were added.
    ticks: AtomicU64,
    ledger: Mutex<Ledger>,
}

/// Entries and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) entries: usize,
    pub(crate) bytes: usize,
}

/// What an entry takes of its store's bounds, and how recently it was used.
pub(crate) struct Charge {
    /// Changed while the entry's shard is locked.
    bytes: AtomicUsize,
    /// Where the ledger has it, if the store evicts. Read and changed by the ledger alone.
    seat: AtomicUsize,
    /// When the entry was used, in keys added to the store: later is larger.
    used: AtomicU64,
}

/// An entry that may be evicted.
#[derive(Clone)]
pub(crate) struct Seat {
    pub(crate) key: Arc<str>,
    pub(crate) charge: Arc<Charge>,
}

struct Ledger {
    taken: Amount,
    /// All entries, if the store evicts, to be drawn from.
    seats: Vec<Seat>,
    /// `SplitMix64`.
    random: u64,
}

/// What was reserved for a write and is not an entry's yet. Given back when dropped.
pub(crate) struct Reservation<'a> {
    room: &'a Room,
    held: Amount,
}

// === impl Room ===

impl Room {
    pub(crate) fn new(
        entries_max: Option<NonZeroUsize>,
        bytes_max: Option<NonZeroUsize>,
        at_bound: AtBound,
    ) -> Self {
        Self {
            bounds: Amount {
                entries: entries_max.map_or(usize::MAX, NonZeroUsize::get),
                bytes: bytes_max.map_or(usize::MAX, NonZeroUsize::get),
            },
            at_bound,
            ticks: AtomicU64::new(0),
            ledger: Mutex::new(Ledger {
                taken: Amount::default(),
                seats: Vec::new(),
                random: 0,
            }),
        }
    }

    pub(crate) fn at_bound(&self) -> AtBound {
        self.at_bound
    }

    /// What is taken, of both at the same moment; bytes only if they are counted.
    pub(crate) fn taken(&self) -> (usize, Option<usize>) {
        let taken = self.lock().taken;
        let counted = self.bounds.bytes != usize::MAX;
        (taken.entries, counted.then_some(taken.bytes))
    }

    /// What an entry takes.
    ///
    /// # Errors
    ///
    /// If no store with these bounds could hold it.
    pub(crate) fn bytes_of(&self, key: &str, value: &StateValue) -> Result<usize, StateError> {
        if self.bounds.bytes == usize::MAX {
            return Ok(0);
        }
        let bytes = ENTRY_BYTES + key.len() + value.payload_bytes();
        if bytes > self.bounds.bytes {
            let bytes_max = self.bounds.bytes;
            return Err(StateError::TooLarge { bytes, bytes_max });
        }
        Ok(bytes)
    }

    pub(crate) fn reserve_nothing(&self) -> Reservation<'_> {
        Reservation {
            room: self,
            held: Amount::default(),
        }
    }

    /// As [`recharge`](Reservation::recharge), whatever the bounds say. Returns whether they are exceeded.
    pub(crate) fn force(&self, charge: &Charge, bytes: usize) -> bool {
        let mut ledger = self.lock();
        ledger.taken.bytes = ledger.taken.bytes - charge.bytes() + bytes;
        charge.bytes.store(bytes, Ordering::Relaxed);
        let exceeded = ledger.taken.bytes > self.bounds.bytes;
        drop(ledger);
        self.touch(charge);
        exceeded
    }

    /// An entry is about to go.
    pub(crate) fn release(&self, charge: &Charge) {
        let mut ledger = self.lock();
        ledger.taken.entries -= 1;
        ledger.taken.bytes -= charge.bytes();
        if self.at_bound == AtBound::EvictLeastRecentlyUsed {
            ledger.leave(charge);
        }
    }

    /// Notes that an entry was used.
    #[inline]
    pub(crate) fn touch(&self, charge: &Charge) {
        if self.at_bound == AtBound::EvictLeastRecentlyUsed {
            let now = self.ticks.load(Ordering::Relaxed);
            // So that readers of one entry do not take its line from each other.
            if charge.used.load(Ordering::Relaxed) != now {
                charge.used.store(now, Ordering::Relaxed);
            }
        }
    }

    /// Whether more is taken than may be.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.lock().taken.bytes > self.bounds.bytes
    }

    /// Entries to choose from: all, if they are few.
    pub(crate) fn candidates(&self) -> Vec<Seat> {
        self.lock().draw()
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        // Nothing that could panic runs under it.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is missing, and of which bound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shortage {
    pub(crate) bound: Bound,
    missing: Amount,
}

// === impl Charge ===

impl Charge {
    fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// When the entry was used, to be compared with others of the same store.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

// === impl Ledger ===

impl Ledger {
    /// `before` is no longer taken, and `after` is, unless that is more than may be.
    fn exchange(&mut self, before: Amount, after: Amount, bounds: Amount) -> Result<(), Shortage> {
        let entries = self.taken.entries - before.entries + after.entries;
        let bytes = self.taken.bytes - before.bytes + after.bytes;
        // What shrinks is welcome in a store that is over its bounds, too.
        let full = if after.entries > before.entries && entries > bounds.entries {
            Some(Bound::Entries)
        } else if after.bytes > before.bytes && bytes > bounds.bytes {
            Some(Bound::Bytes)
        } else {
            None
        };
        if let Some(bound) = full {
            let missing = Amount {
                entries: after.entries.saturating_sub(before.entries),
                bytes: after.bytes.saturating_sub(before.bytes),
            };
            return Err(Shortage { bound, missing });
        }
        self.taken = Amount { entries, bytes };
        Ok(())
    }

    fn seat(&mut self, key: Arc<str>, charge: Arc<Charge>) {
        charge.seat.store(self.seats.len(), Ordering::Relaxed);
        self.seats.push(Seat { key, charge });
    }

    fn leave(&mut self, charge: &Charge) {
        let seat = charge.seat.load(Ordering::Relaxed);
        self.seats.swap_remove(seat);
        if let Some(moved) = self.seats.get(seat) {
            moved.charge.seat.store(seat, Ordering::Relaxed);
        }
        // Now and then, so that of the steps of many removals each costs next to nothing.
        let capacity = self.seats.capacity();
        if capacity > SEATS_KEPT && self.seats.len() < capacity / 4 {
            self.seats.shrink_to(capacity / 2);
        }
    }

    fn draw(&mut self) -> Vec<Seat> {
        if self.seats.len() <= SAMPLE {
            return self.seats.clone();
        }
        (0..SAMPLE)
            .map(|_| {
                let drawn = self.below(self.seats.len());
                self.seats[drawn].clone()
            })
            .collect()
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the remainder is below `bound`"
    )]
    fn below(&mut self, bound: usize) -> usize {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

// === impl Reservation ===

impl Reservation<'_> {
    /// Reserves what was missing.
    pub(crate) fn extend(&mut self, shortage: Shortage) -> Result<(), Shortage> {
        let missing = shortage.missing;
        self.room
            .lock()
            .exchange(Amount::default(), missing, self.room.bounds)?;
        self.held.entries += missing.entries;
        self.held.bytes += missing.bytes;
        Ok(())
    }

    /// Says whether anything was held.
    pub(crate) fn give_back(&mut self) -> bool {
        let held = std::mem::take(&mut self.held);
        if held == Amount::default() {
            return false;
        }
        let mut ledger = self.room.lock();
        ledger.taken.entries -= held.entries;
        ledger.taken.bytes -= held.bytes;
        true
    }

    /// A new entry takes what is reserved, and what is missing.
    pub(crate) fn charge(&mut self, key: &Arc<str>, bytes: usize) -> Result<Arc<Charge>, Shortage> {
        let room = self.room;
        let mut ledger = room.lock();
        ledger.exchange(self.held, Amount { entries: 1, bytes }, room.bounds)?;
        self.held = Amount::default();
        let charge = Arc::new(Charge {
            bytes: AtomicUsize::new(bytes),
            seat: AtomicUsize::new(0),
            used: AtomicU64::new(room.ticks.fetch_add(1, Ordering::Relaxed) + 1),
        });
        if room.at_bound == AtBound::EvictLeastRecentlyUsed {
            ledger.seat(Arc::clone(key), Arc::clone(&charge));
        }
        Ok(charge)
    }

    /// The value of an entry is replaced by one that takes `bytes`.
    pub(crate) fn recharge(&mut self, charge: &Charge, bytes: usize) -> Result<(), Shortage> {
        if bytes != charge.bytes() || self.held != Amount::default() {
            let mut before = self.held;
            before.bytes += charge.bytes();
            let after = Amount { entries: 0, bytes };
            self.room.lock().exchange(before, after, self.room.bounds)?;
            self.held = Amount::default();
            charge.bytes.store(bytes, Ordering::Relaxed);
        }
        self.room.touch(charge);
        Ok(())
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// How many keys one is chosen of.
const SAMPLE: usize = 16;

/// So many places are kept for entries that may come.
const SEATS_KEPT: usize = 256;

/// What an entry takes beside its key and its payload, about: its place in the map, the two
/// counts of the key, its charge, and the map's own reserve.
const ENTRY_BYTES: usize = 160;

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: NonZeroUsize = NonZeroUsize::new(100_000).expect("it is not zero");

    fn charged(room: &Room, entries: std::ops::Range<usize>) -> Vec<Arc<Charge>> {
        let charge = |n: usize| room.reserve_nothing().charge(&n.to_string().into(), 0);
        let charges: Result<_, Shortage> = entries.map(charge).collect();
        charges.expect("there is room")
    }

    #[test]
    fn of_many_entries_that_go_no_memory_is_kept() {
        let room = Room::new(Some(BOUND), None, AtBound::EvictLeastRecentlyUsed);
        let charges = charged(&room, 0..10_000);
        for (n, charge) in charges.iter().enumerate() {
            if n % 1_000 != 7 {
                room.release(charge);
            }
        }
        let ledger = room.lock();
        assert_eq!((ledger.taken.entries, ledger.seats.len()), (10, 10));
        assert!(ledger.seats.capacity() <= SEATS_KEPT);
    }

    #[test]
    fn every_entry_is_where_its_charge_says_whoever_has_gone() {
        let room = Room::new(Some(BOUND), None, AtBound::EvictLeastRecentlyUsed);
        let charges = charged(&room, 0..100);
        for leaving in (0..100).step_by(3) {
            room.release(&charges[leaving]);
        }
        charged(&room, 100..150);
        let ledger = room.lock();
        assert_eq!(ledger.seats.len(), 66 + 50);
        for (seat, taken) in ledger.seats.iter().enumerate() {
            assert_eq!(taken.charge.seat.load(Ordering::Relaxed), seat);
        }
    }
}
