//! Changing a value in place.

use std::sync::Arc;

use super::Store;
use crate::{
    Change, StateError, StateType, StateValue, Version, Versioned,
    entry::Entry,
    listeners::Wakes,
    reentry::{self, Inside},
    room::AtBound,
};

/// What became of an entry that was changed.
struct Committed {
    version: Version,
    /// To be dropped where no shard is locked.
    former: StateValue,
    /// Whether the store has outgrown its bounds.
    exceeded: bool,
}

/// Why nothing was changed. Values are in here to be dropped where no shard is locked.
enum Unchanged<E> {
    Missing,
    WrongType(&'static str),
    Refused(StateError, StateValue),
    Failed(E),
}

// === impl Store ===

impl Store {
    /// Has `change` change a copy of a live value, which then replaces it.
    pub(crate) fn update<T, R, E>(
        &self,
        name: &str,
        change: impl FnOnce(&mut T) -> Result<R, E>,
    ) -> Result<Versioned<R>, E>
    where
        T: StateType,
        E: From<StateError>,
    {
        reentry::check()?;
        if self.room.is_some() {
            // What has expired must not be why a value may not grow.
            self.sweep();
        }
        let mut wakes = Wakes::default();
        // Here, because what a panic or an error leaves in them is to be dropped unlocked.
        let (mut copy, mut returned) = (None, None);
        let updated =
            self.update_locked::<T, R, E>(name, change, &mut copy, &mut returned, &mut wakes);
        wakes.wake();
        match updated {
            Ok(committed) => {
                let returned = returned.expect("what is committed has returned");
                drop(committed.former);
                if committed.exceeded {
                    self.shrink(name);
                }
                Ok(Versioned::new(returned, committed.version))
            }
            Err(unchanged) => Err(self.explain::<T, E>(name, unchanged)),
        }
    }

    fn update_locked<T: StateType, R, E>(
        &self,
        name: &str,
        change: impl FnOnce(&mut T) -> Result<R, E>,
        copy: &mut Option<T>,
        returned: &mut Option<R>,
        wakes: &mut Wakes,
    ) -> Result<Committed, Unchanged<E>> {
        let mut place = self.map.get_mut(name).ok_or(Unchanged::Missing)?;
        let (key, entry) = place.pair_mut();
        if entry.is_over(&mut self.clock.lazy()) {
            return Err(Unchanged::Missing);
        }
        let value =
            T::read(&entry.value).ok_or_else(|| Unchanged::WrongType(entry.value.type_name()))?;
        *returned = {
            let _inside = Inside::enter();
            Some(change(copy.insert(value)).map_err(Unchanged::Failed)?)
        };
        let changed = copy.take().expect("it was put there above");
        self.commit(key, entry, changed.into(), wakes)
    }

    /// Adds to a live [`Long`](StateValue::Long).
    pub(crate) fn add(&self, name: &str, by: i64) -> Result<Versioned<i64>, StateError> {
        reentry::check()?;
        let mut wakes = Wakes::default();
        let added = self.add_locked(name, by, &mut wakes);
        wakes.wake();
        added.map_err(|unchanged| self.explain::<i64, StateError>(name, unchanged))
    }

    fn add_locked(
        &self,
        name: &str,
        by: i64,
        wakes: &mut Wakes,
    ) -> Result<Versioned<i64>, Unchanged<StateError>> {
        let mut place = self.map.get_mut(name).ok_or(Unchanged::Missing)?;
        let (key, entry) = place.pair_mut();
        if entry.is_over(&mut self.clock.lazy()) {
            return Err(Unchanged::Missing);
        }
        let StateValue::Long(number) = entry.value else {
            return Err(Unchanged::WrongType(entry.value.type_name()));
        };
        let sum = number
            .checked_add(by)
            .ok_or(Unchanged::Failed(StateError::Overflow))?;
        let committed = self.commit(key, entry, StateValue::Long(sum), wakes)?;
        Ok(Versioned::new(sum, committed.version))
    }

    /// Replaces the value of a live entry whose shard is locked.
    fn commit<E>(
        &self,
        key: &Arc<str>,
        entry: &mut Entry,
        value: StateValue,
        wakes: &mut Wakes,
    ) -> Result<Committed, Unchanged<E>> {
        let mut exceeded = false;
        if let (Some(room), Some(charge)) = (&self.room, &entry.charge) {
            let bytes = match room.bytes_of(key, &value) {
                Ok(bytes) => bytes,
                Err(error) => return Err(Unchanged::Refused(error, value)),
            };
            if let Err(shortage) = room.reserve_nothing().recharge(charge, bytes) {
                match room.at_bound() {
                    AtBound::Reject => {
                        let bound = shortage.bound;
                        return Err(Unchanged::Refused(StateError::Full { bound }, value));
                    }
                    // Others are evicted once their shards may be locked.
                    AtBound::EvictLeastRecentlyUsed => exceeded = room.force(charge, bytes),
                }
            }
        }
        if let Some(lifetime) = &entry.lifetime {
            lifetime.touch(&mut self.clock.lazy());
        }
        let former = self.replace(key, entry, value, Change::Updated, wakes);
        Ok(Committed {
            version: entry.version,
            former,
            exceeded,
        })
    }

    /// Makes an error of it, where no shard is locked.
    #[cold]
    fn explain<T: StateType, E: From<StateError>>(&self, name: &str, why: Unchanged<E>) -> E {
        match why {
            Unchanged::Missing => {
                self.remove_expired(name);
                StateError::missing(name).into()
            }
            Unchanged::WrongType(found) => StateError::wrong_type::<T>(name, found).into(),
            Unchanged::Refused(error, value) => {
                drop(value);
                self.rejected(error).into()
            }
            Unchanged::Failed(error) => error,
        }
    }
}
