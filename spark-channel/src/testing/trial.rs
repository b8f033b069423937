//! One run of a test with the attribute: its runtime, its time limit, and the audit of
//! everything that is started on its threads.

use std::{
    cell::RefCell,
    fmt,
    process::Termination,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::runtime::Builder;

use super::audit::{Audit, Expected, Seen, lock};
use crate::ModuleHandle;

thread_local! {
    /// The audit of the test whose runtime this thread belongs to.
    static AUDIT: RefCell<Option<Audit>> = const { RefCell::new(None) };
}

/// How a test with the attribute runs, and what is to happen in it.
#[must_use = "a trial does nothing until it runs"]
pub struct Trial {
    flavor: Flavor,
    timeout: Option<Duration>,
    expected: Expected,
    unanswered_expected: u64,
    /// The texts of panics outside of any module's handler.
    panics: Mutex<Vec<Arc<str>>>,
    unanswered: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
enum Flavor {
    CurrentThread { start_paused: bool },
    MultiThread { worker_threads: Option<usize> },
}

/// Puts the audit that was here before back.
struct Entered(Option<Audit>);

// === impl Trial ===

impl Trial {
    /// On one thread.
    pub const fn current_thread(start_paused: bool) -> Self {
        Self::new(Flavor::CurrentThread { start_paused })
    }

    /// On several; as many as there are processors if nothing is said.
    pub const fn multi_thread(worker_threads: Option<usize>) -> Self {
        Self::new(Flavor::MultiThread { worker_threads })
    }

    const fn new(flavor: Flavor) -> Self {
        Self {
            flavor,
            timeout: None,
            expected: Expected::nothing(),
            unanswered_expected: 0,
            panics: Mutex::new(Vec::new()),
            unanswered: AtomicU64::new(0),
        }
    }

    /// Fails the test when it takes longer, by the runtime's clock.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// What is to happen to all modules together, and how many requests are to find their
    /// reply dropped.
    pub const fn expecting(mut self, expected: Expected, unanswered: u64) -> Self {
        self.expected = expected;
        self.unanswered_expected = unanswered;
        self
    }

    /// Runs `test` on a runtime of its own.
    ///
    /// # Panics
    ///
    /// Panics with what the audit found, and when the time is over.
    pub fn run<T: Termination>(self, test: impl AsyncFnOnce(Audit) -> T) -> T {
        let mut builder = match self.flavor {
            Flavor::CurrentThread { start_paused } => {
                let mut builder = Builder::new_current_thread();
                builder.start_paused(start_paused);
                builder
            }
            Flavor::MultiThread { worker_threads } => {
                let mut builder = Builder::new_multi_thread();
                if let Some(threads) = worker_threads {
                    builder.worker_threads(threads);
                }
                builder
            }
        };
        let timeout = self.timeout.unwrap_or_else(|| self.flavor.timeout());
        let audit = Audit::of(self);
        let of_threads = audit.clone();
        let runtime = builder
            .enable_all()
            .on_thread_start(move || {
                AUDIT.set(Some(of_threads.clone()));
            })
            .build()
            .expect("a test needs a runtime");
        let _entered = Entered::new(audit.clone());
        let output = runtime.block_on(async {
            let limited = tokio::time::timeout(timeout, test(audit.clone()));
            limited.await.unwrap_or_else(|_| {
                panic!("the test still waits after {timeout:?} by its clock");
            })
        });
        let findings = runtime.block_on(audit.findings_at_the_end());
        if findings.is_empty() {
            return output;
        }
        // Prints the test's own error, if it has one: that may be the reason.
        output.report();
        panic!("the audit of the test found: {findings}");
    }

    pub(super) fn expects_nothing(&self) -> bool {
        self.expected == Expected::nothing()
    }

    /// What is to be said beside what each module has done; `seen` is what those did
    /// together of which nothing was expected alone.
    pub(super) fn findings(&self, mut seen: Seen) -> Vec<String> {
        let mut findings = Vec::new();
        let panics = lock(&self.panics).clone();
        if self.expects_nothing() {
            findings.extend(
                panics
                    .into_iter()
                    .map(|text| format!("a background task panicked: {text}")),
            );
        } else {
            seen.add_panics(panics.len() as u64);
            let found = self.expected.compare(seen, None);
            findings.extend(found.map(|found| format!("all modules together: {found}")));
        }
        let (unanswered, expected) = (
            self.unanswered.load(Ordering::Relaxed),
            self.unanswered_expected,
        );
        if unanswered != expected {
            findings.push(format!(
                "{unanswered} unanswered requests ({expected} expected)"
            ));
        }
        findings
    }
}

impl fmt::Debug for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trial")
            .field("flavor", &self.flavor)
            .field("timeout", &self.timeout)
            .field("expected", &self.expected)
            .finish_non_exhaustive()
    }
}

// === impl Flavor ===

impl Flavor {
    /// A paused clock jumps to the end of this as soon as all that is left is to wait.
    const fn timeout(self) -> Duration {
        match self {
            Self::CurrentThread { start_paused: true } => Duration::from_secs(60 * 60),
            Self::CurrentThread { .. } | Self::MultiThread { .. } => Duration::from_secs(60),
        }
    }
}

// === impl Entered ===

impl Entered {
    fn new(audit: Audit) -> Self {
        Self(AUDIT.replace(Some(audit)))
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        AUDIT.set(self.0.take());
    }
}

/// A module was started.
pub(crate) fn seen<M, R, C, E>(module: &ModuleHandle<M, R, C, E>)
where
    M: Send + 'static,
    R: Send + 'static,
    C: Send + 'static,
    E: Send + 'static,
{
    with_audit(|audit| audit.see(module));
}

/// A task that is no module's panicked.
pub(crate) fn panicked(text: &Arc<str>) {
    with_trial(|trial| lock(&trial.panics).push(Arc::clone(text)));
}

/// A caller found its reply dropped.
pub(crate) fn unanswered() {
    with_trial(|trial| {
        trial.unanswered.fetch_add(1, Ordering::Relaxed);
    });
}

fn with_trial(note: impl FnOnce(&Trial)) {
    with_audit(|audit| {
        if let Some(trial) = audit.trial() {
            note(trial);
        }
    });
}

fn with_audit(note: impl FnOnce(&Audit)) {
    // A thread that ends has no audit any more.
    let _ = AUDIT.try_with(|audit| {
        if let Some(audit) = &*audit.borrow() {
            note(audit);
        }
    });
}
