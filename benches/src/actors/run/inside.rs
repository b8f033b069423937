//! Requests that a handler makes: with a deadline to inherit, and with the deadlock check.

use std::sync::Arc;

use spark_channel::{NativeHandler, SparkGenericModuleDispatcher, Stop, module};
use tokio::time::Instant;

use crate::actors::{
    case::{self, Slice},
    contender::{
        Contender, Threads,
        spark::{Spark, shared_settings},
    },
    workload::Counter,
};

/// A module that asks another one as often as it is told to.
struct Relay {
    callee: <Spark as Contender>::Handle,
}

/// As [`Run::time`](super::Run::time); an operation is one request between modules.
pub(super) fn time(place: Spark, threads: Threads, operations: u32) -> Slice {
    place.run(threads, move |place| ask_inside(place, operations))
}

async fn ask_inside(place: Spark, operations: u32) -> Slice {
    let callee = place.start(Counter::new(Arc::default())).await;
    let relay = Relay {
        callee: Spark::handle(&callee),
    };
    let relay = place.set(shared_settings(module(relay))).spawn();
    let warm_up = (operations / 10).max(1);
    let operations = operations.max(1);

    ask_relay(&relay.dispatcher(), warm_up).await;
    let start = Instant::now();
    ask_relay(&relay.dispatcher(), operations).await;
    let elapsed = start.elapsed();

    relay.shutdown(Stop::Drain).await;
    case::stop_checked::<Spark>(callee, warm_up + operations).await;
    Slice {
        warm_up,
        operations,
        elapsed,
    }
}

async fn ask_relay(relay: &SparkGenericModuleDispatcher<u32, ()>, times: u32) {
    relay
        .request(times)
        .await
        .expect("the module runs until it is stopped");
}

// === impl Relay ===

impl NativeHandler for Relay {
    type Message = u32;
    type Response = ();
    type Error = eyre::Report;

    async fn handle_request(&mut self, times: u32) -> eyre::Result<()> {
        for _ in 0..times {
            Spark::ask(&self.callee, 1).await;
        }
        Ok(())
    }

    async fn handle_command(&mut self, _: u32) -> eyre::Result<()> {
        Ok(())
    }
}
