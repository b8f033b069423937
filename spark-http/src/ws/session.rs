//! The life of one WebSocket, from the handshake's answer to its close.
//!
//! One task polls it all: what is read, the calls that are under way, events, pings, and what is
//! written. Invariants:
//!
//! 1. No more than `calls_max` messages are under way: begun, and not yet answered into the
//!    write buffer. At the bound one more is read, so that a client that leaves or falls silent
//!    is noticed; then nothing is, so the client's sending stalls.
//! 2. Messages are given to the write buffer only once it has been flushed, a few at a time. While
//!    the client takes nothing, calls go on, and events wait in their subscription.
//! 3. A pong that cannot go out is memory that the client makes us hold, so after a few nothing is
//!    read until they have.
//! 4. No user code runs after a panic of it.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use futures_util::{Sink, stream::FuturesUnordered};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::{Instant, Sleep, sleep_until, timeout_at},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error as WireError, Message as Wire,
        error::ProtocolError,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::{
    WsMessage,
    heartbeat::{Beat, Heartbeat},
    metered::Metered,
};
use crate::{due, panic};

/// What a socket's messages mean; knows the module's types, which the session does not.
pub(super) trait Conversation: Send {
    /// Begins to deal with a message of the client's.
    fn begin(&self, message: WsMessage) -> Step;
}

/// What follows from a message.
pub(super) enum Step {
    /// It is under way.
    Call(Call),
    /// It is answered at once.
    Answer(WsMessage),
    Close(Close),
}

/// A message that is under way; resolves with what the client is to be sent.
pub(super) type Call = Pin<Box<dyn Future<Output = Result<Option<WsMessage>, Close>> + Send>>;

/// What is sent without being asked for; ends when there will be no more.
pub(super) type Events = Pin<Box<dyn Stream<Item = Result<WsMessage, Close>> + Send>>;

/// Why a socket is closed (RFC 6455 7.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Close {
    code: CloseCode,
    reason: String,
}

/// How a session behaves.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) ping_every: Duration,
    pub(super) pings_missed_max: u32,
    pub(super) message_limit: usize,
    pub(super) calls_max: usize,
    pub(super) write_timeout: Duration,
    pub(super) close_timeout: Duration,
}

/// A session under way.
struct Session<T> {
    wire: WebSocketStream<Metered<T>>,
    settings: Settings,
    conversation: Box<dyn Conversation>,
    calls: FuturesUnordered<Call>,
    answers: VecDeque<WsMessage>,
    /// Read while as many were under way as may be.
    ahead: Option<WsMessage>,
    /// Pings that were read since everything was written out.
    pings: usize,
    events: Option<Events>,
    draining: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// How many more events may go out before the socket is closed.
    last_events: Option<usize>,
    heartbeat: Heartbeat,
    /// Since when the client has taken nothing of what waits to be written.
    stalled_since: Option<Instant>,
    /// What the transport had counted when it was last looked at.
    read: u64,
    written: u64,
    alarm: Pin<Box<Sleep>>,
}

/// How a session is over.
enum End {
    /// The client is gone, or as good as.
    Gone,
    /// The client has closed, and waits for the same from us.
    Closed,
    /// We close.
    Close(Close),
}

/// Serves a socket to its end.
///
/// # Cancel safety
///
/// Dropping the future cuts the connection.
pub(super) async fn run<T>(
    io: T,
    settings: Settings,
    conversation: Box<dyn Conversation>,
    events: Option<Events>,
    draining: Pin<Box<dyn Future<Output = ()> + Send>>,
) where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .max_message_size(Some(settings.message_limit))
        .max_frame_size(Some(settings.message_limit));
    let io = Metered::new(io);
    let wire = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    let now = Instant::now();
    let heartbeat = Heartbeat::new(now, settings.ping_every, settings.pings_missed_max);
    let mut session = Session {
        wire,
        alarm: Box::pin(sleep_until(heartbeat.due())),
        heartbeat,
        settings,
        conversation,
        calls: FuturesUnordered::new(),
        answers: VecDeque::new(),
        ahead: None,
        pings: 0,
        events,
        draining: Some(draining),
        last_events: None,
        stalled_since: None,
        read: 0,
        written: 0,
    };
    let end = poll_fn(|cx| {
        // Unwind safe: what has panicked is given up, and not polled again.
        catch_unwind(AssertUnwindSafe(|| session.poll(cx))).unwrap_or_else(|payload| {
            let panic = panic::text(&*payload);
            tracing::warn!(panic, "the codec of a WebSocket panicked");
            Poll::Ready(End::Close(Close::fault()))
        })
    })
    .await;
    let Session {
        wire,
        settings,
        conversation,
        calls,
        events,
        ..
    } = session;
    // Nobody waits for these any more, however long the goodbye takes.
    drop((conversation, calls, events));
    let close = match end {
        End::Gone => return,
        End::Closed => None,
        End::Close(close) => Some(close),
    };
    say_goodbye(wire, close, settings.close_timeout).await;
}

