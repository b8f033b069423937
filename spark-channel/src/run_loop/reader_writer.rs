//! The task of a reader-writer module: reads side by side, everything else alone.
//!
//! It goes through [readings](super::reading). Between them a message runs alone, as in any other
//! module. While there is nothing to do, the worker lies in its [seat](super::seat), and a caller may
//! poll the handler. A read that he began and that is not done by then goes on in the first
//! place of a reading.
//!
//! Its future owns the handler, while those of the reading borrow it, and a future that owns what others
//! borrow cannot be: so the handler is in an `Arc`, of which such a read makes a second one
//! as it is seen to wait. It is gone before anything runs alone.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use super::{
    Duty, Pause, Running, Step, Waited, Worker, at_home,
    reading::{Desks, Read, Reading, Then},
    running::Caller,
    seat::{Answer, Begun, Call, Direct, Ending, Lent, Manner, occupy},
};
use crate::{
    Access, NativeHandler, ReaderWriter, ReaderWriterHandler, SparkChannelCancellationTrait, Stop,
    deadlock::Edge,
    readers::{Phase, Readers},
};

/// Requests that look run side by side, all other messages alone.
struct SideBySide {
    desks: Desks,
    readers: Arc<Readers>,
}

/// A read that its caller begins with a handler that is lent; if that is not done at once, others
/// can have the handler too.
struct Sharing<'a, H, F> {
    reading: Pin<&'a mut F>,
    lent: &'a Lent<ReaderWriter<H>>,
    is_shared: bool,
}

