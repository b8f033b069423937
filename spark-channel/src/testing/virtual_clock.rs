//! A clock that tests move.

use std::time::Duration;

use tokio::{
    task::yield_now,
    time::{Instant, sleep_until},
};

use crate::clock::standard_now;

/// The current runtime's clock, standing still until it is moved.
///
/// Everything of this crate that takes time takes it from there: timeouts, deadlines,
/// shutdowns, and the handlers' own `tokio::time` timers. A wait of an hour is over at
/// once, and nothing depends on how fast the machine is.
///
/// While the clock is paused and *every* task waits, tokio moves it to the next timer by
/// itself. So a wait with a timeout ends, and a test that hangs fails, without anybody
/// moving the clock.
///
/// Tokio's timers count whole milliseconds. Each may be late by one, and with it
/// [`advance`](Self::advance), unless the runtime was started with its clock paused.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use spark_channel::{SparkChannelError, spawn_module, testing::VirtualClock};
/// # use spark_channel::NativeHandler;
/// # struct Sleepy;
/// # impl NativeHandler for Sleepy {
/// #     type Message = Duration;
/// #     type Response = ();
/// #     type Error = SparkChannelError;
/// #     async fn handle_request(&mut self, time: Duration) -> Result<(), SparkChannelError> {
/// #         tokio::time::sleep(time).await;
/// #         Ok(())
/// #     }
/// #     async fn handle_command(&mut self, _: Duration) -> Result<(), SparkChannelError> { Ok(()) }
/// # }
///
/// # #[tokio::main(flavor = "current_thread")] // in a test: #[tokio::test]
/// # async fn main() -> Result<(), SparkChannelError> {
/// let clock = VirtualClock::pause();
/// let sleepy = spawn_module(Sleepy).dispatcher();
/// let hour = Duration::from_secs(60 * 60);
///
/// sleepy.request(hour).await?; // tokio moves the clock
/// assert_eq!(clock.elapsed().as_secs(), 3_600);
///
/// clock.advance(hour).await;
/// assert_eq!(clock.elapsed().as_secs(), 7_200);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct VirtualClock {
    paused_at: Instant,
}

// === impl VirtualClock ===

impl VirtualClock {
    /// Pauses the current runtime's clock, unless it is paused already, as in
    /// `#[tokio::test(start_paused = true)]`.
    ///
    /// Modules choose how they read the time when they are started: pause first.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime of the flavor `current_thread` with a timer.
    #[track_caller]
    #[must_use]
    pub fn pause() -> Self {
        if !stands_still() {
            tokio::time::pause();
        }
        Self {
            paused_at: Instant::now(),
        }
    }

    /// Lets `time` pass.
    ///
    /// Every timer due on the way fires at its own time and in its turn, also one that is
    /// armed meanwhile, and what it wakes runs before time goes on. (Tokio's own
    /// `advance` moves the clock in one jump, after which everything is late.) What is
    /// due at the very end is woken, and has had several turns to run.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before completing, part of the time has passed.
    pub async fn advance(&self, time: Duration) {
        sleep_until(Instant::now() + time).await;
        for _ in 0..TURNS {
            yield_now().await;
        }
    }

    /// How much time has passed since [`pause`](Self::pause).
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.paused_at.elapsed()
    }
}

/// Whether the runtime's clock stands while the standard one goes on.
fn stands_still() -> bool {
    let before = Instant::now();
    let started = standard_now();
    while standard_now() == started {
        std::hint::spin_loop();
    }
    Instant::now() == before
}

/// From a timer to a handler, its caller, and whomever that one tells in turn.
const TURNS: usize = 32;
