//! The laws of classes, on random schedules: nothing accepted is lost uncounted, no
//! class exceeds its bound, and each class keeps its order.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use proptest::{collection::vec, prelude::*, test_runner::TestCaseError};
use spark_channel::{
    Class, HandleOf, NativeHandler, Overflow, Priority, SparkChannelError,
    SparkGenericModuleDispatcher, SparkGenericModuleMessage, Stats, Stop, module, pool,
};
use tokio::{task::JoinSet, time::sleep};

use crate::schedules::{two_threads, virtual_time};

#[path = "support/schedules.rs"]
mod schedules;

const CLASSES: [Class; 6] = [
    Class::DEFAULT,
    Class::new("control")
        .priority(Priority::Control)
        .capacity(1),
    Class::new("high").priority(Priority::High).capacity(2),
    Class::new("oldest")
        .priority(Priority::High)
        .capacity(2)
        .overflow(Overflow::DropOldest),
    Class::new("newest")
        .priority(Priority::Low)
        .capacity(1)
        .overflow(Overflow::DropNewest),
    Class::new("reject")
        .priority(Priority::Low)
        .capacity(2)
        .overflow(Overflow::Reject),
];

#[derive(Clone, Debug)]
struct Plan {
    /// None: a single module, which answers directly when it is idle.
    replicas: Option<usize>,
    capacity: usize,
    overflow: Overflow,
    senders: Vec<Vec<Op>>,
    end: Option<Stop>,
}

#[derive(Clone, Copy, Debug)]
struct Op {
    way: Way,
    class: usize,
    key: Option<u8>,
    /// How long it takes, and how long its sender pauses after it.
    takes: u64,
    pause: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Tell,
    TryTell,
    /// Awaited before the sender's next operation.
    Ask,
    /// Awaited elsewhere.
    AskAside,
    TryAsk,
    Bare,
}

#[derive(Clone, Copy, Debug)]
struct Message {
    sender: usize,
    number: usize,
    is_request: bool,
    op: Op,
}

/// What happened, in order.
#[derive(Clone, Copy, Debug)]
enum Event {
    Issued(Message),
    /// A command, or a bare message, was taken.
    Accepted,
    Refused(Message),
    Told(Message, Told),
    Started(Message),
    Undelivered,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Answered,
    Overflowed,
    NotStarted,
}

type Ledger = Arc<Mutex<Vec<Event>>>;

type Dispatcher = SparkGenericModuleDispatcher<Message, usize>;

struct Subject(Ledger);

