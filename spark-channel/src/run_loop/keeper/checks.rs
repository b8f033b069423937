//! When to look which module has been idle for too long.
//!
//! A module that is used is not touched here: its check comes when it would be due had
//! it not been used, finds that it was, and is put off.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

pub(super) struct Checks {
    idle_timeout: Option<Duration>,
    /// Which seat to look at, by time and the number of the module in it.
    due: BTreeMap<Check, usize>,
    timer: Option<Pin<Box<Sleep>>>,
}

pub(super) type Check = (Instant, u64);

// === impl Checks ===

impl Checks {
    pub(super) const fn new(idle_timeout: Option<Duration>) -> Self {
        Self {
            idle_timeout,
            due: BTreeMap::new(),
            timer: None,
        }
    }

    /// Whether modules are looked at.
    pub(super) const fn are_made(&self) -> bool {
        self.idle_timeout.is_some()
    }

    /// Plans to look at the module `number` in `seat`, unless modules may be idle for ever.
    pub(super) fn plan(&mut self, number: u64, seat: usize) -> Option<Check> {
        let check = (Instant::now() + self.idle_timeout?, number);
        self.due.insert(check, seat);
        Some(check)
    }

    /// Plans to look again at a module that has been idle since then, if it has; `None`
    /// if that has been for long enough.
    pub(super) fn put_off(
        &mut self,
        number: u64,
        seat: usize,
        idle_since: Option<Instant>,
    ) -> Option<Check> {
        let now = Instant::now();
        let at = idle_since.unwrap_or(now) + self.idle_timeout?;
        if at <= now {
            return None;
        }
        self.due.insert((at, number), seat);
        Some((at, number))
    }

    pub(super) fn forget(&mut self, check: Check) {
        self.due.remove(&check);
    }

    /// The next seat to look at, once it is time.
    pub(super) fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        let Some((&(at, _), _)) = self.due.first_key_value() else {
            self.timer = None;
            return Poll::Pending;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if timer.deadline() != at {
            timer.as_mut().reset(at);
        }
        ready!(timer.as_mut().poll(cx));
        self.due
            .pop_first()
            .map_or(Poll::Pending, |(_, seat)| Poll::Ready(seat))
    }
}
