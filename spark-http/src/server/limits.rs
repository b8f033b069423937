//! How long a connection's phases may last, whatever it speaks.

use std::time::Duration;

use super::Settings;

#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) head: Duration,
    pub(super) keep_alive: Duration,
    pub(super) write: Duration,
}

// === impl Settings ===

impl Settings {
    pub(super) fn limits(&self) -> Limits {
        Limits {
            head: self.head_timeout,
            keep_alive: self.keep_alive,
            write: self.write_timeout,
        }
    }
}
