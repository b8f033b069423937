//! A dispatcher as a tower service that is used, or kept, by another module's handler.
#![cfg(feature = "tower")]

use std::time::Duration;

use spark_channel::{
    Deadlocks, DispatcherService, NativeHandler, SparkChannelError, Stage, current, module,
};
use tokio::{
    sync::oneshot,
    task::yield_now,
    time::{Instant, sleep},
};
use tower::{Service, ServiceExt};

use crate::support::{Gate, Job, Runner, job, queued, reason, within};

mod support;

const SECOND: Duration = Duration::from_secs(1);

/// Calls the service it keeps with the job it is sent.
struct Keeper(DispatcherService<Job, u64>);

impl NativeHandler for Keeper {
    type Message = Job;
    type Response = u64;
    type Error = eyre::Report;

    async fn handle_request(&mut self, job: Job) -> eyre::Result<u64> {
        self.0.ready().await?.call(job).await
    }

    async fn handle_command(&mut self, _: Job) -> eyre::Result<()> {
        // It only waits for a place, which the next call may use.
        self.0.ready().await.map(drop)
    }
}

fn nothing() -> Job {
    job(async { Ok(0) })
}

#[tokio::test(start_paused = true)]
async fn a_call_inherits_the_deadline_of_the_request_being_handled() {
    let outer = module(Runner).name("outer").spawn();
    let inner = module(Runner).name("inner").spawn();
    let mut service = inner.dispatcher().service();
    let asked = job(async move {
        let left = job(async { Ok(current::remaining().expect("inherited").as_secs()) });
        service.ready().await?.call(left).await
    });

    let timeout = Duration::from_secs(8);
    let left = within(outer.dispatcher().request(asked).timeout(timeout)).await;

    // The paused clock stands still; the deadline is rounded down to 15 µs.
    assert_eq!(left.expect("in time"), 7);
}

#[tokio::test(start_paused = true)]
async fn in_a_handler_nobody_waits_for_a_place_beyond_the_deadline() {
    let gate = Gate::closed();
    let full = module(gate.module()).capacity(1).spawn();
    let dispatcher = full.dispatcher();
    let mut service = dispatcher.service();
    let _first = queued(dispatcher.request("first"));
    gate.entered().await;
    let _second = dispatcher.try_request("second").expect("room");
    let outer = module(Runner).spawn();
    let (told, result) = oneshot::channel();
    let asked = job(async move {
        let ready = service.ready().await.map(drop);
        let _ = told.send((ready.is_ok(), reason(service.call("third".into()).await)));
        Ok(0)
    });

    let timeout = Duration::from_secs(5);
    let outcome = within(outer.dispatcher().request(asked).timeout(timeout)).await;

    assert!(outcome.is_err());
    let stage = Stage::NotAdmitted;
    let expected = (true, SparkChannelError::TimedOut { stage });
    assert_eq!(within(result).await.expect("told"), expected);
}

#[tokio::test(start_paused = true)]
async fn a_module_that_calls_itself_is_told_so() {
    let handle = module(Runner).name("narcissus").capacity(1).spawn();
    let mut service = handle.dispatcher().service();
    let asked = job(async move {
        let nested = service.ready().await?.call(job(async { Ok(1) }));
        nested.await
    });

    let failed = within(handle.dispatcher().request(asked)).await;

    let text = reason(failed).to_string();
    assert_eq!(text, "request would deadlock: narcissus → narcissus");
}

#[tokio::test(start_paused = true)]
async fn whom_a_module_calls_is_told_that_it_waits() {
    let a = module(Runner).name("a").spawn();
    let b = module(Runner).name("b").spawn();
    let (to_a, mut service) = (a.dispatcher(), b.dispatcher().service());
    let asked = job(async move {
        let back = job(async move { to_a.request(nothing()).await });
        service.ready().await?.call(back).await
    });

    let failed = within(a.dispatcher().request(asked)).await;

    let text = reason(failed).to_string();
    assert_eq!(text, "request would deadlock: b → a → b");
}

#[tokio::test(start_paused = true)]
async fn where_nobody_looks_for_circles_a_module_does_not_wait_for_a_place_of_its_own() {
    let handle = module(Runner).deadlocks(Deadlocks::Off).capacity(1).spawn();
    let dispatcher = handle.dispatcher();
    let (own, mut service) = (dispatcher.clone(), dispatcher.service());
    let asked = job(async move {
        own.try_command(nothing())
            .map_err(|refused| refused.reason)?;
        service.ready().await?.call(nothing()).await
    });

    let failed = within(dispatcher.request(asked)).await;

    assert_eq!(reason(failed), SparkChannelError::Full);
}

