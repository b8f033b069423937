//! What one operation costs in instructions and in allocations: exact, whatever else the machine
//! does, and so good for differences too small to be timed.
//!
//! The program only does a fixed amount of work. `scripts/count-instructions` runs it under
//! callgrind, with two amounts, and divides the difference; starting and stopping cancel out.
//!
//! On one thread only, because callgrind runs threads in turns. A reading of the clock counts as
//! next to nothing: it is a system call there, which callgrind does not look into.
//!
//! A change elsewhere can move what the compiler inlines, by some per cent of an operation. Whoever
//! compares two builds looks at several operations, or at the functions, with
//! `callgrind_annotate`; two settings of one module, such as `spark` and `spark-unchecked`, run the
//! same machine code.

use std::{
    fmt::{self, Display},
    str::FromStr,
};

use crate::{
    actors::{
        comparison::{self, Comparison},
        contender::{
            Threads,
            baseline::Baseline,
            spark::{
                Spark, SparkQueued, SparkQueuedUnchecked, SparkUnchecked,
                hand_written_enum::SparkHandWrittenEnum,
                module_macro::SparkModuleMacro,
                reader_writer::{SparkReaderWriter, SparkReaderWriterQueued},
            },
            spark_async_trait::SparkAsyncTrait,
        },
        counting_allocator::{Tally, Window},
        run::Run,
    },
    state,
};

/// What the command line asks for.
#[derive(Debug)]
pub enum Asked {
    /// The names of all operations.
    List,
    /// The comparisons both sides of which are operations.
    Comparisons,
    /// To run an operation.
    Run {
        /// Which one.
        operation: Operation,
        /// About how often.
        times: u32,
        /// Whether to count allocations, which costs instructions.
        allocations: bool,
    },
}

/// A command line that could not be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageError;

/// What was done.
#[derive(Debug, Clone, Copy)]
pub struct Done {
    /// How many operations, those to warm up among them.
    pub operations: u32,
    /// What they, the runtime and the modules allocated, if it was counted.
    pub tally: Option<Tally>,
}

/// Something of which instructions can be counted.
#[derive(Debug, Clone, Copy)]
pub enum Operation {
    /// What a contender among the actors does.
    Actors(Run),
    /// What is done to a shared map.
    State(state::operation::Operation),
}

/// What can be counted of the actors.
///
/// A static, as a constant would be compiled, with all it runs, into every crate that names it.
pub static OPERATIONS: [Run; 35] = [
    Run::ask::<Baseline, 1>(),
    Run::ask::<Baseline, 64>(),
    Run::tell::<Baseline, 1>(),
    Run::spawn::<Baseline>(),
    Run::ask::<Spark, 1>(),
    Run::ask::<Spark, 64>(),
    Run::tell::<Spark, 1>(),
    Run::spawn::<Spark>(),
    Run::request_all::<Spark>(),
    Run::inside::<Spark>(),
    Run::ask::<SparkQueued, 1>(),
    Run::ask::<SparkQueued, 64>(),
    Run::tell::<SparkQueued, 1>(),
    Run::spawn::<SparkQueued>(),
    Run::request_all::<SparkQueued>(),
    Run::inside::<SparkQueued>(),
    Run::ask::<SparkAsyncTrait, 1>(),
    Run::ask::<SparkAsyncTrait, 64>(),
    Run::tell::<SparkAsyncTrait, 1>(),
    Run::spawn::<SparkAsyncTrait>(),
    Run::ask::<SparkUnchecked, 1>(),
    Run::inside::<SparkUnchecked>(),
    Run::ask::<SparkQueuedUnchecked, 1>(),
    Run::inside::<SparkQueuedUnchecked>(),
    Run::ask::<SparkReaderWriter, 1>(),
    Run::ask::<SparkReaderWriter, 64>(),
    Run::tell::<SparkReaderWriter, 1>(),
    Run::spawn::<SparkReaderWriter>(),
    Run::ask::<SparkReaderWriterQueued, 1>(),
    Run::ask::<SparkReaderWriterQueued, 64>(),
    Run::ask::<SparkHandWrittenEnum, 1>(),
    Run::tell::<SparkHandWrittenEnum, 1>(),
    Run::ask::<SparkModuleMacro, 1>(),
    Run::tell::<SparkModuleMacro, 1>(),
    Run::spawn::<SparkModuleMacro>(),
];

// === impl Operation ===

impl Operation {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        let actors = OPERATIONS.iter().copied().map(Self::Actors);
        let state = state::operation::OPERATIONS.iter().copied();
        actors.chain(state.map(Self::State))
    }
}

impl Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Actors(run) => run.fmt(f),
            Self::State(operation) => f.write_str(operation.name),
        }
    }
}

// === impl Asked ===

impl Asked {
    /// What is printed for a [`UsageError`].
    pub const USAGE: &'static str = "\
Does a fixed amount of work, for scripts/count-instructions.

  OPERATION TIMES [--allocations]
                     does it, and prints how often and, if asked, how many allocations that took
  --list             the names of all operations
  --comparisons      name, subject and reference of what actors compares of these
";

    /// Reads the command line.
    ///
    /// # Errors
    ///
    /// Returns an error for whatever is not in [`USAGE`](Self::USAGE).
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, UsageError> {
        let arguments: Vec<String> = arguments.into_iter().collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let (operation, times, allocations) = match arguments[..] {
            ["--list"] => return Ok(Self::List),
            ["--comparisons"] => return Ok(Self::Comparisons),
            [operation, times] => (operation, times, false),
            [operation, times, "--allocations"] => (operation, times, true),
            _ => return Err(UsageError),
        };
        Ok(Self::Run {
            operation: find(operation).ok_or(UsageError)?,
            times: u32::from_str(times).map_err(|_| UsageError)?,
            allocations,
        })
    }
}

/// Runs an operation about that often.
///
/// # Panics
///
/// Panics if the work has not all been done.
pub fn run(operation: Operation, times: u32, allocations: bool) -> Done {
    let window = allocations.then(Window::open);
    let operations = match operation {
        Operation::Actors(run) => {
            let slice = run.time(Threads::One, times);
            slice.warm_up + slice.operations
        }
        Operation::State(operation) => {
            operation.run(times);
            times
        }
    };
    Done {
        operations,
        tally: window.map(Window::close),
    }
}

/// Returns the comparisons both sides of which can be counted.
pub fn comparisons() -> impl Iterator<Item = &'static Comparison> {
    comparison::ALL.iter().filter(|comparison| {
        [comparison.subject, comparison.reference]
            .iter()
            .all(|run| find(&run.to_string()).is_some())
    })
}

fn find(name: &str) -> Option<Operation> {
    Operation::all().find(|operation| operation.to_string() == name)
}
