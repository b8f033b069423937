//! The body type of requests and answers alike.

#[cfg(feature = "http2")]
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{
    any::Any,
    cell::Cell,
    error::Error,
    fmt,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;

use crate::{ErrorAnswer, panic};

mod receive;
mod stream;

pub(crate) use receive::{Announced, BodyLimits};
pub use receive::{BodyStream, ReceiveError};

/// The body of an [`Answer`](crate::Answer), and of a request as
/// [`HttpServer`](crate::HttpServer) hands it to its service.
///
/// Made from text or bytes with `From`, or of a [stream](Self::stream). It implements [`http_body::Body`], so
/// tower services of other crates, an axum `Router` among them, take and return it. It is `Send`
/// and, so that any stream can become one, not `Sync`.
///
/// ```
/// use http_body::Body as _;
/// use spark_http::Body;
///
/// assert_eq!(Body::from("hello").size_hint().exact(), Some(5));
/// ```
#[derive(Default)]
pub struct Body(Inner, NotSync);

/// The body could not be read to its end: the client left, broke the protocol,
/// or the transport failed.
#[derive(Debug, thiserror::Error)]
#[error("body ended early")]
pub struct BodyError {
    #[source]
    source: Box<dyn Error + Send + Sync>,
}

/// Streams that come may not be `Sync`, and a body is read by one reader anyway.
type NotSync = PhantomData<Cell<()>>;

#[derive(Default)]
enum Inner {
    #[default]
    Empty,
    Full(Bytes),
    Incoming(Received),
    Foreign(Foreign),
}

/// A body of another type.
type Foreign = Pin<Box<dyn http_body::Body<Data = Bytes, Error = BodyError> + Send>>;

pin_project! {
    /// A body of another type, with our data and our error.
    struct Wrapped<B> {
        #[pin]
        body: B,
        panicked: bool,
    }
}

/// User code that makes a body panicked; the text is in the log.
#[derive(Debug, thiserror::Error)]
#[error("the body panicked")]
struct Panicked;

pin_project! {
    /// A body and what it needs until its end.
    struct Holding<T> {
        #[pin]
        body: Body,
        held: Option<T>,
    }
}

/// A body that comes from a connection.
struct Received {
    /// There until it is dropped.
    body: Option<Incoming>,
    /// The end was seen: hyper does not say it again of a body without a length.
    ended: bool,
    unread: Arc<Unread>,
}

/// What is known of a body that was dropped before its end. One pointer to it is all that a request
/// carries.
#[derive(Default)]
pub(crate) struct Unread {
    is_noted: AtomicBool,
    #[cfg(feature = "http2")]
    rest: Mutex<Rest>,
}

/// The rest of a body that nobody reads.
#[cfg(feature = "http2")]
#[derive(Default)]
enum Rest {
    /// Nobody will ask for it.
    #[default]
    Unwanted,
    /// It is kept, for whoever knows how its client is told to stop.
    None,
    Some(Incoming),
}

// === impl Body ===

impl Body {
    /// A body without a byte.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// A body from a connection, which learns from `unread` that bytes were left over.
    pub(crate) fn incoming(body: Incoming, unread: Arc<Unread>) -> Self {
        let (body, ended) = (Some(body), false);
        Self::new(Inner::Incoming(Received {
            body,
            ended,
            unread,
        }))
    }

    /// A body of any type, as it comes.
    pub(crate) fn wrap<B>(body: B) -> Self
    where
        B: http_body::Body + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let mut body = Some(body);
        // Usually it is one of ours already.
        if let Some(own) = (&mut body as &mut dyn Any).downcast_mut::<Option<Self>>() {
            return own.take().unwrap_or_default();
        }
        match body {
            Some(body) => Self::foreign(Wrapped {
                body,
                panicked: false,
            }),
            None => Self::empty(),
        }
    }

    fn foreign(
        body: impl http_body::Body<Data = Bytes, Error = BodyError> + Send + 'static,
    ) -> Self {
        Self::new(Inner::Foreign(Box::pin(body)))
    }

    /// Keeps `held` until the body is at its end, or dropped. A body that is complete already needs
    /// nothing any more.
    pub(crate) fn holding<T: Send + 'static>(self, held: T) -> Self {
        match self.0 {
            Inner::Empty | Inner::Full(_) => self,
            Inner::Incoming(_) | Inner::Foreign(_) => {
                let held = Some(held);
                Self::foreign(Holding { body: self, held })
            }
        }
    }

    const fn new(inner: Inner) -> Self {
        Self(inner, PhantomData)
    }

    /// The bytes of a body that is in memory.
    pub(crate) fn into_bytes(self) -> Bytes {
        match self.0 {
            Inner::Full(bytes) => bytes,
            Inner::Empty | Inner::Incoming(_) | Inner::Foreign(_) => Bytes::new(),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Inner::Empty => Poll::Ready(None),
            Inner::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Inner::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Inner::Incoming(received) => {
                let Some(body) = &mut received.body else {
                    return Poll::Ready(None);
                };
                let frame = ready!(Pin::new(body).poll_frame(cx));
                received.ended = frame.is_none();
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::new)))
            }
            Inner::Foreign(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Empty => true,
            Inner::Full(_) => false,
            Inner::Incoming(received) => received.is_end_stream(),
            Inner::Foreign(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Empty => SizeHint::with_exact(0),
            Inner::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Incoming(received) => {
                let body = received.body.as_ref();
                body.map_or_else(SizeHint::default, http_body::Body::size_hint)
            }
            Inner::Foreign(body) => body.size_hint(),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() {
            Self::empty()
        } else {
            Self::new(Inner::Full(bytes))
        }
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.0 {
            Inner::Empty => "empty",
            Inner::Full(_) => "full",
            Inner::Incoming(_) => "incoming",
            Inner::Foreign(_) => "foreign",
        };
        f.debug_tuple("Body").field(&kind).finish()
    }
}

