//! What a module's run loop, its handle, its dispatchers and its running handler share.
//!
//! Invariants:
//!
//! 1. A [`Slot`]'s counters have one writer, the replica that owns the slot, so
//!    they are bumped with a plain load and store.
//! 2. `Slot::running` is written before the run loop looks whether the caller has
//!    gone, with a sequentially consistent fence between; a caller that gives up
//!    closes its reply slot before it reads `running` and `starts`, with the same
//!    fence. So at least one of the two sees the other, and "queued, will not run"
//!    is never said of a request that runs. It is overwritten, never cleared.
//! 3. `stop` only grows: none, drain, after current, now.

mod family;

use std::{
    ops::Deref,
    slice,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence},
    },
    task::Waker,
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use self::family::Family;
use crate::{
    Attached,
    callback::Stamp,
    clock::{Clock, Length, Moment},
    deadlock::{Deadlocks, Waits},
    ending::Ending,
    message_stats::MessageStats,
    oversight::Oversight,
    readers::Readers,
    state::ModuleState,
    stats::{Counters, Stats},
    stop::{Report, Stop, StopReason},
    timings::Timings,
};

pub(crate) struct Control {
    pub(crate) name: Arc<str>,
    /// The mailbox's bound.
    capacity: usize,
    pub(crate) clock: Clock,
    pub(crate) default_timeout: Option<Length>,
    pub(crate) shutdown_timeout: Length,
    pub(crate) deadlocks: Deadlocks,
    pub(crate) waits: Waits,
    pub(crate) slots: Slots,
    /// Only of a reader-writer module, whose reads share its one replica's counters.
    // Apart, for most modules have none.
    pub(crate) readers: Option<Arc<Readers>>,
    /// Sends refused because the mailbox was full or the module stopping.
    rejected: AtomicU64,
    /// Accepted, and then dropped because their class was full.
    dropped: AtomicU64,
    /// Accepted, and then replaced by a newer message with the same key.
    conflated: AtomicU64,
    /// Messages in the queues of replicas, behind the mailbox.
    at_replicas: AtomicUsize,
    stop: AtomicU8,
    /// Whether anything but a shutdown message asked for more than to drain.
    cut_off: AtomicBool,
    ended: AtomicBool,
    deadline_passed: AtomicBool,
    /// When whatever still runs is cut off: the earliest of the deadlines it was told
    /// to stop by, or [`NEVER`], which needs no timer.
    stop_deadline: AtomicU64,
    /// Whether a hook was cut off though nobody asked for a stop.
    cut_short: AtomicBool,
    /// The first reason to stop, which the report names.
    cause: OnceLock<StopReason>,
    /// Only of a module that was asked to tell how long its messages take.
    pub(crate) timings: Option<Arc<Timings>>,
    /// Boxed: most modules have none.
    family: Option<Box<Family>>,
    #[cfg(feature = "tower")]
    pub(crate) reservations: crate::service::Reservations,
    pub(crate) ending: Ending,
    /// What a supervised module shares with its supervisor.
    pub(crate) oversight: Option<Arc<Oversight>>,
    /// What feeds the module by its own wish. Ends by itself, but has to be kept till then.
    feeds: OnceLock<Box<[Attached]>>,
}

/// One slot per replica.
pub(crate) enum Slots {
    // Apart, for most modules have one, which so takes no further allocation.
    One(Arc<Slot>),
    Several(Box<[Arc<Slot>]>),
}

/// One replica's share.
#[derive(Default)]
pub(crate) struct Slot {
    pub(crate) counters: Counters,
    /// The stamp of the last call started.
    running: AtomicU64,
    /// How many calls with a stamp were started.
    starts: AtomicU64,
    cancel_asked: AtomicBool,
    deadline: AtomicU64,
    cancel: Mutex<Option<CancellationToken>>,
    waker: Mutex<Option<Waker>>,
}

// === impl Control ===

