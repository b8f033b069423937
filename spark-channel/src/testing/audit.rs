//! What a test must not leave behind: panics nobody expected, messages that were lost.

use std::{
    collections::HashSet,
    fmt,
    future::Future,
    panic::Location,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::trial::Trial;
use crate::{ModuleHandle, Report, Stats, Stop, StopReason, control::Control};

/// Fails a test whose modules panicked, lost messages, or do not end.
///
/// It watches modules by their handles and takes reports. At the end every module must
/// have ended, with exactly as many panics, dead letters, interrupted handlers and dropped
/// messages as were [expected](Expected), by default none; and not because it was aborted
/// or blocked its thread, which leaves messages unaccounted for.
///
/// [`finish`](Self::finish) stops what still runs, and then looks. An audit that is
/// dropped without it looks at once, so that it cannot be forgotten. Clones are the same
/// audit.
///
/// # Examples
///
/// ```
/// use spark_channel::{module, testing::{Audit, Expected}};
/// # use spark_channel::NativeHandler;
/// # struct Divide;
/// # impl NativeHandler for Divide {
/// #     type Message = u32;
/// #     type Response = u32;
/// #     type Error = eyre::Report;
/// #     async fn handle_request(&mut self, by: u32) -> eyre::Result<u32> { Ok(100 / by) }
/// #     async fn handle_command(&mut self, _: u32) -> eyre::Result<()> { Ok(()) }
/// # }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> eyre::Result<()> {
/// let audit = Audit::new();
/// let divide = module(Divide).spawn();
/// audit.watch_expecting(&divide, Expected::nothing().panics(1));
///
/// assert_eq!(divide.dispatcher().request(4_u32).await?, 25);
/// assert!(divide.dispatcher().request(0_u32).await.is_err()); // panics
///
/// audit.finish().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
#[must_use = "an audit that is dropped looks at once"]
pub struct Audit {
    books: Arc<Books>,
}

/// What a test means to happen to a module, beside messages being handled. Exact: what is
/// expected and does not happen fails the test as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Expected {
    panics: u64,
    dead_letters: u64,
    interrupted: u64,
    dropped: u64,
}

#[derive(Default)]
struct Books {
    watched: Mutex<Vec<Watched>>,
    findings: Mutex<Vec<String>>,
    closed: AtomicBool,
    /// Only of a test with the attribute.
    trial: Option<Trial>,
}

struct Watched {
    control: Arc<Control>,
    stats: Box<dyn Fn() -> Stats + Send + Sync>,
    /// Nothing said: then all such modules are looked at together.
    expected: Option<Expected>,
}

/// What has happened, in the same terms.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen(Expected);

/// Runs `test` with an audit, and [finishes](Audit::finish) it.
///
/// # Panics
///
/// As [`Audit::finish`], and passes on a panic of `test`.
///
/// # Cancel safety
///
/// Dropping the future drops the test and its audit, which then looks at once.
///
/// # Examples
///
/// ```
/// use spark_channel::{spawn_module, testing::audited};
/// # use spark_channel::NativeHandler;
/// # struct Length;
/// # impl NativeHandler for Length {
/// #     type Message = String;
/// #     type Response = usize;
/// #     type Error = eyre::Report;
/// #     async fn handle_request(&mut self, m: String) -> eyre::Result<usize> { Ok(m.len()) }
/// #     async fn handle_command(&mut self, _: String) -> eyre::Result<()> { Ok(()) }
/// # }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> eyre::Result<()> {
/// audited(async |audit| {
///     let length = spawn_module(Length);
///     audit.watch(&length);
///     assert_eq!(length.dispatcher().request("four").await?, 4);
///     Ok(())
/// })
/// .await
/// # }
/// ```
#[track_caller]
pub fn audited<T>(test: impl AsyncFnOnce(Audit) -> T) -> impl Future<Output = T> {
    let at = Location::caller();
    async move {
        let audit = Audit::new();
        let output = test(audit.clone()).await;
        audit.close(at).await;
        output
    }
}

// === impl Audit ===

impl Audit {
    /// An audit of nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The audit of a test with the attribute.
    pub(super) fn of(trial: Trial) -> Self {
        let mut books = Books::default();
        books.trial = Some(trial);
        Self {
            books: Arc::new(books),
        }
    }

    pub(super) fn trial(&self) -> Option<&Trial> {
        self.books.trial.as_ref()
    }

