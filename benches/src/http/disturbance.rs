//! Whether another program had a core that was to be measured.

use std::{fs, io, process, time::Duration};

/// What Linux has counted of two processes, until some time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Disturbance {
    /// How long the load's thread was ready to run and did not. It never sleeps, so that is how long
    /// another had its core. (A server waits a little whenever it is woken.)
    load_waited: Duration,
    /// How often the server's threads were made to stop.
    server_preempted: u64,
}

// === impl Disturbance ===

impl Disturbance {
    /// That of this process, which is the load, and of a server. `None` if the system does not
    /// tell.
    pub(super) fn until_now(server: u32) -> Option<Self> {
        let load = threads_of(process::id(), "schedstat", waited).ok()?;
        let server = threads_of(server, "status", preempted).ok()?;
        Some(Self {
            load_waited: Duration::from_nanos(load),
            server_preempted: server,
        })
    }

    /// Whether it grew, in a turn of so long, by more than the system itself is cause of.
    pub(super) fn has_grown_since(self, earlier: Self, slice: Duration) -> bool {
        let waited = self.load_waited.saturating_sub(earlier.load_waited);
        let preempted = self
            .server_preempted
            .saturating_sub(earlier.server_preempted);
        waited > slice / 1000 || preempted > PREEMPTED_MAX
    }
}

/// The sum of what `read` finds in a file of each thread.
fn threads_of(process: u32, file: &str, read: fn(&str) -> Option<u64>) -> io::Result<u64> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let statistics = fs::read_to_string(thread?.path().join(file))?;
        sum += read(&statistics).ok_or(io::ErrorKind::InvalidData)?;
    }
    Ok(sum)
}

/// The second number of `schedstat`: nanoseconds in the queue of a core.
fn waited(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().nth(1)?.parse().ok()
}

fn preempted(status: &str) -> Option<u64> {
    let mut lines = status.lines();
    let count = lines.find_map(|line| line.strip_prefix("nonvoluntary_ctxt_switches:"))?;
    count.trim().parse().ok()
}

/// The kernel's own threads come and go.
const PREEMPTED_MAX: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threads_wait_is_the_second_number() {
        assert_eq!(waited("187480 704989 2\n"), Some(704_989));
        assert_eq!(waited(""), None);
    }

    #[test]
    fn only_switches_that_were_forced_count() {
        let status = "Name:\thttp\nvoluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t3\n";
        assert_eq!(preempted(status), Some(3));
        assert_eq!(preempted("Name:\thttp\n"), None);
    }

    #[test]
    fn a_turn_is_disturbed_by_a_wait_or_by_being_made_to_stop() {
        let slice = Duration::from_millis(100);
        let counted = |microseconds, server_preempted| Disturbance {
            load_waited: Duration::from_micros(microseconds),
            server_preempted,
        };
        let before = counted(1000, 10);

        for (after, is_disturbed) in [
            (counted(1100, 14), false),
            (counted(1101, 10), true),
            (counted(1000, 15), true),
        ] {
            assert_eq!(
                after.has_grown_since(before, slice),
                is_disturbed,
                "{after:?}"
            );
        }
    }
}
