//! Where one end of a connection is.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// Where a server listens, or a client is.
///
/// ```
/// use spark_http::Address;
///
/// let address = Address::Tcp(([127, 0, 0, 1], 8080).into());
/// assert_eq!(address.to_string(), "127.0.0.1:8080");
/// assert_eq!(address.as_socket_addr().map(|address| address.port()), Some(8080));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// A Unix socket, with its path unless it has none, as clients usually do.
    Unix(Option<PathBuf>),
}

// === impl Address ===

impl Address {
    /// The IP address and port, if it is one.
    #[must_use]
    pub fn as_socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// The path of the Unix socket, if it is one that has a path.
    #[must_use]
    pub fn as_path(&self) -> Option<&Path> {
        match self {
            Self::Tcp(_) => None,
            Self::Unix(path) => path.as_deref(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(Some(path)) => write!(f, "unix:{}", path.display()),
            Self::Unix(None) => f.write_str("unix:"),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}
