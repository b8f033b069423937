//! Waking one of those who wait for a message.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Wake, Waker},
};

/// The replicas that wait for a message, in the order in which they came to.
///
/// Its lock is held for no other one, and nobody is woken under it, so it may be
/// rung from anywhere; from within tokio's channel, it is.
#[derive(Default)]
pub(super) struct Bell {
    idle: Mutex<VecDeque<(usize, Waker)>>,
}

// === impl Bell ===

impl Bell {
    /// Notes that `replica` waits, and how it is woken.
    pub(super) fn wait(&self, replica: usize, waker: &Waker) {
        let mut idle = self.idle();
        match idle.iter_mut().find(|(waiting, _)| *waiting == replica) {
            Some((_, old)) => old.clone_from(waker),
            None => idle.push_back((replica, waker.clone())),
        }
    }

    /// Notes that `replica` does not wait any more. `false`: it has been woken, and
    /// what it was woken for may need another one now.
    pub(super) fn leave(&self, replica: usize) -> bool {
        let mut idle = self.idle();
        let place = idle.iter().position(|(waiting, _)| *waiting == replica);
        place.and_then(|place| idle.remove(place)).is_some()
    }

    /// Wakes one replica, if any waits.
    pub(super) fn ring(&self) {
        let waiting = self.idle().pop_front();
        if let Some((_, waker)) = waiting {
            waker.wake();
        }
    }

    /// Wakes every replica that waits.
    pub(super) fn ring_all(&self) {
        let waiting = std::mem::take(&mut *self.idle());
        for (_, waker) in waiting {
            waker.wake();
        }
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<(usize, Waker)>> {
        // Nothing that can panic runs under it; a poisoned one is still whole.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}
