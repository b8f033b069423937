//! What `/metrics` says.

use std::{collections::BTreeMap, sync::Arc};

use spark_channel::{Durations, NamedStats, Stats};

use super::{
    Seeing,
    modules::{STATES, SeenModule, state_name},
    prometheus::{Kind, Page},
    routes::{BOUNDS, CLASSES, RouteCounts},
};
use crate::ServerStats;

/// Modules of one name, added up.
#[derive(Default)]
struct Named {
    stats: Stats,
    /// How many are in each of [`STATES`].
    states: [usize; STATES.len()],
    messages: BTreeMap<&'static str, Message>,
}

/// Messages of one name.
#[derive(Default)]
struct Message {
    waiting: Durations,
    handling: Durations,
    age: f64,
}

pub(super) fn page(seeing: &Seeing) -> String {
    let mut page = Page::default();
    let (service, version) = seeing.name();
    page.family(
        "spark_service_info",
        Kind::Gauge,
        "What the service is called",
    )
    .sample(&[("service", service), ("version", version)], 1);
    write_routes(&mut page, seeing);
    write_servers(&mut page, seeing);
    let modules = by_name(seeing.modules().see());
    write_modules(&mut page, &modules);
    write_messages(&mut page, &modules);
    page.into_text()
}

// === routes ===

fn write_routes(page: &mut Page, seeing: &Seeing) {
    let routes = seeing.routes();
    let mut family = page.family(
        "spark_http_route_info",
        Kind::Gauge,
        "The module that a route leads to",
    );
    for route in &routes {
        if let Some(module) = route.module_watch() {
            family.sample(&[("route", &route.label), ("module", module.name())], 1);
        }
    }
    let routes: Vec<(Arc<str>, RouteCounts)> = routes
        .into_iter()
        .map(|route| (route.label, route.counters.read()))
        .collect();
    let mut family = page.family(
        "spark_http_requests_total",
        Kind::Counter,
        "Requests answered by a route, by the class of their status",
    );
    for (label, counts) in &routes {
        for (class, count) in CLASSES.into_iter().zip(counts.classes) {
            family.sample(&[("route", label), ("status", class)], count);
        }
    }
    let mut family = page.family(
        "spark_http_requests_abandoned_total",
        Kind::Counter,
        "Requests whose client left before there was an answer",
    );
    for (label, counts) in &routes {
        family.sample(&[("route", label)], counts.abandoned);
    }
    let mut family = page.family(
        "spark_http_requests_in_flight",
        Kind::Gauge,
        "Requests that a route has and has not answered",
    );
    for (label, counts) in &routes {
        family.sample(&[("route", label)], counts.in_flight);
    }
    let mut family = page.family(
        "spark_http_request_duration_seconds",
        Kind::Histogram,
        "From the route to the head of the answer",
    );
    for (label, counts) in &routes {
        let (counted, beyond) = counts.times.buckets.split_at(BOUNDS.len());
        let buckets = BOUNDS.into_iter().zip(counted.iter().copied());
        let beyond = beyond.iter().sum();
        family.histogram(&[("route", label)], buckets, beyond, counts.times.total);
    }
    let unrouted = seeing.unrouted().read();
    let mut family = page.family(
        "spark_http_requests_unrouted_total",
        Kind::Counter,
        "Requests that reached no route, by the class of their status",
    );
    for (class, count) in CLASSES.into_iter().zip(unrouted.classes) {
        family.sample(&[("status", class)], count);
    }
}

// === servers ===

fn write_servers(page: &mut Page, seeing: &Seeing) {
    let servers = seeing.servers();
    let stats: Vec<_> = servers
        .iter()
        .map(|server| (&*server.name, server.handle.stats()))
        .collect();
    let mut family = page.family(
        "spark_http_server_draining",
        Kind::Gauge,
        "Whether the server has been told to stop",
    );
    for server in &servers {
        let draining = u8::from(server.handle.is_draining());
        family.sample(&[("server", &server.name)], draining);
    }
    for (metric, kind, help, value) in SERVER_VALUES {
        let mut family = page.family(metric, kind, help);
        for (name, stats) in &stats {
            family.sample(&[("server", name)], value(stats));
        }
    }
}

