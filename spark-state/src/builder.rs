//! How a store is set up.

use std::num::NonZeroUsize;

use crate::{AtBound, Expiry, SharedState, room::Room, store::Store};

/// Sets up a [`SharedState`] with bounds, or with a common expiry.
///
/// ```
/// use std::time::Duration;
/// use spark_state::{AtBound, Expiry, SharedState};
///
/// # fn main() -> Result<(), spark_state::StateError> {
/// let cache = SharedState::builder()
///     .entries_max(10_000)
///     .bytes_max(64 * 1024 * 1024)
///     .at_bound(AtBound::EvictLeastRecentlyUsed)
///     .expiry(Expiry::ttl(Duration::from_secs(300)))
///     .build();
/// cache.insert("greeting", "hello")?;
/// assert_eq!(cache.stats().entries, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "a builder does nothing until it builds"]
pub struct Builder {
    entries_max: Option<NonZeroUsize>,
    bytes_max: Option<NonZeroUsize>,
    at_bound: AtBound,
    expiry: Expiry,
}

// === impl Builder ===

impl Builder {
    /// At most so many entries; no bound if not set. Expired ones make room before
    /// [`at_bound`](Self::at_bound) is asked.
    ///
    /// # Panics
    ///
    /// Panics if it is zero.
    pub fn entries_max(mut self, entries: usize) -> Self {
        self.entries_max = Some(NonZeroUsize::new(entries).expect("a store holds something"));
        self
    }

    /// At most so many bytes; no bound if not set.
    ///
    /// An entry is counted with its key, the bytes of its text or bytes, about what a JSON document
    /// takes, and 160 bytes for its place. An `Arc<T>` counts the size of `T`, without what it
    /// points to. The bound is exceeded only while an
    /// [`update`](SharedState::update) that makes a value grow runs in a store that evicts, by as
    /// much as the value grows.
    ///
    /// # Panics
    ///
    /// Panics if it is zero.
    pub fn bytes_max(mut self, bytes: usize) -> Self {
        self.bytes_max = Some(NonZeroUsize::new(bytes).expect("a store holds something"));
        self
    }

    /// What happens at a bound; [`AtBound::Reject`] if not set.
    pub fn at_bound(mut self, at_bound: AtBound) -> Self {
        self.at_bound = at_bound;
        self
    }

    /// When values expire that are inserted without an expiry of their own; never, if not set.
    pub fn expiry(mut self, expiry: Expiry) -> Self {
        self.expiry = expiry;
        self
    }

    /// Makes the store.
    pub fn build(self) -> SharedState {
        let bounded = self.entries_max.is_some() || self.bytes_max.is_some();
        let room = bounded.then(|| Room::new(self.entries_max, self.bytes_max, self.at_bound));
        SharedState::of(Store::new(room, self.expiry))
    }
}
