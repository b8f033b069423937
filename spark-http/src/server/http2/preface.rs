//! Which version of HTTP a client speaks that did not say so before it spoke.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::wire::PREFACE;
use crate::{due, server::transport::Transport};

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
    accepted: Instant,
    head_timeout: Duration,
    close_idle: &CancellationToken,
) -> Spoken<T> {
    let mut first = [0; PREFACE.len()];
    let mut to = 0;
    let mut since = None;
    let mut late = std::pin::pin!(sleep_until(due::after(accepted, head_timeout)));
    while to < PREFACE.len() && first[..to] == PREFACE[..to] {
        tokio::select! {
            // Biased, so that a request that has arrived is seen before anything is closed.
            biased;
            read = transport.read(&mut first[to..]) => match read {
                // Whatever is wrong shows again when it is read on.
                Ok(0) | Err(_) => break,
                Ok(length) => {
                    to += length;
                    if since.is_none() {
                        let now = Instant::now();
                        since = Some(now);
                        late.as_mut().reset(due::after(now, head_timeout));
                    }
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

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncWriteExt as _, DuplexStream, duplex},
        time::sleep,
    };

    use super::*;

    impl Transport for DuplexStream {}

    const LIMIT: Duration = Duration::from_secs(10);

    async fn heard(server: DuplexStream) -> Spoken<DuplexStream> {
        listen(server, Instant::now(), LIMIT, &CancellationToken::new()).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_has_its_time_from_its_first_byte() {
        let (mut client, server) = duplex(64);
        let speaks = async {
            sleep(LIMIT * 9 / 10).await;
            client.write_all(b"P").await.expect("heard");
            sleep(LIMIT * 9 / 10).await;
            client.write_all(b"OST").await.expect("heard");
            client
        };
        let (spoken, _client) = tokio::join!(heard(server), speaks);
        assert!(matches!(spoken, Spoken::Http1(..)));

        let (mut client, server) = duplex(64);
        client.write_all(b"P").await.expect("heard");
        let begun = Instant::now();
        assert!(matches!(heard(server).await, Spoken::Unfinished(_)));
        assert_eq!(begun.elapsed().as_secs(), LIMIT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_is_waited_for_no_longer() {
        let (_client, server) = duplex(64);
        let begun = Instant::now();
        assert!(matches!(heard(server).await, Spoken::Nothing));
        assert_eq!(begun.elapsed().as_secs(), LIMIT.as_secs());
    }
}
