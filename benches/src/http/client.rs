//! A client that speaks just enough HTTP/1.1 to be cheaper than any server.

use std::{
    hint,
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    time::Duration,
};

use mio::net::TcpStream;
use tokio::time::Instant;

use super::answer::Answer;

/// A connection that is kept alive. Nothing it does blocks.
#[derive(Debug)]
pub struct Client {
    pub(super) stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
}

// === impl Client ===

impl Client {
    /// Connects.
    ///
    /// # Errors
    ///
    /// If nobody listens.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = std::net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream: TcpStream::from_std(stream),
            buffer: vec![0; BUFFER_BYTES],
            filled: 0,
        })
    }

    /// Sends a request, reads the answer whole, and returns its status. Spins meanwhile.
    ///
    /// # Errors
    ///
    /// If the answer has no status or length, or does not come within ten seconds.
    pub fn ask(&mut self, request: &[u8]) -> io::Result<u16> {
        let start = Instant::now();
        self.send(request)?;
        loop {
            if let Some(status) = self.receive()? {
                return Ok(status);
            }
            if start.elapsed() > PATIENCE {
                return Err(io::ErrorKind::TimedOut.into());
            }
            hint::spin_loop();
        }
    }

    /// Sends a request. The one before must have been answered.
    pub(super) fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.filled = 0;
        // The socket's buffer is empty, and larger than any request.
        let written = self.stream.write(request)?;
        if written == request.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::WriteZero.into())
        }
    }

    /// Takes in what has come of an answer. Returns its status once it is whole.
    pub(super) fn receive(&mut self) -> io::Result<Option<u16>> {
        loop {
            match self.stream.read(&mut self.buffer[self.filled..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.filled += read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            if let Some(answer) = Answer::parse(&self.buffer[..self.filled])?
                && self.filled >= answer.length
            {
                return Ok(Some(answer.status));
            }
        }
    }
}

/// A request for `name` with `body`, and with a key for those who ask for one.
#[must_use]
pub fn request(name: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST /{name} HTTP/1.1\r\nhost: bench\r\nauthorization: {API_KEY}\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// What every request is sent with.
pub(super) const API_KEY: &str = "bench-key";

/// More than any answer.
const BUFFER_BYTES: usize = 2048;

pub(super) const PATIENCE: Duration = Duration::from_secs(10);
