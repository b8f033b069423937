//! What a full class does, and how its senders wait for room.

use std::{num::NonZeroUsize, time::Duration};

use spark_channel::{Class, NativeHandler, Overflow, SparkChannelError, Stage, Stop, module, pool};
use tokio::time::Instant;

use crate::{
    sorting::{busy, class, classify, drained, sorted},
    support::{Gate, Runner, job, queued, reason, within},
};

#[path = "support/sorting.rs"]
mod sorting;
mod support;

// === what a full class does ===

#[tokio::test]
async fn reject_gives_the_message_back_whatever_the_method() {
    let gate = Gate::closed();
    let builder = module(gate.module()).capacity(1).overflow(Overflow::Reject);
    let module = busy(&gate, builder).await;
    let dispatcher = module.dispatcher();
    dispatcher.try_command("queued").expect("room");

    let refused = within(dispatcher.command("1")).await.expect_err("full");
    assert_eq!(refused.reason, SparkChannelError::Full);
    assert_eq!(refused.into_inner(), "1");
    let refused = dispatcher.try_request("2").expect_err("full");
    assert_eq!(refused.into_inner(), "2");
    let refused = reason(within(dispatcher.request("3")).await);
    assert_eq!(refused, SparkChannelError::Full);

    let (lines, stats) = drained(&gate, module).await;
    assert_eq!(lines, ["queued"]);
    assert_eq!((stats.rejected, stats.accounted()), (3, 2));
}

#[tokio::test]
async fn drop_newest_keeps_what_is_queued() {
    let gate = Gate::closed();
    let builder = module(gate.module())
        .capacity(2)
        .overflow(Overflow::DropNewest);
    let module = busy(&gate, builder).await;
    let dispatcher = module.dispatcher();
    for command in ["1", "2", "3", "4"] {
        within(dispatcher.command(command)).await.expect("accepted");
    }
    let dropped = reason(within(dispatcher.request("5")).await);

    assert_eq!(dropped, SparkChannelError::Overflowed);
    assert!(dropped.never_started() && dropped.is_retryable());
    let (lines, stats) = drained(&gate, module).await;
    assert_eq!(lines, ["1", "2"]);
    assert_eq!(
        (stats.dropped, stats.accounted(), stats.rejected),
        (3, 6, 0)
    );
}

#[tokio::test]
async fn drop_oldest_makes_room_and_tells_whoever_waits_for_what_is_dropped() {
    let gate = Gate::closed();
    let builder = module(gate.module())
        .capacity(2)
        .overflow(Overflow::DropOldest);
    let module = busy(&gate, builder).await;
    let dispatcher = module.dispatcher();
    let mut asked = queued(dispatcher.request("1"));
    let kept = queued(dispatcher.request("2"));
    dispatcher.try_command("3").expect("accepted");

    assert!(asked.is_woken());
    let dropped = reason(within(&mut asked).await);
    assert_eq!(dropped, SparkChannelError::Overflowed);
    assert_eq!(module.stats().depth, 2);
    let (lines, stats) = drained(&gate, module).await;
    assert_eq!(within(kept).await.expect("handled"), "2");
    assert_eq!(lines, ["2", "3"]);
    assert_eq!((stats.dropped, stats.accounted()), (1, 4));
}

#[tokio::test]
async fn each_class_is_full_for_itself() {
    let gate = Gate::closed();
    let builder = module(gate.module())
        .capacity(1)
        .classify(|message| classify(message));
    let module = busy(&gate, builder).await;
    let dispatcher = module.dispatcher();
    dispatcher.try_command("data").expect("room");

    assert!(dispatcher.try_command("more data").is_err());
    dispatcher.try_command("control 1").expect("room");
    dispatcher.try_command("control 2").expect("room");
    assert!(dispatcher.try_command("control 3").is_err());
    for quote in ["latest 1", "latest 2", "latest 3"] {
        dispatcher.try_command(quote).expect("accepted");
    }

    let stats = dispatcher.class_stats();
    assert_eq!(class(&stats, "default").depth, 1);
    assert_eq!(class(&stats, "control").depth, 2);
    let latest = class(&stats, "latest");
    assert_eq!((latest.depth, latest.dropped, latest.high_water), (2, 1, 2));
    assert_eq!(module.stats().depth, 5);
    let (lines, stats) = drained(&gate, module).await;
    assert_eq!(
        lines,
        ["control 1", "control 2", "data", "latest 2", "latest 3"]
    );
    assert_eq!(stats.accounted(), 7);
}

