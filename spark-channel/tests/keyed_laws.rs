//! The laws of keyed sets, on random schedules: one module per key at a time, no more
//! than may be, every message of a key once and in order, everything accounted for.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use proptest::{collection::vec, option, prelude::*, test_runner::TestCaseError};
use spark_channel::{
    KeyedHandle, KeyedPanicPolicy, KeyedReport, NativeHandler, Refused,
    SparkGenericModuleDispatcher, Stop, keyed,
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::schedules::{EXPECTED, quiet_expected_panics, two_threads, virtual_time};

#[path = "support/schedules.rs"]
mod schedules;

#[derive(Clone, Debug)]
struct Plan {
    live_max: usize,
    capacity: usize,
    idle_timeout: Option<u64>,
    policy: KeyedPanicPolicy,
    stop_takes: u64,
    /// Of the modules that are made, in order; those after the last are sound.
    faults: Vec<Fault>,
    senders: Vec<Vec<Op>>,
    end: Option<(u64, Stop, u64)>,
}

/// What is wrong with a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    CannotBeMade,
    StartFails,
    StartPanics,
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Send {
        key: u8,
        work: Work,
        request: bool,
        at_once: bool,
    },
    Pause(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Quick,
    Yields,
    Takes(u64),
    Panics,
}

#[derive(Debug)]
struct Job {
    id: usize,
    key: u8,
    work: Work,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Started(u8),
    Stopped(u8),
    Handled { key: u8, job: usize },
    Ended(usize),
    Undelivered(usize),
    Issued { job: usize, sender: usize },
    Accepted(usize),
}

type Events = Arc<Mutex<Vec<Event>>>;

struct Grain {
    key: u8,
    stop_takes: u64,
    fault: Fault,
    events: Events,
}

struct Run<'a>(&'a Events, usize);

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1_500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_laws_hold_in_virtual_time(plan in plan()) {
        check(&plan, true)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        max_shrink_iters: 64,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_laws_hold_on_two_threads(plan in plan()) {
        check(&plan, false)?;
    }
}

fn check(plan: &Plan, exact: bool) -> Result<(), TestCaseError> {
    quiet_expected_panics();
    let runtime = if exact { virtual_time() } else { two_threads() };
    let events = Events::default();
    let report = runtime.block_on(carry_out(plan, &events));
    let events = events.lock().expect("no panic under it");
    obeys_the_laws(plan, &report, &events)
}

async fn carry_out(plan: &Plan, events: &Events) -> KeyedReport {
    let builder = {
        let making = Arc::clone(events);
        let returning = Arc::clone(events);
        let (stop_takes, faults) = (plan.stop_takes, plan.faults.clone());
        let made = AtomicUsize::new(0);
        keyed(
            |job: &Job| job.key,
            move |key| {
                let number = made.fetch_add(1, Ordering::Relaxed);
                let fault = faults.get(number).copied().unwrap_or(Fault::None);
                assert!(fault != Fault::CannotBeMade, "{EXPECTED}");
                Grain {
                    key: *key,
                    stop_takes,
                    fault,
                    events: Arc::clone(&making),
                }
            },
        )
        .undelivered(move |job: Job| write(&returning, Event::Undelivered(job.id)))
        .live_max(plan.live_max)
        .capacity(plan.capacity)
        .on_panic(plan.policy)
    };
    let handle = match plan.idle_timeout {
        None => builder.spawn(),
        Some(ms) => builder.idle_timeout(Duration::from_millis(ms)).spawn(),
    };
    let mut senders = JoinSet::new();
    for (number, ops) in plan.senders.iter().enumerate() {
        let dispatcher = handle.dispatcher();
        senders.spawn(send(dispatcher, number, ops.clone(), Arc::clone(events)));
    }
    let report = end(plan, handle);
    let report = timeout(Duration::from_secs(60), report).await;
    while let Some(sender) = senders.join_next().await {
        sender.expect("a sender does not panic");
    }
    report.expect("it ends")
}

