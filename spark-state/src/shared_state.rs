//! The handle: what users call.

use std::{borrow::Cow, fmt, num::NonZeroUsize, sync::Arc};

mod calling;
mod initialising;
mod writing;

use crate::{
    Builder, KeyName, StateError, StateKey, StateType, Stats, Subscription, Versioned, Watch,
    reentry, store::Store,
};

/// A shared map from names to values of any kind.
///
/// Cloning gives another handle to the same store. All methods take `&self`, lock at most one part
/// of the map, for a moment, and never across an await.
///
/// Methods that wait for a lock fail with [`Reentrant`](StateError::Reentrant) when they are called
/// from within the closure of an [`update`](Self::update), of this store or of another one; those
/// without an error to return panic there. So a mistake is an error, always, rather than a
/// deadlock, sometimes.
///
/// # Examples
///
/// ```
/// use spark_state::SharedState;
///
/// # fn main() -> Result<(), spark_state::StateError> {
/// let state = SharedState::new();
/// state.insert("greeting", "hello")?;
/// state.increment("hits", 1)?;
///
/// let handle = state.clone();
/// std::thread::spawn(move || handle.increment("hits", 41)).join().unwrap()?;
///
/// assert_eq!(state.get::<String>("greeting")?, "hello");
/// assert_eq!(state.get::<i64>("hits")?, 42);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SharedState {
    pub(crate) store: Arc<Store>,
    /// With the separator at its end.
    scope: Option<Arc<str>>,
}

// === impl SharedState ===

