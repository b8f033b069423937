//! Takes turns: which contender is under load when, and what comes of it.

use std::{io, time::Duration};

use super::{
    client::{self, Client},
    contender::Contender,
    cores::Cores,
    disturbance::Disturbance,
    load::Load,
    options::Options,
    process::Server,
    row::{Measure, Row},
};
use crate::{order::Order, statistics::Summary};

/// What was measured, and how the load fared.
#[derive(Debug)]
pub struct Measured {
    /// The figures, measure by measure.
    pub rows: Vec<Row>,
    /// The two cores, if servers and load had one each.
    pub cores: Option<Cores>,
    /// Half the requests per second that the slowest of this program's own contenders answers.
    pub half_load: f64,
    /// The 99th percentile of how late the load itself was at half load, in microseconds: a
    /// difference between latencies that is not larger than this says nothing.
    pub late: Summary,
    /// How many turns were taken again, since another program had one of the cores.
    pub repeated: u32,
    /// How many were kept though one had.
    pub disturbed: u32,
}

/// Samples of one measure, contender by contender.
type Samples = Vec<Vec<f64>>;

struct Bench<'a> {
    options: &'a Options,
    cores: Option<Cores>,
    request: Vec<u8>,
    order: Order,
    repeated: u32,
    disturbed: u32,
}

/// Measures everything. `progress` is told what comes next.
///
/// # Errors
///
/// If a server cannot be started, or does not answer as it should.
pub fn measure(options: &Options, mut progress: impl FnMut(&str)) -> io::Result<Measured> {
    let mut bench = Bench {
        options,
        cores: Cores::part()?,
        request: client::request("echo", BODY),
        order: Order::default(),
        repeated: 0,
        disturbed: 0,
    };
    let servers: Vec<Server> = options
        .contenders
        .iter()
        .map(|&contender| bench.start(contender))
        .collect::<io::Result<_>>()?;

    progress("requests per second");
    let [throughput] = bench.timed(|bench, index| {
        bench.undisturbed(&servers[index], |load, request| {
            Ok([load.at_most(request, options.slice)?])
        })
    })?;

    progress("latency at half load");
    let half_load = half_of_slowest(&options.contenders, &throughput);
    let [median, p99, late] = bench.timed(|bench, index| {
        bench.undisturbed(&servers[index], |load, request| {
            let latencies = load.at_rate(request, half_load, options.slice)?;
            let median = percentile(latencies.answered.clone(), 0.5);
            let p99 = percentile(latencies.answered, 0.99);
            Ok([median, p99, percentile(latencies.late, 0.99)])
        })
    })?;
    drop(servers);

    progress("memory");
    let memory_rounds = options.rounds.min(MEMORY_ROUNDS);
    let [idle, unknown] = bench.rounds(memory_rounds, |bench, index| {
        let contender = options.contenders[index];
        Ok([
            bench.idle_bytes(contender)?,
            bench.unknown_bytes(contender)?,
        ])
    })?;

    let measures = [
        (Measure::Throughput, throughput),
        (Measure::Median, median),
        (Measure::P99, p99),
        (Measure::IdleBytes, idle),
        (Measure::UnknownBytes, unknown),
    ];
    let rows = measures
        .iter()
        .flat_map(|(measure, samples)| Row::all(*measure, &options.contenders, samples))
        .collect();
    Ok(Measured {
        rows,
        cores: bench.cores,
        half_load,
        late: Summary::of(&late.concat()),
        repeated: bench.repeated,
        disturbed: bench.disturbed,
    })
}

// === impl Bench ===

