//! Replies that come item by item.
//!
//! There are two ways to produce one, with the same type at the caller's end.
//!
//! *Sent*: the message carries a [`ReplyStreamSender`], made by
//! [`request_stream`](SparkGenericModuleDispatcher::request_stream). The handler sends
//! items, at most a buffer ahead of the caller, and the module is busy meanwhile; or it
//! keeps the sender and sends items as they come.
//!
//! *Returned*: the handler answers with a [`ReplyStream`] of its own making, which its
//! caller polls. The module is free at once, and nothing is produced ahead.
//!
//! An end is clean only if the producer says so. Whatever else happens to it is the
//! last item.

mod sender;

use std::{
    fmt,
    future::{Future, poll_fn},
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
    vec,
};

use futures_core::Stream;
use tokio::{sync::mpsc, time::Instant};

pub use self::sender::ReplyStreamSender;
use self::sender::Shared;
use crate::{
    SparkChannelError, SparkGenericModuleDispatcher, Stage,
    clock::{Clock, Moment},
    current,
    request::{Caller, Limit, Timer, earlier, reply_dropped},
    run_loop::{panic_text, quietly},
};

/// A reply that comes item by item: a [`Stream`] of results.
///
/// An `Err` is the last item, always: the handler's own error, or a
/// [`SparkChannelError`] if the producer panicked, went away before it had
/// [finished](ReplyStreamSender::finish), or passed the deadline. `None` without an `Err`
/// before it means that the reply is complete.
///
/// Dropping it cancels the producer. It borrows nothing, and does nothing until it is
/// polled.
///
/// # Examples
///
/// As the response of a handler, polled by whoever asked:
///
/// ```
/// use spark_channel::{NativeHandler, ReplyStream, spawn_module};
///
/// struct Numbers(Vec<u32>);
///
/// impl NativeHandler for Numbers {
///     type Message = ();
///     type Response = ReplyStream<u32>;
///     type Error = eyre::Report;
///
///     async fn handle_request(&mut self, _: ()) -> eyre::Result<ReplyStream<u32>> {
///         Ok(ReplyStream::from_iter(self.0.clone()))
///     }
///
///     async fn handle_command(&mut self, _: ()) -> eyre::Result<()> {
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> eyre::Result<()> {
/// let numbers = spawn_module(Numbers(vec![1, 2, 3])).dispatcher();
/// let mut sum = 0;
/// let mut reply = numbers.request(()).await?;
/// while let Some(number) = reply.next().await {
///     sum += number?;
/// }
/// assert_eq!(sum, 6);
/// # Ok(())
/// # }
/// ```
#[must_use = "streams do nothing unless polled"]
pub struct ReplyStream<T, E = eyre::Report> {
    source: Source<T, E>,
    limit: Limit,
    at_most: Option<Moment>,
    deadline: Option<Moment>,
    timer: Option<Pin<Box<Timer>>>,
}

enum Source<T, E> {
    /// Not polled yet.
    Fresh(Start<E>, Items<T, E>),
    /// Sent by a handler, whose request goes on until it has answered.
    Sent(Option<Running<E>>, Items<T, E>),
    Returned(Pin<Box<dyn Stream<Item = Result<T, E>> + Send>>),
    Ready(vec::IntoIter<T>),
    /// The last item.
    Failed(E),
    Done,
}

/// What a producer sends: its items, and then how it ended, unless it just went away.
struct Items<T, E> {
    received: mpsc::Receiver<T>,
    shared: Arc<Shared<E>>,
    /// How the producer said they ended.
    outcome: Option<Result<(), E>>,
    /// How the request ended, if not well: comes after what was sent before.
    failed: Option<E>,
}

/// Sends the request, with the limits it was given meanwhile.
type Start<E> = Box<dyn FnOnce(Limit, Option<Moment>) -> (Option<Moment>, Running<E>) + Send>;

type Running<E> = Pin<Box<dyn Future<Output = Result<(), E>> + Send>>;

// === impl SparkGenericModuleDispatcher ===

impl<M, R, C, E> SparkGenericModuleDispatcher<M, R, C, E>
where
    M: Send + 'static,
    R: Send + 'static,
    C: Send + 'static,
    E: From<SparkChannelError> + Send + 'static,
{
    /// Sends a request whose reply comes item by item: `message` puts the producer's end
    /// into the message.
    ///
    /// The producer is at most 16 items ahead of the caller, and waits at that bound;
    /// [`request_stream_buffered`](Self::request_stream_buffered) has another one. It is
    /// a request like others: nothing happens until the stream is polled, and the
    /// handler's response is dropped. The time limit, the module's default if none is
    /// set, holds from the first poll to the last item.
    ///
    /// # Errors
    ///
    /// The last item: the handler's own error or what [`fail`](ReplyStreamSender::fail) was
    /// given, untouched, or a [`SparkChannelError`] of [`request`](Self::request).
    ///
    /// # Cancel safety
    ///
    /// Dropping the stream cancels the producer: a request that has not started is
    /// skipped, a running one can [learn it](ReplyStreamSender::closed), and its next
    /// [`send`](ReplyStreamSender::send) fails. Items sent and not taken are dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// use spark_channel::{NativeHandler, ReplyStreamSender, spawn_module};
    ///
    /// struct CountTo { last: u32, numbers: ReplyStreamSender<u32> }
    ///
    /// struct Counter;
    ///
    /// impl NativeHandler for Counter {
    ///     type Message = CountTo;
    ///     type Response = ();
    ///     type Error = eyre::Report;
    ///
    ///     async fn handle_request(&mut self, count: CountTo) -> eyre::Result<()> {
    ///         for number in 1..=count.last {
    ///             count.numbers.send(number).await?; // an error ends it when nobody reads
    ///         }
    ///         count.numbers.finish();
    ///         Ok(())
    ///     }
    ///
    ///     async fn handle_command(&mut self, _: CountTo) -> eyre::Result<()> {
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> eyre::Result<()> {
    /// let counter = spawn_module(Counter).dispatcher();
    /// let mut reply = counter.request_stream(|numbers| CountTo { last: 3, numbers });
    /// let mut sum = 0;
    /// while let Some(number) = reply.next().await {
    ///     sum += number?;
    /// }
    /// assert_eq!(sum, 6);
    /// # Ok(())
    /// # }
    /// ```
    pub fn request_stream<T: Send + 'static>(
        &self,
        message: impl FnOnce(ReplyStreamSender<T, E>) -> M,
    ) -> ReplyStream<T, E> {
        self.request_stream_buffered(BUFFER, message)
    }

    /// Sends a request whose reply comes item by item, with a producer that is at most
    /// `buffer` items ahead of the caller.
    ///
    /// A larger buffer switches tasks less often, keeps more items in memory, and loses
    /// more work when the caller goes away. As [`request_stream`](Self::request_stream)
    /// otherwise.
    ///
    /// # Panics
    ///
    /// Panics if `buffer` is larger than tokio's
    /// [`Semaphore::MAX_PERMITS`](tokio::sync::Semaphore::MAX_PERMITS).
    pub fn request_stream_buffered<T: Send + 'static>(
        &self,
        buffer: NonZeroUsize,
        message: impl FnOnce(ReplyStreamSender<T, E>) -> M,
    ) -> ReplyStream<T, E> {
        let (items, received) = mpsc::channel(buffer.get());
        let shared = Arc::new(Shared::new());
        let message = message(ReplyStreamSender::new(items, Arc::clone(&shared)));
        let told = Arc::clone(&shared);
        let dispatcher = self.clone();
        let start: Start<E> = Box::new(move |limit, at_most| {
            let bound = earlier(at_most, Caller::of().inherited);
            let deadline = earlier(bound, limit.deadline(&dispatcher));
            if let Some(deadline) = deadline {
                told.tell_deadline(deadline);
            }
            let running = async move {
                let mut request = dispatcher.request(message);
                if let Some(deadline) = deadline {
                    request = request.deadline(deadline.to_instant());
                }
                request.await.map(drop)
            };
            (deadline, Box::pin(running) as Running<E>)
        });
        let items = Items {
            received,
            shared,
            outcome: None,
            failed: None,
        };
        ReplyStream::from_source(Source::Fresh(start, items))
    }
}

