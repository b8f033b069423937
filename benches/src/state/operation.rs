//! One operation again and again, on one thread, for instructions to be counted.

use std::hint::black_box;

use dashmap::DashMap;
use spark_state::{Expiry, SharedState};

/// Something done to one key after the other.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    /// Its name, as in `state/get`.
    pub name: &'static str,
    run: fn(&[String], u32),
}

/// What can be counted.
pub static OPERATIONS: [Operation; 9] = [
    Operation {
        name: "dashmap/get",
        run: |keys, times| {
            let map = dashmap(keys);
            each(keys, times, |key| {
                _ = black_box(map.get(key).map(|value| *value));
            });
        },
    },
    Operation {
        name: "dashmap/get-mut",
        run: |keys, times| {
            let map = dashmap(keys);
            each(keys, times, |key| {
                *map.get_mut(key).expect("it is there") += 1;
            });
        },
    },
    Operation {
        name: "dashmap/insert",
        run: |keys, times| {
            let map = dashmap(keys);
            each(keys, times, |key| _ = map.insert(key.to_owned(), 1));
        },
    },
    Operation {
        name: "state/get",
        run: |keys, times| {
            let state = state(keys);
            each(keys, times, |key| _ = black_box(state.get::<i64>(key)));
        },
    },
    Operation {
        name: "state/insert",
        run: |keys, times| insert(&state(keys), keys, times),
    },
    Operation {
        name: "state/insert-once-watched",
        run: |keys, times| {
            let state = state(keys);
            // Nobody watches any more.
            drop((state.watch::<i64>("user/0/hits"), state.subscribe("", 1)));
            insert(&state, keys, times);
        },
    },
    Operation {
        name: "state/insert-watched",
        run: |keys, times| {
            let state = state(keys);
            let _watch = state.watch::<i64>("user/0/hits");
            insert(&state, keys, times);
        },
    },
    Operation {
        name: "state/update",
        run: |keys, times| {
            let state = state(keys);
            each(keys, times, |key| {
                state
                    .update(key, |value: &mut i64| *value += 1)
                    .expect("it is there");
            });
        },
    },
    Operation {
        name: "state/get-expiring",
        run: |keys, times| {
            let hour = Expiry::ttl(std::time::Duration::from_secs(3600));
            let state = SharedState::builder().expiry(hour).build();
            each(keys, 1_000, |key| _ = state.insert(key, 0_i64));
            each(keys, times, |key| _ = black_box(state.get::<i64>(key)));
        },
    },
];

// === impl Operation ===

impl Operation {
    /// Does it that often.
    pub fn run(&self, times: u32) {
        let keys: Vec<String> = (0..1_000).map(|n| format!("user/{n}/hits")).collect();
        (self.run)(&keys, times);
    }
}

fn each(keys: &[String], times: u32, mut operate: impl FnMut(&str)) {
    for key in keys.iter().cycle().take(times as usize) {
        operate(key);
    }
}

fn insert(state: &SharedState, keys: &[String], times: u32) {
    each(keys, times, |key| {
        state.insert(key, 1_i64).expect("there is room");
    });
}

fn dashmap(keys: &[String]) -> DashMap<String, i64> {
    keys.iter().map(|key| (key.clone(), 0)).collect()
}

fn state(keys: &[String]) -> SharedState {
    let state = SharedState::new();
    insert(&state, keys, 1_000);
    state
}
