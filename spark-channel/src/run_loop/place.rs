//! One thing that an owner lays down and others borrow: taken and put back with one
//! atomic exchange each.
//!
//! Invariants:
//!
//! 1. Only the owner writes `word`, and only before an exchange on `thing`: whoever puts
//!    the thing back after that exchange sees the word. So either the owner gets the
//!    thing, or the one who has it learns that the owner wants it.
//! 2. The exchanges are acquire and release, so the thing is seen as it was put down.
//! 3. `is_lent` is a hint, which nothing but the length of a wait depends on; so it is no part of
//!    the model.

#[cfg(not(loom))]
use std::sync::atomic::{AtomicU8, Ordering};
use std::{
    hint::spin_loop,
    sync::atomic::{self, AtomicBool},
};

#[cfg(not(loom))]
use crossbeam_utils::atomic::AtomicCell;
#[cfg(loom)]
use loom::sync::atomic::{AtomicU8, Ordering};

#[cfg(loom)]
use self::stand_in::AtomicCell;

pub(crate) struct Place<T> {
    thing: AtomicCell<Option<Box<T>>>,
    word: AtomicU8,
    /// Whether somebody who borrowed it has it, and not its owner.
    is_lent: AtomicBool,
}

/// What there is to do for whoever has put the thing back.
pub(crate) enum Word<T> {
    None,
    /// The owner came while it was away.
    Wanted,
    /// The owner is gone. Here it is again, unless somebody else has it.
    Closed(Option<Box<T>>),
}

// === impl Place ===

impl<T> Place<T> {
    /// The owner has the thing.
    pub(crate) fn new() -> Self {
        #[cfg(not(loom))]
        const {
            assert!(AtomicCell::<Option<Box<()>>>::is_lock_free());
        }
        Self {
            thing: AtomicCell::new(None),
            word: AtomicU8::new(QUIET),
            is_lent: AtomicBool::new(false),
        }
    }

    /// Borrows the thing, if it is there.
    #[inline]
    pub(crate) fn borrow(&self) -> Option<Box<T>> {
        let thing = self.take()?;
        self.is_lent.store(true, atomic::Ordering::Relaxed);
        Some(thing)
    }

    /// Borrows the thing, also if another thread puts it back in about the time that it takes to
    /// wake its owner. Not if the owner is waiting for it already.
    ///
    /// From look to look it pauses twice as long: who has the thing, and takes it again at once, has
    /// what belongs to it in the cache of its processor, and each time it changes hands all of that moves.
    #[cold]
    pub(crate) fn borrow_after(&self) -> Option<Box<T>> {
        let mut pauses = PAUSES;
        loop {
            if self.word.load(Ordering::Relaxed) != QUIET {
                return None;
            }
            if !self.is_lent() {
                if let Some(thing) = self.borrow() {
                    return Some(thing);
                }
                if !self.is_lent() {
                    return None;
                }
            }
            if pauses > PAUSES_MAX {
                return None;
            }
            for _ in 0..pauses {
                spin_loop();
            }
            pauses *= 2;
        }
    }

    /// Puts down what was borrowed.
    #[inline]
    pub(crate) fn put_back(&self, thing: Box<T>) -> Word<T> {
        self.is_lent.store(false, atomic::Ordering::Relaxed);
        self.thing.swap(Some(thing));
        match self.word.load(Ordering::Acquire) {
            QUIET => Word::None,
            CLOSED => Word::Closed(self.take()),
            _ => Word::Wanted,
        }
    }

    /// The owner lays the thing down.
    pub(crate) fn lay_down(&self, thing: Box<T>) {
        self.thing.swap(Some(thing));
    }

    /// The owner takes the thing, or leaves word that it is wanted.
    pub(crate) fn reclaim(&self) -> Option<Box<T>> {
        self.word.store(WANTED, Ordering::Release);
        let thing = self.take()?;
        self.word.store(QUIET, Ordering::Release);
        Some(thing)
    }

    /// The owner goes, with the thing if it is there.
    pub(crate) fn close(&self) -> Option<Box<T>> {
        self.word.store(CLOSED, Ordering::Release);
        self.take()
    }

    fn is_lent(&self) -> bool {
        self.is_lent.load(atomic::Ordering::Relaxed)
    }

    #[inline]
    fn take(&self) -> Option<Box<T>> {
        self.thing.swap(None)
    }
}

/// How many pauses there are after the first look.
const PAUSES: usize = 4;

/// How many there are before the last. All together take two to five microseconds, which is what a
/// task of another thread is woken in.
const PAUSES_MAX: usize = 64;

const QUIET: u8 = 0;
const WANTED: u8 = 1;
const CLOSED: u8 = 2;

/// What loom has no own type for. A lock that is held for one exchange orders as much as
/// an exchange that acquires and releases does.
#[cfg(loom)]
mod stand_in {
    use std::sync::PoisonError;

    use loom::sync::Mutex;

    pub(crate) struct AtomicCell<T>(Mutex<T>);

    impl<T> AtomicCell<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(Mutex::new(value))
        }

        pub(crate) fn swap(&self, value: T) -> T {
            let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *held, value)
        }
    }
}
