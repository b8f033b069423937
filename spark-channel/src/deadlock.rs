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
//! while reads may start, and for all of them once a message is to run alone, or for one
//! of them if no more may run; so the module looks again when that begins, and
//! [refuses](refusal) what it finds.

mod refusal;

use std::{
    collections::HashSet,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering, fence},
    },
    task::{Poll, Waker},
};

pub(crate) use self::refusal::{refuse_one_if_all_wait, refuse_what_reads_wait_for};
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
/// same. What a task asks that a handler has spawned is not the handler's own: nobody knows that
/// the handler waits for it.
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
    /// Why it is in vain.
    refusal: Option<SparkChannelError>,
    /// Whether that was told to the log, for a module that is only warned.
    is_warned: bool,
    /// Who is to be told so.
    waker: Option<Waker>,
}

/// What a walk sees of a wait.
struct Seen {
    number: u64,
    callee: Arc<Control>,
    handled_by: Option<SlotId>,
    is_refused: bool,
}

/// A module that a walk has come to.
#[derive(Clone)]
struct Step {
    module: Arc<Control>,
    /// The handler that is waited for, if not all.
    handler: Option<SlotId>,
    /// The wait that led here, and whose it is; none at the start.
    by: Option<(Arc<Control>, u64)>,
}

/// A handler that runs, told by the address of its slot from those beside it.
type SlotId = usize;

/// The names of modules that wait, each for the next one.
pub(crate) type Path = Arc<[Arc<str>]>;

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
        (takes_part(&scope.control) && callee.slots.len() == 1)
            .then(|| (Arc::clone(&scope.control), slot_id(&scope.slot)))
    }) {
        Some(Some((caller, asker))) => wait(caller, asker, callee),
        _ => Ok(None),
    }
}

/// Waits for a `place` in the mailbox of `callee`, and [says so](wait_for) meanwhile.
///
/// # Errors
///
/// [`WouldDeadlock`](SparkChannelError::WouldDeadlock), also if the circle closes later.
pub(crate) async fn wait_for_room<P: Future>(
    callee: Option<&Arc<Control>>,
    // Pinned by whoever calls: as an argument it would be held twice.
    mut place: Pin<&mut P>,
) -> Result<P::Output, SparkChannelError> {
    let edge = callee.map(wait_for).transpose()?.flatten();
    poll_fn(|cx| {
        if let Poll::Ready(place) = place.as_mut().poll(cx) {
            return Poll::Ready(Ok(place));
        }
        match (&edge, callee) {
            (Some(edge), Some(callee)) => match edge.look(callee, cx.waker()) {
                Ok(()) => Poll::Pending,
                Err(reason) => Poll::Ready(Err(reason)),
            },
            _ => Poll::Pending,
        }
    })
    .await
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
    warn(&edge.from, number, path);
    Ok(Some(edge))
}

/// Says, once for each wait, that it would deadlock.
#[cold]
fn warn(asker: &Control, number: u64, path: Path) {
    let tell = |wait: &mut Wait| !std::mem::replace(&mut wait.is_warned, true);
    if asker.waits.with(number, tell) == Some(true) {
        let text = SparkChannelError::WouldDeadlock { path }.to_string();
        tracing::warn!(module = &*asker.name, "{text}");
    }
}

fn slot_id(slot: &Slot) -> SlotId {
    std::ptr::from_ref(slot).addr()
}

/// The names from `end` through `start` and on, round to `end`, if a request to `start`
/// waits for the handler of `end` that is `asker`.
fn path(start: &Arc<Control>, end: &Arc<Control>, asker: SlotId) -> Option<Path> {
    if !Arc::ptr_eq(start, end) {
        // Between the edge that was published and the look at others': of two that close a
        // circle together, at least one sees the other.
        fence(Ordering::SeqCst);
        if !start.waits.any() {
            return None;
        }
    }
    loop {
        let steps = walk(start, end, asker)?;
        // A walk takes time: the first wait it saw may have ended before the last began.
        // What all is still there was there together.
        if steps.iter().all(Step::stands) {
            let names = steps.iter().map(|step| &step.module.name);
            return Some([&end.name].into_iter().chain(names).cloned().collect());
        }
    }
}

/// The steps from `start` to `end`.
fn walk(start: &Arc<Control>, end: &Arc<Control>, asker: SlotId) -> Option<Vec<Step>> {
    let start = Step {
        module: Arc::clone(start),
        handler: None,
        by: None,
    };
    // Each with the index of the one before it.
    let mut known = HashSet::from([start.id()]);
    let mut seen = vec![(start, None)];
    let mut at = 0;
    while at < seen.len() {
        let here = &seen[at].0;
        here.wake_if_full();
        if Arc::ptr_eq(&here.module, end) && here.waits_for(asker) {
            return Some(way_to(at, &seen));
        }
        for next in here.next() {
            if known.insert(next.id()) {
                seen.push((next, Some(at)));
            }
        }
        at += 1;
    }
    None
}

