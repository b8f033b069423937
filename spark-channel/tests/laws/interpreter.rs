//! Carries out a schedule. On a current-thread runtime with a paused clock the
//! same schedule always gives the same events.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
    time::Duration,
};

use spark_channel::{
    Class, HandleOf, ModuleBuilder, NativeHandler, PanicPolicy, Refused, Report,
    SparkChannelCancellationToken, SparkGenericModuleDispatcher, SparkGenericModuleMessage, module,
    pool, run_module_server,
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    ledger::{Entry, Event, Failure, Job, Ledger, Outcome},
    schedule::{End, Op, Plan, Policy, Route, Shape, Way, Work},
    schedules,
    subject::{Boxed, Subject},
};

/// What is left to look at once everything has ended.
pub(crate) struct Ran {
    pub(crate) report: Report,
    pub(crate) ledger: Ledger,
    pub(crate) stop_took: Duration,
    /// The tokens of the shutdown messages that were accepted.
    pub(crate) tokens: Vec<SparkChannelCancellationToken>,
    /// Current-thread, paused: instants are exact and nothing runs meanwhile.
    pub(crate) exact: bool,
}

type Dispatcher = SparkGenericModuleDispatcher<Job, u64, SparkChannelCancellationToken, Failure>;

/// A module of either kind of handler: the handle's type names the messages only.
type Handle = HandleOf<Subject>;

enum Module {
    Handle(Handle),
    Raw(tokio::task::JoinHandle<Report>),
}

/// One sender: a task, and what it needs.
struct Sender {
    number: usize,
    dispatcher: Dispatcher,
    ledger: Ledger,
    default_timeout: Option<u64>,
    exact: bool,
    callers: JoinSet<()>,
    tokens: Vec<SparkChannelCancellationToken>,
}

/// Carries out `plan` on a runtime of its own.
pub(crate) fn run(plan: &Plan, exact: bool) -> Ran {
    let runtime = if exact {
        schedules::virtual_time()
    } else {
        schedules::two_threads()
    };
    runtime.block_on(interpret(plan, exact))
}

async fn interpret(plan: &Plan, exact: bool) -> Ran {
    let ledger = Ledger::default();
    let (dispatcher, running) = spawn(plan, &ledger);
    let mut senders = JoinSet::new();
    for (number, ops) in plan.senders.iter().enumerate() {
        let sender = Sender {
            number,
            dispatcher: dispatcher.clone(),
            ledger: ledger.clone(),
            default_timeout: plan.default_timeout,
            exact,
            callers: JoinSet::new(),
            tokens: Vec::new(),
        };
        senders.spawn(sender.perform(ops.clone()));
    }
    let (report, stop_took, mut tokens) = end(plan.end, running, dispatcher, &ledger).await;
    ledger.write(Event::Reported);
    let joined = timeout(patience(exact), async {
        while let Some(sender) = senders.join_next().await {
            tokens.extend(sender.expect("a sender does not panic"));
        }
    });
    joined.await.expect("every caller has its outcome");
    Ran {
        report,
        ledger,
        stop_took,
        tokens,
        exact,
    }
}

fn spawn(plan: &Plan, ledger: &Ledger) -> (Dispatcher, Module) {
    let make = {
        let (plan, ledger) = (plan.clone(), ledger.clone());
        move || Subject::new(&plan, &ledger)
    };
    let make_boxed = {
        let make = make.clone();
        move || Boxed(make())
    };
    if plan.shape == Shape::Raw {
        let (sender, receiver) = mpsc::channel(plan.capacity);
        let task = if plan.boxed {
            tokio::spawn(run_module_server(make_boxed(), receiver))
        } else {
            tokio::spawn(run_module_server(make(), receiver))
        };
        return (Dispatcher::new(sender), Module::Raw(task));
    }
    let handle = match (plan.shape, plan.boxed) {
        (Shape::Pool(replicas) | Shape::Routed(replicas, _), false) => build(
            plan,
            pool(replicas, make.clone()),
            PanicPolicy::restart(make),
        ),
        (Shape::Pool(replicas) | Shape::Routed(replicas, _), true) => build(
            plan,
            pool(replicas, make_boxed.clone()),
            PanicPolicy::restart(make_boxed),
        ),
        (_, false) => build(plan, module(make()), PanicPolicy::restart(make)),
        (_, true) => build(plan, module(make_boxed()), PanicPolicy::restart(make_boxed)),
    };
    (handle.dispatcher(), Module::Handle(handle))
}

