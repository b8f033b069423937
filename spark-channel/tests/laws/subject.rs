//! The module under test: it does what each message says and writes it down.

use std::time::Duration;

use spark_channel::{NativeHandler, SparkGenericModuleHandler, async_trait, current};
use tokio::time::sleep;

use crate::{
    ledger::{Event, Failure, Job, JobId, Ledger},
    schedule::{Hook, Plan, Work},
    schedules::EXPECTED,
};

pub(crate) struct Subject {
    ledger: Ledger,
    starts: Vec<Hook>,
    stopped: Hook,
    undelivered: Hook,
}

/// The subject as an `#[async_trait]` handler.
pub(crate) struct Boxed(pub(crate) Subject);

/// Writes down that the handler was dropped, unless it ended first.
struct Run<'a> {
    ledger: &'a Ledger,
    job: JobId,
    ended: bool,
}

// === impl Subject ===

impl Subject {
    pub(crate) fn new(plan: &Plan, ledger: &Ledger) -> Self {
        Self {
            ledger: ledger.clone(),
            starts: plan.starts.clone(),
            stopped: plan.stopped,
            undelivered: plan.undelivered,
        }
    }

    async fn handle(&mut self, job: Job) -> Result<u64, Failure> {
        let id = job.id;
        self.ledger.write(Event::Started(id, current::deadline()));
        let run = Run {
            ledger: &self.ledger,
            job: id,
            ended: false,
        };
        match job.work {
            Work::Quick => {}
            Work::Yields(times) => {
                for _ in 0..times {
                    tokio::task::yield_now().await;
                }
            }
            Work::Takes(ms) => sleep(Duration::from_millis(ms)).await,
            Work::Fails => {
                run.ends(Event::Finished(id, Err(())));
                return Err(Failure::OfJob(id));
            }
            Work::Panics => run.panics(),
            Work::PanicsAfter(ms) => {
                sleep(Duration::from_millis(ms)).await;
                run.panics()
            }
            Work::UntilCancelled => tokio::select! {
                () = current::cancelled() => {}
                () = sleep(Duration::from_millis(20)) => {}
            },
            Work::Never => std::future::pending().await,
        }
        run.ends(Event::Finished(id, Ok(())));
        Ok(answer_to(id))
    }

    async fn hook(&self, hook: Hook) -> Result<(), Failure> {
        match hook {
            Hook::Quick => Ok(()),
            Hook::Takes(ms) => {
                sleep(Duration::from_millis(ms)).await;
                Ok(())
            }
            Hook::Fails => Err(Failure::OfStart),
            Hook::Panics => {
                self.ledger.write(Event::Panics(None));
                panic!("{EXPECTED}: of a hook");
            }
            Hook::Never => std::future::pending().await,
        }
    }

    async fn start(&mut self) -> Result<(), Failure> {
        let before = self.ledger.handler_starts();
        let hook = self.starts.get(before).copied().unwrap_or(Hook::Quick);
        self.hook(hook).await
    }

    async fn stop(&mut self) {
        self.ledger.write(Event::HandlerStopped);
        let _ = self.hook(self.stopped).await;
    }

    async fn take_back(&mut self, job: Job) {
        self.ledger.write(Event::Undelivered(job.id));
        let _ = self.hook(self.undelivered).await;
    }
}

impl NativeHandler for Subject {
    type Message = Job;
    type Response = u64;
    type Error = Failure;

    async fn handle_request(&mut self, job: Job) -> Result<u64, Failure> {
        self.handle(job).await
    }

    async fn handle_command(&mut self, job: Job) -> Result<(), Failure> {
        self.handle(job).await.map(drop)
    }

    async fn started(&mut self) -> Result<(), Failure> {
        self.start().await
    }

    async fn stopped(&mut self) {
        self.stop().await;
    }

    async fn undelivered(&mut self, job: Job) {
        self.take_back(job).await;
    }
}

// === impl Boxed ===

#[async_trait]
impl SparkGenericModuleHandler<Job, u64, Failure> for Boxed {
    async fn handle_request(&mut self, job: Job) -> Result<u64, Failure> {
        self.0.handle(job).await
    }

    async fn handle_command(&mut self, job: Job) -> Result<(), Failure> {
        self.0.handle(job).await.map(drop)
    }

    async fn started(&mut self) -> Result<(), Failure> {
        self.0.start().await
    }

    async fn stopped(&mut self) {
        self.0.stop().await;
    }

    async fn undelivered(&mut self, job: Job) {
        self.0.take_back(job).await;
    }
}

// === impl Run ===

impl Run<'_> {
    fn ends(mut self, event: Event) {
        self.ended = true;
        self.ledger.write(event);
    }

    fn panics(self) -> ! {
        let job = self.job;
        self.ends(Event::Panics(Some(job)));
        panic!("{EXPECTED}: of job {job}");
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.ledger.write(Event::Interrupted(self.job));
        }
    }
}

pub(crate) fn answer_to(job: JobId) -> u64 {
    job as u64 * 3 + 1
}
