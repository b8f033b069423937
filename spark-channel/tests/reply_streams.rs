//! Replies that come item by item, sent by a handler or returned by it.

use std::{
    num::NonZeroUsize,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use spark_channel::{
    NativeHandler, ReplyStream, ReplyStreamSender, SparkChannelError, SparkGenericModuleDispatcher,
    Stage, Stop, module, spawn_module,
};
use tokio::{sync::oneshot, time::Instant};

use crate::support::{Gate, Runner, job, reason, within};

mod support;

const SECOND: Duration = Duration::from_secs(1);

type Numbers = ReplyStreamSender<u32>;

enum Ask {
    /// Sends the numbers up to this one and finishes.
    CountTo(u32, Numbers),
    /// Sends one number, then does this.
    ThenDo(Then, Numbers),
    /// Keeps the sender, to send a number with each command.
    Watch(Numbers),
    /// Answers with a stream of its own.
    Return(Returned),
}

enum Then {
    Fail,
    FailAfterFinish,
    FailTheStream,
    Panic,
    ForgetToFinish,
    Hang,
    /// Says when the caller has gone.
    WaitUntilClosed(oneshot::Sender<()>),
}

enum Returned {
    Numbers,
    Panics,
    Never,
    Endless,
}

enum Answer {
    Sent,
    Numbers(ReplyStream<u32>),
}

#[derive(Default)]
struct Counter {
    watching: Vec<Numbers>,
}

impl NativeHandler for Counter {
    type Message = Ask;
    type Response = Answer;
    type Error = eyre::Report;

    async fn handle_request(&mut self, ask: Ask) -> eyre::Result<Answer> {
        match ask {
            Ask::CountTo(last, numbers) => {
                for number in 1..=last {
                    numbers.send(number).await?;
                }
                numbers.finish();
            }
            Ask::ThenDo(then, numbers) => {
                numbers.send(1).await?;
                match then {
                    Then::Fail => eyre::bail!("told to fail"),
                    Then::FailAfterFinish => {
                        numbers.finish();
                        tokio::task::yield_now().await;
                        eyre::bail!("told to fail");
                    }
                    Then::FailTheStream => numbers.fail(eyre::eyre!("told to fail")),
                    Then::Panic => panic!("told to panic"),
                    Then::ForgetToFinish => {}
                    Then::Hang => std::future::pending().await,
                    Then::WaitUntilClosed(gone) => {
                        numbers.closed().await;
                        assert!(numbers.is_closed());
                        let refused = numbers.send(2).await.expect_err("nobody reads");
                        assert_eq!(refused.reason, SparkChannelError::Cancelled);
                        let _ = gone.send(());
                    }
                }
            }
            Ask::Watch(numbers) => self.watching.push(numbers),
            Ask::Return(returned) => {
                return Ok(Answer::Numbers(match returned {
                    Returned::Numbers => ReplyStream::from_iter([1, 2, 3]),
                    other => ReplyStream::new(Odd(other)),
                }));
            }
        }
        Ok(Answer::Sent)
    }

    /// Sends to all who watch, and ends it for the first of them.
    async fn handle_command(&mut self, _: Ask) -> eyre::Result<()> {
        for numbers in &self.watching {
            numbers.send(7).await?;
        }
        self.watching.remove(0).finish();
        Ok(())
    }
}

/// A stream that does not end well.
struct Odd(Returned);

impl Stream for Odd {
    type Item = eyre::Result<u32>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<eyre::Result<u32>>> {
        match self.0 {
            Returned::Never => Poll::Pending,
            Returned::Endless => Poll::Ready(Some(Ok(1))),
            Returned::Panics | Returned::Numbers => panic!("told to panic"),
        }
    }
}

fn counter() -> SparkGenericModuleDispatcher<Ask, Answer> {
    spawn_module(Counter::default()).dispatcher()
}

/// All items, and the error that came last, if one did.
async fn all(mut stream: ReplyStream<u32>) -> (Vec<u32>, Option<eyre::Report>) {
    let mut items = Vec::new();
    let mut error = None;
    while let Some(item) = within(stream.next()).await {
        assert!(error.is_none(), "an item after the error");
        match item {
            Ok(item) => items.push(item),
            Err(last) => error = Some(last),
        }
    }
    assert!(within(stream.next()).await.is_none(), "the end is the end");
    (items, error)
}

/// What a stream ended with that sends one number and then does `then`.
async fn ended(then: Then) -> eyre::Report {
    let (items, error) = all(counter().request_stream(|numbers| Ask::ThenDo(then, numbers))).await;
    assert_eq!(items, [1]);
    error.expect("an error as the last item")
}

async fn returned(what: Returned) -> ReplyStream<u32> {
    let answer = within(counter().request(Ask::Return(what)).timeout(SECOND)).await;
    match answer.expect("answered") {
        Answer::Numbers(numbers) => numbers,
        Answer::Sent => panic!("a stream was asked for"),
    }
}

fn timed_out(stage: Stage) -> SparkChannelError {
    SparkChannelError::TimedOut { stage }
}

// --- sent by the handler

#[tokio::test(start_paused = true)]
async fn items_come_in_order_and_end_without_an_error() {
    let (items, error) = all(counter().request_stream(|numbers| Ask::CountTo(100, numbers))).await;
    assert_eq!(items, (1..=100).collect::<Vec<_>>());
    assert!(error.is_none());
}

#[tokio::test(start_paused = true)]
async fn nothing_happens_until_the_stream_is_polled() {
    let module = spawn_module(Counter::default());
    drop(
        module
            .dispatcher()
            .request_stream(|numbers| Ask::CountTo(1, numbers)),
    );
    let report = within(module.shutdown(Stop::Drain)).await;
    assert_eq!(report.stats.accounted(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_producer_waits_when_it_is_a_buffer_ahead() {
    let buffer = NonZeroUsize::new(3).expect("not zero");
    let module = spawn_module(Counter::default());
    let (told, sender) = oneshot::channel();
    let mut reply = module
        .dispatcher()
        .request_stream_buffered(buffer, |numbers| {
            told.send(numbers).expect("received below");
            Ask::Return(Returned::Numbers)
        });
    let sender = within(sender).await.expect("made at once");

    for number in 1..=3 {
        sender.try_send(number).expect("there is room");
    }
    let refused = sender.try_send(4).expect_err("there is none");
    assert_eq!(refused.reason, SparkChannelError::Full);
    assert_eq!(
        within(reply.next()).await.expect("sent").expect("a number"),
        1
    );
    sender
        .try_send(refused.into_inner())
        .expect("there is room again");
    sender.finish();

    let (items, error) = all(reply).await;
    assert_eq!(items, [2, 3, 4]);
    assert!(error.is_none());
}

#[tokio::test(start_paused = true)]
async fn what_the_producer_failed_with_is_the_last_item() {
    assert_eq!(ended(Then::Fail).await.to_string(), "told to fail");
    assert_eq!(ended(Then::FailTheStream).await.to_string(), "told to fail");
    assert_eq!(
        ended(Then::FailAfterFinish).await.to_string(),
        "told to fail"
    );
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_producer_is_the_last_item() {
    let text = "told to panic".into();
    let panicked = SparkChannelError::Panicked { text };
    assert_eq!(reason::<()>(Err(ended(Then::Panic).await)), panicked);
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_was_dropped_unfinished_is_no_silent_end() {
    let dropped = ended(Then::ForgetToFinish).await;
    assert_eq!(reason::<()>(Err(dropped)), SparkChannelError::ReplyDropped);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_ends_a_stream_whose_handler_hangs() {
    let start = Instant::now();
    let stream = counter().request_stream(|numbers| Ask::ThenDo(Then::Hang, numbers));
    let (items, error) = all(stream.timeout(5 * SECOND).at_most(start + SECOND)).await;
    assert_eq!(items, [1]);
    assert_eq!(
        reason::<()>(Err(error.expect("late"))),
        timed_out(Stage::Running)
    );
    assert_eq!(start.elapsed().as_secs(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_modules_default_timeout_holds_for_a_sender_that_was_kept() {
    let module = module(Counter::default()).default_timeout(SECOND).spawn();
    let start = Instant::now();
    let (items, error) = all(module.dispatcher().request_stream(Ask::Watch)).await;
    assert!(items.is_empty());
    assert_eq!(
        reason::<()>(Err(error.expect("late"))),
        timed_out(Stage::Running)
    );
    assert_eq!(start.elapsed().as_secs(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_never_started_says_so() {
    let gate = Gate::closed();
    let module = module(gate.module()).spawn();
    let dispatcher = module.dispatcher();
    let request = dispatcher.request_stream::<u32>(|_| "first".into());
    let mut first = tokio_test::task::spawn(request);
    assert!(first.poll_next().is_pending());
    gate.entered().await;

    let queued = dispatcher
        .request_stream(|_| "second".into())
        .timeout(SECOND);
    let (_, error) = all(queued).await;
    assert_eq!(
        reason::<()>(Err(error.expect("late"))),
        timed_out(Stage::Queued)
    );

    module.stop(Stop::Now);
    within(module.wait()).await;
    let (_, error) = all(dispatcher.request_stream(|_| "third".into())).await;
    assert_eq!(
        reason::<()>(Err(error.expect("refused"))),
        SparkChannelError::Closed
    );
}

#[tokio::test(start_paused = true)]
async fn dropping_the_stream_cancels_its_producer() {
    let (gone, learned) = oneshot::channel();
    let counter = counter();
    let then = Then::WaitUntilClosed(gone);
    let mut stream = counter.request_stream(|numbers| Ask::ThenDo(then, numbers));
    assert_eq!(
        within(stream.next())
            .await
            .expect("sent")
            .expect("a number"),
        1
    );

    drop(stream);

    within(learned).await.expect("the handler learned it");
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_was_kept_sends_after_its_handler_has_ended() {
    let counter = counter();
    let mut first = counter.request_stream(Ask::Watch);
    let mut second = counter.request_stream(Ask::Watch);
    let mut polled = [
        tokio_test::task::spawn(&mut first),
        tokio_test::task::spawn(&mut second),
    ];
    for stream in &mut polled {
        assert!(stream.poll_next().is_pending());
    }
    drop(polled);
    within(counter.command(Ask::Return(Returned::Never)))
        .await
        .expect("accepted");

    let (items, error) = all(first).await;
    assert_eq!((items.as_slice(), error.is_none()), ([7].as_slice(), true));
    assert_eq!(
        within(second.next())
            .await
            .expect("sent")
            .expect("a number"),
        7
    );

    // The module ends, and what it kept with it.
    let token = spark_channel::SparkChannelCancellationToken::new();
    let shutdown = spark_channel::SparkGenericModuleMessage::Shutdown(token);
    within(counter.sender.send(shutdown))
        .await
        .expect("accepted");
    let (items, error) = all(second).await;
    assert!(items.is_empty());
    let dropped = reason::<()>(Err(error.expect("no silent end")));
    assert_eq!(dropped, SparkChannelError::ReplyDropped);
}

// --- returned by the handler

#[tokio::test(start_paused = true)]
async fn a_returned_stream_is_polled_by_its_caller() {
    let (items, error) = all(returned(Returned::Numbers).await).await;
    assert_eq!(items, [1, 2, 3]);
    assert!(error.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_returned_stream_is_its_last_item() {
    let (items, error) = all(returned(Returned::Panics).await).await;
    assert!(items.is_empty());
    let text = "told to panic".into();
    let panicked = reason::<()>(Err(error.expect("it panicked")));
    assert_eq!(panicked, SparkChannelError::Panicked { text });
}

#[tokio::test(start_paused = true)]
async fn a_returned_stream_ends_at_the_deadline_of_the_request_it_answers() {
    let start = Instant::now();
    let (items, error) = all(returned(Returned::Never).await).await;
    assert!(items.is_empty());
    assert_eq!(
        reason::<()>(Err(error.expect("late"))),
        timed_out(Stage::Running)
    );
    assert_eq!(start.elapsed().as_secs(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_always_ready_ends_at_its_deadline_too() {
    let mut endless = returned(Returned::Endless).await;
    assert!(within(endless.next()).await.expect("ready").is_ok());
    tokio::time::advance(2 * SECOND).await;
    let late = within(endless.next()).await.expect("not silent");
    assert_eq!(reason(late), timed_out(Stage::Running));
    assert!(within(endless.next()).await.is_none());
}

// --- at the deadline

/// A stream of at most `buffer` items ahead that gives up after a second, and its sender.
async fn sent(buffer: usize) -> (ReplyStream<u32>, Numbers) {
    let (told, sender) = oneshot::channel();
    let buffer = NonZeroUsize::new(buffer).expect("not zero");
    let mut stream = counter()
        .request_stream_buffered(buffer, |numbers| {
            told.send(numbers).expect("received below");
            Ask::Return(Returned::Numbers)
        })
        .timeout(SECOND);
    let mut polled = tokio_test::task::spawn(&mut stream);
    assert!(polled.poll_next().is_pending());
    drop(polled);
    (stream, within(sender).await.expect("made at once"))
}

#[tokio::test(start_paused = true)]
async fn a_send_that_is_not_polled_again_does_not_hold_up_the_deadline() {
    let (mut stream, sender) = sent(1).await;
    let start = Instant::now();
    sender.try_send(1).expect("there is room");
    let mut waiting = tokio_test::task::spawn(sender.send(2));
    assert!(waiting.poll().is_pending());
    // The place that gets free is that of `waiting`.
    assert!(within(stream.next()).await.expect("sent").is_ok());

    let (items, error) = all(stream).await;

    assert!(items.is_empty() && waiting.is_woken());
    assert_eq!(
        reason::<()>(Err(error.expect("late"))),
        timed_out(Stage::Running)
    );
    assert_eq!(start.elapsed().as_secs(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_not_polled_holds_up_its_producer_until_the_deadline_only() {
    let (_stream, sender) = sent(1).await;
    let start = Instant::now();
    within(sender.send(1)).await.expect("there is room");
    assert!(!sender.is_closed());

    let refused = within(sender.send(2)).await.expect_err("nobody reads");

    assert_eq!(start.elapsed().as_secs(), 1);
    assert_eq!(
        (refused.message, refused.reason),
        (2, SparkChannelError::Cancelled)
    );
    within(sender.closed()).await;
    assert!(sender.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_stream_asked_for_in_a_handler_ends_at_the_handlers_deadline() {
    let (counter, runner) = (counter(), spawn_module(Runner));
    let (told, last) = oneshot::channel();
    let start = Instant::now();
    let asked = job(async move {
        // Kept by a module that has answered, and sets no limit of its own.
        let mut stream = counter.request_stream(Ask::Watch);
        let _ = told.send(stream.next().await);
        Ok(0)
    });

    let dispatcher = runner.dispatcher();
    let _ = within(dispatcher.request(asked).timeout(SECOND)).await;

    let last = within(last).await.expect("told").expect("no silent end");
    assert_eq!(reason(last), timed_out(Stage::Running));
    assert_eq!(start.elapsed().as_secs(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_was_complete_in_time_may_be_read_later() {
    let (mut stream, sender) = sent(3).await;
    for number in 1..=3 {
        sender.try_send(number).expect("there is room");
    }
    assert!(within(stream.next()).await.expect("sent").is_ok());
    sender.finish();
    // Long enough for the handler to answer.
    tokio::time::sleep(SECOND / 2).await;

    tokio::time::advance(2 * SECOND).await;

    let (items, error) = all(stream).await;
    assert_eq!(items, [2, 3]);
    assert!(error.is_none(), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_returned_stream_may_be_given_any_limit_at_any_time() {
    let never = || ReplyStream::<u32>::new(Odd(Returned::Never));
    let start = Instant::now();
    let mut later = never().timeout(Duration::MAX).timeout(5 * SECOND);
    let mut polled = tokio_test::task::spawn(&mut later);
    assert!(polled.poll_next().is_pending());
    drop(polled);

    let (_, error) = all(later.timeout(SECOND)).await;

    assert_eq!(
        reason::<()>(Err(error.expect("late"))),
        timed_out(Stage::Running)
    );
    assert_eq!(start.elapsed().as_secs(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_returned_stream_that_panics_again_while_it_is_dropped_reports_the_first_panic() {
    struct Worse;
    impl Stream for Worse {
        type Item = eyre::Result<u32>;
        fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            panic!("the first")
        }
    }
    impl Drop for Worse {
        fn drop(&mut self) {
            panic!("the second");
        }
    }

    let (_, error) = all(ReplyStream::new(Worse)).await;

    let text = "the first".into();
    let panicked = reason::<()>(Err(error.expect("it panicked")));
    assert_eq!(panicked, SparkChannelError::Panicked { text });
}
