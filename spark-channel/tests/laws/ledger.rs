//! What really happened, written down by those it happened to and not by the
//! library: one list, whose order is the order of events.

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use spark_channel::{SparkChannelError, current};
use tokio::{task, time::Instant};

use crate::schedule::Work;

#[derive(Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<Book>>);

#[derive(Default)]
pub(crate) struct Book {
    pub(crate) jobs: Vec<Entry>,
    pub(crate) events: Vec<(Instant, Event)>,
    outside_tasks: HashSet<task::Id>,
}

pub(crate) type JobId = usize;

/// What is known of a job when it is made.
pub(crate) struct Entry {
    pub(crate) sender: usize,
    pub(crate) is_request: bool,
    /// Sent past the dispatcher, through its public sender.
    pub(crate) raw: bool,
    pub(crate) work: Work,
    /// As the caller set it.
    pub(crate) deadline: Option<Instant>,
}

/// A message. Where it is dropped tells who owned it in the end.
pub(crate) struct Job {
    pub(crate) id: JobId,
    pub(crate) work: Work,
    ledger: Ledger,
}

#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// The sender begins to send it.
    Issued(JobId),
    /// The sender knows that the mailbox has it.
    Accepted(JobId),
    /// The sender has it back.
    Refused(JobId, SparkChannelError),
    /// The caller has its outcome.
    Outcome(JobId, Outcome),
    /// The handler sees it, and `current::deadline()`.
    Started(JobId, Option<Instant>),
    Finished(JobId, Result<(), ()>),
    /// The handler's future was dropped before it finished.
    Interrupted(JobId),
    /// The handler, or a hook, is about to panic.
    Panics(Option<JobId>),
    Undelivered(JobId),
    /// The message was dropped, by a task of the module or by another.
    Dropped {
        job: JobId,
        in_module: bool,
    },
    HandlerStarted,
    HandlerStopped,
    ShutdownAccepted {
        sender: usize,
    },
    StopTold,
    Reported,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    Answered(u64),
    Failed(Failure),
    /// The caller dropped its request.
    Left,
}

/// The module's error type.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Failure {
    /// The handler's own.
    OfJob(JobId),
    OfStart,
    Channel(SparkChannelError),
}

// === impl Ledger ===

impl Ledger {
    pub(crate) fn job(&self, entry: Entry) -> Job {
        let work = entry.work;
        let mut book = self.book();
        let id = book.jobs.len();
        book.jobs.push(entry);
        drop(book);
        self.write(Event::Issued(id));
        Job {
            id,
            work,
            ledger: self.clone(),
        }
    }

    pub(crate) fn write(&self, event: Event) {
        self.book().events.push((Instant::now(), event));
    }

    /// Learns that the current task is a sender's; all others are the module's.
    pub(crate) fn is_outside(&self) {
        self.book().outside_tasks.extend(task::try_id());
    }

    /// Says how many started before.
    pub(crate) fn handler_starts(&self) -> usize {
        let mut book = self.book();
        let before = book.events.iter();
        let before = before.filter(|(_, event)| matches!(event, Event::HandlerStarted));
        let before = before.count();
        book.events.push((Instant::now(), Event::HandlerStarted));
        before
    }

    /// Reads the whole of it, once everything has ended.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Book) -> T) -> T {
        read(&self.book())
    }

    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Job ===

impl Job {
    /// Jobs of one key keep their order in a pool that routes by it.
    pub(crate) fn key(&self) -> usize {
        key_of(self.id)
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let mut book = self.ledger.book();
        // A direct call handles it on the caller's task, inside of the module's scope.
        let in_module = current::module_name().is_some()
            || task::try_id().is_some_and(|id| !book.outside_tasks.contains(&id));
        let job = self.id;
        book.events
            .push((Instant::now(), Event::Dropped { job, in_module }));
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job {}", self.id)
    }
}

// === impl Failure ===

impl From<SparkChannelError> for Failure {
    fn from(error: SparkChannelError) -> Self {
        Self::Channel(error)
    }
}

pub(crate) const fn key_of(job: JobId) -> usize {
    job % 5
}
