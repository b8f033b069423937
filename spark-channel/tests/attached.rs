//! Timers and streams that send commands to a module.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use spark_channel::{
    Detached, NativeHandler, SparkGenericModuleDispatcher, Stop, StopReason, Tick, module,
    spawn_module,
};
use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, advance},
};

use crate::support::{Gate, within};

mod support;

const SECOND: Duration = Duration::from_secs(1);

/// Shows each tick to the test, and takes a permit for it.
struct Ticked {
    seen: mpsc::Sender<(Instant, u64)>,
    permits: Arc<Semaphore>,
}

impl NativeHandler for Ticked {
    type Message = Tick;
    type Response = ();
    type Error = eyre::Report;

    async fn handle_request(&mut self, _: Tick) -> eyre::Result<()> {
        Ok(())
    }

    async fn handle_command(&mut self, tick: Tick) -> eyre::Result<()> {
        self.seen.send((tick.due(), tick.skipped())).await?;
        self.permits.acquire().await?.forget();
        Ok(())
    }
}

fn ticked(permits: usize) -> (Ticked, mpsc::Receiver<(Instant, u64)>, Arc<Semaphore>) {
    let (seen, ticks) = mpsc::channel(64);
    let permits = Arc::new(Semaphore::new(permits));
    let ticked = Ticked {
        seen,
        permits: Arc::clone(&permits),
    };
    (ticked, ticks, permits)
}

async fn next<T>(from: &mut mpsc::Receiver<T>) -> T {
    within(from.recv()).await.expect("the other end is held")
}

/// What a test sends, as a stream; tells when it is dropped.
struct Items {
    receiver: mpsc::Receiver<String>,
    taken: Arc<AtomicU64>,
    _alive: Arc<()>,
}

impl Stream for Items {
    type Item = String;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<String>> {
        let polled = self.receiver.poll_recv(cx);
        if let Poll::Ready(Some(item)) = &polled {
            self.taken.fetch_add(1, Ordering::Relaxed);
            assert!(item != "panic", "told to panic");
        }
        polled
    }
}

struct Source {
    sender: mpsc::Sender<String>,
    taken: Arc<AtomicU64>,
    alive: std::sync::Weak<()>,
}

fn source() -> (Source, Items) {
    let (sender, receiver) = mpsc::channel(64);
    let (taken, alive) = (Arc::default(), Arc::new(()));
    let source = Source {
        sender,
        taken: Arc::clone(&taken),
        alive: Arc::downgrade(&alive),
    };
    (
        source,
        Items {
            receiver,
            taken,
            _alive: alive,
        },
    )
}

