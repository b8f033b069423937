//! The loop of a reader-writer module: reads run side by side on one task, everything
//! else alone.
//!
//! The loop goes through *readings*. A reading begins with a message in the mailbox
//! and borrows the handler; it ends when no read runs and the next message, if there is one,
//! needs the handler for itself. Messages are looked at where they wait, and only what can
//! start is taken, so nothing overtakes.
//!
//! A read is polled where it stays, once before anything else is done about it; most are
//! ready then. The first is kept in the loop's own future. For those beside it there are
//! boxes, made when they are needed, used again, and dropped with the reading, whose
//! borrow they hold.

mod desks;
mod read;

use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::time::Instant;

use self::desks::BITS;
pub(super) use self::{desks::Desks, read::Read};
use super::{
    Duty, Envelope, Mailbox, Waited, admit, count_end,
    guarded::quietly,
    running::{Doors, Ended},
};
use crate::{
    Access, CallbackSender, CallbackWrapper, PanicPolicy, ReaderWriter, ReaderWriterHandler,
    SparkChannelCancellationTrait, SparkChannelError, SparkGenericModuleMessage, StopReason,
    callback::Escort,
    control::{Control, Slot},
    deadlock::{self, Path},
    readers::{Phase, Readers},
    stats::Counters,
    timings::Stopwatch,
};

/// One reading: the reads that run, and what they share.
pub(super) struct Reading<'a, H: ReaderWriterHandler, C, F, Handle> {
    pub(super) handle: Handle,
    pub(super) first: Pin<&'a mut PlaceOf<H, F>>,
    /// Those beside the first, where desk one is at zero.
    pub(super) others: Vec<Pin<Box<PlaceOf<H, F>>>>,
    /// The desks of `others` at which no read runs.
    pub(super) vacant: Vec<usize>,
    pub(super) running: usize,
    /// What the next message asks for, once it has been asked.
    pub(super) next: Option<Access>,
    pub(super) restart_due: bool,
    pub(super) desks: &'a mut Desks,
    pub(super) mailbox: &'a mut Mailbox<MessageOf<H, C>>,
    pub(super) policy: &'a PanicPolicy<ReaderWriter<H>>,
    pub(super) stopwatch: Option<&'a Stopwatch<H::Message>>,
    pub(super) drop_abandoned: bool,
    pub(super) control: &'a Arc<Control>,
    pub(super) readers: &'a Readers,
    pub(super) slot: &'a Slot,
}

/// What there is to do once no read runs any more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// Handle the next message alone.
    HandleAlone,
    /// Replace the handler: a read panicked.
    Restart,
    /// Nothing can start, or there is a stop to be seen to.
    LookAgain,
}

type PlaceOf<H, F> = Read<F, AnswerOf<H>>;

type MessageOf<H, C> = Envelope<ReaderWriter<H>, C>;

/// What times a read, and the desk it runs at.
type TimedAt<'a, M> = (&'a Stopwatch<M>, usize);

type RequestOf<H> = CallbackWrapper<<H as ReaderWriterHandler>::Message, AnswerOf<H>>;

type AnswerOf<H> = Result<<H as ReaderWriterHandler>::Response, <H as ReaderWriterHandler>::Error>;

// === impl Reading ===

