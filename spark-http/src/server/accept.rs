//! The server's own loop: accepts, owns the connections' tasks, and drains.

use std::{
    error::Error,
    io,
    sync::{Arc, atomic::Ordering},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{JoinError, JoinSet, coop::unconstrained},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use super::{
    DrainReport, ServerHandle, Settings,
    connection::{self, Common},
    exchange::{Peer, Shared},
    listener::{Incoming, Listeners},
    upgrade::Draining,
};
use crate::{Body, due};

/// The connections of a server, and everything a new one needs.
struct Connections<S> {
    tasks: JoinSet<()>,
    common: Common<S>,
}

type Accepted = (Incoming, OwnedSemaphorePermit);

/// Serves until told to stop, drains, and reports; see [`HttpServer::serve`](super::HttpServer::serve).
pub(super) async fn run<S, B>(
    mut listeners: Listeners,
    settings: Arc<Settings>,
    handle: ServerHandle,
    service: S,
) -> DrainReport
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let permits = settings.connections_max.get().min(Semaphore::MAX_PERMITS);
    let permits = Arc::new(Semaphore::new(permits));
    let drain_timeout = settings.drain_timeout;
    let shared = Shared::new(
        Draining::new(handle.drain.clone()),
        Arc::clone(&handle.counts),
        settings.head_limit,
    );
    let mut connections = Connections {
        tasks: JoinSet::new(),
        common: Common {
            service,
            settings,
            shared: Arc::new(shared),
            close_idle: CancellationToken::new(),
        },
    };
    let mut pause = Pause::default();
    loop {
        // Biased: told to stop, it stops, however many clients wait.
        tokio::select! {
            biased;
            () = handle.drain.cancelled() => break,
            Some(ended) = connections.tasks.join_next() => note(ended),
            accepted = accept(&mut listeners, &permits, &mut pause) => connections.start(accepted),
        }
    }

    let deadline = due::after(Instant::now(), drain_timeout);
    let shared = Arc::clone(&connections.common.shared);
    shared.draining.store(true, Ordering::Release);
    tracing::info!(connections = connections.tasks.len(), "draining");
    // A client in the backlog believes itself connected. Closing the listener would reset
    // it; accepted, it gets an answer if its request is there. Whoever comes after as many as
    // could have waited has come too late: clients must not hold up the drain by coming.
    for _ in 0..listeners.waiting_max() {
        match accept_waiting(&mut listeners, &permits).await {
            Some(accepted) => connections.start(accepted),
            None => break,
        }
    }
    drop(listeners);

    let deadline_passed = tokio::select! {
        biased;
        () = connections.finish() => false,
        () = handle.cut.cancelled() => false,
        () = sleep_until(deadline) => true,
    };
    shared.counts.before_cut();
    connections.cut().await;
    let report = shared.counts.report(deadline_passed);
    tracing::info!(%report, "drained");
    report
}

// === impl Connections ===

impl<S, B> Connections<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    fn start(&mut self, (incoming, permit): Accepted) {
        let common = self.common.clone();
        let accepted = Instant::now();
        match incoming {
            Incoming::Tcp(stream, peer) => {
                set_options(&stream);
                let peer = Peer::new(peer);
                self.spawn(
                    permit,
                    connection::serve_plain(stream, peer, accepted, common),
                );
            }
            #[cfg(feature = "tls")]
            Incoming::Tls(stream, peer, config) => {
                set_options(&stream);
                let connection = connection::serve_tls(stream, peer, config, accepted, common);
                self.spawn(permit, connection);
            }
            #[cfg(unix)]
            Incoming::Unix(stream, peer) => {
                let peer = Peer::new(peer);
                self.spawn(
                    permit,
                    connection::serve_plain(stream, peer, accepted, common),
                );
            }
        }
    }

    fn spawn(
        &mut self,
        permit: OwnedSemaphorePermit,
        connection: impl Future<Output = ()> + Send + 'static,
    ) {
        let open = self.common.shared.counts.open();
        self.tasks.spawn(async move {
            connection.await;
            drop(permit);
            drop(open);
        });
    }

    /// Waits until nothing is owed to any client, then closes what is idle.
    async fn finish(&mut self) {
        let busy = &self.common.shared.busy;
        busy.close();
        busy.wait().await;
        self.common.close_idle.cancel();
        self.join().await;
    }

    /// Waits for the ends of all connections, and of all that ran for them.
    async fn join(&mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            note(ended);
        }
        #[cfg(feature = "http2")]
        {
            let streams = &self.common.shared.streams;
            streams.close();
            streams.wait().await;
        }
    }

    /// Drops what is left. A task that holds its thread cannot be dropped; it is not waited for
    /// beyond [`GRACE`], and ends when it lets go.
    async fn cut(&mut self) {
        self.tasks.abort_all();
        if timeout(GRACE, self.join()).await.is_err() {
            tracing::warn!(
                connections = self.tasks.len(),
                "handlers hold their threads"
            );
            self.tasks.detach_all();
        }
    }
}

