//! The two handler traits, the hooks they share, and loops written by hand.

use std::sync::Arc;

use spark_channel::{
    AsyncTraitHandler, CallbackWrapper, ModuleHandle, NativeHandler, SparkChannelCancellationToken,
    SparkChannelCancellationTrait, SparkChannelError, SparkGenericModuleDispatcher,
    SparkGenericModuleHandler, SparkGenericModuleMessage, Stop, StopReason, async_trait, module,
    run_module_server, spawn_module,
};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::{Duration, Instant},
};

use crate::support::{Gate, Log, queued, reason, within};

mod support;

type Handle = ModuleHandle<String, String>;

/// The same behaviour by either trait: each call writes a line.
struct Both(Log);

impl Both {
    fn write(&self, hook: &str, message: &str) -> eyre::Result<String> {
        self.0.push(format!("{hook} {message}"));
        eyre::ensure!(message != "fail", "told to fail");
        Ok(format!("re: {message}"))
    }
}

impl NativeHandler for Both {
    type Message = String;
    type Response = String;
    type Error = eyre::Report;

    async fn handle_request(&mut self, message: String) -> eyre::Result<String> {
        self.write("request", &message)
    }

    async fn handle_command(&mut self, message: String) -> eyre::Result<()> {
        self.write("command", &message).map(drop)
    }

    async fn started(&mut self) -> eyre::Result<()> {
        self.write("started", "").map(drop)
    }

    async fn stopped(&mut self) {
        self.0.push("stopped");
    }

    async fn undelivered(&mut self, command: String) {
        self.0.push(format!("undelivered {command}"));
    }

    fn command_failed(&mut self, error: eyre::Report) {
        self.0.push(format!("failed: {error}"));
    }
}

#[async_trait]
impl SparkGenericModuleHandler<String, String> for Both {
    async fn handle_request(&mut self, message: String) -> eyre::Result<String> {
        self.write("request", &message)
    }

    async fn handle_command(&mut self, message: String) -> eyre::Result<()> {
        self.write("command", &message).map(drop)
    }

    async fn started(&mut self) -> eyre::Result<()> {
        self.write("started", "").map(drop)
    }

    async fn stopped(&mut self) {
        self.0.push("stopped");
    }

    async fn undelivered(&mut self, command: String) {
        self.0.push(format!("undelivered {command}"));
    }

    fn command_failed(&mut self, error: eyre::Report) {
        self.0.push(format!("failed: {error}"));
    }
}

#[tokio::test]
async fn both_traits_make_the_same_module() {
    let native = |log: Log| -> Handle { module(NativeOnly(Both(log))).spawn() };
    let adapted = |log: Log| -> Handle {
        module(AsyncTraitHandler::<_, String, String>::new(Both(log))).spawn()
    };
    let starts: [&dyn Fn(Log) -> Handle; 2] = [&native, &adapted];
    for start in starts {
        let log = Log::default();
        let module = start(log.clone());
        let dispatcher = module.dispatcher();

        let answered = within(dispatcher.request("a")).await;
        let failed = within(dispatcher.request("fail")).await;
        within(dispatcher.command("fail")).await.expect("room");
        within(dispatcher.request("b")).await.expect("handled");
        dispatcher.try_command("late").expect("room");
        within(module.shutdown(Stop::AfterCurrent)).await;

        assert_eq!(answered.expect("handled"), "re: a");
        assert_eq!(failed.expect_err("failed").to_string(), "told to fail");
        let lines = [
            "started ",
            "request a",
            "request fail",
            "command fail",
            "failed: told to fail",
            "request b",
            "undelivered late",
            "stopped",
        ];
        assert_eq!(log.lines(), lines);
    }
}

/// Passes on to the native half of [`Both`], and has no other.
struct NativeOnly(Both);

impl NativeHandler for NativeOnly {
    type Message = String;
    type Response = String;
    type Error = eyre::Report;

    fn handle_request(
        &mut self,
        message: String,
    ) -> impl Future<Output = eyre::Result<String>> + Send {
        NativeHandler::handle_request(&mut self.0, message)
    }

    fn handle_command(&mut self, message: String) -> impl Future<Output = eyre::Result<()>> + Send {
        NativeHandler::handle_command(&mut self.0, message)
    }

