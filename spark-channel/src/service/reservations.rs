//! Which services hold a place in a module's mailbox, so that a stop can take it back.

use std::sync::{Mutex, PoisonError, Weak};

/// Something that may hold a place without using it.
///
/// tokio's receiver ends only once every place is used or given back, and a service
/// that has been polled ready may be left alone for any length of time.
pub(crate) trait Release: Send + Sync {
    fn release(&self);
}

/// One entry per service that has been polled, the dead ones among them until the
/// list next grows.
#[derive(Default)]
pub(crate) struct Reservations(Mutex<Vec<Weak<dyn Release>>>);

// === impl Reservations ===

impl Reservations {
    pub(crate) fn add(&self, place: Weak<dyn Release>) {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if places.len() == places.capacity() {
            places.retain(|place| place.strong_count() > 0);
        }
        places.push(place);
    }

    /// Gives back every place that is held. Called with the stop already published:
    /// whoever takes a place later sees it.
    pub(crate) fn release_all(&self) {
        let places = {
            let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *places)
        };
        for place in places.iter().filter_map(Weak::upgrade) {
            place.release();
        }
    }
}
