//! `#[every]`: the module is sent a command by a timer of its own.

#![cfg(all(feature = "macros", feature = "test-util"))]

use std::time::Duration;

use spark_channel::{
    PanicPolicy, SparkChannelError, Stop, Tick, module, pool, reader_writer, spawn_module,
};
use tokio::time::{Instant, sleep};

use crate::support::Gate;

mod support;

/// Writes down when it was swept.
struct Cache {
    start: Instant,
    gate: Gate,
}

#[module(reader_writer)]
impl Cache {
    /// Milliseconds of the sweeps since this was last asked.
    #[request]
    async fn sweeps(&self) -> Vec<String> {
        self.gate.log.take()
    }

    #[request]
    async fn crash(&mut self) {
        panic!("told to");
    }

    #[every("10s")]
    async fn sweep(&mut self) -> Result<(), SparkChannelError> {
        self.note("sweep");
        let _ = self.gate.wait().await;
        Ok(())
    }

    #[every("25s", priority = "low", overflow = "drop_newest")]
    async fn report(&mut self, tick: Tick) {
        self.note(&format!("report, {} skipped,", tick.skipped()));
    }

    #[cfg(not(feature = "macros"))]
    #[every("1ms")]
    async fn absent(&mut self) {}

    fn note(&self, what: &str) {
        let at = self.start.elapsed().as_secs();
        self.gate.log.push(format!("{what} at {at}"));
    }
}

fn cache(gate: &Gate) -> Cache {
    Cache {
        start: Instant::now(),
        gate: gate.clone(),
    }
}

async fn seconds(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}

#[spark_channel::testing::test]
async fn a_timer_fires_once_per_period_until_the_module_is_told_to_stop() {
    let gate = Gate::opened();
    let handle = spawn_module(cache(&gate));

    seconds(31).await;
    let lines = [
        "sweep at 10",
        "sweep at 20",
        "report, 0 skipped, at 25",
        "sweep at 30",
    ];
    assert_eq!(gate.log.take(), lines);

    let report = handle.shutdown(Stop::Drain).await;
    seconds(60).await;
    assert_eq!((report.stats.handled, gate.log.lines().len()), (4, 0));
}

#[spark_channel::testing::test]
async fn a_timer_is_held_back_while_its_method_runs() {
    let gate = Gate::closed();
    let handle = spawn_module(cache(&gate));

    seconds(45).await;
    gate.open();
    seconds(6).await;

    let lines = [
        "sweep at 10",
        "report, 0 skipped, at 45",
        "sweep at 50",
        "report, 0 skipped, at 50",
    ];
    let mut seen = gate.log.take();
    seen.sort();
    let mut lines = lines.map(str::to_owned);
    lines.sort();
    assert_eq!(seen, lines);
    handle.shutdown(Stop::Drain).await;
}

#[spark_channel::testing::test(panics = 1)]
async fn timers_outlive_a_restart_and_do_not_keep_a_module_alive() {
    let gate = Gate::opened();
    let (first, next) = (cache(&gate), gate.clone());
    let handle = module(first)
        .on_panic(PanicPolicy::restart(move || cache(&next)))
        .spawn();
    let client = CacheClient::from(handle.dispatcher());

    assert!(client.crash().await.is_err());
    seconds(11).await;
    assert_eq!(client.sweeps().await.expect("answered"), ["sweep at 10"]);

    let watch = handle.watch();
    drop((client, handle));
    let report = watch.await;
    assert_eq!(report.stats.restarts, 1);
}

#[spark_channel::testing::test]
async fn a_pool_has_one_timer_and_so_has_a_reader_writer_module() {
    let gate = Gate::opened();
    let factory = gate.clone();
    let replicas = pool(4, move || cache(&factory)).spawn();
    seconds(11).await;
    assert_eq!(gate.log.take(), ["sweep at 10"]);
    replicas.shutdown(Stop::Drain).await;

    let reader_writer = reader_writer(cache(&gate)).spawn();
    seconds(11).await;
    assert_eq!(gate.log.take(), ["sweep at 10"]);
    reader_writer.shutdown(Stop::Drain).await;
}

/// One of several that all tick.
struct Replica(Gate);

#[module(derive(Clone))]
impl Replica {
    #[every("10s")]
    async fn tick(&mut self) {
        self.0.log.push("tick");
        let _ = self.0.wait().await;
    }
}

#[spark_channel::testing::test]
async fn every_replica_of_a_broadcast_pool_gets_a_tick_and_the_slowest_holds_back_the_next() {
    let gate = Gate::closed();
    let factory = gate.clone();
    let replicas = pool(3, move || Replica(factory.clone()))
        .broadcast()
        .spawn();
    seconds(11).await;
    assert_eq!(gate.log.take(), ["tick"; 3]);
    gate.let_pass(2);
    seconds(10).await;
    assert_eq!(gate.log.lines().len(), 0, "one replica is not done");
    gate.open();
    seconds(10).await;
    assert_eq!(gate.log.take(), ["tick"; 3]);
    replicas.shutdown(Stop::Drain).await;
}

#[spark_channel::testing::test]
async fn what_a_timer_sends_can_be_sent_by_hand() {
    let gate = Gate::opened();
    let handle = spawn_module(cache(&gate));
    let tick = Tick::by_hand();
    let sweep = CacheMessage::Sweep { tick };
    assert_eq!(sweep.name(), "sweep");

    let swept = handle.dispatcher().request(sweep).await;

    assert!(matches!(swept, Ok(CacheResponse::Sweep)), "{swept:?}");
    assert_eq!(gate.log.take(), ["sweep at 0"]);
    handle.shutdown(Stop::Drain).await;
}

/// Nothing but time makes it do anything.
struct Heart {
    beats: u64,
    log: support::Log,
}

#[module]
impl Heart {
    #[every("500ms")]
    async fn beat(&mut self) {
        self.beats += 1;
        self.log.push(self.beats.to_string());
    }
}

#[spark_channel::testing::test]
async fn a_module_may_have_timers_alone() {
    let log = support::Log::default();
    let heart = Heart {
        beats: 0,
        log: log.clone(),
    };
    let handle = spawn_module(heart);
    let _client = HeartClient::from(handle.dispatcher());
    sleep(Duration::from_millis(1_600)).await;
    assert_eq!(log.lines(), ["1", "2", "3"]);
    handle.shutdown(Stop::Drain).await;
}

#[test]
fn a_tick_takes_one_word_of_a_message() {
    assert_eq!(size_of::<HeartMessage>(), size_of::<usize>());
}
