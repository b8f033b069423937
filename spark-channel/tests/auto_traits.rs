//! Which auto traits the public types and futures have. Losing one breaks callers
//! far away; so does gaining a bound.

use std::{
    cell::Cell,
    future::Future,
    panic::{RefUnwindSafe, UnwindSafe},
    sync::Arc,
};

use spark_channel::{
    AsyncTraitHandler, Attached, CallbackSender, CallbackWrapper, Class, ClassStats, Detached,
    Factory, ModuleBuilder, ModuleHandle, ModuleTasks, NativeHandler, PanicPolicy, Refused, Reply,
    Report, Request, SparkChannelCancellationToken, SparkChannelError,
    SparkGenericModuleDispatcher, SparkGenericModuleMessage, Stage, Stats, Stop, StopReason,
    TaskStats, Tick, WeakDispatcher, current, run_module_server,
};
use static_assertions::{assert_impl_all, assert_not_impl_any};
use tokio::sync::mpsc;

/// The least a message can be: it can be sent, and nothing else.
struct Lonely(Cell<u8>);

/// What cannot even be sent.
struct Stuck(*const u8);

struct Handler(Cell<u8>);

impl NativeHandler for Handler {
    type Message = Lonely;
    type Response = Lonely;
    type Error = eyre::Report;

    async fn handle_request(&mut self, message: Lonely) -> eyre::Result<Lonely> {
        self.0.set(message.0.get());
        Ok(message)
    }

    async fn handle_command(&mut self, _: Lonely) -> eyre::Result<()> {
        Ok(())
    }
}

type Dispatcher = SparkGenericModuleDispatcher<Lonely, Lonely>;

assert_not_impl_any!(Lonely: Clone, Sync);
assert_not_impl_any!(Stuck: Send, Sync);

// Addresses: sent and shared, whatever they carry.
assert_impl_all!(Dispatcher: Send, Sync, Unpin, Clone);
assert_impl_all!(WeakDispatcher<Lonely, Lonely>: Send, Sync, Unpin, Clone);
assert_impl_all!(ModuleHandle<Lonely, Lonely>: Send, Sync, Unpin);
assert_not_impl_any!(ModuleHandle<Lonely, Lonely>: Clone);
assert_not_impl_any!(SparkGenericModuleDispatcher<Stuck, Lonely>: Send, Sync);

// What travels: sent, not shared.
assert_impl_all!(SparkGenericModuleMessage<Lonely, Lonely>: Send, Unpin);
assert_not_impl_any!(SparkGenericModuleMessage<Lonely, Lonely>: Sync, Clone);
assert_impl_all!(SparkGenericModuleMessage<u8, u8>: Send, Sync);
assert_impl_all!(CallbackWrapper<Lonely, Lonely>: Send, Unpin);
assert_impl_all!(CallbackSender<Lonely>: Send, Sync, Unpin);
assert_impl_all!(Refused<Lonely>: Send, Unpin, std::error::Error);
assert_impl_all!(Refused<u8>: Send, Sync);

