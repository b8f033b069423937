//! Who takes part, and how.
//!
//! All hash with the hasher they come with, which for the others is the standard library's; that of
//! Spark is the same function, of a whole name at once. It withstands keys that were made to
//! collide. Writes replace the value of a key that is there, in
//! the cheapest way that each has.

use std::{
    collections::HashMap,
    fmt,
    sync::{PoisonError, RwLock},
    time::Duration,
};

use dashmap::DashMap;
use spark_state::{AtBound, Expiry, SharedState, StateValue, Subscription, Watch};

/// A map that is shared.
trait Contender: Send + Sync {
    /// Reads the value of a key that is there.
    fn get(&self, key: &str) -> i64;
    /// Replaces the value of a key that is there.
    fn set(&self, key: &str, value: i64);
}

/// Makes a contender that holds the keys.
#[derive(Clone, Copy)]
pub struct Entrant {
    /// Its name in tables.
    pub name: &'static str,
    /// How it is set up.
    pub about: &'static str,
    pub(super) make: fn(&[String]) -> Box<dyn Timeable>,
}

/// A contender with its type erased around a whole slice, not around an operation.
pub(super) trait Timeable: Send + Sync {
    /// Does what `work` says: a key, and the value to write, or to read.
    fn run(&self, keys: &[String], work: &[(usize, Option<i64>)]) -> i64;
}

/// The first is the one to compare with.
pub static ALL: [Entrant; 9] = [
    Entrant {
        name: "dashmap",
        about: "`DashMap<String, i64>`: `get`; `get_mut` to write",
        make: |keys| {
            Box::new(filled(DashMap::new(), keys, |map, key| {
                _ = map.insert(key, 0);
            }))
        },
    },
    Entrant {
        name: "rwlock",
        about: "`RwLock<HashMap<String, i64>>` of the standard library",
        make: |keys| {
            let map: HashMap<String, i64> = keys.iter().map(|key| (key.clone(), 0)).collect();
            Box::new(RwLock::new(map))
        },
    },
    Entrant {
        name: "moka",
        about: "`moka::sync::Cache<String, i64>` with room for ten times the keys; `insert` to write",
        make: |keys| Box::new(moka(keys, None)),
    },
    Entrant {
        name: "moka-expiring",
        about: "the same with a time to live of an hour",
        make: |keys| Box::new(moka(keys, Some(HOUR))),
    },
    Entrant {
        name: "scc",
        about: "`scc::HashMap<String, i64>`: `read_sync`; `update_sync` to write",
        make: |keys| {
            Box::new(filled(scc::HashMap::new(), keys, |map, key| {
                drop(map.insert_sync(key, 0));
            }))
        },
    },
    Entrant {
        name: "spark",
        about: "`SharedState`: `get::<i64>`; `insert` to write",
        make: |keys| Box::new(spark(SharedState::new(), keys)),
    },
    Entrant {
        name: "spark-watched",
        about: "the same with a watcher of one of the keys, and a subscriber to 64 of the keys whose \
                buffer is full",
        make: |keys| {
            let state = spark(SharedState::new(), keys);
            let watch = state.watch(&keys[0]);
            let subscription = state.subscribe("user/1", 64);
            Box::new(Watched {
                state,
                _watch: watch,
                _subscription: subscription,
            })
        },
    },
    Entrant {
        name: "spark-expiring",
        about: "the same as spark with a time to live of an hour on every value",
        make: |keys| {
            let state = SharedState::builder().expiry(Expiry::ttl(HOUR)).build();
            Box::new(spark(state, keys))
        },
    },
    Entrant {
        name: "spark-bounded",
        about: "the same as spark with room for ten times the keys, and eviction of the least \
                recently used",
        make: |keys| {
            let state = SharedState::builder()
                .entries_max(10 * keys.len())
                .at_bound(AtBound::EvictLeastRecentlyUsed)
                .build();
            Box::new(spark(state, keys))
        },
    },
];

/// A store, and who follows it.
struct Watched {
    state: SharedState,
    _watch: Watch<StateValue>,
    _subscription: Subscription,
}

// === impl Entrant ===

impl Entrant {
    /// Returns the entrant of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|entrant| entrant.name == name)
    }
}

impl fmt::Debug for Entrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

// === impl Timeable ===

impl<C: Contender> Timeable for C {
    fn run(&self, keys: &[String], work: &[(usize, Option<i64>)]) -> i64 {
        let mut sum = 0_i64;
        for &(key, written) in work {
            match written {
                Some(value) => self.set(&keys[key], value),
                None => sum = sum.wrapping_add(self.get(&keys[key])),
            }
        }
        sum
    }
}

// === impl Contender ===

impl Contender for DashMap<String, i64> {
    #[inline]
    fn get(&self, key: &str) -> i64 {
        *Self::get(self, key).expect("it is there")
    }

    #[inline]
    fn set(&self, key: &str, value: i64) {
        *self.get_mut(key).expect("it is there") = value;
    }
}

impl Contender for RwLock<HashMap<String, i64>> {
    #[inline]
    fn get(&self, key: &str) -> i64 {
        let map = self.read().unwrap_or_else(PoisonError::into_inner);
        *map.get(key).expect("it is there")
    }

    #[inline]
    fn set(&self, key: &str, value: i64) {
        let mut map = self.write().unwrap_or_else(PoisonError::into_inner);
        *map.get_mut(key).expect("it is there") = value;
    }
}

impl Contender for moka::sync::Cache<String, i64> {
    #[inline]
    fn get(&self, key: &str) -> i64 {
        Self::get(self, key).expect("it is there")
    }

    #[inline]
    fn set(&self, key: &str, value: i64) {
        self.insert(key.to_owned(), value);
    }
}

impl Contender for scc::HashMap<String, i64> {
    #[inline]
    fn get(&self, key: &str) -> i64 {
        self.read_sync(key, |_, value| *value).expect("it is there")
    }

    #[inline]
    fn set(&self, key: &str, value: i64) {
        let updated = self.update_sync(key, |_, held| *held = value);
        updated.expect("it is there");
    }
}

impl Contender for SharedState {
    #[inline]
    fn get(&self, key: &str) -> i64 {
        Self::get(self, key).expect("it is there")
    }

    #[inline]
    fn set(&self, key: &str, value: i64) {
        self.insert(key, value).expect("there is room");
    }
}

impl Contender for Watched {
    #[inline]
    fn get(&self, key: &str) -> i64 {
        self.state.get(key).expect("it is there")
    }

    #[inline]
    fn set(&self, key: &str, value: i64) {
        self.state.insert(key, value).expect("there is room");
    }
}

fn filled<M>(map: M, keys: &[String], insert: impl Fn(&M, String)) -> M {
    for key in keys {
        insert(&map, key.clone());
    }
    map
}

fn moka(keys: &[String], ttl: Option<Duration>) -> moka::sync::Cache<String, i64> {
    let mut builder = moka::sync::Cache::builder().max_capacity(10 * keys.len() as u64);
    if let Some(ttl) = ttl {
        builder = builder.time_to_live(ttl);
    }
    filled(builder.build(), keys, |cache, key| cache.insert(key, 0))
}

fn spark(state: SharedState, keys: &[String]) -> SharedState {
    filled(state, keys, |state, key| {
        state.insert(key, 0_i64).expect("there is room");
    })
}

const HOUR: Duration = Duration::from_secs(3600);