impl Control {
    pub(crate) fn new(
        name: Arc<str>,
        replicas: usize,
        capacity: usize,
        default_timeout: Option<Duration>,
        shutdown_timeout: Duration,
        deadlocks: Deadlocks,
    ) -> Self {
        Self {
            name,
            capacity,
            clock: Clock::for_this_runtime(),
            default_timeout: default_timeout.map(Length::from),
            shutdown_timeout: shutdown_timeout.into(),
            deadlocks,
            waits: Waits::default(),
            slots: Slots::new(replicas),
            readers: None,
            rejected: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            conflated: AtomicU64::new(0),
            at_replicas: AtomicUsize::new(0),
            stop: AtomicU8::new(0),
            cut_off: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            deadline_passed: AtomicBool::new(false),
            stop_deadline: AtomicU64::new(NEVER),
            cut_short: AtomicBool::new(false),
            cause: OnceLock::new(),
            timings: None,
            family: None,
            #[cfg(feature = "tower")]
            reservations: crate::service::Reservations::default(),
            ending: Ending::default(),
            oversight: None,
            feeds: OnceLock::new(),
        }
    }

    /// Keeps what feeds the module, once.
    pub(crate) fn keep(&self, feeds: Vec<Attached>) {
        if !feeds.is_empty() {
            // A second time there would be nobody to keep them.
            let _ = self.feeds.set(feeds.into());
        }
    }

    /// Puts the module under a supervisor.
    pub(crate) fn overseen(mut self, oversight: Option<Arc<Oversight>>) -> Self {
        self.oversight = oversight;
        self
    }

    /// The strongest stop asked for so far.
    #[inline]
    pub(crate) fn stop(&self) -> Option<Stop> {
        match self.stop.load(Ordering::Acquire) {
            0 => None,
            1 => Some(Stop::Drain),
            2 => Some(Stop::AfterCurrent),
            _ => Some(Stop::Now),
        }
    }

