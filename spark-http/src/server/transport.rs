//! What carries a connection's bytes.

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// A stream of bytes to a client and back.
pub(super) trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// For a transport that takes bytes before the client does: a count that grows when the
    /// client takes some.
    fn taken(&self) -> u64 {
        0
    }
}

// === impl Transport ===

impl Transport for TcpStream {}