// === impl Session ===

impl<T: AsyncRead + AsyncWrite + Unpin> Session<T> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            let now = Instant::now();
            let is_flushed = match Pin::new(&mut self.wire).poll_flush(cx) {
                Poll::Ready(Ok(())) => {
                    self.stalled_since = None;
                    self.pings = 0;
                    true
                }
                Poll::Ready(Err(_)) => return Poll::Ready(End::Gone),
                Poll::Pending => {
                    let written = self.wire.get_ref().written();
                    if std::mem::replace(&mut self.written, written) != written {
                        self.stalled_since = None;
                    }
                    self.stalled_since.get_or_insert(now);
                    false
                }
            };
            if let Some(draining) = &mut self.draining
                && draining.as_mut().poll(cx).is_ready()
            {
                self.draining = None;
                self.last_events = Some(LAST_EVENTS);
            }
            let mut has_moved = false;
            while let Poll::Ready(Some(ended)) = Pin::new(&mut self.calls).poll_next(cx) {
                has_moved = true;
                match ended {
                    Ok(answer) => self.answers.extend(answer),
                    Err(close) => return Poll::Ready(End::Close(close)),
                }
            }
            if is_flushed {
                match self.write_some(cx) {
                    Ok(has_written) => has_moved |= has_written,
                    Err(end) => return Poll::Ready(end),
                }
                if !has_moved && self.last_events.is_some() && self.calls.is_empty() {
                    return Poll::Ready(End::Close(Close::going_away()));
                }
            }
            if self.has_room()
                && let Some(message) = self.ahead.take()
            {
                has_moved = true;
                if let Err(end) = self.begin(message) {
                    return Poll::Ready(end);
                }
            }
            if self.is_listening() {
                let read = Pin::new(&mut self.wire).poll_next(cx);
                let bytes = self.wire.get_ref().read();
                if std::mem::replace(&mut self.read, bytes) != bytes {
                    self.heartbeat.heard();
                }
                if let Poll::Ready(read) = read {
                    has_moved = true;
                    if let Err(end) = self.read(read) {
                        return Poll::Ready(end);
                    }
                }
            }
            match self.poll_alarm(cx, now) {
                Poll::Ready(Ok(())) => has_moved = true,
                Poll::Ready(Err(end)) => return Poll::Ready(end),
                Poll::Pending => {}
            }
            if !has_moved {
                return Poll::Pending;
            }
        }
    }

    /// Whether what the client says is wanted now.
    fn is_listening(&self) -> bool {
        self.last_events.is_none() && self.ahead.is_none() && self.pings < PINGS_AT_ONCE
    }

    /// Whether one more message may be under way.
    fn has_room(&self) -> bool {
        self.last_events.is_none()
            && self.calls.len() + self.answers.len() < self.settings.calls_max
    }

    /// Deals with what was read.
    fn read(&mut self, read: Option<Result<Wire, WireError>>) -> Result<(), End> {
        let wire = match read {
            Some(Ok(Wire::Close(_))) => return Err(End::Closed),
            None => return Err(End::Gone),
            Some(Ok(wire)) => wire,
            Some(Err(error)) => return Err(End::of(&error)),
        };
        self.pings += usize::from(wire.is_ping());
        match WsMessage::from_wire(wire) {
            Some(message) if self.has_room() => self.begin(message),
            message => {
                self.ahead = message;
                Ok(())
            }
        }
    }

    fn begin(&mut self, message: WsMessage) -> Result<(), End> {
        match self.conversation.begin(message) {
            Step::Call(call) => self.calls.push(call),
            Step::Answer(answer) => self.answers.push_back(answer),
            Step::Close(close) => return Err(End::Close(close)),
        }
        Ok(())
    }

    /// Gives the write buffer some answers and events; tells whether there were any.
    fn write_some(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let mut bytes = 0;
        let mut has_written = false;
        while bytes < WRITE_AT_ONCE {
            let message = match self.answers.pop_front() {
                Some(answer) => answer,
                None => match self.next_event(cx)? {
                    Some(event) => event,
                    None => break,
                },
            };
            bytes += message.len() + FRAME_BYTES;
            has_written = true;
            self.send(message.into_wire())?;
        }
        Ok(has_written)
    }

    fn next_event(&mut self, cx: &mut Context<'_>) -> Result<Option<WsMessage>, End> {
        let Some(events) = &mut self.events else {
            return Ok(None);
        };
        if self.last_events == Some(0) {
            return Ok(None);
        }
        match events.as_mut().poll_next(cx) {
            Poll::Ready(Some(Ok(event))) => {
                if let Some(left) = &mut self.last_events {
                    *left -= 1;
                }
                Ok(Some(event))
            }
            Poll::Ready(Some(Err(close))) => Err(End::Close(close)),
            Poll::Ready(None) => {
                self.events = None;
                Ok(None)
            }
            Poll::Pending => Ok(None),
        }
    }

    fn send(&mut self, wire: Wire) -> Result<(), End> {
        let sent = Pin::new(&mut self.wire).start_send(wire);
        sent.map_err(|_| End::Gone)
    }

    /// Pings, and ends what has gone on for too long.
    fn poll_alarm(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Result<(), End>> {
        let stalled = self.stalled_since;
        let cut = stalled.map(|since| due::after(since, self.settings.write_timeout));
        let ping = self.heartbeat.due();
        let next = cut.map_or(ping, |cut| cut.min(ping));
        if self.alarm.deadline() != next {
            self.alarm.as_mut().reset(next);
        }
        if self.alarm.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        if cut.is_some_and(|cut| cut <= now) {
            tracing::debug!("the client of a WebSocket takes nothing");
            return Poll::Ready(Err(End::Gone));
        }
        if ping > now {
            return Poll::Ready(Ok(()));
        }
        // A ping that cannot go out would say nothing.
        let listens = self.is_listening() && stalled.is_none();
        match self.heartbeat.beat(now, listens) {
            Beat::Dead => {
                tracing::debug!("the client of a WebSocket answers no pings");
                Poll::Ready(Err(End::Gone))
            }
            Beat::Ping if stalled.is_some() => Poll::Ready(Ok(())),
            Beat::Ping => Poll::Ready(self.send(Wire::Ping(Vec::new().into()))),
        }
    }
}

