//! What can happen to an operation on a store.

use std::{fmt, sync::Arc};

use crate::{StateType, Version};

/// Why an operation on a store did nothing.
///
/// An operation that fails has changed nothing, but for a function that was
/// [called](crate::SharedState::call) and panicked: what it did is its own affair.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// Nothing is there under this key, or it has expired.
    #[error("no value for {key:?}")]
    Missing {
        /// The key that was asked for, with its scope; from a module, as it was asked for.
        key: Box<str>,
    },
    /// What is there is of another type.
    #[error("{key:?} is of type {found}, not {expected}")]
    WrongType {
        /// The key that was asked for, with its scope; from a module, as it was asked for.
        key: Box<str>,
        /// What was asked for.
        expected: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// The value has another version than the one expected: somebody else was here first.
    #[error("the value is of {found}, not of {expected}")]
    Conflict {
        /// The version that was given.
        expected: Version,
        /// The version of what is there.
        found: Version,
    },
    /// There is no room, and the store does not evict. There may be later.
    #[error("the store is at its bound of {bound}")]
    Full {
        /// Which bound.
        bound: Bound,
    },
    /// The value alone is larger than the whole store may be.
    #[error("a value of {bytes} bytes cannot fit into a store of {bytes_max}")]
    TooLarge {
        /// What it would take, with its key and its place.
        bytes: usize,
        /// The store's bound.
        bytes_max: usize,
    },
    /// The sum is beyond what the number can hold.
    #[error("the sum does not fit into the number")]
    Overflow,
    /// The operation was called from within the closure of an
    /// [`update`](crate::SharedState::update), or would wait for the very initialiser it was called
    /// from. Neither could ever end.
    #[error("called from within an update or an initialiser that it would wait for")]
    Reentrant,
    /// What was called is not a function.
    #[error("{key:?} is of type {found}, not a function")]
    NotAFunction {
        /// The key that was called, as above.
        key: Box<str>,
        /// What is there.
        found: &'static str,
    },
    /// The function that was called panicked.
    #[error("the function panicked")]
    Panicked {
        /// The panic's text: for logs, not for network peers, which is why the error does not
        /// print it.
        text: Arc<str>,
    },
    /// A value of this type cannot leave the process.
    #[error("a value of type {found} cannot leave the process")]
    NotSerialisable {
        /// What is there.
        found: &'static str,
    },
    /// The store is gone: its last handle was dropped.
    #[error("the store is gone")]
    Closed,
}

/// A bound of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Bound {
    /// How many entries there may be.
    Entries,
    /// How many bytes they may take.
    Bytes,
}

// === impl StateError ===

impl StateError {
    /// Whether the same operation may succeed later without anything else being done first: when
    /// there is [room](Self::Full) again.
    ///
    /// After a [`Conflict`](Self::Conflict) one reads again before one tries again, which is
    /// another operation.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Full { .. })
    }

    /// Says the key as that scope has it.
    #[cfg(feature = "module")]
    pub(crate) fn within(mut self, scope: &crate::SharedState) -> Self {
        if let Self::Missing { key } | Self::WrongType { key, .. } | Self::NotAFunction { key, .. } =
            &mut self
            && let Some(within) = scope.within(key)
        {
            *key = within.into();
        }
        self
    }

    #[cold]
    pub(crate) fn missing(key: &str) -> Self {
        Self::Missing { key: key.into() }
    }

    #[cold]
    pub(crate) fn wrong_type<T: StateType>(key: &str, found: &'static str) -> Self {
        Self::WrongType {
            key: key.into(),
            expected: T::type_name(),
            found,
        }
    }
}

// === impl Bound ===

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Entries => "entries",
            Self::Bytes => "bytes",
        })
    }
}