#[expect(
    clippy::needless_pass_by_value,
    reason = "a key is a constant or a reference to a name"
)]
impl SharedState {
    /// Makes an empty store without bounds, whose values do not expire by themselves.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Sets up a store with bounds, or with a common expiry.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn of(store: Store) -> Self {
        Self {
            store: Arc::new(store),
            scope: None,
        }
    }

    /// Returns a view of what is under `name`: its `key` is `name/key` here.
    ///
    /// Scopes are for parts of a program that must not meet each other's names. Bounds, counts and
    /// the sweep are the whole store's.
    ///
    /// ```
    /// use spark_state::SharedState;
    ///
    /// # fn main() -> Result<(), spark_state::StateError> {
    /// let state = SharedState::new();
    /// let orders = state.scope("orders");
    /// orders.insert("open", 3_i64)?;
    /// assert_eq!(orders.get::<i64>("open")?, 3);
    /// assert_eq!(state.get::<i64>("orders/open")?, 3);
    /// assert_eq!(orders.keys(), ["open"]);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn scope(&self, name: &str) -> Self {
        let outer = self.scope.as_deref().unwrap_or_default();
        Self {
            store: Arc::clone(&self.store),
            scope: Some(format!("{outer}{name}/").into()),
        }
    }

    /// Returns the value under `key`.
    ///
    /// Numbers are copied, strings and JSON too unless asked for as an `Arc`; everything else is
    /// shared.
    ///
    /// # Errors
    ///
    /// [`Missing`](StateError::Missing), and [`WrongType`](StateError::WrongType) if it is not a
    /// `T`. Where a missing value is no error, there is [`find`](Self::find).
    #[inline]
    pub fn get<T: StateType>(&self, key: impl StateKey<T>) -> Result<T, StateError> {
        match self.find_by(key.name())? {
            Some(value) => Ok(value),
            None => Err(self.missing(key.name())),
        }
    }

    /// Returns the value under `key`, if there is one.
    ///
    /// # Errors
    ///
    /// [`WrongType`](StateError::WrongType) if it is not a `T`.
    #[inline]
    pub fn find<T: StateType>(&self, key: impl StateKey<T>) -> Result<Option<T>, StateError> {
        self.find_by(key.name())
    }

    /// Returns the value under `key` with its version, for
    /// [`compare_and_swap`](Self::compare_and_swap).
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn get_versioned<T: StateType>(
        &self,
        key: impl StateKey<T>,
    ) -> Result<Versioned<T>, StateError> {
        let name = self.full(key.name());
        let found = self.store.get_versioned(&name)?;
        found.ok_or_else(|| StateError::missing(&name))
    }

    /// Whether there is a value under `key`. Does not count as using it.
    ///
    /// # Panics
    ///
    /// Panics within the closure of an [`update`](Self::update).
    pub fn contains(&self, key: impl KeyName) -> bool {
        reentry::assert_outside();
        let name = self.full(key.name());
        matches!(self.store.peek(&name, |_| ()), Ok(Some(())))
    }

    /// Returns the keys, in no order. Those that come or go meanwhile may be among them or not.
    ///
    /// # Panics
    ///
    /// Panics within the closure of an [`update`](Self::update).
    pub fn keys(&self) -> Vec<String> {
        self.keys_under("")
    }

    /// Returns the keys that begin with `prefix`, as [`keys`](Self::keys).
    ///
    /// # Panics
    ///
    /// As [`keys`](Self::keys).
    pub fn keys_under(&self, prefix: &str) -> Vec<String> {
        let mut keys = Vec::new();
        self.store.for_each(|name, _| {
            if let Some(key) = self.within(name).filter(|key| key.starts_with(prefix)) {
                keys.push(key.to_owned());
            }
        });
        keys
    }

    /// Returns how many values there are. In a scope, or while values have expired and were not
    /// swept, this looks at every key of the store.
    ///
    /// # Panics
    ///
    /// As [`keys`](Self::keys).
    pub fn len(&self) -> usize {
        if self.scope.is_none() {
            return self.store.len();
        }
        let mut len = 0;
        self.store
            .for_each(|name, _| len += usize::from(self.within(name).is_some()));
        len
    }

    /// Whether there are no values.
    ///
    /// # Panics
    ///
    /// As [`keys`](Self::keys).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Watches the value under `key`: the current one first, then each later one, of which a slow
    /// watcher sees the last.
    ///
    /// A watcher never holds up a writer, and keeps no store alive.
    ///
    /// ```
    /// use spark_state::SharedState;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), spark_state::StateError> {
    /// let state = SharedState::new();
    /// let mut price = state.watch::<i64>("price");
    /// assert_eq!(price.changed().await?, None);
    /// state.insert("price", 101_i64)?;
    /// state.insert("price", 102_i64)?;
    /// assert_eq!(price.changed().await?, Some(102));
    /// # Ok(())
    /// # }
    /// ```
    pub fn watch<T: StateType>(&self, key: impl StateKey<T>) -> Watch<T> {
        Watch::new(&self.store, self.full(key.name()).into())
    }

    /// Subscribes to the changes of all keys that begin with `prefix`; `""` is all of them.
    ///
    /// At most `buffer` events wait, with keys of a mebibyte in all, or the newest with a longer one.
    /// When one more comes, the oldest are dropped, and the subscriber is
    /// [told](crate::RecvError::Lagged) how many it has missed.
    ///
    /// # Panics
    ///
    /// Panics if `buffer` is zero.
    pub fn subscribe(&self, prefix: &str, buffer: usize) -> Subscription {
        let buffer = NonZeroUsize::new(buffer).expect("a subscriber has room for an event");
        let scope_bytes = self.scope.as_ref().map_or(0, |scope| scope.len());
        Subscription::new(&self.store, self.full(prefix).into(), scope_bytes, buffer)
    }

    /// Removes what has expired, and returns how many values those were.
    ///
    /// Nobody sees an expired value, swept or not; but it takes its place until somebody asks for
    /// it, or for room, or sweeps. Costs next to nothing when nothing has expired, and a look at
    /// every entry when something has. If few are left, the memory of the others' places is given back.
    ///
    /// # Panics
    ///
    /// Panics within the closure of an [`update`](Self::update).
    pub fn sweep(&self) -> usize {
        reentry::assert_outside();
        self.store.sweep()
    }

    /// Returns what the store holds, and has lost and refused.
    ///
    /// # Panics
    ///
    /// Panics within the closure of an [`update`](Self::update).
    pub fn stats(&self) -> Stats {
        reentry::assert_outside();
        let counts = &self.store.counts;
        let (entries, bytes) = match &self.store.room {
            Some(room) => room.taken(),
            None => (self.store.held(), None),
        };
        Stats {
            entries,
            bytes,
            evicted: counts.evicted(),
            expired: counts.expired(),
            rejected: counts.rejected(),
            listeners: self.store.listeners.len(),
        }
    }

    #[inline]
    fn find_by<T: StateType>(&self, key: &str) -> Result<Option<T>, StateError> {
        // Without a scope, no name is made that would have to be dropped.
        match &self.scope {
            None => self.store.get(key),
            Some(_) => self.find_in_scope(key),
        }
    }

    #[inline(never)]
    fn find_in_scope<T: StateType>(&self, key: &str) -> Result<Option<T>, StateError> {
        self.store.get(&self.full(key))
    }

    #[cold]
    #[inline(never)]
    fn missing(&self, key: &str) -> StateError {
        StateError::missing(&self.full(key))
    }

    /// The store's name for a key of this scope.
    #[inline]
    pub(crate) fn full<'k>(&self, key: &'k str) -> Cow<'k, str> {
        match &self.scope {
            None => Cow::Borrowed(key),
            Some(scope) => Cow::Owned([scope, key].concat()),
        }
    }

    /// This scope's key for a name of the store's.
    pub(crate) fn within<'n>(&self, name: &'n str) -> Option<&'n str> {
        match &self.scope {
            None => Some(name),
            Some(scope) => name.strip_prefix(&**scope),
        }
    }
}

impl Default for SharedState {
    fn default() -> Self {
        Self::new()
    }
}

/// Without keys and values, which may be secrets.
impl fmt::Debug for SharedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedState")
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}
