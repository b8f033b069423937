//! The task that keeps the modules of a keyed set: it starts one when a message for its
//! key comes, hands messages over, and passivates.
//!
//! Invariants:
//!
//! 1. A key has at most one incarnation at a time, in one seat. Its lane is closed
//!    before it ends, so what comes meanwhile goes to the lane of the next one, which
//!    is started only when the task of the one before has ended.
//! 2. A key without a seat has a lane with messages and stands in `waiting` once, or
//!    its incarnation is ending.
//! 3. Only this task pushes into lanes, so a lane without a load stays without one
//!    while this task looks at it.

mod checks;
mod seats;

use std::{
    any::Any,
    collections::{BTreeMap, HashMap, VecDeque},
    future::poll_fn,
    hash::Hash,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{task::JoinSet, time::Instant};
use tracing::Span;

use self::checks::{Check, Checks};
use super::{
    Envelope,
    conclusion::Conclusion,
    front::Front,
    guarded::{Turns, quietly, take_turns},
    lane::{Entry, Lane, Mark, Space},
    router::{answer_panicked, give_back},
    timed::arrival,
};
use crate::{
    NativeHandler, SparkChannelCancellationTrait, SparkGenericModuleMessage,
    config::Config,
    control::{Control, Slot},
    current::Scope,
    keyed::{Census, KeyedPanicPolicy},
    timings::NameOf,
};

/// What a keyed set is made of.
pub(crate) struct Seating<K, H: NativeHandler> {
    pub(crate) key_of: KeyOf<H::Message, K>,
    pub(crate) factory: Arc<dyn Fn(&K) -> H + Send + Sync>,
    pub(crate) on_panic: KeyedPanicPolicy,
    pub(crate) name_of: Option<NameOf<H::Message>>,
    pub(crate) undelivered: Box<dyn Fn(H::Message) + Send>,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) live_max: usize,
}

type KeyOf<M, K> = Box<dyn Fn(&M) -> K + Send>;

pub(crate) struct Keeper<K, H: NativeHandler, C> {
    seating: Seating<K, H>,
    config: Config,
    front: Front<Envelope<H, C>>,
    /// Whether nothing can come from there any more.
    front_ended: bool,
    space: Arc<Space>,
    modules: HashMap<K, Module<Envelope<H, C>>>,
    seats: Vec<Option<Incarnation<K, Envelope<H, C>>>>,
    free_seats: Vec<usize>,
    /// Seats whose incarnation is ending.
    ending: Vec<usize>,
    /// Keys that wait for a seat.
    waiting: VecDeque<K>,
    /// Messages given to modules that run since a key last got a seat, while others wait.
    passed_over: usize,
    /// How many keys have messages for a module that does not run yet.
    awaited: usize,
    /// The seats by when they were last used, those that are ending left out.
    recency: BTreeMap<u64, usize>,
    turn: u64,
    checks: Checks,
    incarnations: JoinSet<Ended>,
    /// Whether those without a module have been given back.
    gave_back: bool,
    /// Received and not put down yet, so that a panic can be answered for.
    in_hand: Option<Envelope<H, C>>,
    control: Arc<Control>,
    slot: Arc<Slot>,
    tokens: Vec<C>,
    census: Arc<Census>,
}

/// What is known of one key.
struct Module<T> {
    seat: Option<usize>,
    /// What has come for the next incarnation.
    next: Option<Arc<Lane<T>>>,
}

/// A module that runs.
struct Incarnation<K, T> {
    key: K,
    number: u64,
    last_used: u64,
    /// When to look whether it has been idle for too long.
    check: Option<Check>,
    lane: Arc<Lane<T>>,
    control: Arc<Control>,
    ending: bool,
}

struct Ended {
    seat: usize,
    cut_short: bool,
}