    fn started(&mut self) -> impl Future<Output = eyre::Result<()>> + Send {
        NativeHandler::started(&mut self.0)
    }

    fn stopped(&mut self) -> impl Future<Output = ()> + Send {
        NativeHandler::stopped(&mut self.0)
    }

    fn undelivered(&mut self, command: String) -> impl Future<Output = ()> + Send {
        NativeHandler::undelivered(&mut self.0, command)
    }

    fn command_failed(&mut self, error: eyre::Report) {
        NativeHandler::command_failed(&mut self.0, error);
    }
}

#[tokio::test]
async fn both_traits_run_on_a_channel_of_ones_own() {
    let (sender, receiver) = mpsc::channel(4);
    let native = SparkGenericModuleDispatcher::<String, String>::new(sender);
    tokio::spawn(run_module_server(
        NativeOnly(Both(Log::default())),
        receiver,
    ));
    let (sender, receiver) = mpsc::channel(4);
    let boxed = SparkGenericModuleDispatcher::<String, String>::new(sender);
    let handler = AsyncTraitHandler::<_, String, String>::new(Both(Log::default()));
    tokio::spawn(run_module_server(handler, receiver));

    for dispatcher in [native, boxed] {
        let answered = within(dispatcher.request("a")).await;
        assert_eq!(answered.expect("handled"), "re: a");
    }
}

/// Whether a handler without hooks starts, handles and stops.
struct Bare;

#[async_trait]
impl SparkGenericModuleHandler<u8, u8> for Bare {
    async fn handle_request(&mut self, message: u8) -> eyre::Result<u8> {
        Ok(message)
    }

    async fn handle_command(&mut self, _: u8) -> eyre::Result<()> {
        eyre::bail!("nobody hears this")
    }
}

#[tokio::test]
async fn the_hooks_are_optional() {
    let module = spawn_module(Bare);
    let dispatcher = module.dispatcher();
    assert_eq!(within(dispatcher.request(7)).await.expect("handled"), 7);
    within(dispatcher.command(1)).await.expect("room");
    within(dispatcher.request(7)).await.expect("handled");
    dispatcher.try_command(2).expect("room");

    let report = within(module.shutdown(Stop::AfterCurrent)).await;

    assert_eq!((report.stats.failed, report.stats.undelivered), (1, 1));
}

/// Fails as it starts.
struct Stillborn(Log);

#[async_trait]
impl SparkGenericModuleHandler<String, String> for Stillborn {
    async fn handle_request(&mut self, message: String) -> eyre::Result<String> {
        Ok(message)
    }

    async fn handle_command(&mut self, _: String) -> eyre::Result<()> {
        Ok(())
    }

    async fn started(&mut self) -> eyre::Result<()> {
        eyre::bail!("no disk")
    }

    async fn stopped(&mut self) {
        self.0.push("stopped");
    }

    async fn undelivered(&mut self, command: String) {
        self.0.push(format!("undelivered {command}"));
    }

    fn command_failed(&mut self, error: eyre::Report) {
        self.0.push(format!("failed: {error}"));
    }
}

#[tokio::test]
async fn a_start_that_fails_gives_back_what_is_queued_and_ends_the_module() {
    let log = Log::default();
    let module = spawn_module(Stillborn(log.clone()));
    let dispatcher = module.dispatcher();
    let asked = queued(dispatcher.request("asked"));
    within(dispatcher.command("told")).await.expect("room");

    let report = within(module.wait()).await;

    assert_eq!(report.reason, StopReason::StartFailed);
    assert_eq!(reason(within(asked).await), SparkChannelError::ShuttingDown);
    let lines = ["failed: no disk", "undelivered told", "stopped"];
    assert_eq!(log.lines(), lines);
}

// --- tokens of one's own

struct Told(Arc<Notify>);

impl SparkChannelCancellationTrait for Told {
    fn cancel_execution(&self) {
        self.0.notify_one();
    }
}

struct Panicking;

impl SparkChannelCancellationTrait for Panicking {
    fn cancel_execution(&self) {
        panic!("cancelled");
    }
}

