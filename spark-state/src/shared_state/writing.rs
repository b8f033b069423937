//! Changing values.

use crate::{
    Expiry, InsertKey, KeyName, SharedState, StateError, StateKey, StateType, StateValue, Version,
    Versioned, entry::Entry,
};

// === impl SharedState ===

#[expect(
    clippy::needless_pass_by_value,
    reason = "a key is a constant or a reference to a name"
)]
impl SharedState {
    /// Puts a value under `key`, in place of what is there, and returns its version.
    ///
    /// A bare name takes a value of any type. A [`Key`](crate::Key) takes its own, and does not
    /// replace a value of another one.
    ///
    /// # Errors
    ///
    /// [`Full`](StateError::Full) and [`TooLarge`](StateError::TooLarge) in a store with bounds;
    /// of a [`Key`](crate::Key) also [`WrongType`](StateError::WrongType).
    pub fn insert<K, V>(&self, key: K, value: V) -> Result<Version, StateError>
    where
        K: InsertKey<V>,
        V: Into<StateValue>,
    {
        self.insert_with(key, value, self.store.default_expiry)
    }

    /// Puts a value under `key`, as [`insert`](Self::insert) does, with an expiry of its own.
    ///
    /// # Errors
    ///
    /// As [`insert`](Self::insert).
    pub fn insert_with<K, V>(&self, key: K, value: V, expiry: Expiry) -> Result<Version, StateError>
    where
        K: InsertKey<V>,
        V: Into<StateValue>,
    {
        let mut value = value.into();
        let name = self.full(key.name());
        if expiry == Expiry::never() {
            let admits = |entry: Option<&Entry>| admit::<K>(&name, entry);
            match self.store.overwrite(&name, value, admits) {
                Ok(written) => return written,
                Err(back) => value = back,
            }
        }
        let draft = self.store.draft(value, expiry);
        let put = self
            .store
            .put(&name, draft, |entry| admit::<K>(&name, entry))?;
        Ok(put.version)
    }

    /// Puts a value under `key` and returns the one it replaces.
    ///
    /// # Errors
    ///
    /// As [`insert`](Self::insert), and [`WrongType`](StateError::WrongType) if what is there is
    /// not a `T`.
    pub fn replace<T: StateType>(
        &self,
        key: impl StateKey<T>,
        value: T,
    ) -> Result<Option<T>, StateError> {
        let name = self.full(key.name());
        let draft = self.store.draft(value.into(), self.store.default_expiry);
        let put = self.store.put(&name, draft, |entry| {
            entry.map_or(Ok(()), |entry| expect_type::<T>(&name, &entry.value))
        })?;
        Ok(put.replaced.then(|| T::read(&put.former)).flatten())
    }

    /// Puts a value under `key` if what is there has the version `expected`, which is
    /// [`Version::ABSENT`] if nothing must be there. Returns the new version.
    ///
    /// ```
    /// use spark_state::{SharedState, StateError, Version};
    ///
    /// # fn main() -> Result<(), StateError> {
    /// let state = SharedState::new();
    /// let first = state.compare_and_swap("leader", Version::ABSENT, "a")?;
    /// let late = state.compare_and_swap("leader", Version::ABSENT, "b");
    /// assert!(matches!(late, Err(StateError::Conflict { found, .. }) if found == first));
    /// state.compare_and_swap("leader", first, "c")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Conflict`](StateError::Conflict) with the version that is there; and as
    /// [`insert`](Self::insert).
    pub fn compare_and_swap<K, V>(
        &self,
        key: K,
        expected: Version,
        value: V,
    ) -> Result<Version, StateError>
    where
        K: InsertKey<V>,
        V: Into<StateValue>,
    {
        let name = self.full(key.name());
        let draft = self.store.draft(value.into(), self.store.default_expiry);
        let put = self.store.put(&name, draft, |entry| {
            admit::<K>(&name, entry)?;
            let found = entry.map_or(Version::ABSENT, |entry| entry.version);
            if found == expected {
                return Ok(());
            }
            Err(StateError::Conflict { expected, found })
        })?;
        Ok(put.version)
    }

    /// Changes the value under `key` in place, in one step, and returns what `change` returns.
    ///
    /// `change` runs once, on a copy, while a part of the map is locked: it should be short, and it
    /// cannot call a store. If it panics, the panic goes on to the caller; the value is unchanged
    /// and the store goes on. An update does not begin a [ttl](Expiry::ttl) anew.
    ///
    /// ```
    /// use spark_state::{SharedState, StateError};
    ///
    /// # fn main() -> Result<(), StateError> {
    /// let state = SharedState::new();
    /// state.insert("path", "/usr")?;
    /// let len = state.update("path", |path: &mut String| {
    ///     path.push_str("/bin");
    ///     path.len()
    /// })?;
    /// assert_eq!((len, state.get::<String>("path")?), (8, "/usr/bin".to_owned()));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Missing`](StateError::Missing) and [`WrongType`](StateError::WrongType), and then `change`
    /// has not run; [`Full`](StateError::Full) and [`TooLarge`](StateError::TooLarge) if it made the
    /// value grow beyond the bounds, and then it has run for nothing.
    ///
    /// # Panics
    ///
    /// If `change` does.
    pub fn update<T: StateType, R>(
        &self,
        key: impl StateKey<T>,
        change: impl FnOnce(&mut T) -> R,
    ) -> Result<R, StateError> {
        self.try_update(key, |value| Ok(change(value)))
    }

