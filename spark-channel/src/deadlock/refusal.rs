//! What a reader-writer module refuses, because its own reads wait for it.
//!
//! A request that was accepted before a message came that has to run alone may wait behind
//! that message for the very read that made it. Who makes it has looked and found
//! nothing, so the module looks again, and leaves its refusal with the wait: the asker
//! finds it there, and so does the module when the request's turn comes. Only the module
//! starts requests, so what it refuses has not started and never will.

use std::{collections::HashSet, sync::Arc, task::Waker};

use super::{Edge, Path, SlotId, Step, Wait, slot_id, warn, way_to};
use crate::{
    Deadlocks, SparkChannelError,
    control::{Control, Slot},
};

/// A request of `callee` that has not started, as it is found from one of its reads.
struct Found {
    /// From the read to whoever makes the request.
    steps: Vec<Step>,
    number: u64,
}

/// Refuses every request for whose answer a running read of `callee` waits while it waits
/// in its turn for the reads to end. Whether there was a new one.
#[cold]
pub(crate) fn refuse_what_reads_wait_for(
    callee: &Arc<Control>,
    reason: impl Fn(Path) -> SparkChannelError,
) -> bool {
    let mut any = false;
    for found in search(callee, None) {
        any |= found.refuse(&reason);
    }
    any
}

/// Refuses one request if each of the reads in `slots`, as many as may run, waits for a
/// request that waits for one of them to end. Whether it did.
#[cold]
pub(crate) fn refuse_one_if_all_wait<'a>(
    callee: &Arc<Control>,
    slots: impl Iterator<Item = &'a Slot>,
    reason: impl Fn(Path) -> SparkChannelError,
) -> bool {
    let mut all = Vec::new();
    for slot in slots {
        let found = search(callee, Some(slot_id(slot)));
        if found.is_empty() {
            return false;
        }
        all.extend(found);
    }
    all.into_iter().any(|found| found.refuse(&reason))
}

/// The requests of `callee` that have not started, and not been refused, for which its
/// reads wait, or the one in `slot`.
fn search(callee: &Arc<Control>, slot: Option<SlotId>) -> Vec<Found> {
    loop {
        let found = walk(callee, slot);
        // As for `path`: what all is still there was there together.
        if found.iter().all(Found::stands) {
            return found;
        }
    }
}

fn walk(callee: &Arc<Control>, slot: Option<SlotId>) -> Vec<Found> {
    let mut found = Vec::new();
    let start = Step {
        module: Arc::clone(callee),
        handler: slot,
        by: None,
    };
    // Each with the index of the one before it.
    let mut known = HashSet::from([start.id()]);
    let mut seen = vec![(start, None)];
    let mut at = 0;
    while at < seen.len() {
        let here = seen[at].0.clone();
        let waits = here.module.waits.of(|asker| here.waits_for(asker));
        for wait in waits {
            if Arc::ptr_eq(&wait.callee, callee) && wait.handled_by.is_none() {
                if !wait.is_refused {
                    let steps = way_to(at, &seen);
                    let number = wait.number;
                    found.push(Found { steps, number });
                }
                continue;
            }
            let next = here.by_way_of(wait);
            if known.insert(next.id()) {
                seen.push((next, Some(at)));
            }
        }
        at += 1;
    }
    found
}

// === impl Found ===

impl Found {
    fn asker(&self) -> &Arc<Control> {
        match self.steps.last() {
            Some(step) => &step.module,
            None => unreachable!("it was found somewhere"),
        }
    }

    fn stands(&self) -> bool {
        let waits = |wait: &mut Wait| wait.handled_by.is_none();
        self.steps.iter().all(Step::stands)
            && self.asker().waits.with(self.number, waits) == Some(true)
    }

    /// Refuses it, or warns, if its module wants no more.
    fn refuse(&self, reason: impl Fn(Path) -> SparkChannelError) -> bool {
        let asker = self.asker();
        // From the asker to the callee, and along the way it was found.
        let names = self.steps.iter().map(|step| &step.module.name);
        let path = [&asker.name].into_iter().chain(names).cloned().collect();
        if asker.deadlocks != Deadlocks::Error {
            warn(asker, self.number, path);
            return false;
        }
        let reason = reason(path);
        let waker = asker.waits.with(self.number, |wait| {
            wait.refusal = Some(reason);
            wait.waker.take()
        });
        let is_refused = waker.is_some();
        if let Some(waker) = waker.flatten() {
            waker.wake();
        }
        is_refused
    }
}

// === impl Edge ===

impl Edge {
    /// Looks whether `callee` has refused the request meanwhile, and wakes `waker` when it does.
    ///
    /// # Errors
    ///
    /// Why it was refused.
    #[inline]
    pub(crate) fn look(&self, callee: &Control, waker: &Waker) -> Result<(), SparkChannelError> {
        match callee.readers {
            Some(_) => self.look_again(waker),
            None => Ok(()),
        }
    }

    #[cold]
    fn look_again(&self, waker: &Waker) -> Result<(), SparkChannelError> {
        let look = |wait: &mut Wait| {
            if let Some(reason) = &wait.refusal {
                return Err(reason.clone());
            }
            match &mut wait.waker {
                Some(known) => known.clone_from(waker),
                none => *none = Some(waker.clone()),
            }
            Ok(())
        };
        self.from.waits.with(self.number, look).unwrap_or(Ok(()))
    }

    /// Why the callee has refused the request.
    pub(crate) fn refusal(&self) -> Option<SparkChannelError> {
        let refusal = |wait: &mut Wait| wait.refusal.clone();
        self.from.waits.with(self.number, refusal).flatten()
    }

    /// Notes which of the callee's reads the request waits for from now on.
    #[cold]
    pub(crate) fn is_handled_by(&self, slot: &Slot) {
        let handled = |wait: &mut Wait| wait.handled_by = Some(slot_id(slot));
        self.from.waits.with(self.number, handled);
    }

    /// Whether the handler that made it still waits.
    #[cfg(feature = "tower")]
    pub(crate) fn stands(&self) -> bool {
        self.from.waits.with(self.number, |_| ()).is_some()
    }
}
