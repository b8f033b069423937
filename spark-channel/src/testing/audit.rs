//! What a test must not leave behind: panics nobody expected, messages that were lost.

use std::{
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
}

struct Watched {
    control: Arc<Control>,
    stats: Box<dyn Fn() -> Stats + Send + Sync>,
    expected: Expected,
}

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

    /// Watches a module to which `expected` is to happen.
    pub fn watch_expecting<M, R, C, E>(&self, module: &ModuleHandle<M, R, C, E>, expected: Expected)
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
        lock(&self.books.watched).push(Watched {
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
        let found = expected.compare(&report.stats, Some(report.reason));
        lock(&self.books.findings).extend(found.map(|found| finding(&report.module, &found)));
    }

    /// Tells every watched module to [drain](Stop::Drain), waits for it to end, for 5 s
    /// in all by the runtime's clock, and looks.
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
        let controls: Vec<_> = lock(&self.books.watched)
            .iter()
            .map(|watched| Arc::clone(&watched.control))
            .collect();
        for control in &controls {
            if !control.has_ended() {
                control.request_stop(Stop::Drain, control.shutdown_timeout);
            }
        }
        let running = || controls.iter().any(|control| !control.has_ended());
        if running() {
            let deadline = Instant::now() + PATIENCE;
            while running() && Instant::now() < deadline {
                sleep(BETWEEN_LOOKS).await;
            }
        }
        self.books.closed.store(true, Ordering::Relaxed);
        let findings = self.books.findings();
        assert!(findings.is_empty(), "the audit at {at} found: {findings}");
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
        for watched in &*lock(&self.watched) {
            let stats = (watched.stats)();
            let reason = watched.control.ending.report().map(|report| report.reason);
            let mut found = watched.expected.compare(&stats, reason);
            if !watched.control.has_ended() {
                let still = format!(
                    "has not ended, a handler may be pending, {} messages wait",
                    stats.depth
                );
                found = Some(found.map_or(still.clone(), |found| format!("{found}, {still}")));
            }
            findings.extend(found.map(|found| finding(&watched.control.name, &found)));
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

    fn compare(self, stats: &Stats, reason: Option<StopReason>) -> Option<String> {
        let mut differences: Vec<_> = [
            ("panics", stats.panics, self.panics),
            (
                "dead letters",
                stats.undelivered + stats.returned,
                self.dead_letters,
            ),
            ("interrupted handlers", stats.interrupted, self.interrupted),
            ("dropped messages", stats.dropped, self.dropped),
        ]
        .into_iter()
        .filter(|(_, seen, expected)| seen != expected)
        .map(|(what, seen, expected)| format!("{seen} {what} ({expected} expected)"))
        .collect();
        differences.extend(match reason {
            Some(StopReason::Aborted) => Some("aborted with all it had accepted".to_owned()),
            Some(StopReason::Unresponsive) => Some("did not respond to its stop".to_owned()),
            _ => None,
        });
        (!differences.is_empty()).then(|| differences.join(", "))
    }
}

fn finding(module: &str, found: &str) -> String {
    format!("module `{module}`: {found}")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Held to read and to push only; a poisoned one is still whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long the modules of a test may take to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Nobody is told when a module ends but its owner.
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);
