//! The map, and everything that has to happen in one step with a change of it.
//!
//! Invariants:
//!
//! 1. Locks are taken in one order: a shard's, then the ledger's or a listener's. Nobody holds two
//!    shards, and nobody holds one across an await.
//! 2. No user code runs under a lock but the closure of an update, which runs [`Inside`]. In
//!    particular no value is dropped under one: whatever leaves the map is returned.
//! 3. What a change means (its version, its charge, its event) is done while its shard is locked.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use dashmap::{DashMap, Entry as Place};

mod eviction;
mod removing;
mod updating;

use crate::{
    Change, Expiry, StateError, StateType, StateValue, Version, Versioned,
    clock::{Clock, Moment},
    entry::{Entry, Lifetime},
    flights::Flights,
    hashing::NameHashing,
    listeners::{Listeners, Wakes},
    next_due::NextDue,
    reentry,
    room::{Reservation, Room, Shortage},
};

pub(crate) struct Store {
    map: DashMap<Arc<str>, Entry, NameHashing>,
    pub(crate) listeners: Listeners,
    pub(crate) room: Option<Room>,
    pub(crate) default_expiry: Expiry,
    pub(crate) clock: Clock,
    next_due: NextDue,
    /// At least the last version of every key that was removed.
    floor: AtomicU64,
    pub(crate) counts: Counts,
    pub(crate) flights: Flights,
    /// Held by whoever writes a snapshot to a file, from before it is taken.
    pub(crate) saves: Mutex<()>,
}

/// What was lost, and refused.
#[derive(Default)]
pub(crate) struct Counts {
    evicted: AtomicU64,
    expired: AtomicU64,
    rejected: AtomicU64,
}

/// What is to be put under a key.
pub(crate) struct Draft {
    pub(crate) value: StateValue,
    pub(crate) lifetime: Option<Box<Lifetime>>,
}

/// What putting it has done.
#[derive(Debug)]
pub(crate) struct Put {
    pub(crate) version: Version,
    /// What was there, to be dropped where no shard is locked.
    pub(crate) former: StateValue,
    /// Whether that was alive.
    pub(crate) replaced: bool,
}

/// Why it was not put.
enum NotPut {
    Refused(StateError),
    NoRoom(Shortage),
}

// === impl Store ===

impl Store {
    pub(crate) fn new(room: Option<Room>, default_expiry: Expiry) -> Self {
        Self {
            map: DashMap::with_hasher(NameHashing::random()),
            listeners: Listeners::none(),
            room,
            default_expiry,
            clock: Clock::start(),
            next_due: NextDue::never(),
            floor: AtomicU64::new(0),
            counts: Counts::default(),
            flights: Flights::default(),
            saves: Mutex::default(),
        }
    }

    /// Reads a live entry, which counts as using it.
    ///
    /// `read` runs while the shard is locked for reading.
    #[inline]
    pub(crate) fn read<R>(
        &self,
        name: &str,
        read: impl FnOnce(&Entry) -> R,
    ) -> Result<Option<R>, StateError> {
        reentry::check()?;
        let Some(entry) = self.map.get(name) else {
            return Ok(None);
        };
        if self.is_over_or_used(&entry) {
            drop(entry);
            self.remove_expired(name);
            return Ok(None);
        }
        Ok(Some(read(&entry)))
    }

    /// Whether an entry's life is over; if not, notes that it was used.
    fn is_over_or_used(&self, entry: &Entry) -> bool {
        if let Some(lifetime) = &entry.lifetime {
            let mut now = self.clock.lazy();
            if lifetime.deadline() <= now.get() {
                return true;
            }
            lifetime.touch(&mut now);
        }
        if let (Some(room), Some(charge)) = (&self.room, &entry.charge) {
            room.touch(charge);
        }
        false
    }

    /// Returns a live value, which counts as using it.
    ///
    /// Flat, and part of its caller: a lock waits for every register that a call has put on the
    /// stack, and a `get` is hardly more than a hash between two of those.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "measured, as said above")]
    pub(crate) fn get<T: StateType>(&self, name: &str) -> Result<Option<T>, StateError> {
        if T::COPIES {
            return self.get_copy(name);
        }
        if reentry::is_inside() {
            return Err(StateError::Reentrant);
        }
        let Some(entry) = self.map.get(name) else {
            return Ok(None);
        };
        let plain = entry.lifetime.is_none() && entry.charge.is_none();
        if !plain && self.is_over_or_used(&entry) {
            drop(entry);
            self.remove_expired(name);
            return Ok(None);
        }
        match T::read(&entry.value) {
            Some(value) => Ok(Some(value)),
            None => Err(wrong_type::<T>(name, &entry.value)),
        }
    }