async fn end(plan: &Plan, handle: KeyedHandle<Job, usize>) -> KeyedReport {
    match plan.end {
        None => handle.wait().await,
        Some((after, stop, within)) => {
            sleep(Duration::from_millis(after)).await;
            handle
                .shutdown_within(stop, Duration::from_millis(within))
                .await
        }
    }
}

async fn send(
    dispatcher: SparkGenericModuleDispatcher<Job, usize>,
    sender: usize,
    ops: Vec<Op>,
    events: Events,
) {
    for op in ops {
        let (key, work, request, at_once) = match op {
            Op::Pause(ms) => {
                sleep(Duration::from_millis(ms)).await;
                continue;
            }
            Op::Send {
                key,
                work,
                request,
                at_once,
            } => (key, work, request, at_once),
        };
        let id = issue(&events, sender);
        let job = Job { id, key, work };
        if request {
            match dispatcher.try_request(job) {
                Ok(_abandoned) if at_once => write(&events, Event::Accepted(id)),
                Ok(request) => {
                    write(&events, Event::Accepted(id));
                    if let Ok(answer) = request.await {
                        assert_eq!(answer, id);
                    }
                }
                Err(Refused { message, .. }) => assert_eq!(message.id, id),
            }
            continue;
        }
        let sent = if at_once {
            dispatcher.try_command(job)
        } else {
            dispatcher.command(job).await
        };
        match sent {
            Ok(()) => write(&events, Event::Accepted(id)),
            Err(refused) => assert_eq!(refused.message.id, id),
        }
    }
}

fn obeys_the_laws(
    plan: &Plan,
    report: &KeyedReport,
    events: &[Event],
) -> Result<(), TestCaseError> {
    let stats = report.report.stats;
    let count = |wanted: fn(&Event) -> bool| events.iter().filter(|one| wanted(one)).count() as u64;
    let accepted = count(|event| matches!(event, Event::Accepted(_)));
    prop_assert_eq!(stats.accounted(), accepted, "{:?}", report);
    let handled = count(|event| matches!(event, Event::Handled { .. }));
    let known = stats.handled + stats.panicked + stats.interrupted;
    prop_assert_eq!(handled, known);
    let undelivered = count(|event| matches!(event, Event::Undelivered(_)));
    prop_assert!(undelivered <= stats.undelivered);
    if !report.report.deadline_passed {
        prop_assert_eq!(undelivered, stats.undelivered);
    }
    prop_assert_eq!(report.population.live, 0);
    prop_assert_eq!(report.population.waiting, 0);

    let mut live: HashMap<u8, u32> = HashMap::new();
    let mut running: HashMap<usize, u8> = HashMap::new();
    let mut last: HashMap<(usize, u8), usize> = HashMap::new();
    let mut senders: HashMap<usize, usize> = HashMap::new();
    let mut fates: HashMap<usize, u32> = HashMap::new();
    for event in events {
        match *event {
            Event::Issued { job, sender } => {
                senders.insert(job, sender);
            }
            Event::Started(key) => *live.entry(key).or_default() += 1,
            Event::Stopped(key) => {
                live.insert(key, 0);
            }
            Event::Handled { key, job } => {
                prop_assert!(live[&key] > 0, "handled by a module that has stopped");
                let others = running.values().filter(|other| **other == key).count();
                prop_assert_eq!(others, 0, "two at a time for one key");
                running.insert(job, key);
                *fates.entry(job).or_default() += 1;
                // Of one sender and key, in the order issued.
                let before = last.insert((senders[&job], key), job);
                prop_assert!(before.is_none_or(|before| before < job), "overtaken");
            }
            Event::Ended(job) => {
                running.remove(&job);
            }
            Event::Undelivered(job) => *fates.entry(job).or_default() += 1,
            Event::Accepted(_) => {}
        }
        let live = live.values().filter(|starts| **starts > 0).count();
        prop_assert!(live <= plan.live_max, "{live} live");
    }
    prop_assert!(fates.values().all(|times| *times == 1), "{fates:?}");
    let drained = match plan.end {
        None => true,
        Some((_, stop, _)) => stop == Stop::Drain && !report.report.deadline_passed,
    };
    let sound = plan.faults.iter().all(|fault| *fault == Fault::None);
    if drained && sound && plan.policy != KeyedPanicPolicy::Stop {
        prop_assert_eq!(
            (stats.returned, stats.undelivered, stats.interrupted),
            (0, 0, 0)
        );
    }
    Ok(())
}

