//! What a request's path had in the place of its route's parameters.

use std::{fmt, sync::Arc};

/// The values of a path's parameters, in the order of the path; see
/// [`IngressBuilder::path`](crate::IngressBuilder::path).
///
/// Values are percent-decoded, once, and never empty. What a client encoded as `%2F` is a `/`
/// inside of a value.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PathParameters(Vec<(Arc<str>, Box<str>)>);

// === impl PathParameters ===

impl PathParameters {
    pub(crate) fn new(named: impl Iterator<Item = (Arc<str>, Box<str>)>) -> Self {
        Self(named.collect())
    }

    /// The value of the parameter that the route's path calls `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find_map(|(taken, value)| (taken == name).then_some(value))
    }

    /// Names and values.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the route's path has no parameters.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for PathParameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}
