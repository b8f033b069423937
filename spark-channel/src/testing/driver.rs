//! A module run by hand.
//!
//! It is the run loop that every module has, with a mailbox behind a turnstile: a step
//! lets one message pass and polls the loop until it is back at its mailbox.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake, Waker},
    time::Duration,
};

use tokio::{
    sync::{
        mpsc,
        oneshot::{self, error::TryRecvError},
    },
    task::unconstrained,
};

use crate::{
    IntoHandler, NativeHandler, PanicPolicy, Refused, Report, SparkChannelCancellationToken,
    SparkChannelCancellationTrait, SparkChannelError, SparkGenericModuleDispatcher, Stats, Stop,
    classes::Classify,
    config::Config,
    control::Control,
    inlet::inlet,
    module,
    request::{self, classified},
    run_loop::{self, Mailbox, Turnstile, TurnstileReceiver, Worker},
    timings::NameOf,
};

/// A module that handles one message per [`step`](Self::step), on the caller's thread and
/// without a runtime.
///
/// It runs the same loop as a spawned module: the same order, panics, counts, and what
/// becomes of requests nobody waits for. Only three things differ: nothing happens
/// between two steps, a request is never a direct call, and a shutdown has no time
/// limit. Settings are those of a builder,
/// [`module(handler).name(..).driver()`](crate::ModuleBuilder::driver).
///
/// A handler that waits, for another module or a channel, is [`Pending`](Step::Pending),
/// and the next step polls it again. A handler with timers, or one that spawns tasks,
/// needs a runtime: use the driver in a `#[tokio::test]`, and
/// [`VirtualClock`](super::VirtualClock) to move time.
///
/// Dropping it drops a handler that is pending, and what is queued, without a report.
///
/// # Examples
///
/// ```
/// use spark_channel::testing::{Driver, Step};
/// # use spark_channel::NativeHandler;
/// # struct Sum(u64);
/// # impl NativeHandler for Sum {
/// #     type Message = u64;
/// #     type Response = u64;
/// #     type Error = eyre::Report;
/// #     async fn handle_request(&mut self, more: u64) -> eyre::Result<u64> {
/// #         self.handle_command(more).await?;
/// #         Ok(self.0)
/// #     }
/// #     async fn handle_command(&mut self, more: u64) -> eyre::Result<()> {
/// #         self.0 = self.0.checked_add(more).ok_or_else(|| eyre::eyre!("too much"))?;
/// #         Ok(())
/// #     }
/// # }
///
/// # fn main() -> eyre::Result<()> {
/// let mut sum = Driver::new(Sum(40));
/// assert_eq!(sum.request(2_u64).answer()?, 42);
/// assert_eq!(sum.command(u64::MAX)?, Step::Failed);
/// assert_eq!(sum.step(), Step::Idle);
///
/// let report = sum.finish();
/// assert_eq!((report.stats.handled, report.stats.failed), (2, 1));
/// # Ok(())
/// # }
/// ```
pub struct Driver<H: NativeHandler, C = SparkChannelCancellationToken> {
    dispatcher: Dispatcher<H, C>,
    control: Arc<Control>,
    turnstile: Arc<Turnstile>,
    woken: Arc<Woken>,
    run: Pin<Box<dyn Future<Output = ()> + Send>>,
    report: Option<Report>,
}

/// What a step of a [`Driver`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// A handler ran to its end, with success.
    Handled,
    /// A handler ran to its end, with an error.
    Failed,
    /// A handler panicked, or a hook outside of any message.
    Panicked,
    /// A handler was dropped while it ran; see [`Stats::interrupted`].
    Interrupted,
    /// A message was taken and its handler not run: the request had expired or nobody
    /// waited for it, the module gives back what is left, or it was a shutdown message.
    NotHandled,
    /// A handler or a hook waits for something. The next step goes on with it.
    Pending,
    /// There was no message.
    Idle,
    /// The module has stopped.
    Ended,
}

/// What became of a request to a [`Driver`].
#[must_use = "it holds the answer"]
pub enum Asked<R, E> {
    /// What its caller gets.
    Answered(Result<R, E>),
    /// The handler panicked; its caller gets this error, made from
    /// [`SparkChannelError::Panicked`].
    Panicked(E),
    /// There is no answer yet; to be [resumed](Driver::resume).
    Pending(Waiting<R, E>),
}

/// A request in a [`Driver`] that has not been answered. Dropping it is a caller who
/// goes away.
#[must_use = "a request that is dropped is abandoned"]
pub struct Waiting<R, E>(oneshot::Receiver<Result<R, E>>);

type Dispatcher<H, C> = SparkGenericModuleDispatcher<
    <H as NativeHandler>::Message,
    <H as NativeHandler>::Response,
    C,
    <H as NativeHandler>::Error,
>;

type WaitingOf<H> = Waiting<<H as NativeHandler>::Response, <H as NativeHandler>::Error>;

/// Whether the run loop asked to be polled again.
#[derive(Default)]
struct Woken(AtomicBool);

// === impl Driver ===