    /// As [`get`](Self::get), of what is copied where no shard is locked.
    fn get_copy<T: StateType>(&self, name: &str) -> Result<Option<T>, StateError> {
        let value = self.read(name, |entry| entry.value.clone())?;
        value.map(|value| typed(name, &value)).transpose()
    }

    /// As [`get`](Self::get), with its version.
    pub(crate) fn get_versioned<T: StateType>(
        &self,
        name: &str,
    ) -> Result<Option<Versioned<T>>, StateError> {
        let read = self.read(name, |entry| (entry.value.clone(), entry.version))?;
        read.map(|(value, version)| Ok(Versioned::new(typed(name, &value)?, version)))
            .transpose()
    }

    /// Reads a live entry, which does not count as using it.
    pub(crate) fn peek<R>(
        &self,
        name: &str,
        read: impl FnOnce(&Entry) -> R,
    ) -> Result<Option<R>, StateError> {
        reentry::check()?;
        let Some(entry) = self.map.get(name) else {
            return Ok(None);
        };
        if entry.is_over(&mut self.clock.lazy()) {
            drop(entry);
            self.remove_expired(name);
            return Ok(None);
        }
        Ok(Some(read(&entry)))
    }

    /// Puts a value under a key, if that is simple, as it mostly is: in place of one that is there,
    /// where nothing is counted and nothing expires. Otherwise gives it back.
    #[inline]
    pub(crate) fn overwrite(
        &self,
        name: &str,
        value: StateValue,
        admits: impl Fn(Option<&Entry>) -> Result<(), StateError>,
    ) -> Result<Result<Version, StateError>, StateValue> {
        if self.room.is_some() || reentry::check().is_err() {
            return Err(value);
        }
        let Some(mut place) = self.map.get_mut(name) else {
            return Err(value);
        };
        let entry = place.value_mut();
        if entry.lifetime.is_some() || self.listeners.anybody() {
            drop(place);
            return Err(value);
        }
        if let Err(error) = admits(Some(entry)) {
            // Before the value is dropped.
            drop(place);
            return Ok(Err(error));
        }
        let version = entry.version.next();
        entry.version = version;
        let former = std::mem::replace(&mut entry.value, value);
        drop(place);
        drop(former);
        Ok(Ok(version))
    }

    /// Puts a value under a key, in place of what is there.
    ///
    /// `admits` sees what is there, and may refuse. It runs while the shard is locked.
    #[inline]
    pub(crate) fn put(
        &self,
        name: &str,
        draft: Draft,
        admits: impl Fn(Option<&Entry>) -> Result<(), StateError>,
    ) -> Result<Put, StateError> {
        reentry::check()?;
        self.put_anywhere(name, draft, admits)
    }

    fn put_anywhere(
        &self,
        name: &str,
        draft: Draft,
        admits: impl Fn(Option<&Entry>) -> Result<(), StateError>,
    ) -> Result<Put, StateError> {
        let (bytes, mut reserved) = match &self.room {
            None => (0, None),
            Some(room) => (
                room.bytes_of(name, &draft.value)
                    .map_err(|error| self.rejected(error))?,
                Some(room.reserve_nothing()),
            ),
        };
        // Taken under the lock, and left here by whatever refuses it: it is not to be dropped there.
        let mut draft = Some(draft);
        loop {
            let mut wakes = Wakes::default();
            let put = self.try_put(name, &mut draft, bytes, &mut reserved, &admits, &mut wakes);
            wakes.wake();
            match put {
                Ok(put) => return Ok(put),
                Err(NotPut::Refused(error)) => return Err(error),
                Err(NotPut::NoRoom(shortage)) => {
                    let made = self.make_room(name, &mut reserved, shortage);
                    made.map_err(|error| self.rejected(error))?;
                }
            }
        }
    }

    /// A value whose life begins now.
    #[inline]
    pub(crate) fn draft(&self, value: StateValue, expiry: Expiry) -> Draft {
        Draft {
            value,
            lifetime: Lifetime::begin(expiry, &mut self.clock.lazy()),
        }
    }

    /// Whether what was put at `then`, to expire as the store's values do, has had its time.
    pub(crate) fn has_expired_since(&self, then: Moment) -> bool {
        let Expiry { ttl, idle } = self.default_expiry;
        let mut times = ttl.into_iter().chain(idle);
        times.any(|time| then.after(time) <= self.clock.now())
    }