/// Accepts the next connection once there is a permit for it.
///
/// # Cancel safety
///
/// Cancel safe: dropped while it waits, it has taken no connection; dropped during a
/// pause, the next attempt comes earlier.
async fn accept(
    listeners: &mut Listeners,
    permits: &Arc<Semaphore>,
    pause: &mut Pause,
) -> Accepted {
    let permit = Arc::clone(permits).acquire_owned().await;
    let permit = permit.expect("the semaphore is never closed");
    loop {
        match std::future::poll_fn(|cx| listeners.poll_accept(cx)).await {
            Ok(incoming) => {
                pause.reset();
                return (incoming, permit);
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                let pause = pause.next();
                tracing::warn!(%error, ?pause, "cannot accept");
                sleep(pause).await;
            }
        }
    }
}

/// Accepts a connection that waits already, if there is one and a permit for it.
///
/// # Cancel safety
///
/// Cancel safe.
async fn accept_waiting(listeners: &mut Listeners, permits: &Arc<Semaphore>) -> Option<Accepted> {
    let permit = Arc::clone(permits).try_acquire_owned().ok()?;
    let accepted = std::future::poll_fn(|cx| {
        loop {
            return Poll::Ready(match listeners.poll_accept(cx) {
                Poll::Ready(Ok(incoming)) => Some(incoming),
                Poll::Ready(Err(error)) if is_of_one_connection(&error) => continue,
                Poll::Ready(Err(_)) | Poll::Pending => None,
            });
        }
    });
    // Out of tokio's budget, a listener with clients would look like one without.
    Some((unconstrained(accepted).await?, permit))
}

fn set_options(stream: &TcpStream) {
    let probes = TcpKeepalive::new().with_time(PROBED_AFTER);
    #[cfg(any(target_os = "linux", target_os = "macos", windows))]
    let probes = probes.with_interval(PROBE_INTERVAL);
    let socket = SockRef::from(stream);
    // A socket on which these fail fails at its first read as well.
    let _ = socket.set_tcp_keepalive(&probes);
    #[cfg(any(target_os = "android", target_os = "linux"))]
    let _ = socket.set_tcp_notsent_lowat(UNSENT_MAX);
    // Answers are written whole; waiting for more to send would only delay them.
    let _ = stream.set_nodelay(true);
}

/// The client was gone before it was accepted. The listener is well.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

fn note(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && !error.is_cancelled()
    {
        // A service other than an ingress may panic; it ends its connection only.
        tracing::error!(%error, "connection task failed");
    }
}

/// How long to wait after an accept failed: out of file descriptors, trying at once would
/// fail at once.
#[derive(Debug, Default)]
struct Pause(Duration);

// === impl Pause ===

impl Pause {
    fn next(&mut self) -> Duration {
        self.0 = (self.0 * 2).clamp(Duration::from_millis(10), Duration::from_secs(1));
        self.0
    }

    fn reset(&mut self) {
        self.0 = Duration::ZERO;
    }
}

/// How long tasks that are dropped may take to notice: enough for a loaded runtime to come round,
/// little beside any drain timeout that lets requests finish.
const GRACE: Duration = Duration::from_millis(500);

/// How much of an answer waits in the system for a client that reads slowly. Without it that is megabytes, of
/// which a third has to be taken before there is room again, and who takes that long looks like one who
/// takes nothing. As much as a fast client reads before the next part is there.
#[cfg(any(target_os = "android", target_os = "linux"))]
const UNSENT_MAX: u32 = 128 * 1024;

/// Finds a client that is gone without a word while it waits for an answer: fast enough to free
/// what it holds, rarely enough to cost nothing.
const PROBED_AFTER: Duration = Duration::from_secs(20);

/// Between probes that nobody answers; Linux sends nine.
#[cfg(any(target_os = "linux", target_os = "macos", windows))]
const PROBE_INTERVAL: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn connections_are_probed_and_hold_little_that_waits() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a free port");
        let stream = TcpStream::connect(listener.local_addr().expect("bound")).await;
        let stream = stream.expect("queued");
        set_options(&stream);
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().expect("told") && stream.nodelay().expect("told"));
        assert_eq!(socket.tcp_keepalive_time().expect("told"), PROBED_AFTER);
        assert_eq!(
            socket.tcp_keepalive_interval().expect("told"),
            PROBE_INTERVAL
        );
        assert_eq!(socket.tcp_notsent_lowat().expect("told"), UNSENT_MAX);
    }

    #[test]
    fn pauses_double_from_ten_milliseconds_to_a_second() {
        let mut pause = Pause::default();
        assert_eq!(pause.next(), Duration::from_millis(10));
        assert_eq!(pause.next(), Duration::from_millis(20));
        for _ in 0..10 {
            pause.next();
        }
        assert_eq!(pause.next(), Duration::from_secs(1));
        pause.reset();
        assert_eq!(pause.next(), Duration::from_millis(10));
    }
}