impl<H: NativeHandler> Driver<H> {
    /// A driver for `handler`, with the default settings.
    pub fn new<T, Marker>(handler: T) -> Self
    where
        T: IntoHandler<Marker, Handler = H>,
    {
        module(handler).driver()
    }
}

impl<H, C> Driver<H, C>
where
    H: NativeHandler,
    C: SparkChannelCancellationTrait + Send + 'static,
{
    pub(crate) fn build(
        handler: H,
        policy: PanicPolicy<H>,
        mut config: Config,
        classify: Option<Classify<H::Message>>,
        name_of: Option<NameOf<H::Message>>,
    ) -> Self {
        // A deadline would need a timer, and there may be no runtime.
        config.shutdown_timeout = Duration::MAX;
        let (sender, receiver) = mpsc::channel(config.capacity);
        let control = config.control(1, config.capacity);
        let turnstile = Arc::new(Turnstile::new());
        let (inlet, intake) = inlet(receiver, &config, classify, &control);
        let receiver = TurnstileReceiver::new(inlet.front(0), Arc::clone(&turnstile));
        let mailbox = Mailbox::turnstile(receiver);
        let worker =
            Worker::new(handler, policy, &config, mailbox, Arc::clone(&control), 0).timed(name_of);
        Self {
            dispatcher: Dispatcher::<H, C>::of_module(sender, Arc::clone(&control), None, intake),
            control,
            turnstile,
            woken: Arc::default(),
            // A test's task may have spent its budget, which is not the module's.
            run: Box::pin(unconstrained(run_loop::run_one(worker))),
            report: None,
        }
    }

    /// A dispatcher for this module. What is sent through it is handled by later steps.
    #[must_use]
    pub fn dispatcher(&self) -> Dispatcher<H, C> {
        self.dispatcher.clone()
    }

    /// What the module has counted so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.dispatcher.stats().unwrap_or_default()
    }

    /// What the module reported, once it has [ended](Step::Ended).
    #[must_use]
    pub const fn report(&self) -> Option<&Report> {
        self.report.as_ref()
    }

    /// Handles the next message, or goes on with the one whose handler is pending.
    ///
    /// The first step runs the handler's `started` before. A stopping module takes one
    /// message per step as well, and ends in the step that finds no more.
    ///
    /// A handler that wakes itself is polled again, up to 1 000 times in one step.
    pub fn step(&mut self) -> Step {
        if self.report.is_some() {
            return Step::Ended;
        }
        let before = self.stats();
        self.turnstile.let_one_pass();
        self.poll();
        if self.report.is_some() {
            return Step::Ended;
        }
        if !self.turnstile.shut_if_waiting() {
            return Step::Pending;
        }
        let after = self.stats();
        if after.panicked > before.panicked {
            Step::Panicked
        } else if after.failed > before.failed {
            Step::Failed
        } else if after.handled > before.handled {
            Step::Handled
        } else if after.interrupted > before.interrupted {
            Step::Interrupted
        } else if after.accounted() > before.accounted() {
            Step::NotHandled
        } else if after.panics > before.panics {
            Step::Panicked
        } else {
            Step::Idle
        }
    }

    /// Sends a request and steps until it is answered, through whatever was sent before
    /// it.
    ///
    /// It is [`Pending`](Asked::Pending) when a handler is, its own or one before it. A
    /// request that is refused is answered with the error its caller gets.
    pub fn request(&mut self, message: impl Into<H::Message>) -> Asked<H::Response, H::Error> {
        match self.submit(message) {
            Ok(waiting) => self.resume(waiting),
            Err(refused) => Asked::Answered(Err(refused.reason.into())),
        }
    }

    /// Sends a request and leaves it in the mailbox.
    ///
    /// It has the module's
    /// [`default_timeout`](crate::ModuleBuilder::default_timeout), if any.
    ///
    /// # Errors
    ///
    /// The message, when the mailbox is full or the module stops.
    pub fn submit(
        &mut self,
        message: impl Into<H::Message>,
    ) -> Result<WaitingOf<H>, Refused<H::Message>> {
        let message = message.into();
        let control = &self.control;
        let deadline = control
            .default_timeout
            .map(|timeout| control.clock.deadline_in(timeout));
        if let Some(intake) = self.dispatcher.intake() {
            let offered = classified::offer(&self.dispatcher, intake, message, deadline, None);
            return match offered {
                Ok(sent) => Ok(Waiting(sent.reply)),
                Err(unaccepted) => Err(self.dispatcher.unaccepted_request(unaccepted)),
            };
        }
        let permit = match self.dispatcher.try_admit() {
            Ok(permit) => permit,
            Err(reason) => return Err(self.dispatcher.refuse(reason, message)),
        };
        let sent = request::send(&self.dispatcher, permit, message, deadline, None);
        Ok(Waiting(sent.reply))
    }

    /// Steps until `waiting` is answered, or a handler is pending.
    ///
    /// One that an earlier step has answered is [`Answered`](Asked::Answered), also when its
    /// handler panicked: that step said so.
    pub fn resume(&mut self, waiting: WaitingOf<H>) -> Asked<H::Response, H::Error> {
        let Waiting(mut reply) = waiting;
        let mut step = None;
        loop {
            match (reply.try_recv(), step) {
                (Ok(Err(error)), Some(Step::Panicked)) => return Asked::Panicked(error),
                (Ok(answer), _) => return Asked::Answered(answer),
                (Err(TryRecvError::Closed), _) => {
                    return Asked::Answered(Err(SparkChannelError::ReplyDropped.into()));
                }
                (Err(TryRecvError::Empty), Some(Step::Pending | Step::Idle | Step::Ended)) => {
                    return Asked::Pending(Waiting(reply));
                }
                (Err(TryRecvError::Empty), _) => step = Some(self.step()),
            }
        }
    }

    /// Sends a command and steps until it is handled, through whatever was sent before
    /// it. The last step is returned, which is its own unless a handler is pending.
    ///
    /// # Errors
    ///
    /// The message, when the mailbox is full or the module stops.
    pub fn command(&mut self, command: impl Into<H::Message>) -> Result<Step, Refused<H::Message>> {
        let ahead = self.stats().depth + usize::from(self.turnstile.has_one_passed());
        self.dispatcher.try_command(command)?;
        let mut last = Step::Idle;
        for _ in 0..=ahead {
            match self.step() {
                Step::Idle => break,
                step => last = step,
            }
            if let Step::Pending | Step::Ended = last {
                break;
            }
        }
        Ok(last)
    }

    /// Tells the module to stop, which it does in the steps that follow.
    pub fn stop(&self, stop: Stop) {
        self.control
            .request_stop(stop, self.control.shutdown_timeout);
    }

    /// Stops the module and reports.
    ///
    /// # Panics
    ///
    /// Panics if a handler or a hook is pending that `stop` does not cut short.
    #[track_caller]
    pub fn shutdown(mut self, stop: Stop) -> Report {
        self.stop(stop);
        self.turnstile.let_all_pass();
        if self.report.is_none() {
            self.poll();
        }
        match self.report.take() {
            Some(report) => report,
            None => panic!(
                "module `{}` cannot stop: a handler or a hook is pending",
                self.control.name
            ),
        }
    }

    /// Handles what is left, stops the module, and reports that nothing was lost.
    ///
    /// # Panics
    ///
    /// Panics if, now or earlier, a command was not delivered, a request returned or a
    /// handler interrupted, and if a handler or a hook is pending.
    #[track_caller]
    pub fn finish(self) -> Report {
        let report = self.shutdown(Stop::Drain);
        let stats = &report.stats;
        assert!(
            stats.undelivered + stats.returned + stats.interrupted == 0,
            "module `{}` lost messages: {stats:?}",
            report.module
        );
        report
    }

    /// Polls the loop until it waits for a message, for something else, or has ended.
    fn poll(&mut self) {
        let waker = Waker::from(Arc::clone(&self.woken));
        let mut cx = Context::from_waker(&waker);
        for _ in 0..POLLS_MAX {
            self.woken.0.store(false, Ordering::Release);
            if self.run.as_mut().poll(&mut cx).is_ready() {
                self.report = self.control.ending.report().cloned();
                return;
            }
            if !self.woken.0.load(Ordering::Acquire) {
                return;
            }
        }
    }
}

