//! A shutdown ends by its deadline, whatever hangs or blocks.

use std::{sync::mpsc::sync_channel, time::Duration};

use spark_channel::{
    NativeHandler, SparkChannelCancellationToken, SparkChannelError, SparkGenericModuleMessage,
    Stop, StopReason, module, spawn_module,
};
use tokio::time::Instant;

use crate::support::{Gate, Log, Runner, job, queued, reason, within};

mod support;

const SECOND: Duration = Duration::from_secs(1);

const SHUTTING_DOWN: SparkChannelError = SparkChannelError::ShuttingDown;

/// Whether `took` is `expected`, less the rounding of timers.
fn is_about(took: Duration, expected: Duration) -> bool {
    took >= expected && took < expected + Duration::from_millis(10)
}

#[tokio::test(start_paused = true)]
async fn at_the_deadline_the_handler_is_dropped_and_the_rest_given_back_unasked() {
    for stop in [Stop::Drain, Stop::AfterCurrent] {
        let gate = Gate::closed();
        let module = spawn_module(gate.module());
        let dispatcher = module.dispatcher();
        let running = queued(dispatcher.request("running"));
        gate.entered().await;
        let waiting = queued(dispatcher.request("waiting"));
        within(dispatcher.command("told")).await.expect("room");
        let start = Instant::now();

        let report = within(module.shutdown_within(stop, 5 * SECOND)).await;

        assert!(is_about(start.elapsed(), 5 * SECOND));
        assert_eq!(reason(within(running).await), SparkChannelError::Cancelled);
        assert_eq!(reason(within(waiting).await), SHUTTING_DOWN);
        assert_eq!(gate.log.lines(), ["running", "stopped"]);
        assert_eq!(report.reason, StopReason::Requested(stop));
        assert!(report.deadline_passed);
        assert_eq!((report.stats.interrupted, report.stats.returned), (1, 1));
        assert_eq!((report.stats.undelivered, report.stats.accounted()), (1, 3));
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_deadline_stands() {
    let gate = Gate::closed();
    let module = module(gate.module()).shutdown_timeout(SECOND).spawn();
    let running = module.dispatcher();
    let running = queued(running.request("running"));
    gate.entered().await;
    let start = Instant::now();

    module.stop(Stop::Drain);
    let report = within(module.shutdown_within(Stop::AfterCurrent, 9 * SECOND)).await;

    assert!(is_about(start.elapsed(), SECOND));
    assert!(report.deadline_passed);
    assert!(within(running).await.is_err());
}

/// Hangs in the hook it is told to.
struct Hanging(&'static str, Log);

impl Hanging {
    async fn at(&self, place: &str) {
        self.1.push(place);
        let hangs = self.0 == place;
        tokio::time::sleep(SECOND * 1_000 * u32::from(hangs)).await;
    }
}

impl NativeHandler for Hanging {
    type Message = String;
    type Response = String;
    type Error = eyre::Report;

    async fn handle_request(&mut self, message: String) -> eyre::Result<String> {
        self.at("handled").await;
        Ok(message)
    }

    async fn handle_command(&mut self, _: String) -> eyre::Result<()> {
        self.at("handled").await;
        Ok(())
    }

    async fn started(&mut self) -> eyre::Result<()> {
        self.at("started").await;
        Ok(())
    }

    async fn undelivered(&mut self, _: String) {
        self.at("undelivered").await;
    }

    async fn stopped(&mut self) {
        self.at("stopped").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_hangs_while_stopping_is_dropped_at_the_deadline() {
    for stop in [Stop::AfterCurrent, Stop::Now] {
        for place in ["undelivered", "stopped"] {
            let log = Log::default();
            let module = spawn_module(Hanging(place, log.clone()));
            let dispatcher = module.dispatcher();
            within(dispatcher.request("first")).await.expect("handled");
            dispatcher.try_command("one").expect("room");
            let start = Instant::now();

            let report = within(module.shutdown_within(stop, 5 * SECOND)).await;

            assert!(is_about(start.elapsed(), 5 * SECOND), "{place}");
            let lines = ["started", "handled", "undelivered", "stopped"];
            assert_eq!(log.lines(), lines);
            assert!(report.deadline_passed);
            assert_eq!(report.stats.accounted(), 2);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_message_has_the_deadline_of_the_module() {
    let log = Log::default();
    let module = module(Hanging("stopped", log.clone()))
        .shutdown_timeout(5 * SECOND)
        .spawn();
    let token = SparkChannelCancellationToken::new();
    let shutdown = SparkGenericModuleMessage::Shutdown(token.clone());
    let start = Instant::now();

    let sender = module.dispatcher().sender;
    within(sender.send(shutdown)).await.expect("room");
    within(token.inner().cancelled()).await;

    assert!(is_about(start.elapsed(), 5 * SECOND));
    assert!(within(module.wait()).await.deadline_passed);
}

#[tokio::test(start_paused = true)]
async fn a_module_that_hangs_as_it_starts_can_be_stopped() {
    let takes = [
        (Stop::Drain, 5 * SECOND),
        (Stop::AfterCurrent, 5 * SECOND),
        (Stop::Now, Duration::ZERO),
    ];
    for (stop, expected) in takes {
        let log = Log::default();
        let module = spawn_module(Hanging("started", log.clone()));
        let dispatcher = module.dispatcher();
        let waiting = queued(dispatcher.request("waiting"));
        tokio::task::yield_now().await;
        let start = Instant::now();

        let report = within(module.shutdown_within(stop, 5 * SECOND)).await;

        assert!(is_about(start.elapsed(), expected), "{stop:?}");
        assert_eq!(reason(within(waiting).await), SHUTTING_DOWN);
        assert_eq!(log.lines(), ["started", "stopped"]);
        assert_eq!(report.stats.accounted(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_blocks_its_thread_is_reported_soon_after_the_deadline() {
    for stop in [Stop::Drain, Stop::Now] {
        let gate = Gate::closed();
        let module = module(Runner).name("blocked").spawn();
        let dispatcher = module.dispatcher();
        let (release, blocked) = sync_channel::<()>(1);
        let entering = gate.clone();
        let blocking = job(async move {
            entering.module().handle_command("entered".into()).await?;
            let _ = blocked.recv();
            Ok(0)
        });
        dispatcher
            .try_command(blocking)
            .map_err(|refused| refused.reason)
            .expect("room");
        gate.open();
        gate.entered().await;
        let start = Instant::now();

        let report = within(module.shutdown_within(stop, SECOND / 50)).await;

        // The grace, and what a loaded machine may take.
        assert!(start.elapsed() < 5 * SECOND, "{:?}", start.elapsed());
        assert_eq!(report.reason, StopReason::Unresponsive);
        assert_eq!(&*report.module, "blocked");
        drop(release);
    }
}

/// Ends by itself, and then hangs in `stopped`.
struct NeverStopped;

impl NativeHandler for NeverStopped {
    type Message = u8;
    type Response = u8;
    type Error = eyre::Report;

    async fn handle_request(&mut self, message: u8) -> eyre::Result<u8> {
        Ok(message)
    }

    async fn handle_command(&mut self, _: u8) -> eyre::Result<()> {
        Ok(())
    }

    async fn stopped(&mut self) {
        std::future::pending::<()>().await;
    }
}

#[tokio::test(start_paused = true)]
async fn stopped_is_bounded_when_the_last_dispatcher_goes_as_well() {
    let module = module(NeverStopped)
        .capacity(3)
        .shutdown_timeout(SECOND)
        .spawn();
    let start = Instant::now();

    let report = within(module.wait()).await;

    assert!(is_about(start.elapsed(), SECOND));
    assert_eq!(report.reason, StopReason::NoDispatchers);
    assert!(report.deadline_passed);
    assert_eq!(report.stats.capacity, 3);
}

#[tokio::test(start_paused = true)]
async fn an_earlier_deadline_replaces_a_later_one() {
    let gate = Gate::closed();
    let module = spawn_module(gate.module());
    let running = module.dispatcher();
    let running = queued(running.request("running"));
    gate.entered().await;
    module.stop(Stop::Drain);
    // The module has armed its timer for the later one.
    tokio::time::advance(SECOND).await;
    let start = Instant::now();

    let report = within(module.shutdown_within(Stop::Drain, 2 * SECOND)).await;

    assert!(is_about(start.elapsed(), 2 * SECOND));
    assert!(report.deadline_passed);
    assert_eq!(reason(within(running).await), SparkChannelError::Cancelled);
}
