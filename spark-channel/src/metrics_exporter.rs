//! The modules' counts, published through the `metrics` facade.
//!
//! Nothing is published per message: a module counts for itself, and the exporter reads
//! the counts when told to.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use metrics::{SharedString, Unit, counter, describe_counter, describe_gauge, gauge};

use crate::{Durations, MessageStats, SparkGenericModuleDispatcher, Stats, control::Control};

/// Publishes what modules count through the [`metrics`] facade.
///
/// Each value carries the label `module`, the module's name; modules of one name are
/// added up.
///
/// | name | kind | what it is |
/// |---|---|---|
/// | `spark_module_messages_total` | counter | accepted messages whose fate is known; the label `outcome` says it: `handled`, `panicked`, `interrupted`, `returned`, `undelivered`, `expired`, `abandoned`, `dropped`, `conflated`, `shutdown` |
/// | `spark_module_failed_total` | counter | of the handled ones, those that ended with an error |
/// | `spark_module_rejected_total` | counter | sends that were refused, and so not accepted |
/// | `spark_module_panics_total` | counter | panics of handlers and hooks |
/// | `spark_module_copies_total` | counter | what other replicas did with a broadcast command |
/// | `spark_module_restarts_total` | counter | handlers replaced by a new one |
/// | `spark_module_running` | gauge | modules of this name that have not ended |
/// | `spark_module_mailbox_depth` | gauge | messages in the mailbox |
/// | `spark_module_mailbox_high_water` | gauge | the most messages seen waiting at once |
/// | `spark_module_mailbox_capacity` | gauge | the mailbox's bound |
///
/// Of modules with [`message_names`](crate::ModuleBuilder::message_names) there are also these,
/// with the label `message`:
///
/// | name | kind | what it is |
/// |---|---|---|
/// | `spark_module_message_waits_total` | counter | messages whose handler was started |
/// | `spark_module_message_waiting_microseconds_total` | counter | how long those had waited, all together |
/// | `spark_module_message_runs_total` | counter | handlers that have ended |
/// | `spark_module_message_handling_microseconds_total` | counter | how long those ran, all together |
/// | `spark_module_message_age_seconds` | gauge | how long the one of the running handlers has been running that runs the longest; 0 if none runs |
///
/// Units are in the names; all others are [`Unit::Count`]. The fields of [`Stats`] and
/// [`MessageStats`] say what each number means exactly.
///
/// Install the recorder first: as with all of `metrics`, what is published before there is
/// one is lost, the descriptions among it. Counters are published as what has been added
/// since the last time, so a restarted module does not set them back. A second exporter for
/// the same recorder adds again what the first has published: keep one, and
/// [`run`](Self::run) it again.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use spark_channel::{MetricsExporter, Stop, spawn_module};
/// # use spark_channel::NativeHandler;
/// # struct Echo;
/// # impl NativeHandler for Echo {
/// #     type Message = u64;
/// #     type Response = u64;
/// #     type Error = eyre::Report;
/// #     async fn handle_request(&mut self, m: u64) -> eyre::Result<u64> { Ok(m) }
/// #     async fn handle_command(&mut self, _: u64) -> eyre::Result<()> { Ok(()) }
/// # }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> eyre::Result<()> {
/// let module = spawn_module(Echo);
/// let exporter = MetricsExporter::new();
/// exporter.watch(&module.dispatcher());
/// let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
/// let publishing = tokio::spawn(async move {
///     exporter.run(Duration::from_secs(10), async { drop(stopped.await) }).await;
/// });
///
/// module.dispatcher().request(1_u64).await?;
///
/// module.shutdown(Stop::Drain).await;
/// drop(stop);
/// publishing.await?; // the last counts are published
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
pub struct MetricsExporter {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sources: Vec<Source>,
    described: bool,
}

/// A module that is watched.
struct Source {
    control: Arc<Control>,
    /// The counts of now, unless nobody is left who could send.
    read: Box<dyn Fn() -> Option<Stats> + Send>,
    published: Stats,
    published_messages: MessageStats,
}

/// What modules of one name add up to.
#[derive(Default)]
struct Gauges {
    running: usize,
    depth: usize,
    high_water: usize,
    capacity: usize,
}

