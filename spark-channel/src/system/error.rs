//! What can go wrong between a system and its modules.

use std::{fmt, sync::Arc};

/// Error returned by [`System::register`](crate::System::register).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// A living module has that name.
    #[error("a module is registered as {name:?}")]
    Taken {
        /// The name in question.
        name: Arc<str>,
    },
    /// The module has ended.
    #[error("module has ended")]
    Ended,
    /// The dispatcher was made from a bare sender, so nobody would learn of the end.
    #[error("dispatcher does not know its module")]
    Unknown,
}

/// Error returned by [`System::lookup`](crate::System::lookup).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LookupError {
    /// No living module has that name.
    #[error("no module is registered as {name:?}")]
    Absent {
        /// The name in question.
        name: Arc<str>,
    },
    /// The module has that name but other types.
    #[error("module {name:?} has other types: expected {expected}, found {found}")]
    TypeMismatch {
        /// The name in question.
        name: Arc<str>,
        /// The dispatcher type asked for, as the compiler calls it.
        expected: &'static str,
        /// The dispatcher type registered.
        found: &'static str,
    },
}

/// Error returned when a system that shuts down is given something to own, which it
/// gives back.
#[derive(thiserror::Error)]
#[error("system is shutting down")]
pub struct SystemClosed<T>(Box<T>);

// === impl SystemClosed ===

impl<T> SystemClosed<T> {
    pub(super) fn new(refused: T) -> Self {
        Self(Box::new(refused))
    }

    /// What was to be owned.
    pub fn into_inner(self) -> T {
        *self.0
    }
}

impl<T> fmt::Debug for SystemClosed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SystemClosed").finish_non_exhaustive()
    }
}
