//! What a running handler can learn about the message it handles.
//!
//! While a module's task is polled, a scope holds which module and which message
//! it is. A request made inside it inherits the deadline without being told.
//! The scope belongs to the handler's own future: a task spawned from it has
//! none, so work that should outlive the call's deadline is spawned.

use std::{cell::Cell, future::Future, mem::ManuallyDrop, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    clock::Moment,
    control::{Control, Slot},
};

thread_local! {
    // `ManuallyDrop`, because a thread-local with a destructor is slower to reach.
    // Nothing leaks: `Entered` takes out again what it put in.
    // Nor a `RefCell`: it is out of its place only while it is read.
    static SCOPE: Cell<Option<ManuallyDrop<Scope>>> = const { Cell::new(None) };
}

/// Which replica of which module the current poll belongs to.
pub(crate) struct Scope {
    pub(crate) control: Arc<Control>,
    pub(crate) slot: Arc<Slot>,
}

/// Keeps a scope entered; puts it, and the one before, back when dropped.
pub(crate) struct Entered<'a> {
    home: &'a mut Option<Scope>,
    outer: Option<ManuallyDrop<Scope>>,
}

/// Resolves once nobody waits for the running handler any more: its caller has
/// dropped the request or passed its deadline, or the module stops
/// [now](crate::Stop::Now).
///
/// A handler is not stopped by this, it only learns it; a module built to
/// [`drop_abandoned`](crate::ModuleBuilder::drop_abandoned) drops the handler
/// instead. Never resolves for a command, unless the module stops now, nor
/// outside of a handler. The future belongs to the message during which it was
/// made and costs nothing until it is made. It may be moved to another task, which
/// should not wait for it alone: it does not resolve when the handler simply ends.
///
/// # Cancel safety
///
/// Cancel safe: dropping it forgets the wish to know.
///
/// # Examples
///
/// ```
/// # async fn search() -> u64 { 42 }
/// async fn handle() -> Option<u64> {
///     tokio::select! {
///         found = search() => Some(found),
///         () = spark_channel::current::cancelled() => None, // nobody wants it any more
///     }
/// }
/// ```
pub fn cancelled() -> impl Future<Output = ()> + Send + 'static {
    let token = with_slot(Slot::cancel_token);
    async move {
        match token {
            Some(token) => token.cancelled_owned().await,
            None => std::future::pending().await,
        }
    }
}

/// The deadline of the request being handled; requests made here inherit it.
///
/// `None` for a command, for a request without a deadline, and outside of a handler.
#[must_use]
pub fn deadline() -> Option<Instant> {
    inherited_deadline().map(Moment::to_instant)
}

/// How much is left until [`deadline`]; zero once it has passed.
#[must_use]
pub fn remaining() -> Option<Duration> {
    deadline().map(|at| at.saturating_duration_since(Instant::now()))
}

/// The name of the module whose handler is running, if any.
#[must_use]
pub fn module_name() -> Option<Arc<str>> {
    with(|scope| Arc::clone(&scope.control.name))
}

pub(crate) fn inherited_deadline() -> Option<Moment> {
    with_slot(Slot::deadline).flatten()
}

/// Whether the current poll is that of a handler of the module, or of one of the set of
/// modules, that `control` belongs to.
pub(crate) fn is_inside(control: &Arc<Control>) -> bool {
    with(|scope| Arc::ptr_eq(&scope.control, control) || scope.control.is_within(control))
        .unwrap_or(false)
}

/// Enters the scope that is kept in `home`, which is empty until it is left.
#[inline]
pub(crate) fn enter(home: &mut Option<Scope>) -> Entered<'_> {
    let scope = home.take().map(ManuallyDrop::new);
    let outer = replace(scope);
    Entered { home, outer }
}

/// Reads the scope of this poll, if it is a handler's. `read` neither looks for a scope
/// itself nor panics.
#[inline]
pub(crate) fn with<T>(read: impl FnOnce(&Scope) -> T) -> Option<T> {
    let scope = SCOPE.take()?;
    let what = read(&scope);
    SCOPE.set(Some(scope));
    Some(what)
}

/// Puts a scope into the place of the one of this poll.
///
/// To be called by what is never inlined: in the crates of handlers, a thread-local is
/// slower to reach.
#[inline]
pub(crate) fn swap(scope: Option<ManuallyDrop<Scope>>) -> Option<ManuallyDrop<Scope>> {
    SCOPE.replace(scope)
}

fn with_slot<T>(read: impl FnOnce(&Slot) -> T) -> Option<T> {
    with(|scope| read(&scope.slot))
}

#[inline(never)]
fn replace(scope: Option<ManuallyDrop<Scope>>) -> Option<ManuallyDrop<Scope>> {
    swap(scope)
}

// === impl Entered ===

impl Drop for Entered<'_> {
    #[inline]
    fn drop(&mut self) {
        let scope = replace(self.outer.take());
        // An assignment would look for what to drop.
        if let Some(other) = std::mem::replace(self.home, scope.map(ManuallyDrop::into_inner)) {
            drop(other);
        }
    }
}