#[tokio::test]
async fn a_command_takes_the_place_of_an_older_one_with_the_same_key() {
    let gate = Gate::closed();
    let module = sorted(&gate).await;
    let dispatcher = module.dispatcher();
    for quote in [
        "quote a 1",
        "quote b 1",
        "quote a 2",
        "quote b 2",
        "quote a 3",
    ] {
        dispatcher.try_command(quote).expect("accepted");
    }
    let stats = dispatcher.class_stats();
    assert_eq!(class(&stats, "latest").conflated, 3);
    // A third key finds the class full.
    dispatcher.try_command("quote c 1").expect("accepted");

    let (lines, stats) = drained(&gate, module).await;
    assert_eq!(lines, ["quote b 2", "quote c 1"]);
    assert_eq!(
        (stats.conflated, stats.dropped, stats.accounted()),
        (3, 1, 7)
    );
}

#[tokio::test]
async fn a_request_is_never_replaced() {
    let gate = Gate::closed();
    let module = sorted(&gate).await;
    let dispatcher = module.dispatcher();
    let asked = queued(dispatcher.request("quote a 1"));
    dispatcher.try_command("quote a 2").expect("accepted");

    let (lines, stats) = drained(&gate, module).await;
    assert_eq!(within(asked).await.expect("handled"), "quote a 1");
    assert_eq!(lines, ["quote a 1", "quote a 2"]);
    assert_eq!(stats.conflated, 0);
}

#[tokio::test]
async fn a_sender_that_never_waits_lets_its_module_run() {
    let module = module(Gate::opened().module())
        .capacity(1)
        .overflow(Overflow::DropOldest)
        .spawn();
    let dispatcher = module.dispatcher();

    let flood = async {
        while module.stats().handled < 10 {
            dispatcher.command("again").await.expect("accepted");
        }
    };
    within(flood).await;

    let stats = within(module.shutdown(Stop::Drain)).await.stats;
    assert!(stats.dropped > 0);
}

/// Panics when it is dropped before it was handled.
struct Fragile(Option<u32>);

struct Careful;

impl Drop for Fragile {
    fn drop(&mut self) {
        assert!(self.0.is_none(), "told to panic");
    }
}

impl NativeHandler for Careful {
    type Message = Fragile;
    type Response = u32;
    type Error = eyre::Report;

    async fn handle_request(&mut self, mut message: Fragile) -> eyre::Result<u32> {
        tokio::task::yield_now().await;
        Ok(message.0.take().unwrap_or_default())
    }

    async fn handle_command(&mut self, message: Fragile) -> eyre::Result<()> {
        self.handle_request(message).await.map(drop)
    }
}

#[tokio::test]
async fn a_message_that_panics_when_it_is_dropped_harms_nobody() {
    let module = module(Careful)
        .capacity(1)
        .overflow(Overflow::DropOldest)
        .spawn();
    let dispatcher = module.dispatcher();

    let dropped = queued(dispatcher.request(Fragile(Some(1))));
    dispatcher.try_command(Fragile(Some(2))).expect("accepted");
    let kept = queued(dispatcher.request(Fragile(Some(3))));

    let dropped = reason(within(dropped).await);
    assert_eq!(dropped, SparkChannelError::Overflowed);
    assert_eq!(within(kept).await.expect("handled"), 3);
    let stats = within(module.shutdown(Stop::Drain)).await.stats;
    assert_eq!((stats.dropped, stats.accounted()), (2, 3));
}

