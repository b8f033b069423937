//! The two marks that writers read without a lock of their own, under every order of steps. The
//! lock of a shard is loom's.
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

/// Sweeps at the moment 10.
fn sweep(shards: &Shards, next_due: &NextDue) {
    next_due.raise();
    for shard in shards {
        let mut place = shard.lock().expect("nobody panics");
        match *place {
            Some(at) if at <= 10 => *place = None,
            Some(at) => next_due.lower(at),
            None => {}
        }
    }
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
                move || sweep(&shards, &next_due)
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
            .min();
        assert!(next_due.get() <= earliest.unwrap_or(u64::MAX));
    });
}
