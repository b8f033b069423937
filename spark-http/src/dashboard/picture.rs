//! What the page is told: everything there is to see, at one moment.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use spark_channel::MessageStats;

use super::sampler::{Identity, Past};
use crate::{
    Seeing,
    seeing::{BOUNDS, RouteCounts, SeenModule, SeenRoute, Times, Unready, state_name},
};

#[derive(Serialize)]
pub(super) struct Picture<'a> {
    service: &'a str,
    version: &'a str,
    up_seconds: u64,
    ready: bool,
    unready_modules: Vec<&'a str>,
    unready_checks: Vec<&'a str>,
    servers: Vec<Server>,
    routes: Vec<RouteLine<'a>>,
    modules: Vec<ModuleLine<'a>>,
    /// Modules that are not shown, because there are too many.
    hidden: usize,
}

#[derive(Serialize)]
struct Server {
    name: String,
    draining: bool,
    open: u64,
    connections: u64,
}

#[derive(Serialize)]
struct RouteLine<'a> {
    name: &'a str,
    in_flight: u64,
    rate: Option<f64>,
    latency: Option<Latency>,
    classes: [u64; 5],
    abandoned: u64,
}

#[derive(Serialize)]
struct ModuleLine<'a> {
    name: &'a str,
    state: &'static str,
    rate: Option<f64>,
    depth: usize,
    capacity: usize,
    high_water: usize,
    latency: Option<Latency>,
    /// What the latency is of: `messages`, or `routes`.
    latency_of: Option<&'static str>,
    handled: u64,
    failed: u64,
    panics: u64,
    restarts: u64,
    rejected: u64,
    interrupted: u64,
    expired: u64,
    abandoned: u64,
    dropped: u64,
    conflated: u64,
    undelivered: u64,
    current: Option<Current<'a>>,
}

/// In microseconds, over the last seconds.
#[derive(Clone, Copy, Serialize)]
struct Latency {
    p50: u64,
    p95: u64,
    p99: u64,
}

#[derive(Serialize)]
struct Current<'a> {
    name: &'a str,
    age_micros: u64,
    /// Handlers that run beside it.
    others: usize,
}

pub(super) fn draw<'a>(
    seeing: &'a Seeing,
    unready: &'a Unready,
    modules: &'a [(Identity, SeenModule)],
    routes: &'a [(RouteCounts, SeenRoute)],
    past: &Past<'_>,
) -> Picture<'a> {
    let (service, version) = seeing.name();
    Picture {
        service,
        version,
        up_seconds: seeing.up().as_secs(),
        ready: unready.is_ready(),
        unready_modules: unready.modules.iter().map(|name| &**name).collect(),
        unready_checks: unready.checks.iter().map(|name| &**name).collect(),
        servers: seeing
            .servers()
            .into_iter()
            .map(|server| {
                let stats = server.handle.stats();
                Server {
                    draining: server.handle.is_draining(),
                    name: server.name.to_string(),
                    open: stats.open,
                    connections: stats.connections,
                }
            })
            .collect(),
        routes: routes
            .iter()
            .map(|(counts, route)| RouteLine {
                name: &route.label,
                in_flight: counts.in_flight,
                rate: past.route_rate(&route.label),
                latency: Latency::of_times(&past.route_times(&route.label)),
                classes: counts.classes,
                abandoned: counts.abandoned,
            })
            .collect(),
        modules: modules
            .iter()
            .take(SHOWN_MAX)
            .map(|module| line(module, routes, past))
            .collect(),
        hidden: modules.len().saturating_sub(SHOWN_MAX),
    }
}

/// As a server-sent event.
pub(super) fn event(picture: &Picture<'_>) -> Bytes {
    let mut event = b"data: ".to_vec();
    // Numbers and strings under fixed names: that cannot fail. JSON has no line breaks of its own.
    let _ = serde_json::to_writer(&mut event, picture);
    event.extend_from_slice(b"\n\n");
    event.into()
}