// === impl End ===

impl End {
    /// What is said to a client that has broken the protocol.
    fn of(error: &WireError) -> Self {
        let (code, reason) = match error {
            WireError::Capacity(_) => (CloseCode::Size, "message is too large"),
            WireError::Utf8(_) => (CloseCode::Invalid, "text is not UTF-8"),
            WireError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => return Self::Gone,
            WireError::Protocol(_) | WireError::AttackAttempt => {
                (CloseCode::Protocol, "protocol violation")
            }
            _ => return Self::Gone,
        };
        Self::Close(Close::new(code, reason))
    }
}

// === impl Close ===

impl Close {
    /// 1001
    fn going_away() -> Self {
        Self::new(CloseCode::Away, "server is shutting down")
    }

    /// 1003
    pub(super) fn unsupported(reason: &str) -> Self {
        Self::new(CloseCode::Unsupported, reason)
    }

    /// 1007
    pub(super) fn malformed(reason: &str) -> Self {
        Self::new(CloseCode::Invalid, reason)
    }

    /// 1011
    pub(super) fn fault() -> Self {
        Self::new(CloseCode::Error, "internal error")
    }

    /// 1013
    pub(super) fn too_slow() -> Self {
        Self::new(CloseCode::Again, "too slow for its events")
    }

    fn new(code: CloseCode, reason: &str) -> Self {
        let end = (0..=reason.len().min(REASON_BYTES_MAX))
            .rev()
            .find(|end| reason.is_char_boundary(*end));
        let reason = reason[..end.unwrap_or(0)].to_owned();
        Self { code, reason }
    }
}

/// Closes: says why, if it is we who close, and hears the client out for a while, so that what is said is not lost with a
/// connection that is reset under unread bytes.
async fn say_goodbye<T>(mut wire: WebSocketStream<T>, close: Option<Close>, within: Duration)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let deadline = due::after(Instant::now(), within);
    let mut has_closed = close.is_none();
    let goodbye = async {
        if let Some(Close { code, reason }) = close {
            tracing::debug!(%code, reason, "closing a WebSocket");
            let reason = reason.into();
            if wire.close(Some(CloseFrame { code, reason })).await.is_err() {
                return;
            }
        }
        // Flushes what was written, and the answer to the client's close.
        while let Some(Ok(heard)) = poll_fn(|cx| Pin::new(&mut wire).poll_next(cx)).await {
            has_closed |= matches!(heard, Wire::Close(_));
        }
        let socket = wire.get_mut();
        if socket.shutdown().await.is_err() || has_closed {
            return;
        }
        // Whoever broke the protocol is no longer understood, and may write still.
        let mut scrap = [0; 1024];
        while let Ok(1..) = socket.read(&mut scrap).await {}
    };
    let _ = timeout_at(deadline, goodbye).await;
}

/// Allocated for each socket, so small; larger messages make it grow.
const READ_BUFFER: usize = 4 * 1024;

/// Written before the next look at what else there is to do.
const WRITE_AT_ONCE: usize = 64 * 1024;

/// What a message takes beside its own bytes, at most; so empty ones count, too.
const FRAME_BYTES: usize = 10;

/// As much as a backlog usually has, and little enough to be sent while a server stops.
const LAST_EVENTS: usize = 256;

/// Pings answered before the answers must have gone out: more than anybody has under way.
const PINGS_AT_ONCE: usize = 32;

/// What fits into a control frame beside the code.
const REASON_BYTES_MAX: usize = 123;

#[cfg(test)]
mod tests;
