//! Messages and closures that panic when they are dropped, where no handler has them: in the
//! hands of a pool's router or the keeper of a keyed set, or with a runtime that ends.

use std::{future::pending, sync::Arc, time::Duration};

use spark_channel::{
    HandleOf, NativeHandler, Overflow, PanicPolicy, SparkChannelError, Stop, StopReason, keyed,
    module, pool,
};
use tokio::{sync::Notify, task::yield_now};

use crate::support::{Log, queued, reason, until, within};

mod support;

const SECOND: Duration = Duration::from_secs(1);

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

enum Message {
    Plain(char),
    Bomb(char, Bomb),
    /// Says that it is held, and is for ever.
    Hold(char, Arc<Notify>),
}

struct Handler;

impl NativeHandler for Handler {
    type Message = Message;
    type Response = char;
    type Error = eyre::Report;

    async fn handle_request(&mut self, message: Message) -> eyre::Result<char> {
        match message {
            Message::Plain(key) | Message::Bomb(key, _) => Ok(key),
            Message::Hold(_, held) => {
                held.notify_one();
                pending().await
            }
        }
    }

    async fn handle_command(&mut self, message: Message) -> eyre::Result<()> {
        self.handle_request(message).await.map(drop)
    }
}

/// `?` has no key, `!` no module.
fn key_of(message: &Message) -> char {
    let (Message::Plain(key) | Message::Bomb(key, _) | Message::Hold(key, _)) = message;
    assert!(*key != '?', "no key");
    *key
}

fn handler_of(key: char) -> Handler {
    assert!(key != '!', "no module");
    Handler
}

fn no_key() -> SparkChannelError {
    let text = "no key".into();
    SparkChannelError::Panicked { text }
}

fn bomb(key: char) -> Message {
    Message::Bomb(key, Bomb)
}

// --- of a pool

