//! Whether a client is still there. Sans-IO: events and `now` in, what to do out.

use std::time::Duration;

use tokio::time::Instant;

use crate::due;

/// Pings at an interval, and counts those that nothing came after.
#[derive(Debug)]
pub(super) struct Heartbeat {
    every: Duration,
    missed_max: u32,
    next: Instant,
    unanswered: u32,
}

/// What an interval's end asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beat {
    Ping,
    /// Too many pings went unanswered.
    Dead,
}

// === impl Heartbeat ===

impl Heartbeat {
    pub(super) fn new(now: Instant, every: Duration, missed_max: u32) -> Self {
        Self {
            every,
            missed_max,
            next: due::after(now, every),
            unanswered: 0,
        }
    }

    /// When [`beat`](Self::beat) is to be called next.
    pub(super) fn due(&self) -> Instant {
        self.next
    }

    /// Something came from the client.
    pub(super) fn heard(&mut self) {
        self.unanswered = 0;
    }

    /// An interval has ended. Pings do not count while nobody `listens`: the answers to them wait
    /// unread.
    pub(super) fn beat(&mut self, now: Instant, listens: bool) -> Beat {
        self.next = due::after(now, self.every);
        if !listens {
            return Beat::Ping;
        }
        if self.unanswered >= self.missed_max {
            return Beat::Dead;
        }
        self.unanswered += 1;
        Beat::Ping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(10);

    #[test]
    fn a_client_is_dead_an_interval_after_the_last_ping_it_may_miss() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(start, EVERY, 2);
        assert_eq!(heartbeat.due(), start + EVERY);
        assert_eq!(heartbeat.beat(start + EVERY, true), Beat::Ping);
        assert_eq!(heartbeat.beat(start + EVERY * 2, true), Beat::Ping);
        assert_eq!(heartbeat.due(), start + EVERY * 3);
        assert_eq!(heartbeat.beat(start + EVERY * 3, true), Beat::Dead);
    }

    #[test]
    fn whatever_is_heard_is_a_sign_of_life() {
        let now = Instant::now();
        let mut heartbeat = Heartbeat::new(now, EVERY, 1);
        for _ in 0..5 {
            assert_eq!(heartbeat.beat(now, true), Beat::Ping);
            heartbeat.heard();
        }
    }

    #[test]
    fn nobody_is_dead_for_what_was_not_listened_to() {
        let now = Instant::now();
        let mut heartbeat = Heartbeat::new(now, EVERY, 1);
        for _ in 0..5 {
            assert_eq!(heartbeat.beat(now, false), Beat::Ping);
        }
        assert_eq!(heartbeat.beat(now, true), Beat::Ping);
        assert_eq!(heartbeat.beat(now, true), Beat::Dead);
    }
}
