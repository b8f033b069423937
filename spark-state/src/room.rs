//! The bounds of a store, and what is taken of them.
//!
//! Invariant: what is taken is never more than the bounds, but by what [`Room::force`] adds, whose
//! caller then evicts.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{Bound, StateError, StateValue, entry::Charge};

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

struct Ledger {
    taken: Amount,
    /// The keys of all entries, if the store evicts, to be drawn from.
    slots: Vec<Option<Arc<str>>>,
    vacant: Vec<usize>,
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
                slots: Vec::new(),
                vacant: Vec::new(),
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
    pub(crate) fn force(&self, charge: &mut Charge, bytes: usize) -> bool {
        let mut ledger = self.lock();
        ledger.taken.bytes = ledger.taken.bytes - charge.bytes + bytes;
        charge.bytes = bytes;
        let exceeded = ledger.taken.bytes > self.bounds.bytes;
        drop(ledger);
        self.touch(charge);
        exceeded
    }

    /// An entry is about to go.
    pub(crate) fn release(&self, charge: &Charge) {
        let mut ledger = self.lock();
        ledger.taken.entries -= 1;
        ledger.taken.bytes -= charge.bytes;
        if self.at_bound == AtBound::EvictLeastRecentlyUsed {
            ledger.leave(charge.slot);
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

    /// Keys to choose from: all, if they are few.
    pub(crate) fn candidates(&self) -> Vec<Arc<str>> {
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

    fn seat(&mut self, key: Arc<str>) -> usize {
        if let Some(slot) = self.vacant.pop() {
            self.slots[slot] = Some(key);
            return slot;
        }
        self.slots.push(Some(key));
        self.slots.len() - 1
    }

    fn leave(&mut self, slot: usize) {
        self.slots[slot] = None;
        self.vacant.push(slot);
    }

    fn draw(&mut self) -> Vec<Arc<str>> {
        if self.slots.len() - self.vacant.len() <= SAMPLE {
            return self.slots.iter().flatten().cloned().collect();
        }
        let mut drawn = Vec::with_capacity(SAMPLE);
        // Many seats may be empty after many removals: look on from where the dice fall.
        while drawn.len() < SAMPLE {
            let start = self.below(self.slots.len());
            let seats = self.slots[start..].iter().chain(&self.slots[..start]);
            drawn.extend(seats.flatten().next().cloned());
        }
        drawn
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
    pub(crate) fn charge(&mut self, key: &Arc<str>, bytes: usize) -> Result<Box<Charge>, Shortage> {
        let room = self.room;
        let mut ledger = room.lock();
        ledger.exchange(self.held, Amount { entries: 1, bytes }, room.bounds)?;
        self.held = Amount::default();
        let slot = match room.at_bound {
            AtBound::Reject => 0,
            AtBound::EvictLeastRecentlyUsed => ledger.seat(Arc::clone(key)),
        };
        drop(ledger);
        let used = room.ticks.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(Box::new(Charge {
            bytes,
            slot,
            used: AtomicU64::new(used),
        }))
    }

    /// The value of an entry is replaced by one that takes `bytes`.
    pub(crate) fn recharge(&mut self, charge: &mut Charge, bytes: usize) -> Result<(), Shortage> {
        if bytes != charge.bytes || self.held != Amount::default() {
            let mut before = self.held;
            before.bytes += charge.bytes;
            let after = Amount { entries: 0, bytes };
            self.room.lock().exchange(before, after, self.room.bounds)?;
            self.held = Amount::default();
            charge.bytes = bytes;
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

/// What an entry takes beside its key and its payload, about: its place in the map, the two
/// counts of the key, its charge, and the map's own reserve.
const ENTRY_BYTES: usize = 160;