// === impl ReplyStream ===

impl<T, E> ReplyStream<T, E> {
    fn from_source(source: Source<T, E>) -> Self {
        Self {
            source,
            limit: Limit::Default,
            at_most: None,
            deadline: None,
            timer: None,
        }
    }

    /// A reply made of `stream`, which whoever asked polls.
    ///
    /// It runs in the task of its caller, outside of the module: what it needs of the
    /// module's state it has to own. Made inside of a handler, it ends at the deadline of
    /// the request being handled. A panic in it becomes its last item.
    pub fn new(stream: impl Stream<Item = Result<T, E>> + Send + 'static) -> Self {
        Self {
            deadline: current::inherited_deadline(),
            ..Self::from_source(Source::Returned(Box::pin(stream)))
        }
    }

    /// Gives up on what has not come `timeout` after the first poll, instead of the
    /// module's default. Of a reply that a handler has returned, `timeout` from now.
    ///
    /// As [`Request::timeout`](crate::Request::timeout) otherwise; has no effect once a
    /// request was sent.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.limit = Limit::Timeout(timeout.into());
        self.bound_returned(Clock::Exact.deadline_in(timeout.into()));
        self
    }

    /// Gives up at `deadline` on what has not come, instead of after the module's
    /// default timeout. As [`timeout`](Self::timeout) otherwise.
    pub fn deadline(mut self, deadline: Instant) -> Self {
        let deadline = Moment::from_instant(deadline);
        self.limit = Limit::Deadline(deadline);
        self.bound_returned(deadline);
        self
    }

    /// Gives up at `deadline` at the latest: whichever is earlier of it and the limit
    /// there is anyway. As [`timeout`](Self::timeout) otherwise.
    pub fn at_most(mut self, deadline: Instant) -> Self {
        let deadline = Moment::from_instant(deadline);
        self.at_most = earlier(self.at_most, Some(deadline));
        self.bound_returned(deadline);
        self
    }

    /// The time of a reply that a handler has returned runs already.
    fn bound_returned(&mut self, deadline: Moment) {
        if let Source::Returned(_) = self.source {
            self.deadline = earlier(self.deadline, Some(deadline));
            // It may have been armed for a later one.
            self.timer = None;
        }
    }
}

