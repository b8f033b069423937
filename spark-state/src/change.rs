//! What subscribers are told.

use std::sync::Arc;

use crate::Version;

/// One change of one key, as a [`Subscription`](crate::Subscription) yields it.
///
/// It does not carry the value, so that a slow subscriber holds on to keys only. Whoever wants the
/// value reads it, and may then find a later one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateEvent {
    key: Arc<str>,
    /// Where the key begins, behind the scope that was subscribed to.
    start: usize,
    change: Change,
    version: Version,
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Change {
    /// It has a value, and had none before.
    Inserted,
    /// It has another value.
    Updated,
    /// Its value was removed.
    Removed,
    /// Its value has expired.
    Expired,
    /// Its value was evicted to make room.
    Evicted,
}

// === impl StateEvent ===

impl StateEvent {
    pub(crate) fn new(key: Arc<str>, start: usize, change: Change, version: Version) -> Self {
        Self {
            key,
            start,
            change,
            version,
        }
    }

    /// The key as the store has it.
    pub(crate) fn full_key(&self) -> &str {
        &self.key
    }

    /// Returns the key, within the scope that was subscribed to.
    pub fn key(&self) -> &str {
        &self.key[self.start..]
    }

    /// Returns what happened.
    pub fn change(&self) -> Change {
        self.change
    }

    /// Returns the version of the new value; of one that has gone, its last.
    pub fn version(&self) -> Version {
        self.version
    }
}
