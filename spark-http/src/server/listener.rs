//! The sockets on which a server waits for clients.

use std::{
    io,
    net::SocketAddr,
    task::{Context, Poll},
};

use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};
#[cfg(unix)]
use tokio::net::{UnixListener, UnixStream};

#[cfg(unix)]
use super::socket_file::SocketFile;
#[cfg(feature = "tls")]
use crate::TlsConfig;
use crate::{Address, Endpoint, endpoint::Kind};

/// All listeners of one server.
#[derive(Debug)]
pub(super) struct Listeners {
    all: Vec<Listener>,
    /// Who is asked first next time, so that a busy one does not starve the others.
    next: usize,
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    #[cfg(feature = "tls")]
    Tls(TcpListener, TlsConfig),
    #[cfg(unix)]
    Unix {
        // Dropped first: no new client should find a socket that is about to close.
        _file: SocketFile,
        listener: UnixListener,
    },
}

/// A client that was accepted.
pub(super) enum Incoming {
    Tcp(TcpStream, Address),
    #[cfg(feature = "tls")]
    Tls(TcpStream, Address, TlsConfig),
    #[cfg(unix)]
    Unix(UnixStream, Address),
}

// === impl Listeners ===

impl Listeners {
    pub(super) const fn new() -> Self {
        Self {
            all: Vec::new(),
            next: 0,
        }
    }

    /// Listens on `endpoint` as well, and returns the address it got.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped, it has not begun to listen.
    pub(super) async fn bind(&mut self, endpoint: Endpoint) -> io::Result<Address> {
        let (listener, address) = match endpoint.0 {
            Kind::Tcp(address) => {
                let (listener, address) = tcp(&address).await?;
                (Listener::Tcp(listener), address)
            }
            #[cfg(feature = "tls")]
            Kind::Tls(address, config) => {
                let (listener, address) = tcp(&address).await?;
                (Listener::Tls(listener, config), address)
            }
            #[cfg(unix)]
            Kind::Unix(path, mode) => {
                let (listener, file) = super::socket_file::bind(&path, mode).await?;
                let listener = Listener::Unix {
                    _file: file,
                    listener,
                };
                (listener, Address::Unix(Some(path)))
            }
        };
        self.all.push(listener);
        Ok(address)
    }

    /// How many clients can have connected that were not accepted.
    pub(super) fn waiting_max(&self) -> usize {
        // Linux lets in one more than it is asked for.
        self.all.len() * (BACKLOG as usize + 1)
    }

    /// Accepts a client of any listener.
    pub(super) fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Incoming>> {
        let count = self.all.len();
        for offset in 0..count {
            let index = (self.next + offset) % count;
            if let Poll::Ready(accepted) = self.all[index].poll_accept(cx) {
                self.next = index + 1;
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
    }
}

// === impl Listener ===

impl Listener {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Incoming>> {
        match self {
            Self::Tcp(listener) => listener
                .poll_accept(cx)
                .map_ok(|(stream, peer)| Incoming::Tcp(stream, peer.into())),
            #[cfg(feature = "tls")]
            Self::Tls(listener, config) => listener
                .poll_accept(cx)
                .map_ok(|(stream, peer)| Incoming::Tls(stream, peer.into(), config.clone())),
            #[cfg(unix)]
            Self::Unix { listener, .. } => listener.poll_accept(cx).map_ok(|(stream, peer)| {
                let path = peer.as_pathname().map(Into::into);
                Incoming::Unix(stream, Address::Unix(path))
            }),
        }
    }
}

/// Listens on the first of the addresses of a host that can be had.
async fn tcp(address: &str) -> io::Result<(TcpListener, Address)> {
    let mut last = None;
    for address in lookup_host(address).await? {
        match listen(address) {
            Ok(listener) => {
                let address = listener.local_addr()?;
                return Ok((listener, address.into()));
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()))
}

/// As `TcpListener::bind`, which asks for a backlog of 128: a burst of clients larger than that
/// waits a second for its next try.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Elsewhere it would let two servers have one port.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The operating system takes less if its own bound is lower.
pub(super) const BACKLOG: u32 = 1024;
