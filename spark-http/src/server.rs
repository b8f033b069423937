//! A server on a listener of its own: its settings, its handle, and its life from bind to report.

#[cfg(feature = "http2")]
use std::num::NonZeroU32;
use std::{io, num::NonZeroUsize, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use spark_channel::SparkChannelCancellationToken;
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use crate::{Address, Body, ConfigError, Endpoint, ShutdownSignals, config};

use listener::Listeners;

mod accept;
mod connection;
mod exchange;
#[cfg(feature = "tls")]
mod handshake;
mod http1;
#[cfg(feature = "http2")]
mod http2;
mod limits;
mod listener;
mod refusal;
mod report;
#[cfg(unix)]
mod socket_file;
mod transport;
mod upgrade;

pub use report::{DrainReport, ServerStats};

use report::Counts;
pub use upgrade::{AfterUpgrade, Draining};

/// Serves a tower service over HTTP/1.1 and, with the feature `http2`, HTTP/2, and ends without losing a request.
///
/// It owns its listeners and the tasks of its connections, and nothing global: any number of
/// servers fit into one process.
///
/// # Examples
///
/// ```
/// use spark_http::{HttpServer, Ingress};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let ingress = Ingress::builder()
///     .handler_fn("hello", |_context, _body| async { "world" })
///     .build()?;
///
/// let server = HttpServer::bind("127.0.0.1:0").await?;
/// println!("listening on http://{}", server.local_addr());
/// let handle = server.handle();
/// let serving = tokio::spawn(server.serve(ingress));
///
/// handle.drain();
/// let report = serving.await?;
/// assert!(!report.deadline_passed);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a server answers nobody until it serves"]
pub struct HttpServer {
    listeners: Listeners,
    addresses: Vec<Address>,
    settings: Arc<Settings>,
    handle: ServerHandle,
}

/// Settings of a server that does not listen yet.
#[derive(Clone, Debug)]
#[must_use = "a server exists once it is bound"]
pub struct HttpServerBuilder {
    settings: Settings,
    endpoints: Vec<Endpoint>,
}

/// Tells a server to stop. Cheap to clone; does not keep the server alive.
#[derive(Clone, Debug)]
pub struct ServerHandle {
    drain: CancellationToken,
    cut: CancellationToken,
    counts: Arc<Counts>,
}

/// Error returned by [`HttpServer::bind`] and [`HttpServerBuilder::bind`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The settings cannot work.
    #[error("invalid server settings")]
    Config(#[source] ConfigError),
    /// The operating system did not give us the address.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address, as it was asked for.
        address: String,
        /// What the operating system said.
        source: io::Error,
    },
}

#[derive(Clone, Debug)]
struct Settings {
    head_timeout: Duration,
    head_limit: usize,
    keep_alive: Duration,
    write_timeout: Duration,
    connections_max: NonZeroUsize,
    drain_timeout: Duration,
    half_close: bool,
    drain_token: CancellationToken,
    #[cfg(feature = "http2")]
    streams_max: NonZeroU32,
    #[cfg(feature = "http2")]
    stream_window: u32,
    #[cfg(feature = "http2")]
    connection_window: u32,
}

// === impl HttpServer ===

impl HttpServer {
    /// Starts with the default settings.
    pub fn builder() -> HttpServerBuilder {
        HttpServerBuilder {
            settings: Settings {
                head_timeout: Duration::from_secs(10),
                head_limit: 64 * 1024,
                keep_alive: Duration::from_secs(5),
                write_timeout: Duration::from_secs(30),
                connections_max: CONNECTIONS_MAX,
                drain_timeout: Duration::from_secs(15),
                half_close: false,
                drain_token: CancellationToken::new(),
                #[cfg(feature = "http2")]
                streams_max: STREAMS_MAX,
                #[cfg(feature = "http2")]
                stream_window: 128 * 1024,
                #[cfg(feature = "http2")]
                connection_window: 256 * 1024,
            },
            endpoints: Vec::new(),
        }
    }

    /// Listens on `endpoint` with the default settings; see [`HttpServerBuilder::bind`].
    ///
    /// # Errors
    ///
    /// As [`HttpServerBuilder::bind`].
    ///
    /// # Cancel safety
    ///
    /// As [`HttpServerBuilder::bind`].
    pub async fn bind(endpoint: impl Into<Endpoint>) -> Result<Self, BindError> {
        Self::builder().bind(endpoint).await
    }

    /// The address it listens on, with the port the operating system chose if it was asked to;
    /// the first one, if there are several.
    #[must_use]
    pub fn local_addr(&self) -> &Address {
        // There is at least one: only `bind` makes a server.
        &self.addresses[0]
    }

    /// All addresses it listens on, in the order in which they were given.
    #[must_use]
    pub fn local_addrs(&self) -> &[Address] {
        &self.addresses
    }