#[tokio::test]
async fn a_routed_pool_sorts_what_waits_in_front_of_its_router() {
    let gate = Gate::closed();
    let module = {
        let gate = gate.clone();
        pool(2, move || gate.module())
            .capacity(2)
            .overflow(Overflow::DropOldest)
            .round_robin()
            .spawn()
    };
    let dispatcher = module.dispatcher();
    let requests: Vec<_> = (0..20)
        .map(|number| queued(dispatcher.request(number.to_string())))
        .collect();
    gate.open();
    let mut answered = 0_u64;
    for request in requests {
        match within(request).await {
            Ok(_) => answered += 1,
            Err(error) => assert_eq!(reason::<()>(Err(error)), SparkChannelError::Overflowed),
        }
    }

    let stats = within(module.shutdown(Stop::Drain)).await.stats;
    assert_eq!((stats.handled, stats.dropped), (answered, 20 - answered));
    assert!((2..20).contains(&answered), "{answered}");
}

// === waiting for room ===

#[tokio::test]
async fn senders_of_one_class_get_room_in_the_order_of_asking_and_those_of_others_do_not_wait() {
    let gate = Gate::closed();
    let builder = module(gate.module())
        .capacity(1)
        .classify(|message| classify(message));
    let module = busy(&gate, builder).await;
    let dispatcher = module.dispatcher();
    dispatcher.try_command("0").expect("room");
    let mut asked = queued(dispatcher.request("1"));
    let told = queued(dispatcher.command("2"));
    let gone = queued(dispatcher.command("gone"));
    let last = queued(dispatcher.command("3"));
    within(dispatcher.command("low")).await.expect("room");
    assert_eq!(class(&dispatcher.class_stats(), "default").waiting, 4);
    drop(gone);

    gate.let_pass(1);
    gate.entered().await;
    assert!(asked.is_woken() && !told.is_woken());
    assert!(dispatcher.try_command("newcomer").is_err());
    assert!(asked.poll().is_pending(), "sent, and not answered");
    gate.open();

    assert_eq!(within(asked).await.expect("handled"), "1");
    within(told).await.expect("accepted");
    within(last).await.expect("accepted");
    let (mut lines, _) = drained(&gate, module).await;
    lines.retain(|line| line != "low");
    assert_eq!(lines, ["0", "1", "2", "3"]);
}

