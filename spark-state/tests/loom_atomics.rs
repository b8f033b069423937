//! The two marks that are read without a lock of their own, under every order of steps. The lock of
//! a shard is loom's.
#![cfg(loom)]

#[path = "../src/next_due.rs"]
mod next_due;
#[path = "../src/presence.rs"]
mod presence;

use loom::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};
use next_due::NextDue;
use presence::Presence;

#[test]
fn a_listener_sees_the_last_value_or_is_told() {
    loom::model(|| {
        let shard = Arc::new(Mutex::new(0_u64));
        let presence = Arc::new(Presence::nobody());
        let told = Arc::new(AtomicBool::new(false));

        let writer = {
            let (shard, presence, told) = (shard.clone(), presence.clone(), told.clone());
            thread::spawn(move || {
                let mut value = shard.lock().expect("nobody panics");
                *value = 1;
                if presence.anybody() {
                    told.store(true, Ordering::SeqCst);
                }
            })
        };
        presence.enter();
        let seen = *shard.lock().expect("nobody panics");
        writer.join().expect("nobody panics");
        assert!(seen == 1 || told.load(Ordering::SeqCst));
        presence.leave();
        assert!(!presence.anybody());
    });
}

/// Two shards, each with the moment its value expires at, or none.
type Shards = [Mutex<Option<u64>>; 2];

fn put(shards: &Shards, next_due: &NextDue, shard: usize, at: u64) {
    let mut place = shards[shard].lock().expect("nobody panics");
    *place = Some(at);
    next_due.lower(at);
}

fn sweep(shards: &Shards, next_due: &NextDue, now: u64) {
    let Some(_sweep) = next_due.sweep(now) else {
        return;
    };
    for shard in shards {
        let mut place = shard.lock().expect("nobody panics");
        match *place {
            Some(at) if at <= now => *place = None,
            Some(at) => next_due.lower(at),
            None => {}
        }
    }
}

fn count(shards: &Shards) -> usize {
    let held = |shard: &Mutex<Option<u64>>| shard.lock().expect("nobody panics").is_some();
    shards.iter().filter(|shard| held(shard)).count()
}

#[test]
fn the_mark_is_never_later_than_a_value_that_is_there() {
    loom::model(|| {
        let shards: Arc<Shards> = Arc::new([Mutex::new(None), Mutex::new(None)]);
        let next_due = Arc::new(NextDue::never());
        put(&shards, &next_due, 0, 5);

        let threads = [
            thread::spawn({
                let (shards, next_due) = (shards.clone(), next_due.clone());
                move || sweep(&shards, &next_due, 10)
            }),
            thread::spawn({
                let (shards, next_due) = (shards.clone(), next_due.clone());
                move || put(&shards, &next_due, 1, 20)
            }),
        ];
        put(&shards, &next_due, 0, 30);
        for thread in threads {
            thread.join().expect("nobody panics");
        }
        let earliest = shards
            .iter()
            .filter_map(|shard| *shard.lock().expect("nobody panics"))
            .min()
            .expect("two were put there to stay");
        assert_eq!(next_due.unless_due(|| earliest, || ()), None);
    });
}

/// Who counts at the moment 15, while somebody else puts a value there or sweeps, who may have looked
/// at the clock long ago.
fn counted_while(other: fn(&Shards, &NextDue)) {
    // By itself, loom does not try all that could happen before the first reading, nor, if it is
    // made to, all that could happen after it.
    for other_first in [false, true] {
        loom::model(move || {
            let shards: Arc<Shards> = Arc::new([Mutex::new(None), Mutex::new(None)]);
            let next_due = Arc::new(NextDue::never());
            put(&shards, &next_due, 0, 5);
            put(&shards, &next_due, 1, 12);

            let other = {
                let (shards, next_due) = (shards.clone(), next_due.clone());
                thread::spawn(move || other(&shards, &next_due))
            };
            if other_first {
                thread::yield_now();
            }
            let counted = next_due.unless_due(|| 15, || count(&shards));
            assert_eq!(
                counted.unwrap_or(0),
                0,
                "all that was ever there has expired"
            );
            other.join().expect("nobody panics");
        });
    }
}

#[test]
fn what_a_sweep_of_an_earlier_moment_leaves_is_not_counted() {
    counted_while(|shards, next_due| sweep(shards, next_due, 10));
}

#[test]
fn what_a_sweep_is_about_to_remove_is_not_counted() {
    counted_while(|shards, next_due| sweep(shards, next_due, 15));
}

#[test]
fn what_had_expired_before_it_was_put_there_is_not_counted() {
    counted_while(|shards, next_due| {
        sweep(shards, next_due, 15);
        put(shards, next_due, 0, 14);
    });
}