struct Ran {
    events: Vec<Event>,
    /// Of the report, and once every sender has ended.
    stats: Stats,
    rejected: u64,
    /// Of each class, the bound and the most that ever waited.
    classes: Vec<(usize, usize)>,
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 600,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_laws_of_classes_hold_in_virtual_time(plan in plan()) {
        check(&plan, &virtual_time().block_on(run(&plan)))?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 32,
        failure_persistence: None,
        max_shrink_iters: 64,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_laws_of_classes_hold_on_two_threads(plan in plan()) {
        check(&plan, &two_threads().block_on(run(&plan)))?;
    }
}

// === strategies ===

fn plan() -> impl Strategy<Value = Plan> {
    let overflow = prop_oneof![
        2 => Just(Overflow::Wait),
        1 => Just(Overflow::Reject),
        1 => Just(Overflow::DropNewest),
        1 => Just(Overflow::DropOldest),
    ];
    let end = prop_oneof![
        2 => Just(None),
        2 => Just(Some(Stop::Drain)),
        1 => Just(Some(Stop::AfterCurrent)),
        1 => Just(Some(Stop::Now)),
    ];
    (
        prop::option::weighted(0.6, 1..=3_usize),
        1..4_usize,
        overflow,
        vec(vec(op(), 0..24), 1..4),
        end,
    )
        .prop_map(|(replicas, capacity, overflow, senders, end)| Plan {
            replicas,
            capacity,
            overflow,
            senders,
            end,
        })
}

fn op() -> impl Strategy<Value = Op> {
    let way = prop_oneof![
        4 => Just(Way::Tell),
        4 => Just(Way::TryTell),
        1 => Just(Way::Ask),
        3 => Just(Way::AskAside),
        2 => Just(Way::TryAsk),
        1 => Just(Way::Bare),
    ];
    let key = prop::option::weighted(0.3, 0..2_u8);
    let pause = prop_oneof![3 => Just(0), 1 => 1..4_u64];
    (way, 0..CLASSES.len(), key, 0..3_u64, pause).prop_map(|(way, class, key, takes, pause)| Op {
        way,
        class: if way == Way::Bare { 0 } else { class },
        key,
        takes,
        pause,
    })
}

// === carrying it out ===

async fn run(plan: &Plan) -> Ran {
    let ledger = Ledger::default();
    let module = spawn(plan, &ledger);
    let dispatcher = module.dispatcher();
    let mut senders = JoinSet::new();
    for (sender, ops) in plan.senders.iter().cloned().enumerate() {
        senders.spawn(send(sender, ops, dispatcher.clone(), Arc::clone(&ledger)));
    }
    let watched = dispatcher.downgrade();
    drop(dispatcher);
    let classes = |dispatcher: &Dispatcher| {
        let classes = dispatcher.class_stats().into_iter();
        classes
            .map(|class| (class.capacity, class.high_water))
            .collect()
    };
    let report = async {
        match plan.end {
            None => {
                // Looked at while it can be: with the last dispatcher its module ends.
                while senders.join_next().await.is_some() {}
                let last = watched.upgrade().expect("the handle has one");
                let seen: Vec<_> = classes(&last);
                drop(last);
                (module.wait().await, seen, None)
            }
            Some(stop) => {
                sleep(Duration::from_millis(5)).await;
                let last = module.dispatcher();
                let report = module.shutdown(stop).await;
                while senders.join_next().await.is_some() {}
                let rejected = last.stats().map(|stats| stats.rejected);
                (report, classes(&last), rejected)
            }
        }
    };
    let bounded = tokio::time::timeout(Duration::from_secs(60), report);
    let (report, classes, rejected) = bounded.await.expect("it ends");
    let events = ledger.lock().expect("no panic under it").clone();
    Ran {
        events,
        stats: report.stats,
        rejected: rejected.unwrap_or(report.stats.rejected),
        classes,
    }
}

fn spawn(plan: &Plan, ledger: &Ledger) -> HandleOf<Subject> {
    let ledger = Arc::clone(ledger);
    let builder = match plan.replicas {
        None => module(Subject(ledger)),
        Some(replicas) => pool(replicas, move || Subject(Arc::clone(&ledger))),
    };
    builder
        .capacity(plan.capacity)
        .overflow(plan.overflow)
        .classify(|message: &Message| {
            let class = CLASSES[message.op.class];
            match message.op.key {
                Some(key) => class.conflate(&key),
                None => class,
            }
        })
        .spawn()
}

async fn send(sender: usize, ops: Vec<Op>, dispatcher: Dispatcher, ledger: Ledger) {
    let write = |event| ledger.lock().expect("no panic under it").push(event);
    let mut aside = JoinSet::new();
    for (number, op) in ops.into_iter().enumerate() {
        let message = Message {
            sender,
            number,
            is_request: matches!(op.way, Way::Ask | Way::AskAside | Way::TryAsk),
            op,
        };
        write(Event::Issued(message));
        let accepted = match op.way {
            Way::Tell => dispatcher.command(message).await.is_ok(),
            Way::TryTell => dispatcher.try_command(message).is_ok(),
            Way::Bare => {
                let bare = SparkGenericModuleMessage::Command(message);
                dispatcher.sender.send(bare).await.is_ok()
            }
            Way::Ask => {
                write(Event::Told(
                    message,
                    told(dispatcher.request(message).await),
                ));
                true
            }
            Way::AskAside => {
                let (dispatcher, ledger) = (dispatcher.clone(), Arc::clone(&ledger));
                aside.spawn(async move {
                    let told = told(dispatcher.request(message).await);
                    let mut ledger = ledger.lock().expect("no panic under it");
                    ledger.push(Event::Told(message, told));
                });
                true
            }
            Way::TryAsk => {
                let (dispatcher, ledger) = (dispatcher.clone(), Arc::clone(&ledger));
                // Its future borrows the dispatcher, and is awaited elsewhere.
                aside.spawn(async move {
                    let told = match dispatcher.try_request(message) {
                        Ok(request) => told(request.await),
                        Err(_) => Told::NotStarted,
                    };
                    let mut ledger = ledger.lock().expect("no panic under it");
                    ledger.push(Event::Told(message, told));
                });
                true
            }
        };
        if !message.is_request {
            write(if accepted {
                Event::Accepted
            } else {
                Event::Refused(message)
            });
        }
        if op.pause > 0 {
            sleep(Duration::from_millis(op.pause)).await;
        }
    }
    while aside.join_next().await.is_some() {}
}

fn told(answer: eyre::Result<usize>) -> Told {
    match answer.map_err(eyre::Report::downcast) {
        // A handler that was dropped has started, and that is all that is asked.
        Ok(_) | Err(Ok(SparkChannelError::Cancelled)) => Told::Answered,
        Err(Ok(SparkChannelError::Overflowed)) => Told::Overflowed,
        Err(Ok(error)) => {
            assert!(error.never_started(), "{error:?}");
            Told::NotStarted
        }
        Err(Err(report)) => panic!("not the channel's: {report}"),
    }
}

impl Subject {
    async fn handle(&mut self, message: Message) -> eyre::Result<usize> {
        self.write(Event::Started(message));
        match message.op.takes {
            0 => {}
            1 => tokio::task::yield_now().await,
            ms => sleep(Duration::from_millis(ms)).await,
        }
        Ok(message.number)
    }

