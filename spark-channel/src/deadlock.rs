//! Deadlock as an error: who waits for whom, and the walk that finds a circle.
//!
//! A request made inside of a handler first publishes that its module waits for the
//! callee, then walks from the callee along what is published. The lists are each
//! behind a lock of their own, and everybody writes before he reads: of requests that
//! close a circle together, the last to publish sees all of it.
//!
//! An edge goes away before the reply is sent, when the request is dropped, and when
//! the handler that made it ends. Only modules of one replica take part: a pool answers
//! with whichever replica is free.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{SparkChannelError, control::Control, current};

/// What becomes of a request that could never be answered, because its callee waits,
/// directly or through others, for the module that makes it.
///
/// Noticed at the request that closes the circle. A circle that some handler would
/// leave by itself, because it waits for one of several things, counts as one all the
/// same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Deadlocks {
    /// It fails with [`WouldDeadlock`](SparkChannelError::WouldDeadlock).
    #[default]
    Error,
    /// It is sent, and a warning names the path.
    Warn,
    /// Nobody looks. Nor do others see that this module waits.
    Off,
}

/// Whom the running handler of a module waits for.
#[derive(Default)]
pub(crate) struct Waits {
    // Boxed when it is first needed: most modules ask nobody.
    list: Mutex<Option<Box<List>>>,
    any: AtomicBool,
}

#[derive(Default)]
struct List {
    next: u64,
    edges: Vec<(u64, Arc<Control>)>,
}

/// A published wait, until it is dropped. The request has one and the message that
/// travels may have its twin: whichever is dropped first ends the wait.
pub(crate) struct Edge {
    from: Arc<Control>,
    number: u64,
}

/// Publishes that the running handler waits for `callee`, and looks for a circle. No
/// edge outside of a handler.
///
/// # Errors
///
/// [`WouldDeadlock`](SparkChannelError::WouldDeadlock), if the module wants it as an error.
#[inline]
pub(crate) fn wait_for(callee: &Arc<Control>) -> Result<Option<Edge>, SparkChannelError> {
    let takes_part =
        |control: &Arc<Control>| control.slots.len() == 1 && control.deadlocks != Deadlocks::Off;
    match current::with(|scope| {
        (takes_part(&scope.control) && callee.slots.len() == 1).then(|| Arc::clone(&scope.control))
    }) {
        Some(Some(caller)) => wait(caller, callee),
        _ => Ok(None),
    }
}

fn wait(caller: Arc<Control>, callee: &Arc<Control>) -> Result<Option<Edge>, SparkChannelError> {
    let number = caller.waits.add(callee);
    let edge = Edge {
        from: caller,
        number,
    };
    let Some(path) = path(callee, &edge.from) else {
        return Ok(Some(edge));
    };
    if edge.from.deadlocks == Deadlocks::Error {
        return Err(SparkChannelError::WouldDeadlock { path });
    }
    let path = SparkChannelError::WouldDeadlock { path }.to_string();
    tracing::warn!(module = &*edge.from.name, "{path}");
    Ok(Some(edge))
}

/// The names from `end` through `start` and on, round to `end`, if `start` waits for it.
fn path(start: &Arc<Control>, end: &Arc<Control>) -> Option<Arc<[Arc<str>]>> {
    // Each with the index of the one that waits for it.
    let mut seen = vec![(Arc::clone(start), None)];
    let mut known = HashSet::from([Arc::as_ptr(start)]);
    let mut at = 0;
    while at < seen.len() {
        let here = Arc::clone(&seen[at].0);
        if Arc::ptr_eq(&here, end) {
            let mut names = vec![Arc::clone(&end.name)];
            let mut back = seen[at].1;
            while let Some(index) = back {
                let (control, before): &(Arc<Control>, Option<usize>) = &seen[index];
                names.push(Arc::clone(&control.name));
                back = *before;
            }
            names.push(Arc::clone(&end.name));
            names.reverse();
            return Some(names.into());
        }
        for next in here.waits.targets() {
            if known.insert(Arc::as_ptr(&next)) {
                seen.push((next, Some(at)));
            }
        }
        at += 1;
    }
    None
}

// === impl Waits ===

impl Waits {
    fn add(&self, callee: &Arc<Control>) -> u64 {
        let mut list = self.lock();
        let list = list.get_or_insert_default();
        let number = list.next;
        list.next += 1;
        list.edges.push((number, Arc::clone(callee)));
        self.any.store(true, Ordering::Release);
        number
    }

    fn remove(&self, number: u64) {
        let removed = {
            let mut list = self.lock();
            let Some(list) = list.as_mut() else { return };
            let Some(at) = list.edges.iter().position(|edge| edge.0 == number) else {
                return;
            };
            let removed = list.edges.swap_remove(at);
            self.any.store(!list.edges.is_empty(), Ordering::Release);
            removed
        };
        // Perhaps the last of its module, and not under the lock.
        drop(removed);
    }

    fn targets(&self) -> Vec<Arc<Control>> {
        match &*self.lock() {
            Some(list) => list.edges.iter().map(|edge| Arc::clone(&edge.1)).collect(),
            None => Vec::new(),
        }
    }

    /// Forgets the waits of a handler that has ended: a request that it has given to
    /// another task is no longer its own.
    #[inline]
    pub(crate) fn forget(&self) {
        if self.any.load(Ordering::Acquire) {
            self.clear();
        }
    }

    #[cold]
    fn clear(&self) {
        let edges = {
            let mut list = self.lock();
            self.any.store(false, Ordering::Release);
            list.as_mut().map(|list| std::mem::take(&mut list.edges))
        };
        drop(edges);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<List>>> {
        // Nothing that can panic runs under it but an allocation; a poisoned one is whole.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Edge ===

impl Edge {
    /// The same wait, to travel with the message.
    pub(crate) fn twin(&self) -> Self {
        Self {
            from: Arc::clone(&self.from),
            number: self.number,
        }
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.from.waits.remove(self.number);
    }
}