// === impl Grain ===

impl Grain {
    async fn handle(&mut self, job: Job) -> eyre::Result<usize> {
        write(
            &self.events,
            Event::Handled {
                key: self.key,
                job: job.id,
            },
        );
        let _run = Run(&self.events, job.id);
        match job.work {
            Work::Quick => {}
            Work::Yields => tokio::task::yield_now().await,
            Work::Takes(ms) => sleep(Duration::from_millis(ms)).await,
            Work::Panics => panic!("{EXPECTED}"),
        }
        Ok(job.id)
    }
}

impl NativeHandler for Grain {
    type Message = Job;
    type Response = usize;
    type Error = eyre::Report;

    async fn handle_request(&mut self, job: Job) -> eyre::Result<usize> {
        self.handle(job).await
    }

    async fn handle_command(&mut self, job: Job) -> eyre::Result<()> {
        self.handle(job).await.map(drop)
    }

    async fn started(&mut self) -> eyre::Result<()> {
        write(&self.events, Event::Started(self.key));
        assert!(self.fault != Fault::StartPanics, "{EXPECTED}");
        eyre::ensure!(self.fault != Fault::StartFails, "expected failure");
        Ok(())
    }

    async fn stopped(&mut self) {
        sleep(Duration::from_millis(self.stop_takes)).await;
        write(&self.events, Event::Stopped(self.key));
    }

    async fn undelivered(&mut self, job: Job) {
        write(&self.events, Event::Undelivered(job.id));
    }
}

// === impl Run ===

impl Drop for Run<'_> {
    fn drop(&mut self) {
        write(self.0, Event::Ended(self.1));
    }
}

fn write(events: &Events, event: Event) {
    events.lock().expect("no panic under it").push(event);
}

fn issue(events: &Events, sender: usize) -> usize {
    let mut events = events.lock().expect("no panic under it");
    let job = events.len();
    events.push(Event::Issued { job, sender });
    job
}

fn plan() -> impl Strategy<Value = Plan> {
    let stop = prop_oneof![
        2 => Just(Stop::Drain),
        1 => Just(Stop::AfterCurrent),
        1 => Just(Stop::Now)
    ];
    let policy = prop_oneof![
        Just(KeyedPanicPolicy::Continue),
        Just(KeyedPanicPolicy::Restart),
        Just(KeyedPanicPolicy::Stop)
    ];
    let fault = prop_oneof![
        6 => Just(Fault::None),
        1 => Just(Fault::CannotBeMade),
        1 => Just(Fault::StartFails),
        1 => Just(Fault::StartPanics),
    ];
    let faults = prop_oneof![Just(Vec::new()), vec(fault, 0..12)];
    (
        1..4_usize,
        1..6_usize,
        option::of(1..15_u64),
        policy,
        prop_oneof![Just(0), 1..6_u64],
        faults,
        vec(vec(op(), 0..20), 1..4),
        option::weighted(0.7, (0..60_u64, stop, 0..60_u64)),
    )
        .prop_map(
            |(live_max, capacity, idle_timeout, policy, stop_takes, faults, senders, end)| Plan {
                live_max,
                capacity,
                idle_timeout,
                policy,
                stop_takes,
                faults,
                senders,
                end,
            },
        )
}

fn op() -> impl Strategy<Value = Op> {
    let work = prop_oneof![
        6 => Just(Work::Quick),
        2 => Just(Work::Yields),
        3 => (0..8_u64).prop_map(Work::Takes),
        1 => Just(Work::Panics),
    ];
    prop_oneof![
        8 => (0..6_u8, work, any::<bool>(), any::<bool>()).prop_map(
            |(key, work, request, at_once)| Op::Send { key, work, request, at_once }
        ),
        2 => (0..20_u64).prop_map(Op::Pause),
    ]
}
