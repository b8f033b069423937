//! When each request is due, and how long it took from then.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// Requests that are due at an even rate, whatever becomes of those before.
#[derive(Debug)]
pub(super) struct Schedule {
    next: Instant,
    interval: Duration,
    /// What is due earlier is not counted: caches are another server's until then.
    warm: Instant,
    end: Instant,
    /// Connections without a request, the one that has been so for longest first.
    idle: VecDeque<usize>,
    /// When each connection's request was due.
    due: Vec<Instant>,
    /// Since when there is an idle connection.
    free_since: Instant,
    latencies: Latencies,
}

/// How long requests took that were due at fixed times.
#[derive(Debug, Default)]
pub struct Latencies {
    /// From when a request was due until its answer was there.
    pub answered: Vec<Duration>,
    /// How late the load itself was: from when a request was due, and there was a connection for
    /// it, until it was sent. It is part of the above, and no server's fault.
    pub late: Vec<Duration>,
}

// === impl Schedule ===

impl Schedule {
    /// `rate` requests per second for as long as `slice`, on so many connections.
    pub(super) fn new(start: Instant, rate: f64, slice: Duration, connections: usize) -> Self {
        Self {
            next: start,
            interval: Duration::from_secs_f64(1.0 / rate),
            warm: start + slice / 10,
            end: start + slice,
            idle: (0..connections).collect(),
            due: vec![start; connections],
            free_since: start,
            latencies: Latencies::default(),
        }
    }

    /// The connection to send a request on now, if one is due and a connection is idle.
    pub(super) fn take(&mut self, now: Instant) -> Option<usize> {
        if self.next > now || self.next >= self.end {
            return None;
        }
        let place = self.idle.pop_front()?;
        if self.next >= self.warm {
            let late = now - self.next.max(self.free_since);
            self.latencies.late.push(late);
        }
        self.due[place] = self.next;
        self.next += self.interval;
        Some(place)
    }

    /// Notes that the answer is there.
    pub(super) fn answered(&mut self, place: usize, now: Instant) {
        let due = self.due[place];
        if due >= self.warm {
            self.latencies.answered.push(now - due);
        }
        if self.idle.is_empty() {
            self.free_since = now;
        }
        self.idle.push_back(place);
    }

    /// Whether all has been sent and answered.
    pub(super) fn is_over(&self) -> bool {
        self.next >= self.end && self.idle.len() == self.due.len()
    }

    pub(super) fn into_latencies(self) -> Latencies {
        self.latencies
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    /// One request per millisecond for 100 ms, on one connection, to a server that answers in no
    /// time but for a pause that begins with a request.
    fn latencies(pause_at: u32, pause: Duration) -> Vec<Duration> {
        let start = Instant::now();
        let mut now = start;
        let mut schedule = Schedule::new(start, 1000.0, 100 * MILLISECOND, 1);
        while !schedule.is_over() {
            match schedule.take(now) {
                Some(place) => {
                    if now == start + pause_at * MILLISECOND {
                        now += pause;
                    }
                    schedule.answered(place, now);
                }
                None => now += MILLISECOND,
            }
        }
        schedule.into_latencies().answered
    }

    #[test]
    fn all_who_were_due_while_a_server_stood_still_are_charged() {
        let latencies = latencies(50, 10 * MILLISECOND);

        // The first tenth is not counted.
        assert_eq!(latencies.len(), 90);
        let charged: Vec<_> = latencies.iter().filter(|took| !took.is_zero()).collect();
        let expected: Vec<_> = (1..=10).rev().map(|left| left * MILLISECOND).collect();
        assert_eq!(charged, expected.iter().collect::<Vec<_>>());
    }

    #[test]
    fn the_load_is_late_only_for_what_it_could_have_sent() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, 10.0, Duration::from_secs(1), 1);
        let at = |milliseconds: u32| start + milliseconds * MILLISECOND;

        // Not counted, and answered when the next but one is due.
        let place = schedule.take(at(0)).unwrap();
        assert_eq!(schedule.take(at(250)), None);
        schedule.answered(place, at(250));
        let place = schedule.take(at(253)).unwrap();
        schedule.answered(place, at(260));

        let latencies = schedule.into_latencies();
        assert_eq!(latencies.late, [3 * MILLISECOND]);
        assert_eq!(latencies.answered, [160 * MILLISECOND]);
    }
}
