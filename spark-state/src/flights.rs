//! Who initialises what: one at a time for each key.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Semaphore, SemaphorePermit};

/// The keys that are being initialised.
#[derive(Default)]
pub(crate) struct Flights(Mutex<HashMap<Arc<str>, Wanted>>);

struct Wanted {
    turn: Arc<Semaphore>,
    by: usize,
}

/// One who wants a key initialised. Cancelling it gives its turn to the next.
pub(crate) struct Flight<'a> {
    flights: &'a Flights,
    key: Arc<str>,
    turn: Arc<Semaphore>,
}

/// The keys that this task is initialising, the innermost first, each with its store's address.
#[derive(Clone)]
struct Path {
    store: usize,
    key: Arc<str>,
    outer: Option<Arc<Path>>,
}

tokio::task_local! {
    static PATH: Arc<Path>;
}

// === impl Flights ===

impl Flights {
    pub(crate) fn join(&self, key: &str) -> Flight<'_> {
        let key: Arc<str> = key.into();
        let mut flights = self.lock();
        let wanted = flights.entry(Arc::clone(&key)).or_insert_with(|| Wanted {
            turn: Arc::new(Semaphore::new(1)),
            by: 0,
        });
        wanted.by += 1;
        Flight {
            flights: self,
            turn: Arc::clone(&wanted.turn),
            key,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Wanted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

// === impl Flight ===

impl Flight<'_> {
    /// Waits until nobody else initialises the key. First come, first served.
    pub(crate) async fn turn(&self) -> SemaphorePermit<'_> {
        let turn = self.turn.acquire().await;
        turn.expect("the semaphore is never closed")
    }

    /// Whether this is called from within an initialiser of the same key.
    pub(crate) fn is_within_itself(&self) -> bool {
        let address = self.flights.address();
        let outer = PATH.try_with(Arc::clone).ok();
        let mut outer = outer.as_deref();
        while let Some(path) = outer {
            if path.store == address && path.key == self.key {
                return true;
            }
            outer = path.outer.as_deref();
        }
        false
    }

    /// Runs an initialiser of the key.
    pub(crate) async fn run<R>(&self, initialiser: impl Future<Output = R>) -> R {
        let path = Path {
            store: self.flights.address(),
            key: Arc::clone(&self.key),
            outer: PATH.try_with(Arc::clone).ok(),
        };
        PATH.scope(Arc::new(path), initialiser).await
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut flights = self.flights.lock();
        if let Some(wanted) = flights.get_mut(&self.key) {
            wanted.by -= 1;
            if wanted.by == 0 {
                flights.remove(&self.key);
            }
        }
    }
}
