//! What a connection is doing, and for how long it may. Sans-IO: events and `now` in,
//! deadlines and verdicts out.

use tokio::time::Instant;

use crate::{due, server::limits::Limits};

/// Where a connection stands.
#[derive(Debug)]
pub(in crate::server) struct Timeline {
    phase: Phase,
    /// When the phase began. `None` until it is asked when something is due: most phases are over
    /// before that, and need no look at the clock.
    since: Option<Instant>,
    /// Since when its client has taken nothing of an answer that waits.
    stalled_since: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing has come yet.
    Silent,
    /// A part of a request's head has come.
    Head,
    /// A request is answered, or its answer written out.
    Busy,
    /// Everything is answered and written out.
    Idle,
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
                Some(_) => Phase::Head,
                None => Phase::Silent,
            },
            since: Some(spoken.unwrap_or(accepted)),
            stalled_since: None,
        }
    }

    /// Bytes came from the client.
    pub(super) fn read(&mut self) {
        if let Phase::Silent | Phase::Idle = self.phase {
            self.enter(Phase::Head);
        }
    }

    /// A request's head is complete.
    pub(super) fn request(&mut self) {
        self.phase = Phase::Busy;
    }

    /// Everything answered so far is written out, and no request is under way.
    pub(super) fn settled(&mut self) {
        if self.phase == Phase::Busy {
            self.enter(Phase::Idle);
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

    /// When, and for what, the connection is overdue unless something happens. To be asked after
    /// whatever happened: `clock` tells when it did.
    pub(in crate::server) fn due(
        &mut self,
        limits: &Limits,
        clock: impl FnOnce() -> Instant,
    ) -> Option<(Instant, Overdue)> {
        let (limit, overdue) = match self.phase {
            Phase::Silent => (limits.head, Overdue::Silent),
            Phase::Head => (limits.head, Overdue::Head),
            Phase::Idle => (limits.keep_alive, Overdue::Silent),
            Phase::Busy | Phase::Switched => {
                let since = self.stalled_since?;
                return Some((due::after(since, limits.write), Overdue::Write));
            }
        };
        let since = *self.since.get_or_insert_with(clock);
        Some((due::after(since, limit), overdue))
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.since = None;
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
        let due = |timeline: &mut Timeline, second| {
            timeline
                .due(&LIMITS, || at(start, second))
                .expect("a limit")
        };
        assert_eq!(due(&mut timeline, 1), (at(start, 10), Overdue::Silent));
        timeline.read();
        assert_eq!(due(&mut timeline, 2), (at(start, 12), Overdue::Head));
        timeline.read();
        assert_eq!(due(&mut timeline, 9), (at(start, 12), Overdue::Head));

        let mut speaker = Timeline::new(start, Some(at(start, 3)));
        assert_eq!(due(&mut speaker, 4), (at(start, 13), Overdue::Head));

        timeline.request();
        timeline.settled();
        assert_eq!(due(&mut timeline, 20), (at(start, 25), Overdue::Silent));
        timeline.read();
        assert_eq!(due(&mut timeline, 24), (at(start, 34), Overdue::Head));
        timeline.read();
        assert_eq!(due(&mut timeline, 30), (at(start, 34), Overdue::Head));
    }

    #[test]
    fn an_idle_connection_has_the_keep_alive_time_and_a_busy_one_all_it_needs() {
        let start = Instant::now();
        let mut timeline = Timeline::new(start, None);
        timeline.request();
        assert!(timeline.is_busy());
        assert_eq!(timeline.due(&LIMITS, Instant::now), None);

        timeline.settled();
        assert!(!timeline.is_busy());
        let due = timeline.due(&LIMITS, || at(start, 7));
        assert_eq!(due, Some((at(start, 12), Overdue::Silent)));
        // It has been idle since then, whenever it is asked.
        let due = timeline.due(&LIMITS, || at(start, 9));
        assert_eq!(due, Some((at(start, 12), Overdue::Silent)));
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
        let silent = timeline.due(&longest, || start);
        timeline.read();
        let head = timeline.due(&longest, || start);
        timeline.request();
        timeline.stalled(start);
        let write = timeline.due(&longest, || start);
        timeline.settled();
        let idle = timeline.due(&longest, || start);
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
        assert_eq!(
            timeline.due(&LIMITS, || start),
            Some((at(start, 31), Overdue::Write))
        );

        timeline.wrote();
        assert_eq!(timeline.due(&LIMITS, || start), None);
        timeline.stalled(at(start, 8));
        assert_eq!(
            timeline.due(&LIMITS, || start),
            Some((at(start, 38), Overdue::Write))
        );
    }
}
