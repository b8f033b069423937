//! What is served. None of it knows of HTTP.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use spark_channel::{
    ModuleHandle, NativeHandler, Report, SparkChannelCancellationToken, SparkChannelError, Stop,
    Topic, module, pool,
};

/// Every module of the program, by its route.
pub(crate) struct Modules {
    pub(crate) echo: ModuleHandle<String, String>,
    pub(crate) fail: ModuleHandle<String, String>,
    pub(crate) panics: ModuleHandle<String, String>,
    pub(crate) slow: ModuleHandle<Duration, Duration>,
    pub(crate) sum: ModuleHandle<Summands, Sum, SparkChannelCancellationToken, SumError>,
    pub(crate) events: ModuleHandle<String, Published>,
    /// What `events` publishes.
    pub(crate) published: Topic<Event>,
}

/// What `sum` adds up.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Summands {
    a: i64,
    b: i64,
}

/// What comes of it.
#[derive(Debug, JsonSchema, Serialize)]
pub(crate) struct Sum {
    sum: i64,
}

/// Why nothing comes of it.
#[derive(Debug)]
pub(crate) enum SumError {
    /// It is no `i64` any more.
    TooLarge,
    /// The call failed.
    Call(SparkChannelError),
}

/// Something published.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Event {
    pub(crate) number: u64,
    pub(crate) text: String,
}

/// What `events` answers.
#[derive(Debug, Serialize)]
pub(crate) struct Published {
    pub(crate) number: u64,
}

struct Echo;

struct Fail;

struct Panics;

struct Slow;

struct Adder;

struct Events {
    topic: Topic<Event>,
    count: u64,
}

// === impl Modules ===

impl Modules {
    pub(crate) fn spawn() -> Self {
        let topic = Topic::new("events");
        let events = Events {
            topic: topic.clone(),
            count: 0,
        };
        Self {
            echo: module(Echo).name("echo").spawn(),
            fail: module(Fail).name("fail").spawn(),
            panics: module(Panics).name("panics").spawn(),
            // The route lets in one at a time; the module need not.
            slow: pool(4, || Slow).name("slow").spawn(),
            sum: module(Adder).name("sum").spawn(),
            events: module(events).name("events").spawn(),
            published: topic,
        }
    }

    /// Drains them all at once, as none calls another one.
    pub(crate) async fn drain(self, within: Duration) -> Vec<Report> {
        self.published.close();
        let stop = Stop::Drain;
        let (echo, fail, panics, slow, sum, events) = tokio::join!(
            self.echo.shutdown_within(stop, within),
            self.fail.shutdown_within(stop, within),
            self.panics.shutdown_within(stop, within),
            self.slow.shutdown_within(stop, within),
            self.sum.shutdown_within(stop, within),
            self.events.shutdown_within(stop, within),
        );
        vec![echo, fail, panics, slow, sum, events]
    }
}

impl NativeHandler for Echo {
    type Message = String;
    type Response = String;
    type Error = eyre::Report;

    async fn handle_request(&mut self, text: String) -> eyre::Result<String> {
        Ok(text)
    }

    async fn handle_command(&mut self, _: String) -> eyre::Result<()> {
        Ok(())
    }
}

impl NativeHandler for Fail {
    type Message = String;
    type Response = String;
    type Error = eyre::Report;

    async fn handle_request(&mut self, text: String) -> eyre::Result<String> {
        Err(eyre::eyre!("boom: {text}"))
    }

    async fn handle_command(&mut self, _: String) -> eyre::Result<()> {
        Ok(())
    }
}

impl NativeHandler for Panics {
    type Message = String;
    type Response = String;
    type Error = eyre::Report;

    async fn handle_request(&mut self, text: String) -> eyre::Result<String> {
        panic!("{text}")
    }

    async fn handle_command(&mut self, _: String) -> eyre::Result<()> {
        Ok(())
    }
}

impl NativeHandler for Slow {
    type Message = Duration;
    type Response = Duration;
    type Error = eyre::Report;

    async fn handle_request(&mut self, asked: Duration) -> eyre::Result<Duration> {
        // Nobody waits any more: neither need this.
        tokio::select! {
            () = tokio::time::sleep(asked) => Ok(asked),
            () = spark_channel::current::cancelled() => eyre::bail!("nobody waits"),
        }
    }

    async fn handle_command(&mut self, _: Duration) -> eyre::Result<()> {
        Ok(())
    }
}

impl NativeHandler for Adder {
    type Message = Summands;
    type Response = Sum;
    type Error = SumError;

    async fn handle_request(&mut self, Summands { a, b }: Summands) -> Result<Sum, SumError> {
        let sum = a.checked_add(b).ok_or(SumError::TooLarge)?;
        Ok(Sum { sum })
    }

    async fn handle_command(&mut self, _: Summands) -> Result<(), SumError> {
        Ok(())
    }
}

impl From<SparkChannelError> for SumError {
    fn from(error: SparkChannelError) -> Self {
        Self::Call(error)
    }
}

impl NativeHandler for Events {
    type Message = String;
    type Response = Published;
    type Error = eyre::Report;

    async fn handle_request(&mut self, text: String) -> eyre::Result<Published> {
        self.count += 1;
        let number = self.count;
        // Whoever is too slow loses the oldest, so this does not wait.
        self.topic.publish(Event { number, text }).await?;
        Ok(Published { number })
    }

    async fn handle_command(&mut self, text: String) -> eyre::Result<()> {
        self.handle_request(text).await.map(drop)
    }
}
