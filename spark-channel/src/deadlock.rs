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
//!
//! A reader-writer module waits as its reads do, each for itself. A request that one of
//! them handles waits for what that read waits for. One that is queued waits for nothing
//! while reads may start, and for all of them once a message is to run alone; so
//! the module looks again, for each request it has, when that begins.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering, fence},
    },
    task::Waker,
};

use crate::{
    SparkChannelError,
    control::{Control, Slot},
    current,
};

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
    edges: Vec<Wait>,
}

struct Wait {
    number: u64,
    callee: Arc<Control>,
    asker: SlotId,
    /// Which of the callee's reads handles the request, once one does.
    handled_by: Option<SlotId>,
}

/// A handler that runs, told by the address of its slot from those beside it.
type SlotId = usize;

/// A published wait, until it is dropped. The request has one and the message that
/// travels may have its twin: whichever is dropped first ends the wait.
pub(crate) struct Edge {
    from: Arc<Control>,
    number: u64,
}

/// A wait that somebody else publishes, to look at.
pub(crate) struct Published {
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
        (takes_part(&scope.control) && callee.slots.len() == 1)
            .then(|| (Arc::clone(&scope.control), slot_id(&scope.slot)))
    }) {
        Some(Some((caller, asker))) => wait(caller, asker, callee),
        _ => Ok(None),
    }
}

fn wait(
    caller: Arc<Control>,
    asker: SlotId,
    callee: &Arc<Control>,
) -> Result<Option<Edge>, SparkChannelError> {
    let number = caller.waits.add(callee, asker);
    let edge = Edge {
        from: caller,
        number,
    };
    let Some(path) = path(callee, &edge.from, asker) else {
        return Ok(Some(edge));
    };
    if edge.from.deadlocks == Deadlocks::Error {
        return Err(SparkChannelError::WouldDeadlock { path });
    }
    let path = SparkChannelError::WouldDeadlock { path }.to_string();
    tracing::warn!(module = &*edge.from.name, "{path}");
    Ok(Some(edge))
}

fn slot_id(slot: &Slot) -> SlotId {
    std::ptr::from_ref(slot).addr()
}

/// The names from `end` through `start` and on, round to `end`, if a request to `start`
/// waits for the handler of `end` that is `asker`.
fn path(start: &Arc<Control>, end: &Arc<Control>, asker: SlotId) -> Option<Arc<[Arc<str>]>> {
    if !Arc::ptr_eq(start, end) {
        // Between the edge that was published and the look at others': of two that close a
        // circle together, at least one sees the other.
        fence(Ordering::SeqCst);
        if !start.waits.any() {
            return None;
        }
    }
    // Each with the handler that is waited for, if not for all, and with the index of
    // the one that waits for it.
    let mut seen: Vec<(Arc<Control>, Option<SlotId>, Option<usize>)> =
        vec![(Arc::clone(start), None, None)];
    let mut known = HashSet::from([(Arc::as_ptr(start), None)]);
    let mut at = 0;
    while at < seen.len() {
        let (here, handler, before) = seen[at].clone();
        let waits_for = |slot| match handler {
            Some(handler) => handler == slot,
            None => !here.is_open(),
        };
        if Arc::ptr_eq(&here, end) && waits_for(asker) {
            let mut names = vec![Arc::clone(&end.name)];
            let mut back = before;
            while let Some(index) = back {
                names.push(Arc::clone(&seen[index].0.name));
                back = seen[index].2;
            }
            names.push(Arc::clone(&end.name));
            names.reverse();
            return Some(names.into());
        }
        for (next, handler) in here.waits.targets(waits_for) {
            if known.insert((Arc::as_ptr(&next), handler)) {
                seen.push((next, handler, Some(at)));
            }
        }
        at += 1;
    }
    None
}

// === impl Waits ===

impl Waits {
    fn add(&self, callee: &Arc<Control>, asker: SlotId) -> u64 {
        let mut list = self.lock();
        let list = list.get_or_insert_default();
        let number = list.next;
        list.next += 1;
        list.edges.push(Wait {
            number,
            callee: Arc::clone(callee),
            asker,
            handled_by: None,
        });
        self.any.store(true, Ordering::Release);
        number
    }

    fn remove(&self, number: u64) {
        let removed = {
            let mut list = self.lock();
            let Some(list) = list.as_mut() else { return };
            let Some(at) = list.edges.iter().position(|edge| edge.number == number) else {
                return;
            };
            let removed = list.edges.swap_remove(at);
            self.any.store(!list.edges.is_empty(), Ordering::Release);
            removed
        };
        // Perhaps the last of its module, and not under the lock.
        drop(removed);
    }