    /// As [`update`](Self::update), but if `change` returns an error, the value is unchanged.
    ///
    /// # Errors
    ///
    /// What `change` returns, and as [`update`](Self::update).
    ///
    /// # Panics
    ///
    /// If `change` does.
    pub fn try_update<T: StateType, R, E: From<StateError>>(
        &self,
        key: impl StateKey<T>,
        change: impl FnOnce(&mut T) -> Result<R, E>,
    ) -> Result<R, E> {
        let name = self.full(key.name());
        Ok(self.store.update(&name, change)?.value)
    }

    /// As [`update`](Self::update); if nothing is there, `initial` is put there first, as a step of
    /// its own.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update), but [`Missing`](StateError::Missing) only if `initial` expires
    /// before it can be changed; `change` has not run then.
    ///
    /// # Panics
    ///
    /// If `change` does.
    pub fn update_or_insert<T: StateType, R>(
        &self,
        key: impl StateKey<T>,
        initial: T,
        change: impl FnOnce(&mut T) -> R,
    ) -> Result<R, StateError> {
        let name = self.full(key.name());
        let initial: StateValue = initial.into();
        let mut change = Some(change);
        let mut put_at = None;
        loop {
            let updated = self.store.update(&name, |value: &mut T| {
                let change = change.take().expect("an update runs its closure once");
                Ok(change(value))
            });
            match updated {
                // The closure has not run. To put it there again would have no end if it expires at once.
                Err(StateError::Missing { key }) => match put_at {
                    Some(put_at) if self.store.has_expired_since(put_at) => {
                        return Err(StateError::Missing { key });
                    }
                    _ => {
                        let now = self.store.clock.now();
                        let put = self.insert_if_absent(&name, initial.clone())?;
                        put_at = put.map(|_| now);
                    }
                },
                other => return other.map(|updated| updated.value),
            }
        }
    }

    /// Adds `by` to the number under `key`, an `i64`, and returns the sum. If nothing is there, it
    /// counts from zero.
    ///
    /// # Errors
    ///
    /// [`Overflow`](StateError::Overflow); [`WrongType`](StateError::WrongType) if what is there is
    /// not an `i64`, such as the `i32` that `insert("hits", 0)` puts there; and as
    /// [`insert`](Self::insert).
    pub fn increment(&self, key: impl StateKey<i64>, by: i64) -> Result<i64, StateError> {
        let sum = self.increment_versioned(&self.full(key.name()), by)?;
        Ok(sum.value)
    }

    pub(crate) fn increment_versioned(
        &self,
        name: &str,
        by: i64,
    ) -> Result<Versioned<i64>, StateError> {
        loop {
            match self.store.add(name, by) {
                Err(StateError::Missing { .. }) => {}
                other => return other,
            }
            if let Some(version) = self.insert_if_absent(name, StateValue::Long(by))? {
                return Ok(Versioned::new(by, version));
            }
        }
    }

    /// Removes the value under `key`, and says whether there was one.
    ///
    /// # Errors
    ///
    /// [`Reentrant`](StateError::Reentrant) within the closure of an [`update`](Self::update); of a
    /// [`Key`](crate::Key) also [`WrongType`](StateError::WrongType), and then it is not removed.
    pub fn remove<K: KeyName>(&self, key: K) -> Result<bool, StateError> {
        let name = self.full(key.name());
        let removed = self
            .store
            .remove(&name, |entry| admit::<K>(&name, Some(entry)))?;
        Ok(removed.is_some())
    }

    /// Removes the value under `key` and returns it.
    ///
    /// # Errors
    ///
    /// [`WrongType`](StateError::WrongType) if it is not a `T`; it is then not removed.
    pub fn take<T: StateType>(&self, key: impl StateKey<T>) -> Result<Option<T>, StateError> {
        let name = self.full(key.name());
        let removed = self
            .store
            .remove(&name, |entry| expect_type::<T>(&name, &entry.value))?;
        Ok(removed.and_then(|value| T::read(&value)))
    }

    /// Removes all values that are there, one after the other, and returns how many those were. As a
    /// [sweep](Self::sweep), it gives back most of their places' memory, if few values are left.
    ///
    /// # Panics
    ///
    /// Panics within the closure of an [`update`](Self::update).
    pub fn clear(&self) -> usize {
        let keys = self.keys();
        let removed = keys.iter().filter(|key| self.remove(*key) == Ok(true));
        let cleared = removed.count();
        if cleared != 0 {
            self.store.give_back_memory();
        }
        cleared
    }

    /// Returns the version, if it was inserted.
    pub(super) fn insert_if_absent(
        &self,
        name: &str,
        value: StateValue,
    ) -> Result<Option<Version>, StateError> {
        let expiry = self.store.default_expiry;
        let put = self
            .store
            .put(name, self.store.draft(value, expiry), |entry| {
                let Some(entry) = entry else { return Ok(()) };
                Err(StateError::Conflict {
                    expected: Version::ABSENT,
                    found: entry.version,
                })
            });
        match put {
            Ok(put) => Ok(Some(put.version)),
            Err(StateError::Conflict { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn expect_type<T: StateType>(name: &str, value: &StateValue) -> Result<(), StateError> {
    if T::is(value) {
        return Ok(());
    }
    Err(StateError::wrong_type::<T>(name, value.type_name()))
}

fn admit<K: KeyName>(name: &str, entry: Option<&Entry>) -> Result<(), StateError> {
    let Some(entry) = entry else { return Ok(()) };
    K::admits(&entry.value).map_err(|expected| StateError::WrongType {
        key: name.into(),
        expected,
        found: entry.value.type_name(),
    })
}
