//! Which state of a value is meant.

use std::fmt;

/// A number that a value gets with every change, larger than all it had under its key before.
///
/// A key that was removed and inserted again goes on above its old versions, so a version stands
/// for one state of one key, for as long as the store lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u64);

/// A value and its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Versioned<T> {
    /// The value.
    pub value: T,
    /// The version it had when it was read.
    pub version: Version,
}

// === impl Version ===

impl Version {
    /// The version of a key that has no value.
    pub const ABSENT: Self = Self(0);

    /// Makes a version of a number that came from [`to_u64`](Self::to_u64).
    pub const fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// Returns the number, to be sent elsewhere and back.
    pub const fn to_u64(self) -> u64 {
        self.0
    }

    pub(crate) const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ABSENT => f.write_str("no version"),
            Self(number) => write!(f, "version {number}"),
        }
    }
}

// === impl Versioned ===

impl<T> Versioned<T> {
    pub(crate) const fn new(value: T, version: Version) -> Self {
        Self { value, version }
    }
}
