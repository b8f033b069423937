//! A keyed set whose modules log what happens to them.

#![allow(dead_code, reason = "each test file uses another part of this one")]

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use spark_channel::{KeyedBuilder, NativeHandler, SparkGenericModuleDispatcher, current, keyed};

use crate::support::{Gate, Log, within};

/// What the grains of a test share.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) log: Log,
    /// Where grains hold messages that end with `held`.
    pub(crate) gate: Gate,
    /// Where they stop.
    pub(crate) stopping: Gate,
    /// Whether those of the key `x` fail to start.
    pub(crate) x_fails: Arc<AtomicBool>,
    /// Whether those of the key `!` cannot be made.
    pub(crate) none_is_made: Arc<AtomicBool>,
    /// What they send commands to, on being told to `tell`.
    pub(crate) set: Arc<std::sync::OnceLock<SparkGenericModuleDispatcher<String, u64>>>,
}

/// Logs what happens to it as `key event`; answers with how many messages it has seen.
pub(crate) struct Grain {
    key: char,
    seen: u64,
    world: World,
}

// === impl World ===

impl World {
    pub(crate) fn new() -> Self {
        Self {
            log: Log::default(),
            gate: Gate::closed(),
            stopping: Gate::opened(),
            x_fails: Arc::default(),
            none_is_made: Arc::new(AtomicBool::new(true)),
            set: Arc::default(),
        }
    }

    /// A set by the first letter of messages.
    pub(crate) fn grains(&self) -> KeyedBuilder<char, Grain> {
        let world = self.clone();
        keyed(
            |message: &String| message.chars().next().expect("a key"),
            move |key| {
                let none_is_made = *key == '!' && world.none_is_made.load(Ordering::SeqCst);
                assert!(!none_is_made, "no such grain");
                Grain {
                    key: *key,
                    seen: 0,
                    world: world.clone(),
                }
            },
        )
    }
}

// === impl Grain ===

impl Grain {
    fn log(&self, line: &str) {
        self.world.log.push(format!("{} {line}", self.key));
    }

    async fn see(&mut self, message: &str) -> eyre::Result<u64> {
        self.log(&message[1..]);
        if message.ends_with("held") {
            self.world.gate.pass(message).await?;
        }
        if message.ends_with("tell") {
            let set = self.world.set.get().expect("known");
            if let Err(refused) = within(set.command("told")).await {
                self.log(&format!("refused: {refused}"));
            }
        }
        if let Some(at) = current::deadline().filter(|_| message.ends_with("deadline")) {
            let left = at - tokio::time::Instant::now();
            self.log(&format!("has {} s", left.as_secs_f32().round()));
        }
        assert!(!message.ends_with("panic"), "told to panic");
        self.seen += 1;
        Ok(self.seen)
    }
}

impl NativeHandler for Grain {
    type Message = String;
    type Response = u64;
    type Error = eyre::Report;

    async fn handle_request(&mut self, message: String) -> eyre::Result<u64> {
        self.see(&message).await
    }

    async fn handle_command(&mut self, message: String) -> eyre::Result<()> {
        self.see(&message).await.map(drop)
    }

    async fn started(&mut self) -> eyre::Result<()> {
        self.log("started");
        let fails = self.key == 'x' && self.world.x_fails.load(Ordering::SeqCst);
        eyre::ensure!(!fails, "told to fail");
        Ok(())
    }

    async fn stopped(&mut self) {
        let _ = self.world.stopping.pass("stopping").await;
        self.log("stopped");
    }

    async fn undelivered(&mut self, command: String) {
        self.log(&format!("undelivered {}", &command[1..]));
    }
}

/// The answer to a request that succeeds.
pub(crate) async fn ask(
    dispatcher: &SparkGenericModuleDispatcher<String, u64>,
    message: &str,
) -> u64 {
    within(dispatcher.request(message)).await.expect("handled")
}
