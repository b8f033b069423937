//! One caller that sends its requests ahead of their answers.

use std::{iter, sync::Arc};

use tokio::time::Instant;

use crate::actors::{
    case::{self, Slice},
    contender::{Contender, Threads, spark::Spark},
    workload::Counter,
};

/// How many messages a `request_all` is given.
pub(super) const BATCH: u32 = 32;

/// As [`Run::time`](super::Run::time); an operation is one message.
pub(super) fn time(place: Spark, threads: Threads, operations: u32) -> Slice {
    place.run(threads, move |place| request_all(place, operations))
}

async fn request_all(place: Spark, operations: u32) -> Slice {
    let module = place.start(Counter::new(Arc::default())).await;
    let warm_up = (operations / BATCH / 10).max(1);
    let batches = (operations / BATCH).max(1);

    ask_in_batches(&module, warm_up).await;
    let start = Instant::now();
    ask_in_batches(&module, batches).await;
    let elapsed = start.elapsed();

    case::stop_checked::<Spark>(module, BATCH * (warm_up + batches)).await;
    Slice {
        warm_up: BATCH * warm_up,
        operations: BATCH * batches,
        elapsed,
    }
}

/// In a task of its own, as the callers of single requests are.
async fn ask_in_batches(module: &<Spark as Contender>::Module, batches: u32) {
    let handle = Spark::handle(module);
    let caller = Spark::spawn(async move {
        for _ in 0..batches {
            let answers = handle
                .request_all(iter::repeat_n(1_u64, BATCH as usize))
                .await;
            for answer in answers {
                answer.expect("the module runs until it is stopped");
            }
        }
    });
    caller
        .await
        .expect("a panic in a caller has been printed and ends the program");
}
