//! The queue behind a module with classes, without tasks, locks or clocks.
//!
//! Invariants, of each line (the queue of one class):
//!
//! 1. Its entries and the places promised to senders never exceed its bound.
//! 2. Nobody waits while there is room: a place that becomes free is promised to
//!    the sender that has waited longest, before anybody else can have it.
//! 3. `keys` names exactly the queued commands that have a key.
//!
//! There is also an *outside*: messages that come through the tokio channel and
//! not through a line. Each has an index, from zero up, and each entry knows how
//! many of them were sent before it, so that the two keep one order.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    task::{Context, Poll, Waker},
};

use tokio::time::Instant;

use crate::{Class, ClassStats, Overflow, Priority};

pub(super) struct Queue<T> {
    /// One per class seen, the default class first.
    lines: Vec<Line<T>>,
    /// Messages taken over the first one of each priority.
    overtaken: [usize; PRIORITIES],
    /// The next number for an entry or a ticket: later ones are greater.
    next: u64,
    len: usize,
    closed: bool,
}

/// Which line of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LineId(usize);

/// A sender's turn in waiting for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

/// A message on its way into a line.
pub(super) struct Incoming<T> {
    pub(super) message: T,
    /// Replaces a queued message with the same key.
    pub(super) key: Option<u64>,
    /// How many messages had been sent outside.
    pub(super) outside: u64,
    /// When it was accepted, if that is noted.
    pub(super) arrived: Option<Instant>,
}

/// What became of a message that came to a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pushed<T> {
    Queued,
    /// In the place of this one, which has the same key.
    Conflated(T),
    /// At the cost of this one, which may be the message itself.
    Dropped(T),
    /// Not accepted: it may wait for room.
    Wait(T),
    /// Not accepted.
    Full(T),
    /// Not accepted, nor will any other be.
    Closed(T),
}

/// The message outside that comes next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outside {
    pub(super) index: u64,
    /// Everything accepted before it is to be taken first, nothing accepted after it.
    pub(super) is_barrier: bool,
}

/// What to take.
#[derive(Debug)]
pub(super) enum Next<T> {
    Queued(Popped<T>),
    Outside,
}

/// An entry that has been taken.
#[derive(Debug)]
pub(super) struct Popped<T> {
    pub(super) message: T,
    pub(super) priority: Priority,
    pub(super) arrived: Option<Instant>,
    /// A sender that has been promised the free place.
    pub(super) wake: Option<Waker>,
}

struct Line<T> {
    class: Class,
    entries: VecDeque<Entry<T>>,
    /// The number of the entry that has this key.
    keys: HashMap<u64, u64>,
    waiting: BTreeMap<Ticket, Waker>,
    promised: BTreeSet<Ticket>,
    high_water: usize,
    dropped: u64,
    conflated: u64,
}

struct Entry<T> {
    number: u64,
    outside: u64,
    key: Option<u64>,
    arrived: Option<Instant>,
    message: T,
}

// === impl Queue ===

