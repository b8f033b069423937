//! Taking messages: a few at a time from a mailbox of one's own, one at a time
//! from a mailbox shared with other replicas, or from a lane behind a router.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::{
    sync::{Mutex, mpsc},
    time::Instant,
};
use tokio_util::sync::ReusableBoxFuture;

#[cfg(feature = "test-util")]
use super::turnstile::TurnstileReceiver;
use super::{classed::Classed, lane::LaneReceiver, quietly, receiver::Receiver, running::Doors};
use crate::{classes::Taker, control::Slot, timings::Stopwatch};

pub(crate) struct Mailbox<T> {
    source: Source<T>,
    /// Taken and not yet handled, the next one last.
    taken: Vec<T>,
    closed: bool,
}

/// Why waiting for messages ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waited {
    /// There is at least one to [`take`](Mailbox::take).
    Received,
    /// There is none now, and the caller's condition for not waiting holds.
    Interrupted,
    /// There is none now, the task is woken when there is, and this mailbox
    /// [rests](Mailbox::resting) meanwhile.
    Idle,
    /// There will be none any more.
    Ended,
}

enum Source<T> {
    Own {
        receiver: Receiver<T>,
        batch: usize,
        /// Whether waiting completes when there is nothing, instead of being pending.
        rests: bool,
        /// Whether there was nothing when it was last looked.
        was_idle: bool,
    },
    // Boxed, or every module would have room for what only a pool's replica needs.
    Shared(Box<Shared<T>>),
    /// A replica's own queue, filled by a router.
    Lane(Box<LaneReceiver<T>>),
    /// Of a module with classes, a single one or a replica.
    Classes(Box<Classed<T>>),
    /// A mailbox of one's own that gives out a message when it is told to.
    #[cfg(feature = "test-util")]
    Turnstile(Box<TurnstileReceiver<T>>),
}

struct Shared<T> {
    receiver: Arc<Mutex<Receiver<T>>>,
    /// The wait for a message, in a box that each wait uses again.
    receiving: ReusableBoxFuture<'static, Option<Taken<T>>>,
    notice: Notice<T>,
    /// What `notice` said of the message taken last.
    noted: Noted,
}

// === impl Mailbox ===

impl<T> Mailbox<T> {
    pub(crate) fn own(receiver: mpsc::Receiver<T>) -> Self {
        // What is taken no longer counts against the bound, so a small mailbox
        // gives out little at once.
        let batch = (receiver.max_capacity() / 4).clamp(1, BATCH_MAX);
        Self::new(Source::Own {
            receiver: Receiver::new(receiver),
            batch,
            rests: false,
            was_idle: false,
        })
    }

    /// A mailbox whose [`wait`](Self::wait) completes when there is nothing to take.
    pub(crate) fn resting(receiver: mpsc::Receiver<T>) -> Self {
        let mut mailbox = Self::own(receiver);
        if let Source::Own { rests, .. } = &mut mailbox.source {
            *rests = true;
        }
        mailbox
    }

    pub(crate) fn lane(receiver: LaneReceiver<T>) -> Self {
        Self::new(Source::Lane(Box::new(receiver)))
    }

    /// A mailbox of classes. `notice` as in [`shared`](Self::shared).
    pub(crate) fn classes(taker: Taker<T>, notice: Notice<T>) -> Self {
        Self::new(Source::Classes(Box::new(Classed::new(taker, notice))))
    }

    /// A mailbox of classes that [rests](Self::resting).
    pub(crate) fn resting_classes(taker: Taker<T>, notice: Notice<T>) -> Self {
        let mut classes = Classed::new(taker, notice);
        classes.rest();
        Self::new(Source::Classes(Box::new(classes)))
    }

    #[cfg(feature = "test-util")]
    pub(crate) fn turnstile(receiver: TurnstileReceiver<T>) -> Self {
        Self::new(Source::Turnstile(Box::new(receiver)))
    }

    fn new(source: Source<T>) -> Self {
        Self {
            source,
            taken: Vec::new(),
            closed: false,
        }
    }
}