// === impl MetricsExporter ===

impl MetricsExporter {
    /// An exporter that watches nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Publishes this module from now on, until it has ended, without keeping it alive.
    ///
    /// A dispatcher made with [`new`](SparkGenericModuleDispatcher::new) has no counts
    /// and is left out. Watching a module twice counts it twice.
    pub fn watch<M, R, C, E>(&self, dispatcher: &SparkGenericModuleDispatcher<M, R, C, E>)
    where
        M: Send + 'static,
        R: Send + 'static,
        C: Send + 'static,
        E: Send + 'static,
    {
        let Some(control) = dispatcher.control() else {
            return;
        };
        let weak = dispatcher.downgrade();
        self.lock().sources.push(Source {
            control: Arc::clone(control),
            read: Box::new(move || weak.upgrade().and_then(|dispatcher| dispatcher.stats())),
            published: Stats::default(),
            published_messages: MessageStats::default(),
        });
    }

    /// Publishes the counts of now.
    ///
    /// A module that has ended is published once more and then forgotten; its gauges
    /// go to zero.
    pub fn publish(&self) {
        let mut state = self.lock();
        if !std::mem::replace(&mut state.described, true) {
            describe();
        }
        let mut gauges = BTreeMap::<Arc<str>, Gauges>::new();
        let mut ages = Ages::new();
        state.sources.retain_mut(|source| {
            let name = &source.control.name;
            // Before the counts are read: whoever has ended counts no more.
            let has_ended = source.control.has_ended();
            let stats = (source.read)().unwrap_or_else(|| source.control.stats(0));
            count(name, &source.published, &stats);
            source.published = stats;
            if let Some(messages) = source.control.message_stats() {
                count_messages(name, &source.published_messages, &messages);
                note_ages(name, &messages, &mut ages);
                source.published_messages = messages;
            }
            let gauges = gauges.entry(Arc::clone(name)).or_default();
            if !has_ended {
                gauges.running += 1;
                gauges.depth += stats.depth;
                gauges.high_water = gauges.high_water.max(stats.high_water);
                gauges.capacity += stats.capacity;
            }
            !has_ended
        });
        for (name, gauges) in gauges {
            gauges.set(&name);
        }
        for ((name, message), age) in ages {
            let labels = message_labels(&name, message);
            gauge!("spark_module_message_age_seconds", &labels).set(age.as_secs_f64());
        }
    }

    /// Publishes every `every`, and once more when `until` completes.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime with a timer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the publishing. What was counted since the last time is
    /// published by the next [`publish`](Self::publish), if there is one.
    pub async fn run(&self, every: Duration, until: impl Future<Output = ()>) {
        let mut until = pin!(until);
        while tokio::time::timeout(every, until.as_mut()).await.is_err() {
            self.publish();
        }
        self.publish();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A recorder that panics leaves behind what it has not been told of.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MetricsExporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        let names = state.sources.iter().map(|source| &source.control.name);
        f.debug_list().entries(names).finish()
    }
}

// === impl Gauges ===

impl Gauges {
    fn set(&self, module: &Arc<str>) {
        let set = |name, value: usize| gauge!(name, "module" => label(module)).set(value as f64);
        set("spark_module_running", self.running);
        set("spark_module_mailbox_depth", self.depth);
        set("spark_module_mailbox_high_water", self.high_water);
        set("spark_module_mailbox_capacity", self.capacity);
    }
}

