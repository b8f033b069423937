//! Where a server listens, and what is spoken there.

#[cfg(unix)]
use std::path::PathBuf;
use std::{fmt, net::SocketAddr};

#[cfg(feature = "tls")]
use crate::TlsConfig;

/// A place to listen: a TCP port, plain or with TLS, or a Unix socket.
///
/// Texts and socket addresses become plain TCP ports with `From`. A text may name a host, which
/// is looked up as the server is bound; port 0 lets the operating system choose one.
///
/// # Examples
///
/// ```
/// use spark_http::{Endpoint, HttpServer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = HttpServer::builder()
///     .endpoint("127.0.0.1:0")
///     .bind(Endpoint::tcp("[::1]:0"))
///     .await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Endpoint(pub(crate) Kind);

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Tcp(String),
    #[cfg(feature = "tls")]
    Tls(String, TlsConfig),
    #[cfg(unix)]
    Unix(PathBuf, Option<u32>),
}

// === impl Endpoint ===

impl Endpoint {
    /// A TCP port, `host:port`, without TLS.
    #[must_use]
    pub fn tcp(address: impl fmt::Display) -> Self {
        Self(Kind::Tcp(address.to_string()))
    }

    /// A TCP port, `host:port`, on which nothing but TLS is spoken.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(address: impl fmt::Display, config: TlsConfig) -> Self {
        Self(Kind::Tls(address.to_string(), config))
    }

    /// A Unix socket at `path`, with the permissions that the process's umask leaves it.
    ///
    /// A socket that nobody listens on any more is replaced; anything else at `path` is an
    /// error. The file is removed when the server stops listening, unless another one has taken
    /// its place by then.
    #[cfg(unix)]
    #[must_use]
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self(Kind::Unix(path.into(), None))
    }

    /// As [`unix`](Self::unix), with the permissions `mode` (`0o660` for instance), which hold
    /// before the first client can connect.
    #[cfg(unix)]
    #[must_use]
    pub fn unix_with_mode(path: impl Into<PathBuf>, mode: u32) -> Self {
        Self(Kind::Unix(path.into(), Some(mode)))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Tcp(address) => address.fmt(f),
            #[cfg(feature = "tls")]
            Kind::Tls(address, _) => address.fmt(f),
            #[cfg(unix)]
            Kind::Unix(path, _) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl From<&str> for Endpoint {
    fn from(address: &str) -> Self {
        Self::tcp(address)
    }
}

impl From<String> for Endpoint {
    fn from(address: String) -> Self {
        Self(Kind::Tcp(address))
    }
}

impl From<&String> for Endpoint {
    fn from(address: &String) -> Self {
        Self::tcp(address)
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self::tcp(address)
    }
}