impl<T, E: From<SparkChannelError>> ReplyStream<T, E> {
    /// The next item; `None` when the reply is complete, or after an error.
    ///
    /// # Errors
    ///
    /// An error is the last item.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no item is lost.
    pub async fn next(&mut self) -> Option<Result<T, E>> {
        poll_fn(|cx| self.poll_item(cx)).await
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, E>>> {
        if let Source::Fresh(..) = self.source
            && let Source::Fresh(start, items) = std::mem::replace(&mut self.source, Source::Done)
        {
            let (deadline, running) = start(self.limit, self.at_most);
            self.deadline = deadline;
            self.source = Source::Sent(Some(running), items);
        }
        self.source.poll_running(cx);
        if let Some(deadline) = self.deadline
            && self.source.needs_timer()
        {
            let timer = self.timer.get_or_insert_with(|| Box::pin(Timer::Off));
            if timer.as_mut().poll_at(deadline, cx).is_ready() {
                self.source.pass_deadline();
            }
        }
        let item = ready!(self.source.poll_item(cx));
        if !matches!(item, Some(Ok(_))) {
            self.source = Source::Done;
            self.timer = None;
        }
        Poll::Ready(item)
    }
}

/// A reply that is there already, and complete.
impl<T, E> FromIterator<T> for ReplyStream<T, E> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let items: Vec<T> = items.into_iter().collect();
        Self::from_source(Source::Ready(items.into_iter()))
    }
}

// Nothing is pinned inside of it but what is boxed.
impl<T, E> Unpin for ReplyStream<T, E> {}

impl<T, E: From<SparkChannelError>> Stream for ReplyStream<T, E> {
    type Item = Result<T, E>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<T, E>>> {
        self.poll_item(cx)
    }
}