pin_project! {
    /// A read, wherever it has begun.
    #[project = OneReadProjection]
    enum OneRead<'a, F, G> {
        Own { #[pin] future: F },
        Begun { begun: Begun<'a, G> },
    }
}

/// A reader-writer module: the seat for its dispatchers, and the future that runs it to its end.
///
/// # Panics
///
/// Panics outside of a runtime.
pub(crate) fn seated_readers<H, C>(
    worker: Worker<ReaderWriter<H>, C>,
) -> (
    Direct<ReaderWriter<H>>,
    impl Future<Output = ()> + Send + 'static,
)
where
    H: ReaderWriterHandler,
    C: SparkChannelCancellationTrait + Send + 'static,
{
    let manner = SideBySide::new(&worker);
    occupy(
        worker,
        manner,
        |mut lent: Lent<ReaderWriter<H>>, message, access| async move {
            let answer = match access {
                Access::Read => {
                    let reading = pin!(lent.peek().0.handle_read(message));
                    Sharing::new(reading, &lent).await
                }
                Access::Write => lent.handler().alone().handle_write(message).await,
            };
            (lent.give_back(), answer)
        },
    )
}

// === impl SideBySide ===

impl SideBySide {
    fn new<H, C>(worker: &Worker<ReaderWriter<H>, C>) -> Self
    where
        H: ReaderWriterHandler,
    {
        let control = &worker.control;
        let Some(readers) = control.readers.clone() else {
            unreachable!("the control of a reader-writer module");
        };
        Self {
            desks: Desks::new(Arc::clone(control), readers.at_once()),
            readers,
        }
    }

    /// Runs the reads that come next, beside the one that its caller began, until none does.
    async fn read<H, C, F>(
        &mut self,
        worker: &mut Worker<ReaderWriter<H>, C>,
        call: &mut Call<ReaderWriter<H>, F>,
    ) -> Then
    where
        H: ReaderWriterHandler,
        C: SparkChannelCancellationTrait + Send + 'static,
        F: Future<Output = Ending<ReaderWriter<H>>> + Send,
    {
        let runs_on = call.runs_on();
        let duty = worker.duty.take();
        let Worker {
            handler,
            policy,
            stopwatch,
            drop_abandoned,
            mailbox,
            control,
            slot,
            ..
        } = worker;
        let readers = &*self.readers;
        let handler = &*at_home(handler).0;
        let then = {
            let mut reading = Reading {
                handle: |message| OneRead::Own {
                    future: handler.handle_read(message),
                },
                first: pin!(Read::vacant()),
                others: Vec::new(),
                vacant: Vec::new(),
                running: 0,
                next: None,
                restart_due: false,
                desks: &mut self.desks,
                mailbox,
                policy,
                stopwatch: stopwatch.as_deref(),
                drop_abandoned: *drop_abandoned,
                control,
                readers,
                slot,
            };
            if let Duty::Request(reply) = duty {
                let (begun, escort) = call.begun();
                reading.resume(OneRead::Begun { begun }, reply, escort);
            }
            poll_fn(|cx| reading.poll(cx)).await
        };
        readers.enter(Phase::Alone);
        if runs_on {
            call.clear(worker);
        }
        then
    }
}

impl<H, C> Manner<ReaderWriter<H>, C> for SideBySide
where
    H: ReaderWriterHandler,
    C: SparkChannelCancellationTrait + Send + 'static,
{
    type Told = Access;

    /// As [`Worker::serve`], with a reading before each message that is handled alone.
    async fn work<F>(
        &mut self,
        worker: &mut Worker<ReaderWriter<H>, C>,
        call: &mut Call<ReaderWriter<H>, F>,
    ) -> Pause
    where
        F: Future<Output = Ending<ReaderWriter<H>>> + Send,
    {
        call.resume_panic();
        if !call.runs_on() {
            // A direct call that has ended leaves its phase behind: nobody waits for an idle module.
            self.readers.enter(Phase::Alone);
        } else if !call.is_shared(worker) {
            call.finish(worker).await;
        }
        if !worker.started {
            worker.start().await;
        }
        loop {
            if !call.runs_on() {
                let stop = worker.control.stop();
                match stop {
                    None => {}
                    Some(Stop::Drain) => worker.mailbox.close().await,
                    Some(Stop::AfterCurrent | Stop::Now) => break,
                }
                if worker.mailbox.next_mut().is_none() {
                    let told_to_stop = || worker.control.stop() != stop;
                    match worker.mailbox.wait(&worker.slot, told_to_stop).await {
                        Waited::Ended => break,
                        Waited::Idle => return Pause::Idle,
                        Waited::Received | Waited::Interrupted => continue,
                    }
                }
            }
            match self.read(worker, call).await {
                Then::HandleAlone => handle_alone(worker).await,
                Then::LookAgain => {}
                Then::Restart => {
                    worker.recover();
                    if !worker.started {
                        worker.start().await;
                    }
                }
            }
        }
        worker.wind_down().await;
        Pause::Ended
    }

    #[inline]
    fn is_called(&mut self, worker: &Worker<ReaderWriter<H>, C>, edge: Option<&Edge>) {
        // Beside others, it matters which of them is waited for.
        if let Some(edge) = edge {
            edge.is_handled_by(&worker.slot);
        }
    }

    #[inline]
    fn begins(&mut self, message: &H::Message) -> Access {
        let access = H::access(message);
        self.readers.enter(match access {
            Access::Read => Phase::Reading,
            Access::Write => Phase::Alone,
        });
        access
    }
}

// === impl Sharing ===

impl<'a, H, F> Sharing<'a, H, F> {
    const fn new(reading: Pin<&'a mut F>, lent: &'a Lent<ReaderWriter<H>>) -> Self {
        Self {
            reading,
            lent,
            is_shared: false,
        }
    }
}

impl<H, F> Future for Sharing<'_, H, F>
where
    H: ReaderWriterHandler,
    F: Future<Output = Answer<ReaderWriter<H>>>,
{
    type Output = F::Output;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let polled = self.reading.as_mut().poll(cx);
        if polled.is_pending() && !self.is_shared {
            self.is_shared = true;
            self.lent.share(ReaderWriter::again);
        }
        polled
    }
}

// === impl OneRead ===

impl<H, F, G> Future for OneRead<'_, F, G>
where
    H: NativeHandler,
    F: Future<Output = Answer<H>>,
    G: Future<Output = Ending<H>>,
{
    type Output = Answer<H>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer<H>> {
        match self.project() {
            OneReadProjection::Own { future } => future.poll(cx),
            OneReadProjection::Begun { begun } => Pin::new(begun).poll(cx),
        }
    }
}

async fn handle_alone<H, C>(worker: &mut Worker<ReaderWriter<H>, C>)
where
    H: ReaderWriterHandler,
    C: SparkChannelCancellationTrait + Send + 'static,
{
    match worker.step() {
        Step::Request(message, escort) => {
            let ended = {
                let handler = at_home(&mut worker.handler).alone();
                let write = pin!(handler.handle_write(message));
                let reply = worker.duty.reply();
                let caller = Caller::new(&worker.slot, reply, worker.drop_abandoned);
                Running::request(write, &worker.control, &mut worker.mailbox, caller, escort).await
            };
            worker.answer(ended);
        }
        Step::Command(message) => {
            let ended = {
                let handler = at_home(&mut worker.handler).alone();
                let command = pin!(handler.handle_command(message));
                let link = worker.duty.link();
                Running::command(command, &worker.control, &mut worker.mailbox, link).await
            };
            worker.after_command(ended);
        }
        Step::Next | Step::Wait => {}
    }
}
