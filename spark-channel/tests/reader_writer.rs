//! Reader-writer modules: reads run side by side, everything else runs alone, and what
//! holds for a request holds for each read.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Poll, Waker},
    time::Duration,
};

use reading::{
    Dispatcher, Message, Subject, describe, doing, panicking, pass, read, settle, subject, write,
};
use spark_channel::{
    Access, PanicPolicy, SparkChannelCancellationToken, SparkChannelError,
    SparkGenericModuleMessage, Stage, Stop, StopReason, current, module, reader_writer,
};
use support::{Gate, Log, queued, reason, within};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

#[path = "support/reading.rs"]
mod reading;
mod support;

// --- side by side, and alone

#[tokio::test(start_paused = true)]
async fn reads_run_side_by_side_up_to_the_bound() {
    let gate = Gate::closed();
    let module = subject().readers(3).spawn();
    let dispatcher = module.dispatcher();
    let calls: Vec<_> = ["a", "b", "c", "d"]
        .map(|name| queued(dispatcher.request(read(&gate, name))))
        .into();
    for _ in 0..3 {
        gate.entered().await;
    }
    settle().await;
    assert_eq!(gate.log.lines(), ["a", "b", "c"]);
    gate.let_pass(1);
    gate.entered().await;
    gate.open();
    for (call, name) in calls.into_iter().zip(["a", "b", "c", "d"]) {
        assert_eq!(within(call).await.unwrap(), name);
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_waits_for_the_running_reads_and_what_is_behind_it_waits_for_the_write() {
    check_runs_alone(|dispatcher, gate| {
        Box::pin(async move { dispatcher.request(write(&gate, "alone")).await.map(drop) })
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_command_waits_for_the_running_reads_and_what_is_behind_it_waits_for_the_command() {
    check_runs_alone(|dispatcher, gate| {
        Box::pin(async move {
            let sent = dispatcher.command(write(&gate, "alone")).await;
            sent.map_err(|refused| refused.reason.into())
        })
    })
    .await;
}

type Sent = Pin<Box<dyn Future<Output = eyre::Result<()>> + Send>>;

async fn check_runs_alone(send: impl FnOnce(Dispatcher, Gate) -> Sent) {
    let (reads, alone, behind) = (Gate::closed(), Gate::closed(), Gate::closed());
    let module = subject().spawn();
    let dispatcher = module.dispatcher();
    let first = queued(dispatcher.request(read(&reads, "first")));
    let second = queued(dispatcher.request(read(&reads, "second")));
    reads.entered().await;
    reads.entered().await;
    let sent = tokio::spawn(send(dispatcher.clone(), alone.clone()));
    settle().await;
    let third = queued(dispatcher.request(read(&behind, "third")));
    let fourth = queued(dispatcher.request(read(&behind, "fourth")));

    reads.let_pass(1);
    assert_eq!(within(first).await.unwrap(), "first");
    settle().await;
    assert!(alone.log.lines().is_empty() && behind.log.lines().is_empty());

    reads.open();
    alone.entered().await;
    settle().await;
    assert!(behind.log.lines().is_empty());

    alone.open();
    behind.entered().await;
    behind.entered().await;
    behind.open();
    within(sent).await.unwrap().unwrap();
    for (call, name) in [(second, "second"), (third, "third"), (fourth, "fourth")] {
        assert_eq!(within(call).await.unwrap(), name);
    }
    assert_eq!(module.shutdown(Stop::Drain).await.stats.handled, 5);
}

#[tokio::test(start_paused = true)]
async fn a_write_is_not_starved_by_reads_that_keep_coming() {
    let module = subject().spawn();
    let dispatcher = module.dispatcher();
    let mut readers = tokio::task::JoinSet::new();
    for reader in 0..8_u64 {
        let dispatcher = dispatcher.clone();
        readers.spawn(async move {
            loop {
                let read = doing(Access::Read, async move {
                    sleep(Duration::from_millis(5 + reader)).await;
                    Ok(String::new())
                });
                dispatcher.request(read).await.unwrap();
            }
        });
    }
    sleep(Duration::from_millis(100)).await;
    let asked = Instant::now();
    within(dispatcher.request(write(&Gate::opened(), "w")))
        .await
        .unwrap();
    assert!(asked.elapsed() <= Duration::from_millis(12));
    readers.abort_all();
}

#[tokio::test(start_paused = true)]
async fn more_reads_than_a_word_has_bits_run_side_by_side() {
    let gate = Gate::closed();
    let module = subject().readers(200).capacity(256).spawn();
    let dispatcher = module.dispatcher();
    let names: Vec<_> = (0..200).map(|number| number.to_string()).collect();
    let calls: Vec<_> = names
        .iter()
        .map(|name| queued(dispatcher.request(read(&gate, name))))
        .collect();
    for _ in 0..200 {
        gate.entered().await;
    }
    assert_eq!(gate.log.lines(), names);
    gate.open();
    for (call, name) in calls.into_iter().zip(&names) {
        assert_eq!(&within(call).await.unwrap(), name);
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_is_polled_only_when_it_was_woken() {
    let module = subject().spawn();
    let dispatcher = module.dispatcher();
    let polls = Arc::new(AtomicUsize::new(0));
    let mut wakers = Vec::new();
    let mut calls = Vec::new();
    for _ in 0..3 {
        let (waker, known) = oneshot::channel();
        let (mut waker, polls) = (Some(waker), Arc::clone(&polls));
        let work = std::future::poll_fn(move |cx| {
            polls.fetch_add(1, Ordering::Relaxed);
            match waker.take() {
                Some(waker) => {
                    let _ = waker.send(cx.waker().clone());
                    Poll::Pending
                }
                None => Poll::Ready(Ok(String::new())),
            }
        });
        calls.push(queued(dispatcher.request(doing(Access::Read, work))));
        wakers.push(within(known).await.unwrap());
    }
    assert_eq!(polls.load(Ordering::Relaxed), 3);
    wakers[1].wake_by_ref();
    settle().await;
    assert_eq!(polls.load(Ordering::Relaxed), 4);
    // Late, and of nobody any more.
    wakers[1].wake_by_ref();
    settle().await;
    assert_eq!(polls.load(Ordering::Relaxed), 4);
    wakers.iter().for_each(Waker::wake_by_ref);
    for call in calls {
        within(call).await.unwrap();
    }
    assert_eq!(polls.load(Ordering::Relaxed), 6);
    // A waker outlives its module.
    drop(dispatcher);
    module.wait().await;
    wakers.iter().for_each(Waker::wake_by_ref);
}

#[tokio::test(start_paused = true)]
async fn as_an_ordinary_module_it_handles_one_message_at_a_time() {
    let gate = Gate::closed();
    let module = module(Subject {
        log: Log::default(),
    })
    .spawn();
    let dispatcher = module.dispatcher();
    let first = queued(dispatcher.request(read(&gate, "first")));
    let second = queued(dispatcher.request(read(&gate, "second")));
    gate.entered().await;
    settle().await;
    assert_eq!(gate.log.lines(), ["first"]);
    gate.open();
    within(first).await.unwrap();
    within(second).await.unwrap();
}

#[test]
#[should_panic(expected = "at least one reader")]
fn without_a_reader_it_does_not_start() {
    let _handle = subject().readers(0).spawn();
}

// --- each read by itself

#[tokio::test(start_paused = true)]
async fn each_read_has_the_deadline_of_its_own_request_and_so_have_its_nested_requests() {
    let inner = subject().name("inner").spawn();
    let outer = subject().name("outer").spawn();
    let dispatcher = outer.dispatcher();
    let start = Instant::now();
    let seconds = [3_u64, 9, 1];
    let calls: Vec<_> = seconds
        .map(|seconds| {
            let inner = inner.dispatcher();
            let work = async move {
                sleep(Duration::from_millis(10)).await;
                let nested = doing(Access::Read, async move { Ok(describe(start)) });
                let nested = inner.request(nested).await?;
                Ok(format!("{} {nested}", describe(start)))
            };
            let request = dispatcher.request(doing(Access::Read, work));
            queued(request.timeout(Duration::from_secs(seconds)))
        })
        .into();
    let unlimited = queued(dispatcher.request(doing(Access::Read, async move {
        sleep(Duration::from_millis(10)).await;
        Ok(describe(start))
    })));
    for (call, seconds) in calls.into_iter().zip(seconds) {
        let expected = format!("outer {seconds} inner {seconds}");
        assert_eq!(within(call).await.unwrap(), expected);
    }
    assert_eq!(within(unlimited).await.unwrap(), "outer none");
}

#[tokio::test(start_paused = true)]
async fn a_read_learns_that_its_own_caller_has_gone() {
    let module = subject().spawn();
    let dispatcher = module.dispatcher();
    let log = Log::default();
    let mut calls = ["a", "b", "c"].map(|name| {
        let log = log.clone();
        Some(queued(dispatcher.request(doing(
            Access::Read,
            async move {
                current::cancelled().await;
                log.push(name);
                Ok(String::new())
            },
        ))))
    });
    settle().await;
    for (index, seen) in [(1, "b"), (0, "a"), (2, "c")] {
        calls[index] = None;
        settle().await;
        assert_eq!(log.lines().last().map(String::as_str), Some(seen));
    }
    assert_eq!(log.lines().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_expired_or_was_abandoned_in_the_queue_never_starts() {
    let gate = Gate::closed();
    let module = subject().readers(1).spawn();
    let dispatcher = module.dispatcher();
    let first = queued(dispatcher.request(read(&gate, "first")));
    gate.entered().await;
    let expired = queued(
        dispatcher
            .request(read(&gate, "expired"))
            .timeout(Duration::from_millis(5)),
    );
    drop(queued(dispatcher.request(read(&gate, "abandoned"))));
    let error = reason(within(expired).await);
    let stage = Stage::Queued;
    assert_eq!(error, SparkChannelError::TimedOut { stage });
    gate.open();
    within(first).await.unwrap();
    let stats = module.shutdown(Stop::Drain).await.stats;
    assert_eq!((stats.handled, stats.expired, stats.abandoned), (1, 1, 1));
    assert_eq!(gate.log.lines(), ["first"]);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_times_out_beside_others_is_said_to_run() {
    let gate = Gate::closed();
    let module = subject().spawn();
    let dispatcher = module.dispatcher();
    let timeout = Duration::from_millis(5);
    let calls: Vec<_> = ["a", "b", "c"]
        .map(|name| queued(dispatcher.request(read(&gate, name)).timeout(timeout)))
        .into();
    for call in calls {
        let stage = Stage::Running;
        let error = reason(within(call).await);
        assert_eq!(error, SparkChannelError::TimedOut { stage });
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiting_write_whose_caller_has_gone_holds_nobody_up() {
    let (slow, quick) = (Gate::closed(), Gate::opened());
    let module = subject().spawn();
    let dispatcher = module.dispatcher();
    let first = queued(dispatcher.request(read(&slow, "slow")));
    slow.entered().await;
    let expired = dispatcher.request(write(&quick, "expired"));
    let expired = queued(expired.timeout(Duration::from_millis(5)));
    let abandoned = queued(dispatcher.request(write(&quick, "abandoned")));
    let behind = queued(dispatcher.request(read(&quick, "behind")));
    assert!(reason(within(expired).await).never_started());
    drop(abandoned);
    assert_eq!(within(behind).await.unwrap(), "behind");
    slow.open();
    within(first).await.unwrap();
    let stats = module.shutdown(Stop::Drain).await.stats;
    assert_eq!((stats.handled, stats.expired, stats.abandoned), (2, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn only_the_abandoned_read_is_dropped() {
    let gate = Gate::closed();
    let module = subject().drop_abandoned().spawn();
    let dispatcher = module.dispatcher();
    let mut calls = ["a", "b", "c"].map(|name| Some(queued(dispatcher.request(read(&gate, name)))));
    for _ in 0..3 {
        gate.entered().await;
    }
    calls[1] = None;
    settle().await;
    assert_eq!(module.stats().interrupted, 1);
    gate.open();
    for call in calls.into_iter().flatten() {
        within(call).await.unwrap();
    }
    let stats = module.shutdown(Stop::Drain).await.stats;
    assert_eq!((stats.handled, stats.interrupted), (2, 1));
}

// --- panics

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_read_is_an_error_for_its_caller_only() {
    for culprit in 0..3 {
        let gate = Gate::closed();
        let module = subject().spawn();
        let dispatcher = module.dispatcher();
        let calls: Vec<_> = (0..3)
            .map(|index| {
                let gate = gate.clone();
                queued(dispatcher.request(doing(Access::Read, async move {
                    pass(&gate, "in").await;
                    assert!(index != culprit, "told to panic");
                    Ok(index.to_string())
                })))
            })
            .collect();
        settle().await;
        gate.open();
        for (index, call) in calls.into_iter().enumerate() {
            let outcome = within(call).await;
            if index == culprit {
                assert!(is_panic(&reason(outcome)));
            } else {
                assert_eq!(outcome.unwrap(), index.to_string());
            }
        }
        let again = dispatcher.request(read(&gate, "again"));
        assert_eq!(within(again).await.unwrap(), "again");
        let stats = module.shutdown(Stop::Drain).await.stats;
        assert_eq!((stats.handled, stats.panicked, stats.panics), (3, 1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_waits_for_the_reads_beside_the_one_that_panicked() {
    let (slow, quick) = (Gate::closed(), Gate::opened());
    let log = Log::default();
    let fresh = log.clone();
    let module = reader_writer(Subject { log: log.clone() })
        .on_panic(PanicPolicy::restart(move || Subject { log: fresh.clone() }))
        .spawn();
    let dispatcher = module.dispatcher();
    let sibling = queued(dispatcher.request(read(&slow, "sibling")));
    slow.entered().await;
    let culprits = [(); 2].map(|()| queued(dispatcher.request(panicking(Access::Read))));
    let behind = queued(dispatcher.request(read(&quick, "behind")));
    let [one, other] = culprits;
    assert!(is_panic(&reason(within(one).await)));
    settle().await;
    assert_eq!((log.lines().len(), quick.log.lines().len()), (1, 0));
    slow.open();
    assert_eq!(within(sibling).await.unwrap(), "sibling");
    assert!(is_panic(&reason(within(other).await)));
    assert_eq!(within(behind).await.unwrap(), "behind");
    assert_eq!(module.stats().restarts, 2);
    module.shutdown(Stop::Drain).await;
    assert_eq!(log.lines(), ["started", "started", "started", "stopped"]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_that_stops_lets_the_other_reads_end_and_gives_back_the_rest() {
    let gate = Gate::closed();
    let module = subject().on_panic(PanicPolicy::Stop).spawn();
    let dispatcher = module.dispatcher();
    let sibling = queued(dispatcher.request(read(&gate, "sibling")));
    gate.entered().await;
    let culprit = queued(dispatcher.request(panicking(Access::Read)));
    let behind = queued(dispatcher.request(read(&gate, "behind")));
    assert!(is_panic(&reason(within(culprit).await)));
    gate.open();
    assert_eq!(within(sibling).await.unwrap(), "sibling");
    let error = reason(within(behind).await);
    assert_eq!(error, SparkChannelError::ShuttingDown);
    let report = module.wait().await;
    assert_eq!(report.reason, StopReason::Panicked);
    assert_eq!(report.stats.accounted(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_panic_that_tells_the_access_is_an_error_for_one_caller() {
    let gate = Gate::closed();
    let module = subject().spawn();
    let dispatcher = module.dispatcher();
    let sibling = queued(dispatcher.request(read(&gate, "sibling")));
    gate.entered().await;
    let unknown = Message {
        access: None,
        ..read(&gate, "unknown")
    };
    let error = reason(within(dispatcher.request(unknown)).await);
    assert!(is_panic(&error));
    gate.open();
    within(sibling).await.unwrap();
    let stats = module.shutdown(Stop::Drain).await.stats;
    assert_eq!((stats.handled, stats.panicked), (1, 1));
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_panics_when_it_is_dropped_unread_spares_the_reads_that_run() {
    let gate = Gate::closed();
    let names = AtomicUsize::new(0);
    let module = subject()
        .message_names(move |_| {
            assert!(names.fetch_add(1, Ordering::Relaxed) != 1, "nameless");
            "read"
        })
        .spawn();
    let dispatcher = module.dispatcher();
    let held = queued(dispatcher.request(read(&gate, "held")));
    gate.entered().await;

    let explosive = || {
        let bomb = Bomb;
        doing(Access::Read, async move {
            let _bomb = bomb;
            Ok(String::new())
        })
    };
    let mut unknown = explosive();
    unknown.access = None;
    let unknown = reason(within(dispatcher.request(unknown)).await);
    let nameless = reason(within(dispatcher.request(explosive())).await);
    gate.open();

    assert_eq!(within(held).await.unwrap(), "held");
    let text = "told to panic".into();
    assert_eq!(unknown, SparkChannelError::Panicked { text });
    let text = "nameless".into();
    assert_eq!(nameless, SparkChannelError::Panicked { text });
    let current = dispatcher.message_stats().expect("asked for").current;
    assert!(current.is_empty());
    let report = within(module.shutdown(Stop::Drain)).await;
    assert_eq!((report.stats.handled, report.stats.panicked), (1, 2));
    assert_eq!(report.stats.accounted(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_a_read_is_dropped_is_answered_and_spares_the_others() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("told to panic");
        }
    }
    let module = subject().spawn();
    let dispatcher = module.dispatcher();
    let calls = [(); 3].map(|()| {
        queued(dispatcher.request(doing(Access::Read, async {
            let _bomb = Bomb;
            std::future::pending().await
        })))
    });
    settle().await;
    let report = within(module.shutdown(Stop::Now)).await;
    assert_eq!((report.stats.panicked, report.stats.panics), (3, 3));
    for call in calls {
        assert!(is_panic(&reason(within(call).await)));
    }
}

// --- stopping

#[tokio::test(start_paused = true)]
async fn stopped_now_it_drops_every_running_read_and_says_so() {
    let gate = Gate::closed();
    let module = subject().readers(2).spawn();
    let dispatcher = module.dispatcher();
    let running = ["a", "b"].map(|name| queued(dispatcher.request(read(&gate, name))));
    let waiting = queued(dispatcher.request(read(&gate, "c")));
    gate.entered().await;
    gate.entered().await;
    let report = within(module.shutdown(Stop::Now)).await;
    assert_eq!((report.stats.interrupted, report.stats.returned), (2, 1));
    for call in running {
        let error = reason(within(call).await);
        assert_eq!(error, SparkChannelError::Cancelled);
    }
    let error = reason(within(waiting).await);
    assert_eq!(error, SparkChannelError::ShuttingDown);
}

#[tokio::test(start_paused = true)]
async fn stopped_after_the_current_ones_it_lets_every_running_read_end() {
    let gate = Gate::closed();
    let module = subject().readers(2).spawn();
    let dispatcher = module.dispatcher();
    let running = ["a", "b"].map(|name| queued(dispatcher.request(read(&gate, name))));
    let waiting = queued(dispatcher.request(read(&gate, "c")));
    gate.entered().await;
    gate.entered().await;
    let stopping = tokio::spawn(module.shutdown(Stop::AfterCurrent));
    settle().await;
    gate.let_pass(1);
    settle().await;
    assert!(!stopping.is_finished());
    gate.open();
    let report = within(stopping).await.unwrap();
    assert_eq!((report.stats.handled, report.stats.returned), (2, 1));
    for call in running {
        within(call).await.unwrap();
    }
    assert!(reason(within(waiting).await).never_started());
}

#[tokio::test(start_paused = true)]
async fn drained_it_handles_what_was_accepted_and_refuses_the_rest_at_once() {
    let gate = Gate::closed();
    let module = subject().readers(2).capacity(8).spawn();
    let dispatcher = module.dispatcher();
    let mut calls = Vec::new();
    for name in ["a", "b", "c"] {
        calls.push(queued(dispatcher.request(read(&gate, name))));
    }
    calls.push(queued(dispatcher.request(write(&gate, "w"))));
    calls.push(queued(dispatcher.request(read(&gate, "d"))));
    gate.entered().await;
    gate.entered().await;
    let stopping = tokio::spawn(module.shutdown(Stop::Drain));
    settle().await;
    let late = reason(within(dispatcher.request(read(&gate, "late"))).await);
    assert_eq!(late, SparkChannelError::ShuttingDown);
    gate.open();
    let report = within(stopping).await.unwrap();
    assert_eq!(report.stats.handled, 5);
    assert_eq!(gate.log.lines(), ["a", "b", "c", "w", "d"]);
    for call in calls {
        within(call).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn no_running_read_outlives_the_deadline_of_a_shutdown() {
    for stop in [Stop::Drain, Stop::AfterCurrent, Stop::Now] {
        let gate = Gate::closed();
        let module = subject().spawn();
        let dispatcher = module.dispatcher();
        let calls = ["a", "b", "c"].map(|name| queued(dispatcher.request(read(&gate, name))));
        let write = queued(dispatcher.request(write(&gate, "w")));
        for _ in 0..3 {
            gate.entered().await;
        }
        let within_time = Duration::from_millis(30);
        let told = Instant::now();
        let report = within(module.shutdown_within(stop, within_time)).await;
        assert!(told.elapsed() <= within_time + Duration::from_millis(2));
        assert_eq!((report.stats.interrupted, report.stats.returned), (3, 1));
        for call in calls {
            let error = reason(within(call).await);
            assert_eq!(error, SparkChannelError::Cancelled);
        }
        assert!(reason(within(write).await).never_started());
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_message_keeps_its_place_behind_the_reads() {
    let gate = Gate::closed();
    let module = subject().spawn();
    let dispatcher = module.dispatcher();
    let before = ["a", "b"].map(|name| queued(dispatcher.request(read(&gate, name))));
    let token = SparkChannelCancellationToken::new();
    let shutdown = SparkGenericModuleMessage::Shutdown(token.clone());
    dispatcher.sender.send(shutdown).await.unwrap();
    let behind = queued(dispatcher.request(read(&gate, "behind")));
    gate.entered().await;
    gate.open();
    for call in before {
        within(call).await.unwrap();
    }
    let error = reason(within(behind).await);
    assert_eq!(error, SparkChannelError::ShuttingDown);
    within(token.inner().cancelled()).await;
    assert_eq!(module.wait().await.reason, StopReason::ShutdownMessage);
}

#[tokio::test(start_paused = true)]
async fn without_dispatchers_it_ends_once_every_read_has_ended() {
    let gate = Gate::closed();
    let module = subject().spawn();
    let mut sent = Vec::new();
    for name in ["a", "b"] {
        let (sender, reply) = oneshot::channel();
        let wrapper = spark_channel::CallbackWrapper::new(read(&gate, name), sender);
        let message = SparkGenericModuleMessage::Request(wrapper);
        module.dispatcher().sender.send(message).await.unwrap();
        sent.push(reply);
    }
    let waiting = tokio::spawn(module.wait());
    gate.entered().await;
    gate.entered().await;
    settle().await;
    assert!(!waiting.is_finished());
    gate.open();
    let report = within(waiting).await.unwrap();
    assert_eq!(report.reason, StopReason::NoDispatchers);
    assert_eq!(report.stats.handled, 2);
}

fn is_panic(error: &SparkChannelError) -> bool {
    matches!(error, SparkChannelError::Panicked { text } if &**text == "told to panic")
}