/// Adds to the counters what has been counted since `before`.
fn count(module: &Arc<str>, before: &Stats, now: &Stats) {
    for ((outcome, before), (_, now)) in before.outcomes().into_iter().zip(now.outcomes()) {
        let labels = [
            ("module", label(module)),
            ("outcome", SharedString::const_str(outcome)),
        ];
        counter!("spark_module_messages_total", &labels).increment(now - before);
    }
    let others: [(&'static str, Field); 5] = [
        ("spark_module_failed_total", |stats| stats.failed),
        ("spark_module_rejected_total", |stats| stats.rejected),
        ("spark_module_panics_total", |stats| stats.panics),
        ("spark_module_copies_total", |stats| stats.copies),
        ("spark_module_restarts_total", |stats| stats.restarts),
    ];
    for (name, field) in others {
        counter!(name, "module" => label(module)).increment(field(now) - field(before));
    }
}

/// Adds to the counters by name what has been counted since `before`.
fn count_messages(module: &Arc<str>, before: &MessageStats, now: &MessageStats) {
    for one in &now.by_name {
        let labels = message_labels(module, one.name);
        let count = |runs: &'static str, times: &'static str, before: Durations, now: Durations| {
            counter!(runs, &labels).increment(now.count - before.count);
            let added = microseconds(now) - microseconds(before);
            counter!(times, &labels).increment(added);
        };
        let before = before.named(one.name);
        count(
            "spark_module_message_waits_total",
            "spark_module_message_waiting_microseconds_total",
            before.map(|before| before.waiting).unwrap_or_default(),
            one.waiting,
        );
        count(
            "spark_module_message_runs_total",
            "spark_module_message_handling_microseconds_total",
            before.map(|before| before.handling).unwrap_or_default(),
            one.handling,
        );
    }
}

/// Notes, for every name, the greatest age of a running handler.
fn note_ages(module: &Arc<str>, messages: &MessageStats, ages: &mut Ages) {
    let known = messages
        .by_name
        .iter()
        .map(|one| (one.name, Duration::ZERO));
    let running = messages.current.iter().map(|one| (one.name, one.age));
    for (message, age) in known.chain(running) {
        let oldest = ages.entry((Arc::clone(module), message)).or_default();
        *oldest = age.max(*oldest);
    }
}

type Ages = BTreeMap<(Arc<str>, &'static str), Duration>;

fn message_labels(module: &Arc<str>, message: &'static str) -> [(&'static str, SharedString); 2] {
    [
        ("module", label(module)),
        ("message", SharedString::const_str(message)),
    ]
}

/// The whole ones of the total, so that what is published adds up to it.
fn microseconds(durations: Durations) -> u64 {
    u64::try_from(durations.total.as_micros()).unwrap_or(u64::MAX)
}

type Field = fn(&Stats) -> u64;

fn label(module: &Arc<str>) -> SharedString {
    SharedString::from_shared(Arc::clone(module))
}

fn describe() {
    let counters = [
        (
            "spark_module_messages_total",
            "Accepted messages by what became of them",
        ),
        (
            "spark_module_failed_total",
            "Handled messages that ended with an error",
        ),
        (
            "spark_module_rejected_total",
            "Sends that were refused and not accepted",
        ),
        (
            "spark_module_panics_total",
            "Panics of handlers and their hooks",
        ),
        (
            "spark_module_copies_total",
            "Copies of broadcast commands, beside the one that is counted",
        ),
        (
            "spark_module_restarts_total",
            "Handlers replaced by a new one from their factory",
        ),
    ];
    for (name, text) in counters {
        describe_counter!(name, Unit::Count, text);
    }
    let gauges = [
        ("spark_module_running", "Modules that have not ended"),
        ("spark_module_mailbox_depth", "Messages in the mailbox"),
        (
            "spark_module_mailbox_high_water",
            "The most messages seen waiting at once",
        ),
        (
            "spark_module_mailbox_capacity",
            "The bound of the mailbox, in messages",
        ),
    ];
    for (name, text) in gauges {
        describe_gauge!(name, Unit::Count, text);
    }
    describe_messages();
}

fn describe_messages() {
    let counters = [
        (
            "spark_module_message_waits_total",
            Unit::Count,
            "Messages of a name whose handler was started",
        ),
        (
            "spark_module_message_waiting_microseconds_total",
            Unit::Microseconds,
            "How long messages of a name waited for their handler",
        ),
        (
            "spark_module_message_runs_total",
            Unit::Count,
            "Handlers of messages of a name that have ended",
        ),
        (
            "spark_module_message_handling_microseconds_total",
            Unit::Microseconds,
            "How long handlers of messages of a name ran",
        ),
    ];
    for (name, unit, text) in counters {
        describe_counter!(name, unit, text);
    }
    describe_gauge!(
        "spark_module_message_age_seconds",
        Unit::Seconds,
        "How long a handler of a message of this name has been running"
    );
}
