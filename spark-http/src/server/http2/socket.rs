//! The wire between hyper's HTTP/2 and the operating system: what passes is told to the account.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::account::Account;
use crate::server::transport::Transport;

/// A connection's transport, as hyper sees it.
pub(super) struct Socket<T> {
    /// Gone only while it is dropped.
    transport: Option<T>,
    account: Account,
    back: Arc<Mutex<Option<T>>>,
}

/// Where the transport is, once hyper is done with it.
pub(super) struct Back<T>(Arc<Mutex<Option<T>>>);

// === impl Socket ===

impl<T: Transport> Socket<T> {
    pub(super) fn new(transport: T, account: Account) -> (Self, Back<T>) {
        let back = Arc::default();
        let socket = Self {
            transport: Some(transport),
            account,
            back: Arc::clone(&back),
        };
        (socket, Back(back))
    }

    fn transport(&mut self) -> Pin<&mut T> {
        Pin::new(self.transport.as_mut().expect("taken only by `drop`"))
    }

    fn stalled(&self) {
        let taken = self.transport.as_ref().map_or(0, Transport::taken);
        self.account.stalled(taken, Instant::now());
    }
}

impl<T: Transport> AsyncRead for Socket<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = self.transport().poll_read(cx, buffer);
        let bytes = &buffer.filled()[before..];
        if !bytes.is_empty() {
            self.account.read(bytes, Instant::now());
        }
        read
    }
}

impl<T: Transport> AsyncWrite for Socket<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.transport().poll_write(cx, bytes);
        match &written {
            Poll::Ready(Ok(length)) => self.account.wrote(&bytes[..*length], Instant::now()),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.stalled(),
        }
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.transport().poll_write_vectored(cx, slices);
        match &written {
            Poll::Ready(Ok(length)) => {
                let (mut left, now) = (*length, Instant::now());
                for slice in slices {
                    let taken = left.min(slice.len());
                    self.account.wrote(&slice[..taken], now);
                    left -= taken;
                }
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.stalled(),
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.as_ref().is_some_and(T::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.transport().poll_flush(cx);
        match &flushed {
            Poll::Ready(Ok(())) => self.account.flushed(Instant::now()),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.stalled(),
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transport().poll_shutdown(cx)
    }
}

impl<T> Drop for Socket<T> {
    fn drop(&mut self) {
        let mut back = self.back.lock().unwrap_or_else(PoisonError::into_inner);
        *back = self.transport.take();
    }
}

// === impl Back ===

impl<T> Back<T> {
    pub(super) fn take(self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