/// The way from the start to the step at `last`, of steps each with the index of the one
/// before it.
fn way_to(last: usize, seen: &[(Step, Option<usize>)]) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut back = Some(last);
    while let Some(index) = back {
        steps.push(seen[index].0.clone());
        back = seen[index].1;
    }
    steps.reverse();
    steps
}

// === impl Step ===

impl Step {
    fn id(&self) -> (*const Control, Option<SlotId>) {
        (Arc::as_ptr(&self.module), self.handler)
    }

    /// Whether who comes here waits for the handler in `slot`.
    fn waits_for(&self, slot: SlotId) -> bool {
        match self.handler {
            Some(handler) => handler == slot,
            None => !self.module.is_open(),
        }
    }

    fn next(&self) -> Vec<Self> {
        let waits = self.module.waits.of(|slot| self.waits_for(slot));
        waits.into_iter().map(|wait| self.by_way_of(wait)).collect()
    }

    fn by_way_of(&self, wait: Seen) -> Self {
        Self {
            module: wait.callee,
            handler: wait.handled_by,
            by: Some((Arc::clone(&self.module), wait.number)),
        }
    }

    /// Has a reader-writer module find out for itself whether all of its reads wait.
    fn wake_if_full(&self) {
        if let (None, Some(readers)) = (self.handler, &self.module.readers)
            && readers.are_full()
        {
            self.module.slots[0].wake();
        }
    }

    /// Whether the wait that led here is there, and still for what it was for.
    fn stands(&self) -> bool {
        let waits = self.handler.is_some() || !self.module.is_open();
        waits
            && self.by.as_ref().is_none_or(|(from, number)| {
                let handled_by = from.waits.with(*number, |wait| wait.handled_by);
                handled_by == Some(self.handler)
            })
    }
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
            refusal: None,
            is_warned: false,
            waker: None,
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

    /// Whom those handlers wait for that are `wanted`.
    fn of(&self, wanted: impl Fn(SlotId) -> bool) -> Vec<Seen> {
        let list = self.lock();
        let edges = list.iter().flat_map(|list| &list.edges);
        edges
            .filter(|edge| wanted(edge.asker))
            .map(|edge| Seen {
                number: edge.number,
                callee: Arc::clone(&edge.callee),
                handled_by: edge.handled_by,
                is_refused: edge.refusal.is_some(),
            })
            .collect()
    }

    /// Whether the handlers that run wait, directly or through others, for a module that
    /// is `wanted`.
    #[cold]
    pub(crate) fn reach(&self, wanted: impl Fn(&Control) -> bool) -> bool {
        let mut known = HashSet::new();
        let mut ahead = self.of(|_| true);
        while let Some(Seen {
            callee: here,
            handled_by,
            ..
        }) = ahead.pop()
        {
            if wanted(&here) {
                return true;
            }
            if known.insert((Arc::as_ptr(&here), handled_by)) {
                let waits_for = |slot| handled_by.map_or(!here.is_open(), |by| by == slot);
                ahead.extend(here.waits.of(waits_for));
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
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.from.waits.remove(self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use super::*;

    fn control(name: &str) -> Arc<Control> {
        let deadlocks = Deadlocks::Error;
        let control = Control::new(name.into(), 1, 1, None, Duration::ZERO, deadlocks);
        Arc::new(control)
    }

    fn waits(caller: &Arc<Control>, callee: &Arc<Control>) -> Edge {
        Edge {
            from: Arc::clone(caller),
            number: caller.waits.add(callee, slot_id(&caller.slots[0])),
        }
    }

    #[test]
    fn waits_that_were_never_there_together_are_no_circle() {
        let [a, b, beside, c] = ["a", "b", "beside", "c"].map(control);
        let _beside = waits(&b, &beside);
        let b_waits = waits(&b, &c);
        let references = Arc::strong_count(&c);

        // `a` asks `b`, and is held up when it has seen that `b` waits for `c`.
        let held = beside.waits.lock();
        let asking = {
            let (a, b) = (Arc::clone(&a), Arc::clone(&b));
            thread::spawn(move || wait(Arc::clone(&a), slot_id(&a.slots[0]), &b).map(drop))
        };
        while Arc::strong_count(&c) == references {
            assert!(!asking.is_finished());
            thread::yield_now();
        }
        // `c` answers `b`, and only then asks `a`.
        drop(b_waits);
        let _c_waits = waits(&c, &a);
        drop(held);

        asking.join().expect("no panic").expect("no circle");
        let _b_waits = waits(&b, &c);
        let path = path(&a, &c, slot_id(&c.slots[0]));
        assert_eq!(path, None, "`a` has given up");
    }
}
