//! The loop that owns a handler and its mailbox: one task for a single module,
//! one per replica of a pool.
//!
//! The loop's future is not the whole of it: [`Worker`] holds everything that must
//! survive a panic, [`Worker::serve`] is the future that may unwind, and
//! [`Guarded`](guarded::Guarded) polls it under one `catch_unwind`, with the scope and the span
//! entered. After a panic the future is thrown away, the worker answers
//! for it, and `serve` starts again where the worker's flags say it was.

mod classed;
mod conclusion;
mod front;
mod guarded;
mod keeper;
mod lane;
mod mailbox;
mod overseen;
mod place;
mod reader_writer;
mod reading;
mod receiver;
mod replicas;
mod router;
mod running;
mod seat;
mod timed;
#[cfg(feature = "test-util")]
mod turnstile;

use std::{
    any::Any,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{Arc, Mutex, Weak},
};

use tokio::time::timeout;
use tracing::Span;

#[cfg(feature = "test-util")]
pub(crate) use self::turnstile::{Turnstile, TurnstileReceiver};
pub(crate) use self::{
    conclusion::announce,
    front::Front,
    guarded::quietly,
    keeper::{Keeper, Seating, run_keyed},
    mailbox::{Mailbox, Notice},
    reader_writer::seated_readers,
    receiver::Receiver,
    replicas::{run_one, run_pool, stop_at_shutdown},
    router::{Router, run_routed},
    seat::seated,
};
use self::{
    mailbox::Waited,
    overseen::Overseen,
    running::{Caller, Ended, Running},
    timed::unnamed,
};
use crate::{
    CallbackSender, CallbackWrapper, NativeHandler, PanicPolicy, SparkChannelCancellationTrait,
    SparkChannelError, SparkGenericModuleMessage, Stage, Stop, StopReason,
    callback::{Escort, Meta, Stamp},
    classes::Kind,
    clock::Clock,
    config::Config,
    control::{Control, Slot},
    oversight::Exit,
    stats::{Counter, Counters},
    timings::Stopwatch,
};

/// One replica: its handler, its view of the mailbox, and where it stands.
pub(crate) struct Worker<H: NativeHandler, C> {
    /// Absent only while a direct call has it.
    handler: Option<Box<Berth<H>>>,
    policy: PanicPolicy<H>,
    drop_abandoned: bool,
    mailbox: Mailbox<Envelope<H, C>>,
    duty: Duty<H>,
    control: Arc<Control>,
    slot: Arc<Slot>,
    started: bool,
    stopped: bool,
    tokens: Vec<C>,
    // Boxed, for most modules have no supervisor.
    overseen: Option<Box<Overseen<H>>>,
    // Boxed, for most modules are not asked how long their messages take.
    stopwatch: Option<Box<Stopwatch<H::Message>>>,
}

type Envelope<H, C> = SparkGenericModuleMessage<
    <H as NativeHandler>::Message,
    <H as NativeHandler>::Response,
    C,
    <H as NativeHandler>::Error,
>;

type Reply<H> = CallbackSender<Result<<H as NativeHandler>::Response, <H as NativeHandler>::Error>>;

/// A handler, and where it goes if the future that has it is dropped.
struct Berth<H> {
    handler: H,
    rescue: Weak<Rescue<H>>,
}

type Rescue<H> = Mutex<Option<Box<Berth<H>>>>;

/// What the handler is at, so that a panic can be answered for.
enum Duty<H: NativeHandler> {
    None,
    Starting,
    Request(Reply<H>),
    /// With what links it to its sender, if anything does.
    Command(Option<Box<Escort>>),
}

/// Why [`Worker::serve`] completed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pause {
    /// There is nothing to do, and whatever changes that wakes the task.
    Idle,
    /// A supervised handler has left; the next turn waits for the order to make another.
    HandedOver,
    Ended,
}

/// What there is to do next.
enum Step<M> {
    Request(M, Option<Box<Escort>>),
    Command(M),
    /// The message needed no handler.
    Next,
    /// No message has been received.
    Wait,
}

/// What the mailbox of a module with classes has to know about its messages.
pub(crate) fn kind<M, R, C, E: From<SparkChannelError>>()
-> Kind<SparkGenericModuleMessage<M, R, C, E>> {
    Kind {
        is_shutdown: |message| matches!(message, SparkGenericModuleMessage::Shutdown(_)),
        discard: |message| match message.unlinked() {
            (SparkGenericModuleMessage::Request(wrapper), _) => {
                refuse(wrapper, SparkChannelError::Overflowed);
            }
            (message, link) => {
                quietly(|| drop(link));
                quietly(|| drop(message));
            }
        },
    }
}

