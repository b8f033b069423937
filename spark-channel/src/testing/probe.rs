//! A module's double: it is sent what the module would be, and the test answers.

use std::{
    fmt,
    future::Future,
    panic::Location,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::mpsc, time::timeout};

use crate::{
    CallbackSender, SparkChannelCancellationToken, SparkGenericModuleDispatcher,
    SparkGenericModuleMessage,
};

/// A double of a module, behind a real dispatcher.
///
/// What is sent is kept in order, up to the capacity, until the test expects it. Several
/// requests may be unanswered at once, and be answered in any order.
///
/// The dispatcher is made from the mailbox alone
/// ([`SparkGenericModuleDispatcher::new`]): it has no name, no counts and no default
/// timeout, and calls through it are never direct.
///
/// The `expect_` methods wait for at most 5 s, or the time given to
/// [`patience`](Self::patience), by the runtime's clock. When it is
/// [paused](super::VirtualClock) that takes no time.
///
/// # Examples
///
/// ```
/// use spark_channel::{SparkGenericModuleDispatcher, testing::Probe};
///
/// async fn price(of: &str, prices: &SparkGenericModuleDispatcher<String, u32>) -> eyre::Result<u32> {
///     Ok(prices.request(of).await? * 2)
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> eyre::Result<()> {
/// let mut prices = Probe::new();
/// let dispatcher = prices.dispatcher();
/// let asking = tokio::spawn(async move { price("tea", &dispatcher).await });
///
/// let (asked, reply) = prices.expect_request().await;
/// assert_eq!(asked, "tea");
/// reply.answer(21);
///
/// assert_eq!(asking.await??, 42);
/// prices.finish();
/// # Ok(())
/// # }
/// ```
pub struct Probe<M, R, E = eyre::Report, C = SparkChannelCancellationToken> {
    sender: mpsc::Sender<SparkGenericModuleMessage<M, R, C, E>>,
    receiver: mpsc::Receiver<SparkGenericModuleMessage<M, R, C, E>>,
    patience: Duration,
    unanswered: Arc<AtomicUsize>,
}

/// Where the answer to a request to a [`Probe`] goes.
///
/// Dropped, its caller gets
/// [`ReplyDropped`](crate::SparkChannelError::ReplyDropped), and
/// [`Probe::finish`] fails.
#[must_use = "a reply that is dropped leaves its request unanswered"]
pub struct ProbeReply<R, E = eyre::Report> {
    // Absent only once it is answered.
    sender: Option<CallbackSender<Result<R, E>>>,
    unanswered: Arc<AtomicUsize>,
}

// === impl Probe ===

impl<M, R, E, C> Probe<M, R, E, C> {
    /// A probe with room for 64 messages.
    #[must_use]
    pub fn new() -> Self {
        Self::with_capacity(64)
    }

    /// A probe with room for this many messages. Senders wait, or are refused, when it
    /// is full.
    ///
    /// # Panics
    ///
    /// Panics if it is zero, or larger than tokio's
    /// [`Semaphore::MAX_PERMITS`](tokio::sync::Semaphore::MAX_PERMITS).
    #[must_use]
    pub fn with_capacity(messages: usize) -> Self {
        let (sender, receiver) = mpsc::channel(messages);
        Self {
            sender,
            receiver,
            patience: Duration::from_secs(5),
            unanswered: Arc::default(),
        }
    }

    /// How long the `expect_` methods wait. Default: 5 s.
    #[must_use]
    pub const fn patience(mut self, time: Duration) -> Self {
        self.patience = time;
        self
    }

    /// A dispatcher for this probe.
    #[must_use]
    pub fn dispatcher(&self) -> SparkGenericModuleDispatcher<M, R, C, E> {
        SparkGenericModuleDispatcher::new(self.sender.clone())
    }

    /// How many messages were sent that the test has not looked at.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.receiver.len()
    }

    /// Refuses new messages, like a module that has stopped; those sent before can
    /// still be expected.
    pub fn close(&mut self) {
        self.receiver.close();
    }

    /// Waits for the next message, of any kind.
    ///
    /// # Panics
    ///
    /// Panics if none comes in time.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped, no message is lost.
    #[track_caller]
    pub fn expect_message(
        &mut self,
    ) -> impl Future<Output = SparkGenericModuleMessage<M, R, C, E>> {
        self.next("a message", Location::caller())
    }

    /// Waits for the next message, a request.
    ///
    /// # Panics
    ///
    /// Panics if none comes in time, and if the next message is none.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped, no message is lost.
    #[track_caller]
    pub fn expect_request(&mut self) -> impl Future<Output = (M, ProbeReply<R, E>)> {
        let at = Location::caller();
        let unanswered = Arc::clone(&self.unanswered);
        let next = self.next("a request", at);
        async move {
            match next.await {
                SparkGenericModuleMessage::Request(request) => {
                    (request.message, ProbeReply::new(request.sender, unanswered))
                }
                other => panic!("expected a request and got {} at {at}", kind(&other)),
            }
        }
    }

    /// The next message, a request, if it has been sent; for tests without a runtime.
    ///
    /// # Panics
    ///
    /// Panics if the next message is none.
    #[track_caller]
    pub fn try_expect_request(&mut self) -> Option<(M, ProbeReply<R, E>)> {
        match self.receiver.try_recv().ok()? {
            SparkGenericModuleMessage::Request(request) => {
                let unanswered = Arc::clone(&self.unanswered);
                let reply = ProbeReply::new(request.sender, unanswered);
                Some((request.message, reply))
            }
            other => panic!("expected a request and got {}", kind(&other)),
        }
    }

    /// The next message, a command, if it has been sent; for tests without a runtime.
    ///
    /// # Panics
    ///
    /// Panics if the next message is none.
    #[track_caller]
    pub fn try_expect_command(&mut self) -> Option<M> {
        match self.receiver.try_recv().ok()? {
            SparkGenericModuleMessage::Command(command) => Some(command),
            other => panic!("expected a command and got {}", kind(&other)),
        }
    }

    /// Waits for the next message, a command.
    ///
    /// # Panics
    ///
    /// Panics if none comes in time, and if the next message is none.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped, no message is lost.
    #[track_caller]
    pub fn expect_command(&mut self) -> impl Future<Output = M> {
        let at = Location::caller();
        let next = self.next("a command", at);
        async move {
            match next.await {
                SparkGenericModuleMessage::Command(command) => command,
                other => panic!("expected a command and got {} at {at}", kind(&other)),
            }
        }
    }

    /// Waits for `time` and sees nothing come.
    ///
    /// When the clock is not [paused](super::VirtualClock), this takes the time, and
    /// shows less.
    ///
    /// # Panics
    ///
    /// Panics if a message comes.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped, no message is lost.
    #[track_caller]
    pub fn expect_nothing(&mut self, time: Duration) -> impl Future<Output = ()> {
        let at = Location::caller();
        async move {
            // `None` cannot come: the probe has a sender of its own.
            if let Ok(Some(message)) = timeout(time, self.receiver.recv()).await {
                panic!("expected nothing and got {} at {at}", kind(&message));
            }
        }
    }

    /// Ends the probe, with everything expected and everything answered.
    ///
    /// # Panics
    ///
    /// Panics if a message was sent that was not expected, and if a request was not
    /// answered. A request whose caller has gone is not to be answered: its reply is
    /// dropped before.
    #[track_caller]
    pub fn finish(mut self) {
        self.receiver.close();
        let mut unexpected = 0;
        while let Ok(message) = self.receiver.try_recv() {
            unexpected += usize::from(!is_abandoned(&message));
        }
        let unanswered = self.unanswered.load(Ordering::Relaxed);
        assert!(
            unexpected == 0 && unanswered == 0,
            "the probe got {unexpected} messages that were not expected, and {unanswered} \
             requests were not answered"
        );
    }

    async fn next(
        &mut self,
        expected: &str,
        at: &Location<'_>,
    ) -> SparkGenericModuleMessage<M, R, C, E> {
        let patience = self.patience;
        let Ok(received) = timeout(patience, self.receiver.recv()).await else {
            panic!("{expected} did not come within {patience:?} at {at}");
        };
        match received {
            Some(message) => message,
            None => panic!("the probe is closed, {expected} cannot come at {at}"),
        }
    }
}