fn build<H>(plan: &Plan, builder: ModuleBuilder<H>, restart: PanicPolicy<H>) -> Handle
where
    H: NativeHandler<Message = Job, Response = u64, Error = Failure>,
{
    let builder = builder
        .name("subject")
        .capacity(plan.capacity)
        .shutdown_timeout(Duration::from_millis(plan.shutdown_timeout))
        .on_panic(match plan.policy {
            Policy::Continue => PanicPolicy::Continue,
            Policy::Restart => restart,
            Policy::Stop => PanicPolicy::Stop,
        });
    let builder = if plan.shape == Shape::Queued {
        builder.without_direct_calls()
    } else {
        builder
    };
    let builder = match plan.default_timeout {
        None => builder,
        Some(ms) => builder.default_timeout(Duration::from_millis(ms)),
    };
    let builder = match plan.shape {
        Shape::Routed(_, Route::InTurn) => builder.round_robin(),
        Shape::Routed(_, Route::LeastLoaded) => builder.least_loaded(),
        Shape::Routed(_, Route::ByKey) => builder.by_key(Job::key),
        _ => builder,
    };
    let builder = match plan.class {
        None => builder,
        Some(overflow) => builder.classify(|_| Class::DEFAULT).overflow(overflow),
    };
    if plan.drop_abandoned {
        builder.drop_abandoned().spawn()
    } else {
        builder.spawn()
    }
}

/// Ends the module as planned; says how long it took from the last word.
async fn end(
    end: End,
    running: Module,
    dispatcher: Dispatcher,
    ledger: &Ledger,
) -> (Report, Duration, Vec<SparkChannelCancellationToken>) {
    let mut tokens = Vec::new();
    let report = match (end, running) {
        (End::LastDropped, Module::Handle(handle)) => {
            drop(dispatcher);
            handle.wait().await
        }
        (End::LastDropped, Module::Raw(task)) => {
            drop(dispatcher);
            task.await.expect("the loop does not panic")
        }
        (End::Stop { after, .. }, Module::Raw(task)) => {
            sleep(Duration::from_millis(after)).await;
            tokens.extend(send_shutdown(&dispatcher, ledger, usize::MAX).await);
            drop(dispatcher);
            task.await.expect("the loop does not panic")
        }
        (
            End::Stop {
                after,
                stop,
                within,
                told,
            },
            Module::Handle(handle),
        ) => {
            drop(dispatcher);
            sleep(Duration::from_millis(after)).await;
            if let Some((before, stop)) = told {
                handle.stop(stop);
                ledger.write(Event::StopTold);
                sleep(Duration::from_millis(before)).await;
            } else {
                // `shutdown_within` tells it in its first poll, which is next.
                ledger.write(Event::StopTold);
            }
            let told = Instant::now();
            let within = Duration::from_millis(within);
            let report = handle.shutdown_within(stop, within).await;
            return (report, told.elapsed(), tokens);
        }
    };
    (report, Duration::ZERO, tokens)
}

/// The caller's end of one request: first polled in the sender's task, so that
/// requests are sent in the order issued, and then wherever.
type Call = Pin<Box<dyn Future<Output = ()> + Send>>;

// === impl Sender ===

impl Sender {
    async fn perform(mut self, ops: Vec<Op>) -> Vec<SparkChannelCancellationToken> {
        self.ledger.is_outside();
        for op in ops {
            match op {
                Op::Pause(ms) => sleep(Duration::from_millis(ms)).await,
                Op::Shutdown => {
                    let token = send_shutdown(&self.dispatcher, &self.ledger, self.number).await;
                    self.tokens.extend(token);
                }
                Op::Tell { work, way } => self.tell(work, way).await,
                Op::Ask { awaited, .. } => {
                    let mut call = self.call(op);
                    if poll_once(&mut call).await.is_pending() {
                        if awaited {
                            call.await;
                        } else {
                            let ledger = self.ledger.clone();
                            self.callers.spawn(async move {
                                ledger.is_outside();
                                call.await;
                            });
                        }
                    }
                }
            }
        }
        let Self {
            dispatcher,
            mut callers,
            tokens,
            ..
        } = self;
        drop(dispatcher);
        while let Some(caller) = callers.join_next().await {
            caller.expect("a caller does not panic");
        }
        tokens
    }

    fn entry(&self, is_request: bool, work: Work, limit: Option<u64>) -> Entry {
        Entry {
            sender: self.number,
            is_request,
            raw: false,
            work,
            deadline: limit.map(|ms| Instant::now() + Duration::from_millis(ms)),
        }
    }

