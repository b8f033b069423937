//! Where one end of a connection is.

use std::{fmt, net::SocketAddr};

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
}

// === impl Address ===

impl Address {
    /// The IP address and port, if it is one.
    #[must_use]
    pub fn as_socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}
