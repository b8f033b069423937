//! The store and its scopes beside a plain map: whatever is done to both, both say the same, and a
//! scope says it of its part.

#[path = "support/paused.rs"]
mod paused;
#[path = "support/views.rs"]
mod views;

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use spark_state::{Expiry, SharedState, StateError, Version};
use tokio::time::{Instant, advance};

/// What is done with a key of a view.
#[derive(Clone, Debug)]
struct Step {
    view: usize,
    key: &'static str,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Insert(i64),
    InsertFor(i64, u64),
    InsertIdle(i64, u64),
    Update(i64),
    Increment(i64),
    Swap(i64, bool),
    GetOrInsert(i64),
    Remove,
    Take,
    Read,
    Advance(u64),
    Sweep,
    Clear,
}

/// What a store is, said in the plainest way.
#[derive(Default)]
struct Model {
    entries: BTreeMap<String, Held>,
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

    fn get(&mut self, name: &str) -> Option<&mut Held> {
        let held = self.entries.get_mut(name)?;
        if let Some((_, used)) = &mut held.idle {
            *used = Instant::now();
        }
        Some(held)
    }

    fn insert(&mut self, name: &str, value: i64, ttl: Option<u64>, idle: Option<u64>) {
        let now = Instant::now();
        let held = Held {
            value,
            expires_at: ttl.map(|ttl| now + Duration::from_secs(ttl)),
            idle: idle.map(|idle| (Duration::from_secs(idle), now)),
        };
        self.entries.insert(name.to_owned(), held);
    }

    /// Removes what begins with `prefix`, and says how many those were.
    fn clear(&mut self, prefix: &str) -> usize {
        let before = self.entries.len();
        self.entries.retain(|name, _| !name.starts_with(prefix));
        before - self.entries.len()
    }

