//! The modules' counts through the `metrics` facade.
#![cfg(feature = "metrics")]

use std::{collections::BTreeMap, time::Duration};

use metrics::Unit;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use spark_channel::{Class, MetricsExporter, Overflow, SparkGenericModuleDispatcher, Stop, module};
use tokio::sync::{mpsc, oneshot};
use tokio_test::task;

use crate::support::{Gate, Runner, job, queued, within};

mod support;

/// A recorder, and what it has been told since it was last asked.
struct Recording {
    recorder: DebuggingRecorder,
    snapshotter: Snapshotter,
}

impl Recording {
    fn new() -> Self {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        Self {
            recorder,
            snapshotter,
        }
    }

    /// Publishes, and returns `name{module,outcome}` with what was published for it:
    /// what a counter was raised by, what a gauge was set to.
    fn published(&self, exporter: &MetricsExporter) -> BTreeMap<String, f64> {
        metrics::with_local_recorder(&self.recorder, || exporter.publish());
        self.snapshot()
    }

    fn snapshot(&self) -> BTreeMap<String, f64> {
        let snapshot = self.snapshotter.snapshot().into_vec().into_iter();
        snapshot
            .map(|(key, _, _, value)| {
                let key = key.key();
                let labels: Vec<_> = key.labels().map(metrics::Label::value).collect();
                let name = key.name().trim_start_matches("spark_module_");
                let value = match value {
                    #[expect(clippy::cast_precision_loss, reason = "small counts")]
                    DebugValue::Counter(n) => n as f64,
                    DebugValue::Gauge(value) => value.into_inner(),
                    DebugValue::Histogram(_) => panic!("there are none"),
                };
                (format!("{name}{{{}}}", labels.join(",")), value)
            })
            .collect()
    }
}

/// Asserts that these were published, with these values.
#[track_caller]
fn check(published: &BTreeMap<String, f64>, expected: &[(&str, f64)]) {
    let found: Vec<_> = expected
        .iter()
        .map(|(name, _)| (*name, published.get(*name).copied().unwrap_or(f64::NAN)))
        .collect();
    assert_eq!(found, expected);
}