// === modules ===

fn by_name(seen: Vec<SeenModule>) -> BTreeMap<Arc<str>, Named> {
    let mut modules = BTreeMap::<Arc<str>, Named>::new();
    for module in seen {
        let has_place = modules.len() < MODULES_MAX || modules.contains_key(&module.name);
        let name = if has_place {
            module.name.clone()
        } else {
            OTHER.into()
        };
        modules.entry(name).or_default().add(&module);
    }
    modules
}

fn write_modules(page: &mut Page, modules: &BTreeMap<Arc<str>, Named>) {
    let mut family = page.family(
        "spark_module_messages_total",
        Kind::Counter,
        "Accepted messages by what became of them",
    );
    for (name, module) in modules {
        for (outcome, count) in module.stats.outcomes() {
            let labels = [("module", &**name), ("outcome", outcome)];
            family.sample(&labels, count);
        }
    }
    for (metric, kind, help, value) in VALUES {
        let mut family = page.family(metric, kind, help);
        for (name, module) in modules {
            family.sample(&[("module", name)], value(&module.stats));
        }
    }
    let mut family = page.family(
        "spark_module_state",
        Kind::Gauge,
        "Modules of this name that are in the state",
    );
    for (name, module) in modules {
        for (state, count) in STATES.into_iter().zip(module.states) {
            family.sample(&[("module", name), ("state", state)], count);
        }
    }
}

fn write_messages(page: &mut Page, modules: &BTreeMap<Arc<str>, Named>) {
    let messages = || {
        modules.iter().flat_map(|(module, named)| {
            let messages = named.messages.iter();
            messages
                .map(move |(name, message)| ([("module", &**module), ("message", *name)], message))
        })
    };
    let mut family = page.family(
        "spark_module_message_waiting_seconds",
        Kind::Histogram,
        "From being accepted to the start of the handler",
    );
    for (labels, message) in messages() {
        let (buckets, beyond) = coarse(&message.waiting);
        family.histogram(&labels, buckets, beyond, message.waiting.total);
    }
    let mut family = page.family(
        "spark_module_message_handling_seconds",
        Kind::Histogram,
        "From the start of the handler to its end",
    );
    for (labels, message) in messages() {
        let (buckets, beyond) = coarse(&message.handling);
        family.histogram(&labels, buckets, beyond, message.handling.total);
    }
    let mut family = page.family(
        "spark_module_message_age_seconds",
        Kind::Gauge,
        "How long the handler has been running that runs the longest, 0 if none runs",
    );
    for (labels, message) in messages() {
        family.sample(&labels, message.age);
    }
}

// === impl Named ===

impl Named {
    fn add(&mut self, module: &SeenModule) {
        add_stats(&mut self.stats, &module.stats);
        let state = STATES
            .iter()
            .position(|state| *state == state_name(module.state));
        if let Some(state) = state {
            self.states[state] += 1;
        }
        let Some(messages) = &module.messages else {
            return;
        };
        for one in &messages.by_name {
            self.messages.entry(one.name).or_default().add(one);
        }
        for one in &messages.current {
            let message = self.messages.entry(one.name).or_default();
            message.age = message.age.max(one.age.as_secs_f64());
        }
    }
}

// === impl Message ===

impl Message {
    fn add(&mut self, one: &NamedStats) {
        add_durations(&mut self.waiting, &one.waiting);
        add_durations(&mut self.handling, &one.handling);
    }
}

