//! Many requests, and many commands, at once.

use std::{cell::Cell, num::NonZeroUsize, time::Duration};

use proptest::prelude::*;
use spark_channel::{NativeHandler, SparkChannelError, Stage, Stop, module, pool, spawn_module};
use tokio::{sync::oneshot, time::Instant};

use crate::support::{Gate, Runner, job, queued, reason, within};

#[path = "support/schedules.rs"]
mod schedules;
mod support;

const SECOND: Duration = Duration::from_secs(1);

/// Answers an even number with its half; fails for an odd one and panics at 13.
/// Notes what it was sent.
#[derive(Default)]
struct Halves {
    seen: Vec<u64>,
    at_end: Option<oneshot::Sender<Vec<u64>>>,
}

impl NativeHandler for Halves {
    type Message = u64;
    type Response = u64;
    type Error = eyre::Report;

    async fn handle_request(&mut self, number: u64) -> eyre::Result<u64> {
        self.seen.push(number);
        assert!(number != 13, "thirteen");
        eyre::ensure!(number.is_multiple_of(2), "{number} is odd");
        Ok(number / 2)
    }

    async fn handle_command(&mut self, number: u64) -> eyre::Result<()> {
        self.seen.push(number);
        Ok(())
    }

    async fn stopped(&mut self) {
        if let Some(at_end) = self.at_end.take() {
            let _ = at_end.send(std::mem::take(&mut self.seen));
        }
    }
}

// --- requests

#[tokio::test(start_paused = true)]
async fn every_request_of_a_batch_has_a_result_of_its_own_in_order() {
    let halves = spawn_module(Halves::default()).dispatcher();

    let answers = within(halves.request_all([2_u64, 3, 13, 4])).await;

    let [two, three, thirteen, four] = <[_; 4]>::try_from(answers).expect("four answers");
    assert_eq!((two.expect("even"), four.expect("even")), (1, 2));
    assert_eq!(three.expect_err("odd").to_string(), "3 is odd");
    let text = "thirteen".into();
    assert_eq!(reason(thirteen), SparkChannelError::Panicked { text });
}

#[tokio::test(start_paused = true)]
async fn a_batch_larger_than_the_mailbox_is_answered_whole() {
    let module = module(Halves::default()).capacity(4).spawn();

    let answers = within(module.dispatcher().request_all((0..100_u64).map(|n| 2 * n))).await;

    let answers: Vec<u64> = answers.into_iter().map(|a| a.expect("even")).collect();
    assert_eq!(answers, (0..100).collect::<Vec<_>>());
    let report = module.shutdown(Stop::Drain).await;
    assert_eq!((report.stats.handled, report.stats.rejected), (100, 0));
}

