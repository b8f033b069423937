//! A server on a free port, and a client that says exactly what it is told to.

#![allow(dead_code, reason = "each test file uses another part of this one")]

use std::{future::Future, net::SocketAddr, time::Duration};

use spark_http::{Address, Body, DrainReport, HttpServer, HttpServerBuilder, ServerHandle};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
};
use tower::Service;

/// Fails the test rather than let it hang.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, future).await.expect("in time")
}

pub(crate) struct Serving {
    pub(crate) address: SocketAddr,
    pub(crate) handle: ServerHandle,
    task: JoinHandle<DrainReport>,
}

pub(crate) async fn serve<S, B>(builder: HttpServerBuilder, service: S) -> Serving
where
    S: Service<http::Request<Body>, Response = http::Response<B>> + Clone + Send + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::Future: Send,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let server = builder.bind("127.0.0.1:0").await.expect("a free port");
    Serving::start(server, service)
}

impl Serving {
    pub(crate) fn start<S, B>(server: HttpServer, service: S) -> Self
    where
        S: Service<http::Request<Body>, Response = http::Response<B>> + Clone + Send + 'static,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        S::Future: Send,
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut addresses = server.local_addrs().iter();
        let address = addresses.find_map(Address::as_socket_addr);
        Self {
            address: address.expect("TCP"),
            handle: server.handle(),
            task: tokio::spawn(server.serve(service)),
        }
    }

    pub(crate) async fn connect(&self) -> Client {
        let stream = within(TcpStream::connect(self.address)).await;
        Client::new(stream.expect("accepted"))
    }

    /// The report, once the server has ended.
    pub(crate) async fn report(self) -> DrainReport {
        within(self.task).await.expect("the server does not panic")
    }

    pub(crate) async fn drain(self) -> DrainReport {
        self.handle.drain();
        self.report().await
    }
}

pub(crate) struct Client<S = TcpStream> {
    pub(crate) stream: S,
    read: Vec<u8>,
}

/// An answer as it came over the wire.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn closes(&self) -> bool {
        self.head.contains("\r\nconnection: close\r\n")
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            read: Vec::new(),
        }
    }

    /// Writes `bytes`. If the server has closed, reading tells.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = within(self.stream.write_all(bytes.as_ref())).await;
    }

    pub(crate) async fn post(&mut self, name: &str, body: &str) {
        let length = body.len();
        self.send(format!(
            "POST /{name} HTTP/1.1\r\nhost: test\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
        .await;
    }

    /// Reads one answer; panics if the connection ends first.
    pub(crate) async fn reply(&mut self) -> Reply {
        let reply = self.reply_or_end().await;
        reply.unwrap_or_else(|| panic!("closed after {:?}", String::from_utf8_lossy(&self.read)))
    }

    /// Reads one answer; `None` if the connection ends before it is complete.
    pub(crate) async fn reply_or_end(&mut self) -> Option<Reply> {
        within(async {
            loop {
                if let Some(reply) = self.parse() {
                    return Some(reply);
                }
                if let Ok(0) | Err(_) = self.stream.read_buf(&mut self.read).await {
                    return None;
                }
            }
        })
        .await
    }

    /// Waits for the end of the connection, with nothing more coming before it.
    pub(crate) async fn closed(&mut self) {
        let end = within(self.stream.read_buf(&mut self.read)).await;
        assert!(
            matches!(end, Ok(0) | Err(_)) && self.read.is_empty(),
            "{:?}",
            self.read
        );
    }

    fn parse(&mut self) -> Option<Reply> {
        let text = String::from_utf8_lossy(&self.read).into_owned();
        let (head, _) = text.split_once("\r\n\r\n")?;
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.expect("a length").parse().expect("a number");
        let whole = head.len() + 4 + length;
        if self.read.len() < whole {
            return None;
        }
        let body = String::from_utf8(self.read[head.len() + 4..whole].to_vec());
        self.read.drain(..whole);
        assert!(head.contains("\r\nx-request-id: "), "{head}");
        Some(Reply {
            status: head[9..12].parse().expect("a status"),
            head: format!("{head}\r\n"),
            body: body.expect("UTF-8"),
        })
    }
}
