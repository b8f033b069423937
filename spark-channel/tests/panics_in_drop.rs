//! Dropping a user's value is running user's code: it may panic, wherever the
//! value happens to be dropped.

use std::{future::pending, mem::ManuallyDrop, sync::Arc};

use spark_channel::{
    NativeHandler, PanicPolicy, SparkChannelError, SparkGenericModuleDispatcher, Stop, StopReason,
    module,
};
use tokio::{sync::Notify, task::yield_now};

use crate::support::{Log, queued, reason, within};

mod support;

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

enum Message {
    Plain,
    /// Holds the module until it is told to go on.
    Hold(Arc<Notify>, Arc<Notify>),
    /// Carries a bomb, which the handler drops as it returns.
    Carry {
        _bomb: Bomb,
    },
    /// Is answered with a bomb when told to go on.
    Answer(Arc<Notify>, Arc<Notify>),
    /// Keeps a bomb on the handler's stack and never ends.
    Keep(Arc<Notify>),
    /// Panics with a bomb as the panic's payload.
    Throw,
    /// Panics.
    Panic,
}

struct Handler {
    log: Log,
    _bomb: Option<Bomb>,
}

impl NativeHandler for Handler {
    type Message = Message;
    type Response = Option<Bomb>;
    type Error = eyre::Report;

    async fn handle_request(&mut self, message: Message) -> eyre::Result<Option<Bomb>> {
        match message {
            Message::Plain | Message::Carry { .. } => {}
            Message::Hold(started, go_on) => {
                started.notify_one();
                go_on.notified().await;
            }
            Message::Answer(started, go_on) => {
                started.notify_one();
                go_on.notified().await;
                return Ok(Some(Bomb));
            }
            Message::Keep(started) => {
                let _bomb = Bomb;
                started.notify_one();
                pending::<()>().await;
            }
            Message::Throw => std::panic::panic_any(Bomb),
            Message::Panic => panic!("told to panic"),
        }
        Ok(None)
    }

    async fn handle_command(&mut self, message: Message) -> eyre::Result<()> {
        defused(self.handle_request(message).await)
    }

    async fn stopped(&mut self) {
        self.log.push("stopped");
    }
}

type Dispatcher = SparkGenericModuleDispatcher<Message, Option<Bomb>>;

fn harmless(log: &Log) -> Handler {
    let log = log.clone();
    Handler { log, _bomb: None }
}

fn explosive(log: &Log) -> Handler {
    let log = log.clone();
    let bomb = Some(Bomb);
    Handler { log, _bomb: bomb }
}

fn dropped() -> SparkChannelError {
    let text = "dropped".into();
    SparkChannelError::Panicked { text }
}

fn defused(answer: eyre::Result<Option<Bomb>>) -> eyre::Result<()> {
    let _ = answer?.map(ManuallyDrop::new);
    Ok(())
}

async fn asked(dispatcher: &Dispatcher, message: Message) -> eyre::Result<()> {
    defused(within(dispatcher.request(message)).await)
}

