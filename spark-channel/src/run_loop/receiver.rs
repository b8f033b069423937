//! The receiving end of a module's channel.

use std::ops::{Deref, DerefMut};

use tokio::sync::mpsc;

use super::quietly;

/// A receiver that drops what is left in it one by one.
///
/// Dropping a message runs the user's code. Where two of those that tokio's receiver drops
/// at once panic, the second ends the process.
pub(crate) struct Receiver<T>(mpsc::Receiver<T>);

// === impl Receiver ===

impl<T> Receiver<T> {
    pub(crate) const fn new(receiver: mpsc::Receiver<T>) -> Self {
        Self(receiver)
    }
}

impl<T> Deref for Receiver<T> {
    type Target = mpsc::Receiver<T>;

    #[inline]
    fn deref(&self) -> &mpsc::Receiver<T> {
        &self.0
    }
}

impl<T> DerefMut for Receiver<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut mpsc::Receiver<T> {
        &mut self.0
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.0.close();
        while let Ok(message) = self.0.try_recv() {
            quietly(|| drop(message));
        }
    }
}
