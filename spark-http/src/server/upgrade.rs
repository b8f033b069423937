//! A connection after HTTP: it has changed its protocol, and is the server's still.

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    exchange::Shared,
    http1::socket::{Tap, cut, lock},
    limits::Limits,
    report::bump,
    transport::Transport,
};
use crate::due;

/// Tells a handler that its server has begun to stop, as a request extension.
///
/// [`HttpServer`](crate::HttpServer) adds it to every request. A drain waits for answers, and for
/// connections that [changed their protocol](hyper::upgrade), to end by themselves; whatever has
/// no end of its own (a stream of events, a WebSocket) waits for this and then ends, or is cut at
/// the drain's deadline.
///
/// # Examples
///
/// ```
/// use spark_http::{Draining, Ingress};
///
/// let ingress = Ingress::builder().handler_fn("wait", |context, _body| async move {
///     if let Some(draining) = context.extensions().get::<Draining>() {
///         draining.begun().await;
///     }
///     "the server is about to stop"
/// });
/// ```
#[derive(Clone, Debug)]
pub struct Draining(CancellationToken);

/// Runs what takes a connection over on the connection's own task, as a request extension.
///
/// [`HttpServer`](crate::HttpServer) adds it to requests that ask for another protocol. What runs
/// there is waited for by the drain and dropped at its deadline; a task spawned for it would be
/// nobody's.
#[derive(Clone)]
pub struct AfterUpgrade(Slot);

type Slot = Arc<Mutex<Taken>>;

/// What a handler left for its connection.
#[derive(Default)]
struct Taken {
    work: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Kept until the connection ends.
    held: Option<Box<dyn Send>>,
}

/// Ends the connection when dropped, whoever has its socket.
struct Switched<'a, T: Transport> {
    tap: &'a Mutex<Tap<T>>,
    shared: &'a Shared,
    has_ended: bool,
}

// === impl Draining ===

impl Draining {
    pub(super) fn new(token: CancellationToken) -> Self {
        Self(token)
    }

    /// Waits until the server is told to stop; returns at once if it was.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn begun(&self) {
        self.0.cancelled().await;
    }

    /// Whether the server was told to stop.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.0.is_cancelled()
    }
}

// === impl AfterUpgrade ===

impl AfterUpgrade {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    /// Runs `future` once the answer to this request has gone out and the connection has changed
    /// its protocol. If it does not, `future` is dropped unpolled. A second future takes the
    /// first one's place.
    pub fn run(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.lock().work = Some(Box::pin(future));
    }

    /// Keeps `held` until the connection ends, or until it is known not to change its protocol.
    pub(crate) fn hold(&self, held: impl Send + 'static) {
        self.lock().held = Some(Box::new(held));
    }

    fn take(&self) -> Taken {
        mem::take(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for AfterUpgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AfterUpgrade").finish_non_exhaustive()
    }
}

/// Keeps a connection that has changed its protocol until whoever took it over is done with it,
/// or its client takes nothing any more.
///
/// # Cancel safety
///
/// Dropping the future cuts the connection.
pub(super) async fn keep<T: Transport>(
    tap: &Mutex<Tap<T>>,
    shared: &Shared,
    limits: &Limits,
    work: Option<AfterUpgrade>,
) {
    bump(&shared.counts.upgraded);
    lock(tap).timeline.switch();
    let mut switched = Switched {
        tap,
        shared,
        has_ended: false,
    };
    let Taken {
        mut work,
        held: _held,
    } = work.map(|work| work.take()).unwrap_or_default();
    // Whoever writes runs elsewhere, so a stall is not seen as it begins, but looked for.
    let mut look = std::pin::pin!(sleep_until(due::after(Instant::now(), limits.write)));
    std::future::poll_fn(|cx| {
        if let Some(running) = &mut work
            && running.as_mut().poll(cx).is_ready()
        {
            work = None;
        }
        // Without the lock: user code has just run, and what it dropped locks as well.
        if lock(tap).poll_released(cx).is_ready() && work.is_none() {
            return Poll::Ready(());
        }
        while look.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let due = lock(tap).timeline.due(limits, || now).map(|(due, _)| due);
            if due.is_some_and(|due| due <= now) {
                return Poll::Ready(());
            }
            let next = due.unwrap_or_else(|| due::after(now, limits.write));
            look.as_mut().reset(next);
        }
        Poll::Pending
    })
    .await;
    switched.has_ended = true;
}

// === impl Switched ===

impl<T: Transport> Drop for Switched<'_, T> {
    fn drop(&mut self) {
        // What panics ends by itself, and is no drain's.
        if !self.has_ended && !std::thread::panicking() {
            bump(&self.shared.counts.upgraded_cut);
        }
        cut(self.tap);
    }
}
