//! Whether another program had the core that was to be measured.

use std::{fs, io, process, time::Duration};

/// How long the threads of some processes have been ready to run, and did not, in all.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waits(Duration);

// === impl Waits ===

impl Waits {
    /// Those of this process and of `other`, until now. `None` if the system does not tell, as
    /// only Linux does.
    pub(super) fn until_now(other: u32) -> Option<Self> {
        let both = [process::id(), other].map(|process| of_process(process).ok());
        let [Some(own), Some(other)] = both else {
            return None;
        };
        Some(Self(own + other))
    }

    /// What has come to them since.
    pub(super) fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

fn of_process(process: u32) -> io::Result<Duration> {
    let mut waited = Duration::ZERO;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let statistics = fs::read_to_string(thread?.path().join("schedstat"))?;
        waited += of_thread(&statistics).ok_or(io::ErrorKind::InvalidData)?;
    }
    Ok(waited)
}

/// The second number: nanoseconds in the queue of a core.
fn of_thread(statistics: &str) -> Option<Duration> {
    let nanoseconds = statistics.split_whitespace().nth(1)?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threads_wait_is_the_second_number() {
        assert_eq!(
            of_thread("187480 704989 2\n"),
            Some(Duration::from_nanos(704_989))
        );
        assert_eq!(of_thread(""), None);
    }
}
