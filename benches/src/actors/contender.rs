//! What a framework must be able to do to take part, and the frameworks that do.
//!
//! Every contender is set up in the form its own documentation shows, and where that documentation
//! offers a faster spelling of the same thing, in that one. Mailboxes are bounded to
//! [`MAILBOX_CAPACITY`](super::workload::MAILBOX_CAPACITY) wherever the framework has bounds.

use std::{future::Future, pin::Pin};

use tokio::{runtime, task::JoinHandle};

use super::workload::Counter;

pub mod actix;
pub mod baseline;
pub mod kameo;
pub mod ractor;
pub mod spark;
pub mod spark_async_trait;
pub mod spark_channel_003;
pub mod xtra;

/// A framework, as a place where its modules can be started.
pub trait Contender: Default + Send + Sync + 'static {
    /// The name in tables, in JSON and in `--only`.
    const NAME: &'static str;

    /// Version and configuration, for the line under the tables.
    const ABOUT: &'static str;

    /// Owns a running module.
    type Module: Send + Sync + 'static;

    /// What a caller holds. Each caller gets its own clone.
    type Handle: Clone + Send + Sync + 'static;

    /// Runs `work` as a task on a fresh runtime, and returns its result.
    fn run<Work, Output>(self, threads: Threads, work: impl FnOnce(Self) -> Work) -> Output
    where
        Work: Future<Output = Output> + Send + 'static,
        Output: Send + 'static,
    {
        run_as_task(threads, Box::pin(work(self)))
    }

    /// Spawns the task of a caller, where this framework's callers live.
    fn spawn<Task>(task: Task) -> JoinHandle<()>
    where
        Task: Future<Output = ()> + Send + 'static,
    {
        tokio::spawn(task)
    }

    /// Starts a module that serves `counter`.
    fn start(&self, counter: Counter) -> impl Future<Output = Self::Module> + Send;

    /// Returns a handle to send messages with.
    fn handle(module: &Self::Module) -> Self::Handle;

    /// Sends a request and waits for the answer.
    fn ask(handle: &Self::Handle, amount: u64) -> impl Future<Output = u64> + Send;

    /// Sends a command, waiting for room in the mailbox if that is the framework's way.
    fn tell(handle: &Self::Handle, amount: u64) -> impl Future<Output = ()> + Send;

    /// Stops a module and waits until it has ended. All other handles are gone by then.
    fn stop(module: Self::Module) -> impl Future<Output = ()> + Send;
}

/// A contender with a name and its settings, which are values: what differs in nothing else runs the
/// very same machine code. Two copies of a generic function may be inlined differently, and cost a few
/// per cent more or less for no reason of ours.
///
/// Every contender is one, as it is by default.
pub trait Variant {
    /// What it is a variant of.
    type Contender: Contender;

    /// The name in tables, in JSON and in `--only`.
    const NAME: &'static str;

    /// Version and configuration, for the line under the tables.
    const ABOUT: &'static str;

    /// Returns the contender with these settings.
    fn contender() -> Self::Contender;
}

/// How many threads handle messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// tokio's `current_thread` runtime.
    One,
    /// tokio's `multi_thread` runtime with two workers.
    Two,
}

// === impl Variant ===

impl<C: Contender> Variant for C {
    type Contender = C;

    const NAME: &'static str = C::NAME;
    const ABOUT: &'static str = C::ABOUT;

    fn contender() -> C {
        C::default()
    }
}

// === impl Threads ===

impl Threads {
    /// Both settings, in the order in which they are measured.
    pub const ALL: [Self; 2] = [Self::One, Self::Two];

    /// Returns the number, as shown in reports.
    #[must_use]
    pub fn count(self) -> usize {
        match self {
            Self::One => 1,
            Self::Two => 2,
        }
    }

    fn runtime(self) -> runtime::Runtime {
        match self {
            Self::One => runtime::Builder::new_current_thread(),
            Self::Two => runtime::Builder::new_multi_thread(),
        }
        .worker_threads(self.count())
        .enable_all()
        .build()
        .expect("the system grants two threads and an epoll handle")
    }
}

/// Boxed, so that a runtime is compiled once and not for each piece of work.
fn run_as_task<Output: Send + 'static>(
    threads: Threads,
    work: Pin<Box<dyn Future<Output = Output> + Send>>,
) -> Output {
    // As a task, because the future given to `block_on` runs on the calling thread, which is not
    // one of the workers: each of its calls would cross threads.
    threads
        .runtime()
        .block_on(async { tokio::spawn(work).await })
        .expect("a panic in a slice has been printed and ends the program")
}
