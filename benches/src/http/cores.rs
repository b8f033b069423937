//! A core for who serves, and another for who asks.

use std::io;

/// Two cores that this process may run on.
#[derive(Debug, Clone, Copy)]
pub struct Cores {
    server: usize,
    load: usize,
}

// === impl Cores ===

#[cfg(target_os = "linux")]
impl Cores {
    /// Moves this thread to a core of its own. `None` if there are no two of them, or if the system
    /// cannot do it.
    ///
    /// # Errors
    ///
    /// If the system does not let it.
    pub fn part() -> io::Result<Option<Self>> {
        let allowed = rustix::thread::sched_getaffinity(None)?;
        let mut cores = (0..rustix::thread::CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
        let (Some(server), Some(load)) = (cores.next(), cores.next()) else {
            return Ok(None);
        };
        move_to(load)?;
        Ok(Some(Self { server, load }))
    }

    /// Runs `start` on the core of who serves, where the processes that it starts will stay.
    pub(super) fn on_servers<T>(self, start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        move_to(self.server)?;
        let started = start();
        move_to(self.load)?;
        started
    }
}

#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "as on Linux")]
impl Cores {
    /// Does nothing: this system has no way to do it.
    ///
    /// # Errors
    ///
    /// Never.
    pub fn part() -> io::Result<Option<Self>> {
        Ok(None)
    }

    pub(super) fn on_servers<T>(self, start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        start()
    }
}

/// Moves this thread to `core`.
#[cfg(target_os = "linux")]
fn move_to(core: usize) -> io::Result<()> {
    let mut only = rustix::thread::CpuSet::new();
    only.set(core);
    Ok(rustix::thread::sched_setaffinity(None, &only)?)
}
