//! Values that are made when they are first wanted.

use std::future::Future;

use crate::{SharedState, StateError, StateKey, StateType, StateValue};

// === impl SharedState ===

#[expect(
    clippy::needless_pass_by_value,
    reason = "a key is a constant or a reference to a name"
)]
impl SharedState {
    /// Returns the value under `key`; if there is none, puts there what `make` makes.
    ///
    /// `make` runs without a lock, so it may use the store. When several callers make a value at
    /// the same time, the first to finish puts it there, and all get that one. For
    /// something that must be made once, there is [`get_or_try_init`](Self::get_or_try_init).
    ///
    /// # Errors
    ///
    /// [`WrongType`](StateError::WrongType) if what is there is not a `T`; and as
    /// [`insert`](Self::insert).
    pub fn get_or_insert_with<T: StateType>(
        &self,
        key: impl StateKey<T>,
        make: impl FnOnce() -> T,
    ) -> Result<T, StateError> {
        let name = self.full(key.name());
        if let Some(value) = self.store.get(&name)? {
            return Ok(value);
        }
        let made: StateValue = make().into();
        self.get_or_insert(&name, &made)
    }

    /// Returns the value under `key`; if there is none, puts there what `init` returns.
    ///
    /// Under contention, one caller's `init` runs at a time, and when it succeeds the others get
    /// its value and theirs never run. When it fails, panics or is dropped, the next caller's
    /// turn comes, in the order of asking. No lock is held meanwhile: others may read and write the
    /// key, and if somebody else puts a value there, everybody gets that one.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use spark_state::SharedState;
    ///
    /// # #[derive(Debug)] struct Pool;
    /// # impl Pool { async fn connect(_: &str) -> eyre::Result<Self> { Ok(Self) } }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> eyre::Result<()> {
    /// let state = SharedState::new();
    /// state.insert("url", "db.example")?;
    /// let pool = state
    ///     .get_or_try_init("pool", || async {
    ///         let url: String = state.get("url")?;
    ///         Ok::<_, eyre::Report>(Arc::new(Pool::connect(&url).await?))
    ///     })
    ///     .await?;
    /// # let _: Arc<Pool> = pool;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What `init` returns; [`Reentrant`](StateError::Reentrant) if called from within an `init` of
    /// the same key, on the same task; and as [`get_or_insert_with`](Self::get_or_insert_with). Two
    /// `init`s that wait for each other's keys on different tasks are not found out.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: `init` is dropped where it awaits, nothing was put anywhere, and the next caller
    /// has its turn.
    pub async fn get_or_try_init<T, E, Init, Fut>(
        &self,
        key: impl StateKey<T>,
        init: Init,
    ) -> Result<T, E>
    where
        T: StateType,
        E: From<StateError>,
        Init: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let name = self.full(key.name());
        if let Some(value) = self.store.get(&name)? {
            return Ok(value);
        }
        let flight = self.store.flights.join(&name);
        if flight.is_within_itself() {
            return Err(StateError::Reentrant.into());
        }
        let _turn = flight.turn().await;
        if let Some(value) = self.store.get(&name)? {
            return Ok(value);
        }
        // Called in there too, so that what it does before it first awaits is seen to be within.
        let made: StateValue = flight.run(async { init().await }).await?.into();
        Ok(self.get_or_insert(&name, &made)?)
    }

    /// Returns what is there, or puts `made` there and returns it.
    fn get_or_insert<T: StateType>(&self, name: &str, made: &StateValue) -> Result<T, StateError> {
        loop {
            if self.insert_if_absent(name, made.clone())?.is_some() {
                return Ok(T::read(made).expect("it was made of a `T`"));
            }
            // Unless it has gone again.
            if let Some(value) = self.store.get(name)? {
                return Ok(value);
            }
        }
    }
}
