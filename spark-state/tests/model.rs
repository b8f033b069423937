//! The store beside a plain map: whatever is done to both, both say the same.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use spark_state::{Expiry, SharedState, StateError, Version};
use tokio::time::{Instant, advance};

#[derive(Clone, Debug)]
enum Step {
    Insert(u8, i64),
    InsertFor(u8, i64, u64),
    InsertIdle(u8, i64, u64),
    Update(u8, i64),
    Increment(u8, i64),
    Swap(u8, i64, bool),
    GetOrInsert(u8, i64),
    Remove(u8),
    Take(u8),
    Read(u8),
    Advance(u64),
    Sweep,
    Clear,
}

/// What a store is, said in the plainest way.
#[derive(Default)]
struct Model {
    entries: BTreeMap<u8, Held>,
}

#[derive(Clone, Copy)]
struct Held {
    value: i64,
    expires_at: Option<Instant>,
    idle: Option<(Duration, Instant)>,
}

impl Model {
    fn expire(&mut self) {
        let now = Instant::now();
        self.entries.retain(|_, held| {
            held.expires_at.is_none_or(|at| at > now)
                && held.idle.is_none_or(|(idle, used)| used + idle > now)
        });
    }

    fn get(&mut self, key: u8) -> Option<&mut Held> {
        let held = self.entries.get_mut(&key)?;
        if let Some((_, used)) = &mut held.idle {
            *used = Instant::now();
        }
        Some(held)
    }

    fn insert(&mut self, key: u8, value: i64, ttl: Option<u64>, idle: Option<u64>) {
        let now = Instant::now();
        let held = Held {
            value,
            expires_at: ttl.map(|ttl| now + Duration::from_secs(ttl)),
            idle: idle.map(|idle| (Duration::from_secs(idle), now)),
        };
        self.entries.insert(key, held);
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0..6_u8;
    let value = prop_oneof![9 => -100..100_i64, 1 => Just(i64::MAX)];
    let seconds = 0..20_u64;
    let step = prop_oneof![
        (key.clone(), value.clone()).prop_map(|(k, v)| Step::Insert(k, v)),
        (key.clone(), value.clone(), seconds.clone())
            .prop_map(|(k, v, s)| Step::InsertFor(k, v, s)),
        (key.clone(), value.clone(), seconds.clone())
            .prop_map(|(k, v, s)| Step::InsertIdle(k, v, s)),
        (key.clone(), value.clone()).prop_map(|(k, v)| Step::Update(k, v)),
        (key.clone(), value.clone()).prop_map(|(k, v)| Step::Increment(k, v)),
        (key.clone(), value.clone(), any::<bool>()).prop_map(|(k, v, b)| Step::Swap(k, v, b)),
        (key.clone(), value).prop_map(|(k, v)| Step::GetOrInsert(k, v)),
        key.clone().prop_map(Step::Remove),
        key.clone().prop_map(Step::Take),
        key.prop_map(Step::Read),
        seconds.prop_map(Step::Advance),
        Just(Step::Sweep),
        Just(Step::Clear),
    ];
    prop::collection::vec(step, 1..80)
}

async fn check(steps: Vec<Step>) {
    let state = SharedState::new();
    let mut model = Model::default();
    let mut versions: BTreeMap<u8, Version> = BTreeMap::new();
    for step in steps {
        model.expire();
        apply(&state, &mut model, &step).await;
        model.expire();

        let mut keys = state.keys();
        keys.sort();
        let expected: Vec<String> = model.entries.keys().map(u8::to_string).collect();
        assert_eq!(keys, expected, "after {step:?}");
        assert_eq!(state.len(), expected.len());
        for key in 0..6 {
            let found = state.find::<i64>(key.to_string());
            let expected = model.get(key).map(|held| held.value);
            assert_eq!(found, Ok(expected), "key {key} after {step:?}");
            if let Ok(now) = state.get_versioned::<i64>(key.to_string()) {
                let last = versions.insert(key, now.version);
                assert!(last <= Some(now.version), "versions go up");
            }
        }
    }
}

async fn apply(state: &SharedState, model: &mut Model, step: &Step) {
    match *step {
        Step::Insert(key, value) => {
            state.insert(key.to_string(), value).expect("there is room");
            model.insert(key, value, None, None);
        }
        Step::InsertFor(key, value, ttl) => {
            let expiry = Expiry::ttl(Duration::from_secs(ttl));
            state
                .insert_with(key.to_string(), value, expiry)
                .expect("there is room");
            model.insert(key, value, Some(ttl), None);
        }
        Step::InsertIdle(key, value, idle) => {
            let expiry = Expiry::idle(Duration::from_secs(idle));
            state
                .insert_with(key.to_string(), value, expiry)
                .expect("there is room");
            model.insert(key, value, None, Some(idle));
        }
        Step::Update(key, value) => {
            let former = state.update(key.to_string(), |held: &mut i64| {
                std::mem::replace(held, value)
            });
            let expected = model
                .get(key)
                .map(|held| std::mem::replace(&mut held.value, value));
            assert_eq!(former.ok(), expected);
        }
        Step::Increment(key, by) => {
            let sum = state.increment(key.to_string(), by);
            let Some(held) = model.get(key) else {
                assert_eq!(sum, Ok(by));
                return model.insert(key, by, None, None);
            };
            match held.value.checked_add(by) {
                None => assert_eq!(sum, Err(StateError::Overflow)),
                Some(expected) => {
                    held.value = expected;
                    assert_eq!(sum, Ok(expected));
                }
            }
        }
        Step::Swap(key, value, stale) => {
            let now = state.get_versioned::<i64>(key.to_string());
            let version = now.map_or(Version::ABSENT, |now| now.version);
            let expected = if stale {
                Version::from_u64(u64::MAX)
            } else {
                version
            };
            let swapped = state.compare_and_swap(key.to_string(), expected, value);
            assert_eq!(swapped.is_err(), stale);
            if !stale {
                model.insert(key, value, None, None);
            }
        }
        Step::GetOrInsert(key, value) => {
            let got = state.get_or_insert_with(key.to_string(), || value);
            let expected = model.get(key).map(|held| held.value);
            assert_eq!(got, Ok(expected.unwrap_or(value)));
            if expected.is_none() {
                model.insert(key, value, None, None);
            }
        }
        Step::Remove(key) => {
            let removed = state.remove(key.to_string());
            assert_eq!(removed, Ok(model.entries.remove(&key).is_some()));
        }
        Step::Take(key) => {
            let taken = state.take::<i64>(key.to_string());
            assert_eq!(taken, Ok(model.entries.remove(&key).map(|held| held.value)));
        }
        Step::Read(key) => {
            let found = state.find::<i64>(key.to_string());
            assert_eq!(found, Ok(model.get(key).map(|held| held.value)));
        }
        Step::Advance(seconds) => advance(Duration::from_secs(seconds)).await,
        Step::Sweep => _ = state.sweep(),
        Step::Clear => {
            assert_eq!(state.clear(), model.entries.len());
            model.entries.clear();
        }
    }
}

proptest! {
    #[test]
    fn a_store_is_a_map(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime can be built");
        runtime.block_on(check(steps));
    }
}
