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
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{exchange::Shared, timeline::Timeline};

/// A connection's transport, as hyper sees it. When dropped, the transport goes back to the tap.
pub(super) struct Socket<T> {
    transport: Option<T>,
    tap: Arc<Mutex<Tap<T>>>,
}

/// What the parts of one connection know of it: its driver, its transport and its requests.
///
/// Only the connection's own task locks it, so it is never contended.
pub(super) struct Tap<T> {
    pub(super) timeline: Timeline,
    shared: Arc<Shared>,
    /// Requests whose answer is not yet in hyper's hands, whole.
    under_way: usize,
    /// Answers in hyper's hands that are not yet written out.
    unwritten: u64,
    /// Keeps the server's drain waiting while this connection is busy.
    busy: Option<TaskTrackerToken>,
    /// A request's body was left unread, so the client may be writing still.
    pub(super) unread: Arc<AtomicBool>,
    /// The status of an answer that hyper made.
    pub(super) refused: Option<u16>,
    /// The transport, once hyper is done with it.
    pub(super) transport: Option<T>,
}

// === impl Tap ===

impl<T> Tap<T> {
    pub(super) fn new(now: Instant, shared: Arc<Shared>) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            timeline: Timeline::accepted(now),
            shared,
            under_way: 0,
            unwritten: 0,
            busy: None,
            unread: Arc::default(),
            refused: None,
            transport: None,
        }))
    }

    /// A request's head is complete.
    pub(super) fn begin(&mut self) {
        self.timeline.request();
        // hyper has read the body before this one to its end, whoever did not.
        self.unread.store(false, Ordering::Relaxed);
        self.under_way += 1;
        let shared = &self.shared;
        self.busy.get_or_insert_with(|| shared.busy.token());
    }

    /// A request's answer is in hyper's hands, or will never be.
    pub(super) fn end(&mut self, answered: bool) {
        self.under_way -= 1;
        if answered {
            self.unwritten += 1;
        } else {
            self.shared.counts.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flushed(&mut self) {
        if self.under_way == 0 && self.timeline.is_busy() {
            let written = std::mem::take(&mut self.unwritten);
            let served = &self.shared.counts.served;
            served.fetch_add(written, Ordering::Relaxed);
            self.timeline.settled(Instant::now());
            self.busy = None;
        }
    }
}

impl<T> Drop for Tap<T> {
    fn drop(&mut self) {
        let lost = &self.shared.counts.lost;
        lost.fetch_add(self.unwritten, Ordering::Relaxed);
    }
}

pub(super) fn lock<T>(tap: &Mutex<Tap<T>>) -> MutexGuard<'_, Tap<T>> {
    // Each change is a single assignment; a panic in between leaves nothing half done.
    tap.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Socket ===

impl<T: Unpin> Socket<T> {
    pub(super) fn new(transport: T, tap: Arc<Mutex<Tap<T>>>) -> Self {
        Self {
            transport: Some(transport),
            tap,
        }
    }

    fn transport(&mut self) -> Pin<&mut T> {
        Pin::new(self.transport.as_mut().expect("taken only by `drop`"))
    }

    fn note_write(&self, written: &Poll<io::Result<usize>>) {
        let mut tap = lock(&self.tap);
        match written {
            Poll::Ready(_) => tap.timeline.wrote(),
            Poll::Pending => tap.timeline.stalled(Instant::now()),
        }
    }

    /// Whether `bytes` are hyper's own answer, which is then kept from the wire.
    fn intercept(&self, bytes: &[u8]) -> bool {
        let mut tap = lock(&self.tap);
        if tap.timeline.is_busy() {
            return false;
        }
        tap.refused.get_or_insert_with(|| status(bytes));
        true
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Socket<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = self.transport().poll_read(cx, buffer);
        if buffer.filled().len() > before {
            lock(&self.tap).timeline.read(Instant::now());
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Socket<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.intercept(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = self.transport().poll_write(cx, bytes);
        self.note_write(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = slices.iter().find(|slice| !slice.is_empty());
        if self.intercept(first.map_or(&[], |slice| slice)) {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        let written = self.transport().poll_write_vectored(cx, slices);
        self.note_write(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.as_ref().is_some_and(T::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.transport().poll_flush(cx);
        if flushed.is_ready() {
            lock(&self.tap).flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if lock(&self.tap).refused.is_some() {
            // The connection still has an answer to write.
            return Poll::Ready(Ok(()));
        }
        self.transport().poll_shutdown(cx)
    }
}

impl<T> Drop for Socket<T> {
    fn drop(&mut self) {
        lock(&self.tap).transport = self.transport.take();
    }
}

/// The status in `HTTP/1.1 431 Request Header Fields Too Large`; 0 if there is none.
fn status(answer: &[u8]) -> u16 {
    let digits = answer
        .get(9..12)
        .and_then(|digits| str::from_utf8(digits).ok());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}