impl<T, E> fmt::Debug for ReplyStream<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.source {
            Source::Fresh(..) => "not sent",
            Source::Sent(Some(_), _) => "waiting for the handler",
            Source::Sent(None, _) | Source::Returned(_) | Source::Ready(_) => "waiting for items",
            Source::Failed(_) => "failed",
            Source::Done => "done",
        };
        f.debug_struct("ReplyStream")
            .field("state", &state)
            .finish_non_exhaustive()
    }
}

// === impl Source ===

impl<T, E: From<SparkChannelError>> Source<T, E> {
    /// Goes on with the request, if there still is one; what was sent before it failed
    /// comes first.
    fn poll_running(&mut self, cx: &mut Context<'_>) {
        if let Self::Sent(running, items) = self
            && let Some(request) = running
            && let Poll::Ready(answer) = request.as_mut().poll(cx)
        {
            *running = None;
            if let Err(error) = answer {
                items.fail(error);
            }
        }
    }

    /// Whether nothing else watches the deadline: a request does so itself.
    fn needs_timer(&self) -> bool {
        match self {
            Self::Sent(running, items) => running.is_none() && items.failed.is_none(),
            Self::Returned(_) => true,
            Self::Fresh(..) | Self::Ready(_) | Self::Failed(_) | Self::Done => false,
        }
    }

    fn pass_deadline(&mut self) {
        let stage = Stage::Running;
        let error = SparkChannelError::TimedOut { stage }.into();
        match self {
            Self::Sent(_, items) => {
                // If all of it is here, it waits for nobody but its reader.
                if !items.have_ended() {
                    items.fail(error);
                }
            }
            _ => *self = Self::Failed(error),
        }
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, E>>> {
        match self {
            Self::Sent(running, items) => items.poll_next(running.is_some(), cx),
            Self::Returned(stream) => {
                let polled = catch_unwind(AssertUnwindSafe(|| stream.as_mut().poll_next(cx)));
                polled.unwrap_or_else(|panic| {
                    let text = Arc::from(panic_text(&*panic));
                    quietly(|| drop(panic));
                    // It may panic again, and the first panic is the one to report.
                    quietly(|| *self = Self::Done);
                    Poll::Ready(Some(Err(SparkChannelError::Panicked { text }.into())))
                })
            }
            Self::Ready(items) => Poll::Ready(items.next().map(Ok)),
            Self::Fresh(..) | Self::Failed(_) | Self::Done => {
                match std::mem::replace(self, Self::Done) {
                    Self::Failed(error) => Poll::Ready(Some(Err(error))),
                    _ => Poll::Ready(None),
                }
            }
        }
    }
}

// === impl Items ===

impl<T, E: From<SparkChannelError>> Items<T, E> {
    /// Takes no more items than were sent already, then `error`.
    fn fail(&mut self, error: E) {
        self.failed = Some(error);
        self.received.close();
    }

    /// Whether the producer has said how its items ended, all of which have been sent then.
    fn have_ended(&mut self) -> bool {
        if self.outcome.is_none() {
            self.outcome = self.shared.take_end();
        }
        self.outcome.is_some()
    }

    /// The next item. While the request goes on, only it can tell that all is well: a
    /// handler may fail after its last item.
    fn poll_next(
        &mut self,
        request_goes_on: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<T, E>>> {
        let item = match self.failed {
            None => ready!(self.received.poll_recv(cx)),
            // Only what is there: a `send` that has a place and is not polled again would
            // be waited for.
            Some(_) => self.received.try_recv().ok(),
        };
        if let Some(item) = item {
            return Poll::Ready(Some(Ok(item)));
        }
        self.have_ended();
        let outcome = match self.failed.take() {
            Some(error) => Some(Err(error)),
            None => self.outcome.take(),
        };
        Poll::Ready(match outcome {
            Some(Err(error)) => Some(Err(error)),
            outcome if request_goes_on => {
                self.outcome = outcome;
                return Poll::Pending;
            }
            Some(Ok(())) => None,
            None => Some(Err(reply_dropped())),
        })
    }
}

const BUFFER: NonZeroUsize = NonZeroUsize::new(16).expect("not zero");