    /// Watches a module that is to handle everything it accepts, without a panic.
    ///
    /// This does not keep the module alive.
    pub fn watch<M, R, C, E>(&self, module: &ModuleHandle<M, R, C, E>)
    where
        M: Send + 'static,
        R: Send + 'static,
        C: Send + 'static,
        E: Send + 'static,
    {
        self.watch_expecting(module, Expected::nothing());
    }

    /// Watches a module of which nobody has said anything.
    pub(super) fn see<M, R, C, E>(&self, module: &ModuleHandle<M, R, C, E>)
    where
        M: Send + 'static,
        R: Send + 'static,
        C: Send + 'static,
        E: Send + 'static,
    {
        self.enter(module, None);
    }

    /// Watches a module to which `expected` is to happen. What was said of it before is
    /// forgotten.
    pub fn watch_expecting<M, R, C, E>(&self, module: &ModuleHandle<M, R, C, E>, expected: Expected)
    where
        M: Send + 'static,
        R: Send + 'static,
        C: Send + 'static,
        E: Send + 'static,
    {
        self.enter(module, Some(expected));
    }

    fn enter<M, R, C, E>(&self, module: &ModuleHandle<M, R, C, E>, expected: Option<Expected>)
    where
        M: Send + 'static,
        R: Send + 'static,
        C: Send + 'static,
        E: Send + 'static,
    {
        let control = Arc::clone(module.control());
        let weak = module.downgrade();
        let stats = {
            let control = Arc::clone(&control);
            move || {
                weak.upgrade()
                    .and_then(|dispatcher| dispatcher.stats())
                    .unwrap_or_else(|| control.stats(0))
            }
        };
        let mut watched = lock(&self.books.watched);
        watched.retain(|other| !Arc::ptr_eq(&other.control, &control));
        watched.push(Watched {
            control,
            stats: Box::new(stats),
            expected,
        });
    }

    /// Takes the report of a module that is to have handled everything, without a panic:
    /// one whose handle is out of reach, or of a [`Driver`](super::Driver).
    pub fn check(&self, report: &Report) {
        self.check_expecting(report, Expected::nothing());
    }

    /// Takes the report of a module to which `expected` is to have happened.
    pub fn check_expecting(&self, report: &Report, expected: Expected) {
        let found = expected.compare(Seen::by(&report.stats), Some(report.reason));
        lock(&self.books.findings).extend(found.map(|found| finding(&report.module, &found)));
    }

    /// Tells every watched module to [drain](Stop::Drain), those included that the others
    /// still start, waits for them to end, for 5 s in all by the runtime's clock, and looks.
    ///
    /// # Panics
    ///
    /// Panics with everything that was found, if anything was. Panics outside of a
    /// runtime with a timer if a watched module still runs.
    ///
    /// # Cancel safety
    ///
    /// Dropped before completing, the modules are stopping, and the audit looks at once.
    #[track_caller]
    pub fn finish(self) -> impl Future<Output = ()> {
        self.close(Location::caller())
    }

    async fn close(self, at: &'static Location<'static>) {
        let findings = self.findings_at_the_end().await;
        assert!(findings.is_empty(), "the audit at {at} found: {findings}");
    }

    /// Stops what still runs, and looks.
    pub(super) async fn findings_at_the_end(&self) -> String {
        let (mut told, mut deadline) = (HashSet::new(), None);
        while self.stop_what_runs(&mut told) {
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + PATIENCE);
            if Instant::now() >= deadline {
                break;
            }
            sleep(BETWEEN_LOOKS).await;
        }
        self.books.closed.store(true, Ordering::Relaxed);
        self.books.findings()
    }

    /// Tells those modules to stop that run and were not `told` so, and notes their
    /// addresses. Whether any runs.
    fn stop_what_runs(&self, told: &mut HashSet<usize>) -> bool {
        // Anew each time: a handler that has yet to end may start more of them.
        let running: Vec<_> = {
            let watched = lock(&self.books.watched);
            let controls = watched.iter().map(|watched| &watched.control);
            let running = controls.filter(|control| !control.has_ended());
            running.cloned().collect()
        };
        for control in &running {
            if told.insert(Arc::as_ptr(control).addr()) {
                control.request_stop(Stop::Drain, control.shutdown_timeout);
            }
        }
        !running.is_empty()
    }
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit")
            .field("watched", &lock(&self.books.watched).len())
            .finish_non_exhaustive()
    }
}

// === impl Books ===