    /// What tells this server to stop.
    #[must_use]
    pub fn handle(&self) -> ServerHandle {
        self.handle.clone()
    }

    /// Serves until the [handle](Self::handle) says to stop, and reports.
    ///
    /// `service` is cloned for each request; an [`Ingress`](crate::Ingress), an axum `Router` or
    /// any other tower service will do. An error of the service itself becomes a 500.
    ///
    /// Stopping: it accepts what already waits in the listener's backlog and closes it;
    /// requests that come now are answered 503, on connections that close; those under way are
    /// finished and their answers written out; then idle connections are closed. After the
    /// [drain timeout](HttpServerBuilder::drain_timeout), or once the handle
    /// [cuts](ServerHandle::cut), whatever is left is dropped and counted. A handler that blocks
    /// its thread cannot be dropped: half a second later it is left to itself, and counted.
    ///
    /// A connection that cannot be accepted (out of file descriptors) is tried again after a
    /// pause that grows to a second; it never ends the server.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cuts every connection and closes the listener.
    pub async fn serve<S, B>(self, service: S) -> DrainReport
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        S::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        accept::run(self.listeners, self.settings, self.handle, service).await
    }

    /// Serves until a signal comes. A second one cuts short what the first began.
    ///
    /// As [`serve`](Self::serve) otherwise.
    ///
    /// # Cancel safety
    ///
    /// As [`serve`](Self::serve).
    pub async fn serve_until<S, B>(self, service: S, signals: &mut ShutdownSignals) -> DrainReport
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        S::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let handle = self.handle();
        let mut serving = std::pin::pin!(self.serve(service));
        loop {
            tokio::select! {
                report = &mut serving => return report,
                () = signals.recv() => if handle.is_draining() {
                    handle.cut();
                } else {
                    handle.drain();
                }
            }
        }
    }
}

// === impl HttpServerBuilder ===

impl HttpServerBuilder {
    /// Ends a connection whose request's head takes longer, from its first byte to its last, with
    /// 408; and one that opened and said nothing. Default: 10 s.
    ///
    /// A larger value lets slow clients hold connections for longer.
    pub fn head_timeout(mut self, timeout: Duration) -> Self {
        self.settings.head_timeout = timeout;
        self
    }

    /// Answers 431 to larger heads (request line and headers), in bytes. Default: 64 KiB; at
    /// least 8 KiB.
    ///
    /// A connection's read buffer may grow to this size.
    pub fn head_limit(mut self, bytes: usize) -> Self {
        self.settings.head_limit = bytes;
        self
    }

    /// Closes a connection this long after its last answer if no byte of a next request came.
    /// Default: 5 s.
    ///
    /// A larger value saves clients that come back a connect, and costs an open connection each.
    pub fn keep_alive(mut self, timeout: Duration) -> Self {
        self.settings.keep_alive = timeout;
        self
    }

    /// Ends a connection, or a stream of HTTP/2, whose client has not taken a single byte of its
    /// answer for this long. Default: 30 s. Of plain TCP that shows on Linux by every 64 KiB or so; elsewhere
    /// the system may hold more, and a client has to take that much faster.
    ///
    /// A larger value lets clients that do not read hold connections, and answers, for longer.
    pub fn write_timeout(mut self, timeout: Duration) -> Self {
        self.settings.write_timeout = timeout;
        self
    }

    /// Bounds the open connections. Default: 10 000.
    ///
    /// At the bound nothing is accepted until one closes: new clients wait in the operating
    /// system's backlog, and once that is full their connects time out. Each connection
    /// costs a file descriptor, so the process's limit should be above it.
    pub fn connections_max(mut self, connections: NonZeroUsize) -> Self {
        self.settings.connections_max = connections;
        self
    }