/// Answers a request that no handler gets.
fn refuse<M, T, E: From<SparkChannelError>>(
    wrapper: CallbackWrapper<M, Result<T, E>>,
    reason: SparkChannelError,
) {
    let CallbackWrapper {
        message,
        sender,
        meta,
    } = wrapper;
    // Apart, for all are others' code: a second panic while one unwinds ends the process.
    quietly(|| drop(meta));
    quietly(|| {
        let _ = sender.send(Err(reason.into()));
    });
    quietly(|| drop(message));
}

// === impl Worker ===

impl<H, C> Worker<H, C>
where
    H: NativeHandler,
    C: SparkChannelCancellationTrait + Send + 'static,
{
    pub(crate) fn new(
        handler: H,
        policy: PanicPolicy<H>,
        config: &Config,
        mailbox: Mailbox<Envelope<H, C>>,
        control: Arc<Control>,
        replica: usize,
    ) -> Self {
        let slot = Arc::clone(&control.slots[replica]);
        Self {
            handler: Some(Box::new(Berth {
                handler,
                rescue: Weak::new(),
            })),
            policy,
            drop_abandoned: config.drop_abandoned,
            mailbox,
            duty: Duty::None,
            control,
            slot,
            started: false,
            stopped: false,
            tokens: Vec::new(),
            overseen: None,
            stopwatch: None,
        }
    }

    /// Puts the worker under the supervisor its module has, if it has one. `vacate`
    /// drops what the handler holds, until its `started` runs again.
    pub(crate) fn overseen(mut self, replica: usize, vacate: Option<fn(&mut H)>) -> Self {
        if let (Some(oversight), Some(vacate)) = (&self.control.oversight, vacate) {
            let overseen = Overseen::new(Arc::clone(oversight), replica, vacate);
            self.overseen = Some(Box::new(overseen));
        }
        self
    }

    /// Start, serve, give back, stop. May be called again after it unwound, and after a
    /// pause.
    ///
    /// The serving is one function on purpose: every `async fn` between here and the
    /// handler would move the message twice more.
    async fn serve(&mut self) -> Pause {
        // Boxed, as what comes last: an idle module need not have room for them.
        if !self.started && (self.overseen.is_none() || Box::pin(self.may_start()).await) {
            self.start().await;
        }
        // A supervised module that stops while it has no handler handles nothing.
        while self.started {
            if self.is_leaving() {
                self.leave().await;
                return Pause::HandedOver;
            }
            let stop = self.control.stop();
            match stop {
                None => {}
                Some(Stop::Drain) => self.mailbox.close().await,
                Some(Stop::AfterCurrent) if self.came_before_the_shutdown() => {}
                Some(Stop::AfterCurrent | Stop::Now) => break,
            }
            match self.step() {
                Step::Request(message, escort) => {
                    let ended = {
                        let request = pin!(at_home(&mut self.handler).handle_request(message));
                        let caller =
                            Caller::new(&self.slot, self.duty.reply(), self.drop_abandoned);
                        Running::request(request, &self.control, &mut self.mailbox, caller, escort)
                            .await
                    };
                    self.answer(ended);
                }
                Step::Command(message) => {
                    let ended = {
                        let command = pin!(at_home(&mut self.handler).handle_command(message));
                        let link = self.duty.link();
                        Running::command(command, &self.control, &mut self.mailbox, link).await
                    };
                    self.after_command(ended);
                }
                Step::Next => {}
                Step::Wait => {
                    let told_to_stop = || {
                        self.control.stop() != stop
                            || self.overseen.as_ref().is_some_and(|o| o.is_recalled())
                    };
                    match self.mailbox.wait(&self.slot, told_to_stop).await {
                        Waited::Ended => break,
                        Waited::Idle => return Pause::Idle,
                        Waited::Received | Waited::Interrupted => {}
                    }
                }
            }
        }
        Box::pin(self.wind_down()).await;
        Pause::Ended
    }

    /// Lets go of everything, and of `what` else belongs to it, but for the tokens of the
    /// shutdown messages.
    fn end<T>(self, what: T) -> Vec<C> {
        self.slot.unregister();
        let Self {
            handler,
            policy,
            mailbox,
            tokens,
            stopwatch,
            ..
        } = self;
        // User code once more: what it owns is dropped here. Apart, for a second panic
        // while one unwinds ends the process.
        quietly(|| drop(handler));
        quietly(|| drop((mailbox, what)));
        quietly(|| drop(policy));
        quietly(|| drop(stopwatch));
        tokens
    }

    async fn start(&mut self) {
        self.started = true;
        self.duty = Duty::Starting;
        let ended = {
            let started = pin!(at_home(&mut self.handler).started());
            Running::command(started, &self.control, &mut self.mailbox, None).await
        };
        self.after_start(ended);
    }

    /// Gives back what is left, and stops.
    async fn wind_down(&mut self) {
        self.mailbox.close().await;
        loop {
            if let Some(message) = self.mailbox.take() {
                self.give_back(message).await;
                continue;
            }
            let deadline_passed = || self.control.deadline_passed();
            if self.mailbox.wait(&self.slot, deadline_passed).await != Waited::Received {
                break;
            }
        }
        if !self.stopped {
            self.stopped = true;
            let stopped = pin!(at_home(&mut self.handler).stopped());
            let stopped = Running::hook(stopped, &self.control, &mut self.mailbox, None);
            if self.control.is_stopping() {
                stopped.await;
            } else {
                // Nobody is left who could send, or ask for a stop with a deadline.
                let within = self.control.shutdown_timeout.to_duration();
                if Box::pin(timeout(within, stopped)).await.is_err() {
                    self.control.cut_short();
                }
            }
        }
    }

    /// Whether the message to be handled next is older than the shutdown message that
    /// somebody else took meanwhile, and nothing but that message stops the module: then
    /// it is handled all the same.
    fn came_before_the_shutdown(&self) -> bool {
        !self.control.is_cut_off() && self.mailbox.has_taken_in_time()
    }

    fn after_start(&mut self, ended: Ended<Result<(), H::Error>>) {
        self.duty = Duty::None;
        self.finish(&ended);
        match ended {
            Ended::Done(Ok(())) => self.is_up(),
            Ended::Done(Err(error)) => {
                self.start_failed();
                at_home(&mut self.handler).command_failed(error);
            }
            Ended::Dropped => {}
        }
    }

    fn start_failed(&mut self) {
        if self.comes_back() && !self.control.is_stopping() {
            self.leave_because(Exit::StartFailed);
        } else {
            self.control.stop_because(StopReason::StartFailed);
        }
    }

    /// Takes the next message and does all there is to do before its handler runs.
    ///
    /// Not part of [`serve`](Self::serve), so that the parts of a message are
    /// never stored in its future on their way to where they are needed.
    #[inline]
    fn step(&mut self) -> Step<H::Message> {
        match self.mailbox.take() {
            None => Step::Wait,
            Some(SparkGenericModuleMessage::Command(command)) => {
                self.duty = Duty::Command(None);
                if let Err(panic) = self.start_the_clock(&command) {
                    unnamed(command, panic);
                }
                Step::Command(command)
            }
            Some(SparkGenericModuleMessage::Request(CallbackWrapper { message, meta, .. }))
                if meta.is_of_command() =>
            {
                self.duty = Duty::Command(meta.escort);
                if let Err(panic) = self.start_the_clock(&message) {
                    unnamed(message, panic);
                }
                Step::Command(message)
            }
            Some(SparkGenericModuleMessage::Request(CallbackWrapper {
                message,
                sender,
                mut meta,
            })) => {
                let (slot, clock) = (&*self.slot, self.control.clock);
                let publish = |stamp| slot.publish(stamp);
                let skip = || self.forget_arrival();
                let reply = admit(
                    sender,
                    &mut meta,
                    slot,
                    clock,
                    &slot.counters,
                    publish,
                    skip,
                );
                let Some(reply) = reply else {
                    return Step::Next;
                };
                self.duty = Duty::Request(reply);
                if let Err(panic) = self.start_the_clock(&message) {
                    unnamed(message, panic);
                }
                Step::Request(message, meta.escort)
            }
            Some(SparkGenericModuleMessage::Shutdown(token)) => {
                self.accept_shutdown(token);
                self.control.shutdown_message_taken();
                if self.control.outlives_shutdown() && !self.control.is_stopping() {
                    self.leave_because(Exit::ShutdownMessage);
                }
                Step::Next
            }
        }
    }

    #[inline]
    fn answer(&mut self, ended: Ended<Result<H::Response, H::Error>>) {
        let Duty::Request(reply) = self.duty.take() else {
            unreachable!("only the end of a request changes its duty");
        };
        let _ = reply.send(self.settle(ended));
    }

    /// Counts a request that has ended, before it is answered: who has the answer finds
    /// it counted.
    #[inline]
    fn settle(&self, ended: Ended<Result<H::Response, H::Error>>) -> Result<H::Response, H::Error> {
        self.finish(&ended);
        count_end(ended, &self.slot.counters)
    }

    /// As [`settle`](Self::settle), of a handler that has run to its end. By reference:
    /// where the answer is on its way to its caller, it is not moved again.
    #[inline]
    fn settle_done(&self, answer: &Result<H::Response, H::Error>) {
        self.forget();
        count_done(answer, &self.slot.counters);
    }

    #[inline]
    fn after_command(&mut self, ended: Ended<Result<(), H::Error>>) {
        let duty = self.duty.take();
        self.finish(&ended);
        match ended {
            Ended::Done(Ok(())) => self.count_command(&self.slot.counters.handled),
            Ended::Done(Err(error)) => {
                self.count_command(&self.slot.counters.handled);
                if !self.mailbox.has_taken_copy() {
                    self.slot.counters.failed.bump();
                }
                let _entered = duty.link().and_then(Escort::enter);
                tracing::warn!(module = &*self.control.name, "command failed");
                at_home(&mut self.handler).command_failed(error);
            }
            Ended::Dropped => self.count_command(&self.slot.counters.interrupted),
        }
    }

    /// Counts what became of a command. It may be one of several that count once.
    #[inline]
    fn count_command(&self, fate: &Counter) {
        if self.mailbox.has_taken_copy() {
            self.slot.counters.copies.bump();
        } else {
            fate.bump();
        }
    }

    /// Forgets what has ended; if it was cut short, tells whoever still listens.
    #[inline]
    fn finish<T>(&self, ended: &Ended<T>) {
        if let Ended::Dropped = ended {
            self.slot.cancel();
        }
        self.forget();
    }

    /// Forgets the message that has ended.
    #[inline]
    fn forget(&self) {
        self.slot.finish();
        self.control.waits.forget();
        self.stop_the_clock();
    }

    /// Answers or hands back a message that will not be handled.
    async fn give_back(&mut self, message: Envelope<H, C>) {
        let (message, link) = message.unlinked();
        match message {
            SparkGenericModuleMessage::Request(wrapper) if wrapper.sender.is_closed() => {
                self.slot.counters.abandoned.bump();
            }
            SparkGenericModuleMessage::Request(wrapper) => {
                self.slot.counters.returned.bump();
                let CallbackWrapper { sender, meta, .. } = wrapper;
                drop(meta);
                let _ = sender.send(Err(self.control.reason_given_back().into()));
            }
            SparkGenericModuleMessage::Command(command) => {
                self.count_command(&self.slot.counters.undelivered);
                if self.control.deadline_passed() {
                    return;
                }
                let undelivered = pin!(at_home(&mut self.handler).undelivered(command));
                let link = link.as_deref();
                Running::hook(undelivered, &self.control, &mut self.mailbox, link).await;
            }
            SparkGenericModuleMessage::Shutdown(token) => self.accept_shutdown(token),
        }
    }

    fn accept_shutdown(&mut self, token: C) {
        self.slot.counters.shutdowns.bump();
        self.tokens.push(token);
    }

    /// Answers for the message that panicked and does what the policy says.
    fn after_panic(&mut self, panic: &(dyn Any + Send), span: Option<&Span>) {
        let _entered = span.map(Span::enter);
        let duty = self.duty.take();
        self.forget();
        let counters = &self.slot.counters;
        let is_copy = matches!(duty, Duty::Command(_)) && self.mailbox.has_taken_copy();
        let fate = if is_copy {
            &counters.copies
        } else {
            &counters.panicked
        };
        let starting = matches!(duty, Duty::Starting);
        duty.panicked(panic, &self.control, counters, fate);
        if starting {
            self.start_failed();
        }
        self.recover();
    }

    /// Does what the policy says after a panic.
    fn recover(&mut self) {
        if self.stopped || self.overseer_answers() || self.control.is_past_draining() {
            // It is stopping and handles nothing any more, or waits for its supervisor.
            return;
        }
        match &self.policy {
            PanicPolicy::Continue => {}
            PanicPolicy::Stop => self.control.stop_because(StopReason::Panicked),
            PanicPolicy::Restart(factory) => match catch_unwind(AssertUnwindSafe(|| factory())) {
                Ok(fresh) => {
                    self.slot.counters.restarts.bump();
                    self.control.announce_restart();
                    self.started = false;
                    let old = std::mem::replace(at_home(&mut self.handler), fresh);
                    quietly(|| drop(old));
                }
                Err(panic) => {
                    self.control.stop_because(StopReason::Panicked);
                    quietly(|| drop(panic));
                }
            },
        }
    }
}