impl<H, C, F, Handle> Reading<'_, H, C, F, Handle>
where
    H: ReaderWriterHandler,
    C: SparkChannelCancellationTrait + Send + 'static,
    F: Future<Output = Result<H::Response, H::Error>>,
    Handle: Fn(H::Message) -> F,
{
    /// Goes on with a read that its caller began.
    pub(super) fn resume(
        &mut self,
        read: F,
        reply: CallbackSender<AnswerOf<H>>,
        escort: Option<Box<Escort>>,
    ) {
        self.running += 1;
        self.first.as_mut().begin(reply, escort, || read);
        self.proceed(0);
    }

    #[inline]
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Then> {
        self.poll_woken();
        if self.control.is_stopping() {
            self.mailbox.close_now();
            if self.control.must_stop_now() {
                self.drop_all();
            }
        }
        self.gives_way(cx);
        let then = self.start_what_can(cx);
        if self.running > 0 {
            return Poll::Pending;
        }
        then
    }

    #[inline]
    fn poll_woken(&mut self) {
        let mut word = 0;
        while let Some(mut desks) = self.desks.take_woken(word) {
            while desks != 0 {
                let desk = word * BITS + desks.trailing_zeros() as usize;
                desks &= desks - 1;
                // It may have been woken late: its read ended, or an earlier reading did.
                if desk <= self.others.len()
                    && !place(&mut self.first, &mut self.others, desk).is_vacant()
                {
                    self.proceed(desk);
                }
            }
            word += 1;
        }
    }

    /// Starts reads until the next message has to wait; says what to do about it if no
    /// read runs. Pending if there is no message, and the task is woken by one.
    #[inline]
    fn start_what_can(&mut self, cx: &mut Context<'_>) -> Poll<Then> {
        loop {
            if self.restart_due {
                self.wait_for_reads(cx);
                return Poll::Ready(Then::Restart);
            }
            if self.control.is_past_draining() {
                self.wait_for_reads(cx);
                return Poll::Ready(Then::LookAgain);
            }
            let has_room = self.running < self.readers.at_once();
            let Some(next) = self.mailbox.next_mut() else {
                if !has_room {
                    self.wait_for_one();
                    return Poll::Ready(Then::LookAgain);
                }
                self.readers.enter(Phase::Reading);
                let is_idle = self.running == 0;
                if is_idle {
                    if self.mailbox.rests() {
                        return Poll::Ready(Then::LookAgain);
                    }
                    self.leave_desks();
                }
                let control = &**self.control;
                // While reads run, a stop wakes this task; that is enough.
                let told_to_stop = || is_idle && control.is_stopping();
                match pin!(self.mailbox.wait(self.slot, told_to_stop)).poll(cx) {
                    Poll::Ready(Waited::Received) => continue,
                    Poll::Ready(_) => return Poll::Ready(Then::LookAgain),
                    Poll::Pending => return Poll::Pending,
                }
            };
            let request = match next {
                SparkGenericModuleMessage::Request(request) if !request.meta.is_of_command() => {
                    request
                }
                _ => {
                    if self.wait_for_reads(cx) {
                        continue;
                    }
                    return Poll::Ready(Then::HandleAlone);
                }
            };
            if let Some(reason) = refusal(request) {
                let (request, _) = self.take_request();
                self.refuse(request, reason);
                continue;
            }
            let access = match self.next {
                Some(access) => access,
                None => match catch_unwind(AssertUnwindSafe(|| H::access(&request.message))) {
                    Ok(access) => *self.next.insert(access),
                    Err(panic) => {
                        let (request, _) = self.take_request();
                        self.unknown(request, panic);
                        continue;
                    }
                },
            };
            match access {
                Access::Read if has_room => {
                    // Not before: whoever looked while a write still waits would take this
                    // for the end of that.
                    self.readers.enter(Phase::Reading);
                    self.start();
                }
                Access::Read => {
                    if !self.wait_for_one() {
                        return Poll::Ready(Then::LookAgain);
                    }
                }
                Access::Write if self.running == 0 => return Poll::Ready(Then::HandleAlone),
                // Nothing behind it may start, so it must not be waited for in vain.
                Access::Write if request.sender.poll_closed(cx).is_ready() => self.pass_over(),
                Access::Write => {
                    if !self.wait_for_reads(cx) {
                        return Poll::Ready(Then::HandleAlone);
                    }
                }
            }
        }
    }

    /// Lets the next message wait until no read runs. Whether it, or another, was refused.
    #[inline]
    fn wait_for_reads(&mut self, cx: &Context<'_>) -> bool {
        if self.running == 0 {
            return false;
        }
        self.readers.enter(Phase::Awaited);
        self.gives_way(cx)
            || self.control.waits.any()
                && deadlock::refuse_what_reads_wait_for(self.control, |path| self.refusal_of(path))
    }

    /// Whether a message has come that goes before the next one, which has to wait.
    #[inline]
    fn gives_way(&mut self, cx: &Context<'_>) -> bool {
        let gives_way = self.mailbox.receive_control(cx);
        if gives_way {
            self.next = None;
        }
        gives_way
    }

    /// Lets the next message wait until one of the reads has ended, as many as may run.
    /// Whether it, or another, was refused.
    #[inline]
    fn wait_for_one(&mut self) -> bool {
        self.readers.enter(Phase::Full);
        self.control.waits.any() && {
            // All of them are taken.
            let slots = self.desks.slots(self.running);
            deadlock::refuse_one_if_all_wait(self.control, slots, |path| self.refusal_of(path))
        }
    }

    fn refusal_of(&self, path: Path) -> SparkChannelError {
        if self.control.is_past_draining() {
            SparkChannelError::ShuttingDown
        } else {
            SparkChannelError::WouldDeadlock { path }
        }
    }

    /// Starts the next message, a read, and polls it once.
    #[inline]
    fn start(&mut self) {
        let (request, arrived) = self.take_request();
        let name = match self.name(&request.message) {
            Ok(name) => name,
            Err(panic) => return self.unknown(request, panic),
        };
        let CallbackWrapper {
            message,
            sender,
            mut meta,
        } = request;
        let desk = self.take_desk();
        let timed = self.stopwatch.map(|stopwatch| (stopwatch, desk));
        let mut place = place(&mut self.first, &mut self.others, desk);
        let counters = &self.slot.counters;
        let polled = self.desks.desk(desk).run(|slot, cx| {
            let publish = |stamp| match desk {
                0 => slot.publish(stamp),
                _ => self.slot.publish_in(self.readers.started_at(desk), stamp),
            };
            let clock = self.control.clock;
            let admitted = admit(sender, &mut meta, slot, clock, counters, publish, || {});
            let Some(reply) = admitted else {
                return Poll::Ready(());
            };
            if let Some(edge) = meta.escort.as_ref().and_then(|escort| escort.edge.as_ref()) {
                edge.is_handled_by(slot);
            }
            if let (Some((stopwatch, desk)), Some(name)) = (timed, name) {
                stopwatch.begin_named(desk, name, arrived);
            }
            let handle = || (self.handle)(message);
            place.as_mut().begin(reply, meta.escort, handle);
            proceed(place, slot, cx, self.drop_abandoned, counters, timed)
        });
        self.settle(desk, polled);
    }

    fn proceed(&mut self, desk: usize) {
        let place = place(&mut self.first, &mut self.others, desk);
        let timed = self.stopwatch.map(|stopwatch| (stopwatch, desk));
        let counters = &self.slot.counters;
        let polled = self
            .desks
            .desk(desk)
            .run(|slot, cx| proceed(place, slot, cx, self.drop_abandoned, counters, timed));
        self.settle(desk, polled);
    }

    /// Drops the reads that run: the module stops now.
    fn drop_all(&mut self) {
        for desk in 0..=self.others.len() {
            let place = place(&mut self.first, &mut self.others, desk);
            if place.is_vacant() {
                continue;
            }
            let timed = self.stopwatch.map(|stopwatch| (stopwatch, desk));
            let ended = self.desks.desk(desk).run(|slot, _| {
                close(place, slot, Ended::Dropped, &self.slot.counters, timed);
            });
            self.settle(desk, ended.map(Poll::Ready));
        }
    }

    /// Frees the desk of a read that has ended, and answers for it if it panicked.
    #[inline]
    fn settle(&mut self, desk: usize, polled: Result<Poll<()>, Box<dyn Any + Send>>) {
        match polled {
            Ok(Poll::Pending) => return,
            Ok(Poll::Ready(())) => {}
            Err(panic) => self.read_panicked(desk, panic),
        }
        self.control.waits.forget_of(&self.desks.desk(desk).slot);
        self.running -= 1;
        if desk > 0 {
            self.vacant.push(desk);
        }
    }

    /// Ends a read that panicked, and answers for it.
    #[cold]
    fn read_panicked(&mut self, desk: usize, panic: Box<dyn Any + Send>) {
        let mut place = place(&mut self.first, &mut self.others, desk);
        // What the future holds may panic again; the first panic is the one to report.
        quietly(|| place.as_mut().drop_future());
        let duty = place.end().map_or(Duty::None, Duty::Request);
        self.desks.desk(desk).slot.finish();
        if let Some(stopwatch) = self.stopwatch {
            stopwatch.end(desk);
        }
        self.panicked(duty, panic);
    }

    /// Answers a request that could not be told what it is.
    #[cold]
    fn unknown(&mut self, request: RequestOf<H>, panic: Box<dyn Any + Send>) {
        let CallbackWrapper {
            message,
            sender,
            meta,
        } = request;
        drop(meta);
        self.panicked(Duty::Request(sender), panic);
        // Caught here, for it would unwind through the reads that run.
        quietly(|| drop(message));
    }

    /// Answers for a panic, and sees to what the policy says.
    #[cold]
    fn panicked(&mut self, duty: Duty<ReaderWriter<H>>, panic: Box<dyn Any + Send>) {
        let counters = &self.slot.counters;
        duty.panicked(&*panic, self.control, counters, &counters.panicked);
        quietly(|| drop(panic));
        if self.control.is_past_draining() {
            return;
        }
        match self.policy {
            PanicPolicy::Continue => {}
            PanicPolicy::Stop => self.control.stop_because(StopReason::Panicked),
            PanicPolicy::Restart(_) => self.restart_due = true,
        }
    }

    /// Takes the next message, whose caller has gone.
    fn pass_over(&mut self) {
        let (request, _) = self.take_request();
        let stamp = request.meta.stamp;
        if stamp.is_some_and(|stamp| stamp.deadline().has_passed(self.control.clock)) {
            self.slot.counters.expired.bump();
        } else {
            self.slot.counters.abandoned.bump();
        }
        self.catch(|| drop(request));
    }

    fn refuse(&mut self, request: RequestOf<H>, reason: SparkChannelError) {
        if request.sender.is_closed() {
            self.slot.counters.abandoned.bump();
            return self.catch(|| drop(request));
        }
        self.slot.counters.returned.bump();
        self.catch(|| {
            let CallbackWrapper { sender, meta, .. } = request;
            drop(meta);
            let _ = sender.send(Err(reason.into()));
        });
    }

    /// Runs user code that belongs to no read.
    fn catch(&mut self, run: impl FnOnce()) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
            self.panicked(Duty::None, panic);
        }
    }

    #[inline]
    fn take_request(&mut self) -> (RequestOf<H>, Option<Instant>) {
        self.next = None;
        let Some(SparkGenericModuleMessage::Request(request)) = self.mailbox.take() else {
            unreachable!("the next message is a request")
        };
        let arrived = self
            .stopwatch
            .and_then(|stopwatch| self.mailbox.arrival(stopwatch));
        (request, arrived)
    }

    /// What a message is called, if anybody wants to know.
    #[inline]
    fn name(&self, message: &H::Message) -> Result<Option<&'static str>, Box<dyn Any + Send>> {
        match self.stopwatch {
            None => Ok(None),
            Some(stopwatch) => catch_unwind(AssertUnwindSafe(|| Some(stopwatch.name(message)))),
        }
    }

    /// Gives back what only reads side by side need.
    #[inline]
    fn leave_desks(&mut self) {
        if !self.others.is_empty() {
            self.others = Vec::new();
            self.vacant = Vec::new();
        }
    }

    #[inline]
    fn take_desk(&mut self) -> usize {
        self.running += 1;
        if self.first.is_vacant() {
            return 0;
        }
        self.vacant.pop().unwrap_or_else(|| {
            self.others.push(Box::pin(Read::vacant()));
            self.others.len()
        })
    }
}