    #[inline]
    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed) != 0
    }

    /// Whether nothing more is to be started.
    #[inline]
    pub(crate) fn is_past_draining(&self) -> bool {
        self.stop.load(Ordering::Acquire) > stop_rank(Stop::Drain)
    }

    /// Whether what came before a shutdown message is to be given back as well.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.cut_off.load(Ordering::Acquire)
    }

    #[inline]
    pub(crate) fn must_stop_now(&self) -> bool {
        self.stop.load(Ordering::Acquire) >= stop_rank(Stop::Now)
    }

    pub(crate) fn stop_deadline(&self) -> Option<Moment> {
        match self.stop_deadline.load(Ordering::Acquire) {
            NEVER => None,
            raw => Some(Moment::from_raw(raw)),
        }
    }

    /// Asks every replica to stop; a stronger wish replaces a weaker one, an
    /// earlier deadline a later one.
    pub(crate) fn request_stop(&self, stop: Stop, within: Length) {
        self.stop_for(StopReason::Requested(stop), stop, within);
    }

    /// Stops the module from inside, with the deadline it was built with.
    pub(crate) fn stop_because(&self, cause: StopReason) {
        self.stop_for(cause, Stop::AfterCurrent, self.shutdown_timeout);
    }

    /// Acts on a shutdown message. While draining, what comes behind it was accepted
    /// just as well.
    pub(crate) fn shutdown_message_taken(&self) {
        if self.stop().is_none() && !self.outlives_shutdown() {
            self.stop_because(StopReason::ShutdownMessage);
        }
    }

    /// Whether a shutdown message restarts the module instead of ending it.
    pub(crate) fn outlives_shutdown(&self) -> bool {
        self.oversight
            .as_ref()
            .is_some_and(|o| o.outlives_shutdown())
    }

    /// Whether the supervisor waits no longer for what still runs, or would wait in vain.
    pub(crate) fn is_cut(&self) -> bool {
        self.oversight
            .as_deref()
            .is_some_and(|o| o.is_cut() || self.holds_up(o))
    }

    /// Whether the one handler is to leave and waits for a sibling that is started again
    /// only when it has left.
    fn holds_up(&self, oversight: &Oversight) -> bool {
        self.slots.len() == 1
            && oversight.is_recalled(0)
            && self.waits.any()
            && self.waits.reach(|other| {
                let other = other.oversight.as_deref();
                other.is_some_and(|other| other.is_sibling_of(oversight) && !other.is_up())
            })
    }

    pub(crate) fn stop_for(&self, cause: StopReason, stop: Stop, within: Length) {
        let _ = self.cause.set(cause);
        if stop != Stop::Drain && cause != StopReason::ShutdownMessage {
            self.cut_off.store(true, Ordering::Release);
        }
        // Before the flag: whoever sees the flag must find the deadline.
        if !within.is_never() {
            let deadline = self.clock.deadline_in(within).to_raw();
            self.stop_deadline.fetch_min(deadline, Ordering::AcqRel);
        }
        self.stop.fetch_max(stop_rank(stop), Ordering::AcqRel);
        self.cut_off_members();
        #[cfg(feature = "tower")]
        self.reservations.release_all();
        self.ending.changed();
        for slot in self.slots.iter() {
            slot.wake();
        }
    }

    /// The first cause to stop.
    pub(crate) fn reason(&self) -> StopReason {
        self.cause
            .get()
            .copied()
            .unwrap_or(StopReason::NoDispatchers)
    }

    /// Cuts off whatever still runs.
    pub(crate) fn pass_deadline(&self) {
        self.deadline_passed.store(true, Ordering::Release);
        self.stop.fetch_max(stop_rank(Stop::Now), Ordering::AcqRel);
    }

    #[inline]
    pub(crate) fn deadline_passed(&self) -> bool {
        self.deadline_passed.load(Ordering::Acquire)
    }

    /// Notes that a hook was cut off, of a replica that ended by itself.
    pub(crate) fn cut_short(&self) {
        self.cut_short.store(true, Ordering::Release);
    }

    /// Whether time cut anything short.
    pub(crate) fn was_cut_short(&self) -> bool {
        self.deadline_passed() || self.cut_short.load(Ordering::Acquire)
    }

    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.ending.changed();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Completes once the module stops, or has ended.
    pub(crate) async fn over(&self) {
        loop {
            // Before the look, or a change in between would be missed.
            let next = self.ending.next_change();
            if self.is_stopping() || self.has_ended() {
                return;
            }
            next.await;
        }
    }

    pub(crate) fn state(&self) -> ModuleState {
        if self.has_ended() {
            ModuleState::Ended
        } else if self.is_stopping() {
            ModuleState::Stopping
        } else if self.oversight.as_ref().is_some_and(|o| !o.is_up()) {
            ModuleState::Restarting
        } else {
            ModuleState::Running
        }
    }

    /// How often a handler was replaced.
    pub(crate) fn restarts(&self) -> u64 {
        self.slots.iter().map(|slot| slot.counters.restarts()).sum()
    }

    /// What there is to report now. `depth` is what is left in the mailbox.
    pub(crate) fn report(&self, reason: StopReason, depth: usize) -> Report {
        Report {
            module: Arc::clone(&self.name),
            reason,
            deadline_passed: self.was_cut_short(),
            stats: self.stats(depth),
        }
    }

    /// What the module has reported, whose task has ended.
    pub(crate) fn reported(&self) -> Report {
        // Whatever ends a task has its conclusion announce a report.
        let report = self.ending.report().cloned();
        report.unwrap_or_else(|| self.report(StopReason::Aborted, 0))
    }

    pub(crate) fn count_rejected(&self) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn moved_to_replica(&self) {
        self.at_replicas.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn taken_by_replica(&self) {
        self.at_replicas.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many messages wait in the queues of replicas.
    pub(crate) fn waiting_at_replicas(&self) -> usize {
        self.at_replicas.load(Ordering::Relaxed)
    }

    pub(crate) fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_conflated(&self) {
        self.conflated.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn stats(&self, depth: usize) -> Stats {
        let depth = depth + self.waiting_at_replicas();
        let mut stats = Stats {
            depth,
            capacity: self.capacity,
            rejected: self.rejected.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            conflated: self.conflated.load(Ordering::Relaxed),
            ..Stats::default()
        };
        for slot in self.slots.iter() {
            slot.counters.add_to(&mut stats);
        }
        stats.high_water = stats.high_water.max(depth);
        stats
    }

    /// What there is to tell of messages by name, if anything.
    pub(crate) fn message_stats(&self) -> Option<MessageStats> {
        self.timings.as_ref().map(|timings| timings.stats())
    }

    /// Whether a request may be answered while the handlers that run now are still at work.
    pub(crate) fn is_open(&self) -> bool {
        self.slots.len() > 1 || self.readers.as_deref().is_some_and(Readers::are_open)
    }

    /// How many calls each replica has started, to be compared by [`Control::may_run`].
    pub(crate) fn starts(&self) -> Vec<u64> {
        self.slots
            .iter()
            .map(|slot| slot.starts.load(Ordering::Acquire))
            .collect()
    }

    /// Whether `call` may have been started, given how many were before its reply
    /// slot was closed. `false` is a promise that it was not and will not be.
    pub(crate) fn may_run(&self, call: Stamp, before: &[u64]) -> bool {
        fence(Ordering::SeqCst);
        // A replica that started anything in between may have started and
        // finished this call, so only stillness proves that it did not.
        let runs = |slot: &Arc<Slot>| slot.running.load(Ordering::Acquire) == call.to_raw();
        let reads = |readers: &Readers| readers.has_started(call);
        self.slots.iter().any(runs)
            || self.readers.as_deref().is_some_and(reads)
            || self.starts() != before
    }
}

// === impl Slots ===

impl Slots {
    fn new(replicas: usize) -> Self {
        match replicas {
            1 => Self::One(Arc::default()),
            _ => Self::Several((0..replicas).map(|_| Arc::default()).collect()),
        }
    }
}

impl Deref for Slots {
    type Target = [Arc<Slot>];

    #[inline]
    fn deref(&self) -> &Self::Target {
        match self {
            Self::One(slot) => slice::from_ref(slot),
            Self::Several(slots) => slots,
        }
    }
}

// === impl Slot ===

impl Slot {
    /// Publishes the call that is about to start; see the second invariant.
    #[inline]
    pub(crate) fn publish(&self, call: Stamp) {
        self.publish_in(&self.running, call);
    }

    /// Publishes the call in a place of its own, and counts it here.
    #[inline]
    pub(crate) fn publish_in(&self, running: &AtomicU64, call: Stamp) {
        let starts = self.starts.load(Ordering::Relaxed) + 1;
        self.starts.store(starts, Ordering::Relaxed);
        running.store(call.to_raw(), Ordering::Release);
        fence(Ordering::SeqCst);
    }

    /// Sets the deadline that calls made by the running handler inherit.
    #[inline]
    pub(crate) fn set_deadline(&self, deadline: Option<Moment>) {
        self.deadline
            .store(deadline.map_or(0, Moment::to_raw), Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn deadline(&self) -> Option<Moment> {
        match self.deadline.load(Ordering::Relaxed) {
            0 => None,
            raw => Some(Moment::from_raw(raw)),
        }
    }

    /// The token of the current message, made when somebody first asks for it.
    pub(crate) fn cancel_token(&self) -> CancellationToken {
        let token = lock(&self.cancel)
            .get_or_insert_with(CancellationToken::new)
            .clone();
        self.cancel_asked.store(true, Ordering::Release);
        token
    }

    /// Whether anybody listens for the cancellation of the current message.
    #[inline]
    pub(crate) fn cancel_asked(&self) -> bool {
        self.cancel_asked.load(Ordering::Acquire)
    }

    pub(crate) fn cancel(&self) {
        if self.cancel_asked()
            && let Some(token) = &*lock(&self.cancel)
        {
            token.cancel();
        }
    }

    /// Forgets the message that has ended; its token is dropped, not cancelled.
    #[inline]
    pub(crate) fn finish(&self) {
        self.set_deadline(None);
        if self.cancel_asked() {
            self.forget_cancel();
        }
    }

    #[cold]
    fn forget_cancel(&self) {
        self.cancel_asked.store(false, Ordering::Release);
        *lock(&self.cancel) = None;
    }

    pub(crate) fn register(&self, waker: &Waker) {
        *lock(&self.waker) = Some(waker.clone());
    }

    /// Lets go of the task that has ended.
    pub(crate) fn unregister(&self) {
        *lock(&self.waker) = None;
    }

    pub(crate) fn wake(&self) {
        // Woken by reference: the loop registers again only when its waker changes.
        let waker = lock(&self.waker).clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that can panic runs under these locks; a poisoned one is still whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const NEVER: u64 = u64::MAX;

#[inline]
const fn stop_rank(stop: Stop) -> u8 {
    match stop {
        Stop::Drain => 1,
        Stop::AfterCurrent => 2,
        Stop::Now => 3,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::sync::oneshot;

    use super::*;

    /// The second invariant, on two threads that meet as closely as they can: a
    /// caller that gives up at the moment its request starts.
    #[test]
    fn a_call_said_to_be_queued_never_runs() {
        const ROUNDS: u64 = 20_000;
        let control = Arc::new(Control::new(
            "racing".into(),
            1,
            1,
            None,
            Duration::ZERO,
            Deadlocks::Off,
        ));
        let round = Arc::new(AtomicU64::new(0));
        let (to_loop, mailbox) = mpsc::sync_channel::<oneshot::Sender<()>>(64);

        let run_loop = {
            let (control, round) = (Arc::clone(&control), Arc::clone(&round));
            std::thread::spawn(move || {
                let mut started = Vec::new();
                for (number, reply) in (1..).zip(mailbox) {
                    meet(&round, number);
                    spin(number * 7 % 40);
                    control.slots[0].publish(stamp(number));
                    let starts = !reply.is_closed();
                    started.push(starts);
                    if starts {
                        let _ = reply.send(());
                    }
                    // What comes next hides this call from whoever looks late.
                    control.slots[0].publish(stamp(ROUNDS + number));
                }
                started
            })
        };
        let mut answered = 0;
        let mut said_queued = Vec::new();
        for number in 1..=ROUNDS {
            let (sender, mut reply) = oneshot::channel();
            to_loop.send(sender).expect("the loop runs");
            meet(&round, number);
            let before = control.starts();
            spin(number % 41);
            reply.close();
            let is_answered = reply.try_recv().is_ok();
            answered += u64::from(is_answered);
            spin(number / 41 % 5 * 8);
            said_queued.push(!is_answered && !control.may_run(stamp(number), &before));
        }
        drop(to_loop);
        let started = run_loop.join().expect("the loop ends");
        for (number, (started, said_queued)) in started.iter().zip(&said_queued).enumerate() {
            assert!(!(*started && *said_queued), "round {number}");
        }
        // Otherwise the two never met.
        assert!(0 < answered && answered < ROUNDS);
        assert!(said_queued.contains(&true));
    }

    /// Waits until both sides have come to `number`.
    fn meet(round: &AtomicU64, number: u64) {
        round.fetch_add(1, Ordering::AcqRel);
        let mut spins = 0_u32;
        while round.load(Ordering::Acquire) < 2 * number {
            spins += 1;
            if spins.is_multiple_of(1_000) {
                // The other side may need this core.
                std::thread::yield_now();
            }
            std::hint::spin_loop();
        }
    }

    fn spin(times: u64) {
        for _ in 0..times {
            std::hint::spin_loop();
        }
    }

    fn stamp(number: u64) -> Stamp {
        Stamp::new(Moment::from_raw(number << 16), 0)
    }
}
