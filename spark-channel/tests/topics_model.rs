//! Topics against a model: on random schedules every subscriber gets exactly what its
//! policy says, and whoever can go on has been woken.

use std::collections::VecDeque;
use std::{future::Future, pin::Pin, task::Poll};

use proptest::{collection::vec, prelude::*, test_runner::TestCaseError};
use spark_channel::{Backlog, Refused, Subscription, SubscriptionEnd, Topic};
use tokio_test::task::{self, Spawn};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    Wait,
    DropNewest,
    DropOldest,
    Disconnect,
    Conflate,
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Subscribe(Policy, usize),
    Unsubscribe(usize),
    Publish { key: u32 },
    TryPublish { key: u32 },
    GiveUp(usize),
    Receive(usize),
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Event {
    number: u32,
    key: u32,
}

/// A subscriber, and what it should see.
struct Reader {
    subscription: Spawn<Subscription<Event>>,
    policy: Policy,
    events_max: usize,
    waiting: VecDeque<Event>,
    end: Option<SubscriptionEnd>,
    polled: bool,
    offered: u64,
    received: u64,
    dropped: u64,
    conflated: u64,
}

type Publishing = Spawn<Pin<Box<dyn Future<Output = Result<usize, Refused<Event>>>>>>;

struct World {
    topic: Topic<Event>,
    readers: Vec<Reader>,
    /// Those that wait, the first one first.
    line: Vec<(Event, Publishing)>,
    closed: bool,
    next: u32,
    published: u64,
    disconnected: u64,
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_topic_does_what_the_model_does(ops in vec(op(), 0..60)) {
        let mut world = World::new();
        for op in ops {
            world.perform(op)?;
            world.check()?;
        }
    }
}

// === impl World ===

impl World {
    fn new() -> Self {
        Self {
            topic: Topic::new("modelled"),
            readers: Vec::new(),
            line: Vec::new(),
            closed: false,
            next: 0,
            published: 0,
            disconnected: 0,
        }
    }

    fn event(&mut self, key: u32) -> Event {
        self.next += 1;
        let number = self.next;
        Event { number, key }
    }

    fn perform(&mut self, op: Op) -> Result<(), TestCaseError> {
        match op {
            Op::Subscribe(policy, events_max) => {
                let subscription = self.topic.subscribe(backlog(policy, events_max));
                self.readers.push(Reader {
                    subscription: task::spawn(subscription),
                    policy,
                    events_max,
                    waiting: VecDeque::new(),
                    end: self.closed.then_some(SubscriptionEnd::Closed),
                    polled: false,
                    offered: 0,
                    received: 0,
                    dropped: 0,
                    conflated: 0,
                });
            }
            Op::Unsubscribe(which) if !self.readers.is_empty() => {
                let which = which % self.readers.len();
                drop(self.readers.remove(which));
                self.let_publishers_through()?;
            }
            Op::Publish { key } => {
                let event = self.event(key);
                let topic = self.topic.clone();
                let publishing: Pin<Box<dyn Future<Output = _>>> =
                    Box::pin(async move { topic.publish(event).await });
                let mut publishing = task::spawn(publishing);
                let may = self.line.is_empty() && self.has_room();
                match publishing.poll() {
                    Poll::Pending => {
                        prop_assert!(!self.closed && !may, "it had no reason to wait");
                        self.line.push((event, publishing));
                    }
                    Poll::Ready(Err(refused)) => {
                        prop_assert!(self.closed);
                        prop_assert_eq!(refused.message, event);
                    }
                    Poll::Ready(Ok(count)) => {
                        prop_assert!(may && !self.closed, "it had to wait");
                        let offered = self.deliver(event);
                        prop_assert_eq!(count, offered);
                    }
                }
            }
            Op::TryPublish { key } => {
                let event = self.event(key);
                let may = !self.closed && self.line.is_empty() && self.has_room();
                match self.topic.try_publish(event) {
                    Ok(count) => {
                        prop_assert!(may);
                        let offered = self.deliver(event);
                        prop_assert_eq!(count, offered);
                    }
                    Err(refused) => {
                        prop_assert!(!may);
                        prop_assert_eq!(refused.message, event);
                    }
                }
            }
            Op::GiveUp(which) if !self.line.is_empty() => {
                let which = which % self.line.len();
                drop(self.line.remove(which));
                self.let_publishers_through()?;
            }
            Op::Receive(which) if !self.readers.is_empty() => {
                let which = which % self.readers.len();
                self.readers[which].receive()?;
                self.let_publishers_through()?;
            }
            Op::Close => {
                self.topic.close();
                self.closed = true;
                for reader in &mut self.readers {
                    reader.end.get_or_insert(SubscriptionEnd::Closed);
                }
                for (event, mut publishing) in self.line.drain(..) {
                    prop_assert!(publishing.is_woken(), "not told of the end");
                    let Poll::Ready(Err(refused)) = publishing.poll() else {
                        return Err(TestCaseError::fail("published to a closed topic"));
                    };
                    prop_assert_eq!(refused.message, event);
                }
            }
            Op::Unsubscribe(_) | Op::GiveUp(_) | Op::Receive(_) => {}
        }
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.readers.iter().all(Reader::has_room)
    }

