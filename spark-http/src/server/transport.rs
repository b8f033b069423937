//! What carries a connection's bytes.

#[cfg(feature = "tls")]
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

#[cfg(feature = "tls")]
use tokio::io::ReadBuf;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
#[cfg(feature = "tls")]
use tokio_rustls::server::TlsStream;

/// A stream of bytes to a client and back.
pub(super) trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Whether an end without a word looks like an attack to the client.
    const TAKES_LEAVE: bool = false;

    /// For a transport that takes bytes before the client does: a count that grows when the
    /// client takes some.
    fn taken(&self) -> u64 {
        0
    }
}

/// Counts what goes out.
#[cfg(feature = "tls")]
#[derive(Debug)]
pub(super) struct Counting<T> {
    inner: T,
    written: u64,
}

// === impl Transport ===

impl Transport for TcpStream {}

#[cfg(unix)]
impl Transport for UnixStream {}

#[cfg(feature = "tls")]
impl<T: Transport> Transport for TlsStream<Counting<T>> {
    const TAKES_LEAVE: bool = true;

    fn taken(&self) -> u64 {
        self.get_ref().0.written
    }
}

// === impl Counting ===

#[cfg(feature = "tls")]
impl<T> Counting<T> {
    pub(super) fn new(inner: T) -> Self {
        Self { inner, written: 0 }
    }

    fn count(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(length)) = written {
            self.written += length as u64;
        }
        written
    }
}

#[cfg(feature = "tls")]
impl<T: AsyncRead + Unpin> AsyncRead for Counting<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

#[cfg(feature = "tls")]
impl<T: AsyncWrite + Unpin> AsyncWrite for Counting<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.count(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        self.count(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
