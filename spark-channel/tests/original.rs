//! What the original (spark-channel 0.0.3) got wrong: one test per fault, each of
//! which that release would fail to compile or to pass.

use std::{cell::Cell, sync::Arc};

use spark_channel::{
    NativeHandler, SparkChannelCancellationToken, SparkChannelCancellationTrait, SparkChannelError,
    SparkGenericModuleDispatcher, SparkGenericModuleHandler, SparkGenericModuleMessage,
    async_trait, module, run_module_server, spawn_module,
};
use static_assertions::{assert_impl_all, assert_not_impl_any};
use tokio::sync::{Notify, mpsc};

use crate::support::{Gate, Runner, job, queued, reason, within};

mod support;

// --- the bounds

struct Opaque;

struct Answers<R>(fn() -> R);

#[async_trait]
impl<R: Send + 'static> SparkGenericModuleHandler<(), R> for Answers<R> {
    async fn handle_request(&mut self, (): ()) -> Result<R, eyre::Error> {
        Ok(self.0())
    }

    async fn handle_command(&mut self, (): ()) -> Result<(), eyre::Error> {
        Ok(())
    }
}

async fn answered<R: Send + 'static>(answer: fn() -> R) -> R {
    let (sender, receiver) = mpsc::channel(32);
    let dispatcher = SparkGenericModuleDispatcher::<(), R>::new(sender);
    tokio::spawn(run_module_server(Answers(answer), receiver));
    within(dispatcher.request(())).await.expect("answered")
}

#[tokio::test]
async fn the_error_type_is_eyre_error_and_a_response_is_any_type_that_can_be_sent() {
    let Opaque = answered(|| Opaque).await;
    let () = answered(|| ()).await;
    assert_eq!(answered(|| String::from("text")).await, "text");
    assert_eq!(answered(|| vec![1_u8, 2]).await, [1, 2]);
    assert_eq!(answered(|| Cell::new(7)).await.get(), 7);
}

#[test]
fn a_dispatcher_can_be_cloned_and_shared_whatever_its_messages_are() {
    struct Lonely(Cell<u8>);
    type Dispatcher = SparkGenericModuleDispatcher<Lonely, Lonely, Lonely, Lonely>;
    assert_not_impl_any!(Lonely: Clone, Sync);
    assert_impl_all!(Dispatcher: Clone, Send, Sync);
    let (sender, mut receiver) = mpsc::channel(1);
    let dispatcher = Dispatcher::new(sender);

    let sent = dispatcher.clone().try_command(Lonely(Cell::new(7)));

    assert!(sent.is_ok());
    let received = receiver.try_recv();
    assert!(matches!(received, Ok(SparkGenericModuleMessage::Command(Lonely(n))) if n.get() == 7));
}

// --- panics

#[tokio::test]
async fn a_panic_in_a_handler_is_an_error_for_its_caller_and_not_the_end_of_the_module() {
    let gate = Gate::opened();
    let (sender, receiver) = mpsc::channel(8);
    let dispatcher = SparkGenericModuleDispatcher::<String, String>::new(sender);
    tokio::spawn(run_module_server(gate.module(), receiver));

    let crashed = reason(within(dispatcher.request("panic")).await);
    let next = within(dispatcher.request("next")).await;

    let text = Arc::from("told to panic");
    assert_eq!(crashed, SparkChannelError::Panicked { text });
    assert_eq!(next.expect("handled"), "next");
}

// --- shutdown

struct SlowToStop {
    gate: Gate,
    stopping: Arc<Notify>,
    stop: Arc<Notify>,
}

impl NativeHandler for SlowToStop {
    type Message = String;
    type Response = String;
    type Error = eyre::Report;

    async fn handle_request(&mut self, message: String) -> eyre::Result<String> {
        self.gate.module().handle_request(message).await
    }

    async fn handle_command(&mut self, message: String) -> eyre::Result<()> {
        self.gate.module().handle_command(message).await
    }

    async fn stopped(&mut self) {
        self.stopping.notify_one();
        self.stop.notified().await;
    }
}

#[tokio::test]
async fn shutdown_answers_what_is_left_and_cancels_its_token_only_after_stopped() {
    let (gate, stopping, stop) = (Gate::closed(), Arc::new(Notify::new()), Arc::default());
    let (sender, receiver) = mpsc::channel(8);
    let dispatcher = SparkGenericModuleDispatcher::<String, String>::new(sender);
    let server = tokio::spawn(run_module_server(
        SlowToStop {
            gate: gate.clone(),
            stopping: Arc::clone(&stopping),
            stop: Arc::clone(&stop),
        },
        receiver,
    ));
    let token = SparkChannelCancellationToken::new();
    let running = queued(dispatcher.request("running"));
    let before = queued(dispatcher.request("before"));
    let shutdown = SparkGenericModuleMessage::Shutdown(token.clone());
    within(dispatcher.sender.send(shutdown))
        .await
        .expect("open");
    let behind = queued(dispatcher.request("behind"));

    gate.open();
    within(stopping.notified()).await;

    assert_eq!(within(running).await.expect("handled"), "running");
    assert_eq!(within(before).await.expect("handled"), "before");
    assert_eq!(
        reason(within(behind).await),
        SparkChannelError::ShuttingDown
    );
    assert!(!token.inner().is_cancelled(), "`stopped` still runs");
    stop.notify_one();
    within(token.inner().cancelled()).await;
    let report = within(server).await.expect("no panic");
    assert_eq!((report.stats.handled, report.stats.returned), (2, 1));
}

