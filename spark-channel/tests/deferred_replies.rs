//! Replies that a handler keeps, answers later, or passes on.

use std::time::Duration;

use spark_channel::{
    Deadlocks, NativeHandler, Refused, Reply, SparkChannelError, SparkGenericModuleDispatcher,
    Stage, Stop, module, spawn_module,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::support::{Gate, Runner, job, queued, reason, within};

mod support;

/// Hands each reply it is sent to the test.
struct Desk(mpsc::Sender<Reply<u64>>);

enum Question {
    Ask(Reply<u64>),
    Panic(Reply<u64>),
    AskYourself(SparkGenericModuleDispatcher<Question, ()>),
}

impl NativeHandler for Desk {
    type Message = Question;
    type Response = ();
    type Error = eyre::Report;

    async fn handle_request(&mut self, question: Question) -> eyre::Result<()> {
        if let Question::AskYourself(itself) = question {
            itself.ask_with(Question::Ask).await?;
        }
        Ok(())
    }

    async fn handle_command(&mut self, question: Question) -> eyre::Result<()> {
        match question {
            Question::Ask(reply) => self.0.send(reply).await?,
            Question::Panic(reply) => panic!("with {reply:?}"),
            Question::AskYourself(_) => {}
        }
        Ok(())
    }

    async fn undelivered(&mut self, question: Question) {
        if let Question::Ask(reply) = question {
            let _ = reply.send(Err(SparkChannelError::ShuttingDown.into()));
        }
    }
}

fn desk() -> (Desk, mpsc::Receiver<Reply<u64>>) {
    let (sender, replies) = mpsc::channel(8);
    (Desk(sender), replies)
}

async fn next<T>(replies: &mut mpsc::Receiver<T>) -> T {
    within(replies.recv())
        .await
        .expect("the desk holds its end")
}

#[tokio::test]
async fn a_reply_kept_by_the_handler_is_answered_from_anywhere() {
    let (desk, mut replies) = desk();
    let desk = spawn_module(desk);
    let dispatcher = desk.dispatcher();
    let first = queued(dispatcher.ask_with(Question::Ask));
    let second = queued(dispatcher.ask_with(Question::Ask));
    let (one, two) = (next(&mut replies).await, next(&mut replies).await);

    tokio::spawn(async { two.send(Ok(2)) })
        .await
        .expect("ran")
        .expect("the caller waits");
    assert_eq!(within(second).await.expect("answered"), 2);
    one.send(Ok(1)).expect("the caller waits");
    assert_eq!(within(first).await.expect("answered"), 1);

    let report = within(desk.shutdown(Stop::Drain)).await;
    assert_eq!((report.stats.handled, report.stats.accounted()), (2, 2));
}

#[tokio::test]
async fn an_error_reaches_the_caller_untouched() {
    let (desk, mut replies) = desk();
    let dispatcher = spawn_module(desk).dispatcher();
    let asked = queued(dispatcher.ask_with(Question::Ask));

    let _ = next(&mut replies).await.send(Err(eyre::eyre!("not today")));

    assert_eq!(
        within(asked).await.expect_err("refused").to_string(),
        "not today"
    );
}

#[tokio::test]
async fn a_reply_that_is_dropped_is_an_error_and_so_is_one_a_panic_drops() {
    let (desk, mut replies) = desk();
    let dispatcher = spawn_module(desk).dispatcher();
    let dropped = queued(dispatcher.ask_with(Question::Ask));

    drop(next(&mut replies).await);
    let panicked = within(dispatcher.ask_with(Question::Panic)).await;

    assert_eq!(
        reason(within(dropped).await),
        SparkChannelError::ReplyDropped
    );
    assert_eq!(reason(panicked), SparkChannelError::ReplyDropped);
}

#[tokio::test(start_paused = true)]
async fn a_caller_gives_up_at_its_deadline_and_the_reply_tells() {
    let (desk, mut replies) = desk();
    let desk = module(desk).default_timeout(Duration::from_secs(9)).spawn();
    let dispatcher = desk.dispatcher();
    let start = Instant::now();
    let asked = tokio::spawn({
        let dispatcher = dispatcher.clone();
        async move {
            dispatcher
                .ask_with(Question::Ask)
                .timeout(Duration::from_secs(2))
                .await
        }
    });
    let mut reply = next(&mut replies).await;
    let left = reply.deadline().expect("it has one") - start;
    assert!(!reply.is_closed() && left.abs_diff(Duration::from_secs(2)) < Duration::from_millis(1));

    let timed_out = reason(within(asked).await.expect("not aborted"));

    assert_eq!(
        timed_out,
        SparkChannelError::TimedOut {
            stage: Stage::Running
        }
    );
    assert!(start.elapsed().abs_diff(Duration::from_secs(2)) < Duration::from_millis(5));
    within(reply.closed()).await;
    assert_eq!(
        reply
            .send(Ok(1))
            .expect_err("nobody waits")
            .expect("the answer"),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn the_modules_default_and_at_most_bound_a_call() {
    let (desk, mut replies) = desk();
    let desk = module(desk).default_timeout(Duration::from_secs(3)).spawn();
    let dispatcher = desk.dispatcher();
    let start = Instant::now();
    let by_default = queued(dispatcher.ask_with(Question::Ask));
    let reply = next(&mut replies).await;

    let _ = within(by_default).await.expect_err("never answered");
    assert_eq!(start.elapsed().as_secs(), 3);
    let at_most = dispatcher
        .ask_with(Question::Ask)
        .at_most(start + Duration::from_secs(4));
    let _ = within(at_most).await.expect_err("never answered");
    assert_eq!(start.elapsed().as_secs(), 4);
    drop(reply);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_passes_before_there_is_room_is_told_and_nothing_is_sent() {
    let gate = Gate::closed();
    let gated = module(gate.module()).capacity(1).spawn();
    let dispatcher = gated.dispatcher();
    dispatcher.try_command("in the handler").expect("accepted");
    gate.entered().await;
    dispatcher.try_command("in the mailbox").expect("accepted");

    let waited = dispatcher
        .ask_with(|_: Reply<u64>| -> String { unreachable!("there is no room for it") })
        .timeout(Duration::from_secs(1));
    let already_late = dispatcher
        .ask_with(|_: Reply<u64>| -> String { unreachable!("it is too late for it") })
        .deadline(Instant::now());

    let stage = Stage::NotAdmitted;
    assert_eq!(
        reason(within(waited).await),
        SparkChannelError::TimedOut { stage }
    );
    assert_eq!(
        reason(within(already_late).await),
        SparkChannelError::TimedOut { stage }
    );
    assert_eq!(gated.stats().rejected, 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_late_already_is_not_made_though_there_is_room() {
    let gated = spawn_module(Gate::opened().module());

    let late = gated.dispatcher();
    let late = late
        .ask_with(|_: Reply<u64>| -> String { unreachable!("it is too late for it") })
        .deadline(Instant::now());

    assert!(reason(within(late).await).never_started());
    assert_eq!((gated.stats().depth, gated.stats().rejected), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_call_made_in_a_handler_inherits_its_deadline() {
    let (desk, mut replies) = desk();
    let desk = spawn_module(desk).dispatcher();
    let start = Instant::now();
    let asking = spawn_module(Runner);
    let dispatcher = asking.dispatcher();
    let asks = job(async move { desk.ask_with(Question::Ask).await });
    let asked = queued(dispatcher.request(asks).timeout(Duration::from_secs(4)));

    let mut reply = next(&mut replies).await;

    let left = reply.deadline().expect("inherited") - start;
    assert!(left.abs_diff(Duration::from_secs(4)) < Duration::from_millis(1));
    assert!(within(asked).await.is_err());
    within(reply.closed()).await;
}

#[tokio::test]
async fn a_call_waits_for_room_and_is_refused_by_a_module_that_stops() {
    let gate = Gate::closed();
    let gated = module(gate.module()).capacity(1).spawn();
    let dispatcher = gated.dispatcher();
    dispatcher.try_command("in the handler").expect("accepted");
    gate.entered().await;
    dispatcher.try_command("in the mailbox").expect("accepted");
    let (replies, mut given) = mpsc::channel(2);
    let give = |reply: Reply<u64>| {
        replies.try_send(reply).expect("room for both");
        String::from("asked")
    };
    let mut waits = queued(dispatcher.ask_with(&give));
    let refused = queued(dispatcher.ask_with(&give));

    gate.let_pass(1);
    gate.entered().await;
    assert!(waits.is_woken() && waits.poll().is_pending());
    gated.stop(Stop::AfterCurrent);
    gate.open();

    next(&mut given).await.send(Ok(3)).expect("it waits");
    assert_eq!(within(waits).await.expect("answered"), 3);
    assert!(reason(within(refused).await).never_started());
    assert!(given.try_recv().is_err(), "the refused one was made");
}

#[tokio::test]
async fn a_handler_that_asks_its_own_module_with_a_reply_is_told_of_the_deadlock() {
    let (desk, _replies) = desk();
    let dispatcher = spawn_module(desk).dispatcher();

    let asked = within(dispatcher.request(Question::AskYourself(dispatcher.clone()))).await;

    assert!(matches!(
        reason(asked),
        SparkChannelError::WouldDeadlock { .. }
    ));
}

#[tokio::test]
async fn undelivered_may_answer_for_a_module_that_stops() {
    let (sender, mut replies) = mpsc::channel(1);
    let desk = spawn_module(Desk(sender));
    let dispatcher = desk.dispatcher();
    // One is handed over, one waits in the handler, one in the mailbox.
    let [first, second, third] = [(); 3].map(|()| queued(dispatcher.ask_with(Question::Ask)));
    tokio::task::yield_now().await;

    desk.stop(Stop::AfterCurrent);
    let _ = next(&mut replies).await.send(Ok(1));
    let _ = next(&mut replies).await.send(Ok(2));

    assert_eq!(within(first).await.expect("answered"), 1);
    assert_eq!(within(second).await.expect("answered"), 2);
    assert_eq!(reason(within(third).await), SparkChannelError::ShuttingDown);
}

#[tokio::test]
async fn work_answers_the_call_it_was_started_for() {
    let (desk, mut replies) = desk();
    let dispatcher = spawn_module(desk).dispatcher();
    let [good, bad] = [(); 2].map(|()| queued(dispatcher.ask_with(Question::Ask)));

    let works = async { Ok::<_, SparkChannelError>(5) };
    let fails = async { Err(SparkChannelError::Closed) };
    within(next(&mut replies).await.answer_with(works)).await;
    within(next(&mut replies).await.answer_with(fails)).await;

    assert_eq!(within(good).await.expect("answered"), 5);
    assert_eq!(reason(within(bad).await), SparkChannelError::Closed);
}

#[tokio::test]
async fn work_is_dropped_when_the_caller_goes() {
    let (desk, mut replies) = desk();
    let dispatcher = spawn_module(desk).dispatcher();
    let asked = queued(dispatcher.ask_with(Question::Ask));
    let work = std::future::pending::<eyre::Result<u64>>();
    let mut answering = queued(next(&mut replies).await.answer_with(work));

    drop(asked);

    assert!(answering.is_woken() && answering.poll().is_ready());
}

#[tokio::test]
async fn a_forwarded_call_is_answered_by_the_other_module() {
    let (desk, mut replies) = desk();
    let dispatcher = spawn_module(desk).dispatcher();
    let runner = spawn_module(Runner);
    let [good, bad, panics] = [(); 3].map(|()| queued(dispatcher.ask_with(Question::Ask)));
    let other = runner.dispatcher();

    within(
        next(&mut replies)
            .await
            .forward_to(&other, job(async { Ok(42) })),
    )
    .await;
    within(
        next(&mut replies)
            .await
            .forward_to(&other, job(async { eyre::bail!("its own") })),
    )
    .await;
    within(
        next(&mut replies)
            .await
            .forward_to(&other, job(async { panic!("there") })),
    )
    .await;

    assert_eq!(within(good).await.expect("answered"), 42);
    assert_eq!(
        within(bad).await.expect_err("failed").to_string(),
        "its own"
    );
    assert!(matches!(
        reason(within(panics).await),
        SparkChannelError::Panicked { .. }
    ));
    assert_eq!(runner.stats().accounted(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_forwarded_call_keeps_its_deadline() {
    let (desk, mut replies) = desk();
    let dispatcher = spawn_module(desk).dispatcher();
    let runner = spawn_module(Runner);
    let start = Instant::now();
    let asked = queued(
        dispatcher
            .ask_with(Question::Ask)
            .timeout(Duration::from_secs(5)),
    );
    let (seen, mut deadline) = mpsc::channel(1);

    let look = job(async move {
        seen.send(spark_channel::current::deadline()).await?;
        Ok(0)
    });
    within(
        next(&mut replies)
            .await
            .forward_to(&runner.dispatcher(), look),
    )
    .await;

    let seen = next(&mut deadline).await.expect("it has one");
    assert!((start + Duration::from_secs(5) - seen) < Duration::from_micros(20));
    assert!(within(asked).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_forwarded_call_that_expires_or_is_abandoned_in_the_queue_never_runs() {
    let (desk, mut replies) = desk();
    let dispatcher = spawn_module(desk).dispatcher();
    let runner = spawn_module(Runner);
    let other = runner.dispatcher();
    let gate = std::sync::Arc::new(tokio::sync::Notify::new());
    let opened = std::sync::Arc::clone(&gate);
    let blocking = job(async move {
        opened.notified().await;
        Ok(0)
    });
    other.try_command(blocking).expect("room");
    let expires = queued(
        dispatcher
            .ask_with(Question::Ask)
            .timeout(Duration::from_secs(1)),
    );
    let abandoned = queued(dispatcher.ask_with(Question::Ask));

    let never = || job(async { unreachable!("nobody waits for it") });
    within(next(&mut replies).await.forward_to(&other, never())).await;
    within(next(&mut replies).await.forward_to(&other, never())).await;
    let _ = within(expires).await.expect_err("too late");
    drop(abandoned);
    gate.notify_one();

    drop(other);
    let report = within(runner.shutdown(Stop::Drain)).await;
    assert_eq!((report.stats.expired, report.stats.abandoned), (1, 1));
}

#[tokio::test]
async fn a_module_that_does_not_take_it_fails_a_forwarded_call_with_the_reason() {
    let (desk, mut replies) = desk();
    let dispatcher = spawn_module(desk).dispatcher();
    let runner = spawn_module(Runner);
    let other = runner.dispatcher();
    within(runner.shutdown(Stop::Drain)).await;
    let asked = queued(dispatcher.ask_with(Question::Ask));

    within(
        next(&mut replies)
            .await
            .forward_to(&other, job(async { Ok(1) })),
    )
    .await;

    assert_eq!(reason(within(asked).await), SparkChannelError::Closed);
}

#[tokio::test]
async fn forwarding_waits_for_room_as_long_as_the_caller_waits() {
    let (desk, mut replies) = desk();
    let dispatcher = spawn_module(desk).dispatcher();
    let (sender, mut mailbox) = mpsc::channel(1);
    let full = SparkGenericModuleDispatcher::<u64, u64>::new(sender);
    full.try_command(0_u64).expect("the first has room");
    let [gone, patient] = [(); 2].map(|()| queued(dispatcher.ask_with(Question::Ask)));

    let mut forwarding = queued(next(&mut replies).await.forward_to(&full, 1_u64));
    drop(gone);
    assert!(forwarding.is_woken() && forwarding.poll().is_ready());
    let mut forwarding = queued(next(&mut replies).await.forward_to(&full, 2_u64));
    let _first = next(&mut mailbox).await;
    assert!(forwarding.is_woken() && forwarding.poll().is_ready());

    let spark_channel::SparkGenericModuleMessage::Request(wrapper) = next(&mut mailbox).await
    else {
        panic!("a forwarded call is a request");
    };
    assert_eq!(wrapper.message, 2);
    let _ = wrapper.sender.send(Ok(7));
    assert_eq!(within(patient).await.expect("answered"), 7);
}

#[tokio::test]
async fn a_handler_does_not_wait_to_forward_into_its_own_mailbox() {
    for deadlocks in [Deadlocks::Error, Deadlocks::Off] {
        let runner = module(Runner).deadlocks(deadlocks).capacity(1).spawn();
        let dispatcher = runner.dispatcher();
        let own = dispatcher.clone();
        let asked = job(async move {
            let full = own.try_command(job(async { Ok(0) }));
            assert!(full.is_ok());
            let (slot, answer) = oneshot::channel();
            let reply = Reply::from(slot);
            reply.forward_to(&own, job(async { Ok(1) })).await;
            answer.await?
        });

        let refused = within(dispatcher.request(asked)).await;

        assert_eq!(reason(refused), SparkChannelError::Full);
    }
}

#[tokio::test]
async fn forwarding_without_waiting_gives_back_the_message_and_the_slot() {
    let (desk, mut replies) = desk();
    let dispatcher = spawn_module(desk).dispatcher();
    let (sender, _mailbox) = mpsc::channel(1);
    let full = SparkGenericModuleDispatcher::<u64, u64>::new(sender);
    full.try_command(0_u64).expect("the first has room");
    let asked = queued(dispatcher.ask_with(Question::Ask));

    let refused = next(&mut replies).await.try_forward_to(&full, 1_u64);

    let Refused {
        message: (message, reply),
        reason,
    } = refused.expect_err("full");
    assert_eq!((message, reason), (1, SparkChannelError::Full));
    reply.send(Ok(9)).expect("the caller still waits");
    assert_eq!(within(asked).await.expect("answered"), 9);
}
