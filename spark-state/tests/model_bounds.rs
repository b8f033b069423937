//! A store with bounds beside a model that counts: what is refused, evicted and expired, and what all
//! of it takes.

#[path = "support/paused.rs"]
mod paused;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::prelude::*;
use spark_state::{AtBound, Bound, Expiry, SharedState, StateError};
use tokio::time::{Instant, advance};

#[derive(Clone, Debug)]
enum Step {
    Put(u8, usize),
    PutFor(u8, usize, u64),
    Update(u8, usize),
    Read(u8),
    Remove(u8),
    Advance(u64),
    Sweep,
}

/// Which store, and how many keys there are.
#[derive(Clone, Copy, Debug)]
struct Setting {
    entries_max: usize,
    bytes_max: usize,
    at_bound: AtBound,
    keys: u8,
}

/// A store that counts, said in the plainest way.
struct Model {
    setting: Setting,
    /// Also what has expired and was not removed yet.
    held: BTreeMap<u8, Held>,
    /// How many keys were added.
    added: u64,
    evicted: u64,
    expired: u64,
    rejected: u64,
}

#[derive(Clone, Copy)]
struct Held {
    bytes: usize,
    expires_at: Option<Instant>,
    used: u64,
}

// === impl Setting ===

impl Setting {
    fn store(self) -> SharedState {
        SharedState::builder()
            .entries_max(self.entries_max)
            .bytes_max(self.bytes_max)
            .at_bound(self.at_bound)
            .build()
    }
}

// === impl Model ===

impl Model {
    fn new(setting: Setting) -> Self {
        Self {
            setting,
            held: BTreeMap::new(),
            added: 0,
            evicted: 0,
            expired: 0,
            rejected: 0,
        }
    }

    fn bytes(&self) -> usize {
        self.held.values().map(|held| held.bytes).sum()
    }

    fn live(&self) -> BTreeSet<u8> {
        let held = self.held.iter().filter(|(_, held)| !held.is_over());
        held.map(|(key, _)| *key).collect()
    }

    /// Removes a key that has expired.
    fn expire(&mut self, key: u8) {
        if self.held.get(&key).is_some_and(Held::is_over) {
            self.held.remove(&key);
            self.expired += 1;
        }
    }

    fn sweep(&mut self) {
        for key in 0..self.setting.keys {
            self.expire(key);
        }
    }

    /// What would be missing if `key` took `bytes`.
    fn missing(&self, key: u8, bytes: usize) -> Option<Bound> {
        let current = self.held.get(&key);
        let entries = self.held.len() + usize::from(current.is_none());
        if entries > self.setting.entries_max {
            return Some(Bound::Entries);
        }
        let taken = self.bytes() - current.map_or(0, |held| held.bytes) + bytes;
        (taken > self.setting.bytes_max).then_some(Bound::Bytes)
    }

    /// Whether there is room for a `key` of `bytes`, once what has expired is gone, and others are
    /// evicted: `left` are those that the store still has.
    fn make_room(&mut self, key: u8, bytes: usize, left: &BTreeSet<u8>) -> Result<(), StateError> {
        if self.missing(key, bytes).is_none() {
            return Ok(());
        }
        self.sweep();
        let Some(bound) = self.missing(key, bytes) else {
            return Ok(());
        };
        if self.setting.at_bound == AtBound::Reject {
            return Err(self.refuse(StateError::Full { bound }));
        }
        self.evict_but(left, key, bytes);
        Ok(())
    }

    /// Evicts who is not `left`, and checks that it was their turn, and none too many.
    fn evict_but(&mut self, left: &BTreeSet<u8>, key: u8, bytes: usize) {
        let gone = |other: &u8| *other != key && !left.contains(other);
        let evicted: Vec<_> = self.held.keys().copied().filter(gone).collect();
        assert!(!evicted.is_empty(), "somebody had to go");
        let latest = evicted.iter().map(|other| self.held[other].used).max();
        // Above that, it is the oldest of some.
        if self.held.len() <= 16 {
            let others = self.held.iter().filter(|(other, _)| **other != key);
            let stayed = others.filter(|(other, _)| !evicted.contains(other));
            let oldest = stayed.map(|(_, held)| held.used).min();
            assert!(oldest.is_none() || latest <= oldest, "who was used stays");
        }
        let one_too_many = evicted.iter().all(|spared| {
            let mut others = self.held.clone();
            others.retain(|other, _| other == spared || !evicted.contains(other));
            Self {
                held: others,
                ..*self
            }
            .missing(key, bytes)
            .is_none()
        });
        assert!(!one_too_many, "{evicted:?} for {key}");
        for other in evicted {
            self.held.remove(&other);
            self.evicted += 1;
        }
        assert_eq!(self.missing(key, bytes), None);
    }

    fn refuse(&mut self, error: StateError) -> StateError {
        self.rejected += 1;
        error
    }

    /// # Errors
    ///
    /// If it could never be there.
    fn fit(&mut self, bytes: usize) -> Result<(), StateError> {
        let bytes_max = self.setting.bytes_max;
        if bytes > bytes_max {
            return Err(self.refuse(StateError::TooLarge { bytes, bytes_max }));
        }
        Ok(())
    }

    fn put(
        &mut self,
        key: u8,
        bytes: usize,
        expires_at: Option<Instant>,
        left: &BTreeSet<u8>,
    ) -> Result<(), StateError> {
        self.fit(bytes)?;
        self.make_room(key, bytes, left)?;
        if let Some(held) = self.held.get(&key) {
            // Replaced where it is.
            self.expired += u64::from(held.is_over());
        } else {
            self.added += 1;
        }
        let used = self.added;
        let held = Held {
            bytes,
            expires_at,
            used,
        };
        self.held.insert(key, held);
        Ok(())
    }