#[tokio::test]
async fn a_sender_that_leaves_with_a_place_promised_to_it_passes_it_on() {
    let gate = Gate::closed();
    let builder = module(gate.module())
        .capacity(1)
        .classify(|message| classify(message));
    let module = busy(&gate, builder).await;
    let dispatcher = module.dispatcher();
    dispatcher.try_command("0").expect("room");
    let gone = queued(dispatcher.command("gone"));
    let next = queued(dispatcher.command("next"));

    gate.let_pass(1);
    gate.entered().await;
    assert!(gone.is_woken());
    drop(gone);

    assert!(next.is_woken());
    within(next).await.expect("accepted");
    let (lines, stats) = drained(&gate, module).await;
    assert_eq!(lines, ["0", "next"]);
    assert_eq!(stats.accounted(), 3);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_room_ends_at_the_deadline() {
    let gate = Gate::closed();
    let builder = module(gate.module())
        .capacity(1)
        .classify(|message| classify(message));
    let module = busy(&gate, builder).await;
    let dispatcher = module.dispatcher();
    dispatcher.try_command("queued").expect("room");
    let started = Instant::now();
    let timeout = Duration::from_millis(30);

    let late = within(dispatcher.request("late").timeout(timeout)).await;

    let stage = Stage::NotAdmitted;
    assert_eq!(reason(late), SparkChannelError::TimedOut { stage });
    assert!(started.elapsed() >= timeout);
    let (lines, stats) = drained(&gate, module).await;
    assert_eq!(lines, ["queued"]);
    assert_eq!((stats.rejected, stats.accounted()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_handler_waits_for_room_elsewhere_no_longer_than_its_own_deadline() {
    let gate = Gate::closed();
    let builder = module(gate.module())
        .capacity(1)
        .classify(|message| classify(message));
    let full = busy(&gate, builder).await;
    let target = full.dispatcher();
    target.try_command("queued").expect("room");
    let runner = module(Runner).spawn();
    let log = gate.log.clone();

    let nested = job(async move {
        let refused = target.command("nested").await.expect_err("no room");
        log.push(refused.to_string());
        Ok(0)
    });
    let dispatcher = runner.dispatcher();
    let asked = dispatcher
        .request(nested)
        .timeout(Duration::from_millis(50));
    assert!(within(asked).await.is_err());

    within(runner.shutdown(Stop::Drain)).await;
    let stage = Stage::NotAdmitted;
    let late = SparkChannelError::TimedOut { stage }.to_string();
    assert_eq!(gate.log.lines(), ["running", &late]);
}

#[tokio::test]
async fn a_handler_does_not_wait_for_room_in_its_own_module() {
    let module = module(Runner)
        .capacity(1)
        .classify(|_| Class::DEFAULT)
        .spawn();
    let dispatcher = module.dispatcher();
    let own = dispatcher.clone();
    let asks_itself = job(async move {
        own.command(job(async { Ok(1) })).await.expect("room");
        let refused = own.command(job(async { Ok(2) })).await;
        assert_eq!(refused.expect_err("full").reason, SparkChannelError::Full);
        own.request(job(async { Ok(3) })).await
    });

    let deadlock = reason(within(dispatcher.request(asks_itself)).await);

    assert!(matches!(deadlock, SparkChannelError::WouldDeadlock { .. }));
    let stats = within(module.shutdown(Stop::Drain)).await.stats;
    assert_eq!((stats.handled, stats.rejected), (2, 2));
}

#[tokio::test]
async fn many_at_once_are_sorted_like_single_ones() {
    let gate = Gate::closed();
    let builder = module(gate.module())
        .capacity(2)
        .classify(|message| classify(message));
    let module = busy(&gate, builder).await;
    let dispatcher = module.dispatcher();
    let mut told = queued(dispatcher.command_all(["low 1", "high 1", "1", "2", "3"]));
    assert_eq!(module.stats().depth, 4);
    let asked = dispatcher.request_all(["high 2", "4"]);
    let asked = asked.in_flight_max(NonZeroUsize::MIN.saturating_add(1));
    let mut asked = queued(asked);
    assert_eq!(module.stats().depth, 5);

    gate.open();
    let (told, answers) = within(async { tokio::join!(&mut told, &mut asked) }).await;

    assert_eq!(told.expect("accepted"), 5);
    let answers: Vec<_> = answers.into_iter().map(|a| a.expect("handled")).collect();
    assert_eq!(answers, ["high 2", "4"]);
    let (lines, _) = drained(&gate, module).await;
    assert_eq!(lines[..3], ["high 1", "high 2", "1"]);
    assert_eq!(lines.len(), 7);
}

#[tokio::test]
async fn a_batch_stops_at_the_first_that_is_refused() {
    let gate = Gate::closed();
    let builder = module(gate.module()).capacity(2).overflow(Overflow::Reject);
    let module = busy(&gate, builder).await;
    let dispatcher = module.dispatcher();

    let told = within(dispatcher.command_all(["1", "2", "3", "4"])).await;

    let refused = told.expect_err("full");
    assert_eq!(refused.accepted, 2);
    assert_eq!(refused.messages, ["3", "4"]);
    assert_eq!(refused.reason, SparkChannelError::Full);
    let (lines, stats) = drained(&gate, module).await;
    assert_eq!(lines, ["1", "2"]);
    assert_eq!((stats.rejected, stats.accounted()), (2, 3));
}
