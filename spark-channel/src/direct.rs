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
    task::{Context, Poll, ready},
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
            levels: Cell::new(0),
            seen: Cell::new(None),
        }
    };
}

struct Thread {
    levels: Cell<u8>,
    /// The task seen last on this thread, and its runtime.
    seen: Cell<Option<(task::Id, runtime::Id)>>,
}

// === impl Level ===

impl Level {
    /// `None` when handlers that call each other directly are nested too deep, each is a
    /// few frames on the one stack; and when the code that runs now is not polled by
    /// `runtime`: only there does a handler find the timers, sockets and tasks it was
    /// written for.
    // Not inlined: in the crates of handlers, a thread-local is slower to reach.
    #[inline(never)]
    pub(crate) fn enter(runtime: runtime::Id) -> Option<Self> {
        THREAD.with(|thread| {
            let levels = thread.levels.get();
            if levels == LEVELS_MAX || !thread.is_on(runtime) {
                return None;
            }
            thread.levels.set(levels + 1);
            Some(Self(()))
        })
    }
}

impl Drop for Level {
    #[inline(never)]
    fn drop(&mut self) {
        THREAD.with(|thread| thread.levels.set(thread.levels.get() - 1));
    }
}

// === impl Thread ===

impl Thread {
    /// Asking tokio costs a shared counter, so the answer is kept for the task seen last;
    /// a task never changes its runtime.
    fn is_on(&self, runtime: runtime::Id) -> bool {
        let task = task::try_id();
        match (task, self.seen.get()) {
            (Some(task), Some((seen, its))) if task == seen => its == runtime,
            _ => self.ask_runtime(task) == Some(runtime),
        }
    }

    #[cold]
    fn ask_runtime(&self, task: Option<task::Id>) -> Option<runtime::Id> {
        let runtime = Handle::try_current().ok()?.id();
        if let Some(task) = task {
            self.seen.set(Some((task, runtime)));
        }
        Some(runtime)
    }
}

/// Takes a unit of the task's budget: a direct call does not yield by itself, and a
/// caller in a loop must not keep its thread from everybody else.
#[inline]
pub(crate) fn poll_budget(cx: &mut Context<'_>) -> Poll<()> {
    ready!(coop::poll_proceed(cx)).made_progress();
    Poll::Ready(())
}

const LEVELS_MAX: u8 = 16;