#[tokio::test]
async fn a_module_takes_shutdown_messages_with_a_token_of_ones_own() {
    let told = Arc::new(Notify::new());
    let module = module(Gate::opened().module())
        .cancellation_token::<Told>()
        .spawn();
    let sender = module.dispatcher().sender;

    let shutdown = SparkGenericModuleMessage::Shutdown(Told(Arc::clone(&told)));
    within(sender.send(shutdown)).await.expect("room");

    within(told.notified()).await;
    let report = within(module.wait()).await;
    assert_eq!(report.reason, StopReason::ShutdownMessage);
}

#[tokio::test]
async fn a_token_that_panics_does_not_cost_the_report() {
    let module = module(Gate::opened().module())
        .cancellation_token::<Panicking>()
        .spawn();
    let sender = module.dispatcher().sender;

    let shutdown = SparkGenericModuleMessage::Shutdown(Panicking);
    within(sender.send(shutdown)).await.expect("room");

    let report = within(module.wait()).await;
    assert_eq!(report.reason, StopReason::ShutdownMessage);
}

#[test]
fn the_default_token_is_the_one_of_tokio_util() {
    let token = SparkChannelCancellationToken::new();
    let (copy, inner) = (token.clone(), token.inner().clone());

    token.cancel_execution();

    assert!(copy.into_inner().is_cancelled() && inner.is_cancelled());
    let converted = SparkChannelCancellationToken::from(inner);
    assert!(converted.0.is_cancelled());
}

// --- loops written by hand

#[tokio::test]
async fn a_loop_written_by_hand_reads_messages_apart_and_answers() {
    let (sender, mut receiver) = mpsc::channel(4);
    let dispatcher = SparkGenericModuleDispatcher::<String, usize>::new(sender);
    let server = tokio::spawn(async move {
        let mut told = Vec::new();
        while let Some(message) = receiver.recv().await {
            match message {
                SparkGenericModuleMessage::Request(wrapper) => {
                    let CallbackWrapper {
                        message, sender, ..
                    } = wrapper;
                    let _ = sender.send(Ok(message.len()));
                }
                SparkGenericModuleMessage::Command(message) => told.push(message),
                SparkGenericModuleMessage::Shutdown(token) => token.cancel_execution(),
            }
        }
        told
    });

    let answered = within(dispatcher.request("four")).await;
    let sent = within(dispatcher.send_command::<_, eyre::Result<()>>("told")).await;
    let token = SparkChannelCancellationToken::new();
    let shutdown = SparkGenericModuleMessage::Shutdown(token.clone());
    within(dispatcher.sender.send(shutdown))
        .await
        .expect("room");
    within(token.inner().cancelled()).await;

    drop(dispatcher);
    assert_eq!(answered.expect("handled"), 4);
    assert!(sent.is_ok());
    assert_eq!(within(server).await.expect("ended"), ["told"]);
}

#[tokio::test(start_paused = true)]
async fn a_loop_written_by_hand_can_read_the_deadline() {
    let (sender, mut receiver) = mpsc::channel(4);
    let dispatcher = SparkGenericModuleDispatcher::<String, usize>::new(sender);
    let at = Instant::now() + Duration::from_secs(5);
    let mut deadline = async || match within(receiver.recv()).await {
        Some(SparkGenericModuleMessage::Request(wrapper)) => wrapper.deadline(),
        other => panic!("not a request: {other:?}"),
    };

    let _limited = queued(dispatcher.request("a").deadline(at));
    let limited = deadline().await.expect("it has one");
    let _unlimited = queued(dispatcher.request("b"));
    let unlimited = deadline().await;

    // It travels in units of 15 µs.
    assert!(limited <= at && at - limited < Duration::from_micros(16));
    assert_eq!(unlimited, None);
}

#[tokio::test]
async fn a_request_made_by_hand_is_handled_like_any_other() {
    let module = spawn_module(Gate::opened().module());
    let (answer, answered) = oneshot::channel();
    let wrapper = CallbackWrapper::new(String::from("by hand"), answer);

    let request = SparkGenericModuleMessage::Request(wrapper);
    let sender = module.dispatcher().sender;
    within(sender.send(request)).await.expect("room");

    let answer = within(answered).await.expect("answered");
    assert_eq!(answer.expect("handled"), "by hand");
}
