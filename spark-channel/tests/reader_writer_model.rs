//! Reader-writer modules against a model: on random schedules each message starts, ends and
//! is answered at the very millisecond the model says, so nothing overlaps, overtakes, or
//! waits for longer than it must.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use proptest::{collection::vec, prelude::*};
use reading::{Message, doing, subject};
use spark_channel::{Access, PanicPolicy, SparkChannelError, Stage, Stop};
use support::{Log, reason, within};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_test::task;

#[path = "support/reading.rs"]
mod reading;
#[path = "support/schedules.rs"]
mod schedules;
mod support;

/// Everything but a time limit takes whole units, and each limit a remainder of its own: no
/// two things that could go either way happen at once.
const UNIT: u64 = 64;

#[derive(Clone, Debug)]
struct Plan {
    readers: usize,
    drop_abandoned: bool,
    restarts: bool,
    direct_calls: bool,
    ops: Vec<Op>,
}

#[derive(Clone, Copy, Debug)]
struct Op {
    kind: Kind,
    /// After the one before, in units.
    gap: u64,
    takes: u64,
    limit: Option<u64>,
    panics: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
    Command,
}

/// What became of one message, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Fate {
    started: Option<u64>,
    ended: Option<u64>,
    /// When its caller was told, and what; nobody waits for a command.
    told: Option<(u64, Told)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Answer,
    Panic,
    TimedOut(Stage),
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    fates: Vec<Fate>,
    restarts: u64,
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_reader_writer_module_does_what_the_model_does(plan in plan()) {
        let outcome = schedules::virtual_time().block_on(run(plan.clone()));
        prop_assert_eq!(outcome, Model::run(&plan));
    }
}

// === the module ===

/// Where the handlers write down when they ran.
#[derive(Clone)]
struct Book {
    start: Instant,
    fates: Arc<Mutex<Vec<Fate>>>,
}

/// One handler that runs: notes its end, however it comes.
struct Run {
    book: Book,
    op: usize,
}

async fn run(plan: Plan) -> Outcome {
    let start = Instant::now();
    let book = Book {
        start,
        fates: Arc::new(Mutex::new(vec![Fate::default(); plan.ops.len()])),
    };
    let mut builder = subject().readers(plan.readers).capacity(64);
    if plan.drop_abandoned {
        builder = builder.drop_abandoned();
    }
    if plan.restarts {
        let log = Log::default();
        builder = builder.on_panic(PanicPolicy::restart(move || reading::Subject {
            log: log.clone(),
        }));
    }
    if !plan.direct_calls {
        builder = builder.without_direct_calls();
    }
    let module = builder.spawn();
    let dispatcher = module.dispatcher();
    let mut calls = Vec::new();
    let mut at = 0;
    for (number, op) in plan.ops.iter().enumerate() {
        at += op.gap * UNIT;
        sleep_until(start + Duration::from_millis(at)).await;
        let message = book.message(number, *op);
        if op.kind == Kind::Command {
            assert!(dispatcher.try_command(message).is_ok());
            continue;
        }
        let (dispatcher, book) = (dispatcher.clone(), book.clone());
        let limit = limit_of(number, *op);
        let call = async move {
            let request = dispatcher.request(message);
            let answer = match limit {
                Some(limit) => request.timeout(Duration::from_millis(limit)).await,
                None => request.await,
            };
            let told = match answer.map_err(|error| reason::<()>(Err(error))) {
                Ok(_) => Told::Answer,
                Err(SparkChannelError::Panicked { .. }) => Told::Panic,
                Err(SparkChannelError::TimedOut { stage }) => Told::TimedOut(stage),
                Err(other) => panic!("unexpected: {other}"),
            };
            book.note(number, |fate, now| fate.told = Some((now, told)));
        };
        let mut call = task::spawn(call);
        if call.poll().is_pending() {
            calls.push(tokio::spawn(call));
        } else {
            assert!(plan.direct_calls, "answered at its caller's");
        }
    }
    for call in calls {
        within(call).await.expect("no panic");
    }
    let stats = within(module.shutdown(Stop::Drain)).await.stats;
    let fates = book.fates.lock().expect("no panic under it").clone();
    let started = fates.iter().filter(|fate| fate.started.is_some()).count() as u64;
    assert_eq!(
        stats.handled + stats.panicked + stats.interrupted,
        started,
        "{stats:?}"
    );
    assert_eq!(stats.accounted(), plan.ops.len() as u64, "{stats:?}");
    Outcome {
        fates,
        restarts: stats.restarts,
    }
}

fn limit_of(number: usize, op: Op) -> Option<u64> {
    op.limit.map(|limit| limit * UNIT + 1 + number as u64)
}

impl Book {
    fn message(&self, op: usize, what: Op) -> Message {
        let book = self.clone();
        let access = match what.kind {
            Kind::Read => Access::Read,
            Kind::Write | Kind::Command => Access::Write,
        };
        doing(access, async move {
            book.note(op, |fate, now| fate.started = Some(now));
            let _run = Run { book, op };
            if what.takes > 0 {
                sleep(Duration::from_millis(what.takes * UNIT)).await;
            }
            assert!(!what.panics, "told to panic");
            Ok(String::new())
        })
    }

    fn note(&self, op: usize, note: impl FnOnce(&mut Fate, u64)) {
        let now = u64::try_from(self.start.elapsed().as_millis()).expect("soon");
        note(&mut self.fates.lock().expect("no panic under it")[op], now);
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.book.note(self.op, |fate, now| fate.ended = Some(now));
    }
}