// A request: moved to the task that awaits it, pinned there.
assert_impl_all!(Request<'static, Lonely, Lonely>: Send, Future);
assert_not_impl_any!(Request<'static, Lonely, Lonely>: Sync, Unpin, Clone);
assert_not_impl_any!(Request<'static, Stuck, Lonely>: Send);

// A deferred reply: sent to whoever answers, and kept by handlers.
assert_impl_all!(Reply<Lonely>: Send, Unpin);
assert_not_impl_any!(Reply<Lonely>: Clone);
assert_impl_all!(Reply<u8>: Sync);

// What a handler or an owner keeps.
assert_impl_all!(ModuleTasks: Send, Sync, Unpin);
assert_impl_all!(Attached: Send, Sync, Unpin);
assert_impl_all!(Tick: Send, Sync, Unpin);

// Settings.
assert_impl_all!(ModuleBuilder<Handler>: Send, Unpin);
assert_impl_all!(PanicPolicy<Handler>: Send, Sync, Unpin, Clone);
assert_impl_all!(Factory<Handler>: Send, Sync, Unpin, Clone);
assert_impl_all!(AsyncTraitHandler<u8, Stuck, Stuck, Stuck>: Send, Sync, Unpin);

// Plain data.
assert_impl_all!(SparkChannelError: Send, Sync, Unpin, Clone, UnwindSafe, RefUnwindSafe, std::error::Error);
assert_impl_all!(Stage: Send, Sync, Unpin, Copy, UnwindSafe, RefUnwindSafe);
assert_impl_all!(Stop: Send, Sync, Unpin, Copy, UnwindSafe, RefUnwindSafe);
assert_impl_all!(StopReason: Send, Sync, Unpin, Copy, UnwindSafe, RefUnwindSafe);
assert_impl_all!(TaskStats: Send, Sync, Unpin, Copy, UnwindSafe, RefUnwindSafe);
assert_impl_all!(Detached: Send, Sync, Unpin, Clone, UnwindSafe, RefUnwindSafe);
assert_impl_all!(Stats: Send, Sync, Unpin, Copy, UnwindSafe, RefUnwindSafe);
assert_impl_all!(Class: Send, Sync, Unpin, Copy, UnwindSafe, RefUnwindSafe);
assert_impl_all!(ClassStats: Send, Sync, Unpin, Copy, UnwindSafe, RefUnwindSafe);
assert_impl_all!(Report: Send, Sync, Unpin, Clone, UnwindSafe, RefUnwindSafe);
assert_impl_all!(SparkChannelCancellationToken: Send, Sync, Unpin, Clone);

fn sent<T: Send>(value: T) -> T {
    value
}

#[tokio::test]
async fn the_futures_of_a_dispatcher_can_be_sent() {
    let (sender, receiver) = mpsc::channel(4);
    let dispatcher = Arc::new(Dispatcher::new(sender));
    let message = || Lonely(Cell::new(7));

    let server = tokio::spawn(sent(run_module_server(Handler(Cell::new(0)), receiver)));
    let told = sent(dispatcher.command(message())).await;
    let told_again = sent(dispatcher.send_command::<_, eyre::Result<()>>(message())).await;
    let answered = sent(dispatcher.request(message())).await;

    assert!(told.is_ok() && told_again.is_ok());
    assert_eq!(answered.expect("handled").0.get(), 7);
    drop(sent(dispatcher.ask_with(|_: Reply<Lonely>| message())));
    drop(sent(dispatcher.closed()));
    drop(sent(current::cancelled()));
    drop(dispatcher);
    assert_eq!(server.await.expect("ended").stats.handled, 3);
}

#[tokio::test]
async fn the_futures_of_a_handle_can_be_sent() {
    let stopped = spark_channel::spawn_module(Handler(Cell::new(0)));
    let stopped_within = spark_channel::spawn_module(Handler(Cell::new(0)));
    let ended = spark_channel::spawn_module(Handler(Cell::new(0)));

    let stopped = tokio::spawn(stopped.shutdown(Stop::Drain));
    let limit = std::time::Duration::from_secs(1);
    let stopped_within = tokio::spawn(stopped_within.shutdown_within(Stop::Now, limit));
    let ended = tokio::spawn(ended.wait());

    assert!(stopped.await.is_ok() && stopped_within.await.is_ok() && ended.await.is_ok());
}

#[test]
fn what_awaits_a_request_inside_of_a_handler_can_be_sent() {
    // A handler's future has to be, and holds the request.
    async fn handler_that_asks(dispatcher: &Dispatcher) {
        let _ = dispatcher.request(Lonely(Cell::new(1))).await;
    }
    let (sender, _receiver) = mpsc::channel(1);
    let dispatcher = Dispatcher::new(sender);
    drop(sent(handler_that_asks(&dispatcher)));
    let _ = Stuck(std::ptr::null()).0;
}
