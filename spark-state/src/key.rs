//! What a value is found by: a name, or a name and its type.

use std::{borrow::Cow, fmt, marker::PhantomData, sync::Arc};

use bytes::Bytes;
use serde_json::Value as Json;

use crate::{StateType, StateValue};

/// A name that always has the same type.
///
/// Made once, as a constant, and used wherever a name is: what is put in and taken out by it is
/// then checked by the compiler.
///
/// ```
/// use spark_state::{Key, SharedState};
///
/// const HITS: Key<i64> = Key::new("hits");
///
/// # fn main() -> Result<(), spark_state::StateError> {
/// let state = SharedState::new();
/// state.insert(HITS, 41)?;
/// state.update(HITS, |hits| *hits += 1)?;
/// assert_eq!(state.get(HITS)?, 42);
/// # Ok(())
/// # }
/// ```
///
/// ```compile_fail
/// # use spark_state::{Key, SharedState};
/// # const HITS: Key<i64> = Key::new("hits");
/// # let state = SharedState::new();
/// let hits: String = state.get(HITS).unwrap();
/// ```
///
/// While a name has a value, it has that value's type: a key of another type fails with
/// [`WrongType`](crate::StateError::WrongType), reading, writing and removing alike. (A bare name
/// inserts over whatever is there, and removes it.)
pub struct Key<T> {
    name: &'static str,
    // The key holds no `T`, so it is `Send`, whatever that is.
    type_: PhantomData<fn() -> T>,
}

/// Whatever names a value: a string, or a [`Key`].
///
/// Sealed.
pub trait KeyName: sealed::Sealed {
    /// Returns the name.
    fn name(&self) -> &str;

    /// Whether it may name `current`; if not, what is expected in its place.
    #[doc(hidden)]
    fn admits(current: &StateValue) -> Result<(), &'static str>;
}

/// Whatever names a value of type `T`: a [`Key<T>`], or a string, which names values of all types.
///
/// Sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a key for values of type `{T}`",
    label = "neither a string nor a `Key<{T}>`"
)]
pub trait StateKey<T>: KeyName {}

/// Whatever a `V` can be put in by: a string, or the [`Key`] of the type that a `V` becomes.
///
/// Sealed.
#[diagnostic::on_unimplemented(
    message = "a `{V}` cannot be put in by `{Self}`",
    label = "neither a string nor a key of this type"
)]
pub trait InsertKey<V>: KeyName {}

mod sealed {
    pub trait Sealed {}
}

// === impl Key ===

impl<T: StateType> Key<T> {
    /// Makes a key of a name.
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            type_: PhantomData,
        }
    }
}

impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Key<T> {}

impl<T: StateType> fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key<{}>({:?})", T::type_name(), self.name)
    }
}

impl<T> sealed::Sealed for Key<T> {}

impl<T: StateType> KeyName for Key<T> {
    #[inline]
    fn name(&self) -> &str {
        self.name
    }

    fn admits(current: &StateValue) -> Result<(), &'static str> {
        if T::is(current) {
            return Ok(());
        }
        Err(T::type_name())
    }
}

impl<T: StateType> StateKey<T> for Key<T> {}

impl<T: StateType> InsertKey<T> for Key<T> {}

/// What else becomes the type of a key.
macro_rules! becomes {
    ($($key:ty: $value:ty),+ $(,)?) => {
        $(impl InsertKey<$value> for Key<$key> {})+
    };
}

becomes! {
    String: &str,
    String: Arc<str>,
    Arc<str>: &str,
    Arc<str>: String,
    Arc<Json>: Json,
    Json: Arc<Json>,
    Bytes: Vec<u8>,
    Bytes: &[u8],
}

// === impl KeyName ===

macro_rules! strings {
    ($($string:ty),+ $(,)?) => { $(
        impl sealed::Sealed for $string {}

        impl KeyName for $string {
            #[inline]
            fn name(&self) -> &str {
                self
            }

            fn admits(_: &StateValue) -> Result<(), &'static str> {
                Ok(())
            }
        }

        impl<T: StateType> StateKey<T> for $string {}

        impl<V: Into<StateValue>> InsertKey<V> for $string {}
    )+ };
}

strings![
    &str,
    &&str,
    String,
    &String,
    Arc<str>,
    &Arc<str>,
    Box<str>,
    &Box<str>,
    Cow<'_, str>
];