    /// Bounds the time between being told to stop and dropping what is left. Default: 15 s.
    ///
    /// A larger value lets a handler that hangs hold up the end of the process for longer.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.settings.drain_timeout = timeout;
        self
    }

    /// Answers HTTP/1 clients that shut down their sending half after a whole request. Default:
    /// they count as clients that left, and their requests are dropped.
    ///
    /// TCP tells the end of a half from the end of the whole only once something is written. So
    /// with this, a client that leaves is noticed when its answer is written and no sooner:
    /// its request runs to its end and keeps what it holds, a place in a queue for instance.
    pub fn answer_half_closed(mut self) -> Self {
        self.settings.half_close = true;
        self
    }

    /// Begins the drain once `token` is cancelled, as [`ServerHandle::drain`] does.
    ///
    /// The server never cancels it, so several servers may have one.
    pub fn drain_on(mut self, token: impl Into<SparkChannelCancellationToken>) -> Self {
        self.settings.drain_token = token.into().into_inner();
        self
    }

    /// Bounds the requests that one connection of HTTP/2 may have under way. Default: 100.
    ///
    /// Clients are told, and one that opens more streams has them refused. A larger value lets one
    /// client use more of the server, and memory: up to twice the head limit for each.
    #[cfg(feature = "http2")]
    pub fn streams_max(mut self, streams: NonZeroU32) -> Self {
        self.settings.streams_max = streams;
        self
    }

    /// Bounds how much of a body a client of HTTP/2 may send before the service reads it, in bytes.
    /// Default: 128 KiB; from 1 to 2³¹ − 1.
    ///
    /// Such bytes are in memory and count against no other bound, the ingress's `body_memory` for
    /// one. A larger value lets a body come faster from far away: one window a round trip.
    #[cfg(feature = "http2")]
    pub fn stream_window(mut self, bytes: u32) -> Self {
        self.settings.stream_window = bytes;
        self
    }

    /// Bounds the same for all bodies of one connection together, in bytes. Default: 256 KiB; from
    /// 65 535, with which every connection begins (RFC 9113, 6.9.2), to 2³¹ − 1.
    ///
    /// Times [`connections_max`](Self::connections_max), it is what clients can make the server hold
    /// without its having read a byte. A larger value keeps one body that is not read from
    /// holding up the others for longer.
    #[cfg(feature = "http2")]
    pub fn connection_window(mut self, bytes: u32) -> Self {
        self.settings.connection_window = bytes;
        self
    }

    /// Adds a place to listen. [`bind`](Self::bind) names the last one.
    ///
    /// All of them make one server: with one service, one bound of connections, one handle and one
    /// report.
    pub fn endpoint(mut self, endpoint: impl Into<Endpoint>) -> Self {
        self.endpoints.push(endpoint.into());
        self
    }

    /// Listens on `endpoint`, and on those [added](Self::endpoint) before. Port 0 lets the operating
    /// system choose; [`local_addr`](HttpServer::local_addr) says what it chose.
    ///
    /// From here on clients can connect; they wait until [`serve`](HttpServer::serve) runs.
    ///
    /// # Errors
    ///
    /// [`BindError::Config`] when a timeout is zero, the head limit too small or a window out of its
    /// range, [`BindError::Listen`] when an address cannot be had; then it listens on none.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: if the future is dropped, nothing listens.
    pub async fn bind(self, endpoint: impl Into<Endpoint>) -> Result<HttpServer, BindError> {
        self.settings.check().map_err(BindError::Config)?;
        let endpoint = endpoint.into();
        let mut listeners = Listeners::new();
        let mut addresses = Vec::new();
        for endpoint in self.endpoints.into_iter().chain([endpoint]) {
            let address = endpoint.to_string();
            let bound = listeners.bind(endpoint).await;
            addresses.push(bound.map_err(|source| BindError::Listen { address, source })?);
        }
        Ok(HttpServer {
            listeners,
            addresses,
            handle: ServerHandle {
                drain: self.settings.drain_token.child_token(),
                cut: CancellationToken::new(),
                counts: Arc::default(),
            },
            settings: Arc::new(self.settings),
        })
    }
}

// === impl ServerHandle ===

impl ServerHandle {
    /// What the server has counted so far.
    #[must_use]
    pub fn stats(&self) -> ServerStats {
        self.counts.stats()
    }

    /// Begins the drain: no new work, and what is under way is finished.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Ends the drain, or skips it: whatever still runs is dropped.
    pub fn cut(&self) {
        self.cut.cancel();
        self.drain.cancel();
    }

    /// Whether the server has been told to stop.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }
}

// === impl BindError ===

impl BindError {
    /// Whether another socket has the address.
    #[must_use]
    pub fn is_address_in_use(&self) -> bool {
        matches!(self, Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse)
    }
}

// === impl Settings ===

impl Settings {
    fn check(&self) -> Result<(), ConfigError> {
        config::check_timeouts(&[
            ("head_timeout", self.head_timeout),
            ("keep_alive", self.keep_alive),
            ("write_timeout", self.write_timeout),
        ])?;
        if self.head_limit < HEAD_LIMIT_MIN {
            return Err(ConfigError::HeadLimitTooSmall {
                bytes: self.head_limit,
                least: HEAD_LIMIT_MIN,
            });
        }
        #[cfg(feature = "http2")]
        config::check_windows(&[
            ("stream_window", self.stream_window, 1),
            (
                "connection_window",
                self.connection_window,
                CONNECTION_WINDOW_MIN,
            ),
        ])?;
        Ok(())
    }
}

/// hyper's own minimum, below which it panics.
const HEAD_LIMIT_MIN: usize = 8 * 1024;

/// The least that RFC 9113 recommends.
#[cfg(feature = "http2")]
const STREAMS_MAX: NonZeroU32 = NonZeroU32::new(100).expect("not zero");

/// What every connection begins with, and cannot be taken back.
#[cfg(feature = "http2")]
const CONNECTION_WINDOW_MIN: u32 = 65_535;

/// Beyond what one process with default limits can serve well, below what exhausts memory.
const CONNECTIONS_MAX: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");
