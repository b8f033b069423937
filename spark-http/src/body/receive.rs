//! The body of a request, as it comes in.

use std::{
    error::Error,
    fmt,
    future::{Future as _, poll_fn},
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;
use http::{HeaderMap, HeaderValue, header::CONTENT_LENGTH};
use http_body::{Body as _, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::BodyError;
use crate::{Body, ErrorAnswer, ModuleError, due};

/// A request's body, chunk by chunk: what a [streaming route](crate::Route::streaming) hands to
/// its handler.
///
/// The body is complete once [`chunk`](Self::chunk) has returned `Ok(None)`, and only then: a client
/// that leaves in the middle, or breaks the protocol, is an error. Also a [`Stream`], which ends
/// after its first error.
///
/// It holds one chunk at a time; the client waits, by its transport's flow control, while nobody
/// asks for the next. Dropping it before its end is fine: the answer goes out, and the connection
/// closes after it.
pub struct BodyStream {
    body: Body,
    limits: BodyLimits,
    announced: Option<u64>,
    received: u64,
    /// Runs while somebody waits for a chunk.
    timer: Option<Pin<Box<Sleep>>>,
    ended: bool,
    complete: Arc<AtomicBool>,
}

/// Error of a [`BodyStream`]: the rest of the body cannot be had.
///
/// Passed on from a handler by `?` it is the answer the error table has for it, and
/// [`io::Error`] can be made of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The body is larger than its route allows (413). What was received before is within.
    #[error("body is larger than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The next chunk did not come in time (408).
    #[error("body came too slowly")]
    TooSlow,
    /// The body ended early: the client left, or broke the protocol (400).
    #[error("body ended early")]
    Cut {
        /// What the connection said, if anything.
        source: Option<Box<dyn Error + Send + Sync>>,
    },
}

/// What a body may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyLimits {
    pub(crate) bytes: usize,
    /// For the whole body if it is collected, for each chunk if it is not.
    pub(crate) timeout: Duration,
}

/// What is known of a body before it is read.
pub(crate) struct Announced {
    /// What the request's head says.
    pub(crate) length: Option<u64>,
    /// What there will be at least.
    pub(crate) least: u64,
}

// === impl BodyLimits ===

impl BodyLimits {
    /// # Errors
    ///
    /// 413 if what is announced is more than the limit, 400 if it is no number.
    pub(crate) fn check(
        self,
        headers: &HeaderMap,
        hint: SizeHint,
    ) -> Result<Announced, ErrorAnswer> {
        let length = announced(headers)?;
        let least = length.unwrap_or_default().max(hint.lower());
        if usize::try_from(least).map_or(true, |least| least > self.bytes) {
            return Err(ErrorAnswer::body_too_large(self.bytes));
        }
        Ok(Announced { length, least })
    }
}

// === impl BodyStream ===

impl BodyStream {
    /// # Errors
    ///
    /// 413 if the head announces more than the limit, 400 if what it announces is no number.
    pub(crate) fn new(
        body: Body,
        headers: &HeaderMap,
        limits: BodyLimits,
    ) -> Result<Self, ErrorAnswer> {
        let Announced { length, least } = limits.check(headers, body.size_hint())?;
        let ended = body.is_end_stream() && least == 0;
        Ok(Self {
            body,
            limits,
            announced: length,
            received: 0,
            timer: None,
            ended,
            complete: Arc::new(AtomicBool::new(ended)),
        })
    }

    /// Receives the next chunk, which is not empty; `None` at the end of the body.
    ///
    /// # Errors
    ///
    /// [`ReceiveError`], once; `None` from then on.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no chunk is lost, and the time that was waited counts on.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ReceiveError> {
        poll_fn(|cx| self.poll_chunk(cx)).await.transpose()
    }

    /// How many bytes the body has, if the client announced it and it is true.
    #[must_use]
    pub fn announced(&self) -> Option<u64> {
        self.announced
    }

    /// How many bytes have come out of here so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Tells whether the body was read to its end, whatever became of this.
    pub(crate) fn completion(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.complete)
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ReceiveError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let chunk = ready!(self.poll_next_chunk(cx));
        self.timer = None;
        self.ended = !matches!(chunk, Some(Ok(_)));
        if chunk.is_none() {
            self.complete.store(true, Ordering::Relaxed);
        }
        Poll::Ready(chunk)
    }

    fn poll_next_chunk(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, ReceiveError>>> {
        loop {
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
                let within = self.limits.timeout;
                let timer = self.timer.get_or_insert_with(|| {
                    Box::pin(sleep_until(due::after(Instant::now(), within)))
                });
                ready!(timer.as_mut().poll(cx));
                return Poll::Ready(Some(Err(ReceiveError::TooSlow)));
            };
            return Poll::Ready(match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => Some(self.count(data)),
                    // Trailers have no meaning here.
                    _ => continue,
                },
                Some(Err(error)) => {
                    let source = Some(error.into());
                    Some(Err(ReceiveError::Cut { source }))
                }
                // hyper checks this itself; whoever else calls the service may not.
                None if self.announced.is_some_and(|bytes| bytes != self.received) => {
                    Some(Err(ReceiveError::Cut { source: None }))
                }
                None => None,
            });
        }
    }

    fn count(&mut self, data: Bytes) -> Result<Bytes, ReceiveError> {
        self.received += data.len() as u64;
        let limit = self.limits.bytes;
        if usize::try_from(self.received).map_or(true, |received| received > limit) {
            return Err(ReceiveError::TooLarge { limit });
        }
        Ok(data)
    }
}

impl Stream for BodyStream {
    type Item = Result<Bytes, ReceiveError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_chunk(cx)
    }
}

impl fmt::Debug for BodyStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyStream")
            .field("announced", &self.announced)
            .field("received", &self.received)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

// === impl ReceiveError ===

impl ModuleError for ReceiveError {
    fn into_error_answer(self) -> ErrorAnswer {
        match self {
            Self::TooLarge { limit } => ErrorAnswer::body_too_large(limit),
            Self::TooSlow => ErrorAnswer::body_too_slow(),
            Self::Cut { source: None } => ErrorAnswer::body_cut(),
            Self::Cut {
                source: Some(source),
            } => match source.downcast::<BodyError>() {
                Ok(error) => error.into_error_answer(),
                Err(source) => ErrorAnswer::body_cut().with_detail(source),
            },
        }
    }
}

impl From<ReceiveError> for io::Error {
    fn from(error: ReceiveError) -> Self {
        let kind = match &error {
            ReceiveError::TooLarge { .. } => io::ErrorKind::FileTooLarge,
            ReceiveError::TooSlow => io::ErrorKind::TimedOut,
            ReceiveError::Cut { .. } => io::ErrorKind::UnexpectedEof,
        };
        Self::new(kind, error)
    }
}

/// The length that a request's head announces.
fn announced(headers: &HeaderMap) -> Result<Option<u64>, ErrorAnswer> {
    let mut said = None;
    for length in headers.get_all(CONTENT_LENGTH) {
        let length = number(length).ok_or_else(ErrorAnswer::bad_content_length)?;
        // Two lengths are two requests to two readers (RFC 9112 6.3).
        if said.replace(length).is_some_and(|other| other != length) {
            return Err(ErrorAnswer::bad_content_length());
        }
    }
    Ok(said)
}

/// Digits and nothing else; `parse` alone would take a sign.
fn number(text: &HeaderValue) -> Option<u64> {
    let text = text.to_str().ok()?;
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok())?
}
