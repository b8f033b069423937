//! Names and the weak dispatchers they lead to.

use std::{
    any::{Any, type_name},
    collections::{BTreeMap, btree_map},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{Notify, futures::Notified};

use super::error::{LookupError, RegisterError};
use crate::{
    MessageStats, ModuleState, SparkGenericModuleDispatcher, Stats, Watch, WeakDispatcher,
    control::Control, ending::NoticeId,
};

#[derive(Default)]
pub(super) struct Registry {
    entries: Mutex<BTreeMap<Arc<str>, Entry>>,
    next_id: AtomicU64,
    changed: Notify,
}

/// A registered module, as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegisteredModule {
    /// The name it is registered under.
    pub name: Arc<str>,
    /// The type of its messages, as the compiler calls it.
    pub message_type: &'static str,
    /// What it is doing.
    pub state: ModuleState,
    /// What it has counted.
    pub stats: Stats,
    /// What it tells of its messages by name, if it was built to.
    pub messages: Option<MessageStats>,
    /// Its watch, which tells it from others of that name.
    pub watch: Watch,
}

/// Tells an entry from a later one of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EntryId(u64);

struct Entry {
    place: Place,
    /// A [`WeakDispatcher`] of the module's types.
    weak: Box<dyn Any + Send + Sync>,
    dispatcher_type: &'static str,
    message_type: &'static str,
    stats: fn(&(dyn Any + Send + Sync)) -> Option<Stats>,
}

/// An entry from its module's side. Dropped, it leaves nothing there.
pub(super) struct Place {
    pub(super) id: EntryId,
    /// What takes the entry off at the module's end.
    pub(super) notice: NoticeId,
    pub(super) control: Arc<Control>,
}

// === impl Registry ===

impl Registry {
    pub(super) fn new_id(&self) -> EntryId {
        EntryId(self.next_id.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn add<M, R, C, E>(
        &self,
        name: Arc<str>,
        weak: WeakDispatcher<M, R, C, E>,
        place: Place,
    ) -> Result<(), RegisterError>
    where
        M: Send + 'static,
        R: Send + 'static,
        C: Send + 'static,
        E: Send + 'static,
    {
        let entry = Entry {
            place,
            weak: Box::new(weak),
            dispatcher_type: type_name::<SparkGenericModuleDispatcher<M, R, C, E>>(),
            message_type: type_name::<M>(),
            stats: stats_of::<M, R, C, E>,
        };
        let replaced = match self.entries().entry(name) {
            btree_map::Entry::Vacant(free) => {
                free.insert(entry);
                None
            }
            // It is about to vanish.
            btree_map::Entry::Occupied(mut old) if old.get().has_ended() => Some(old.insert(entry)),
            btree_map::Entry::Occupied(taken) => {
                let name = Arc::clone(taken.key());
                return Err(RegisterError::Taken { name });
            }
        };
        drop(replaced);
        self.changed.notify_waiters();
        Ok(())
    }

    /// Removes that entry, and no other of the same name.
    pub(super) fn remove(&self, name: &str, id: EntryId) {
        let removed = {
            let mut entries = self.entries();
            let is_that = entries.get(name).is_some_and(|entry| entry.place.id == id);
            is_that.then(|| entries.remove(name))
        };
        // It may hold the last of the mailbox, and that messages of the user's.
        drop(removed);
    }

    pub(super) fn deregister(&self, name: &str) -> bool {
        let removed = self.entries().remove(name);
        removed.is_some()
    }

    pub(super) fn lookup<M, R, C, E>(
        &self,
        name: &str,
    ) -> Result<SparkGenericModuleDispatcher<M, R, C, E>, LookupError>
    where
        M: Send + 'static,
        R: Send + 'static,
        C: Send + 'static,
        E: Send + 'static,
    {
        let absent = || LookupError::Absent { name: name.into() };
        let entries = self.entries();
        let living = entries.get(name).filter(|entry| !entry.has_ended());
        let entry = living.ok_or_else(absent)?;
        let Some(weak) = entry.weak.downcast_ref::<WeakDispatcher<M, R, C, E>>() else {
            return Err(LookupError::TypeMismatch {
                name: name.into(),
                expected: type_name::<SparkGenericModuleDispatcher<M, R, C, E>>(),
                found: entry.dispatcher_type,
            });
        };
        weak.upgrade().ok_or_else(absent)
    }

    pub(super) fn list(&self) -> Vec<RegisteredModule> {
        self.entries()
            .iter()
            .filter(|(_, entry)| !entry.has_ended())
            .map(|(name, entry)| RegisteredModule {
                name: Arc::clone(name),
                message_type: entry.message_type,
                state: entry.place.control.state(),
                stats: (entry.stats)(&*entry.weak).unwrap_or_default(),
                messages: entry.place.control.message_stats(),
                watch: Watch::new(Arc::clone(&entry.place.control)),
            })
            .collect()
    }

    /// The next registration, from the call on.
    pub(super) fn next_change(&self) -> Notified<'_> {
        self.changed.notified()
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Entry>> {
        // Nothing that can panic runs under the lock; a poisoned one is still whole.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Entry ===

impl Entry {
    fn has_ended(&self) -> bool {
        self.place.control.has_ended()
    }
}

// === impl Place ===

impl Drop for Place {
    fn drop(&mut self) {
        self.control.ending.remove(self.notice);
    }
}

fn stats_of<M, R, C, E>(weak: &(dyn Any + Send + Sync)) -> Option<Stats>
where
    M: Send + 'static,
    R: Send + 'static,
    C: Send + 'static,
    E: Send + 'static,
{
    weak.downcast_ref::<WeakDispatcher<M, R, C, E>>()?.stats()
}