// --- self-calls, cycles, timeouts

#[tokio::test]
async fn a_module_that_asks_itself_gets_an_error() {
    let module = module(Runner).name("narcissus").spawn();
    let dispatcher = module.dispatcher();
    let again = dispatcher.clone();

    let asked = dispatcher.request(job(
        async move { again.request(job(async { Ok(1) })).await },
    ));

    let name: Arc<str> = "narcissus".into();
    let path = Arc::new([Arc::clone(&name), name]);
    assert_eq!(
        reason(within(asked).await),
        SparkChannelError::WouldDeadlock { path }
    );
}

#[tokio::test]
async fn a_cycle_of_two_modules_is_an_error_at_once() {
    let (ping, pong) = (spawn_module(Runner), spawn_module(Runner));
    let (to_ping, to_pong) = (ping.dispatcher(), pong.dispatcher());
    let back = to_ping.clone();
    let second = job(async move { back.request(job(async { Ok(1) })).await });
    let first = job(async move { to_pong.request(second).await });

    let asked = within(to_ping.request(first)).await;

    let error = reason(asked);
    assert!(
        matches!(error, SparkChannelError::WouldDeadlock { .. }),
        "{error}"
    );
    let freed = within(to_ping.request(job(async { Ok(2) }))).await;
    assert_eq!(freed.expect("both modules are free again"), 2);
}

// --- errors

#[derive(Debug, PartialEq, thiserror::Error)]
enum StockError {
    #[error("only {left} left")]
    SoldOut { left: u32 },
    #[error(transparent)]
    Call(#[from] SparkChannelError),
}

struct Stock;

#[async_trait]
impl SparkGenericModuleHandler<u32, u32, StockError> for Stock {
    async fn handle_request(&mut self, _: u32) -> Result<u32, StockError> {
        Err(StockError::SoldOut { left: 3 })
    }

    async fn handle_command(&mut self, _: u32) -> Result<(), StockError> {
        Ok(())
    }
}

#[tokio::test]
async fn a_handlers_error_reaches_its_caller_as_the_type_it_is() {
    let module = spawn_module(Runner);
    let dispatcher = module.dispatcher();

    let failing = job(async { Err(StockError::SoldOut { left: 1 }.into()) });
    let report = within(dispatcher.request(failing))
        .await
        .expect_err("sold out");

    let found = report.downcast_ref::<StockError>();
    assert_eq!(found, Some(&StockError::SoldOut { left: 1 }));
}

#[tokio::test]
async fn a_users_error_enum_is_a_modules_error_and_has_an_into_result() {
    let (sender, receiver) = mpsc::channel(8);
    type Dispatcher =
        SparkGenericModuleDispatcher<u32, u32, SparkChannelCancellationToken, StockError>;
    let dispatcher = Dispatcher::new(sender);
    let server = tokio::spawn(run_module_server(Stock, receiver));

    let asked = within(dispatcher.request(1_u32)).await;
    let sent = within(dispatcher.send_command::<_, Result<(), StockError>>(1_u32)).await;
    server.abort();
    within(dispatcher.closed()).await;
    let refused = within(dispatcher.send_command::<_, Result<(), StockError>>(1_u32)).await;
    let widened = within(dispatcher.send_command::<_, eyre::Result<()>>(1_u32)).await;

    assert_eq!(asked, Err(StockError::SoldOut { left: 3 }));
    assert_eq!(sent, Ok(()));
    assert_eq!(refused, Err(StockError::Call(SparkChannelError::Closed)));
    let widened = widened.expect_err("closed").downcast::<StockError>();
    assert!(matches!(widened, Ok(StockError::Call(_))));
}

#[tokio::test]
async fn a_token_of_ones_own_is_cancelled_like_the_default_one() {
    struct Told(Arc<Notify>);
    impl SparkChannelCancellationTrait for Told {
        fn cancel_execution(&self) {
            self.0.notify_one();
        }
    }
    let told = Arc::new(Notify::new());
    let (sender, receiver) = mpsc::channel(8);
    let dispatcher = SparkGenericModuleDispatcher::<String, String, Told>::new(sender);
    let server = tokio::spawn(run_module_server(Gate::opened().module(), receiver));

    let shutdown = SparkGenericModuleMessage::Shutdown(Told(Arc::clone(&told)));
    within(dispatcher.sender.send(shutdown))
        .await
        .expect("open");

    within(told.notified()).await;
    assert_eq!(within(server).await.expect("ended").stats.shutdowns, 1);
}

// --- the manifest

#[test]
fn no_test_crate_and_no_whole_tokio_is_an_ordinary_dependency() {
    let manifest = include_str!("../Cargo.toml");
    let ordinary = manifest
        .split("\n[")
        .find_map(|section| section.strip_prefix("dependencies]"))
        .expect("a section of dependencies");

    let tokio = ordinary
        .lines()
        .find(|line| line.starts_with("tokio ="))
        .expect("tokio is one of them");
    assert!(!tokio.contains("full") && !tokio.contains("test-util"));
    let for_tests = [
        "tracing-test",
        "tokio-test",
        "proptest",
        "static_assertions",
    ];
    let found: Vec<_> = for_tests
        .into_iter()
        .filter(|name| ordinary.contains(name))
        .collect();
    assert!(found.is_empty(), "{found:?}");
}
