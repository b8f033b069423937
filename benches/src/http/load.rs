//! The load: clients that speak just enough HTTP/1.1 to be cheaper than any server.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep_until, timeout},
};

/// A connection that is kept alive.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

// === impl Client ===

impl Client {
    /// Connects.
    ///
    /// # Errors
    ///
    /// If nobody listens.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(4096),
        })
    }

    /// Sends a request, reads the answer whole, and returns its status.
    ///
    /// # Errors
    ///
    /// If the answer has no status or length, or does not come within ten seconds.
    pub async fn ask(&mut self, request: &[u8]) -> io::Result<u16> {
        match timeout(PATIENCE, self.exchange(request)).await {
            Ok(answered) => answered,
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut)),
        }
    }

    async fn exchange(&mut self, request: &[u8]) -> io::Result<u16> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            if let Some(answer) = Head::parse(&self.buffer)?
                && self.buffer.len() >= answer.length
            {
                return Ok(answer.status);
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// What has to be known of an answer.
struct Head {
    status: u16,
    /// Of head and body, in bytes.
    length: usize,
}

// === impl Head ===

impl Head {
    /// `None` if it is not complete yet.
    fn parse(bytes: &[u8]) -> io::Result<Option<Self>> {
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Ok(None);
        };
        let malformed = || io::Error::other("no answer of HTTP/1.1 with a length");
        let head = str::from_utf8(&bytes[..end]).map_err(|_| malformed())?;
        let status = head.get(9..12).and_then(|status| status.parse().ok());
        let body = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let is_length = name.eq_ignore_ascii_case("content-length");
            is_length.then(|| value.trim().parse::<usize>().ok())?
        });
        match (status, body) {
            (Some(status), Some(body)) => Ok(Some(Self {
                status,
                length: end + 4 + body,
            })),
            _ => Err(malformed()),
        }
    }
}

/// A request for `name` with `body`.
#[must_use]
pub fn request(name: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST /{name} HTTP/1.1\r\nhost: bench\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// Sends one request after the other on each connection, for as long as `slice`. Returns the
/// requests answered per second.
///
/// # Errors
///
/// If a request fails, or is not answered with 200.
pub async fn at_most(
    clients: Vec<Client>,
    request: &'static [u8],
    slice: Duration,
) -> io::Result<(f64, Vec<Client>)> {
    let start = Instant::now();
    let end = start + slice;
    let (answered, clients) = together(clients, move |mut client, _| async move {
        let mut answered = 0_u64;
        while Instant::now() < end {
            expect_ok(client.ask(request).await?)?;
            answered += 1;
        }
        Ok((answered, client))
    })
    .await?;
    let answered: u64 = answered.iter().sum();
    Ok((answered as f64 / start.elapsed().as_secs_f64(), clients))
}

/// Sends `rate` requests per second in all, for as long as `slice`. Returns how long each took
/// from when it was due.
///
/// # Errors
///
/// As [`at_most`].
pub async fn at_rate(
    clients: Vec<Client>,
    request: &'static [u8],
    rate: f64,
    slice: Duration,
) -> io::Result<(Vec<Duration>, Vec<Client>)> {
    let interval = Duration::from_secs_f64(clients.len() as f64 / rate);
    let count = u32::try_from(clients.len()).unwrap_or(u32::MAX);
    let start = Instant::now();
    let end = start + slice;
    let (latencies, clients) = together(clients, move |mut client, index| async move {
        let mut latencies = Vec::new();
        let mut due = start + interval * index / count;
        while due < end {
            // Who has to wait for the time is charged from when he was woken: the timer's own
            // lateness is not the server's.
            let mut since = due;
            if Instant::now() < due {
                sleep_until(due).await;
                since = Instant::now();
            }
            expect_ok(client.ask(request).await?)?;
            latencies.push(since.elapsed());
            due += interval;
        }
        Ok((latencies, client))
    })
    .await?;
    Ok((latencies.concat(), clients))
}

/// Runs `work` for all clients at once, and gives them back.
async fn together<T, Fut>(
    clients: Vec<Client>,
    work: impl Fn(Client, u32) -> Fut,
) -> io::Result<(Vec<T>, Vec<Client>)>
where
    T: Send + 'static,
    Fut: Future<Output = io::Result<(T, Client)>> + Send + 'static,
{
    let tasks: Vec<_> = (0..)
        .zip(clients)
        .map(|(index, client)| tokio::spawn(work(client, index)))
        .collect();
    let mut results = Vec::with_capacity(tasks.len());
    let mut clients = Vec::with_capacity(tasks.len());
    for task in tasks {
        let (result, client) = task.await.map_err(io::Error::other)??;
        results.push(result);
        clients.push(client);
    }
    Ok((results, clients))
}

fn expect_ok(status: u16) -> io::Result<()> {
    if status == 200 {
        Ok(())
    } else {
        Err(io::Error::other(format!("answered {status}")))
    }
}

const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_complete_with_its_body() {
        let bytes = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno";
        assert!(Head::parse(&bytes[..20]).unwrap().is_none());
        let head = Head::parse(bytes).unwrap().unwrap();
        assert_eq!((head.status, head.length), (404, bytes.len()));
        assert!(Head::parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