    async fn tell(&self, work: Work, way: Way) {
        let job = self.ledger.job(Entry {
            raw: way == Way::Raw,
            ..self.entry(false, work, None)
        });
        let id = job.id;
        let dispatcher = &self.dispatcher;
        let sent = match way {
            Way::Waiting => dispatcher.command(job).await.map_err(refused),
            Way::AtOnce => dispatcher.try_command(job).map_err(refused),
            Way::Turbofish => {
                let sent = dispatcher.send_command::<_, Result<(), Failure>>(job).await;
                sent.map_err(|failure| match failure {
                    Failure::Channel(error) => (None, error),
                    other => unreachable!("{other:?} is not the channel's"),
                })
            }
            Way::Raw => {
                let message = SparkGenericModuleMessage::Command(job);
                let sent = dispatcher.sender.send(message).await;
                sent.map_err(|mpsc::error::SendError(message)| {
                    let SparkGenericModuleMessage::Command(job) = message else {
                        unreachable!("a command was sent");
                    };
                    (Some(job), spark_channel::SparkChannelError::Closed)
                })
            }
        };
        match sent {
            Ok(()) => self.ledger.write(Event::Accepted(id)),
            Err((returned, reason)) => {
                assert!(
                    returned.is_none_or(|job| job.id == id),
                    "another message came back"
                );
                self.ledger.write(Event::Refused(id, reason));
            }
        }
    }

    fn call(&self, op: Op) -> Call {
        let Op::Ask {
            work,
            at_once,
            limit,
            patience,
            ..
        } = op
        else {
            unreachable!("called for `Ask` only");
        };
        let limit = if at_once { None } else { limit };
        let entry = self.entry(true, work, limit.or(self.default_timeout));
        let ledger = self.ledger.clone();
        let job = ledger.job(entry);
        let id = job.id;
        let dispatcher = self.dispatcher.clone();
        let exact = self.exact;
        let asked = {
            let ledger = ledger.clone();
            async move {
                if at_once {
                    match dispatcher.try_request(job) {
                        Ok(request) => {
                            ledger.write(Event::Accepted(id));
                            outcome(request.await)
                        }
                        Err(Refused { message, reason }) => {
                            assert!(message.id == id, "another message came back");
                            ledger.write(Event::Refused(id, reason.clone()));
                            Outcome::Failed(Failure::Channel(reason))
                        }
                    }
                } else {
                    let request = dispatcher.request(job);
                    let mut request = Box::pin(match limit {
                        None => request,
                        Some(ms) => request.timeout(Duration::from_millis(ms)),
                    });
                    let mut first = true;
                    let answer = poll_fn(|cx| {
                        // Nobody else runs meanwhile, so a message more is this one.
                        let before = accepted(&dispatcher);
                        let polled = request.as_mut().poll(cx);
                        if exact && first && accepted(&dispatcher) > before {
                            ledger.write(Event::Accepted(id));
                        }
                        first = false;
                        polled
                    });
                    outcome(answer.await)
                }
            }
        };
        Box::pin(async move {
            let outcome = match patience {
                None => asked.await,
                Some(ms) => timeout(Duration::from_millis(ms), asked)
                    .await
                    .unwrap_or(Outcome::Left),
            };
            ledger.write(Event::Outcome(id, outcome));
        })
    }
}

/// How many messages are in the mailbox, in the channel and in its classes, or were
/// dropped from there.
fn accepted(dispatcher: &Dispatcher) -> u64 {
    let queued = dispatcher.sender.max_capacity() - dispatcher.sender.capacity();
    let classes = dispatcher.class_stats().into_iter();
    let in_classes: u64 = classes
        .map(|class| class.depth as u64 + class.dropped)
        .sum();
    queued as u64 + in_classes
}

async fn send_shutdown(
    dispatcher: &Dispatcher,
    ledger: &Ledger,
    sender: usize,
) -> Option<SparkChannelCancellationToken> {
    let token = SparkChannelCancellationToken::new();
    let message = SparkGenericModuleMessage::Shutdown(token.clone());
    dispatcher.sender.send(message).await.ok()?;
    ledger.write(Event::ShutdownAccepted { sender });
    Some(token)
}

fn refused(refused: Refused<Job>) -> (Option<Job>, spark_channel::SparkChannelError) {
    (Some(refused.message), refused.reason)
}

fn outcome(answer: Result<u64, Failure>) -> Outcome {
    match answer {
        Ok(answer) => Outcome::Answered(answer),
        Err(failure) => Outcome::Failed(failure),
    }
}

async fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx))).await
}

/// How long to wait for what must happen by itself.
fn patience(exact: bool) -> Duration {
    Duration::from_secs(if exact { 3_600 } else { 10 })
}