impl<T: Send + 'static> Mailbox<T> {
    /// A replica's view of a mailbox. `notice` sees each message before another
    /// replica can take the one behind it.
    pub(crate) fn shared(receiver: Arc<Mutex<Receiver<T>>>, notice: Notice<T>) -> Self {
        let receiving = ReusableBoxFuture::new(receive(Arc::clone(&receiver), notice.clone()));
        Self::new(Source::Shared(Box::new(Shared {
            receiver,
            receiving,
            notice,
            noted: Noted {
                in_time: true,
                arrived: None,
            },
        })))
    }

    /// A message that has been received, if any.
    ///
    /// Apart from [`wait`](Self::wait), so that a message is moved once, from the
    /// heap to where it is used, and not through every return on the way.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<T> {
        self.taken.pop()
    }

    /// The message to be [taken](Self::take) next.
    #[inline]
    pub(super) fn next_mut(&mut self) -> Option<&mut T> {
        self.taken.last_mut()
    }

    /// Whether [`wait`](Self::wait) completes when there is nothing to take.
    pub(super) fn rests(&self) -> bool {
        match &self.source {
            Source::Own { rests, .. } => *rests,
            Source::Classes(classes) => classes.rests,
            _ => false,
        }
    }

    /// Whether a message is there to be [taken](Self::take).
    pub(super) fn has_taken(&self) -> bool {
        !self.taken.is_empty()
    }

    /// Whether there is no message, neither taken nor to be taken, of which only the
    /// one owner of a mailbox can be sure.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        let nothing_comes = match &self.source {
            Source::Own { receiver, .. } => receiver.is_empty(),
            Source::Classes(classes) => classes.is_empty(),
            _ => false,
        };
        nothing_comes && self.taken.is_empty()
    }

    /// Whether the next message came out of a mailbox that others take from too, before
    /// one of them took the shutdown message.
    pub(crate) fn has_taken_in_time(&self) -> bool {
        match &self.source {
            Source::Own { .. } => false,
            Source::Shared(shared) => shared.noted.in_time && !self.taken.is_empty(),
            Source::Lane(lane) => lane.next_is_in_time(&self.taken),
            Source::Classes(classes) => classes.is_in_time() && !self.taken.is_empty(),
            #[cfg(feature = "test-util")]
            Source::Turnstile(_) => false,
        }
    }

    /// Whether the message taken last is one of several and not the one to be counted.
    #[inline]
    pub(crate) fn has_taken_copy(&self) -> bool {
        matches!(&self.source, Source::Lane(lane) if lane.has_taken_copy())
    }

    /// When the message taken last, which was none to shut down, was accepted. To be asked
    /// once for each, before the next one is taken.
    #[cold]
    pub(super) fn arrival<M>(&self, stopwatch: &Stopwatch<M>) -> Option<Instant> {
        match &self.source {
            Source::Own { .. } => stopwatch.take_arrival(),
            Source::Shared(shared) => shared.noted.arrived,
            Source::Lane(lane) => lane.arrived(),
            Source::Classes(classes) => classes.arrival(self.taken.len()),
            #[cfg(feature = "test-util")]
            Source::Turnstile(turnstile) => {
                turnstile.arrived().or_else(|| stopwatch.take_arrival())
            }
        }
    }

    /// Waits until there is a message to take, or `interrupted` says not to.
    ///
    /// Receiving comes first: `interrupted` is asked only when there is no message.
    /// Whoever makes it true wakes the task.
    #[inline]
    #[expect(
        clippy::manual_async_fn,
        reason = "an `async fn` would hold its arguments twice"
    )]
    pub(crate) fn wait<'a>(
        &'a mut self,
        slot: &'a Slot,
        interrupted: impl Fn() -> bool + Send + Sync + 'a,
    ) -> impl Future<Output = Waited> + Send + 'a {
        async move {
            match &mut self.source {
                Source::Own {
                    receiver,
                    batch,
                    rests,
                    was_idle,
                } => {
                    let may_rest = *rests && !self.closed;
                    let count = poll_fn(|cx| {
                        if self.taken.capacity() == 0 && !receiver.is_empty() {
                            // Room for one: a module that is most often idle, or called
                            // directly, need not pay for a batch.
                            self.taken.reserve_exact(1);
                        }
                        // Whoever wakes an idle module has most often sent one message.
                        // Taking it alone is cheaper than finding out that it is alone.
                        let limit = if *was_idle { 1 } else { *batch };
                        match receiver.poll_recv_many(cx, &mut self.taken, limit) {
                            // Also pending, with messages waiting, is a task whose
                            // budget is spent; it is woken again at once.
                            Poll::Pending if interrupted() && receiver.is_empty() => {
                                Poll::Ready(Err(Waited::Interrupted))
                            }
                            Poll::Pending => {
                                *was_idle = true;
                                if may_rest {
                                    return Poll::Ready(Err(Waited::Idle));
                                }
                                Poll::Pending
                            }
                            Poll::Ready(count) => {
                                *was_idle = false;
                                // Who gets less than he asked for has left nothing behind that is
                                // worth counting.
                                let left = if count == limit { receiver.len() } else { 0 };
                                slot.counters.saw_depth(count + left);
                                Poll::Ready(Ok(count))
                            }
                        }
                    })
                    .await;
                    let count = match count {
                        Ok(count) => count,
                        Err(waited) => return waited,
                    };
                    if count > 1 {
                        // Taken from the back, in order.
                        self.taken.reverse();
                    }
                }
                Source::Shared(shared) => {
                    let Shared {
                        receiver,
                        receiving,
                        notice,
                        noted,
                    } = &mut **shared;
                    let received = poll_fn(|cx| match receiving.poll(cx) {
                        Poll::Pending if interrupted() => Poll::Ready(None),
                        polled => polled.map(Some),
                    })
                    .await;
                    // Also when interrupted: the old wait may hold the lock.
                    receiving.set(receive(Arc::clone(receiver), notice.clone()));
                    match received {
                        None => {
                            // Also pending, with messages waiting, is a task whose budget is
                            // spent. If the lock is taken, another replica sees to them.
                            let Ok(mut receiver) = receiver.try_lock() else {
                                return Waited::Interrupted;
                            };
                            let Ok(message) = receiver.try_recv() else {
                                return Waited::Interrupted;
                            };
                            *noted = notice(&message);
                            self.taken.push(message);
                        }
                        Some(None) => {}
                        Some(Some(taken)) => {
                            slot.counters.saw_depth(1 + taken.left);
                            *noted = taken.noted;
                            self.taken.push(taken.message);
                        }
                    }
                }
                Source::Lane(lane) => {
                    return poll_fn(|cx| lane.poll_take(cx, &mut self.taken, &interrupted)).await;
                }
                Source::Classes(classes) => {
                    let (taken, may_rest) = (&mut self.taken, !self.closed);
                    return poll_fn(|cx| {
                        classes.poll_take(cx, taken, slot, may_rest, &interrupted)
                    })
                    .await;
                }
                #[cfg(feature = "test-util")]
                Source::Turnstile(turnstile) => {
                    let taken = &mut self.taken;
                    return poll_fn(|cx| turnstile.poll_take(cx, taken, slot, &interrupted)).await;
                }
            }
            if self.taken.is_empty() {
                Waited::Ended
            } else {
                Waited::Received
            }
        }
    }

    /// Receives a message of priority control that goes before the one received and not
    /// taken yet; if there is none, the task is woken when one comes. Whether another
    /// one is the next now.
    #[inline]
    pub(super) fn receive_control(&mut self, cx: &Context<'_>) -> bool {
        match &mut self.source {
            Source::Classes(classes) => classes.take_control(cx, &mut self.taken),
            _ => false,
        }
    }

    /// Refuses new messages; those accepted before can still be taken.
    pub(crate) async fn close(&mut self) {
        if self.closed {
            return;
        }
        match &mut self.source {
            Source::Own { receiver, .. } => receiver.close(),
            // A replica that waits for a message holds the lock, and lets go of it
            // because it is told to stop as well.
            Source::Shared(shared) => Box::pin(shared.receiver.lock()).await.close(),
            Source::Lane(lane) => lane.close(),
            Source::Classes(classes) => classes.close(),
            #[cfg(feature = "test-util")]
            Source::Turnstile(turnstile) => turnstile.close(),
        }
        self.closed = true;
    }
}

