//! What a module tells of its messages by name, if it was built to.

use std::time::Duration;

/// How long messages of each name waited and were handled, and which are handled now.
///
/// Told by modules that were built with
/// [`message_names`](crate::ModuleBuilder::message_names), as one picture of the moment it
/// is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MessageStats {
    /// One for each name that a handler was started for, in the order of the names.
    ///
    /// There are at most 256; messages of further names are all told as `(other)`.
    pub by_name: Vec<NamedStats>,
    /// The messages whose handlers run, the one that has run for the longest first: of a
    /// single module at most one.
    pub current: Vec<CurrentMessage>,
}

/// The times of messages of one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NamedStats {
    /// The name.
    pub name: &'static str,
    /// From being accepted to the start of the handler, of those that were started. Zero
    /// for a request answered on its caller's task.
    ///
    /// A message that was put into the public `sender` of a dispatcher by hand is not
    /// timed, and while it is queued may lend those behind it a time that is too short.
    pub waiting: Durations,
    /// From the start of the handler to its end, whatever end that was: a result, an
    /// error, a panic, or being dropped.
    pub handling: Durations,
}

/// A message whose handler runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CurrentMessage {
    /// Its name.
    pub name: &'static str,
    /// How long the handler has been running, waiting for others included.
    pub age: Duration,
}

/// Some lengths of time, summed up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Durations {
    /// How many.
    pub count: u64,
    /// All together.
    pub total: Duration,
    /// The longest.
    pub max: Duration,
}

// === impl MessageStats ===

impl MessageStats {
    /// What is known of messages with this name, if a handler was started for any.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&NamedStats> {
        let index = self.by_name.binary_search_by(|one| one.name.cmp(name));
        index.ok().map(|index| &self.by_name[index])
    }
}

// === impl NamedStats ===

impl NamedStats {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            waiting: Durations::default(),
            handling: Durations::default(),
        }
    }
}

// === impl Durations ===

impl Durations {
    /// The mean; zero of none.
    #[must_use]
    pub fn mean(&self) -> Duration {
        if self.count == 0 {
            return Duration::ZERO;
        }
        self.total.div_f64(self.count as f64)
    }

    pub(crate) fn add(&mut self, length: Duration) {
        self.count += 1;
        self.total = self.total.saturating_add(length);
        self.max = self.max.max(length);
    }
}