impl Books {
    fn findings(&self) -> String {
        let mut findings = lock(&self.findings).clone();
        let mut all = Seen::default();
        // Of modules together it cannot be said which one had too many.
        let together = self.trial.as_ref().filter(|trial| !trial.expects_nothing());
        for watched in &*lock(&self.watched) {
            let stats = (watched.stats)();
            let reason = watched.control.ending.report().map(|report| report.reason);
            let seen = Seen::by(&stats);
            let expected = match (watched.expected, together) {
                (Some(expected), _) => Some(expected),
                (None, None) => Some(Expected::nothing()),
                (None, Some(_)) => {
                    all.add(seen);
                    None
                }
            };
            let mut found = match expected {
                Some(expected) => expected.compare(seen, reason),
                None => bad_end(reason).map(str::to_owned),
            };
            if !watched.control.has_ended() {
                let still = format!(
                    "has not ended, a handler may be pending, {} messages wait",
                    stats.depth
                );
                found = Some(found.map_or(still.clone(), |found| format!("{found}, {still}")));
            }
            findings.extend(found.map(|found| finding(&watched.control.name, &found)));
        }
        if let Some(trial) = &self.trial {
            findings.extend(trial.findings(all));
        }
        findings.join("; ")
    }
}

impl Drop for Books {
    fn drop(&mut self) {
        if self.closed.load(Ordering::Relaxed) || std::thread::panicking() {
            return;
        }
        let findings = self.findings();
        assert!(
            findings.is_empty(),
            "the audit that was not finished found: {findings}"
        );
    }
}

// === impl Expected ===

impl Expected {
    /// Every message handled, no panic.
    pub const fn nothing() -> Self {
        Self {
            panics: 0,
            dead_letters: 0,
            interrupted: 0,
            dropped: 0,
        }
    }

    /// This many panics of handlers and hooks; see [`Stats::panics`].
    pub const fn panics(mut self, panics: u64) -> Self {
        self.panics = panics;
        self
    }

    /// This many messages that the module accepted and, stopping, did not handle:
    /// [undelivered](Stats::undelivered) commands and [returned](Stats::returned) requests.
    pub const fn dead_letters(mut self, messages: u64) -> Self {
        self.dead_letters = messages;
        self
    }

    /// This many handlers dropped while they ran; see [`Stats::interrupted`].
    pub const fn interrupted(mut self, handlers: u64) -> Self {
        self.interrupted = handlers;
        self
    }

    /// This many messages dropped because their class was full; see [`Stats::dropped`].
    /// A [conflated](Stats::conflated) one is nothing to expect: a newer one has its place.
    pub const fn dropped(mut self, messages: u64) -> Self {
        self.dropped = messages;
        self
    }

    pub(super) fn compare(self, seen: Seen, reason: Option<StopReason>) -> Option<String> {
        let mut differences: Vec<_> = [
            ("panics", seen.0.panics, self.panics),
            ("dead letters", seen.0.dead_letters, self.dead_letters),
            ("interrupted handlers", seen.0.interrupted, self.interrupted),
            ("dropped messages", seen.0.dropped, self.dropped),
        ]
        .into_iter()
        .filter(|(_, seen, expected)| seen != expected)
        .map(|(what, seen, expected)| format!("{seen} {what} ({expected} expected)"))
        .collect();
        differences.extend(bad_end(reason).map(str::to_owned));
        (!differences.is_empty()).then(|| differences.join(", "))
    }
}

// === impl Seen ===

impl Seen {
    fn by(stats: &Stats) -> Self {
        let expected = Expected::nothing()
            .panics(stats.panics)
            .dead_letters(stats.undelivered + stats.returned)
            .interrupted(stats.interrupted)
            .dropped(stats.dropped);
        Self(expected)
    }

    const fn add(&mut self, other: Self) {
        self.0.panics += other.0.panics;
        self.0.dead_letters += other.0.dead_letters;
        self.0.interrupted += other.0.interrupted;
        self.0.dropped += other.0.dropped;
    }

    pub(super) const fn add_panics(&mut self, panics: u64) {
        self.0.panics += panics;
    }
}

/// What there is to say of a module that did not end by itself.
const fn bad_end(reason: Option<StopReason>) -> Option<&'static str> {
    match reason {
        Some(StopReason::Aborted) => Some("aborted with all it had accepted"),
        Some(StopReason::Unresponsive) => Some("did not respond to its stop"),
        _ => None,
    }
}

fn finding(module: &str, found: &str) -> String {
    format!("module `{module}`: {found}")
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Held to read and to push only; a poisoned one is still whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long the modules of a test may take to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Nobody is told when a module ends but its owner.
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);