#[tokio::test(start_paused = true)]
async fn a_timer_ticks_once_per_period_from_one_period_on() {
    let (ticked, mut ticks, _permits) = ticked(100);
    let module = spawn_module(ticked);
    let start = Instant::now();

    let _timer = module.every(SECOND, |tick| tick);

    for number in 1..=3 {
        assert_eq!(next(&mut ticks).await, (start + SECOND * number, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn ticks_are_skipped_while_one_is_queued_or_handled_and_stay_on_schedule() {
    let (ticked, mut ticks, permits) = ticked(0);
    let module = spawn_module(ticked);
    let start = Instant::now();
    let _timer = module.every(SECOND, |tick| tick);

    assert_eq!(next(&mut ticks).await, (start + SECOND, 0));
    tokio::time::sleep(SECOND * 3 + SECOND / 2).await;
    assert!(ticks.try_recv().is_err() && module.stats().depth == 0);
    permits.add_permits(1);

    assert_eq!(next(&mut ticks).await, (start + SECOND * 5, 3));
}

#[tokio::test(start_paused = true)]
async fn ticks_missed_because_time_jumped_are_skipped() {
    let (ticked, mut ticks, _permits) = ticked(100);
    let module = spawn_module(ticked);
    let start = Instant::now();
    let _timer = module.every(SECOND, |tick| tick);
    tokio::task::yield_now().await;

    advance(SECOND * 4 + SECOND / 2).await;

    assert_eq!(next(&mut ticks).await, (start + SECOND, 0));
    assert_eq!(next(&mut ticks).await, (start + SECOND * 5, 3));
}

#[tokio::test(start_paused = true)]
async fn a_message_without_its_tick_is_bounded_by_the_mailbox() {
    let gate = Gate::closed();
    let gated = module(gate.module()).capacity(2).spawn();
    let _timer = gated.every(SECOND, |_| "tick".into());

    tokio::time::sleep(SECOND * 20).await;

    assert_eq!(gated.stats().depth, 2);
    gate.open();
    // One in the handler, what the mailbox held, and one that waited for room.
    for _ in 0..4 {
        gate.entered().await;
    }
    assert_eq!(gate.log.lines().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_timer_fires_once_after_its_delay() {
    let gate = Gate::opened();
    let gated = spawn_module(gate.module());
    let start = Instant::now();

    let timer = gated.after(SECOND * 2, || "once".into());

    assert_eq!(within(timer.wait()).await, Detached::Finished);
    assert_eq!(start.elapsed().as_secs(), 2);
    within(gated.shutdown(Stop::Drain)).await;
    assert_eq!(gate.log.lines(), ["once", "stopped"]);
}

#[tokio::test(start_paused = true)]
async fn a_delay_beyond_the_clock_never_comes() {
    let gated = spawn_module(Gate::opened().module());

    let (once, often) = (
        gated.after(Duration::MAX, || "never".into()),
        gated.every(Duration::MAX, |_| "never".into()),
    );
    tokio::task::yield_now().await;

    assert!(!once.is_finished() && !often.is_finished());
    assert_eq!(within(once.detach()).await, Detached::Aborted);
}

#[tokio::test]
#[should_panic(expected = "must not be zero")]
async fn a_period_of_zero_panics() {
    let gated = spawn_module(Gate::opened().module());
    let _timer = gated.every(Duration::ZERO, |_| "never".into());
}

#[tokio::test(start_paused = true)]
async fn a_timer_that_is_dropped_ticks_no_more() {
    let (ticked, mut ticks, _permits) = ticked(100);
    let module = spawn_module(ticked);
    let timer = module.every(SECOND, |tick| tick);
    next(&mut ticks).await;

    drop(timer);
    tokio::time::sleep(SECOND * 5).await;

    assert!(ticks.try_recv().is_err());
}

#[tokio::test]
async fn what_is_attached_does_not_keep_the_module_alive_and_ends_with_it() {
    let gated = spawn_module(Gate::opened().module());
    let (source, items) = source();
    let timer = gated.every(SECOND * 3600, |_| "tick".into());
    let once = gated.after(SECOND * 3600, || "once".into());
    let stream = gated.attach(items, |item| item);
    tokio::task::yield_now().await;

    let report = within(gated.wait()).await;

    assert_eq!(report.reason, StopReason::NoDispatchers);
    for attached in [timer, once, stream] {
        assert_eq!(within(attached.wait()).await, Detached::ModuleStopped);
    }
    assert_eq!(source.alive.strong_count(), 0);
}

#[tokio::test]
async fn what_is_attached_ends_when_the_module_is_told_to_stop() {
    let gate = Gate::closed();
    let gated = spawn_module(gate.module());
    gated.dispatcher().try_command("held").expect("accepted");
    gate.entered().await;
    let (_source, items) = source();
    let stream = gated.attach(items, |item| item);
    tokio::task::yield_now().await;

    gated.stop(Stop::Drain);

    assert_eq!(within(stream.wait()).await, Detached::ModuleStopped);
    assert!(!gated.is_finished());
    gate.open();
    within(gated.wait()).await;
}

#[tokio::test]
async fn what_is_attached_to_a_module_that_has_ended_ends_at_once() {
    let gated = spawn_module(Gate::opened().module());
    let weak = gated.downgrade();
    let dispatcher = gated.dispatcher();
    within(gated.shutdown(Stop::Drain)).await;
    let (_source, items) = source();

    assert_eq!(
        within(weak.attach(items, |item| item).wait()).await,
        Detached::ModuleStopped
    );
    assert_eq!(
        within(weak.after(SECOND * 3600, String::new).wait()).await,
        Detached::ModuleStopped
    );
    drop(dispatcher);
}

#[tokio::test]
async fn the_items_of_a_stream_arrive_in_order_until_it_ends() {
    let gate = Gate::opened();
    let gated = spawn_module(gate.module());
    let (source, items) = source();
    let stream = gated.attach(items, |item| format!("item {item}"));

    for number in 1..=3 {
        source.sender.try_send(number.to_string()).expect("room");
    }
    drop(source);

    assert_eq!(within(stream.wait()).await, Detached::Finished);
    within(gated.shutdown(Stop::Drain)).await;
    assert_eq!(gate.log.lines(), ["item 1", "item 2", "item 3", "stopped"]);
}

#[tokio::test]
async fn a_full_mailbox_holds_back_the_stream() {
    let gate = Gate::closed();
    let gated = module(gate.module()).capacity(1).spawn();
    let (source, items) = source();
    for number in 1..=9 {
        source.sender.try_send(number.to_string()).expect("room");
    }
    let _stream = gated.attach(items, |item| item);
    gate.entered().await;
    for _ in 0..9 {
        tokio::task::yield_now().await;
    }

    // One in the handler, one in the mailbox, one waits for room.
    assert_eq!(source.taken.load(Ordering::Relaxed), 3);
    gate.open();
    for _ in 0..8 {
        gate.entered().await;
    }
    assert_eq!(gate.log.lines().concat(), "123456789");
}

#[tokio::test]
async fn a_stream_that_is_detached_has_been_dropped() {
    let gated = spawn_module(Gate::opened().module());
    let (source, items) = source();
    let stream = gated.attach(items, |item| item);
    tokio::task::yield_now().await;

    assert_eq!(within(stream.detach()).await, Detached::Aborted);

    assert_eq!(source.alive.strong_count(), 0);
}

#[tokio::test]
async fn a_stream_or_a_closure_that_panics_ends_only_itself() {
    let gate = Gate::opened();
    let gated = spawn_module(gate.module());
    let (source, items) = source();
    source.sender.try_send("panic".into()).expect("room");

    let stream = within(gated.attach(items, |item| item).wait()).await;
    let closure = within(
        gated
            .after(Duration::ZERO, || panic!("in a closure"))
            .wait(),
    )
    .await;

    assert_eq!(
        stream,
        Detached::Panicked {
            text: "told to panic".into()
        }
    );
    assert_eq!(
        closure,
        Detached::Panicked {
            text: "in a closure".into()
        }
    );
    assert_eq!(source.alive.strong_count(), 0);
    let handled = within(gated.dispatcher().request("still here")).await;
    assert_eq!(handled.expect("handled"), "still here");
}

#[tokio::test]
async fn a_stream_that_is_always_ready_lets_others_run() {
    struct Always;
    impl Stream for Always {
        type Item = ();
        fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<()>> {
            Poll::Ready(Some(()))
        }
    }
    // Room for more than any stream sends at a time.
    let (sender, mailbox) = mpsc::channel(100_000);
    let dispatcher = SparkGenericModuleDispatcher::<(), ()>::new(sender);

    let stream = dispatcher.downgrade().attach(Always, |()| ());
    tokio::task::yield_now().await;

    assert!(!mailbox.is_empty() && mailbox.len() < 10_000);
    assert_eq!(within(stream.detach()).await, Detached::Aborted);
}