/// Holds the module; returns what lets it go on, once it is held.
async fn hold(dispatcher: &Dispatcher) -> Arc<Notify> {
    let (started, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let held = Message::Hold(Arc::clone(&started), Arc::clone(&go_on));
    assert!(dispatcher.try_command(held).is_ok());
    within(started.notified()).await;
    go_on
}

#[tokio::test]
async fn a_message_that_panics_when_its_handler_drops_it_fails_that_request() {
    let log = Log::default();
    let module = module(harmless(&log)).spawn();
    let dispatcher = module.dispatcher();

    let crashed = asked(&dispatcher, Message::Carry { _bomb: Bomb }).await;
    let next = asked(&dispatcher, Message::Plain).await;

    assert_eq!(reason(crashed), dropped());
    assert!(next.is_ok());
    let report = within(module.shutdown(Stop::Drain)).await;
    assert_eq!((report.stats.panicked, report.stats.handled), (1, 1));
}

#[tokio::test]
async fn a_message_that_can_neither_be_named_nor_dropped_fails_that_request() {
    let log = Log::default();
    let nameless = |message: &Message| match message {
        Message::Carry { .. } => panic!("nameless"),
        _ => "named",
    };
    for direct_calls in [true, false] {
        let mut module = module(harmless(&log)).message_names(nameless);
        if !direct_calls {
            module = module.without_direct_calls();
        }
        let module = module.spawn();
        yield_now().await;
        let dispatcher = module.dispatcher();

        let unnamed = asked(&dispatcher, Message::Carry { _bomb: Bomb }).await;
        let command = dispatcher.command(Message::Carry { _bomb: Bomb }).await;
        let next = asked(&dispatcher, Message::Plain).await;

        let text = "nameless".into();
        assert_eq!(reason(unnamed), SparkChannelError::Panicked { text });
        assert!(command.is_ok() && next.is_ok());
        let report = within(module.shutdown(Stop::Drain)).await;
        assert_eq!((report.stats.panicked, report.stats.handled), (2, 1));
    }
}

#[tokio::test]
async fn an_abandoned_message_that_panics_when_it_is_skipped_fails_nobody() {
    let log = Log::default();
    let module = module(harmless(&log)).spawn();
    let dispatcher = module.dispatcher();
    let go_on = hold(&dispatcher).await;

    drop(queued(dispatcher.request(Message::Carry { _bomb: Bomb })));
    go_on.notify_one();

    assert!(asked(&dispatcher, Message::Plain).await.is_ok());
    let report = within(module.shutdown(Stop::Drain)).await;
    assert_eq!((report.stats.abandoned, report.stats.handled), (1, 2));
    assert_eq!((report.stats.panicked, report.stats.panics), (0, 1));
}

#[tokio::test]
async fn messages_that_panic_when_they_are_given_back_do_not_keep_the_rest_from_it() {
    let log = Log::default();
    let module = module(harmless(&log)).spawn();
    let dispatcher = module.dispatcher();
    let go_on = hold(&dispatcher).await;
    let waiting = queued(dispatcher.request(Message::Carry { _bomb: Bomb }));
    let told = dispatcher.try_command(Message::Carry { _bomb: Bomb });
    let last = queued(dispatcher.request(Message::Plain));

    module.stop(Stop::AfterCurrent);
    go_on.notify_one();
    let report = within(module.wait()).await;

    assert!(told.is_ok());
    let waiting = defused(within(waiting).await);
    assert_eq!(reason(waiting), SparkChannelError::ShuttingDown);
    let last = defused(within(last).await);
    assert_eq!(reason(last), SparkChannelError::ShuttingDown);
    assert_eq!((report.stats.returned, report.stats.undelivered), (2, 1));
    assert_eq!((report.stats.handled, report.stats.panics), (1, 2));
    assert_eq!(log.lines(), ["stopped"]);
}

#[tokio::test]
async fn an_answer_that_panics_when_nobody_takes_it_does_not_end_the_module() {
    let log = Log::default();
    let module = module(harmless(&log)).spawn();
    let dispatcher = module.dispatcher();
    let (started, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let answer = Message::Answer(Arc::clone(&started), Arc::clone(&go_on));
    let request = queued(dispatcher.request(answer));
    within(started.notified()).await;

    drop(request);
    go_on.notify_one();

    assert!(asked(&dispatcher, Message::Plain).await.is_ok());
    let report = within(module.shutdown(Stop::Drain)).await;
    assert_eq!((report.stats.handled, report.stats.panicked), (2, 0));
    assert_eq!(report.stats.panics, 1);
}

#[tokio::test]
async fn locals_that_panic_when_their_handler_is_stopped_fail_that_request() {
    let log = Log::default();
    let module = module(harmless(&log)).spawn();
    let dispatcher = module.dispatcher();
    let started = Arc::new(Notify::new());
    let running = queued(dispatcher.request(Message::Keep(Arc::clone(&started))));
    within(started.notified()).await;

    let report = within(module.shutdown(Stop::Now)).await;

    assert_eq!(reason(defused(within(running).await)), dropped());
    assert_eq!(report.reason, StopReason::Requested(Stop::Now));
    assert_eq!(report.stats.accounted(), 1);
    assert_eq!(log.lines(), ["stopped"]);
}

#[tokio::test]
async fn locals_that_panic_when_a_handler_called_directly_is_cut_short_fail_that_request() {
    let log = Log::default();
    let stopped = module(harmless(&log)).spawn();
    let abandoned = module(harmless(&log))
        .drop_abandoned()
        .on_panic(PanicPolicy::Stop)
        .spawn();
    yield_now().await;
    let (waits, leaves) = (stopped.dispatcher(), abandoned.dispatcher());
    let keep = || Message::Keep(Arc::default());

    let waiting = queued(waits.request(keep()));
    let cut = within(stopped.shutdown(Stop::Now)).await;
    drop(queued(leaves.request(keep())));
    within(leaves.closed()).await;
    let left = within(abandoned.wait()).await;

    assert_eq!(reason(defused(within(waiting).await)), dropped());
    assert_eq!(left.reason, StopReason::Panicked);
    for stats in [cut.stats, left.stats] {
        assert_eq!((stats.panicked, stats.interrupted), (1, 0));
    }
}

#[tokio::test]
async fn a_handler_that_panics_when_it_is_replaced_is_replaced() {
    let log = Log::default();
    let again = log.clone();
    let policy = PanicPolicy::restart(move || harmless(&again));
    let module = module(explosive(&log)).on_panic(policy).spawn();
    let dispatcher = module.dispatcher();

    let crashed = asked(&dispatcher, Message::Panic).await;
    let next = asked(&dispatcher, Message::Plain).await;

    assert!(crashed.is_err() && next.is_ok());
    let report = within(module.shutdown(Stop::Drain)).await;
    assert_eq!((report.stats.restarts, report.stats.handled), (1, 1));
}

#[tokio::test]
async fn a_handler_that_panics_when_its_module_ends_does_not_cost_the_report() {
    let log = Log::default();
    let module = module(explosive(&log)).spawn();

    assert!(asked(&module.dispatcher(), Message::Plain).await.is_ok());
    let report = within(module.shutdown(Stop::Drain)).await;

    assert_eq!(report.reason, StopReason::Requested(Stop::Drain));
    assert_eq!(report.stats.handled, 1);
    assert_eq!(log.lines(), ["stopped"]);
}

#[test]
fn a_handler_and_its_locals_that_panic_when_their_runtime_ends_do_not_end_the_process() {
    // The module's task is there, has not come back yet, or does all by itself.
    for (direct_calls, settles) in [(true, true), (true, false), (false, true)] {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("the runtime starts");
        let (watch, asking) = runtime.block_on(async {
            let mut module = module(explosive(&Log::default()));
            if !direct_calls {
                module = module.without_direct_calls();
            }
            let module = module.spawn();
            yield_now().await;
            let dispatcher = module.dispatcher();
            let started = Arc::new(Notify::new());
            let keep = Message::Keep(Arc::clone(&started));
            let asking = queued(async move { dispatcher.request(keep).await.is_ok() });
            started.notified().await;
            if settles {
                yield_now().await;
            }
            (module.watch(), asking)
        });

        drop(runtime);

        assert_eq!(watch.report().expect("ended").reason, StopReason::Aborted);
        drop(asking);
    }
}

#[tokio::test]
async fn a_panic_whose_payload_panics_when_dropped_does_not_end_the_module() {
    let log = Log::default();
    let module = module(harmless(&log)).spawn();
    let dispatcher = module.dispatcher();

    let crashed = asked(&dispatcher, Message::Throw).await;
    let next = asked(&dispatcher, Message::Plain).await;

    let text = "a panic that is not text".into();
    assert_eq!(reason(crashed), SparkChannelError::Panicked { text });
    assert!(next.is_ok());
    let report = within(module.shutdown(Stop::Drain)).await;
    assert_eq!((report.stats.panicked, report.stats.handled), (1, 1));
}
