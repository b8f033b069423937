//! A module's end, for any number of those who wait for it.

use std::sync::{
    Mutex, MutexGuard, OnceLock, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::{Notify, futures::Notified};

use crate::Report;

/// The one report of a module, once there is one, and who is to be told.
#[derive(Default)]
pub(crate) struct Ending {
    // Boxed: most of its life a module has none.
    report: OnceLock<Box<Report>>,
    notices: Mutex<Vec<(NoticeId, Notice)>>,
    next_id: AtomicU64,
    changed: Notify,
}

/// What is to be done at the end, by whoever ends the module.
pub(crate) type Notice = Box<dyn FnOnce(&Report) + Send>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoticeId(u64);

// === impl Ending ===

impl Ending {
    pub(crate) fn report(&self) -> Option<&Report> {
        self.report.get().map(|report| &**report)
    }

    /// Makes `report` the module's, unless it has one; wakes those who wait, and
    /// returns what else is to be done.
    pub(crate) fn announce(&self, report: Report) -> Vec<Notice> {
        let notices = {
            // Under the lock, so that a notice is either found here or sees the report.
            let mut notices = self.notices();
            let _ = self.report.set(Box::new(report));
            std::mem::take(&mut *notices)
        };
        self.changed.notify_waiters();
        notices.into_iter().map(|(_, notice)| notice).collect()
    }

    /// Has `notice` run at the end.
    ///
    /// # Errors
    ///
    /// Gives it back if the module has ended.
    pub(crate) fn add(&self, notice: Notice) -> Result<NoticeId, Notice> {
        let mut notices = self.notices();
        if self.report.get().is_some() {
            return Err(notice);
        }
        let id = NoticeId(self.next_id.fetch_add(1, Ordering::Relaxed));
        notices.push((id, notice));
        Ok(id)
    }

    pub(crate) fn remove(&self, id: NoticeId) {
        let removed = {
            let mut notices = self.notices();
            let found = notices.iter().position(|(other, _)| *other == id);
            found.map(|index| notices.swap_remove(index))
        };
        // What it holds is the user's, and is not dropped under the lock.
        drop(removed);
    }

    /// Wakes those who wait for the end or for a restart, to look again.
    pub(crate) fn changed(&self) {
        self.changed.notify_waiters();
    }

    /// The next [`changed`](Self::changed) or end, from the call on.
    pub(crate) fn next_change(&self) -> Notified<'_> {
        self.changed.notified()
    }

    fn notices(&self) -> MutexGuard<'_, Vec<(NoticeId, Notice)>> {
        // Nothing that can panic runs under the lock; a poisoned one is still whole.
        self.notices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