// === impl Duty ===

impl<H: NativeHandler> Duty<H> {
    fn take(&mut self) -> Self {
        mem::replace(self, Self::None)
    }

    fn reply(&mut self) -> &mut Reply<H> {
        match self {
            Self::Request(reply) => reply,
            _ => unreachable!("a request is being handled"),
        }
    }

    /// What links the command that is being handled to its sender, if anything does.
    #[inline]
    fn link(&self) -> Option<&Escort> {
        match self {
            Self::Command(link) => link.as_deref(),
            _ => None,
        }
    }

    /// Answers for what panicked.
    fn panicked(
        self,
        panic: &(dyn Any + Send),
        control: &Control,
        counters: &Counters,
        fate: &Counter,
    ) {
        let text = panic_text(panic);
        {
            let _entered = self.link().and_then(Escort::enter);
            tracing::error!(module = &*control.name, text, "handler panicked");
        }
        counters.panics.bump();
        match self {
            // Whether a start that fails ends the module is its worker's to say.
            Self::None | Self::Starting => {}
            Self::Command(_) => fate.bump(),
            Self::Request(reply) => {
                fate.bump();
                let text = Arc::from(text);
                // The conversion into the module's error is user code, and so is
                // the drop of an answer nobody takes.
                quietly(|| {
                    let _ = reply.send(Err(SparkChannelError::Panicked { text }.into()));
                });
            }
        }
    }
}