impl<T> Queue<T> {
    pub(super) fn new(default: Class) -> Self {
        Self {
            lines: vec![Line::new(default)],
            overtaken: [0; PRIORITIES],
            next: 0,
            len: 0,
            closed: false,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// The line of `class`, made when it is first asked for.
    pub(super) fn line(&mut self, class: &Class) -> LineId {
        let mut known = self.lines.iter();
        let found = known.position(|line| line.class.is_same_as(class));
        LineId(found.unwrap_or_else(|| {
            self.lines.push(Line::new(*class));
            self.lines.len() - 1
        }))
    }

    /// Puts a message into its line, or does what the line's policy says.
    pub(super) fn push(&mut self, id: LineId, incoming: Incoming<T>) -> Pushed<T> {
        if self.closed {
            return Pushed::Closed(incoming.message);
        }
        let line = &mut self.lines[id.0];
        let incoming = match line.conflate(incoming) {
            Ok(old) => return Pushed::Conflated(old),
            Err(incoming) => incoming,
        };
        if line.has_room() {
            self.append(id, incoming);
            return Pushed::Queued;
        }
        match line.class.overflow {
            Overflow::Wait => Pushed::Wait(incoming.message),
            Overflow::Reject => Pushed::Full(incoming.message),
            Overflow::DropNewest => {
                line.dropped += 1;
                Pushed::Dropped(incoming.message)
            }
            Overflow::DropOldest => {
                let Some(oldest) = line.pop() else {
                    unreachable!("a full line whose senders do not wait has entries");
                };
                line.dropped += 1;
                self.len -= 1;
                self.append(id, incoming);
                Pushed::Dropped(oldest.message)
            }
        }
    }

    /// A turn in waiting for room in a line that has none.
    pub(super) fn enqueue(&mut self, id: LineId, waker: &Waker) -> Ticket {
        let ticket = Ticket(self.number());
        let line = &mut self.lines[id.0];
        if line.has_room() {
            // Something was taken since it was found full.
            line.promised.insert(ticket);
        } else {
            line.waiting.insert(ticket, waker.clone());
        }
        ticket
    }

    /// Whether the holder of `ticket` has been promised a place.
    ///
    /// # Errors
    ///
    /// The queue is closed.
    pub(super) fn poll_room(
        &mut self,
        id: LineId,
        ticket: Ticket,
        cx: &Context<'_>,
    ) -> Poll<Result<(), ()>> {
        if self.closed {
            return Poll::Ready(Err(()));
        }
        let line = &mut self.lines[id.0];
        if line.promised.contains(&ticket) {
            return Poll::Ready(Ok(()));
        }
        if let Some(waker) = line.waiting.get_mut(&ticket) {
            waker.clone_from(cx.waker());
        }
        Poll::Pending
    }

    /// Puts a message into the place promised to `ticket`. If it needs none, the
    /// place goes to who waits next, who is to be woken.
    pub(super) fn fill(
        &mut self,
        id: LineId,
        ticket: Ticket,
        incoming: Incoming<T>,
    ) -> (Pushed<T>, Option<Waker>) {
        let line = &mut self.lines[id.0];
        // Closing takes promises back.
        if !line.promised.remove(&ticket) {
            return (Pushed::Closed(incoming.message), None);
        }
        match line.conflate(incoming) {
            Ok(old) => (Pushed::Conflated(old), line.promise()),
            Err(incoming) => {
                self.append(id, incoming);
                (Pushed::Queued, None)
            }
        }
    }

    /// Gives up a turn; the place it was promised, if any, goes to who waits next.
    pub(super) fn forget(&mut self, id: LineId, ticket: Ticket) -> Option<Waker> {
        let line = &mut self.lines[id.0];
        if line.promised.remove(&ticket) {
            return line.promise();
        }
        line.waiting.remove(&ticket);
        None
    }

    /// Takes what comes next of the entries and the message outside.
    pub(super) fn pop(&mut self, outside: Option<Outside>) -> Option<Next<T>> {
        let mut fronts = self.fronts(outside);
        if let Some(message) = outside
            && message.is_barrier
        {
            if fronts.iter().all(Option::is_none) {
                return Some(Next::Outside);
            }
        } else if let Some(message) = outside {
            let front = &mut fronts[Priority::Normal as usize];
            if front.is_none_or(|front| message.index < front.outside) {
                *front = Some(Front {
                    line: None,
                    number: 0,
                    outside: 0,
                });
            }
        }
        let Some(line) = self.choose(&fronts)?.line else {
            return Some(Next::Outside);
        };
        self.pop_front(line).map(Next::Queued)
    }

    /// Takes the [`Control`](Priority::Control) entry that comes next, if there is one.
    pub(super) fn pop_control(&mut self, outside: Option<Outside>) -> Option<Popped<T>> {
        let line = self.fronts(outside)[Priority::Control as usize]?.line?;
        self.pop_front(line)
    }

    /// Accepts nothing any more; returns those to wake who wait for room.
    pub(super) fn close(&mut self) -> Vec<Waker> {
        self.closed = true;
        let mut wake = Vec::new();
        for line in &mut self.lines {
            line.promised.clear();
            wake.extend(std::mem::take(&mut line.waiting).into_values());
        }
        wake
    }

    /// Everything queued, of a queue that is closed.
    pub(super) fn drain(&mut self) -> Vec<T> {
        self.len = 0;
        let lines = self.lines.iter_mut();
        lines
            .flat_map(|line| {
                line.keys.clear();
                line.entries.drain(..).map(|entry| entry.message)
            })
            .collect()
    }

    pub(super) fn stats(&self) -> Vec<ClassStats> {
        self.lines.iter().map(Line::stats).collect()
    }

    /// Of each priority, the entry that comes next.
    fn fronts(&self, outside: Option<Outside>) -> [Option<Front>; PRIORITIES] {
        let barrier = outside.filter(|outside| outside.is_barrier);
        let until = barrier.map_or(u64::MAX, |barrier| barrier.index);
        let mut fronts = [None; PRIORITIES];
        for (line, Line { class, entries, .. }) in self.lines.iter().enumerate() {
            let Some(entry) = entries.front().filter(|entry| entry.outside <= until) else {
                continue;
            };
            let front: &mut Option<Front> = &mut fronts[class.priority as usize];
            if front.is_none_or(|front| entry.number < front.number) {
                *front = Some(Front {
                    line: Some(line),
                    number: entry.number,
                    outside: entry.outside,
                });
            }
        }
        fronts
    }

    fn pop_front(&mut self, line: usize) -> Option<Popped<T>> {
        let line = &mut self.lines[line];
        let entry = line.pop()?;
        self.len -= 1;
        Some(Popped {
            message: entry.message,
            priority: line.class.priority,
            arrived: entry.arrived,
            wake: line.promise(),
        })
    }

    /// Which priority's turn it is.
    fn choose(&mut self, fronts: &[Option<Front>; PRIORITIES]) -> Option<Front> {
        if let Some(control) = fronts[Priority::Control as usize] {
            return Some(control);
        }
        let waiting = || (0..PRIORITIES).filter(|&priority| fronts[priority].is_some());
        let chosen = waiting()
            .find(|&priority| self.overtaken[priority] >= OVERTAKEN_MAX)
            .or_else(|| waiting().next())?;
        for (priority, overtaken) in self.overtaken.iter_mut().enumerate() {
            if priority == chosen || fronts[priority].is_none() {
                *overtaken = 0;
            } else if priority > chosen {
                *overtaken += 1;
            }
        }
        fronts[chosen]
    }

    fn append(&mut self, id: LineId, incoming: Incoming<T>) {
        let number = self.number();
        self.lines[id.0].append(number, incoming);
        self.len += 1;
    }

    const fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

// === impl Line ===

impl<T> Line<T> {
    fn new(class: Class) -> Self {
        Self {
            class,
            entries: VecDeque::new(),
            keys: HashMap::new(),
            waiting: BTreeMap::new(),
            promised: BTreeSet::new(),
            high_water: 0,
            dropped: 0,
            conflated: 0,
        }
    }

    fn has_room(&self) -> bool {
        self.entries.len() + self.promised.len() < self.class.capacity
    }

    /// Puts a message in the place of the one with the same key, if there is one.
    fn conflate(&mut self, incoming: Incoming<T>) -> Result<T, Incoming<T>> {
        let Some(&number) = incoming.key.and_then(|key| self.keys.get(&key)) else {
            return Err(incoming);
        };
        let Ok(index) = self
            .entries
            .binary_search_by_key(&number, |entry| entry.number)
        else {
            unreachable!("a key names a queued entry");
        };
        let entry = &mut self.entries[index];
        self.conflated += 1;
        entry.arrived = incoming.arrived;
        Ok(std::mem::replace(&mut entry.message, incoming.message))
    }

    fn append(&mut self, number: u64, incoming: Incoming<T>) {
        if let Some(key) = incoming.key {
            self.keys.insert(key, number);
        }
        self.entries.push_back(Entry {
            number,
            outside: incoming.outside,
            key: incoming.key,
            arrived: incoming.arrived,
            message: incoming.message,
        });
        self.high_water = self.high_water.max(self.entries.len());
    }

    fn pop(&mut self) -> Option<Entry<T>> {
        let entry = self.entries.pop_front()?;
        if let Some(key) = entry.key {
            self.keys.remove(&key);
        }
        Some(entry)
    }

    /// Promises the free place, if there is one, to whoever has waited longest.
    fn promise(&mut self) -> Option<Waker> {
        if !self.has_room() {
            return None;
        }
        let (ticket, waker) = self.waiting.pop_first()?;
        self.promised.insert(ticket);
        Some(waker)
    }

    fn stats(&self) -> ClassStats {
        ClassStats {
            name: self.class.name(),
            priority: self.class.priority,
            capacity: self.class.capacity,
            depth: self.entries.len(),
            high_water: self.high_water,
            waiting: self.waiting.len(),
            dropped: self.dropped,
            conflated: self.conflated,
        }
    }
}

/// What a priority has to offer; without a line, the message outside.
#[derive(Clone, Copy)]
struct Front {
    line: Option<usize>,
    number: u64,
    outside: u64,
}

const PRIORITIES: usize = Priority::Low as usize + 1;

/// So many messages of higher priorities are taken while one waits, then it is its
/// turn. Large enough for a priority to mean something, small enough that a lower
/// one keeps about six per cent of what the module can do.
const OVERTAKEN_MAX: usize = 16;
