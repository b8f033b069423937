//! A subscriber that sends commands of what it is told. Alone in its process, for it listens
//! everywhere.

mod support;

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

use spark_channel::{SparkGenericModuleDispatcher, Stop, spawn_module};
use support::{Job, Runner, job, within};
use tracing::{
    Event, Metadata, Subscriber,
    level_filters::LevelFilter,
    span::{Attributes, Id, Record},
};

static MODULE: OnceLock<SparkGenericModuleDispatcher<Job, u64>> = OnceLock::new();

/// Sends a command for every span that begins.
struct Shipping {
    spans: AtomicU64,
}

impl Subscriber for Shipping {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::DEBUG)
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        if let Some(module) = MODULE.get() {
            assert!(module.try_command(job(async { Ok(0) })).is_ok());
        }
        Id::from_u64(self.spans.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn a_subscriber_may_send_commands_of_the_spans_of_commands() {
    let module = spawn_module(Runner);
    let spans = AtomicU64::new(0);
    tracing::subscriber::set_global_default(Shipping { spans }).expect("alone in its process");
    assert!(MODULE.set(module.dispatcher()).is_ok());

    for _ in 0..3 {
        within(module.dispatcher().command(job(async { Ok(0) })))
            .await
            .expect("accepted");
    }

    let stats = within(module.shutdown(Stop::Drain)).await.stats;
    // Each of them, and one for the span of each.
    assert_eq!(stats.handled, 6, "{stats:?}");
}
