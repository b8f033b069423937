//! Who sits where: which modules start, and which end to make room or because nobody
//! uses them.

use std::{
    any::Any,
    hash::Hash,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{Context, Poll},
};

use super::{
    super::{Mailbox, Worker, lane::LaneReceiver, panic_text, replicas::run},
    Ended, Envelope, Incarnation, Keeper, Lane, quietly,
};
use crate::{
    NativeHandler, PanicPolicy, SparkChannelCancellationTrait, control::Control,
    keyed::KeyedPanicPolicy,
};

// === impl Keeper ===

impl<K, H, C> Keeper<K, H, C>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    H: NativeHandler,
    C: SparkChannelCancellationTrait + Send + 'static,
{
    // --- starting

    /// Starts modules for the keys that wait, and ends others to make room for them.
    pub(super) fn seat_those_who_wait(&mut self, cx: &mut Context<'_>) {
        while let Some(seat) = self.free_seats.pop() {
            let Some(key) = self.waiting.pop_front() else {
                self.free_seats.push(seat);
                break;
            };
            self.passed_over = 0;
            self.start(key, seat);
        }
        if self.waiting.is_empty() {
            return;
        }
        // First: whoever becomes idle after this wakes the task.
        self.space.watch(cx.waker());
        let is_idle = |seat: &&usize| {
            let incarnation = self.seats[**seat].as_ref();
            incarnation.is_some_and(|one| one.lane.load() == 0)
        };
        let soon_free = self.ending.iter().filter(is_idle).count();
        let wanted = self.waiting.len().saturating_sub(soon_free);
        let idle: Vec<_> = self
            .recency
            .values()
            .filter(is_idle)
            .take(wanted)
            .copied()
            .collect();
        for seat in idle {
            self.passivate(seat);
        }
        // Nobody is idle: those used the longest ago end after what they have, so that
        // modules that are never idle do not keep the others out for ever. One more, if
        // those that are ending take too long: they may hang.
        let too_long = self.passed_over / PASSED_OVER_MAX;
        while self.ending.len() < self.waiting.len() + too_long {
            let Some((_, seat)) = self.recency.first_key_value() else {
                break;
            };
            self.passivate(*seat);
        }
    }

    fn start(&mut self, key: K, seat: usize) {
        let Some(lane) = self.modules.get_mut(&key).and_then(|one| one.next.take()) else {
            self.free_seats.push(seat);
            return;
        };
        self.awaited -= 1;
        self.census.set_waiting(self.awaited);
        let handler = match catch_unwind(AssertUnwindSafe(|| (self.seating.factory)(&key))) {
            Ok(handler) => handler,
            Err(panic) => {
                self.modules.remove(&key);
                self.free_seats.push(seat);
                self.factory_panicked(&lane, &*panic);
                quietly(|| drop(panic));
                return;
            }
        };
        let slot = Arc::clone(&self.control.slots[seat]);
        let control = Control::member(&self.control, slot);
        let receiver = LaneReceiver::owned(Arc::clone(&lane), self.checks.are_made());
        let worker = Worker::new(
            handler,
            self.policy(&key),
            &self.config,
            Mailbox::lane(receiver),
            Arc::clone(&control),
            0,
        )
        .timed(self.seating.name_of.clone());
        let ends = Arc::clone(&control);
        // It has no tokens: shutdown messages are the set's.
        self.incarnations.spawn(run(worker, move |_| {
            ends.end();
            Ended {
                seat,
                cut_short: ends.was_cut_short(),
            }
        }));
        if let Some(module) = self.modules.get_mut(&key) {
            module.seat = Some(seat);
        }
        self.turn += 1;
        self.recency.insert(self.turn, seat);
        let check = self.checks.plan(self.turn, seat);
        self.seats[seat] = Some(Incarnation {
            key,
            number: self.turn,
            last_used: self.turn,
            check,
            lane,
            control,
            ending: false,
        });
        self.census.started();
        if self.front_ended {
            self.end(seat);
        }
    }

    /// Gives back what waits for a module that could not be made.
    fn factory_panicked(&self, lane: &Lane<Envelope<H, C>>, panic: &(dyn Any + Send)) {
        let text = panic_text(panic);
        tracing::error!(module = &*self.control.name, text, "factory panicked");
        self.slot.counters.panics.bump();
        while let Some(entry) = lane.take_left() {
            self.give_back(entry.message);
        }
    }

    fn policy(&self, key: &K) -> PanicPolicy<H> {
        match self.seating.on_panic {
            KeyedPanicPolicy::Continue => PanicPolicy::Continue,
            KeyedPanicPolicy::Stop => PanicPolicy::Stop,
            KeyedPanicPolicy::Restart => {
                let (factory, key) = (Arc::clone(&self.seating.factory), key.clone());
                PanicPolicy::Restart(Arc::new(move || factory(&key)))
            }
        }
    }

    // --- ending

    /// Ends the modules that have been idle for too long.
    pub(super) fn passivate_idle(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(seat) = self.checks.poll_due(cx) {
            let Some(incarnation) = &mut self.seats[seat] else {
                continue;
            };
            let idle_since = incarnation.lane.idle_since();
            let idle_since = idle_since.filter(|_| incarnation.lane.load() == 0);
            let number = incarnation.number;
            incarnation.check = self.checks.put_off(number, seat, idle_since);
            if incarnation.check.is_none() {
                self.passivate(seat);
            }
        }
    }

    fn passivate(&mut self, seat: usize) {
        self.census.passivated();
        self.end(seat);
    }

    /// Lets the module in `seat` end after what it has.
    fn end(&mut self, seat: usize) {
        if let Some(incarnation) = &self.seats[seat] {
            incarnation.lane.close();
            self.ends(seat);
        }
    }

    /// Notes that the module in `seat` takes no more messages.
    pub(super) fn ends(&mut self, seat: usize) {
        if let Some(incarnation) = self.seats[seat].as_mut().filter(|one| !one.ending) {
            incarnation.ending = true;
            self.recency.remove(&incarnation.last_used);
            if let Some(check) = incarnation.check.take() {
                self.checks.forget(check);
            }
            self.ending.push(seat);
        }
    }

    /// No message can come any more: each module ends after what it has.
    pub(super) fn end_all(&mut self) {
        self.front_ended = true;
        for seat in 0..self.seats.len() {
            self.end(seat);
        }
    }

    /// The task of the module in a seat has ended.
    pub(super) fn has_ended(&mut self, ended: &Ended) {
        self.ends(ended.seat);
        self.ending.retain(|seat| *seat != ended.seat);
        self.free_seats.push(ended.seat);
        if ended.cut_short {
            self.control.cut_short();
        }
        let Some(Incarnation { key, control, .. }) = self.seats[ended.seat].take() else {
            return;
        };
        self.control.release(&control);
        self.census.ended();
        let Some(module) = self.modules.get_mut(&key) else {
            return;
        };
        module.seat = None;
        if module.next.is_some() {
            self.waiting.push_back(key);
        } else {
            self.modules.remove(&key);
        }
    }

    /// Stops the modules that run, also when their time has passed, and gives back what
    /// waits for others.
    pub(super) fn cut_off(&mut self) {
        for incarnation in self.seats.iter().flatten() {
            incarnation.control.follow(&self.control);
        }
        if std::mem::replace(&mut self.gave_back, true) {
            return;
        }
        self.waiting.clear();
        self.awaited = 0;
        self.census.set_waiting(0);
        let lanes = self.modules.values_mut();
        let lanes: Vec<_> = lanes.filter_map(|module| module.next.take()).collect();
        for lane in lanes {
            while let Some(entry) = lane.take_left() {
                self.give_back(entry.message);
            }
        }
        self.modules.retain(|_, module| module.seat.is_some());
    }
}

/// So many messages are given to modules that run while a key waits for those that are
/// ending; then one more of them has to end. Less would end modules
/// for nothing where one ends at its own pace, more would make the key wait for longer.
const PASSED_OVER_MAX: usize = 64;