    fn write(&self, event: Event) {
        self.0.lock().expect("no panic under it").push(event);
    }
}

impl NativeHandler for Subject {
    type Message = Message;
    type Response = usize;
    type Error = eyre::Report;

    async fn handle_request(&mut self, message: Message) -> eyre::Result<usize> {
        self.handle(message).await
    }

    async fn handle_command(&mut self, message: Message) -> eyre::Result<()> {
        self.handle(message).await.map(drop)
    }

    async fn undelivered(&mut self, _: Message) {
        self.write(Event::Undelivered);
    }
}

// === the laws ===

fn check(plan: &Plan, ran: &Ran) -> Result<(), TestCaseError> {
    let stats = &ran.stats;
    let count = |wanted: &dyn Fn(&Event) -> bool| {
        ran.events.iter().filter(|event| wanted(event)).count() as u64
    };
    let is_bare = |message: &Message| message.op.way == Way::Bare;

    // Whatever was sent is accounted for or was refused.
    let issued = count(&|event| matches!(event, Event::Issued(_)));
    let bare_refused = count(&|event| matches!(event, Event::Refused(message) if is_bare(message)));
    prop_assert_eq!(
        stats.accounted() + ran.rejected + bare_refused,
        issued,
        "{:?}",
        stats
    );

    // Each count is what happened.
    let started = count(&|event| matches!(event, Event::Started(_)));
    prop_assert_eq!(stats.handled + stats.interrupted, started);
    let undelivered = count(&|event| matches!(event, Event::Undelivered));
    prop_assert_eq!(stats.undelivered, undelivered);
    let commands = count(&|event| matches!(event, Event::Accepted));
    let commands_started = count(&|event| matches!(event, Event::Started(m) if !m.is_request));
    let overflowed = count(&|event| matches!(event, Event::Told(_, Told::Overflowed)));
    prop_assert_eq!(
        commands - commands_started - undelivered,
        stats.dropped - overflowed + stats.conflated
    );
    let refused = count(&|event| matches!(event, Event::Refused(m) if !is_bare(m)));
    let not_started = count(&|event| matches!(event, Event::Told(_, Told::NotStarted)));
    prop_assert_eq!(ran.rejected + stats.returned, refused + not_started);

    // Bounds.
    for (capacity, high_water) in &ran.classes {
        prop_assert!(high_water <= capacity);
    }

    let mut fates: HashMap<(usize, usize), (bool, u32)> = HashMap::new();
    let mut last: HashMap<(usize, usize), usize> = HashMap::new();
    for event in &ran.events {
        match event {
            Event::Told(message, told) => {
                fates.entry(message.id()).or_default().0 = *told == Told::Answered;
            }
            Event::Started(message) => {
                fates.entry(message.id()).or_default().1 += 1;
                // Of one sender, in order; a conflated command has another's place, and
                // tasks of their own have their own order.
                let in_order = message.op.key.is_none()
                    && matches!(
                        message.op.way,
                        Way::Tell | Way::TryTell | Way::Ask | Way::Bare
                    );
                if in_order && plan.replicas.is_none_or(|replicas| replicas == 1) {
                    let before = last.insert((message.sender, message.op.class), message.number);
                    prop_assert!(before < Some(message.number), "overtaken");
                }
            }
            _ => {}
        }
    }
    // Callers were told the truth, and nothing ran twice.
    for event in &ran.events {
        if let Event::Issued(message) = event {
            let (answered, started) = fates.get(&message.id()).copied().unwrap_or_default();
            prop_assert!(started <= 1);
            prop_assert!(!message.is_request || answered == (started == 1));
        }
    }
    Ok(())
}

impl Message {
    const fn id(&self) -> (usize, usize) {
        (self.sender, self.number)
    }
}
