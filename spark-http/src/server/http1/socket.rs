//! The wire between hyper and the operating system, with a tap.
//!
//! hyper reports neither when an answer is written out nor when bytes of a next
//! request came, and answers a head it cannot parse by itself, with a bare status line.
//! [`Socket`] sees all three, by these facts about hyper's HTTP/1 connection:
//!
//! 1. It flushes its transport only when its own write buffer is empty. So a flush while
//!    no request is under way means that everything owed is written.
//! 2. It reads a next head only after that. So what it writes while nothing is
//!    owed is an answer of its own making, which [`Tap`] keeps from the wire: the connection
//!    answers from the error table in its place.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    task::{Context, Poll, Waker, ready},
};

use bytes::BytesMut;
use http::Extensions;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::timeline::Timeline;
use crate::{
    body::Unread,
    server::{
        exchange::{Entry, Ledger, Shared},
        transport::Transport,
        upgrade::AfterUpgrade,
    },
};

/// A connection's transport, as hyper sees it, and after it whoever took the connection over for
/// another protocol. The transport itself lies in the tap, so that it can be taken away.
pub(in crate::server) struct Socket<T> {
    tap: Arc<Mutex<Tap<T>>>,
}

/// What the parts of one connection know of it: its driver, its transport and its requests.
///
/// Only the connection's own task locks it, so it is never contended; but for a connection that
/// has changed its protocol.
pub(in crate::server) struct Tap<T> {
    pub(in crate::server) timeline: Timeline,
    shared: Arc<Shared>,
    /// Requests whose answer is not yet in hyper's hands, whole.
    under_way: usize,
    /// Answers in hyper's hands that are not yet written out.
    unwritten: u64,
    /// Keeps the server's drain waiting while this connection is busy.
    busy: Option<TaskTrackerToken>,
    /// A request's body was left unread, so the client may be writing still.
    pub(in crate::server) unread: Arc<Unread>,
    /// The answer under way is the last one of HTTP.
    pub(in crate::server) is_switching: bool,
    /// What the request that asked for another protocol wants to run there.
    pub(in crate::server) after_upgrade: Option<AfterUpgrade>,
    /// The status of an answer that hyper made.
    pub(in crate::server) refused: Option<u16>,
    /// The transport. Once it is taken, the socket fails.
    pub(in crate::server) transport: Option<T>,
    /// What was read of it that hyper has not asked for yet.
    ahead: BytesMut,
    /// hyper waits for bytes, and so sees for itself when there will be none.
    is_watched: bool,
    /// How much of what was written the client had taken, by the transport's own count.
    taken: u64,
    /// Whether the socket exists: after hyper is done, somebody else has it.
    is_held: bool,
    /// Who waits for the socket after hyper: its reader, its writer, and the connection's driver
    /// for its end.
    waiting: [Option<Waker>; 3],
}

// === impl Tap ===

