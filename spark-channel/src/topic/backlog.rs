//! What waits for one subscriber, and what happens when it is too much.

use std::{
    any::Any,
    collections::VecDeque,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
};

/// How many events may wait for a subscriber, and what happens to one more.
///
/// Memory grows with what waits, not with the bound.
///
/// # Panics
///
/// Every constructor panics if its number of events is zero.
pub struct Backlog<T> {
    events_max: usize,
    policy: Policy<T>,
}

enum Policy<T> {
    Wait,
    DropNewest,
    DropOldest,
    Disconnect,
    Conflate(KeyOf<T>),
}

pub(super) type KeyOf<T> = Box<dyn Fn(&T) -> Key + Send + Sync>;

/// The key of an event, compared by hash first.
pub(super) struct Key {
    hash: u64,
    value: Box<dyn AnyKey>,
}

trait AnyKey: Any + Send {
    fn same(&self, other: &dyn Any) -> bool;
    fn as_any(&self) -> &dyn Any;
}

/// A backlog in use.
pub(super) struct Queue<T> {
    entries: VecDeque<(T, Option<Key>)>,
    events_max: usize,
    full: Full,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Full {
    Wait,
    DropNewest,
    DropOldest,
    Disconnect,
}

/// What became of an event, or of one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    Kept,
    /// This event, or the oldest, is missing.
    Dropped,
    /// An event of the same key was replaced.
    Conflated,
    /// This event is missing, and so will be all others.
    TooSlow,
}

// === impl Backlog ===

impl<T> Backlog<T> {
    /// Publishers wait while `events_max` events wait for this subscriber: it misses
    /// nothing and sets the pace for all.
    #[must_use]
    pub const fn wait(events_max: usize) -> Self {
        Self::new(events_max, Policy::Wait)
    }

    /// An event that finds `events_max` waiting is not for this subscriber.
    #[must_use]
    pub const fn drop_newest(events_max: usize) -> Self {
        Self::new(events_max, Policy::DropNewest)
    }

    /// An event that finds `events_max` waiting takes the place of the oldest.
    #[must_use]
    pub const fn drop_oldest(events_max: usize) -> Self {
        Self::new(events_max, Policy::DropOldest)
    }

    /// An event that finds `events_max` waiting ends the subscription: what waits can
    /// still be received, and then the end is
    /// [`TooSlow`](super::SubscriptionEnd::TooSlow).
    #[must_use]
    pub const fn disconnect(events_max: usize) -> Self {
        Self::new(events_max, Policy::Disconnect)
    }

    /// An event replaces the one of the same key that waits, if there is one, and goes to
    /// the end: only the latest of each key waits, and what is received is in order. With
    /// `events_max` different keys waiting, the oldest event is dropped.
    ///
    /// Publishing searches the backlog, which takes time in proportion to what waits.
    /// Keys are compared under the topic's lock; if that panics, so does the publisher,
    /// and some of the subscribers have got the event.
    #[must_use]
    pub fn conflate_by<K, F>(events_max: usize, key_of: F) -> Self
    where
        K: Hash + Eq + Send + 'static,
        F: Fn(&T) -> K + Send + Sync + 'static,
    {
        let key_of = move |event: &T| Key::new(key_of(event));
        Self::new(events_max, Policy::Conflate(Box::new(key_of)))
    }

    const fn new(events_max: usize, policy: Policy<T>) -> Self {
        assert!(events_max > 0, "a backlog needs room for one event");
        Self { events_max, policy }
    }

    /// Takes apart what is used under the subscriber's lock and what is not.
    pub(super) fn open(self) -> (Queue<T>, Option<KeyOf<T>>) {
        let (full, key_of) = match self.policy {
            Policy::Wait => (Full::Wait, None),
            Policy::DropNewest => (Full::DropNewest, None),
            Policy::DropOldest => (Full::DropOldest, None),
            Policy::Disconnect => (Full::Disconnect, None),
            Policy::Conflate(key_of) => (Full::DropOldest, Some(key_of)),
        };
        let queue = Queue {
            entries: VecDeque::new(),
            events_max: self.events_max,
            full,
        };
        (queue, key_of)
    }
}

impl<T> fmt::Debug for Backlog<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let policy = match &self.policy {
            Policy::Wait => "wait",
            Policy::DropNewest => "drop newest",
            Policy::DropOldest => "drop oldest",
            Policy::Disconnect => "disconnect",
            Policy::Conflate(_) => "conflate",
        };
        f.debug_struct("Backlog")
            .field("events_max", &self.events_max)
            .field("policy", &policy)
            .finish()
    }
}

// === impl Queue ===

impl<T> Queue<T> {
    /// Whether an event can be put without waiting.
    pub(super) fn has_room(&self) -> bool {
        self.full != Full::Wait || self.entries.len() < self.events_max
    }

    /// Puts `event`; what has to go is moved to `evicted`, to be dropped elsewhere.
    pub(super) fn put(
        &mut self,
        event: T,
        key: Option<Key>,
        evicted: &mut Vec<(T, Option<Key>)>,
    ) -> Put {
        let same = key.as_ref().and_then(|key| self.position(key));
        if let Some(same) = same {
            evicted.extend(self.entries.remove(same));
            self.entries.push_back((event, key));
            return Put::Conflated;
        }
        if self.entries.len() < self.events_max {
            self.entries.push_back((event, key));
            return Put::Kept;
        }
        match self.full {
            Full::DropOldest => {
                evicted.extend(self.entries.pop_front());
                self.entries.push_back((event, key));
                Put::Dropped
            }
            Full::Disconnect => {
                evicted.push((event, key));
                Put::TooSlow
            }
            Full::DropNewest | Full::Wait => {
                evicted.push((event, key));
                Put::Dropped
            }
        }
    }

    pub(super) fn take(&mut self) -> Option<(T, Option<Key>)> {
        self.entries.pop_front()
    }

    pub(super) fn take_all(&mut self) -> VecDeque<(T, Option<Key>)> {
        std::mem::take(&mut self.entries)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn position(&self, key: &Key) -> Option<usize> {
        let mut entries = self.entries.iter();
        entries.position(|(_, found)| found.as_ref().is_some_and(|found| found.same(key)))
    }
}

// === impl Key ===

impl Key {
    fn new<K: Hash + Eq + Send + 'static>(key: K) -> Self {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        Self {
            hash: hasher.finish(),
            value: Box::new(key),
        }
    }

    fn same(&self, other: &Self) -> bool {
        self.hash == other.hash && self.value.same(other.value.as_any())
    }
}

impl<K: Eq + Send + 'static> AnyKey for K {
    fn same(&self, other: &dyn Any) -> bool {
        other.downcast_ref() == Some(self)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
