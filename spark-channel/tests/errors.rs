//! Every [`SparkChannelError`] as a caller meets it, and the two questions it answers.

use std::{future::pending, sync::Arc, time::Duration};

use spark_channel::{
    SparkChannelError, SparkGenericModuleDispatcher, SparkGenericModuleMessage, Stage, Stop,
    module, run_module_server, spawn_module,
};
use tokio::sync::mpsc;

use crate::support::{Gate, Runner, job, queued, reason, within};

mod support;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_stopped_module_is_closed_and_gives_messages_back() {
    let module = spawn_module(Gate::opened().module());
    let dispatcher = module.dispatcher();

    within(module.shutdown(Stop::Now)).await;

    let asked = within(dispatcher.request("a")).await;
    assert_eq!(reason(asked), SparkChannelError::Closed);
    let tried = dispatcher.try_request("b").expect_err("closed");
    assert_eq!(tried.reason, SparkChannelError::Closed);
    assert_eq!(tried.into_inner(), "b");
    let told = within(dispatcher.command("c")).await.expect_err("closed");
    assert_eq!(told.reason, SparkChannelError::Closed);
    assert_eq!(told.into_inner(), "c");
    let tried = dispatcher.try_command("d").expect_err("closed");
    assert_eq!(tried.reason, SparkChannelError::Closed);
    assert_eq!(tried.into_inner(), "d");
    assert!(dispatcher.is_closed());
    within(dispatcher.closed()).await;
}

#[tokio::test]
async fn a_stopping_module_is_shutting_down_and_gives_messages_back() {
    let gate = Gate::closed();
    let module = spawn_module(gate.module());
    let dispatcher = module.dispatcher();
    let running = queued(dispatcher.request("running"));
    gate.entered().await;

    module.stop(Stop::Drain);

    let asked = within(dispatcher.request("a")).await;
    assert_eq!(reason(asked), SparkChannelError::ShuttingDown);
    let tried = dispatcher.try_request("b").expect_err("stopping");
    assert_eq!(tried.reason, SparkChannelError::ShuttingDown);
    assert_eq!(tried.into_inner(), "b");
    let told = within(dispatcher.command("c")).await.expect_err("stopping");
    assert_eq!(told.reason, SparkChannelError::ShuttingDown);
    assert_eq!(told.into_inner(), "c");
    let tried = dispatcher.try_command("d").expect_err("stopping");
    assert_eq!(tried.reason, SparkChannelError::ShuttingDown);
    assert_eq!(tried.into_inner(), "d");
    gate.open();
    assert_eq!(within(running).await.expect("handled"), "running");
}

#[tokio::test]
async fn a_full_mailbox_gives_messages_back() {
    let gate = Gate::closed();
    let module = module(gate.module()).capacity(1).spawn();
    let dispatcher = module.dispatcher();
    let running = queued(dispatcher.request("running"));
    gate.entered().await;
    let waiting = queued(dispatcher.request("waiting"));

    let asked = dispatcher.try_request("a").expect_err("full");
    let told = dispatcher.try_command("b").expect_err("full");

    assert_eq!(asked.reason, SparkChannelError::Full);
    assert_eq!(asked.into_inner(), "a");
    assert_eq!(told.reason, SparkChannelError::Full);
    assert_eq!(told.into_inner(), "b");
    gate.open();
    assert_eq!(within(running).await.expect("handled"), "running");
    assert_eq!(within(waiting).await.expect("handled"), "waiting");
}

#[tokio::test]
async fn a_request_that_was_sent_by_try_request_is_answered() {
    let module = spawn_module(Gate::opened().module());
    let dispatcher = module.dispatcher();

    let sent = dispatcher.try_request("a").expect("room");

    assert_eq!(within(sent).await.expect("handled"), "a");
}

