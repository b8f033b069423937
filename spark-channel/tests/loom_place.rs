//! The place where a module's task and its direct callers pass the worker to each other,
//! under every order of their steps.
#![cfg(loom)]

#[path = "../src/run_loop/place.rs"]
mod place;

use loom::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};
use place::{Place, Word};

/// What is passed: counts who touches it, without anything atomic.
struct Thing {
    uses: usize,
    dropped: Arc<AtomicUsize>,
}

struct Shared {
    place: Place<Thing>,
    woken: AtomicUsize,
    dropped: Arc<AtomicUsize>,
}

#[test]
fn an_owner_gets_the_thing_or_is_woken_for_it() {
    loom::model(|| {
        let shared = laid_down();
        let callers: Vec<_> = (0..2).map(|_| borrower(&shared)).collect();
        let mut reclaimed = shared.place.reclaim();
        for caller in callers {
            caller.join().expect("a caller does not panic");
        }
        // Everybody has put it back: whoever was the last to do so must have said so.
        if reclaimed.is_none() {
            assert!(shared.woken.load(Ordering::SeqCst) > 0);
            reclaimed = shared.place.reclaim();
        }
        let thing = reclaimed.expect("it lies there");
        assert!(thing.uses <= 2);
        assert_eq!(shared.dropped.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn a_closed_place_keeps_nothing() {
    loom::model(|| {
        let shared = laid_down();
        let callers: Vec<_> = (0..2).map(|_| borrower(&shared)).collect();
        drop(shared.place.close());
        for caller in callers {
            caller.join().expect("a caller does not panic");
        }
        assert_eq!(shared.dropped.load(Ordering::SeqCst), 1);
        assert!(shared.place.borrow().is_none());
    });
}

#[test]
fn only_one_at_a_time_has_the_thing() {
    loom::model(|| {
        let shared = laid_down();
        let taken = thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.place.borrow().is_some()
        });
        let mine = shared.place.borrow();
        let mine = mine.or_else(|| shared.place.borrow_after());
        let theirs = taken.join().expect("a caller does not panic");
        assert_ne!(mine.is_some(), theirs);
    });
}

fn laid_down() -> Arc<Shared> {
    let dropped = Arc::new(AtomicUsize::new(0));
    let shared = Arc::new(Shared {
        place: Place::new(),
        woken: AtomicUsize::new(0),
        dropped: Arc::clone(&dropped),
    });
    shared.place.lay_down(Box::new(Thing { uses: 0, dropped }));
    shared
}

fn borrower(shared: &Arc<Shared>) -> thread::JoinHandle<()> {
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        let Some(mut thing) = shared.place.borrow() else {
            return;
        };
        thing.uses += 1;
        match shared.place.put_back(thing) {
            Word::None => {}
            Word::Wanted => {
                shared.woken.fetch_add(1, Ordering::SeqCst);
            }
            Word::Closed(thing) => drop(thing),
        }
    })
}

// === impl Thing ===

impl Drop for Thing {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Ordering::SeqCst);
    }
}
