//! Hooks of a reader-writer module run alone, whatever ran before them: who waits for the module
//! meanwhile waits for the hook.

use std::sync::{Arc, OnceLock};

use reading::{Dispatcher, Message, Work, doing, panicking, read, settle};
use spark_channel::{
    Access, HandleOf, PanicPolicy, ReaderWriterBuilder, ReaderWriterHandler, SparkChannelError,
    Stop, module, reader_writer,
};
use support::{Gate, Job, Log, Runner, job, queued, reason, until, within};

#[path = "support/reading.rs"]
mod reading;
mod support;

/// Does the work it is sent, and that of its hooks.
#[derive(Clone, Default)]
struct Hooked {
    hook: Arc<OnceLock<Hook>>,
    log: Log,
}

type Hook = Box<dyn Fn() -> Work + Send + Sync>;

// === impl Hooked ===

impl Hooked {
    fn builder(&self) -> ReaderWriterBuilder<Self> {
        reader_writer(self.clone()).name("hooked")
    }

    /// From now on, every hook asks for `what`.
    fn hooks_ask(&self, runner: &HandleOf<Runner>, what: impl Fn() -> Job + Send + Sync + 'static) {
        let runner = runner.dispatcher();
        let hook = move || -> Work {
            let (runner, what) = (runner.clone(), what());
            Box::pin(async move { Ok(runner.request(what).await?.to_string()) })
        };
        assert!(self.hook.set(Box::new(hook)).is_ok(), "set once");
    }

    async fn run_hook(&self, name: &str) {
        if let Some(hook) = self.hook.get() {
            let ended = hook().await.unwrap_or_else(|error| error.to_string());
            self.log.push(format!("{name}: {ended}"));
        }
    }
}

impl ReaderWriterHandler for Hooked {
    type Message = Message;
    type Response = String;
    type Error = eyre::Report;

    fn access(message: &Message) -> Access {
        message.access.expect("told to panic")
    }

    async fn handle_read(&self, message: Message) -> eyre::Result<String> {
        message.work.await
    }

    async fn handle_write(&mut self, message: Message) -> eyre::Result<String> {
        message.work.await
    }

    async fn handle_command(&mut self, message: Message) -> eyre::Result<()> {
        message.work.await.map(drop)
    }

    async fn started(&mut self) -> eyre::Result<()> {
        self.run_hook("started").await;
        Ok(())
    }

    async fn undelivered(&mut self, _: Message) {
        self.run_hook("undelivered").await;
    }
}

fn empty_read() -> Message {
    doing(Access::Read, async { Ok(String::new()) })
}

/// Asks for a read of a module whose hook may run, and wants no answer.
fn asks_back(hooked: &Dispatcher, log: &Log) -> Job {
    let (hooked, log) = (hooked.clone(), log.clone());
    job(async move {
        let asked = hooked.request(empty_read()).await;
        log.push(format!("asked back: {}", describe_end(asked)));
        Ok(1)
    })
}

fn describe_end(asked: eyre::Result<String>) -> &'static str {
    match asked.map_err(|error| reason::<()>(Err(error))) {
        Ok(_) => "answered",
        Err(SparkChannelError::WouldDeadlock { .. }) => "would deadlock",
        Err(SparkChannelError::ShuttingDown) => "shutting down",
        Err(_) => "another error",
    }
}

// --- after a panic

#[tokio::test(start_paused = true)]
async fn a_handler_that_starts_after_a_read_panicked_asks_who_asks_back_and_would_deadlock() {
    for direct_calls in [true, false] {
        let hooked = Hooked::default();
        let fresh = hooked.clone();
        let mut builder = hooked
            .builder()
            .on_panic(PanicPolicy::restart(move || fresh.clone()));
        if !direct_calls {
            builder = builder.without_direct_calls();
        }
        let module_hooked = builder.spawn();
        let runner = module(Runner).spawn();
        settle().await;
        let dispatcher = module_hooked.dispatcher();
        let (back, log) = (module_hooked.dispatcher(), hooked.log.clone());
        hooked.hooks_ask(&runner, move || asks_back(&back, &log));

        let panicked = within(dispatcher.request(panicking(Access::Read))).await;
        let panicked = reason(panicked);
        assert!(matches!(panicked, SparkChannelError::Panicked { .. }));
        until(|| hooked.log.lines().len() == 2).await;
        assert_eq!(
            hooked.log.take(),
            ["asked back: would deadlock", "started: 1"]
        );
        within(dispatcher.request(empty_read())).await.unwrap();
    }
}

// --- while it stops

#[tokio::test(start_paused = true)]
async fn a_hook_after_a_read_asks_who_waits_behind_its_command_and_would_deadlock() {
    for reads_before in [0, 1, 2] {
        for direct_calls in [true, false] {
            let hooked = Hooked::default();
            let mut builder = hooked.builder();
            if !direct_calls {
                builder = builder.without_direct_calls();
            }
            let module_hooked = builder.spawn();
            let runner = module(Runner).spawn();
            settle().await;
            let dispatcher = module_hooked.dispatcher();
            hooked.hooks_ask(&runner, || job(async { Ok(2) }));
            for _ in 0..reads_before {
                within(dispatcher.request(empty_read())).await.unwrap();
            }

            dispatcher
                .try_command(read(&Gate::opened(), "left"))
                .unwrap();
            let to_runner = runner.dispatcher();
            let waits = queued(to_runner.request(asks_back(&dispatcher, &hooked.log)));
            let report = within(module_hooked.shutdown(Stop::AfterCurrent)).await;

            assert!(!report.deadline_passed, "{report:?}");
            within(waits).await.unwrap();
            let [undelivered, back] = &*hooked.log.take() else {
                panic!("one hook, and one that asked back");
            };
            assert!(undelivered.contains("deadlock"), "{undelivered}");
            assert_eq!(back, "asked back: shutting down");
        }
    }
}
