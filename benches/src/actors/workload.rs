//! The work every module does, so that no contender can do less than another.
//!
//! A module holds a sum. A request adds to it and answers with the sum; a command adds to it and
//! answers nothing. To time commands until they are *handled* rather than sent, the module counts
//! them and reports at a [`FinishLine`].

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::Notify;

/// How many messages a mailbox holds before senders wait, in every contender that has a bound.
pub const MAILBOX_CAPACITY: usize = 1024;

/// The state of a module, and what it does with a message.
#[derive(Debug)]
pub struct Counter {
    /// Atomic for the modules that handle requests through `&self`. They do so one at a time, so
    /// that it is read and written like a plain number.
    sum: AtomicU64,
    commands: u64,
    finish_line: Arc<FinishLine>,
}

/// Where a module says that the expected number of commands has been handled.
#[derive(Debug, Default)]
pub struct FinishLine {
    /// The number of commands, since the module started, at which to wake whoever waits.
    expected: AtomicU64,
    reached: Notify,
}

// === impl Counter ===

impl Counter {
    /// Creates a counter at zero that reports at `finish_line`.
    #[must_use]
    pub fn new(finish_line: Arc<FinishLine>) -> Self {
        Self {
            sum: AtomicU64::new(0),
            commands: 0,
            finish_line,
        }
    }

    /// Handles a request: adds `amount` and returns the sum.
    pub fn request(&self, amount: u64) -> u64 {
        let sum = self.sum.load(Ordering::Relaxed) + amount;
        self.sum.store(sum, Ordering::Relaxed);
        sum
    }

    /// Handles a command: adds `amount`.
    pub fn command(&mut self, amount: u64) {
        self.request(amount);
        self.commands += 1;
        // Relaxed is enough: the expectation is raised before the commands are sent, and the
        // mailbox orders the two.
        if self.commands == self.finish_line.expected.load(Ordering::Relaxed) {
            self.finish_line.reached.notify_one();
        }
    }
}

// === impl FinishLine ===

impl FinishLine {
    /// Expects `count` more commands. To be called before they are sent.
    pub fn expect_more(&self, count: u32) {
        self.expected.fetch_add(u64::from(count), Ordering::Relaxed);
    }

    /// Waits until all expected commands have been handled. For one waiter, once per expectation.
    pub async fn reached(&self) {
        self.reached.notified().await;
    }
}