fn line<'a>(
    (identity, module): &'a (Identity, SeenModule),
    routes: &[(RouteCounts, SeenRoute)],
    past: &Past<'_>,
) -> ModuleLine<'a> {
    let stats = &module.stats;
    let (latency, latency_of) = match &module.messages {
        Some(_) => (Latency::of_messages(identity, past), Some("messages")),
        None => of_routes(module, routes, past),
    };
    ModuleLine {
        name: &module.name,
        state: state_name(module.state),
        rate: past.module_rate(identity),
        depth: stats.depth,
        capacity: stats.capacity,
        high_water: stats.high_water,
        latency,
        latency_of,
        handled: stats.handled,
        failed: stats.failed,
        panics: stats.panics,
        restarts: stats.restarts,
        rejected: stats.rejected,
        interrupted: stats.interrupted,
        expired: stats.expired,
        abandoned: stats.abandoned,
        dropped: stats.dropped,
        conflated: stats.conflated,
        undelivered: stats.undelivered,
        current: module.messages.as_ref().and_then(Current::of),
    }
}

/// The latency of the routes that lead to the module, if any do.
fn of_routes(
    module: &SeenModule,
    routes: &[(RouteCounts, SeenRoute)],
    past: &Past<'_>,
) -> (Option<Latency>, Option<&'static str>) {
    let mut times = None::<Times>;
    for (_, route) in routes {
        let leads_here = module.watch.is_some() && route.module_watch() == module.watch.as_ref();
        if leads_here {
            let more = past.route_times(&route.label);
            times.get_or_insert_default().add(&more);
        }
    }
    match times {
        Some(times) => (Latency::of_times(&times), Some("routes")),
        None => (None, None),
    }
}

// === impl Latency ===

impl Latency {
    fn of_messages(module: &Identity, past: &Past<'_>) -> Option<Self> {
        let handling = past.module_handling(module);
        (handling.count > 0).then(|| Self {
            p50: micros(handling.quantile(0.50)),
            p95: micros(handling.quantile(0.95)),
            p99: micros(handling.quantile(0.99)),
        })
    }

    fn of_times(times: &Times) -> Option<Self> {
        Some(Self {
            p50: micros(quantile(times, 0.50)?),
            p95: micros(quantile(times, 0.95)?),
            p99: micros(quantile(times, 0.99)?),
        })
    }
}

// === impl Current ===

impl<'a> Current<'a> {
    fn of(messages: &'a MessageStats) -> Option<Self> {
        let oldest = messages.current.first()?;
        Some(Self {
            name: oldest.name,
            age_micros: micros(oldest.age),
            others: messages.current.len() - 1,
        })
    }
}

/// The time that the share `quantile` did not exceed, as if times were spread evenly within each
/// bucket. `None` of none.
fn quantile(times: &Times, quantile: f64) -> Option<Duration> {
    let wanted = quantile * times.buckets.iter().sum::<u64>() as f64;
    let (mut below, mut counted) = (Duration::ZERO, 0.0);
    for (index, count) in times.buckets.iter().enumerate() {
        let bound = BOUNDS.get(index).copied().unwrap_or(below);
        let count = *count as f64;
        if count > 0.0 && counted + count >= wanted {
            let share = (wanted - counted) / count;
            return Some(below + bound.saturating_sub(below).mul_f64(share));
        }
        counted += count;
        below = bound;
    }
    None
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// As many as one reads down a page; a bound on what an event weighs.
const SHOWN_MAX: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_in_their_bucket_where_their_share_does() {
        let mut times = Times::default();
        assert_eq!(quantile(&times, 0.5), None);
        times.buckets[1] = 100;
        let middle = (BOUNDS[0] + BOUNDS[1]) / 2;
        assert_eq!(quantile(&times, 0.5), Some(middle));
        assert_eq!(quantile(&times, 1.0), Some(BOUNDS[1]));
        times.buckets[BOUNDS.len()] = 300;
        assert_eq!(quantile(&times, 0.5), Some(BOUNDS[BOUNDS.len() - 1]));

        let earlier = times;
        times.buckets[5] += 3;
        assert_eq!(quantile(&times.since(&earlier), 1.0), Some(BOUNDS[5]));
    }
}
