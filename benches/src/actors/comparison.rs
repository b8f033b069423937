//! What Spark promises of its own speed, each as one thing against another with a limit.

use super::{
    contender::{
        Threads,
        baseline::Baseline,
        spark::{
            Spark, SparkQueued, SparkQueuedUnchecked, SparkUnchecked,
            hand_written_enum::SparkHandWrittenEnum,
            module_macro::SparkModuleMacro,
            reader_writer::{SparkReaderWriter, SparkReaderWriterQueued},
            sleeping::{SparkSleeping, SparkSleepingReaderWriter},
        },
    },
    run::Run,
};

/// One run against another.
#[derive(Debug, Clone, Copy)]
pub struct Comparison {
    /// The name in tables, in JSON and in `--only`.
    pub name: &'static str,
    /// What is judged.
    pub subject: Run,
    /// What it is compared with.
    pub reference: Run,
    /// How much of the reference's time the subject may take. None where no promise is made.
    pub limit: Option<Limit>,
    /// How the time for it is divided.
    pub pace: Pace,
}

/// The largest ratio that keeps a promise.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    one_thread: f64,
    two_threads: f64,
}

/// How the time for a comparison is divided into slices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// As for the tables.
    Usual,
    /// Ten times as many rounds of a tenth of the time: for ratios close to one, where what the
    /// machine does during a slice is most of the difference.
    Fine,
}

/// All comparisons, in the order of the rows.
///
/// A static, as a constant would be compiled, with all it runs, into every crate that names it.
pub static ALL: [Comparison; 15] = [
    // An idle module answers on its caller's task.
    Comparison::of("direct-ask", ASK_DIRECT, ASK_BASELINE).within_each(0.20, 0.30),
    Comparison::of("queued-ask", ASK_QUEUED, ASK_BASELINE),
    // Reads that need not wait cost what they cost in a serial module, with direct calls and
    // without.
    Comparison::of(
        "reader-writer1",
        Run::ask::<SparkReaderWriter, 1>(),
        ASK_DIRECT,
    )
    .within(1.15),
    Comparison::of(
        "reader-writer64",
        Run::ask::<SparkReaderWriter, 64>(),
        Run::ask::<Spark, 64>(),
    )
    .within(1.15),
    Comparison::of(
        "reader-writer1-queued",
        Run::ask::<SparkReaderWriterQueued, 1>(),
        ASK_QUEUED,
    )
    .within(1.15),
    Comparison::of(
        "reader-writer64-queued",
        Run::ask::<SparkReaderWriterQueued, 64>(),
        Run::ask::<SparkQueued, 64>(),
    )
    .within(1.15),
    // Reads that wait, wait together.
    Comparison::of(
        "reader-writer64-sleeping",
        Run::ask::<SparkSleepingReaderWriter, 64>(),
        Run::ask::<SparkSleeping, 64>(),
    )
    .within(0.03),
    // Requests sent ahead of their answers, per message. All of them go through the mailbox.
    Comparison::of("request-all", Run::request_all::<SparkQueued>(), ASK_QUEUED).within(0.40),
    Comparison::of(
        "request-all-baseline",
        Run::request_all::<SparkQueued>(),
        ASK_BASELINE,
    ),
    Comparison::of(
        "request-all-direct",
        Run::request_all::<Spark>(),
        ASK_DIRECT,
    ),
    // Who is in no module pays next to nothing for the deadlock check of those who are.
    Comparison::of(
        "deadlock-check",
        ASK_DIRECT,
        Run::ask::<SparkUnchecked, 1>(),
    )
    .within(1.02)
    .fine(),
    Comparison::of(
        "deadlock-check-queued",
        ASK_QUEUED,
        Run::ask::<SparkQueuedUnchecked, 1>(),
    )
    .within(1.02)
    .fine(),
    Comparison::of(
        "deadlock-check-inside",
        Run::inside::<Spark>(),
        Run::inside::<SparkUnchecked>(),
    )
    .fine(),
    Comparison::of(
        "deadlock-check-inside-queued",
        Run::inside::<SparkQueued>(),
        Run::inside::<SparkQueuedUnchecked>(),
    )
    .fine(),
    // What `#[module]` writes is what one would write.
    Comparison::of(
        "module-macro",
        Run::ask::<SparkModuleMacro, 1>(),
        Run::ask::<SparkHandWrittenEnum, 1>(),
    )
    .fine(),
];

// === impl Comparison ===

impl Comparison {
    const fn of(name: &'static str, subject: Run, reference: Run) -> Self {
        Self {
            name,
            subject,
            reference,
            limit: None,
            pace: Pace::Usual,
        }
    }

    const fn within(self, ratio: f64) -> Self {
        self.within_each(ratio, ratio)
    }

    const fn within_each(mut self, one_thread: f64, two_threads: f64) -> Self {
        self.limit = Some(Limit {
            one_thread,
            two_threads,
        });
        self
    }

    const fn fine(mut self) -> Self {
        self.pace = Pace::Fine;
        self
    }
}

// === impl Limit ===

impl Limit {
    /// Returns the largest ratio on that many threads.
    pub fn on(self, threads: Threads) -> f64 {
        match threads {
            Threads::One => self.one_thread,
            Threads::Two => self.two_threads,
        }
    }
}

const ASK_BASELINE: Run = Run::ask::<Baseline, 1>();
const ASK_DIRECT: Run = Run::ask::<Spark, 1>();
const ASK_QUEUED: Run = Run::ask::<SparkQueued, 1>();
