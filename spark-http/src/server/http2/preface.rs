//! Which version of HTTP a client speaks that did not say so before it spoke.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::wire::PREFACE;
use crate::server::transport::Transport;

/// A transport of which the first bytes were read already, to be read again.
pub(in crate::server) struct Rewound<T> {
    first: [u8; PREFACE.len()],
    /// What of `first` is still to be read.
    from: usize,
    to: usize,
    transport: T,
}

/// What a client's first bytes say.
pub(in crate::server) enum Spoken<T> {
    /// With when its first byte came, if one did.
    Http1(Rewound<T>, Option<Instant>),
    Http2(Rewound<T>),
    /// It began to speak and did not go on.
    Unfinished(T),
    Nothing,
}

/// Reads as much as tells the versions apart: of HTTP/1, no more than one byte that could be part
/// of the preface of HTTP/2 is ever waited behind, and no request is that short.
///
/// # Cancel safety
///
/// Dropping the future cuts the connection.
pub(in crate::server) async fn listen<T: Transport>(
    mut transport: T,
    deadline: Instant,
    close_idle: &CancellationToken,
) -> Spoken<T> {
    let mut first = [0; PREFACE.len()];
    let mut to = 0;
    let mut since = None;
    let mut late = std::pin::pin!(sleep_until(deadline));
    while to < PREFACE.len() && first[..to] == PREFACE[..to] {
        tokio::select! {
            // Biased, so that a request that has arrived is seen before anything is closed.
            biased;
            read = transport.read(&mut first[to..]) => match read {
                // Whatever is wrong shows again when it is read on.
                Ok(0) | Err(_) => break,
                Ok(length) => {
                    to += length;
                    since.get_or_insert_with(Instant::now);
                }
            },
            () = &mut late => return if to == 0 {
                Spoken::Nothing
            } else {
                Spoken::Unfinished(transport)
            },
            () = close_idle.cancelled() => return Spoken::Nothing,
        }
    }
    let is_http2 = first == *PREFACE;
    let transport = Rewound {
        first,
        from: 0,
        to,
        transport,
    };
    if is_http2 {
        Spoken::Http2(transport)
    } else {
        Spoken::Http1(transport, since)
    }
}

// === impl Rewound ===

impl<T: Transport> Transport for Rewound<T> {
    const TAKES_LEAVE: bool = T::TAKES_LEAVE;

    fn taken(&self) -> u64 {
        self.transport.taken()
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Rewound<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.from < self.to {
            let length = (self.to - self.from).min(buffer.remaining());
            buffer.put_slice(&self.first[self.from..][..length]);
            self.from += length;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.transport).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Rewound<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.transport).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.transport).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }
}