    fn try_put(
        &self,
        name: &str,
        draft: &mut Option<Draft>,
        bytes: usize,
        reserved: &mut Option<Reservation<'_>>,
        admits: &impl Fn(Option<&Entry>) -> Result<(), StateError>,
        wakes: &mut Wakes,
    ) -> Result<Put, NotPut> {
        // Most keys are there already, and need no copy.
        if let Some(mut place) = self.map.get_mut(name) {
            let (key, entry) = place.pair_mut();
            return self.put_over(key, entry, draft, bytes, reserved, admits, wakes);
        }
        match self.map.entry(Arc::from(name)) {
            Place::Occupied(mut place) => {
                let key = Arc::clone(place.key());
                self.put_over(&key, place.get_mut(), draft, bytes, reserved, admits, wakes)
            }
            Place::Vacant(place) => {
                admits(None).map_err(NotPut::Refused)?;
                let charge = match reserved {
                    None => None,
                    Some(reserved) => Some(
                        reserved
                            .charge(place.key(), bytes)
                            .map_err(NotPut::NoRoom)?,
                    ),
                };
                let version = self.first_version();
                let draft = draft.take().expect("it is put once");
                let place = place.insert(Entry {
                    value: draft.value,
                    version,
                    lifetime: draft.lifetime,
                    charge,
                });
                self.note_deadline(place.value());
                self.listeners
                    .publish(place.key(), Change::Inserted, version, wakes);
                Ok(Put {
                    version,
                    former: StateValue::None,
                    replaced: false,
                })
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the inside of one function")]
    fn put_over(
        &self,
        key: &Arc<str>,
        entry: &mut Entry,
        draft: &mut Option<Draft>,
        bytes: usize,
        reserved: &mut Option<Reservation<'_>>,
        admits: &impl Fn(Option<&Entry>) -> Result<(), StateError>,
        wakes: &mut Wakes,
    ) -> Result<Put, NotPut> {
        let over = entry.is_over(&mut self.clock.lazy());
        admits((!over).then_some(&*entry)).map_err(NotPut::Refused)?;
        if let (Some(reserved), Some(charge)) = (reserved, &entry.charge) {
            reserved.recharge(charge, bytes).map_err(NotPut::NoRoom)?;
        }
        let change = if over {
            self.counts.expired.fetch_add(1, Ordering::Relaxed);
            self.listeners
                .publish(key, Change::Expired, entry.version, wakes);
            Change::Inserted
        } else {
            Change::Updated
        };
        let draft = draft.take().expect("it is put once");
        entry.lifetime = draft.lifetime;
        self.note_deadline(entry);
        let former = self.replace(key, entry, draft.value, change, wakes);
        Ok(Put {
            version: entry.version,
            former,
            replaced: !over,
        })
    }

    /// Replaces the value of an entry whose shard is locked.
    #[inline]
    fn replace(
        &self,
        key: &Arc<str>,
        entry: &mut Entry,
        value: StateValue,
        change: Change,
        wakes: &mut Wakes,
    ) -> StateValue {
        entry.version = entry.version.next();
        self.listeners.publish(key, change, entry.version, wakes);
        std::mem::replace(&mut entry.value, value)
    }

    /// A key begins above all versions it ever had; its shard is locked.
    fn first_version(&self) -> Version {
        // Whoever removed this key before held the same lock.
        Version::from_u64(self.floor.load(Ordering::Relaxed)).next()
    }

    #[inline]
    fn note_deadline(&self, entry: &Entry) {
        let deadline = entry.deadline();
        if deadline != Moment::NEVER {
            self.next_due.lower(deadline.to_raw());
        }
    }

    /// Counts what is refused, and hands it on.
    pub(crate) fn rejected(&self, error: StateError) -> StateError {
        self.counts.rejected.fetch_add(1, Ordering::Relaxed);
        error
    }

    /// Calls `visit` with each live entry. It runs while a shard is locked for reading.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(&Arc<str>, &Entry)) {
        reentry::assert_outside();
        let mut now = self.clock.lazy();
        for place in &self.map {
            if !place.value().is_over(&mut now) {
                visit(place.key(), place.value());
            }
        }
    }

    /// How many entries are live.
    pub(crate) fn len(&self) -> usize {
        reentry::assert_outside();
        let held = self.unless_expired(&mut self.clock.lazy(), || self.map.len());
        held.unwrap_or_else(|| {
            let mut len = 0;
            self.for_each(|_, _| len += 1);
            len
        })
    }

    /// How many entries there are, expired ones included.
    pub(crate) fn held(&self) -> usize {
        self.map.len()
    }
}

// === impl Counts ===

impl Counts {
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    pub(crate) fn expired(&self) -> u64 {
        self.expired.load(Ordering::Relaxed)
    }

    pub(crate) fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }
}

#[cold]
#[inline(never)]
fn wrong_type<T: StateType>(name: &str, found: &StateValue) -> StateError {
    StateError::wrong_type::<T>(name, found.type_name())
}

pub(crate) fn typed<T: StateType>(name: &str, value: &StateValue) -> Result<T, StateError> {
    T::read(value).ok_or_else(|| StateError::wrong_type::<T>(name, value.type_name()))
}
