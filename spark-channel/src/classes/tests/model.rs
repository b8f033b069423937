//! The queue, on random schedules, beside a model that keeps one list of
//! everything accepted and looks through all of it for every answer.

use std::task::{Context, Poll, Waker};

use proptest::{collection::vec, option, prelude::*, test_runner::TestCaseError};

use super::super::queue::{Incoming, LineId, Next, Outside, Popped, Pushed, Queue, Ticket};
use crate::{Class, Overflow, Priority};

const CLASSES: [Class; 6] = [
    Class::DEFAULT.capacity(3),
    Class::new("control")
        .priority(Priority::Control)
        .capacity(1),
    Class::new("high").priority(Priority::High).capacity(2),
    Class::new("latest")
        .capacity(2)
        .overflow(Overflow::DropOldest),
    Class::new("reject")
        .priority(Priority::Low)
        .capacity(2)
        .overflow(Overflow::Reject),
    Class::new("drop")
        .priority(Priority::Low)
        .capacity(1)
        .overflow(Overflow::DropNewest),
];

/// Indices that are too large count from the start again.
#[derive(Clone, Copy, Debug)]
enum Op {
    /// Who finds the class full, and may, waits.
    Push {
        class: usize,
        key: Option<u64>,
    },
    /// Whoever has been promised a place uses it.
    Fill(usize),
    /// Whoever waits, or has a place, gives it up.
    Forget(usize),
    SendOutside {
        is_barrier: bool,
    },
    Pop,
    Close,
}

/// What has been accepted; named by a number that is never used again.
#[derive(Clone, Copy, Debug)]
struct Item {
    name: u32,
    /// `None`: outside.
    class: Option<usize>,
    key: Option<u64>,
    is_barrier: bool,
}

#[derive(Clone, Copy)]
struct Sender {
    name: u32,
    class: usize,
    key: Option<u64>,
    line: LineId,
    ticket: Ticket,
    has_place: bool,
}

struct Both {
    queue: Queue<u32>,
    /// Received from outside, and how many were.
    received: u64,
    sent: u64,
    // The model: in the order accepted, and in the order of asking.
    items: Vec<Item>,
    senders: Vec<Sender>,
    closed: bool,
    /// Taken over the first item of each priority.
    overtaken: [usize; 4],
    names: u32,
}

/// Operations on the first `classes`, with so many commands that have a key.
fn op(classes: usize, keyed: f64) -> impl Strategy<Value = Op> {
    let push = (0..classes, option::weighted(keyed, 0..2_u64))
        .prop_map(|(class, key)| Op::Push { class, key });
    prop_oneof![
        12 => push,
        3 => any::<prop::sample::Index>().prop_map(|index| Op::Fill(index.index(8))),
        1 => any::<prop::sample::Index>().prop_map(|index| Op::Forget(index.index(8))),
        3 => prop::bool::weighted(0.1).prop_map(|is_barrier| Op::SendOutside { is_barrier }),
        9 => Just(Op::Pop),
    ]
}

