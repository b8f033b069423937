//! What a connection is doing, and for how long it may. Sans-IO: events and `now` in,
//! deadlines and verdicts out.

use tokio::time::Instant;

use crate::{due, server::limits::Limits};

/// Where a connection stands.
#[derive(Debug)]
pub(in crate::server) struct Timeline {
    phase: Phase,
    /// Since when its client has taken nothing of an answer that waits.
    stalled_since: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing has come yet.
    Silent { since: Instant },
    /// A part of a request's head has come.
    Head { since: Instant },
    /// A request is answered, or its answer written out.
    Busy,
    /// Everything is answered and written out.
    Idle { since: Instant },
    /// It is on its way to another protocol, or arrived there.
    Switched,
}

/// A limit that has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Overdue {
    /// The client connected and said nothing, or did not come back.
    Silent,
    /// The head did not come to its end.
    Head,
    /// The client does not read.
    Write,
}

// === impl Timeline ===

impl Timeline {
    /// A connection that was accepted, and whose first byte has come already if `spoken` says when.
    pub(in crate::server) fn new(accepted: Instant, spoken: Option<Instant>) -> Self {
        Self {
            phase: match spoken {
                Some(since) => Phase::Head { since },
                None => Phase::Silent { since: accepted },
            },
            stalled_since: None,
        }
    }

    /// Bytes came from the client.
    pub(super) fn read(&mut self, now: Instant) {
        if let Phase::Silent { .. } | Phase::Idle { .. } = self.phase {
            self.phase = Phase::Head { since: now };
        }
    }

    /// A request's head is complete.
    pub(super) fn request(&mut self) {
        self.phase = Phase::Busy;
    }

    /// Everything answered so far is written out, and no request is under way.
    pub(super) fn settled(&mut self, now: Instant) {
        if self.phase == Phase::Busy {
            self.phase = Phase::Idle { since: now };
        }
    }

    /// The client took bytes.
    pub(super) fn wrote(&mut self) {
        self.stalled_since = None;
    }

    /// The client has not made room for what waits to be written.
    pub(super) fn stalled(&mut self, now: Instant) {
        self.stalled_since.get_or_insert(now);
    }

    /// Whether the client is owed an answer, or the rest of one.
    pub(super) fn is_busy(&self) -> bool {
        self.phase == Phase::Busy
    }

    /// Whatever is written from now on is no matter of HTTP.
    pub(in crate::server) fn switch(&mut self) {
        self.phase = Phase::Switched;
    }

    pub(in crate::server) fn has_switched(&self) -> bool {
        self.phase == Phase::Switched
    }

    /// Whether what is written now is for the client.
    pub(super) fn owes(&self) -> bool {
        matches!(self.phase, Phase::Busy | Phase::Switched)
    }

    /// When, and for what, the connection is overdue unless something happens.
    pub(in crate::server) fn due(&self, limits: &Limits) -> Option<(Instant, Overdue)> {
        match self.phase {
            Phase::Silent { since } => Some((due::after(since, limits.head), Overdue::Silent)),
            Phase::Head { since } => Some((due::after(since, limits.head), Overdue::Head)),
            Phase::Idle { since } => Some((due::after(since, limits.keep_alive), Overdue::Silent)),
            Phase::Busy | Phase::Switched => {
                let since = self.stalled_since?;
                Some((due::after(since, limits.write), Overdue::Write))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LIMITS: Limits = Limits {
        head: Duration::from_secs(10),
        keep_alive: Duration::from_secs(5),
        write: Duration::from_secs(30),
    };

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_head_has_its_time_from_the_first_byte_and_more_bytes_do_not_extend_it() {
        let start = Instant::now();
        let mut timeline = Timeline::new(start, None);
        assert_eq!(
            timeline.due(&LIMITS),
            Some((at(start, 10), Overdue::Silent))
        );
        timeline.read(at(start, 2));
        timeline.read(at(start, 9));
        assert_eq!(timeline.due(&LIMITS), Some((at(start, 12), Overdue::Head)));

        let speaker = Timeline::new(start, Some(at(start, 3)));
        let due = speaker.due(&LIMITS);
        assert_eq!(due, Some((at(start, 13), Overdue::Head)));

        timeline.request();
        timeline.settled(at(start, 20));
        timeline.read(at(start, 24));
        timeline.read(at(start, 30));
        assert_eq!(timeline.due(&LIMITS), Some((at(start, 34), Overdue::Head)));
    }

    #[test]
    fn an_idle_connection_has_the_keep_alive_time_and_a_busy_one_all_it_needs() {
        let start = Instant::now();
        let mut timeline = Timeline::new(start, None);
        timeline.request();
        assert!(timeline.is_busy());
        assert_eq!(timeline.due(&LIMITS), None);

        timeline.settled(at(start, 7));
        assert!(!timeline.is_busy());
        assert_eq!(
            timeline.due(&LIMITS),
            Some((at(start, 12), Overdue::Silent))
        );
    }

    #[test]
    fn limits_may_be_as_long_as_a_duration() {
        let longest = Limits {
            head: Duration::MAX,
            keep_alive: Duration::MAX,
            write: Duration::MAX,
        };
        let start = Instant::now();
        let year = at(start, 365 * 24 * 60 * 60);
        let mut timeline = Timeline::new(start, None);
        let silent = timeline.due(&longest);
        timeline.read(start);
        let head = timeline.due(&longest);
        timeline.request();
        timeline.stalled(start);
        let write = timeline.due(&longest);
        timeline.settled(start);
        let idle = timeline.due(&longest);
        for due in [silent, head, write, idle] {
            assert!(due.is_some_and(|(due, _)| due > year), "{due:?}");
        }
    }

    #[test]
    fn a_stall_counts_from_the_last_byte_the_client_took() {
        let start = Instant::now();
        let mut timeline = Timeline::new(start, None);
        timeline.request();
        timeline.stalled(at(start, 1));
        timeline.stalled(at(start, 2));
        assert_eq!(timeline.due(&LIMITS), Some((at(start, 31), Overdue::Write)));

        timeline.wrote();
        assert_eq!(timeline.due(&LIMITS), None);
        timeline.stalled(at(start, 8));
        assert_eq!(timeline.due(&LIMITS), Some((at(start, 38), Overdue::Write)));
    }
}
