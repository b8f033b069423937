//! A global allocator that can count what passes through it.
//!
//! It forwards to the system's allocator. Counting is off except inside a [`Window`], so that a
//! timed slice pays one relaxed load and a branch per call, the same for every contender.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
};

/// The allocator. A program installs it with `#[global_allocator]`; without it, windows stay empty.
#[derive(Debug)]
pub struct CountingAllocator;

/// A span of time in which every thread's allocations are counted. Only one is open at a time.
#[derive(Debug)]
#[must_use = "counting goes on until the window is closed"]
pub struct Window(());

/// What was counted in a [`Window`].
#[derive(Debug, Clone, Copy)]
pub struct Tally {
    /// Calls that returned memory: allocations and reallocations.
    pub allocations: u64,
    /// Bytes allocated less bytes freed.
    pub live_bytes: i64,
}

// Relaxed throughout: the counters guard no other memory, and a window is opened and closed by the
// thread whose work it counts.
static COUNTING: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static LIVE_BYTES: AtomicI64 = AtomicI64::new(0);

// === impl Window ===

impl Window {
    /// Starts counting, from zero.
    ///
    /// # Panics
    ///
    /// Panics if a window is open already.
    pub fn open() -> Self {
        ALLOCATIONS.store(0, Ordering::Relaxed);
        LIVE_BYTES.store(0, Ordering::Relaxed);
        let open = COUNTING.swap(true, Ordering::Relaxed);
        assert!(!open, "windows do not nest: they share the counters");
        Self(())
    }

    /// Stops counting.
    pub fn close(self) -> Tally {
        COUNTING.store(false, Ordering::Relaxed);
        Tally {
            allocations: ALLOCATIONS.load(Ordering::Relaxed),
            live_bytes: LIVE_BYTES.load(Ordering::Relaxed),
        }
    }
}

// === impl CountingAllocator ===

#[expect(
    unsafe_code,
    reason = "`GlobalAlloc` is an unsafe trait, and the only way to count"
)]
// SAFETY: every method passes its arguments on to `System`, unchanged, and returns what `System`
// returned, so `System`'s guarantees are this allocator's. Counting touches only atomics: it neither
// allocates nor unwinds.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, signed(layout.size()));
        // SAFETY: the caller upholds the contract of `alloc`, which is that of `System::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(1, signed(layout.size()));
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, -signed(layout.size()));
        // SAFETY: `pointer` came from this allocator and so from `System`, with this `layout`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(1, signed(new_size) - signed(layout.size()));
        // SAFETY: as in `dealloc`; the caller vouches for `new_size`.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[inline]
fn count(allocations: u64, bytes: i64) {
    if COUNTING.load(Ordering::Relaxed) {
        ALLOCATIONS.fetch_add(allocations, Ordering::Relaxed);
        LIVE_BYTES.fetch_add(bytes, Ordering::Relaxed);
    }
}

#[inline]
#[expect(
    clippy::cast_possible_wrap,
    reason = "a `Layout` is at most `isize::MAX` bytes"
)]
fn signed(size: usize) -> i64 {
    size as i64
}