#[tokio::test(start_paused = true)]
async fn a_time_out_says_how_far_the_request_had_come() {
    let gate = Gate::closed();
    let module = module(gate.module()).capacity(1).spawn();
    let dispatcher = module.dispatcher();

    let running = queued(dispatcher.request("running").timeout(3 * SECOND));
    gate.entered().await;
    let waiting = queued(dispatcher.request("waiting").timeout(2 * SECOND));
    let outside = queued(dispatcher.request("outside").timeout(SECOND));

    let stages = [outside, waiting, running].map(|request| async {
        let SparkChannelError::TimedOut { stage } = reason(within(request).await) else {
            panic!("another error");
        };
        stage
    });
    let [outside, waiting, running] = stages;
    assert_eq!(outside.await, Stage::NotAdmitted);
    assert_eq!(waiting.await, Stage::Queued);
    assert_eq!(running.await, Stage::Running);
    gate.open();
    within(module.shutdown(Stop::Drain)).await;
    assert_eq!(gate.log.lines(), ["running", "stopped"]);
}

#[tokio::test(start_paused = true)]
async fn a_bare_dispatcher_that_cannot_see_the_loop_says_it_may_be_running() {
    let gate = Gate::closed();
    let (sender, receiver) = mpsc::channel(4);
    let dispatcher = SparkGenericModuleDispatcher::<String, String>::new(sender);
    tokio::spawn(run_module_server(gate.module(), receiver));
    let _running = queued(dispatcher.request("running"));
    gate.entered().await;

    let waiting = within(dispatcher.request("waiting").timeout(SECOND)).await;

    let stage = Stage::Running;
    assert_eq!(reason(waiting), SparkChannelError::TimedOut { stage });
}

#[tokio::test]
async fn stop_now_cancels_the_running_request_and_returns_the_waiting_one() {
    let gate = Gate::closed();
    let module = spawn_module(gate.module());
    let dispatcher = module.dispatcher();
    let running = queued(dispatcher.request("running"));
    gate.entered().await;
    let waiting = queued(dispatcher.request("waiting"));

    within(module.shutdown(Stop::Now)).await;

    assert_eq!(reason(within(running).await), SparkChannelError::Cancelled);
    assert_eq!(
        reason(within(waiting).await),
        SparkChannelError::ShuttingDown
    );
}

#[tokio::test]
async fn a_panic_is_told_with_its_text() {
    let module = spawn_module(Runner);
    let dispatcher = module.dispatcher();
    let number = 7;

    let literal = dispatcher.request(job(async { panic!("literal") }));
    let literal = reason(within(literal).await);
    let formatted = dispatcher.request(job(async move { panic!("number {number}") }));
    let formatted = reason(within(formatted).await);
    let other = dispatcher.request(job(async { std::panic::panic_any(7_u8) }));
    let other = reason(within(other).await);

    let panicked = |text: &str| SparkChannelError::Panicked { text: text.into() };
    assert_eq!(literal, panicked("literal"));
    assert_eq!(formatted, panicked("number 7"));
    assert_eq!(other, panicked("a panic that is not text"));
    assert_eq!(
        literal.to_string(),
        "handler panicked",
        "it may go to a peer"
    );
}

#[tokio::test]
async fn a_self_call_is_refused_with_the_path_and_the_message() {
    let module = module(Runner).name("loop").spawn();
    let dispatcher = module.dispatcher();
    let again = dispatcher.clone();

    let asked = dispatcher.request(job(async move {
        let refused = again.try_request(job(async { Ok(1) })).expect_err("itself");
        let error = refused.reason.clone();
        let _the_same_job: support::Job = refused.into_inner();
        Err(error.into())
    }));
    let error = reason(within(asked).await);

    assert_eq!(error.to_string(), "request would deadlock: loop → loop");
    assert!(error.never_started() && !error.is_retryable());
}

