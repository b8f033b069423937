//! Taking messages: a few at a time from a mailbox of one's own, one at a time
//! from a mailbox shared with other replicas.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
};

use tokio::sync::{Mutex, mpsc};

use crate::control::Slot;

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
    /// There will be none any more.
    Ended,
}

enum Source<T> {
    Own {
        receiver: mpsc::Receiver<T>,
        batch: usize,
    },
    Shared(Arc<Mutex<mpsc::Receiver<T>>>),
}

// === impl Mailbox ===

impl<T> Mailbox<T> {
    pub(crate) fn own(receiver: mpsc::Receiver<T>) -> Self {
        // What is taken no longer counts against the bound, so a small mailbox
        // gives out little at once.
        let batch = (receiver.max_capacity() / 4).clamp(1, BATCH_MAX);
        Self::new(Source::Own { receiver, batch })
    }

    pub(crate) fn shared(receiver: Arc<Mutex<mpsc::Receiver<T>>>) -> Self {
        Self::new(Source::Shared(receiver))
    }

    fn new(source: Source<T>) -> Self {
        Self {
            source,
            taken: Vec::new(),
            closed: false,
        }
    }

    /// A message that has been received, if any.
    ///
    /// Apart from [`wait`](Self::wait), so that a message is moved once, from the
    /// heap to where it is used, and not through every return on the way.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<T> {
        self.taken.pop()
    }

    /// Waits until there is a message to take, or `interrupted` says not to.
    ///
    /// Receiving comes first: `interrupted` is asked only when there is no message.
    /// Whoever makes it true wakes the task.
    #[inline]
    pub(crate) async fn wait(&mut self, slot: &Slot, interrupted: impl Fn() -> bool) -> Waited {
        match &mut self.source {
            Source::Own { receiver, batch } => {
                // Whoever wakes an idle module has most often sent one message.
                // Taking it alone is cheaper than finding out that it is alone.
                let mut limit = *batch;
                let count =
                    poll_fn(
                        |cx| match receiver.poll_recv_many(cx, &mut self.taken, limit) {
                            Poll::Pending if interrupted() => Poll::Ready(None),
                            Poll::Pending => {
                                limit = 1;
                                Poll::Pending
                            }
                            Poll::Ready(count) => Poll::Ready(Some(count)),
                        },
                    )
                    .await;
                let Some(count) = count else {
                    return Waited::Interrupted;
                };
                slot.counters.saw_depth(count + receiver.len());
                if count > 1 {
                    // Taken from the back, in order.
                    self.taken.reverse();
                }
            }
            Source::Shared(receiver) => {
                let mut receiving = pin!(async { receiver.lock().await.recv().await });
                let received = poll_fn(|cx| match receiving.as_mut().poll(cx) {
                    Poll::Pending if interrupted() => Poll::Ready(None),
                    polled => polled.map(Some),
                })
                .await;
                match received {
                    None => return Waited::Interrupted,
                    Some(message) => self.taken.extend(message),
                }
            }
        }
        if self.taken.is_empty() {
            Waited::Ended
        } else {
            Waited::Received
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
            Source::Shared(receiver) => receiver.lock().await.close(),
        }
        self.closed = true;
    }
}

/// More than sixteen at once measured no better.
const BATCH_MAX: usize = 16;
