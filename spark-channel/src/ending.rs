//! A module's end, for any number of those who wait for it.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::{Notify, futures::Notified};

use crate::Report;

/// The one report of a module, once there is one, and who is to be told.
#[derive(Default)]
pub(crate) struct Ending {
    // Boxed: most of its life a module has none.
    report: OnceLock<Box<Report>>,
    // Boxed when it is first needed: most modules are not watched.
    notices: Mutex<Option<Box<Notices>>>,
    changed: Notify,
}

#[derive(Default)]
struct Notices {
    next: u64,
    list: Vec<(NoticeId, Notice)>,
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

    /// Makes `report` the module's, unless it has one, and wakes those who wait. Returns
    /// the one it has, and what else is to be done.
    pub(crate) fn announce(&self, report: Report) -> (&Report, Vec<Notice>) {
        let (report, notices) = {
            // Under the lock, so that a notice is either found here or sees the report.
            let mut notices = self.notices();
            let _ = self.report.set(Box::new(report));
            (self.report(), notices.take())
        };
        let Some(report) = report else {
            unreachable!("it has been set, now or before");
        };
        self.changed.notify_waiters();
        let list = notices.map_or_else(Vec::new, |notices| notices.list);
        (report, list.into_iter().map(|(_, notice)| notice).collect())
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
        let notices = notices.get_or_insert_default();
        let id = NoticeId(notices.next);
        notices.next += 1;
        notices.list.push((id, notice));
        Ok(id)
    }

    pub(crate) fn remove(&self, id: NoticeId) {
        let removed = {
            let mut notices = self.notices();
            notices.as_deref_mut().and_then(|notices| {
                let list = &mut notices.list;
                let found = list.iter().position(|(other, _)| *other == id);
                found.map(|index| list.swap_remove(index))
            })
        };
        // What it holds is the user's, and is not dropped under the lock.
        drop(removed);
    }

    /// Wakes those who wait for a stop, the end or a restart, to look again.
    pub(crate) fn changed(&self) {
        self.changed.notify_waiters();
    }

    /// The next [`changed`](Self::changed) or end, from the call on.
    pub(crate) fn next_change(&self) -> Notified<'_> {
        self.changed.notified()
    }

    fn notices(&self) -> MutexGuard<'_, Option<Box<Notices>>> {
        // Nothing that can panic runs under the lock; a poisoned one is still whole.
        self.notices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
