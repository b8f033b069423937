//! The tasks of a connection's streams: owned by the connection, and given up when their clients
//! take nothing.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use http_body::Body as _;
use hyper::body::Incoming;
use tokio::{
    task::JoinSet,
    time::{Instant, Sleep, sleep_until, timeout},
};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

use crate::{
    body::Unread,
    due,
    server::{exchange::Progress, refusal::LINGER},
};

/// Runs the streams of one connection.
#[derive(Clone)]
pub(super) struct Streams {
    tasks: Arc<Mutex<Tasks>>,
    /// Holds up the server's end until every stream's future is dropped.
    tracker: TaskTracker,
    write_timeout: Duration,
}

/// Ends the streams when dropped. Clones cannot: each stream has one.
pub(super) struct Owned(Streams);

struct Tasks {
    set: JoinSet<()>,
    /// Of the request that hyper makes a stream of next.
    expected: Option<Arc<Pace>>,
}

/// Whether a stream waits for its client, and what it left of what came.
pub(super) struct Pace {
    waiting: Mutex<Waiting>,
    unread: Arc<Unread>,
}

#[derive(Debug, Default)]
enum Waiting {
    #[default]
    No,
    /// For room for what hyper was given, since then or since a part of it last went out.
    ForClient {
        since: Instant,
    },
    GivenUp,
}

// === impl Streams ===

impl Streams {
    pub(super) fn new(tracker: TaskTracker, write_timeout: Duration) -> Self {
        Self {
            tasks: Arc::new(Mutex::new(Tasks {
                set: JoinSet::new(),
                expected: None,
            })),
            tracker,
            write_timeout,
        }
    }

    pub(super) fn owned(self) -> Owned {
        Owned(self)
    }

    /// Whose stream is run next: hyper calls its service and runs what it makes of that in one go.
    pub(super) fn expect(&self, pace: Arc<Pace>) {
        self.lock().expected = Some(pace);
    }

    /// Forgets streams that have ended.
    pub(super) fn poll_reap(&self, cx: &mut Context<'_>) {
        let mut tasks = self.lock();
        while let Poll::Ready(Some(ended)) = tasks.set.poll_join_next(cx) {
            if let Err(error) = ended
                && !error.is_cancelled()
            {
                // A service other than an ingress may panic; it ends its stream only.
                tracing::error!(%error, "stream task failed");
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::ops::Deref for Owned {
    type Target = Streams;

    fn deref(&self) -> &Streams {
        &self.0
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.lock().set.abort_all();
    }
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let token = self.tracker.token();
        let write_timeout = self.write_timeout;
        let mut tasks = self.lock();
        let pace = tasks.expected.take().unwrap_or_default();
        tasks.set.spawn(run(stream, token, pace, write_timeout));
    }
}

/// Runs a stream to its end, and reads on for a while what its client sends behind an answer that did not
/// need it. Dropped, it is reset.
async fn run(
    stream: impl Future<Output = ()>,
    token: TaskTrackerToken,
    pace: Arc<Pace>,
    write_timeout: Duration,
) {
    // Dropped last: what the stream's end counts is counted by then.
    let _token = token;
    answer(stream, &pace, write_timeout).await;
    if let Some(body) = pace.unread.take()
        && !pace.is_given_up()
    {
        linger(body).await;
    }
}

/// Polls a stream until it ends, or its client has taken nothing of it for too long.
async fn answer(stream: impl Future<Output = ()>, pace: &Pace, write_timeout: Duration) {
    let mut stream = pin!(stream);
    let mut alarm: Option<Pin<Box<Sleep>>> = None;
    poll_fn(|cx| {
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        while let Some(since) = pace.waiting_since() {
            let due = due::after(since, write_timeout);
            if Instant::now() >= due {
                pace.give_up();
                return Poll::Ready(());
            }
            let alarm = alarm.get_or_insert_with(|| Box::pin(sleep_until(due)));
            if alarm.deadline() != due {
                alarm.as_mut().reset(due);
            }
            std::task::ready!(alarm.as_mut().poll(cx));
        }
        Poll::Pending
    })
    .await;
}

/// Throws away what comes of a request that was answered before its end.
///
/// Dropped at once, h2 would reset the stream, as it may, and there are clients that lose the whole answer over
/// that, although they must not (RFC 9113, 8.1); curl 7.88 does.
async fn linger(mut body: Incoming) {
    let rest =
        async { while let Some(Ok(_)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {} };
    // However it ends, nobody wants it.
    let _ = timeout(LINGER, rest).await;
}

// === impl Pace ===

impl Pace {
    pub(super) fn given(&self, now: Instant) {
        *self.lock() = Waiting::ForClient { since: now };
    }

    pub(super) fn taken(&self) {
        *self.lock() = Waiting::No;
    }

    pub(super) fn unread(&self) -> Arc<Unread> {
        Arc::clone(&self.unread)
    }

    fn wrote_at(&self, now: Instant) {
        if let Waiting::ForClient { since } = &mut *self.lock() {
            *since = now;
        }
    }

    pub(super) fn is_given_up(&self) -> bool {
        matches!(*self.lock(), Waiting::GivenUp)
    }

    fn give_up(&self) {
        *self.lock() = Waiting::GivenUp;
    }

    fn waiting_since(&self) -> Option<Instant> {
        match *self.lock() {
            Waiting::ForClient { since } => Some(since),
            Waiting::No | Waiting::GivenUp => None,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            waiting: Mutex::default(),
            unread: Arc::new(Unread::keeping()),
        }
    }
}

impl Progress for Arc<Pace> {
    fn wrote(&self) {
        self.wrote_at(Instant::now());
    }
}