#[tokio::test(start_paused = true)]
async fn answers_of_a_pool_come_in_the_order_of_the_messages() {
    let pool = pool(2, || Runner).spawn().dispatcher();
    let (last_is_answered, first_may_go_on) = oneshot::channel();
    let first = job(async move { Ok(first_may_go_on.await?) });
    let last = job(async move {
        last_is_answered.send(1).expect("the first waits");
        Ok(2)
    });

    let answers = within(pool.request_all([first, last])).await;

    let answers: Vec<u64> = answers.into_iter().map(|a| a.expect("answered")).collect();
    assert_eq!(answers, [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn an_empty_batch_completes_at_once() {
    let halves = spawn_module(Halves::default()).dispatcher();
    let mut batch = tokio_test::task::spawn(halves.request_all(Vec::<u64>::new()));
    assert!(tokio_test::assert_ready!(batch.poll()).is_empty());
}

#[tokio::test(start_paused = true)]
async fn no_more_requests_are_on_their_way_than_allowed() {
    let gate = Gate::closed();
    let dispatcher = spawn_module(gate.module()).dispatcher();
    let three = NonZeroUsize::new(3).expect("not zero");
    let asked_for = Cell::new(0);
    let messages = ["a"; 6]
        .into_iter()
        .inspect(|_| asked_for.set(asked_for.get() + 1));

    let mut batch = queued(dispatcher.request_all(messages).in_flight_max(three));
    gate.entered().await;
    assert!(batch.poll().is_pending());
    assert_eq!(asked_for.get(), 3);

    gate.let_pass(1);
    gate.entered().await;
    assert!(batch.poll().is_pending());
    assert_eq!(asked_for.get(), 4);

    gate.open();
    assert_eq!(within(batch).await.len(), 6);
}

#[tokio::test(start_paused = true)]
async fn no_more_requests_are_on_their_way_than_the_mailbox_holds() {
    let gate = Gate::closed();
    let module = module(gate.module()).capacity(2).spawn();
    let asked_for = Cell::new(0);
    let messages = ["a"; 9]
        .into_iter()
        .inspect(|_| asked_for.set(asked_for.get() + 1));
    let dispatcher = module.dispatcher();

    let mut batch = queued(
        dispatcher
            .request_all(messages)
            .in_flight_max(NonZeroUsize::MAX),
    );
    gate.entered().await;
    assert!(batch.poll().is_pending());

    // There is room again, but one of the two is being handled.
    assert_eq!((asked_for.get(), module.stats().depth), (2, 1));
    gate.open();
    assert_eq!(within(batch).await.len(), 9);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_waited_for_room_until_the_limit_has_a_result_too() {
    let gate = Gate::closed();
    let module = module(gate.module()).capacity(1).spawn();
    let dispatcher = module.dispatcher();
    dispatcher.try_command("running").expect("room");
    gate.entered().await;
    dispatcher.try_command("queued").expect("room");

    let answers = within(dispatcher.request_all(["a", "b"]).timeout(SECOND)).await;

    let stage = Stage::NotAdmitted;
    let reasons: Vec<_> = answers.into_iter().map(reason).collect();
    assert_eq!(reasons, vec![SparkChannelError::TimedOut { stage }; 2]);
    assert_eq!(module.stats().rejected, 2);
}

#[tokio::test(start_paused = true)]
async fn a_batch_inherits_the_deadline_of_the_handler_that_sends_it() {
    let gate = Gate::closed();
    let hangs = spawn_module(gate.module()).dispatcher();
    let asking = spawn_module(Runner).dispatcher();
    let (told, count) = oneshot::channel();
    let asked = asking.request(job(async move {
        let answers = hangs.request_all(["a", "b"]).await;
        let _ = told.send(answers.iter().filter(|answer| answer.is_err()).count());
        Ok(0)
    }));

    assert!(within(asked.timeout(SECOND)).await.is_err());

    assert_eq!(within(count).await.expect("told"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_batch_waits_for_room_that_others_take() {
    let gate = Gate::closed();
    let module = module(gate.module()).capacity(2).spawn();
    let dispatcher = module.dispatcher();
    dispatcher.command("running").await.expect("accepted");
    gate.entered().await;
    dispatcher.try_command("one").expect("there is room");
    dispatcher.try_command("two").expect("there is room");

    let batch = queued(dispatcher.request_all(["three", "four"]));
    gate.open();

    let answers: Vec<String> = within(batch)
        .await
        .into_iter()
        .map(|answer| answer.expect("answered"))
        .collect();
    assert_eq!(answers, ["three", "four"]);
    assert_eq!(gate.log.lines(), ["running", "one", "two", "three", "four"]);
}

#[tokio::test(start_paused = true)]
async fn the_time_limit_holds_for_the_batch_as_a_whole() {
    let gate = Gate::closed();
    let module = module(gate.module())
        .capacity(2)
        .default_timeout(SECOND)
        .spawn();
    let dispatcher = module.dispatcher();
    let start = Instant::now();

    let batch = queued(dispatcher.request_all(["a", "b", "c", "d"]));
    gate.entered().await;
    gate.let_pass(1);
    let answers = within(batch).await;

    assert_eq!(start.elapsed().as_secs(), 1);
    let [first, second, third, fourth] = <[_; 4]>::try_from(answers).expect("four answers");
    assert_eq!(first.expect("let pass"), "a");
    let timed_out = |stage| SparkChannelError::TimedOut { stage };
    assert_eq!(reason(second), timed_out(Stage::Running));
    assert_eq!(reason(third), timed_out(Stage::Queued));
    assert_eq!(reason(fourth), timed_out(Stage::NotAdmitted));
    assert_eq!(module.stats().rejected, 1);
}

#[tokio::test(start_paused = true)]
async fn an_iterator_that_has_ended_is_not_asked_again() {
    let gate = Gate::closed();
    let dispatcher = spawn_module(gate.module()).dispatcher();
    let (to_batch, messages) = std::sync::mpsc::sync_channel(2);
    to_batch.send("a").expect("the receiver is there");

    let batch = queued(dispatcher.request_all(messages.try_iter()).timeout(SECOND));
    to_batch.send("late").expect("the receiver is there");
    let answers = within(batch).await;

    assert_eq!(answers.len(), 1);
    assert_eq!(messages.try_recv(), Ok("late"));
}

/// Promises more than it has, and goes on after its end.
struct Unsteady(Vec<Option<u64>>);

impl Iterator for Unsteady {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.0.pop().flatten()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (8, None)
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_ends_where_its_iterator_ends_first() {
    let module = module(Halves::default()).without_direct_calls().spawn();
    let dispatcher = module.dispatcher();
    let two = || Unsteady(vec![Some(6), None, Some(4), Some(2)]);

    let answers = within(dispatcher.request_all(two())).await;
    let accepted = within(dispatcher.command_all(two())).await;

    assert_eq!(answers.len(), 2);
    assert_eq!(accepted.expect("room"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_batch_has_the_limits_of_a_request() {
    let gate = Gate::closed();
    let dispatcher = spawn_module(gate.module()).dispatcher();
    let start = Instant::now();
    let batches = [
        dispatcher.request_all(["a"]).timeout(SECOND),
        dispatcher.request_all(["a"]).deadline(start + 2 * SECOND),
        dispatcher
            .request_all(["a"])
            .timeout(9 * SECOND)
            .at_most(start + 3 * SECOND),
    ];
    for (seconds, batch) in (1..).zip(batches) {
        let answers = within(batch).await;
        assert!(answers[0].is_err());
        assert_eq!(start.elapsed().as_secs(), seconds);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_stopped_module_did_not_take_is_an_error_each() {
    let gate = Gate::closed();
    let module = module(gate.module()).capacity(2).spawn();
    let dispatcher = module.dispatcher();
    let batch = queued(dispatcher.request_all(["a", "b", "c", "d"]));
    gate.entered().await;

    module.stop(Stop::AfterCurrent);
    gate.open();
    let answers = within(batch).await;

    let mut answers = answers.into_iter();
    assert_eq!(answers.next().expect("four").expect("running"), "a");
    let reasons: Vec<_> = answers.map(reason).collect();
    assert_eq!(reasons[0], SparkChannelError::ShuttingDown);
    assert!(reasons.iter().all(SparkChannelError::never_started));
    assert_eq!(reasons.len(), 3);
    within(module.wait()).await;
    let late = within(dispatcher.request_all(["e", "f"])).await;
    let late: Vec<_> = late.into_iter().map(reason).collect();
    assert_eq!(late, [SparkChannelError::Closed, SparkChannelError::Closed]);
}

#[tokio::test(start_paused = true)]
async fn dropping_a_batch_gives_up_on_what_has_not_started() {
    let gate = Gate::closed();
    let module = module(gate.module()).capacity(2).spawn();
    let dispatcher = module.dispatcher();
    let batch = queued(dispatcher.request_all(["a", "b", "c"]));
    gate.entered().await;

    drop(batch);
    gate.open();

    let report = within(module.shutdown(Stop::Drain)).await;
    assert_eq!(gate.log.lines(), ["a", "stopped"]);
    assert_eq!((report.stats.handled, report.stats.abandoned), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_module_that_asks_itself_many_times_deadlocks_in_none() {
    let dispatcher = spawn_module(Runner).dispatcher();
    let own = dispatcher.clone();

    let asked = dispatcher.request(job(async move {
        let answers = own
            .request_all((0..2).map(|n| job(async move { Ok(n) })))
            .await;
        let deadlocks = answers.into_iter().map(reason);
        let is_deadlock = |reason: &_| matches!(reason, SparkChannelError::WouldDeadlock { .. });
        Ok(deadlocks.filter(is_deadlock).count() as u64)
    }));

    assert_eq!(within(asked).await.expect("answered"), 2);
}

// --- commands

#[tokio::test(start_paused = true)]
async fn a_batch_of_commands_waits_for_room_and_keeps_its_order() {
    let (at_end, seen) = oneshot::channel();
    let halves = Halves {
        at_end: Some(at_end),
        ..Halves::default()
    };
    let module = module(halves).capacity(3).spawn();

    let sent = within(module.dispatcher().command_all(0..50_u64)).await;

    assert_eq!(sent.expect("all accepted"), 50);
    within(module.shutdown(Stop::Drain)).await;
    assert_eq!(
        within(seen).await.expect("stopped"),
        (0..50).collect::<Vec<_>>()
    );
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_commands_waits_for_half_of_the_mailbox_at_most() {
    let gate = Gate::closed();
    let module = module(gate.module()).capacity(4).spawn();
    let dispatcher = module.dispatcher();
    for command in ["running", "one", "two"] {
        within(dispatcher.command(command)).await.expect("room");
        tokio::task::yield_now().await;
    }
    assert_eq!(module.stats().depth, 2);

    let sending = queued(dispatcher.command_all(["three", "four", "five", "six"]));

    assert_eq!(module.stats().depth, 4);
    gate.open();
    assert_eq!(within(sending).await.expect("all accepted"), 4);
}

#[tokio::test(start_paused = true)]
async fn an_iterator_that_promises_too_much_leaves_no_place_taken() {
    struct Boastful(std::vec::IntoIter<u64>);
    impl Iterator for Boastful {
        type Item = u64;
        fn next(&mut self) -> Option<u64> {
            self.0.next()
        }
        fn size_hint(&self) -> (usize, Option<usize>) {
            (40, None)
        }
    }
    let module = module(Halves::default()).capacity(64).spawn();
    let dispatcher = module.dispatcher();

    let sent = within(dispatcher.command_all(Boastful(vec![1, 2, 3].into_iter()))).await;

    assert_eq!(sent.expect("all accepted"), 3);
    assert_eq!(module.stats().depth, 3);
}

#[tokio::test(start_paused = true)]
async fn commands_that_were_not_accepted_come_back_with_the_count_of_the_others() {
    let gate = Gate::closed();
    let module = module(gate.module()).capacity(4).spawn();
    let dispatcher = module.dispatcher();
    let sending = queued(dispatcher.command_all((0..10).map(|n| n.to_string())));
    gate.entered().await;

    module.stop(Stop::Now);
    let refused = within(sending).await.expect_err("the module stopped");

    let report = within(module.shutdown(Stop::Now)).await;
    assert!(refused.reason.never_started(), "{}", refused.reason);
    assert_eq!(refused.accepted + refused.messages.len(), 10);
    assert_eq!(refused.messages[0], refused.accepted.to_string());
    assert_eq!(report.stats.accounted(), refused.accepted as u64);
    assert_eq!(report.stats.rejected, refused.messages.len() as u64);
}

#[tokio::test(start_paused = true)]
async fn a_handler_does_not_wait_for_room_in_its_own_mailbox() {
    let module = module(Runner).capacity(4).spawn();
    let dispatcher = module.dispatcher();
    let own = dispatcher.clone();

    let asked = dispatcher.request(job(async move {
        let refused = own.command_all((0..9).map(|_| job(async { Ok(0) }))).await;
        let refused = refused.expect_err("nine do not fit");
        assert_eq!(refused.reason, SparkChannelError::Full);
        assert_eq!(refused.messages.len() + refused.accepted, 9);
        Ok(refused.accepted as u64)
    }));

    assert_eq!(within(asked).await.expect("answered"), 4);
}

#[tokio::test(start_paused = true)]
async fn a_handlers_deadline_bounds_its_batch_of_commands() {
    let gate = Gate::closed();
    let busy = module(gate.module()).capacity(2).spawn();
    let (full, asking) = (busy.dispatcher(), spawn_module(Runner).dispatcher());

    let asked = asking.request(job(async move {
        let refused = full
            .command_all(["a"; 9])
            .await
            .expect_err("no room in time");
        let stage = Stage::NotAdmitted;
        assert_eq!(refused.reason, SparkChannelError::TimedOut { stage });
        Ok(refused.accepted as u64)
    }));
    let start = Instant::now();
    // The asker gives up in the same moment; what counts is what the module got.
    let _ = within(asked.timeout(SECOND)).await;

    assert_eq!(start.elapsed().as_secs(), 1);
    gate.entered().await;
    assert!(busy.stats().depth < 9);
}

// --- laws

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the bounds, a batch is what single requests would have been.
    #[test]
    fn a_batch_answers_as_single_requests_do(
        numbers in prop::collection::vec(0_u64..40, 0..60),
        capacity in 1_usize..20,
        in_flight_max in 1_usize..20,
    ) {
        let (single, batch) = schedules::virtual_time().block_on(async {
            let module = module(Halves::default()).capacity(capacity).spawn();
            let halves = module.dispatcher();
            let mut single = Vec::new();
            for number in &numbers {
                single.push(within(halves.request(*number)).await);
            }
            let in_flight_max = NonZeroUsize::new(in_flight_max).expect("not zero");
            let batch = halves.request_all(numbers.iter().copied()).in_flight_max(in_flight_max);
            (single, within(batch).await)
        });
        let text = |answers: Vec<eyre::Result<u64>>| -> Vec<_> {
            answers.into_iter().map(|a| a.map_err(|e| e.to_string())).collect()
        };
        prop_assert_eq!(text(single), text(batch));
    }
}