    /// Whom those handlers wait for that are `wanted`, and which handler of each.
    fn targets(&self, wanted: impl Fn(SlotId) -> bool) -> Vec<(Arc<Control>, Option<SlotId>)> {
        let list = self.lock();
        let edges = list.iter().flat_map(|list| &list.edges);
        edges
            .filter(|edge| wanted(edge.asker))
            .map(|edge| (Arc::clone(&edge.callee), edge.handled_by))
            .collect()
    }

    /// Whether the handlers that run wait, directly or through others, for a module that
    /// is `wanted`.
    #[cold]
    pub(crate) fn reach(&self, wanted: impl Fn(&Control) -> bool) -> bool {
        let mut known = HashSet::new();
        let mut ahead = self.targets(|_| true);
        while let Some((here, handler)) = ahead.pop() {
            if wanted(&here) {
                return true;
            }
            if known.insert((Arc::as_ptr(&here), handler)) {
                let waits_for = |slot| handler.map_or(!here.is_open(), |handler| handler == slot);
                ahead.extend(here.waits.targets(waits_for));
            }
        }
        false
    }

    /// Whether a running handler waits for anybody.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Forgets the waits of a handler that has ended: a request that it has given to
    /// another task is no longer its own.
    #[inline]
    pub(crate) fn forget(&self) {
        if self.any() {
            self.clear(|_| true);
        }
    }

    /// Forgets the waits of the one handler that runs in `slot` and has ended.
    #[inline]
    pub(crate) fn forget_of(&self, slot: &Slot) {
        if self.any() {
            self.clear(|asker| asker == slot_id(slot));
        }
    }

    #[cold]
    fn clear(&self, ended: impl Fn(SlotId) -> bool) {
        let mut list = self.lock();
        let Some(all) = list.as_mut() else { return };
        let edges = std::mem::take(&mut all.edges);
        let (ended, left): (Vec<_>, Vec<_>) = edges.into_iter().partition(|wait| ended(wait.asker));
        self.any.store(!left.is_empty(), Ordering::Release);
        all.edges = left;
        drop(list);
        drop(ended);
    }

    fn with<T>(&self, number: u64, change: impl FnOnce(&mut Wait) -> T) -> Option<T> {
        let mut list = self.lock();
        let mut edges = list.iter_mut().flat_map(|list| &mut list.edges);
        edges.find(|wait| wait.number == number).map(change)
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

    /// Looks again for a circle while the request waits for room at `callee`, and wakes
    /// `waker` to look once more when reads may not start there any more.
    ///
    /// # Errors
    ///
    /// [`WouldDeadlock`](SparkChannelError::WouldDeadlock).
    pub(crate) fn wait_for_room(
        &self,
        callee: &Arc<Control>,
        waker: &Waker,
    ) -> Result<(), SparkChannelError> {
        if let Some(readers) = &callee.readers {
            readers.register(waker);
            if let Some(path) = self.closes_circle(callee) {
                return Err(SparkChannelError::WouldDeadlock { path });
            }
        }
        Ok(())
    }

    /// As [`Published::closes_circle`].
    pub(crate) fn closes_circle(&self, callee: &Arc<Control>) -> Option<Arc<[Arc<str>]>> {
        self.published().closes_circle(callee)
    }

    /// The same wait, to be looked at while the message that has this may be elsewhere.
    pub(crate) fn published(&self) -> Published {
        Published {
            from: Arc::clone(&self.from),
            number: self.number,
        }
    }

    /// Notes which of the callee's reads the request waits for from now on.
    #[cold]
    pub(crate) fn is_handled_by(&self, slot: &Slot) {
        self.from
            .waits
            .with(self.number, |wait| wait.handled_by = Some(slot_id(slot)));
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.from.waits.remove(self.number);
    }
}

// === impl Published ===

impl Published {
    /// Looks again for a circle: `callee` is no longer [open](Control::is_open).
    pub(crate) fn closes_circle(&self, callee: &Arc<Control>) -> Option<Arc<[Arc<str>]>> {
        if self.from.deadlocks != Deadlocks::Error {
            return None;
        }
        let asker = self.from.waits.with(self.number, |wait| wait.asker)?;
        path(callee, &self.from, asker)
    }
}
