//! Where reads run: each desk has a scope and a waker of its own, so that a read inherits
//! nothing from its neighbours and is polled only when it was woken.
//!
//! Invariants of [`Woken`]:
//!
//! 1. A desk's bit is set before the task is woken, and cleared before the desk is polled.
//! 2. Whoever sets the first bit of a word wakes the task; the others rely on it. So
//!    the task must clear the bits in every poll before it may be suspended, also those of
//!    desks where no read runs any more.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Wake, Waker},
};

use crate::{
    control::{Control, Slot},
    current::{self, Scope},
};

pub(in crate::run_loop) struct Desks {
    control: Arc<Control>,
    woken: Arc<Woken>,
    used: Vec<Desk>,
}

pub(super) struct Desk {
    pub(super) slot: Arc<Slot>,
    // Empty while it is entered, and always in the first desk, whose slot is the module's:
    // the scope of the whole loop is also that desk's.
    scope: Option<Scope>,
    waker: Waker,
}

/// The desks to be polled, a bit for each.
struct Woken {
    words: Box<[AtomicU64]>,
    /// The slot that knows the module's task.
    task: Arc<Slot>,
}

struct DeskWaker {
    woken: Arc<Woken>,
    desk: usize,
}

// === impl Desks ===

impl Desks {
    pub(in crate::run_loop) fn new(control: Arc<Control>, at_once: usize) -> Self {
        let words = at_once.div_ceil(BITS);
        let woken = Woken {
            words: (0..words).map(|_| AtomicU64::new(0)).collect(),
            task: Arc::clone(&control.slots[0]),
        };
        let mut this = Self {
            control,
            woken: Arc::new(woken),
            used: Vec::new(),
        };
        this.add();
        this
    }

    /// A desk up to one beyond those used so far.
    #[inline]
    pub(super) fn desk(&mut self, index: usize) -> &mut Desk {
        if index == self.used.len() {
            self.add();
        }
        &mut self.used[index]
    }

    /// The slots of the first `count` desks.
    pub(super) fn slots(&self, count: usize) -> impl Iterator<Item = &Slot> {
        self.used.iter().take(count).map(|desk| &*desk.slot)
    }

    /// Clears the bits of 64 desks; `None` beyond the last.
    #[inline]
    pub(super) fn take_woken(&self, word: usize) -> Option<u64> {
        let word = self.woken.words.get(word)?;
        // A bit that is set but not seen yet comes with a wake that is not seen yet.
        Some(match word.load(Ordering::Relaxed) {
            0 => 0,
            _ => word.swap(0, Ordering::AcqRel),
        })
    }

    #[cold]
    fn add(&mut self) {
        let desk = self.used.len();
        let first = desk == 0;
        let slot = if first {
            Arc::clone(&self.woken.task)
        } else {
            Arc::default()
        };
        let scope = Scope {
            control: Arc::clone(&self.control),
            slot: Arc::clone(&slot),
        };
        let woken = Arc::clone(&self.woken);
        self.used.push(Desk {
            slot,
            scope: (!first).then_some(scope),
            waker: Arc::new(DeskWaker { woken, desk }).into(),
        });
    }
}

// === impl Desk ===

impl Desk {
    /// Runs user code in the desk's scope, with its waker; a panic ends here.
    #[inline]
    pub(super) fn run<T>(
        &mut self,
        work: impl FnOnce(&Slot, &mut Context<'_>) -> T,
    ) -> Result<T, Box<dyn Any + Send>> {
        let Self { slot, scope, waker } = self;
        let _scope = scope.is_some().then(|| current::enter(scope));
        let mut cx = Context::from_waker(waker);
        catch_unwind(AssertUnwindSafe(|| work(slot, &mut cx)))
    }
}

// === impl DeskWaker ===

impl Wake for DeskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let word = &self.woken.words[self.desk / BITS];
        if word.fetch_or(1 << (self.desk % BITS), Ordering::AcqRel) == 0 {
            self.woken.task.wake();
        }
    }
}

pub(super) const BITS: usize = u64::BITS as usize;
