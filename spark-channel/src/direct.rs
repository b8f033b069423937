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
    static LEVELS: Cell<u8> = const { Cell::new(0) };
    /// The task seen last on this thread, and its runtime.
    static SEEN: Cell<Option<(task::Id, runtime::Id)>> = const { Cell::new(None) };
}

// === impl Level ===

impl Level {
    /// `None` when handlers that call each other directly are nested too deep: each
    /// is a few frames on the one stack.
    #[inline]
    pub(crate) fn enter() -> Option<Self> {
        let levels = LEVELS.get();
        if levels == LEVELS_MAX {
            return None;
        }
        LEVELS.set(levels + 1);
        Some(Self(()))
    }
}

impl Drop for Level {
    #[inline]
    fn drop(&mut self) {
        LEVELS.set(LEVELS.get() - 1);
    }
}

/// Takes a unit of the task's budget: a direct call does not yield by itself, and a
/// caller in a loop must not keep its thread from everybody else.
#[inline]
pub(crate) fn poll_budget(cx: &mut Context<'_>) -> Poll<()> {
    ready!(coop::poll_proceed(cx)).made_progress();
    Poll::Ready(())
}

/// Whether the code that runs now is polled by `runtime`: only there does a handler find
/// the timers, sockets and tasks it was written for.
///
/// Asking tokio costs a shared counter, so the answer is kept for the task seen last; a
/// task never changes its runtime.
#[inline]
pub(crate) fn is_on(runtime: runtime::Id) -> bool {
    let task = task::try_id();
    match (task, SEEN.get()) {
        (Some(task), Some((seen, its))) if task == seen => its == runtime,
        _ => ask_runtime(task) == Some(runtime),
    }
}

fn ask_runtime(task: Option<task::Id>) -> Option<runtime::Id> {
    let runtime = Handle::try_current().ok()?.id();
    if let Some(task) = task {
        SEEN.set(Some((task, runtime)));
    }
    Some(runtime)
}

const LEVELS_MAX: u8 = 16;