    /// The keys and values of a view.
    fn part(&self, prefix: &str) -> Vec<(&str, i64)> {
        let entries = self.entries.iter();
        entries
            .filter_map(|(name, held)| Some((name.strip_prefix(prefix)?, held.value)))
            .collect()
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let value = prop_oneof![9 => -100..100_i64, 1 => Just(i64::MAX)];
    let seconds = 0..20_u64;
    let what = prop_oneof![
        value.clone().prop_map(What::Insert),
        (value.clone(), seconds.clone()).prop_map(|(v, s)| What::InsertFor(v, s)),
        (value.clone(), seconds.clone()).prop_map(|(v, s)| What::InsertIdle(v, s)),
        value.clone().prop_map(What::Update),
        value.clone().prop_map(What::Increment),
        (value.clone(), any::<bool>()).prop_map(|(v, b)| What::Swap(v, b)),
        value.prop_map(What::GetOrInsert),
        Just(What::Remove),
        Just(What::Take),
        Just(What::Read),
        seconds.prop_map(What::Advance),
        Just(What::Sweep),
        Just(What::Clear),
    ];
    let key = prop::sample::select(&views::KEYS);
    let step = (0..views::PREFIXES.len(), key, what);
    prop::collection::vec(
        step.prop_map(|(view, key, what)| Step { view, key, what }),
        1..80,
    )
}

async fn check(steps: Vec<Step>) {
    let state = SharedState::new();
    let scopes = views::of(&state);
    let mut model = Model::default();
    let mut versions: BTreeMap<String, Version> = BTreeMap::new();
    for step in steps {
        model.expire();
        apply(&scopes[step.view], &mut model, &step).await;
        model.expire();

        for (scope, prefix) in scopes.iter().zip(views::PREFIXES) {
            check_view(scope, prefix, &mut model, &step);
        }
        for name in state.keys() {
            let now = state.get_versioned::<i64>(&name).expect("it is there");
            let last = versions.insert(name, now.version);
            assert!(last <= Some(now.version), "versions go up");
        }
    }
}

fn check_view(scope: &SharedState, prefix: &str, model: &mut Model, step: &Step) {
    let said = format!("{prefix:?} after {step:?}");
    let snapshot = scope.snapshot();
    let found: Vec<_> = snapshot
        .entries()
        .map(|(key, value)| (key, value.get::<i64>().expect("all are numbers")))
        .collect();
    let expected = model.part(prefix);
    assert_eq!(found, expected, "{said}");
    let expected: Vec<_> = expected.iter().map(|(key, _)| key.to_string()).collect();
    let mut keys = scope.keys();
    keys.sort();
    assert_eq!(keys, expected, "{said}");
    assert_eq!(scope.len(), expected.len(), "{said}");
    for key in views::KEYS {
        let expected = model.get(&[prefix, key].concat()).map(|held| held.value);
        assert_eq!(scope.contains(key), expected.is_some(), "{key} in {said}");
        assert_eq!(scope.find::<i64>(key), Ok(expected), "{key} in {said}");
    }
}

async fn apply(state: &SharedState, model: &mut Model, step: &Step) {
    let key = step.key;
    let prefix = views::PREFIXES[step.view];
    let name = &*[prefix, key].concat();
    match step.what {
        What::Insert(value) => {
            state.insert(key, value).expect("there is room");
            model.insert(name, value, None, None);
        }
        What::InsertFor(value, ttl) => {
            let expiry = Expiry::ttl(Duration::from_secs(ttl));
            let inserted = state.insert_with(key, value, expiry);
            inserted.expect("there is room");
            model.insert(name, value, Some(ttl), None);
        }
        What::InsertIdle(value, idle) => {
            let expiry = Expiry::idle(Duration::from_secs(idle));
            let inserted = state.insert_with(key, value, expiry);
            inserted.expect("there is room");
            model.insert(name, value, None, Some(idle));
        }
        What::Update(value) => {
            let former = state.update(key, |held: &mut i64| std::mem::replace(held, value));
            let expected = model
                .get(name)
                .map(|held| std::mem::replace(&mut held.value, value));
            assert_eq!(former.ok(), expected);
        }
        What::Increment(by) => {
            let sum = state.increment(key, by);
            let Some(held) = model.get(name) else {
                assert_eq!(sum, Ok(by));
                return model.insert(name, by, None, None);
            };
            match held.value.checked_add(by) {
                None => assert_eq!(sum, Err(StateError::Overflow)),
                Some(expected) => {
                    held.value = expected;
                    assert_eq!(sum, Ok(expected));
                }
            }
        }
        What::Swap(value, stale) => {
            let now = state.get_versioned::<i64>(key);
            let version = now.map_or(Version::ABSENT, |now| now.version);
            let expected = if stale {
                Version::from_u64(u64::MAX)
            } else {
                version
            };
            let swapped = state.compare_and_swap(key, expected, value);
            assert_eq!(swapped.is_err(), stale);
            if !stale {
                model.insert(name, value, None, None);
            }
        }
        What::GetOrInsert(value) => {
            let got = state.get_or_insert_with(key, || value);
            let expected = model.get(name).map(|held| held.value);
            assert_eq!(got, Ok(expected.unwrap_or(value)));
            if expected.is_none() {
                model.insert(name, value, None, None);
            }
        }
        What::Remove => {
            let removed = state.remove(key);
            assert_eq!(removed, Ok(model.entries.remove(name).is_some()));
        }
        What::Take => {
            let taken = state.take::<i64>(key);
            assert_eq!(taken, Ok(model.entries.remove(name).map(|held| held.value)));
        }
        What::Read => {
            let found = state.find::<i64>(key);
            assert_eq!(found, Ok(model.get(name).map(|held| held.value)));
        }
        What::Advance(seconds) => advance(Duration::from_secs(seconds)).await,
        What::Sweep => _ = state.sweep(),
        What::Clear => assert_eq!(state.clear(), model.clear(prefix)),
    }
}

proptest! {
    #[test]
    fn a_store_and_its_scopes_are_one_map(steps in steps()) {
        paused::run(check(steps));
    }
}
