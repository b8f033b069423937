//! Takes turns: which contender is under load when, and what comes of it.

use std::{io, time::Duration};

use super::{
    contender::Contender,
    load::{self, Client},
    options::Options,
    process::Server,
};
use crate::{order::Order, statistics::Summary};

/// What was measured of one contender.
#[derive(Debug, Clone)]
pub struct Row {
    /// Whose it is.
    pub contender: Contender,
    /// Requests answered per second, at most.
    pub throughput: Measured,
    /// The 99th percentile of microseconds per request, at half of axum's most.
    pub latency: Measured,
    /// Resident bytes per idle connection.
    pub idle_bytes: f64,
    /// Resident bytes that requests for unknown names left behind.
    pub unknown_bytes: f64,
}

/// A figure, and its ratio to axum's in the same round.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// The figure.
    pub value: Summary,
    /// The ratio.
    pub ratio: Summary,
}

/// A server under load.
struct Subject {
    server: Server,
    clients: Vec<Client>,
}

/// Measures everything. `progress` is told what comes next.
///
/// # Errors
///
/// If a server cannot be started, or does not answer as it should.
pub async fn measure(options: &Options, mut progress: impl FnMut(&str)) -> io::Result<Vec<Row>> {
    let request: &'static [u8] = load::request("echo", BODY).leak();
    let mut subjects = Vec::new();
    for &contender in &options.contenders {
        subjects.push(Subject::start(contender, options).await?);
    }

    progress("requests per second");
    let mut order = Order::default();
    let mut throughputs = vec![Vec::new(); subjects.len()];
    for round in 0..=options.rounds {
        for index in order.shuffled(subjects.len()) {
            let subject = &mut subjects[index];
            let clients = std::mem::take(&mut subject.clients);
            let (rate, clients) = load::at_most(clients, request, options.slice).await?;
            subject.clients = clients;
            // The first round is to warm up.
            if round > 0 {
                throughputs[index].push(rate);
            }
            subject.reconnect(options).await?;
        }
    }

    progress("latency at half load");
    let half = Summary::of(&throughputs[0]).median / 2.0;
    let mut latencies = vec![Vec::new(); subjects.len()];
    for _ in 0..options.rounds {
        for index in order.shuffled(subjects.len()) {
            let subject = &mut subjects[index];
            let clients = std::mem::take(&mut subject.clients);
            let (all, clients) = load::at_rate(clients, request, half, options.slice).await?;
            subject.clients = clients;
            latencies[index].push(percentile(all, 0.99));
            subject.reconnect(options).await?;
        }
    }
    drop(subjects);

    let mut rows = Vec::new();
    for (index, &contender) in options.contenders.iter().enumerate() {
        progress(&format!("memory of {contender}"));
        rows.push(Row {
            contender,
            throughput: Measured::of(&throughputs[index], &throughputs[0]),
            latency: Measured::of(&latencies[index], &latencies[0]),
            idle_bytes: idle_bytes(contender, options, request).await?,
            unknown_bytes: unknown_bytes(contender, options).await?,
        });
    }
    Ok(rows)
}

// === impl Measured ===

impl Measured {
    fn of(values: &[f64], reference: &[f64]) -> Self {
        Self {
            value: Summary::of(values),
            ratio: Summary::of_ratios(values, reference),
        }
    }
}

// === impl Subject ===

impl Subject {
    async fn start(contender: Contender, options: &Options) -> io::Result<Self> {
        let server = Server::start(contender, options.manager_handlers.as_deref())?;
        let clients = connect(&server, options.connections).await?;
        Ok(Self { server, clients })
    }

    /// Connects anew: while others have their turn, a server may close what is idle.
    async fn reconnect(&mut self, options: &Options) -> io::Result<()> {
        self.clients = connect(&self.server, options.connections).await?;
        Ok(())
    }
}

async fn connect(server: &Server, count: usize) -> io::Result<Vec<Client>> {
    let mut clients = Vec::with_capacity(count);
    for _ in 0..count {
        clients.push(Client::connect(server.address()).await?);
    }
    Ok(clients)
}

async fn idle_bytes(contender: Contender, options: &Options, request: &[u8]) -> io::Result<f64> {
    let server = Server::start(contender, options.manager_handlers.as_deref())?;
    // What a server allocates once is not a connection's.
    let mut first = connect(&server, 4).await?;
    for client in &mut first {
        client.ask(request).await?;
    }
    let before = server.resident_bytes()?;
    let mut clients = connect(&server, options.idle_connections).await?;
    for client in &mut clients {
        client.ask(request).await?;
    }
    let after = server.resident_bytes()?;
    Ok(after.saturating_sub(before) as f64 / options.idle_connections as f64)
}

async fn unknown_bytes(contender: Contender, options: &Options) -> io::Result<f64> {
    let server = Server::start(contender, options.manager_handlers.as_deref())?;
    let ask = async |from: u32, to: u32| -> io::Result<()> {
        let mut client = Client::connect(server.address()).await?;
        for number in from..to {
            let request = load::request(&format!("unknown-{number}"), BODY);
            if client.ask(&request).await.is_err() {
                // It may answer by closing the connection.
                client = Client::connect(server.address()).await?;
            }
        }
        Ok(())
    };
    ask(0, options.unknown_names).await?;
    let before = server.resident_bytes()?;
    ask(options.unknown_names, 2 * options.unknown_names).await?;
    let after = server.resident_bytes()?;
    Ok(after as f64 - before as f64)
}

/// In microseconds.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rank is between zero and the length"
)]
fn percentile(mut latencies: Vec<Duration>, fraction: f64) -> f64 {
    latencies.sort_unstable();
    let rank = (latencies.len() as f64 * fraction) as usize;
    let latency = latencies.get(rank).or(latencies.last());
    latency.map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e6)
}

/// A message of 64 bytes.
const BODY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