    fn update(&mut self, key: u8, bytes: usize, left: &BTreeSet<u8>) -> Result<(), StateError> {
        self.sweep();
        if !self.held.contains_key(&key) {
            let key = name(key).into();
            return Err(StateError::Missing { key });
        }
        self.fit(bytes)?;
        self.make_room(key, bytes, left)?;
        let used = self.added;
        self.held.entry(key).and_modify(|held| {
            held.bytes = bytes;
            held.used = used;
        });
        Ok(())
    }

    fn read(&mut self, key: u8) -> bool {
        self.expire(key);
        let used = self.added;
        let held = self.held.get_mut(&key);
        held.map(|held| held.used = used).is_some()
    }
}

// === impl Held ===

impl Held {
    fn is_over(&self) -> bool {
        self.expires_at.is_some_and(|at| at <= Instant::now())
    }
}

fn name(key: u8) -> String {
    format!("key {key:02}")
}

/// What a text of this length takes, by the documentation of `bytes_max`.
fn bytes_of(key: u8, text: usize) -> usize {
    160 + name(key).len() + text
}

async fn check(setting: Setting, steps: Vec<Step>) {
    let state = setting.store();
    let mut model = Model::new(setting);
    for step in steps {
        apply(&state, &mut model, &step).await;

        let stats = state.stats();
        assert!(stats.entries <= setting.entries_max, "after {step:?}");
        assert!(stats.bytes <= Some(setting.bytes_max), "after {step:?}");
        let counted = (stats.entries, stats.bytes);
        assert_eq!(counted, (model.held.len(), Some(model.bytes())), "{step:?}");
        let lost = (stats.evicted, stats.expired, stats.rejected);
        assert_eq!(
            lost,
            (model.evicted, model.expired, model.rejected),
            "{step:?}"
        );
        assert_eq!(left(&state), model.live(), "after {step:?}");
        assert_eq!(state.len(), model.live().len(), "after {step:?}");
    }
}

/// The keys of the values that are there. Looking is not using them.
fn left(state: &SharedState) -> BTreeSet<u8> {
    let number = |key: String| key["key ".len()..].parse().expect("a number");
    state.keys().into_iter().map(number).collect()
}

async fn apply(state: &SharedState, model: &mut Model, step: &Step) {
    match *step {
        Step::Put(key, text) => {
            let put = state.insert(name(key), "x".repeat(text)).map(drop);
            let expected = model.put(key, bytes_of(key, text), None, &left(state));
            assert_eq!(put, expected, "{step:?}");
        }
        Step::PutFor(key, text, seconds) => {
            let ttl = Duration::from_secs(seconds);
            let put = state.insert_with(name(key), "x".repeat(text), Expiry::ttl(ttl));
            let at = Some(Instant::now() + ttl);
            let expected = model.put(key, bytes_of(key, text), at, &left(state));
            assert_eq!(put.map(drop), expected, "{step:?}");
        }
        Step::Update(key, text) => {
            let updated = state.update(name(key), |held: &mut String| *held = "x".repeat(text));
            let expected = model.update(key, bytes_of(key, text), &left(state));
            assert_eq!(updated, expected, "{step:?}");
        }
        Step::Read(key) => {
            let found = state.find::<String>(name(key)).expect("it is text");
            assert_eq!(found.is_some(), model.read(key), "{step:?}");
        }
        Step::Remove(key) => {
            let removed = state.remove(name(key));
            model.expire(key);
            assert_eq!(removed, Ok(model.held.remove(&key).is_some()), "{step:?}");
        }
        Step::Advance(seconds) => advance(Duration::from_secs(seconds)).await,
        Step::Sweep => {
            let expired = model.expired;
            model.sweep();
            let swept = u64::try_from(state.sweep()).expect("it is a count");
            assert_eq!(swept, model.expired - expired, "{step:?}");
        }
    }
}

fn settings() -> impl Strategy<Value = Setting> {
    let at_bound = prop_oneof![Just(AtBound::Reject), Just(AtBound::EvictLeastRecentlyUsed)];
    // Few enough to know who is the least recently used, and too many for that.
    let sizes = prop_oneof![
        3 => (1..8_usize, 300..1_600_usize, Just(10_u8)),
        1 => (20..30_usize, 3_000..6_000_usize, Just(40_u8)),
    ];
    (sizes, at_bound).prop_map(|((entries_max, bytes_max, keys), at_bound)| Setting {
        entries_max,
        bytes_max,
        at_bound,
        keys,
    })
}

fn steps(keys: u8) -> impl Strategy<Value = Vec<Step>> {
    let key = 0..keys;
    let text = prop_oneof![4 => 0..100_usize, 1 => 100..1_700_usize];
    let seconds = 0..10_u64;
    let step = prop_oneof![
        4 => (key.clone(), text.clone()).prop_map(|(k, t)| Step::Put(k, t)),
        2 => (key.clone(), text.clone(), seconds.clone()).prop_map(|(k, t, s)| Step::PutFor(k, t, s)),
        3 => (key.clone(), text).prop_map(|(k, t)| Step::Update(k, t)),
        3 => key.clone().prop_map(Step::Read),
        1 => key.prop_map(Step::Remove),
        1 => seconds.prop_map(Step::Advance),
        1 => Just(Step::Sweep),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    #[test]
    fn bounds_hold_and_what_they_cost_is_counted(
        (setting, steps) in settings().prop_flat_map(|setting| (Just(setting), steps(setting.keys)))
    ) {
        paused::run(check(setting, steps));
    }
}