fn ops(classes: usize, keyed: f64) -> impl Strategy<Value = Vec<Op>> {
    (vec(op(classes, keyed), 0..120), any::<bool>()).prop_map(|(mut ops, closes)| {
        if closes {
            ops.insert(ops.len() * 3 / 4, Op::Close);
        }
        ops
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 700,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_queue_does_what_its_model_does(ops in ops(CLASSES.len(), 0.4)) {
        compare(ops)?;
    }

    /// Often enough, the one who has got room finds a command with his key in the meantime,
    /// and needs it no more.
    #[test]
    fn who_waits_gets_the_room_that_the_model_gives(ops in ops(1, 0.7)) {
        compare(ops)?;
    }
}

fn compare(ops: Vec<Op>) -> Result<(), TestCaseError> {
    let mut both = Both::new();
    for op in ops {
        both.perform(op)?;
        both.promise();
        both.check()?;
    }
    while !both.items.is_empty() {
        both.pop()?;
        both.promise();
    }
    prop_assert!(both.queue.pop(None).is_none());
    Ok(())
}

#[test]
fn a_flood_of_higher_ones_lets_one_in_seventeen_of_a_lower_pass() {
    let mut queue = Queue::new(Class::DEFAULT);
    let classes = [
        Class::new("high").priority(Priority::High).capacity(1_000),
        Class::DEFAULT,
        Class::new("low").priority(Priority::Low),
    ];
    for (class, count) in classes.iter().zip([1_000, 20, 20]) {
        let line = queue.line(class);
        for _ in 0..count {
            assert_eq!(
                queue.push(line, incoming(class.name(), None, 0)),
                Pushed::Queued
            );
        }
    }
    let taken: Vec<_> = (0..36).map(|_| take(&mut queue)).collect();

    assert!(taken[..16].iter().all(|name| *name == "high"));
    assert_eq!(taken[16..18], ["default", "low"]);
    assert!(taken[18..33].iter().all(|name| *name == "high"));
    assert_eq!(taken[33..36], ["high", "default", "low"]);
}

#[test]
fn control_goes_first_however_long_others_wait() {
    let mut queue = Queue::new(Class::DEFAULT);
    let control = Class::new("control")
        .priority(Priority::Control)
        .capacity(1_000);
    let (control, default) = (queue.line(&control), queue.line(&Class::DEFAULT));
    queue.push(default, incoming("default", None, 0));
    for _ in 0..1_000 {
        queue.push(control, incoming("control", None, 0));
    }

    for _ in 0..1_000 {
        assert_eq!(take(&mut queue), "control");
    }
    assert_eq!(take(&mut queue), "default");
}

#[test]
fn a_name_is_one_class_with_the_settings_it_had_first() {
    let mut queue: Queue<u32> = Queue::new(Class::DEFAULT.capacity(7));
    let first = queue.line(&Class::new("quotes").capacity(2));

    assert_eq!(queue.line(&Class::new("quotes").capacity(9)), first);
    queue.line(&Class::DEFAULT);
    let stats: Vec<_> = queue.stats().iter().map(|s| (s.name, s.capacity)).collect();
    assert_eq!(stats, [("default", 7), ("quotes", 2)]);
}

fn incoming<T>(message: T, key: Option<u64>, outside: u64) -> Incoming<T> {
    Incoming {
        message,
        key,
        outside,
        arrived: None,
    }
}

fn take<T>(queue: &mut Queue<T>) -> T {
    match queue.pop(None) {
        Some(Next::Queued(Popped { message, .. })) => message,
        _ => panic!("nothing is queued"),
    }
}

// === impl Both ===

impl Both {
    fn new() -> Self {
        Self {
            queue: Queue::new(CLASSES[0]),
            received: 0,
            sent: 0,
            items: Vec::new(),
            senders: Vec::new(),
            closed: false,
            overtaken: [0; 4],
            names: 0,
        }
    }

    fn perform(&mut self, op: Op) -> Result<(), TestCaseError> {
        match op {
            Op::Push { class, key } => self.push(class, key),
            Op::Fill(index) => self.fill(index),
            Op::Forget(index) => {
                if let Some(sender) = nth(&self.senders, index) {
                    self.queue.forget(sender.line, sender.ticket);
                    self.senders.retain(|other| other.ticket != sender.ticket);
                }
                Ok(())
            }
            Op::SendOutside { is_barrier } => {
                self.sent += 1;
                let name = self.name();
                self.items.push(Item {
                    name,
                    class: None,
                    key: None,
                    is_barrier,
                });
                Ok(())
            }
            Op::Pop => self.pop(),
            Op::Close => {
                self.closed = true;
                let wake = self.queue.close();
                let waiting = self.senders.len() - self.promised().len();
                self.senders.clear();
                prop_assert_eq!(wake.len(), waiting);
                Ok(())
            }
        }
    }

    fn push(&mut self, class: usize, key: Option<u64>) -> Result<(), TestCaseError> {
        let name = self.name();
        let line = self.queue.line(&CLASSES[class]);
        let pushed = self.queue.push(line, incoming(name, key, self.sent));
        let expected = self.model_push(name, class, key);
        prop_assert_eq!(&pushed, &expected);
        if let Pushed::Wait(_) = pushed {
            let ticket = self.queue.enqueue(line, Waker::noop());
            self.senders.push(Sender {
                name,
                class,
                key,
                line,
                ticket,
                has_place: false,
            });
        }
        Ok(())
    }

    fn model_push(&mut self, name: u32, class: usize, key: Option<u64>) -> Pushed<u32> {
        if self.closed {
            return Pushed::Closed(name);
        }
        if let Some(old) = self.model_conflate(name, class, key) {
            return Pushed::Conflated(old);
        }
        let item = Item {
            name,
            class: Some(class),
            key,
            is_barrier: false,
        };
        if self.count(class) + self.promised_in(class) < CLASSES[class].capacity {
            self.items.push(item);
            return Pushed::Queued;
        }
        match CLASSES[class].overflow {
            Overflow::Wait => Pushed::Wait(name),
            Overflow::Reject => Pushed::Full(name),
            Overflow::DropNewest => Pushed::Dropped(name),
            Overflow::DropOldest => {
                let mut items = self.items.iter();
                let oldest = items.position(|item| item.class == Some(class));
                let oldest = self.items.remove(oldest.expect("the class is full"));
                self.items.push(item);
                Pushed::Dropped(oldest.name)
            }
        }
    }

    fn model_conflate(&mut self, name: u32, class: usize, key: Option<u64>) -> Option<u32> {
        let mut items = self.items.iter_mut();
        let old =
            items.find(|item| key.is_some() && item.class == Some(class) && item.key == key)?;
        Some(std::mem::replace(&mut old.name, name))
    }

    fn fill(&mut self, index: usize) -> Result<(), TestCaseError> {
        let Some(sender) = nth(&self.promised(), index) else {
            return Ok(());
        };
        let Sender {
            name,
            class,
            key,
            line,
            ticket,
            ..
        } = sender;
        let (pushed, _) = self
            .queue
            .fill(line, ticket, incoming(name, key, self.sent));
        self.senders.retain(|other| other.ticket != ticket);
        if let Some(old) = self.model_conflate(name, class, key) {
            prop_assert_eq!(pushed, Pushed::Conflated(old));
        } else {
            self.items.push(Item {
                name,
                class: Some(class),
                key,
                is_barrier: false,
            });
            prop_assert_eq!(pushed, Pushed::Queued);
        }
        Ok(())
    }

    /// Takes a message and holds it against what may be taken.
    fn pop(&mut self) -> Result<(), TestCaseError> {
        let head = self.items.iter().position(|item| item.class.is_none());
        let outside = head.map(|at| Outside {
            index: self.received,
            is_barrier: self.items[at].is_barrier,
        });
        let barrier = head.filter(|&at| self.items[at].is_barrier);
        // The first of each priority, of what comes before the barrier.
        let eligible = &self.items[..barrier.unwrap_or(self.items.len())];
        let fronts: Vec<Option<usize>> = PRIORITIES
            .iter()
            .map(|&priority| eligible.iter().position(|item| item.priority() == priority))
            .collect();
        let waits = |priority: usize| fronts[priority].is_some();

        let taken = match self.queue.pop(outside) {
            None => {
                prop_assert!(self.items.is_empty());
                return Ok(());
            }
            Some(Next::Outside) => {
                self.received += 1;
                head.expect("there is a message outside")
            }
            Some(Next::Queued(Popped { message, .. })) => {
                let mut items = self.items.iter();
                let taken = items.position(|item| item.name == message);
                taken.expect("only what is queued is taken")
            }
        };
        if Some(taken) == barrier {
            prop_assert!((0..4).all(|priority| !waits(priority)), "too early");
            self.items.remove(taken);
            return Ok(());
        }
        let priority = self.items[taken].priority() as usize;
        prop_assert_eq!(fronts[priority], Some(taken), "out of order");
        if waits(0) {
            prop_assert_eq!(priority, 0, "control goes first");
        } else {
            let higher_waits = (0..priority).any(waits);
            prop_assert!(!higher_waits || self.overtaken[priority] >= 16);
            for other in 1..4 {
                if !waits(other) || other == priority {
                    self.overtaken[other] = 0;
                } else if other > priority {
                    self.overtaken[other] += 1;
                    prop_assert!(self.overtaken[other] <= 17, "starved");
                }
            }
        }
        self.items.remove(taken);
        Ok(())
    }

    /// Gives the places that are free to those who have waited longest.
    fn promise(&mut self) {
        for (class, Class { capacity, .. }) in CLASSES.iter().enumerate() {
            let free = capacity - self.count(class) - self.promised_in(class);
            let waiting = self.senders.iter_mut();
            waiting
                .filter(|sender| sender.class == class && !sender.has_place)
                .take(free)
                .for_each(|sender| sender.has_place = true);
        }
    }

    /// What holds after each operation.
    fn check(&mut self) -> Result<(), TestCaseError> {
        let queued = self.items.iter().filter(|item| item.class.is_some());
        prop_assert_eq!(self.queue.len(), queued.count());
        for stats in self.queue.stats() {
            let mut classes = CLASSES.iter();
            let class = classes.position(|class| class.name() == stats.name);
            let class = class.expect("a known class");
            prop_assert_eq!(stats.depth, self.count(class));
            let taken = stats.depth + self.promised_in(class);
            prop_assert!(taken <= stats.capacity && stats.high_water <= stats.capacity);
            prop_assert!(
                stats.waiting == 0 || taken == stats.capacity,
                "somebody waits though there is room"
            );
        }
        let cx = Context::from_waker(Waker::noop());
        for sender in &self.senders {
            let polled = self.queue.poll_room(sender.line, sender.ticket, &cx);
            let expected = if sender.has_place {
                Poll::Ready(Ok(()))
            } else {
                Poll::Pending
            };
            prop_assert_eq!(polled, expected);
        }
        Ok(())
    }

    fn count(&self, class: usize) -> usize {
        let items = self.items.iter();
        items.filter(|item| item.class == Some(class)).count()
    }

    fn promised(&self) -> Vec<Sender> {
        let senders = self.senders.iter().copied();
        senders.filter(|sender| sender.has_place).collect()
    }

    fn promised_in(&self, class: usize) -> usize {
        let promised = self.promised().into_iter();
        promised.filter(|sender| sender.class == class).count()
    }

    const fn name(&mut self) -> u32 {
        self.names += 1;
        self.names
    }
}

// === impl Item ===

impl Item {
    fn priority(&self) -> Priority {
        self.class
            .map_or(Priority::Normal, |class| CLASSES[class].priority)
    }
}

fn nth<T: Copy>(list: &[T], index: usize) -> Option<T> {
    (!list.is_empty()).then(|| list[index % list.len()])
}

const PRIORITIES: [Priority; 4] = [
    Priority::Control,
    Priority::High,
    Priority::Normal,
    Priority::Low,
];