#[tokio::test(start_paused = true)]
async fn in_a_handler_nobody_waits_for_a_place_that_is_waiting_for_him() {
    let (a, b) = (module(Runner).name("a"), module(Runner).name("b"));
    let (a, b) = (a.spawn(), b.capacity(1).spawn());
    let (to_a, to_b) = (a.dispatcher(), b.dispatcher());
    let mut service = to_b.service();
    let from_b = to_a.clone();
    let (in_a, entered_a) = oneshot::channel();
    let (go_on, told) = oneshot::channel::<()>();
    let asked = job(async move {
        let _ = in_a.send(());
        told.await?;
        service.ready().await?.call(job(async { Ok(1) })).await
    });
    let asking_a = queued(to_a.request(asked));
    within(entered_a).await.expect("it runs");
    // b waits for a, and its mailbox is full.
    let nested = job(async move { from_b.request(job(async { Ok(2) })).await });
    let asking_b = queued(to_b.request(nested));
    tokio::task::yield_now().await;
    let queued_at_b = to_b.try_request(job(async { Ok(3) })).expect("room");

    go_on.send(()).expect("a listens");

    let text = reason(within(asking_a).await).to_string();
    assert_eq!(text, "request would deadlock: a → b → a");
    assert_eq!(within(asking_b).await.expect("a goes on"), 2);
    assert_eq!(within(queued_at_b).await.expect("b goes on"), 3);
}

// === kept from one message to the next ===

#[tokio::test(start_paused = true)]
async fn a_wait_for_a_place_that_is_taken_up_again_has_the_deadline_of_the_new_message() {
    let gate = Gate::closed();
    let held = gate.clone();
    let full = module(Runner).capacity(1).spawn();
    let to_full = full.dispatcher();
    let _running = queued(to_full.request(job(async move { held.wait().await.map(|()| 0) })));
    gate.entered().await;
    let _waiting = to_full.try_request(nothing()).expect("room");
    let keeper = module(Keeper(to_full.service())).drop_abandoned().spawn();
    let dispatcher = keeper.dispatcher();
    yield_now().await;
    let abandoned = queued(dispatcher.request(nothing()).timeout(SECOND));
    yield_now().await;
    drop(abandoned);
    yield_now().await;
    assert_eq!(keeper.stats().interrupted, 1);

    let next = queued(dispatcher.request(job(async { Ok(7) })).timeout(9 * SECOND));
    sleep(3 * SECOND).await;
    gate.open();

    assert_eq!(within(next).await.expect("in time"), 7);
}

#[tokio::test(start_paused = true)]
async fn what_one_message_was_refused_the_next_one_asks_for_again() {
    let gate = Gate::closed();
    let held = gate.clone();
    let full = module(Runner).capacity(1).spawn();
    let to_full = full.dispatcher();
    let _running = queued(to_full.request(job(async move { held.wait().await.map(|()| 0) })));
    gate.entered().await;
    let _waiting = to_full.try_request(nothing()).expect("room");
    let mut service = to_full.service();
    let runner = module(Runner).spawn();
    let (back, returned) = oneshot::channel();
    // Ready, but with a refusal for the call that it does not make.
    let refused = job(async move {
        let ready = service.ready().await.map(drop);
        let _ = back.send((ready.is_ok(), service));
        Ok(0)
    });
    let asked = runner.dispatcher();
    assert!(
        within(asked.request(refused).timeout(SECOND))
            .await
            .is_err()
    );
    let (was_ready, mut service) = within(returned).await.expect("given back");
    assert!(was_ready);

    gate.open();
    let called = within(service.ready())
        .await
        .expect("open")
        .call(job(async { Ok(7) }));

    assert_eq!(within(called).await.expect("a place of its own"), 7);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_taken_up_again_by_another_message_is_seen_as_its_own() {
    let gate = Gate::closed();
    let (held, full) = (
        gate.clone(),
        module(Runner).name("full").capacity(1).spawn(),
    );
    let to_full = full.dispatcher();
    let keeper = module(Keeper(to_full.service()))
        .name("keeper")
        .drop_abandoned()
        .spawn();
    let dispatcher = keeper.dispatcher();
    // Once it is let, it asks the keeper.
    let back = dispatcher.clone();
    let asking = queued(to_full.request(job(async move {
        held.wait().await?;
        back.request(nothing()).await
    })));
    gate.entered().await;
    let _waiting = to_full.try_request(nothing()).expect("room");
    let abandoned = queued(dispatcher.request(nothing()));
    yield_now().await;
    drop(abandoned);
    yield_now().await;
    assert_eq!(keeper.stats().interrupted, 1);

    let start = Instant::now();
    let next = queued(dispatcher.request(nothing()));
    yield_now().await;
    gate.open();

    let text = reason(within(asking).await).to_string();
    assert_eq!(text, "request would deadlock: full → keeper → full");
    assert_eq!(within(next).await.expect("answered"), 0);
    assert_eq!(start.elapsed(), Duration::ZERO);
}