// === the model ===

struct Model<'a> {
    plan: &'a Plan,
    arrivals: Vec<u64>,
    queue: VecDeque<usize>,
    /// What runs, and until when; beside a write or a command nothing does.
    running: Vec<(usize, u64)>,
    /// A read has panicked: nothing starts before the others have ended.
    restart_due: bool,
    outcome: Outcome,
}

impl<'a> Model<'a> {
    fn run(plan: &'a Plan) -> Outcome {
        let mut at = 0;
        let arrivals = plan.ops.iter().map(|op| {
            at += op.gap * UNIT;
            at
        });
        let mut this = Self {
            plan,
            arrivals: arrivals.collect(),
            queue: VecDeque::new(),
            running: Vec::new(),
            restart_due: false,
            outcome: Outcome {
                fates: vec![Fate::default(); plan.ops.len()],
                restarts: 0,
            },
        };
        let limits = (0..plan.ops.len()).filter_map(|op| this.deadline(op));
        let mut moments: BTreeSet<u64> = limits.chain(this.arrivals.iter().copied()).collect();
        while let Some(now) = moments.pop_first() {
            moments.extend(this.at(now));
        }
        this.outcome
    }

    /// What happens at one moment; tells when more will.
    fn at(&mut self, now: u64) -> Vec<u64> {
        let ended: Vec<_> = self
            .running
            .extract_if(.., |(_, end)| *end <= now)
            .collect();
        for (op, end) in ended {
            self.end(op, end);
        }
        let expired = |this: &Self, op: usize| this.deadline(op).is_some_and(|at| at <= now);
        for op in 0..self.plan.ops.len() {
            let fate = self.outcome.fates[op];
            if fate.told.is_none() && expired(self, op) {
                let stage = fate.started.map_or(Stage::Queued, |_| Stage::Running);
                self.outcome.fates[op].told =
                    self.deadline(op).map(|at| (at, Told::TimedOut(stage)));
            }
        }
        let waiting = std::mem::take(&mut self.queue);
        let arrived = (0..self.plan.ops.len()).filter(|op| self.arrivals[*op] == now);
        self.queue = waiting
            .into_iter()
            .filter(|op| !expired(self, *op))
            .chain(arrived)
            .collect();
        let mut ends = Vec::new();
        while let Some(op) = self.next() {
            let Op { takes, .. } = self.plan.ops[op];
            self.outcome.fates[op].started = Some(now);
            let end = now + takes * UNIT;
            let end = match self.deadline(op) {
                Some(deadline) if self.plan.drop_abandoned => end.min(deadline),
                _ => end,
            };
            if end == now {
                self.end(op, now);
            } else {
                self.running.push((op, end));
                ends.push(end);
            }
        }
        ends
    }

    /// The message that may start now.
    fn next(&mut self) -> Option<usize> {
        if self.running.is_empty() && std::mem::take(&mut self.restart_due) {
            self.outcome.restarts += 1;
        }
        let is_read = |op: usize| self.plan.ops[op].kind == Kind::Read;
        let alone = self.running.iter().any(|(op, _)| !is_read(*op));
        let first = *self.queue.front()?;
        let may = if is_read(first) {
            !alone && self.running.len() < self.plan.readers
        } else {
            self.running.is_empty()
        };
        if may && !self.restart_due {
            self.queue.pop_front()
        } else {
            None
        }
    }

    fn end(&mut self, op: usize, now: u64) {
        let Op { kind, panics, .. } = self.plan.ops[op];
        let dropped = self.plan.drop_abandoned && self.deadline(op) == Some(now);
        if panics && !dropped {
            match kind {
                Kind::Read => self.restart_due |= self.plan.restarts,
                Kind::Write | Kind::Command => {
                    self.outcome.restarts += u64::from(self.plan.restarts);
                }
            }
        }
        let fate = &mut self.outcome.fates[op];
        fate.ended = Some(now);
        if kind != Kind::Command && !dropped && fate.told.is_none() {
            let told = if panics { Told::Panic } else { Told::Answer };
            fate.told = Some((now, told));
        }
    }

    fn deadline(&self, op: usize) -> Option<u64> {
        let limit = limit_of(op, self.plan.ops[op])?;
        (self.plan.ops[op].kind != Kind::Command).then(|| self.arrivals[op] + limit)
    }
}

// === the plans ===

fn plan() -> impl Strategy<Value = Plan> {
    let ops = vec(op(), 0..40);
    (1..5_usize, any::<[bool; 3]>(), ops).prop_map(|(readers, flags, ops)| {
        let [drop_abandoned, restarts, direct_calls] = flags;
        Plan {
            readers,
            drop_abandoned,
            restarts,
            direct_calls,
            ops,
        }
    })
}

fn op() -> impl Strategy<Value = Op> {
    let kind = prop_oneof![
        6 => Just(Kind::Read),
        2 => Just(Kind::Write),
        1 => Just(Kind::Command),
    ];
    let limit = prop_oneof![2 => Just(None), 1 => (0..8_u64).prop_map(Some)];
    (kind, 0..3_u64, 0..6_u64, limit, prop::bool::weighted(0.1)).prop_map(
        |(kind, gap, takes, limit, panics)| Op {
            kind,
            gap,
            takes,
            limit,
            panics,
        },
    )
}