impl<M, R, E, C> Default for Probe<M, R, E, C> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M, R, E, C> fmt::Debug for Probe<M, R, E, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe")
            .field("waiting", &self.waiting())
            .field("unanswered", &self.unanswered)
            .finish_non_exhaustive()
    }
}

// === impl ProbeReply ===

impl<R, E> ProbeReply<R, E> {
    fn new(sender: CallbackSender<Result<R, E>>, unanswered: Arc<AtomicUsize>) -> Self {
        unanswered.fetch_add(1, Ordering::Relaxed);
        Self {
            sender: Some(sender),
            unanswered,
        }
    }

    /// Answers the request.
    pub fn answer(self, response: R) {
        self.send(Ok(response));
    }

    /// Answers the request with an error: the module's own, or what happened to the
    /// call, as a [`SparkChannelError`](crate::SparkChannelError).
    pub fn fail(self, error: impl Into<E>) {
        self.send(Err(error.into()));
    }

    /// Whether the caller has gone.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.sender.as_ref().is_none_or(CallbackSender::is_closed)
    }

    /// Waits until the caller has gone.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it may be waited for again.
    pub async fn abandoned(&mut self) {
        if let Some(sender) = &mut self.sender {
            sender.closed().await;
        }
    }

    fn send(mut self, answer: Result<R, E>) {
        if let Some(sender) = self.sender.take() {
            self.unanswered.fetch_sub(1, Ordering::Relaxed);
            // Nobody may wait for it any more, which is the caller's own affair.
            let _ = sender.send(answer);
        }
    }
}

impl<R, E> Drop for ProbeReply<R, E> {
    fn drop(&mut self) {
        if self.sender.as_ref().is_some_and(CallbackSender::is_closed) {
            self.unanswered.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl<R, E> fmt::Debug for ProbeReply<R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProbeReply")
            .field("is_abandoned", &self.is_abandoned())
            .finish_non_exhaustive()
    }
}

fn kind<M, R, C, E>(message: &SparkGenericModuleMessage<M, R, C, E>) -> &'static str {
    match message {
        SparkGenericModuleMessage::Request(_) => "a request",
        SparkGenericModuleMessage::Command(_) => "a command",
        SparkGenericModuleMessage::Shutdown(_) => "a shutdown message",
    }
}

fn is_abandoned<M, R, C, E>(message: &SparkGenericModuleMessage<M, R, C, E>) -> bool {
    matches!(message, SparkGenericModuleMessage::Request(request) if request.sender.is_closed())
}