// === impl BodyError ===

impl BodyError {
    fn new(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            source: source.into(),
        }
    }

    /// 400, as clients leave and networks fail; 500 if it was code on this side.
    pub(crate) fn into_error_answer(self) -> ErrorAnswer {
        if self.source.is::<Panicked>() {
            ErrorAnswer::internal(self.source)
        } else {
            ErrorAnswer::body_cut().with_detail(self.source)
        }
    }
}

// === impl Wrapped ===

impl<B> http_body::Body for Wrapped<B>
where
    B: http_body::Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.project();
        if *this.panicked {
            return Poll::Ready(None);
        }
        let copied = |mut data: B::Data| data.copy_to_bytes(data.remaining());
        let polled = catching(|| {
            this.body.poll_frame(cx).map(|frame| {
                frame.map(|frame| match frame {
                    Ok(frame) => Ok(frame.map_data(copied)),
                    Err(error) => Err(BodyError::new(error)),
                })
            })
        });
        polled.unwrap_or_else(|panicked| {
            *this.panicked = true;
            Poll::Ready(Some(Err(BodyError::new(panicked))))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.panicked || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

// === impl Holding ===

impl<T> http_body::Body for Holding<T> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut this = self.project();
        let frame = ready!(this.body.as_mut().poll_frame(cx));
        // Whoever has the last frame does not always ask whether there is another one.
        if !matches!(frame, Some(Ok(_))) || this.body.is_end_stream() {
            *this.held = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

// === impl Received ===

impl Received {
    fn is_end_stream(&self) -> bool {
        let body = self.body.as_ref();
        body.is_none_or(http_body::Body::is_end_stream)
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        if self.ended || self.is_end_stream() {
            return;
        }
        self.unread.is_noted.store(true, Ordering::Relaxed);
        #[cfg(feature = "http2")]
        self.unread.put(self.body.take());
    }
}

// === impl Unread ===

impl Unread {
    pub(crate) fn is_noted(&self) -> bool {
        self.is_noted.load(Ordering::Relaxed)
    }

    /// Forgets the body before this one.
    pub(crate) fn clear(&self) {
        self.is_noted.store(false, Ordering::Relaxed);
    }
}

#[cfg(feature = "http2")]
impl Unread {
    /// Keeps the rest until somebody takes it.
    pub(crate) fn keeping() -> Self {
        Self {
            rest: Mutex::new(Rest::None),
            ..Self::default()
        }
    }

    /// What there is, and nothing from here on.
    pub(crate) fn take(&self) -> Option<Incoming> {
        match std::mem::replace(&mut *self.lock(), Rest::Unwanted) {
            Rest::Some(body) => Some(body),
            Rest::None | Rest::Unwanted => None,
        }
    }

    fn put(&self, body: Option<Incoming>) {
        let mut rest = self.lock();
        if let (Rest::None, Some(body)) = (&*rest, body) {
            *rest = Rest::Some(body);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Rest> {
        // Nothing that panics runs under it.
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Polls user code, which must not be polled again once it has panicked.
fn catching<T>(poll: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(poll)).map_err(|payload| {
        let panic = panic::text(&*payload);
        tracing::warn!(panic, "what makes a body panicked");
        Panicked
    })
}