impl<H: NativeHandler, C> fmt::Debug for Driver<H, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("name", &self.control.name)
            .field("stats", &self.dispatcher.stats())
            .field("report", &self.report)
            .finish_non_exhaustive()
    }
}

// === impl Asked ===

impl<R, E> Asked<R, E> {
    /// The answer, or the error its caller gets.
    ///
    /// # Errors
    ///
    /// What the caller of the request gets as an error, also after a panic.
    ///
    /// # Panics
    ///
    /// Panics if there is no answer yet.
    #[track_caller]
    pub fn answer(self) -> Result<R, E> {
        match self {
            Self::Answered(answer) => answer,
            Self::Panicked(error) => Err(error),
            Self::Pending(_) => panic!("the handler is pending"),
        }
    }

    /// The request, still waiting for its answer.
    ///
    /// # Panics
    ///
    /// Panics if there is an answer.
    #[track_caller]
    pub fn pending(self) -> Waiting<R, E> {
        match self {
            Self::Pending(waiting) => waiting,
            Self::Answered(Ok(_)) => panic!("the request was answered"),
            Self::Answered(Err(_)) => panic!("the request failed"),
            Self::Panicked(_) => panic!("the handler panicked"),
        }
    }
}

impl<R: fmt::Debug, E: fmt::Debug> fmt::Debug for Asked<R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(answer) => f.debug_tuple("Answered").field(answer).finish(),
            Self::Panicked(error) => f.debug_tuple("Panicked").field(error).finish(),
            Self::Pending(_) => f.write_str("Pending(..)"),
        }
    }
}

// === impl Waiting ===

impl<R, E> fmt::Debug for Waiting<R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waiting(..)")
    }
}

// === impl Woken ===

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

/// A handler may yield; one that never does anything else must not hang its test.
const POLLS_MAX: usize = 1_000;
