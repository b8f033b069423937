//! When values expire.

use std::time::Duration;

/// When a value expires: after a time, after a time without being read, or never.
///
/// An expired value is not seen again by anybody, whether it was [swept](crate::SharedState::sweep)
/// or not.
///
/// ```
/// use std::time::Duration;
/// use spark_state::{Expiry, SharedState};
///
/// # fn main() -> Result<(), spark_state::StateError> {
/// let state = SharedState::new();
/// let session = Expiry::ttl(Duration::from_secs(8 * 3600)).and_idle(Duration::from_secs(900));
/// state.insert_with("session/7", "Ada", session)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[must_use = "an expiry does nothing until a value is inserted with it"]
pub struct Expiry {
    pub(crate) ttl: Option<Duration>,
    pub(crate) idle: Option<Duration>,
}

// === impl Expiry ===

impl Expiry {
    /// The value stays until it is removed.
    pub const fn never() -> Self {
        Self {
            ttl: None,
            idle: None,
        }
    }

    /// The value expires so long after it was inserted. Updating it in place is no new beginning,
    /// inserting it again is.
    pub const fn ttl(after: Duration) -> Self {
        Self::never().and_ttl(after)
    }

    /// The value expires when it was neither read nor changed for so long. Watching it is not
    /// reading.
    pub const fn idle(after: Duration) -> Self {
        Self::never().and_idle(after)
    }

    /// Adds a time to live; the earlier of the two ends it.
    pub const fn and_ttl(mut self, after: Duration) -> Self {
        self.ttl = Some(after);
        self
    }

    /// Adds an idle time; the earlier of the two ends it.
    pub const fn and_idle(mut self, after: Duration) -> Self {
        self.idle = Some(after);
        self
    }
}