impl Bench<'_> {
    /// As [`rounds`](Self::rounds), as many as were asked for. One before them is to warm up.
    fn timed<const MEASURES: usize>(
        &mut self,
        turn: impl FnMut(&mut Self, usize) -> io::Result<[f64; MEASURES]>,
    ) -> io::Result<[Samples; MEASURES]> {
        let mut measures = self.rounds(self.options.rounds + 1, turn)?;
        for samples in measures.iter_mut().flatten() {
            samples.remove(0);
        }
        Ok(measures)
    }

    /// Gives every contender its turn in every round, and collects its samples of each measure.
    fn rounds<const MEASURES: usize>(
        &mut self,
        rounds: u32,
        mut turn: impl FnMut(&mut Self, usize) -> io::Result<[f64; MEASURES]>,
    ) -> io::Result<[Samples; MEASURES]> {
        let count = self.options.contenders.len();
        let mut samples =
            [const { Vec::new() }; MEASURES].map(|_: Samples| vec![Vec::new(); count]);
        for _ in 0..rounds {
            for index in self.order.shuffled(count) {
                for (samples, figure) in samples.iter_mut().zip(turn(self, index)?) {
                    samples[index].push(figure);
                }
            }
        }
        Ok(samples)
    }

    fn start(&self, contender: Contender) -> io::Result<Server> {
        let start = || Server::start(contender, self.options);
        match self.cores {
            Some(cores) => cores.on_servers(start),
            None => start(),
        }
    }

    /// Puts a server under load, and once more if another program had one of the cores meanwhile. A
    /// server that has no turn has no connections either.
    fn undisturbed<T>(
        &mut self,
        server: &Server,
        turn: impl Fn(&mut Load, &[u8]) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut load = Load::connect(server.address(), self.options.connections, &self.request)?;
        let mut retries = self.options.retries;
        loop {
            let before = Disturbance::until_now(server.id());
            let figures = turn(&mut load, &self.request)?;
            let after = Disturbance::until_now(server.id());
            let is_disturbed = match (before, after) {
                (Some(before), Some(after)) => after.has_grown_since(before, self.options.slice),
                _ => false,
            };
            if !is_disturbed {
                return Ok(figures);
            }
            if retries == 0 {
                self.disturbed += 1;
                return Ok(figures);
            }
            retries -= 1;
            self.repeated += 1;
        }
    }

    fn idle_bytes(&self, contender: Contender) -> io::Result<f64> {
        let server = self.start(contender)?;
        let connect = |count| -> io::Result<Vec<Client>> {
            (0..count)
                .map(|_| {
                    let mut client = Client::connect(server.address())?;
                    client.ask(&self.request)?;
                    Ok(client)
                })
                .collect()
        };
        // What a server allocates once is not a connection's.
        let _first = connect(4)?;
        let before = server.resident_bytes()?;
        let _idle = connect(self.options.idle_connections)?;
        let after = server.resident_bytes()?;
        Ok(after.saturating_sub(before) as f64 / self.options.idle_connections as f64)
    }

    fn unknown_bytes(&self, contender: Contender) -> io::Result<f64> {
        let server = self.start(contender)?;
        let names = self.options.unknown_names;
        let ask = |from: u32, to: u32| -> io::Result<()> {
            let mut client = Client::connect(server.address())?;
            for number in from..to {
                let request = client::request(&format!("unknown-{number}"), BODY);
                if client.ask(&request).is_err() {
                    // It may answer by closing the connection.
                    client = Client::connect(server.address())?;
                }
            }
            Ok(())
        };
        ask(0, names)?;
        let before = server.resident_bytes()?;
        ask(names, 2 * names)?;
        let after = server.resident_bytes()?;
        Ok(after as f64 - before as f64)
    }
}

/// Half of what the slowest of this program's own contenders answers per second.
fn half_of_slowest(contenders: &[Contender], throughput: &Samples) -> f64 {
    let own = contenders
        .iter()
        .zip(throughput)
        .filter(|(contender, _)| contender.is_own());
    let slowest = own
        .map(|(_, samples)| Summary::of(samples).median)
        .fold(f64::INFINITY, f64::min);
    slowest / 2.0
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

/// Each is a server of its own, started for it.
const MEMORY_ROUNDS: u32 = 3;

/// A message of 64 bytes.
const BODY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