#[tokio::test(start_paused = true)]
async fn counters_add_what_came_since_the_last_time_and_gauges_say_what_is() {
    let recording = Recording::new();
    let exporter = MetricsExporter::new();
    let gate = Gate::closed();
    let handle = module(gate.module()).name("orders").capacity(4).spawn();
    let dispatcher = handle.dispatcher();
    exporter.watch(&dispatcher);

    let first = queued(dispatcher.request("first"));
    gate.entered().await;
    let second = dispatcher.try_request("fail").expect("room");
    check(
        &recording.published(&exporter),
        &[
            ("messages_total{orders,handled}", 0.0),
            ("messages_total{orders,expired}", 0.0),
            ("failed_total{orders}", 0.0),
            ("running{orders}", 1.0),
            ("mailbox_depth{orders}", 1.0),
            ("mailbox_capacity{orders}", 4.0),
        ],
    );
    gate.open();
    assert!(within(first).await.is_ok() && within(second).await.is_err());
    check(
        &recording.published(&exporter),
        &[
            ("messages_total{orders,handled}", 2.0),
            ("failed_total{orders}", 1.0),
            ("mailbox_depth{orders}", 0.0),
            ("mailbox_high_water{orders}", 1.0),
        ],
    );
    let _ = within(dispatcher.request("panic")).await;
    check(
        &recording.published(&exporter),
        &[
            ("messages_total{orders,handled}", 0.0),
            ("messages_total{orders,panicked}", 1.0),
            ("panics_total{orders}", 1.0),
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn a_module_that_has_ended_is_published_once_more() {
    let recording = Recording::new();
    let exporter = MetricsExporter::new();
    let handle = module(Runner).name("gone").spawn();
    exporter.watch(&handle.dispatcher());
    assert!(
        handle
            .dispatcher()
            .try_command(job(async { Ok(0) }))
            .is_ok()
    );
    within(handle.shutdown(Stop::Drain)).await;

    let last = recording.published(&exporter);
    let nothing = recording.published(&exporter);

    check(
        &last,
        &[
            ("messages_total{gone,handled}", 1.0),
            ("running{gone}", 0.0),
            ("mailbox_capacity{gone}", 0.0),
        ],
    );
    check(&nothing, &[("messages_total{gone,handled}", 0.0)]);
    assert_eq!(format!("{exporter:?}"), "[]");
}

#[tokio::test(start_paused = true)]
async fn an_exporter_does_not_keep_a_module_alive() {
    let recording = Recording::new();
    let exporter = MetricsExporter::new();
    let handle = module(Runner).name("alone").spawn();
    exporter.watch(&handle.dispatcher());

    within(handle.wait()).await;

    check(&recording.published(&exporter), &[("running{alone}", 0.0)]);
    assert_eq!(format!("{exporter:?}"), "[]");
}

#[test]
fn a_module_whose_runtime_has_ended_is_forgotten() {
    let recording = Recording::new();
    let exporter = MetricsExporter::new();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let dispatcher = runtime.block_on(async {
        let handle = module(Runner).name("cut off").spawn();
        exporter.watch(&handle.dispatcher());
        handle.dispatcher()
    });
    drop(runtime);

    check(
        &recording.published(&exporter),
        &[("running{cut off}", 0.0)],
    );
    assert_eq!(format!("{exporter:?}"), "[]");
    drop(dispatcher);
}

#[tokio::test(start_paused = true)]
async fn modules_of_one_name_are_added_up() {
    let recording = Recording::new();
    let exporter = MetricsExporter::new();
    let twins = [3, 5].map(|capacity| module(Runner).name("twin").capacity(capacity).spawn());
    for twin in &twins {
        exporter.watch(&twin.dispatcher());
        let answer = within(twin.dispatcher().request(job(async { Ok(0) }))).await;
        assert!(answer.is_ok());
    }

    check(
        &recording.published(&exporter),
        &[
            ("messages_total{twin,handled}", 2.0),
            ("running{twin}", 2.0),
            ("mailbox_capacity{twin}", 8.0),
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn refused_sends_are_counted_and_are_no_messages() {
    let recording = Recording::new();
    let exporter = MetricsExporter::new();
    let handle = module(Gate::closed().module())
        .name("full")
        .capacity(1)
        .spawn();
    let dispatcher = handle.dispatcher();
    exporter.watch(&dispatcher);

    let sent = (0..3)
        .map(|_| dispatcher.try_command("more"))
        .filter(Result::is_err);
    assert_eq!(sent.count(), 2);

    check(
        &recording.published(&exporter),
        &[
            ("rejected_total{full}", 2.0),
            ("messages_total{full,undelivered}", 0.0),
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_full_class_drops_or_replaces_are_outcomes() {
    let recording = Recording::new();
    let exporter = MetricsExporter::new();
    let handle = module(Gate::closed().module())
        .name("ticker")
        .capacity(1)
        .overflow(Overflow::DropNewest)
        .classify(|message: &String| match message.as_str() {
            "tick" => Class::DEFAULT.conflate("tick"),
            _ => Class::DEFAULT,
        })
        .spawn();
    let dispatcher = handle.dispatcher();
    exporter.watch(&dispatcher);

    for command in ["tick", "tick", "tick", "more"] {
        dispatcher.try_command(command).expect("accepted");
    }

    check(
        &recording.published(&exporter),
        &[
            ("messages_total{ticker,conflated}", 2.0),
            ("messages_total{ticker,dropped}", 1.0),
            ("rejected_total{ticker}", 0.0),
            ("mailbox_depth{ticker}", 1.0),
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn a_dispatcher_without_counts_is_left_out() {
    let recording = Recording::new();
    let exporter = MetricsExporter::new();
    let (sender, _receiver) = mpsc::channel(1);
    let raw: SparkGenericModuleDispatcher<u64, u64> = SparkGenericModuleDispatcher::new(sender);

    exporter.watch(&raw);

    assert_eq!(recording.published(&exporter), BTreeMap::new());
}

#[tokio::test(start_paused = true)]
async fn every_metric_is_described_with_the_unit_that_its_name_says() {
    let recording = Recording::new();
    let exporter = MetricsExporter::new();
    let handle = module(Runner).name("any").message_names(|_| "job").spawn();
    exporter.watch(&handle.dispatcher());
    let handled = within(handle.dispatcher().request(job(async { Ok(0) }))).await;
    assert!(handled.is_ok());
    metrics::with_local_recorder(&recording.recorder, || exporter.publish());

    for (key, unit, description, _) in recording.snapshotter.snapshot().into_vec() {
        let said = match key.key().name() {
            name if name.contains("microseconds") => Unit::Microseconds,
            name if name.contains("seconds") => Unit::Seconds,
            _ => Unit::Count,
        };
        assert_eq!(unit, Some(said), "{key:?}");
        assert!(description.is_some(), "{key:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn run_publishes_at_each_interval_and_at_its_end() {
    let recording = Recording::new();
    let _installed = metrics::set_default_local_recorder(&recording.recorder);
    let exporter = MetricsExporter::new();
    let handle = module(Runner).name("timed").spawn();
    let dispatcher = handle.dispatcher();
    exporter.watch(&dispatcher);
    let (stop, stopped) = oneshot::channel::<()>();
    let every = Duration::from_secs(10);
    let mut run = task::spawn(exporter.run(every, async { drop(stopped.await) }));
    assert!(run.poll().is_pending());
    let ask = || within(dispatcher.request(job(async { Ok(0) })));

    assert!(ask().await.is_ok());
    assert_eq!(recording.snapshot(), BTreeMap::new());
    tokio::time::advance(every).await;
    assert!(run.poll().is_pending());
    check(
        &recording.snapshot(),
        &[("messages_total{timed,handled}", 1.0)],
    );
    assert!(ask().await.is_ok());
    drop(stop);
    within(run).await;

    check(
        &recording.snapshot(),
        &[("messages_total{timed,handled}", 1.0)],
    );
}

#[tokio::test(start_paused = true)]
async fn times_by_name_are_published_for_a_module_that_was_asked() {
    let recording = Recording::new();
    let exporter = MetricsExporter::new();
    let gate = Gate::closed();
    let handle = module(gate.module())
        .name("timed")
        .message_names(|message: &String| if message == "long" { "long" } else { "short" })
        .spawn();
    let dispatcher = handle.dispatcher();
    exporter.watch(&dispatcher);
    let long = queued(dispatcher.request("long"));
    gate.entered().await;
    let short = queued(dispatcher.request("anything"));
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    check(
        &recording.published(&exporter),
        &[
            ("message_waits_total{timed,long}", 1.0),
            ("message_runs_total{timed,long}", 0.0),
            ("message_age_seconds{timed,long}", 1.5),
        ],
    );

    gate.open();
    assert!(within(long).await.is_ok() && within(short).await.is_ok());

    check(
        &recording.published(&exporter),
        &[
            ("message_waits_total{timed,long}", 0.0),
            ("message_runs_total{timed,long}", 1.0),
            (
                "message_handling_microseconds_total{timed,long}",
                1_500_000.0,
            ),
            ("message_age_seconds{timed,long}", 0.0),
            ("message_waits_total{timed,short}", 1.0),
            (
                "message_waiting_microseconds_total{timed,short}",
                1_500_000.0,
            ),
            ("message_runs_total{timed,short}", 1.0),
            ("message_handling_microseconds_total{timed,short}", 0.0),
            ("message_age_seconds{timed,short}", 0.0),
        ],
    );
}