    fn deliver(&mut self, event: Event) -> usize {
        self.published += 1;
        let mut offered = 0;
        for reader in self.readers.iter_mut().filter(|one| one.end.is_none()) {
            offered += 1;
            reader.put(event);
            self.disconnected += u64::from(reader.end.is_some());
        }
        offered
    }

    /// Polls only those that have been woken, as an executor does.
    fn let_publishers_through(&mut self) -> Result<(), TestCaseError> {
        while !self.line.is_empty() && self.has_room() {
            let (event, mut publishing) = self.line.remove(0);
            prop_assert!(publishing.is_woken(), "the head of the line sleeps on");
            match publishing.poll() {
                Poll::Ready(Ok(count)) => {
                    let offered = self.deliver(event);
                    prop_assert_eq!(count, offered);
                }
                other => {
                    prop_assert!(false, "there was room: {other:?}");
                }
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let stats = self.topic.stats();
        let subscribed = self.readers.iter().filter(|one| one.end.is_none());
        prop_assert_eq!(stats.subscribers, subscribed.count());
        prop_assert_eq!(stats.published, self.published);
        prop_assert_eq!(stats.disconnected, self.disconnected);
        prop_assert_eq!(stats.waiting, self.line.len());
        for reader in &self.readers {
            reader.check()?;
        }
        Ok(())
    }
}

// === impl Reader ===

impl Reader {
    fn has_room(&self) -> bool {
        self.end.is_some() || self.policy != Policy::Wait || self.waiting.len() < self.events_max
    }

    fn put(&mut self, event: Event) {
        self.offered += 1;
        let same = self.waiting.iter().position(|one| one.key == event.key);
        if let (Policy::Conflate, Some(same)) = (self.policy, same) {
            self.waiting.remove(same);
            self.waiting.push_back(event);
            self.conflated += 1;
            return;
        }
        if self.waiting.len() < self.events_max {
            self.waiting.push_back(event);
            return;
        }
        self.dropped += 1;
        match self.policy {
            Policy::Wait => unreachable!("a publisher waits instead"),
            Policy::DropNewest => {}
            Policy::DropOldest | Policy::Conflate => {
                self.waiting.pop_front();
                self.waiting.push_back(event);
            }
            Policy::Disconnect => self.end = Some(SubscriptionEnd::TooSlow),
        }
    }

    fn receive(&mut self) -> Result<(), TestCaseError> {
        let polled = self.subscription.enter(|cx, mut one| one.poll_recv(cx));
        let expected = match (self.waiting.pop_front(), self.end) {
            (Some(event), _) => {
                self.received += 1;
                Poll::Ready(Some(event))
            }
            (None, Some(_)) => Poll::Ready(None),
            (None, None) => Poll::Pending,
        };
        prop_assert_eq!(polled, expected);
        self.polled = polled.is_pending();
        Ok(())
    }

    fn check(&self) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.subscription.end(), self.end);
        if self.polled && (!self.waiting.is_empty() || self.end.is_some()) {
            prop_assert!(self.subscription.is_woken(), "a subscriber sleeps on");
        }
        let stats = self.subscription.stats();
        prop_assert_eq!(stats.offered, self.offered);
        prop_assert_eq!(stats.received, self.received);
        prop_assert_eq!(stats.waiting, self.waiting.len());
        prop_assert_eq!(stats.dropped, self.dropped);
        prop_assert_eq!(stats.conflated, self.conflated);
        let known = stats.received + stats.waiting as u64 + stats.dropped + stats.conflated;
        prop_assert_eq!(known, stats.offered);
        Ok(())
    }
}

fn backlog(policy: Policy, events_max: usize) -> Backlog<Event> {
    match policy {
        Policy::Wait => Backlog::wait(events_max),
        Policy::DropNewest => Backlog::drop_newest(events_max),
        Policy::DropOldest => Backlog::drop_oldest(events_max),
        Policy::Disconnect => Backlog::disconnect(events_max),
        Policy::Conflate => Backlog::conflate_by(events_max, |event: &Event| event.key),
    }
}

fn op() -> impl Strategy<Value = Op> {
    let policy = prop_oneof![
        3 => Just(Policy::Wait),
        1 => Just(Policy::DropNewest),
        1 => Just(Policy::DropOldest),
        1 => Just(Policy::Disconnect),
        1 => Just(Policy::Conflate),
    ];
    prop_oneof![
        4 => (policy, 1..4_usize).prop_map(|(policy, max)| Op::Subscribe(policy, max)),
        2 => any::<usize>().prop_map(Op::Unsubscribe),
        10 => (0..4_u32).prop_map(|key| Op::Publish { key }),
        4 => (0..4_u32).prop_map(|key| Op::TryPublish { key }),
        2 => any::<usize>().prop_map(Op::GiveUp),
        12 => any::<usize>().prop_map(Op::Receive),
        1 => Just(Op::Close),
    ]
}
