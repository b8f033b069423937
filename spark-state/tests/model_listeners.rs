//! Watchers and subscribers of a store that is written to, expires and evicts at the same time: what
//! they are told is what has happened.

#[path = "support/paused.rs"]
mod paused;
#[path = "support/views.rs"]
mod views;

use std::{collections::BTreeMap, task::Poll, time::Duration};

use proptest::prelude::*;
use spark_state::{
    AtBound, Change, Expiry, RecvError, SharedState, StateError, StateEvent, Subscription, Version,
    Watch,
};
use tokio::time::advance;
use tokio_test::task::{self, Spawn};

#[derive(Clone, Debug)]
enum Step {
    Insert(usize, &'static str),
    InsertFor(usize, &'static str, u64),
    Update(usize, &'static str),
    Remove(usize, &'static str),
    Read(usize, &'static str),
    Clear(usize),
    Advance(u64),
    Sweep,
    /// Asks one of the watchers.
    Look(usize),
    /// Asks each slow subscriber so many times.
    Receive(usize),
}

/// What was written, by the results of the calls.
#[derive(Default)]
struct Written {
    /// Every value is another one.
    values: i64,
    puts: usize,
    removed: usize,
}

struct Watcher {
    watch: Spawn<Watch<i64>>,
    scope: SharedState,
    key: &'static str,
    /// What it was told last.
    seen: Option<i64>,
    /// Whether it was told anything, and waits for more.
    waits: bool,
}

/// A subscriber with a small buffer, and what it got.
struct Slow {
    /// What the names of its keys begin with, and what of that it does not see.
    prefix: String,
    scope_bytes: usize,
    subscription: Subscription,
    received: Vec<Result<StateEvent, u64>>,
}

// === impl Watcher ===

impl Watcher {
    fn new(scope: &SharedState, key: &'static str) -> Self {
        Self {
            watch: task::spawn(scope.watch(key)),
            scope: scope.clone(),
            key,
            seen: None,
            waits: false,
        }
    }

    fn current(&self) -> Option<i64> {
        self.scope.find(self.key).expect("all are numbers")
    }

    /// Whoever waits has seen what is there, or is woken.
    fn check_waiting(&self) {
        if self.waits && !self.watch.is_woken() {
            assert_eq!(self.seen, self.current(), "{:?}", self.key);
        }
    }

    /// Until it waits: it has then seen what is there.
    fn look(&mut self) {
        while let Poll::Ready(told) = self.watch.poll_next() {
            let told = told.expect("the store is there").expect("a number");
            assert_eq!(told, self.current(), "it sees what is there");
            self.seen = told;
        }
        assert_eq!(self.seen, self.current());
        self.waits = true;
    }
}

// === impl Slow ===

impl Slow {
    fn new(scopes: &[SharedState; 4], view: usize, prefix: &str, buffer: usize) -> Self {
        let scope = views::PREFIXES[view];
        Self {
            prefix: [scope, prefix].concat(),
            scope_bytes: scope.len(),
            subscription: scopes[view].subscribe(prefix, buffer),
            received: Vec::new(),
        }
    }

    /// Takes an event, or is told how many it has missed. Says whether there was anything.
    fn receive(&mut self) -> bool {
        let received = match self.subscription.try_recv() {
            Ok(None) => return false,
            Ok(Some(event)) => Ok(event),
            Err(RecvError::Lagged(missed)) => Err(missed),
            Err(RecvError::Closed) => panic!("the store is there"),
        };
        self.received.push(received);
        true
    }

    /// What it got is what has happened, in order; what it did not get, it was told.
    fn check(&mut self, record: &[StateEvent]) {
        while self.receive() {}
        let happened = record
            .iter()
            .filter(|event| event.key().starts_with(&self.prefix))
            .map(|event| {
                let key = &event.key()[self.scope_bytes..];
                (key, event.change(), event.version())
            });
        let happened: Vec<_> = happened.collect();
        let mut next = 0;
        for received in &self.received {
            match received {
                Err(missed) => next += usize::try_from(*missed).expect("there were so many"),
                Ok(event) => {
                    let received = (event.key(), event.change(), event.version());
                    assert_eq!(Some(&received), happened.get(next));
                    next += 1;
                }
            }
        }
        assert_eq!(next, happened.len(), "none is missing at the end");
    }
}

/// Every key lives from its insertion to its removal, its versions go up, and the record ends with
/// what the store has.
fn check_record(state: &SharedState, written: &Written, record: &[StateEvent]) {
    let mut living: BTreeMap<&str, Version> = BTreeMap::new();
    let mut last: BTreeMap<&str, Version> = BTreeMap::new();
    let mut counts = BTreeMap::from([("put", 0), ("removed", 0), ("expired", 0), ("evicted", 0)]);
    for event in record {
        let (key, version) = (event.key(), event.version());
        let before = last.insert(key, version);
        let lived = match event.change() {
            Change::Inserted | Change::Updated => {
                assert!(before < Some(version), "versions go up");
                living.insert(key, version)
            }
            _ => {
                assert_eq!(before, Some(version), "its last version");
                living.remove(key)
            }
        };
        let (was_there, count) = match event.change() {
            Change::Inserted => (false, "put"),
            Change::Updated => (true, "put"),
            Change::Removed => (true, "removed"),
            Change::Expired => (true, "expired"),
            Change::Evicted => (true, "evicted"),
            other => panic!("{other:?}"),
        };
        assert_eq!(lived.is_some(), was_there, "{event:?}");
        *counts.entry(count).or_default() += 1;
    }
    let keys = state.keys();
    let versions = keys.iter().map(|key| {
        let now = state.get_versioned::<i64>(key).expect("it is there");
        (&**key, now.version)
    });
    assert_eq!(living, versions.collect());
    let stats = state.stats();
    assert_eq!(
        (counts["put"], counts["removed"]),
        (written.puts, written.removed)
    );
    let count = |name| u64::try_from(counts[name]).expect("it is a count");
    assert_eq!(
        (count("expired"), count("evicted")),
        (stats.expired, stats.evicted)
    );
}

async fn check(buffer: usize, steps: Vec<Step>) {
    let state = SharedState::builder()
        .entries_max(5)
        .at_bound(AtBound::EvictLeastRecentlyUsed)
        .build();
    let scopes = views::of(&state);
    let mut whole = state.subscribe("", 10_000);
    let mut slow = [(0, "a"), (1, ""), (1, "b/"), (3, "1")]
        .map(|(view, prefix)| Slow::new(&scopes, view, prefix, buffer));
    let mut watchers: Vec<_> = scopes[..3]
        .iter()
        .flat_map(|scope| ["1", "b/1"].map(|key| Watcher::new(scope, key)))
        .collect();
    let mut written = Written::default();

    for step in steps {
        match step {
            Step::Look(which) => watchers[which].look(),
            Step::Receive(times) => {
                for slow in &mut slow {
                    _ = (0..times).all(|_| slow.receive());
                }
            }
            step => apply(&scopes, &mut written, &step).await,
        }
        for watcher in &watchers {
            watcher.check_waiting();
        }
    }
    state.sweep();
    for watcher in &mut watchers {
        watcher.look();
    }
    let mut record = Vec::new();
    while let Some(event) = whole.try_recv().expect("the buffer is large") {
        record.push(event);
    }
    check_record(&state, &written, &record);
    for slow in &mut slow {
        slow.check(&record);
    }
}

async fn apply(scopes: &[SharedState; 4], written: &mut Written, step: &Step) {
    written.values += 1;
    let value = written.values;
    match *step {
        Step::Insert(view, key) => {
            scopes[view].insert(key, value).expect("others make room");
            written.puts += 1;
        }
        Step::InsertFor(view, key, seconds) => {
            let expiry = Expiry::ttl(Duration::from_secs(seconds));
            let inserted = scopes[view].insert_with(key, value, expiry);
            inserted.expect("others make room");
            written.puts += 1;
        }
        Step::Update(view, key) => match scopes[view].update(key, |held: &mut i64| *held = value) {
            Ok(()) => written.puts += 1,
            Err(error) => assert!(matches!(error, StateError::Missing { .. }), "{error}"),
        },
        Step::Remove(view, key) => {
            let removed = scopes[view].remove(key).expect("nobody is in an update");
            written.removed += usize::from(removed);
        }
        Step::Read(view, key) => {
            let found = scopes[view].find::<i64>(key).expect("all are numbers");
            assert!(found < Some(value));
        }
        Step::Clear(view) => written.removed += scopes[view].clear(),
        Step::Advance(seconds) => {
            // Timers are up to a millisecond late.
            advance(Duration::from_secs(seconds) + Duration::from_millis(2)).await;
        }
        _ => _ = scopes[0].sweep(),
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let view = 0..views::PREFIXES.len();
    let key = prop::sample::select(&views::KEYS);
    let seconds = 0..8_u64;
    let step = prop_oneof![
        4 => (view.clone(), key.clone()).prop_map(|(v, k)| Step::Insert(v, k)),
        3 => (view.clone(), key.clone(), seconds.clone()).prop_map(|(v, k, s)| Step::InsertFor(v, k, s)),
        3 => (view.clone(), key.clone()).prop_map(|(v, k)| Step::Update(v, k)),
        2 => (view.clone(), key.clone()).prop_map(|(v, k)| Step::Remove(v, k)),
        2 => (view.clone(), key).prop_map(|(v, k)| Step::Read(v, k)),
        1 => view.prop_map(Step::Clear),
        2 => seconds.prop_map(Step::Advance),
        1 => Just(Step::Sweep),
        4 => (0..6_usize).prop_map(Step::Look),
        2 => (1..5_usize).prop_map(Step::Receive),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    #[test]
    fn watchers_end_with_what_is_there_and_subscribers_miss_nothing_untold(
        buffer in 1..8_usize,
        steps in steps(),
    ) {
        paused::run(check(buffer, steps));
    }
}