impl<T> Drop for Mailbox<T> {
    fn drop(&mut self) {
        // One by one: where two panic that are dropped at once, the process ends.
        for message in self.taken.drain(..) {
            quietly(|| drop(message));
        }
    }
}

// === impl Doors ===

impl<T: Send + 'static> Doors for Mailbox<T> {
    fn close_now(&mut self) {
        match &mut self.source {
            Source::Own { receiver, .. } => receiver.close(),
            // Who holds the lock waits for a message, is told to stop as well, and
            // closes when it has the lock again.
            Source::Shared(shared) => {
                if let Ok(mut receiver) = shared.receiver.try_lock() {
                    receiver.close();
                }
            }
            Source::Lane(lane) => lane.close(),
            Source::Classes(classes) => classes.close(),
            #[cfg(feature = "test-util")]
            Source::Turnstile(turnstile) => turnstile.close(),
        }
    }
}

async fn receive<T>(receiver: Arc<Mutex<Receiver<T>>>, notice: Notice<T>) -> Option<Taken<T>> {
    let mut receiver = receiver.lock().await;
    let message = receiver.recv().await?;
    Some(Taken {
        noted: notice(&message),
        message,
        left: receiver.len(),
    })
}

/// Told of every message that is taken from a shared mailbox, while it is locked.
pub(crate) type Notice<T> = Arc<dyn Fn(&T) -> Noted + Send + Sync>;

/// What is known of a message out of a shared mailbox.
#[derive(Clone, Copy)]
pub(crate) struct Noted {
    /// It came before the module was told to give back the rest.
    pub(crate) in_time: bool,
    /// When it was accepted, if that is noted.
    pub(crate) arrived: Option<Instant>,
}

/// A message out of a shared mailbox.
struct Taken<T> {
    message: T,
    noted: Noted,
    left: usize,
}

/// More than sixteen at once measured no better.
const BATCH_MAX: usize = 16;