fn add_stats(to: &mut Stats, one: &Stats) {
    to.handled += one.handled;
    to.failed += one.failed;
    to.panicked += one.panicked;
    to.interrupted += one.interrupted;
    to.returned += one.returned;
    to.undelivered += one.undelivered;
    to.expired += one.expired;
    to.abandoned += one.abandoned;
    to.dropped += one.dropped;
    to.conflated += one.conflated;
    to.shutdowns += one.shutdowns;
    to.panics += one.panics;
    to.copies += one.copies;
    to.restarts += one.restarts;
    to.rejected += one.rejected;
    to.depth += one.depth;
    to.high_water = to.high_water.max(one.high_water);
    // A mailbox may be as good as unbounded, and several are.
    to.capacity = to.capacity.saturating_add(one.capacity);
}

fn add_durations(to: &mut Durations, one: &Durations) {
    to.count += one.count;
    to.total += one.total;
    to.max = to.max.max(one.max);
    for (bucket, more) in to.buckets.iter_mut().zip(one.buckets) {
        *bucket += more;
    }
}

/// Every second bound: a series each is what a metrics backend pays for.
fn coarse(durations: &Durations) -> (Vec<(std::time::Duration, u64)>, u64) {
    let mut coarse = Vec::with_capacity(durations.buckets.len() / 2 + 1);
    let mut counted = 0;
    for (index, count) in durations.buckets.iter().enumerate() {
        counted += count;
        if let (true, Some(bound)) = (index % 2 == 0, Durations::bucket_bound(index)) {
            coarse.push((bound, std::mem::take(&mut counted)));
        }
    }
    (coarse, counted)
}

type Value = fn(&Stats) -> u64;

type ServerValue = fn(&ServerStats) -> u64;

const SERVER_VALUES: [(&str, Kind, &str, ServerValue); 6] = [
    (
        "spark_http_server_connections_open",
        Kind::Gauge,
        "Connections that are open",
        |stats| stats.open,
    ),
    (
        "spark_http_server_connections_total",
        Kind::Counter,
        "Connections accepted",
        |stats| stats.connections,
    ),
    (
        "spark_http_server_requests_served_total",
        Kind::Counter,
        "Requests whose answer was written out",
        |stats| stats.served,
    ),
    (
        "spark_http_server_requests_lost_total",
        Kind::Counter,
        "Requests whose answer was not written out to its end",
        |stats| stats.lost,
    ),
    (
        "spark_http_server_requests_refused_total",
        Kind::Counter,
        "Requests answered 503 because the server was stopping",
        |stats| stats.refused,
    ),
    (
        "spark_http_server_connections_upgraded_total",
        Kind::Counter,
        "Connections that changed their protocol",
        |stats| stats.upgraded,
    ),
];

/// The names are those of `spark_channel::MetricsExporter`.
const VALUES: [(&str, Kind, &str, Value); 8] = [
    (
        "spark_module_failed_total",
        Kind::Counter,
        "Handled messages that ended with an error",
        |stats| stats.failed,
    ),
    (
        "spark_module_rejected_total",
        Kind::Counter,
        "Sends that were refused and not accepted",
        |stats| stats.rejected,
    ),
    (
        "spark_module_panics_total",
        Kind::Counter,
        "Panics of handlers and their hooks",
        |stats| stats.panics,
    ),
    (
        "spark_module_copies_total",
        Kind::Counter,
        "Copies of broadcast commands, beside the one that is counted",
        |stats| stats.copies,
    ),
    (
        "spark_module_restarts_total",
        Kind::Counter,
        "Handlers replaced by a new one from their factory",
        |stats| stats.restarts,
    ),
    (
        "spark_module_mailbox_depth",
        Kind::Gauge,
        "Messages in the mailbox",
        |stats| stats.depth as u64,
    ),
    (
        "spark_module_mailbox_high_water",
        Kind::Gauge,
        "The most messages seen waiting at once",
        |stats| stats.high_water as u64,
    ),
    (
        "spark_module_mailbox_capacity",
        Kind::Gauge,
        "The bound of the mailbox, in messages",
        |stats| stats.capacity as u64,
    ),
];

/// Of more names than this the rest is told as one: a name made up at run time must not fill a
/// metrics backend.
const MODULES_MAX: usize = 1_000;

const OTHER: &str = "(other)";