impl<T: Transport> Tap<T> {
    pub(in crate::server) fn new(
        transport: T,
        timeline: Timeline,
        shared: Arc<Shared>,
    ) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            timeline,
            shared,
            under_way: 0,
            unwritten: 0,
            busy: None,
            unread: Arc::default(),
            is_switching: false,
            after_upgrade: None,
            refused: None,
            transport: Some(transport),
            ahead: BytesMut::new(),
            is_watched: false,
            taken: 0,
            is_held: true,
            waiting: [None, None, None],
        }))
    }

    fn begin(&mut self) {
        self.timeline.request();
        // hyper has read the body before this one to its end, whoever did not.
        self.unread.clear();
        self.under_way += 1;
        let shared = &self.shared;
        self.busy.get_or_insert_with(|| shared.busy.token());
    }

    fn end(&mut self, answered: bool) {
        self.under_way -= 1;
        if answered {
            self.unwritten += 1;
        } else {
            self.shared.counts.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether the socket outlives hyper.
    pub(in crate::server) fn is_held(&self) -> bool {
        self.is_held
    }

    /// Pending until a client has left whose request is under way, as far as hyper does not see that itself:
    /// it reads nothing while it holds the beginning of a next request, or a body that nobody asks for.
    ///
    /// Looking is reading, up to a bound; beyond it, whether the client is there shows later.
    pub(in crate::server) fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Of a body that was given up, hyper looks for more once, and no more after that.
        let is_given_up = self.unread.is_noted();
        let is_watched = self.is_watched && !is_given_up;
        if is_watched || self.under_way == 0 || self.is_switching {
            return Poll::Pending;
        }
        let Some(transport) = &mut self.transport else {
            return Poll::Pending;
        };
        while self.ahead.len() < AHEAD_MAX {
            let mut bytes = [0; AHEAD_MAX];
            let room = AHEAD_MAX - self.ahead.len();
            let mut buffer = ReadBuf::new(&mut bytes[..room]);
            match ready!(Pin::new(&mut *transport).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {
                    self.ahead.extend_from_slice(buffer.filled());
                }
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }

    /// Pending until the socket is dropped.
    pub(in crate::server) fn poll_released(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_held {
            self.waiting[DRIVER] = Some(cx.waker().clone());
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }

    /// Remembers whom to wake when the transport is taken away.
    fn note_waiting<R>(&mut self, who: usize, cx: &Context<'_>, poll: &Poll<R>) {
        if poll.is_pending() && self.timeline.has_switched() {
            let waiting = &mut self.waiting[who];
            match waiting {
                Some(waker) if waker.will_wake(cx.waker()) => {}
                _ => *waiting = Some(cx.waker().clone()),
            }
        }
    }

    /// The client has not made room for what waits to be written.
    fn stalled(&mut self) {
        let taken = self.transport.as_ref().map_or(0, Transport::taken);
        if std::mem::replace(&mut self.taken, taken) != taken {
            self.timeline.wrote();
        }
        self.timeline.stalled(Instant::now());
    }

    fn flushed(&mut self) {
        if self.under_way == 0 && self.timeline.is_busy() {
            let written = std::mem::take(&mut self.unwritten);
            let served = &self.shared.counts.served;
            served.fetch_add(written, Ordering::Relaxed);
            if self.is_switching {
                // Before hyper hands the socket over: what comes next is not for hyper's eyes.
                self.timeline.switch();
            } else {
                self.timeline.settled();
            }
            self.busy = None;
        }
    }
}

impl<T: Transport> Ledger for Arc<Mutex<Tap<T>>> {
    type Entry = Self;

    fn begin(&self) -> Self {
        lock(self).begin();
        Arc::clone(self)
    }
}

impl<T: Transport> Entry for Arc<Mutex<Tap<T>>> {
    /// Seen on the wire.
    type Progress = ();

    fn progress(&self) {}

    fn unread(&self) -> Arc<Unread> {
        Arc::clone(&lock(self).unread)
    }

    fn has_unread(&self) -> bool {
        lock(self).unread.is_noted()
    }

    fn asks_to_switch(&self, extensions: &mut Extensions) {
        let work = AfterUpgrade::new();
        extensions.insert(work.clone());
        lock(self).after_upgrade = Some(work);
    }

    fn switches(&self) {
        lock(self).is_switching = true;
    }

    fn end(&self, answered: bool) {
        lock(self).end(answered);
    }
}

impl<T> Drop for Tap<T> {
    fn drop(&mut self) {
        let lost = &self.shared.counts.lost;
        lost.fetch_add(self.unwritten, Ordering::Relaxed);
    }
}

/// Closes the transport, whoever holds the socket.
pub(in crate::server) fn cut<T>(tap: &Mutex<Tap<T>>) {
    let (transport, waiting) = {
        let mut tap = lock(tap);
        (tap.transport.take(), std::mem::take(&mut tap.waiting))
    };
    drop(transport);
    waiting.into_iter().flatten().for_each(Waker::wake);
}

pub(in crate::server) fn lock<T>(tap: &Mutex<Tap<T>>) -> MutexGuard<'_, Tap<T>> {
    // Each change is a single assignment; a panic in between leaves nothing half done.
    tap.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Socket ===

impl<T: Transport> Socket<T> {
    pub(in crate::server) fn new(tap: Arc<Mutex<Tap<T>>>) -> Self {
        Self { tap }
    }

    /// One step of a write, unless `first` begins an answer of hyper's own making: of that,
    /// `length` bytes are swallowed.
    fn write(
        &self,
        cx: &mut Context<'_>,
        first: &[u8],
        length: usize,
        step: impl FnOnce(Pin<&mut T>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let mut tap = lock(&self.tap);
        if !tap.timeline.owes() {
            tap.refused.get_or_insert_with(|| status(first));
            return Poll::Ready(Ok(length));
        }
        let Some(transport) = &mut tap.transport else {
            return Poll::Ready(Err(taken_away()));
        };
        let written = step(Pin::new(transport), cx);
        match &written {
            Poll::Ready(_) => tap.timeline.wrote(),
            Poll::Pending => tap.stalled(),
        }
        tap.note_waiting(WRITER, cx, &written);
        written
    }
}

impl<T: Transport> AsyncRead for Socket<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut tap = lock(&self.tap);
        let tap = &mut *tap;
        let Some(transport) = &mut tap.transport else {
            return Poll::Ready(Err(taken_away()));
        };
        let before = buffer.filled().len();
        let read = if tap.ahead.is_empty() {
            Pin::new(transport).poll_read(cx, buffer)
        } else {
            let length = buffer.remaining().min(tap.ahead.len());
            buffer.put_slice(&tap.ahead.split_to(length));
            if tap.ahead.is_empty() {
                // Most connections never need it again.
                tap.ahead = BytesMut::new();
            }
            Poll::Ready(Ok(()))
        };
        tap.is_watched = read.is_pending();
        if buffer.filled().len() > before {
            tap.timeline.read();
        }
        tap.note_waiting(READER, cx, &read);
        read
    }
}

impl<T: Transport> AsyncWrite for Socket<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, bytes, bytes.len(), |transport, cx| {
            transport.poll_write(cx, bytes)
        })
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = slices.iter().find(|slice| !slice.is_empty());
        let first: &[u8] = first.map_or(&[], |slice| slice);
        let length = slices.iter().map(|slice| slice.len()).sum();
        self.write(cx, first, length, |transport, cx| {
            transport.poll_write_vectored(cx, slices)
        })
    }

    fn is_write_vectored(&self) -> bool {
        let tap = lock(&self.tap);
        tap.transport.as_ref().is_some_and(T::is_write_vectored)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut tap = lock(&self.tap);
        let Some(transport) = &mut tap.transport else {
            return Poll::Ready(Err(taken_away()));
        };
        let flushed = Pin::new(transport).poll_flush(cx);
        match &flushed {
            Poll::Ready(_) => tap.flushed(),
            Poll::Pending => tap.stalled(),
        }
        tap.note_waiting(WRITER, cx, &flushed);
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut tap = lock(&self.tap);
        if tap.refused.is_some() {
            // The connection still has an answer to write.
            return Poll::Ready(Ok(()));
        }
        let Some(transport) = &mut tap.transport else {
            return Poll::Ready(Err(taken_away()));
        };
        let shut = Pin::new(transport).poll_shutdown(cx);
        tap.note_waiting(WRITER, cx, &shut);
        shut
    }
}

impl<T> Drop for Socket<T> {
    fn drop(&mut self) {
        let waiting = {
            let mut tap = lock(&self.tap);
            tap.is_held = false;
            std::mem::take(&mut tap.waiting)
        };
        // Without the lock: what a waker does is not ours to know.
        waiting.into_iter().flatten().for_each(Waker::wake);
    }
}

fn taken_away() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

/// The status in `HTTP/1.1 431 Request Header Fields Too Large`; 0 if there is none.
fn status(answer: &[u8]) -> u16 {
    let digits = answer
        .get(9..12)
        .and_then(|digits| str::from_utf8(digits).ok());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// A head, mostly.
const AHEAD_MAX: usize = 1024;

const READER: usize = 0;
const WRITER: usize = 1;
const DRIVER: usize = 2;
