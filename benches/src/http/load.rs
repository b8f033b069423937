//! The load: one thread that never sleeps and sets no timer, and looks at the clock and at all its
//! connections in turn.
//!
//! There are two kinds. [`Load::at_most`] sends the next request on a connection as soon as it has
//! the answer; it finds out how much a server can do. [`Load::at_rate`] sends requests at times that
//! were fixed before, whatever the server does meanwhile, and a request's time counts from when it
//! was due, sent or not: a server that stands still for a millisecond is charged for all who would
//! have come in it. A load that waits for answers before it asks on would leave those out
//! ("coordinated omission"; wrk2 was made to count them).

use std::{io, net::SocketAddr, time::Duration};

use mio::{Events, Interest, Poll, Token};
use tokio::time::Instant;

use super::{
    client::{Client, PATIENCE},
    schedule::{Latencies, Schedule},
};

/// Connections to one server, and the thread that watches them all.
#[derive(Debug)]
pub struct Load {
    clients: Vec<Client>,
    poll: Poll,
    events: Events,
    /// When an answer came last.
    heard: Instant,
}

// === impl Load ===

impl Load {
    /// Connects `count` times, and asks once on each connection.
    ///
    /// # Errors
    ///
    /// If nobody listens, or a request is not answered with 200.
    pub fn connect(address: SocketAddr, count: usize, request: &[u8]) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut clients = Vec::with_capacity(count);
        for place in 0..count {
            let mut client = Client::connect(address)?;
            expect_ok(client.ask(request)?)?;
            let registry = poll.registry();
            registry.register(&mut client.stream, Token(place), Interest::READABLE)?;
            clients.push(client);
        }
        Ok(Self {
            clients,
            poll,
            events: Events::with_capacity(count),
            heard: Instant::now(),
        })
    }

    /// Sends one request after the other on each connection, for as long as `slice`. Returns the
    /// requests answered per second.
    ///
    /// # Errors
    ///
    /// If a request fails, or is not answered with 200.
    pub fn at_most(&mut self, request: &[u8], slice: Duration) -> io::Result<f64> {
        let start = Instant::now();
        self.heard = start;
        for client in &mut self.clients {
            client.send(request)?;
        }
        let mut answered = 0_u64;
        let elapsed = loop {
            self.take_in(|client, _| {
                answered += 1;
                client.send(request)
            })?;
            let elapsed = start.elapsed();
            if elapsed >= slice {
                break elapsed;
            }
        };
        let mut under_way = self.clients.len();
        while under_way > 0 {
            self.take_in(|_, _| {
                under_way -= 1;
                Ok(())
            })?;
        }
        Ok(answered as f64 / elapsed.as_secs_f64())
    }

    /// Sends `rate` requests per second, evenly, for as long as `slice`. What is due in the first
    /// tenth is not counted.
    ///
    /// # Errors
    ///
    /// As [`at_most`](Self::at_most).
    pub fn at_rate(&mut self, request: &[u8], rate: f64, slice: Duration) -> io::Result<Latencies> {
        let start = Instant::now();
        self.heard = start;
        let mut schedule = Schedule::new(start, rate, slice, self.clients.len());
        while !schedule.is_over() {
            if let Some(place) = schedule.take(Instant::now()) {
                self.clients[place].send(request)?;
            }
            self.take_in(|_, place| {
                schedule.answered(place, Instant::now());
                Ok(())
            })?;
        }
        Ok(schedule.into_latencies())
    }

    /// Takes in what has come, without waiting. Says whose answer is whole.
    fn take_in(
        &mut self,
        mut answered: impl FnMut(&mut Client, usize) -> io::Result<()>,
    ) -> io::Result<()> {
        match self.poll.poll(&mut self.events, Some(Duration::ZERO)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        if self.events.is_empty() {
            if self.heard.elapsed() > PATIENCE {
                return Err(io::ErrorKind::TimedOut.into());
            }
            return Ok(());
        }
        self.heard = Instant::now();
        for event in &self.events {
            let Token(place) = event.token();
            let client = &mut self.clients[place];
            if let Some(status) = client.receive()? {
                expect_ok(status)?;
                answered(client, place)?;
            }
        }
        Ok(())
    }
}

fn expect_ok(status: u16) -> io::Result<()> {
    if status == 200 {
        Ok(())
    } else {
        Err(io::Error::other(format!("answered {status}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_answered_with_200_is_no_measurement() {
        assert!(expect_ok(200).is_ok());
        assert!(expect_ok(503).is_err());
    }
}