/// Whether a request is to be started, in `slot`; if not, it is answered and counted, and
/// before that, for the answer may panic, `skip` is called.
#[inline]
fn admit<T, E: From<SparkChannelError>>(
    reply: CallbackSender<Result<T, E>>,
    meta: &mut Meta,
    slot: &Slot,
    clock: Clock,
    counters: &Counters,
    publish: impl FnOnce(Stamp),
    skip: impl FnOnce(),
) -> Option<CallbackSender<Result<T, E>>> {
    if let Some(stamp) = meta.stamp {
        let deadline = stamp.deadline();
        if deadline.has_passed(clock) {
            counters.expired.bump();
            skip();
            // The wait it stands for ends before the answer.
            meta.escort = None;
            let stage = Stage::Queued;
            let _ = reply.send(Err(SparkChannelError::TimedOut { stage }.into()));
            return None;
        }
        publish(stamp);
        slot.set_deadline(Some(deadline));
    }
    if reply.is_closed() {
        counters.abandoned.bump();
        skip();
        slot.set_deadline(None);
        return None;
    }
    Some(reply)
}

/// Counts how a request's handler ended, and makes its answer.
#[inline]
fn count_end<T, E>(ended: Ended<Result<T, E>>, counters: &Counters) -> Result<T, E>
where
    E: From<SparkChannelError>,
{
    match ended {
        Ended::Done(answer) => {
            count_done(&answer, counters);
            answer
        }
        Ended::Dropped => {
            counters.interrupted.bump();
            Err(SparkChannelError::Cancelled.into())
        }
    }
}

#[inline]
fn count_done<T, E>(answer: &Result<T, E>, counters: &Counters) {
    counters.handled.bump();
    if answer.is_err() {
        counters.failed.bump();
    }
}

/// The handler of a worker that no direct call has it from.
#[inline]
fn at_home<H>(berth: &mut Option<Box<Berth<H>>>) -> &mut H {
    match berth {
        Some(berth) => &mut berth.handler,
        None => unreachable!("a direct call puts the handler back before it ends"),
    }
}

pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic that is not text")
}
