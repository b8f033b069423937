//! Direct calls: an idle module answers a request on its caller's own task.
//!
//! Handing a message to another task and waiting for the answer costs two wake-ups,
//! which is most of what a request costs. When nothing is queued and no handler runs,
//! nobody can tell whether the module's task or the caller's polls the handler: the
//! worker that owns the handler lies in a [`Seat`](crate::run_loop::Seat), from which
//! one of them takes it. So exclusion is ownership.
//!
//! The caller polls the handler once. If that is not enough, the worker goes back with
//! the handler's future in it, and the module's own task goes on from there: a caller
//! that is dropped never tears a handler.

use std::{
    cell::Cell,
    task::{Context, Poll, RawWakerVTable, Waker},
};

use tokio::{
    runtime::{self, Handle},
    sync::oneshot,
    task::{self, coop},
};

use crate::{clock::Moment, deadlock::Edge};

/// A module that can be called directly.
pub(crate) trait DirectCalls<M, R, E>: Send + Sync {
    /// Polls the handler once with the message, unless the module is
    /// [busy](Called::Busy); then the message stays where it is. The wait that `edge`
    /// stands for ends before the module does anything else.
    fn call(
        &self,
        message: &mut Option<M>,
        deadline: Option<Moment>,
        edge: &mut Option<Edge>,
        cx: &mut Context<'_>,
    ) -> Called<R, E>;
}

/// What became of a direct call.
pub(crate) enum Called<R, E> {
    /// The module cannot be called directly now. Its mailbox takes the message.
    Busy,
    Answered(Result<R, E>),
    /// The handler runs on in the module's task.
    Started(oneshot::Receiver<Result<R, E>>),
}

/// One more direct call on this thread's stack, until it is dropped.
pub(crate) struct Level(());

thread_local! {
    static THREAD: Thread = const {
        Thread {
            levels: Cell::new((0, 0)),
            seen: Cell::new(None),
        }
    };
}

struct Thread {
    /// How many there are, and where on the stack the first one began.
    levels: Cell<(u8, usize)>,
    /// The task seen last on this thread, how it was polled, and its runtime.
    seen: Cell<Option<(task::Id, WakerId, runtime::Id)>>,
}

type WakerId = (*const (), *const RawWakerVTable);

// === impl Level ===

impl Level {
    /// `None` when handlers that call each other directly are nested too deep: each is a
    /// few frames on the one stack, and nobody knows how large. And when the code that runs
    /// now is not polled by `runtime`: only there does a handler find the timers, sockets
    /// and tasks it was written for.
    // Not inlined: in the crates of handlers, a thread-local is slower to reach.
    #[inline(never)]
    pub(crate) fn enter(runtime: runtime::Id, waker: &Waker) -> Option<Self> {
        THREAD.with(|thread| {
            let (levels, first) = thread.levels.get();
            let probe = 0_u8;
            let here = std::ptr::from_ref(&probe).addr();
            let first = if levels == 0 { here } else { first };
            let is_deep = levels == LEVELS_MAX || first.abs_diff(here) > STACK_BYTES_MAX;
            if is_deep || !thread.is_on(runtime, waker) {
                return None;
            }
            thread.levels.set((levels + 1, first));
            Some(Self(()))
        })
    }
}

impl Drop for Level {
    #[inline(never)]
    fn drop(&mut self) {
        THREAD.with(|thread| {
            let (levels, first) = thread.levels.get();
            thread.levels.set((levels - 1, first));
        });
    }
}

// === impl Thread ===

impl Thread {
    /// Asking tokio costs a shared counter, so the answer is kept for the task seen last,
    /// and its waker: one that blocks its thread on another runtime is polled there with
    /// another.
    fn is_on(&self, runtime: runtime::Id, waker: &Waker) -> bool {
        let Some(task) = task::try_id() else {
            return ask_runtime() == Some(runtime);
        };
        let waker = (waker.data(), std::ptr::from_ref(waker.vtable()));
        match self.seen.get() {
            Some((seen, polled, its)) if seen == task && polled == waker => its == runtime,
            _ => {
                let asked = ask_runtime();
                self.seen.set(asked.map(|its| (task, waker, its)));
                asked == Some(runtime)
            }
        }
    }
}

#[cold]
fn ask_runtime() -> Option<runtime::Id> {
    Some(Handle::try_current().ok()?.id())
}

/// Takes a unit of the task's budget, if there is one: a direct call does not yield by
/// itself, and a caller in a loop must not keep its thread from everybody else.
#[inline]
pub(crate) fn take_budget(cx: &mut Context<'_>) -> bool {
    match coop::poll_proceed(cx) {
        Poll::Ready(unit) => {
            unit.made_progress();
            true
        }
        Poll::Pending => false,
    }
}

const LEVELS_MAX: u8 = 16;

/// An eighth of what tokio gives its threads: how much stack the calls around a nested
/// one may have taken.
const STACK_BYTES_MAX: usize = 256 << 10;
