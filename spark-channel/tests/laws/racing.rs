//! Timeouts that race with starts on two threads: what a caller is told about a
//! request is compared with what the handler saw.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use spark_channel::{ModuleBuilder, NativeHandler, SparkChannelError, Stage, Stop, module, pool};
use tokio::{task::JoinSet, time::Instant};

use crate::schedules;

const CALLERS: usize = 48;
const CALLS: usize = 150;

/// Works, blocking its thread, for as many microseconds as it is sent.
struct Spinner(Arc<[AtomicBool]>);

#[derive(Clone, Copy)]
struct Call {
    id: usize,
    micros: u64,
}

#[derive(Debug, Default)]
struct Told {
    answered: u64,
    queued: u64,
    running: u64,
    not_admitted: u64,
}

impl NativeHandler for Spinner {
    type Message = Call;
    type Response = usize;
    type Error = SparkChannelError;

    async fn handle_request(&mut self, call: Call) -> Result<usize, SparkChannelError> {
        let twice = self.0[call.id].swap(true, Ordering::SeqCst);
        assert!(!twice, "started twice");
        let until = Instant::now() + Duration::from_micros(call.micros);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        if call.micros.is_multiple_of(2) {
            tokio::task::yield_now().await;
        }
        Ok(call.id)
    }

    async fn handle_command(&mut self, _: Call) -> Result<(), SparkChannelError> {
        Ok(())
    }
}

#[test]
fn a_single_module_tells_the_truth_to_those_who_time_out() {
    race(|seen| module(Spinner(Arc::clone(seen))));
}

#[test]
fn a_module_that_drops_the_abandoned_tells_the_truth_to_those_who_time_out() {
    race(|seen| module(Spinner(Arc::clone(seen))).drop_abandoned());
}

#[test]
fn a_pool_tells_the_truth_to_those_who_time_out() {
    race(|seen| {
        let seen = Arc::clone(seen);
        pool(3, move || Spinner(Arc::clone(&seen)))
    });
}

fn race(build: impl FnOnce(&Arc<[AtomicBool]>) -> ModuleBuilder<Spinner>) {
    let seen: Arc<[AtomicBool]> = (0..CALLERS * CALLS).map(|_| false.into()).collect();
    let runtime = schedules::two_threads();
    let (told, report) = runtime.block_on(async {
        let handle = build(&seen).capacity(32).spawn();
        let mut callers = JoinSet::new();
        for caller in 0..CALLERS {
            let dispatcher = handle.dispatcher();
            callers.spawn(async move {
                let mut outcomes = Vec::with_capacity(CALLS);
                for number in 0..CALLS {
                    let id = caller * CALLS + number;
                    // Odd strides, so that speeds and patience meet in every way.
                    let micros = (id * 37 % 90) as u64;
                    let limit = Duration::from_micros((id * 7_919 % 3_000) as u64);
                    let call = Call { id, micros };
                    let outcome = dispatcher.request(call).timeout(limit).await;
                    outcomes.push((id, outcome));
                }
                outcomes
            });
        }
        let mut told = Vec::new();
        while let Some(outcomes) = callers.join_next().await {
            told.extend(outcomes.expect("a caller does not panic"));
        }
        (told, handle.shutdown(Stop::Drain).await)
    });

    let mut count = Told::default();
    for (id, outcome) in &told {
        let started = seen[*id].load(Ordering::SeqCst);
        match outcome {
            Ok(answer) => {
                assert_eq!(answer, id, "another's answer");
                assert!(started);
                count.answered += 1;
            }
            Err(error @ SparkChannelError::TimedOut { stage }) => {
                assert!(!(started && error.never_started()), "{id} ran: {error:?}");
                match stage {
                    Stage::NotAdmitted => count.not_admitted += 1,
                    Stage::Queued => count.queued += 1,
                    Stage::Running => count.running += 1,
                }
            }
            Err(other) => panic!("{id} ended with {other:?}"),
        }
    }
    let accepted = told.len() as u64 - count.not_admitted;
    let stats = report.stats;
    assert_eq!(stats.accounted(), accepted, "{report:?}");
    let started = seen.iter().filter(|seen| seen.load(Ordering::SeqCst));
    assert_eq!(stats.handled + stats.interrupted, started.count() as u64);
    assert!(
        count.answered > 0 && count.queued > 0,
        "nothing raced: {count:?}"
    );
}