#[tokio::test]
async fn a_message_without_a_key_that_panics_when_it_is_dropped_does_not_end_its_pool() {
    let module = pool(2, || Handler).by_key(key_of).spawn();
    let dispatcher = module.dispatcher();

    let failed = within(dispatcher.request(bomb('?'))).await;
    let next = within(dispatcher.request(Message::Plain('a'))).await;

    assert_eq!(reason(failed), no_key());
    assert_eq!(next.expect("handled"), 'a');
    let report = within(module.shutdown(Stop::Drain)).await;
    assert_eq!(report.reason, StopReason::Requested(Stop::Drain));
    assert_eq!((report.stats.panicked, report.stats.accounted()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn messages_that_panic_when_a_router_gives_them_back_are_all_given_back() {
    // More than a task takes in one go.
    let capacity = 300;
    let module = pool(2, || Handler)
        .capacity(capacity)
        .by_key(key_of)
        .spawn();
    let dispatcher = module.dispatcher();
    let held = Arc::new(Notify::new());
    let running = queued(dispatcher.request(Message::Hold('a', Arc::clone(&held))));
    within(held.notified()).await;
    // As many as there is room for: behind the router, and in its mailbox.
    let room = capacity + 1 + capacity;
    let mut waiting = Vec::new();
    while waiting.len() < room {
        waiting.push(queued(dispatcher.request(bomb('a'))));
        yield_now().await;
    }
    assert_eq!(module.stats().depth, room);

    let report = within(module.shutdown_within(Stop::Drain, SECOND)).await;

    assert_eq!(report.reason, StopReason::Requested(Stop::Drain));
    for waiting in waiting {
        assert_eq!(
            reason(within(waiting).await),
            SparkChannelError::ShuttingDown
        );
    }
    assert_eq!(reason(within(running).await), SparkChannelError::Cancelled);
    assert_eq!(report.stats.returned, room as u64);
    assert_eq!(report.stats.accounted(), room as u64 + 1);
}

#[tokio::test]
async fn a_router_whose_key_function_panics_when_it_is_dropped_does_not_cost_the_report() {
    let fragile = Bomb;
    let by_key = move |message: &Message| {
        let _ = &fragile;
        key_of(message)
    };
    let module = pool(2, || Handler).by_key(by_key).spawn();

    let report = within(module.shutdown(Stop::Drain)).await;

    assert_eq!(report.reason, StopReason::Requested(Stop::Drain));
}

// --- of a single module

#[tokio::test]
async fn a_factory_that_panics_when_it_is_dropped_does_not_cost_the_report() {
    let fragile = Bomb;
    let restart = PanicPolicy::restart(move || {
        let _ = &fragile;
        Handler
    });
    let module = module(Handler).on_panic(restart).spawn();

    let report = within(module.shutdown(Stop::Drain)).await;

    assert_eq!(report.reason, StopReason::Requested(Stop::Drain));
}

#[tokio::test]
async fn a_naming_function_that_panics_when_it_is_dropped_does_not_cost_the_report() {
    let fragile = Bomb;
    let name_of = move |_: &Message| {
        let _ = &fragile;
        "message"
    };
    let module = module(Handler).message_names(name_of).spawn();

    let report = within(module.shutdown(Stop::Drain)).await;

    assert_eq!(report.reason, StopReason::Requested(Stop::Drain));
}

// --- of a keyed set

#[tokio::test]
async fn a_message_without_a_key_that_panics_when_it_is_dropped_does_not_end_its_set() {
    let set = keyed(key_of, |key| handler_of(*key)).spawn();
    let dispatcher = set.dispatcher();

    let failed = within(dispatcher.request(bomb('?'))).await;
    let next = within(dispatcher.request(Message::Plain('a'))).await;

    assert_eq!(reason(failed), no_key());
    assert_eq!(next.expect("handled"), 'a');
    let report = within(set.shutdown(Stop::Drain)).await.report;
    assert_eq!(report.reason, StopReason::Requested(Stop::Drain));
    assert_eq!((report.stats.panicked, report.stats.accounted()), (1, 2));
}

#[tokio::test]
async fn messages_that_panic_when_no_module_can_be_made_are_all_given_back_and_free_their_room() {
    let returned = Log::default();
    let returning = returned.clone();
    let set = keyed(key_of, |key| handler_of(*key))
        .capacity(4)
        .live_max(1)
        .drop_abandoned()
        .undelivered(move |command: Message| {
            returning.push("undelivered");
            drop(command);
        })
        .spawn();
    let dispatcher = set.dispatcher();
    for _ in 0..8 {
        let held = Arc::new(Notify::new());
        let running = queued(dispatcher.request(Message::Hold('a', Arc::clone(&held))));
        within(held.notified()).await;
        let asked = [(); 2].map(|()| queued(dispatcher.request(bomb('!'))));
        assert!(dispatcher.try_command(bomb('!')).is_ok());
        let last = queued(dispatcher.request(bomb('!')));
        until(|| set.population().waiting > 0).await;

        drop(running);

        for asked in asked.into_iter().chain([last]) {
            assert_eq!(reason(within(asked).await), SparkChannelError::Unavailable);
        }
    }
    let next = within(dispatcher.request(Message::Plain('a'))).await;

    assert_eq!(next.expect("handled"), 'a');
    let report = within(set.shutdown(Stop::Drain)).await.report;
    assert_eq!((report.stats.returned, report.stats.undelivered), (24, 8));
    assert_eq!(
        (report.stats.interrupted, report.stats.accounted()),
        (8, 41)
    );
    assert_eq!(returned.lines().len(), 8);
}

#[tokio::test(start_paused = true)]
async fn messages_that_panic_when_a_set_is_cut_off_are_all_given_back() {
    for stop in [Stop::Drain, Stop::AfterCurrent, Stop::Now] {
        let set = keyed(key_of, |key| handler_of(*key))
            .capacity(4)
            .live_max(1)
            .spawn();
        let dispatcher = set.dispatcher();
        let held = Arc::new(Notify::new());
        let running = queued(dispatcher.request(Message::Hold('a', Arc::clone(&held))));
        within(held.notified()).await;
        // Behind the one that is held, for other keys, and in the mailbox.
        let mut waiting = Vec::new();
        for key in ['a', 'b', 'b', 'c', 'd', 'd', 'd', 'd'] {
            waiting.push(queued(dispatcher.request(bomb(key))));
            yield_now().await;
        }

        let report = within(set.shutdown_within(stop, SECOND)).await.report;

        assert_eq!(report.reason, StopReason::Requested(stop));
        for waiting in waiting {
            assert_eq!(
                reason(within(waiting).await),
                SparkChannelError::ShuttingDown
            );
        }
        assert_eq!(reason(within(running).await), SparkChannelError::Cancelled);
        assert_eq!((report.stats.returned, report.stats.accounted()), (8, 9));
    }
}

// --- with a runtime that ends

/// Ends the runtime of a module while its handler is busy and messages that panic when they
/// are dropped wait wherever they can. More than one such panic would end the process.
fn check_aborted(spawn: impl FnOnce() -> HandleOf<Handler>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("the runtime starts");
    let watch = runtime.block_on(async {
        let module = spawn();
        let dispatcher = module.dispatcher();
        let held = Arc::new(Notify::new());
        let _running = queued(dispatcher.request(Message::Hold('a', Arc::clone(&held))));
        within(held.notified()).await;
        for _ in 0..8 {
            assert!(dispatcher.try_command(bomb('a')).is_ok());
            assert!(dispatcher.try_command(bomb('b')).is_ok());
            yield_now().await;
        }
        module.watch()
    });

    drop(runtime);

    let report = watch.report().expect("ended");
    assert_eq!(report.reason, StopReason::Aborted);
}

#[test]
fn messages_that_panic_when_the_runtime_of_their_module_ends_do_not_end_the_process() {
    check_aborted(|| module(Handler).spawn());
    check_aborted(|| module(Handler).without_direct_calls().spawn());
    check_aborted(|| module(Handler).overflow(Overflow::Reject).spawn());
}

#[test]
fn messages_that_panic_when_the_runtime_of_their_pool_ends_do_not_end_the_process() {
    let busy = |message: &Message| matches!(message, Message::Plain(_));
    check_aborted(|| pool(1, || Handler).spawn());
    check_aborted(|| pool(2, || Handler).by_key(busy).spawn());
    check_aborted(|| pool(2, || Handler).capacity(8).by_key(busy).spawn());
}

#[test]
fn messages_that_panic_when_the_runtime_of_their_set_ends_do_not_end_the_process() {
    let set = || keyed(key_of, |key| handler_of(*key)).live_max(1);
    check_aborted(|| set().spawn().into_module());
    check_aborted(|| set().capacity(8).spawn().into_module());
}