impl<H: ReaderWriterHandler, C, F, Handle> Drop for Reading<'_, H, C, F, Handle> {
    #[inline]
    fn drop(&mut self) {
        if self.running == 0 {
            return;
        }
        // The module's task is dropped. One by one: where two panic that are dropped at once, the
        // process ends.
        for desk in 0..=self.others.len() {
            let place = place(&mut self.first, &mut self.others, desk);
            if !place.is_vacant() {
                quietly(|| place.drop_future());
            }
        }
    }
}

#[inline]
fn place<'a, P>(
    first: &'a mut Pin<&mut P>,
    others: &'a mut [Pin<Box<P>>],
    desk: usize,
) -> Pin<&'a mut P> {
    match desk {
        0 => first.as_mut(),
        _ => others[desk - 1].as_mut(),
    }
}

/// Polls a read; answers it when it has ended.
#[inline]
fn proceed<F, T, E, M>(
    mut place: Pin<&mut Read<F, Result<T, E>>>,
    slot: &Slot,
    cx: &mut Context<'_>,
    drop_abandoned: bool,
    counters: &Counters,
    timed: Option<TimedAt<'_, M>>,
) -> Poll<()>
where
    F: Future<Output = Result<T, E>>,
    E: From<SparkChannelError>,
{
    let ended = ready!(place.as_mut().poll(cx, slot, drop_abandoned));
    close(place, slot, ended, counters, timed);
    Poll::Ready(())
}

#[inline]
fn close<F, T, E, M>(
    place: Pin<&mut Read<F, Result<T, E>>>,
    slot: &Slot,
    ended: Ended<Result<T, E>>,
    counters: &Counters,
    timed: Option<TimedAt<'_, M>>,
) where
    E: From<SparkChannelError>,
{
    let reply = place.end();
    if let Ended::Dropped = ended {
        slot.cancel();
    }
    slot.finish();
    if let Some((stopwatch, desk)) = timed {
        stopwatch.end(desk);
    }
    let answer = count_end(ended, counters);
    if let Some(reply) = reply {
        let _ = reply.send(answer);
    }
}

/// Why a request was refused that has been accepted before.
#[inline]
fn refusal<M, V>(request: &CallbackWrapper<M, V>) -> Option<SparkChannelError> {
    request.meta.escort.as_ref()?.edge.as_ref()?.refusal()
}