#[tokio::test]
async fn a_command_to_ones_own_full_mailbox_is_refused_instead_of_waiting() {
    let module = module(Runner).capacity(1).spawn();
    let dispatcher = module.dispatcher();
    let again = dispatcher.clone();

    let asked = dispatcher.request(job(async move {
        let first = again.command(job(async { Ok(1) })).await;
        first.map_err(|refused| refused.reason)?;
        let refused = again.command(job(async { Ok(2) })).await;
        Err(refused.expect_err("full").reason.into())
    }));

    assert_eq!(reason(within(asked).await), SparkChannelError::Full);
    let report = within(module.shutdown(Stop::Drain)).await;
    assert_eq!(report.stats.handled, 2, "the first command was accepted");
}

#[tokio::test]
async fn an_aborted_task_drops_its_replies() {
    let gate = Gate::closed();
    let (sender, receiver) = mpsc::channel(4);
    let dispatcher = SparkGenericModuleDispatcher::<String, String>::new(sender);
    let server = tokio::spawn(run_module_server(gate.module(), receiver));
    let running = queued(dispatcher.request("running"));
    gate.entered().await;
    let waiting = queued(dispatcher.request("waiting"));

    server.abort();

    let dropped = SparkChannelError::ReplyDropped;
    assert_eq!(reason(within(running).await), dropped);
    assert_eq!(reason(within(waiting).await), dropped);
    let late = within(dispatcher.request("late")).await;
    assert_eq!(reason(late), SparkChannelError::Closed);
}

#[tokio::test]
async fn a_hand_written_loop_that_drops_the_reply_is_noticed() {
    let (sender, mut receiver) = mpsc::channel(4);
    let dispatcher = SparkGenericModuleDispatcher::<String, String>::new(sender);
    let request = queued(dispatcher.request("a"));

    let received = within(receiver.recv()).await.expect("a message");
    assert!(matches!(received, SparkGenericModuleMessage::Request(_)));
    drop(received);

    assert_eq!(
        reason(within(request).await),
        SparkChannelError::ReplyDropped
    );
}

#[tokio::test(start_paused = true)]
async fn a_command_inside_of_a_handler_waits_no_longer_than_the_request_does() {
    let gate = Gate::closed();
    let full = module(gate.module()).capacity(1).spawn();
    let to_full = full.dispatcher();
    within(to_full.command("running")).await.expect("room");
    gate.entered().await;
    within(to_full.command("waiting")).await.expect("room");
    let asking = spawn_module(Runner);
    let (tell, told) = tokio::sync::oneshot::channel();

    let asked = asking.dispatcher();
    let asked = asked.request(job(async move {
        let refused = to_full.command("late").await.expect_err("no room in time");
        tell.send(refused).expect("the test waits");
        pending().await
    }));
    let asked = reason(within(asked.timeout(SECOND)).await);

    let stage = Stage::Running;
    assert_eq!(asked, SparkChannelError::TimedOut { stage });
    let refused = within(told).await.expect("told");
    let stage = Stage::NotAdmitted;
    assert_eq!(refused.reason, SparkChannelError::TimedOut { stage });
    assert_eq!(refused.into_inner(), "late");
}

#[test]
fn each_error_answers_whether_to_retry_and_whether_it_ran() {
    use SparkChannelError as E;
    let timed_out = |stage| E::TimedOut { stage };
    let path: Arc<[Arc<str>]> = Arc::new(["a".into(), "a".into()]);
    let answers = [
        (E::Closed, false, true),
        (E::ShuttingDown, false, true),
        (E::Full, true, true),
        (E::Overflowed, true, true),
        (timed_out(Stage::NotAdmitted), true, true),
        (timed_out(Stage::Queued), true, true),
        (timed_out(Stage::Running), false, false),
        (E::Cancelled, false, false),
        (E::Panicked { text: "".into() }, false, false),
        (E::WouldDeadlock { path }, false, true),
        (E::ReplyDropped, false, false),
        (E::unexpected_response("Stock", "Orders"), false, false),
    ];
    for (error, retryable, never_started) in answers {
        assert_eq!(error.is_retryable(), retryable, "{error}");
        assert_eq!(error.never_started(), never_started, "{error}");
    }
}