/// Runs a keyed set to its end. Dropping the future aborts its modules.
pub(crate) fn run_keyed<K, H, C>(keeper: Keeper<K, H, C>) -> impl Future<Output = ()> + Send
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    H: NativeHandler,
    C: SparkChannelCancellationTrait + Send + 'static,
{
    // Made here: a future that is dropped before it is polled ends the set too.
    let conclusion = Conclusion::new(Arc::clone(&keeper.control));
    async move { conclusion.conclude(keep(keeper).await) }
}

/// Returns the tokens of the shutdown messages.
async fn keep<K, H, C>(mut keeper: Keeper<K, H, C>) -> Vec<C>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    H: NativeHandler,
    C: SparkChannelCancellationTrait + Send + 'static,
{
    let scope = Scope {
        control: Arc::clone(&keeper.control),
        slot: Arc::clone(&keeper.slot),
    };
    take_turns(&mut keeper, scope, None).await;
    keeper.slot.unregister();
    keeper.give_back_the_rest();
    let tokens = std::mem::take(&mut keeper.tokens);
    // User code once more: what it owns is dropped here.
    quietly(|| drop(keeper));
    tokens
}

// === impl Keeper ===

impl<K, H, C> Keeper<K, H, C>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    H: NativeHandler,
    C: SparkChannelCancellationTrait + Send + 'static,
{
    /// The last of the slots of `control` is the keeper's own.
    pub(crate) fn new(
        seating: Seating<K, H>,
        config: Config,
        front: Front<Envelope<H, C>>,
        control: Arc<Control>,
        census: Arc<Census>,
    ) -> Self {
        let live_max = seating.live_max;
        let checks = Checks::new(seating.idle_timeout);
        let slot = Arc::clone(&control.slots[live_max]);
        Self {
            seating,
            config,
            front,
            front_ended: false,
            space: Arc::new(Space::new(Arc::clone(&control))),
            modules: HashMap::new(),
            seats: (0..live_max).map(|_| None).collect(),
            free_seats: (0..live_max).rev().collect(),
            ending: Vec::new(),
            waiting: VecDeque::new(),
            passed_over: 0,
            awaited: 0,
            recency: BTreeMap::new(),
            turn: 0,
            checks,
            incarnations: JoinSet::new(),
            gave_back: false,
            in_hand: None,
            control,
            slot,
            tokens: Vec::new(),
            census,
        }
    }

    /// Completes when the last module has ended and none will be started any more.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.control.is_stopping() {
                self.front.close();
            }
            if self.is_cut_off() {
                self.cut_off();
            }
            while let Poll::Ready(Some(ended)) = self.incarnations.poll_join_next(cx) {
                if let Ok(ended) = ended {
                    self.has_ended(&ended);
                }
            }
            self.seat_those_who_wait(cx);
            // Last: it arms the timer for those just started as well.
            self.passivate_idle(cx);
            if self.front_ended {
                if self.incarnations.is_empty() && self.waiting.is_empty() {
                    return Poll::Ready(());
                }
                return Poll::Pending;
            }
            if !self.control.is_past_draining() && self.poll_room(cx).is_pending() {
                return Poll::Pending;
            }
            match self.front.poll_recv(cx) {
                // What comes later comes too late, and is given back with the rest.
                Poll::Pending if self.control.deadline_passed() => self.end_all(),
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => self.end_all(),
                Poll::Ready(Some(message)) => self.receive(message),
            }
        }
    }

    /// Whether nothing more is to be started. From then on, no message is handed over.
    fn is_cut_off(&self) -> bool {
        // Whoever stops the set marks it as cut off before anything else.
        self.control.is_past_draining() && self.control.is_cut_off() || self.control.must_stop_now()
    }

    /// Beside what the modules handle, as much may wait for them as in the mailbox.
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let live = self.seats.len() - self.free_seats.len();
        let load_max = self.front.capacity() + live;
        self.space.poll_room(cx, || self.space.load() < load_max)
    }

    fn receive(&mut self, message: Envelope<H, C>) {
        let depth = 1 + self.front.len() + self.control.waiting_at_replicas();
        self.slot.counters.saw_depth(depth);
        let arrived = self.front.arrived();
        let arrived = arrived.or_else(|| arrival(&self.control, &message));
        if let SparkGenericModuleMessage::Shutdown(token) = message {
            self.accept_shutdown(token);
        } else if self.control.is_past_draining() {
            self.give_back(message);
        } else {
            self.in_hand = Some(message);
            self.hand_over(arrived);
        }
    }

    fn accept_shutdown(&mut self, token: C) {
        self.slot.counters.shutdowns.bump();
        self.tokens.push(token);
        self.control.shutdown_message_taken();
    }

    /// Puts the message in hand into the lane of its key.
    fn hand_over(&mut self, arrived: Option<Instant>) {
        let in_hand = self.in_hand.as_ref();
        let Some(message) = in_hand.and_then(SparkGenericModuleMessage::message) else {
            return;
        };
        let key = (self.seating.key_of)(message);
        let mut lane = self.lane_of(&key);
        while let Some(message) = self.in_hand.take() {
            let mark = Mark {
                in_time: true,
                copy: false,
                arrived,
            };
            let Err(entry) = lane.push(Entry { message, mark }) else {
                break;
            };
            // That module has just stopped by itself.
            self.in_hand = Some(entry.message);
            lane = self.lane_of(&key);
        }
    }

    /// Where messages for `key` go now.
    fn lane_of(&mut self, key: &K) -> Arc<Lane<Envelope<H, C>>> {
        if let Some(Module { seat, next }) = self.modules.get_mut(key) {
            let seat = *seat;
            if let Some(next) = next {
                return Arc::clone(next);
            }
            if let Some(seat) = seat
                && let Some(lane) = self.use_seat(seat)
            {
                return lane;
            }
        }
        let lane = Arc::new(Lane::new(Arc::clone(&self.space)));
        let next = Some(Arc::clone(&lane));
        self.awaited += 1;
        self.census.set_waiting(self.awaited);
        if let Some(module) = self.modules.get_mut(key) {
            module.next = next;
        } else {
            let module = Module { seat: None, next };
            self.modules.insert(key.clone(), module);
            self.waiting.push_back(key.clone());
        }
        lane
    }

    /// The lane of the incarnation in `seat`, which is now the one used last, unless it
    /// is ending.
    fn use_seat(&mut self, seat: usize) -> Option<Arc<Lane<Envelope<H, C>>>> {
        let incarnation = self.seats[seat].as_mut().filter(|one| !one.ending)?;
        if incarnation.lane.is_closed() {
            self.ends(seat);
            return None;
        }
        if !self.waiting.is_empty() {
            self.passed_over += 1;
        }
        if incarnation.last_used != self.turn {
            self.turn += 1;
            self.recency.remove(&incarnation.last_used);
            self.recency.insert(self.turn, seat);
            incarnation.last_used = self.turn;
        }
        Some(Arc::clone(&incarnation.lane))
    }

    fn give_back_the_rest(&mut self) {
        self.front.close();
        while let Some(message) = self.front.try_recv() {
            if let SparkGenericModuleMessage::Shutdown(token) = message {
                self.accept_shutdown(token);
            } else {
                self.give_back(message);
            }
        }
    }

    fn give_back(&self, message: Envelope<H, C>) {
        let too_late = self.control.deadline_passed();
        give_back::<H, C>(message, &self.control, &self.slot, |command| {
            if !too_late {
                (self.seating.undelivered)(command);
            }
        });
    }
}

impl<K, H, C> Turns for Keeper<K, H, C>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    H: NativeHandler,
    C: SparkChannelCancellationTrait + Send + 'static,
{
    async fn turn(&mut self) {
        poll_fn(|cx| self.poll(cx)).await;
    }

    /// Answers for the message whose key could not be told.
    fn after_panic(&mut self, panic: &(dyn Any + Send), _: Option<&Span>) {
        if let Some(message) = self.in_hand.take() {
            answer_panicked::<H, C>(message, panic, &self.control, &self.slot);
        }
    }
}
