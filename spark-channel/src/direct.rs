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
    mem::ManuallyDrop,
    task::{Context, Poll, RawWakerVTable, Waker},
};

use tokio::{
    runtime::{self, Handle},
    sync::oneshot,
    task::{self, coop},
};

use crate::{
    clock::Moment,
    current::{self, Scope},
    deadlock::Edge,
};

/// A module that can be called directly.
pub(crate) trait DirectCalls<M, R, E>: Send + Sync {
    /// Polls the handler once with the message, and returns the answer if that is enough.
    ///
    /// If it is not, the handler runs on in the module's task, and `reply` is where the
    /// answer will come. If the module cannot be called directly now, there is no reply
    /// either, and the message stays where it is, for the mailbox. The wait that the edge
    /// stands for ends before the module does anything else.
    // Not an enum of the three: most calls are answered, and that is seen at one look.
    fn call(
        &self,
        asked: &mut Asked<M>,
        reply: &mut Option<oneshot::Receiver<Result<R, E>>>,
        cx: &mut Context<'_>,
    ) -> Option<Result<R, E>>;
}

/// What a module is asked. Together, so that it takes one register to hand over.
pub(crate) struct Asked<M> {
    // First, to end before the drop of a message, which is user code.
    /// That the module whose handler made it waits.
    pub(crate) edge: Option<Edge>,
    pub(crate) message: Option<M>,
    pub(crate) deadline: Option<Moment>,
}

/// The scope in which a direct call was entered, if any.
#[must_use = "a level that is entered has to be left"]
pub(crate) struct Outer(Option<ManuallyDrop<Scope>>);

thread_local! {
    /// How many direct calls there are on this thread's stack.
    static LEVELS: Cell<u8> = const { Cell::new(0) };
    /// Where on the stack the first one began.
    static FIRST: Cell<usize> = const { Cell::new(0) };
    /// The task seen last on this thread, how it was polled, and its runtime.
    static SEEN: Cell<Option<Seen>> = const { Cell::new(None) };
}

#[derive(Clone, Copy)]
struct Seen {
    task: task::Id,
    runtime: runtime::Id,
    data: *const (),
    vtable: *const RawWakerVTable,
}

/// Whether a handler of `runtime` may be polled here.
///
/// Not when handlers that call each other directly are nested too deep: each is a
/// few frames on the one stack, and nobody knows how large. And not when the code that runs
/// now is not polled by `runtime`: only there does a handler find the timers, sockets
/// and tasks it was written for.
// Not inlined: in the crates of handlers, a thread-local is slower to reach.
#[inline(never)]
pub(crate) fn may_call(runtime: runtime::Id, waker: &Waker) -> bool {
    (LEVELS.get() == 0 || !is_deep()) && is_on(runtime, waker)
}

/// Whether a direct call is on this thread's stack.
pub(crate) fn is_nested() -> bool {
    LEVELS.get() > 0
}

#[cold]
#[inline(never)]
fn is_deep() -> bool {
    LEVELS.get() == LEVELS_MAX || FIRST.get().abs_diff(here()) > STACK_BYTES_MAX
}

/// Asking tokio costs a shared counter, so the answer is kept for the task seen last,
/// and its waker: one that blocks its thread on another runtime is polled there with
/// another.
#[inline]
fn is_on(runtime: runtime::Id, waker: &Waker) -> bool {
    let task = task::try_id();
    if let (Some(task), Some(seen)) = (task, SEEN.get())
        && seen.task == task
        && seen.is_polled_by(waker)
    {
        return seen.runtime == runtime;
    }
    see(task, waker) == Some(runtime)
}

#[cold]
#[inline(never)]
fn see(task: Option<task::Id>, waker: &Waker) -> Option<runtime::Id> {
    let runtime = ask_runtime()?;
    if let Some(task) = task {
        SEEN.set(Some(Seen {
            task,
            runtime,
            data: waker.data(),
            vtable: waker.vtable(),
        }));
    }
    Some(runtime)
}

#[cold]
fn ask_runtime() -> Option<runtime::Id> {
    Some(Handle::try_current().ok()?.id())
}

/// About where the stack is.
#[inline]
fn here() -> usize {
    let probe = 0_u8;
    std::ptr::from_ref(&probe).addr()
}

// === impl Asked ===

impl<M> Asked<M> {
    #[inline]
    pub(crate) const fn new(message: M, deadline: Option<Moment>, edge: Option<Edge>) -> Self {
        Self {
            edge,
            message: Some(message),
            deadline,
        }
    }

    /// What is to be sent, since no direct call has taken it.
    #[inline]
    pub(crate) fn unanswered(self) -> (M, Option<Edge>) {
        match self.message {
            Some(message) => (message, self.edge),
            None => unreachable!("only a direct call takes the message"),
        }
    }
}

// === impl Seen ===

impl Seen {
    #[inline]
    fn is_polled_by(&self, waker: &Waker) -> bool {
        self.data == waker.data() && std::ptr::eq(self.vtable, waker.vtable())
    }
}

/// Enters one more direct call on this thread's stack, in the scope that is kept in `home`,
/// which is empty until it is [left](leave).
// Two functions and no guard, since whoever calls them catches panics in between.
#[inline(never)]
pub(crate) fn enter(home: &mut Option<Scope>) -> Outer {
    let outer = current::swap(home.take().map(ManuallyDrop::new));
    if outer.is_none() {
        // Outside of handlers, and so of direct calls.
        LEVELS.set(1);
        FIRST.set(here());
    } else {
        descend();
    }
    Outer(outer)
}

#[inline(never)]
pub(crate) fn leave(outer: Outer, home: &mut Option<Scope>) {
    if outer.0.is_none() {
        LEVELS.set(0);
    } else {
        ascend();
    }
    let scope = current::swap(outer.0);
    // An assignment would look for what to drop.
    if let Some(other) = std::mem::replace(home, scope.map(ManuallyDrop::into_inner)) {
        drop(other);
    }
}

#[cold]
#[inline(never)]
fn descend() {
    let levels = LEVELS.get();
    if levels == 0 {
        FIRST.set(here());
    }
    LEVELS.set(levels + 1);
}

#[cold]
#[inline(never)]
fn ascend() {
    LEVELS.set(LEVELS.get() - 1);
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
