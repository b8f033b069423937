//! Server-sent events: a stream of events as the body of an answer.

use std::{
    future::Future,
    pin::Pin,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;
use http::{
    HeaderName, HeaderValue,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use pin_project_lite::pin_project;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep, sleep_until},
};

use crate::{Answer, Body, Context, Draining, ErrorAnswer, IntoAnswer, ModuleError, due};

mod event;
mod reply;
mod topic;

pub use event::{InvalidSseEvent, SseEvent};
pub use reply::ReplyEvents;
pub use topic::TopicEvents;

/// An answer that is a stream of [server-sent events], for a handler function of one's own.
///
/// Most routes need none: [`TopicEvents`] and [`ReplyEvents`] make them of a topic and of a
/// streamed reply.
///
/// An event is sent as soon as it comes. While none comes, a comment goes out every
/// [`keep_alive`](Self::keep_alive), so that proxies keep the connection and a client that is gone
/// is noticed. What waits for a slow client waits in the stream: a write buffer is all
/// that is held here. The stream is dropped as soon as the client leaves.
///
/// At the server's drain the answer ends: events that are there already go out (256 at most),
/// then the comment `: draining`, and a clean end. The handler timeout ends with the head of the
/// answer. An error in the stream becomes the event `error`, whose data is the JSON of the
/// [error table](crate#errors), and is the end.
///
/// As with any answer, the request is in flight, and holds its permits, until this is complete; the
/// clients of [`TopicEvents`] are counted by themselves instead.
///
/// [server-sent events]: https://html.spec.whatwg.org/multipage/server-sent-events.html
///
/// # Examples
///
/// What a client has missed, then what comes:
///
/// ```
/// use futures_util::{StreamExt as _, stream};
/// use http::Method;
/// use spark_channel::{Backlog, Topic};
/// use spark_http::{Context, InvalidSseEvent, Route, Sse, SseEvent};
///
/// fn event(number: u64) -> Result<SseEvent, InvalidSseEvent> {
///     SseEvent::new(number.to_string()).id(number.to_string())
/// }
///
/// fn numbers(topic: Topic<u64>, missed: impl Fn(u64) -> Vec<u64> + Send + Sync + 'static) -> Route {
///     Route::handler_fn(move |context: Context, _| {
///         let seen = context.last_event_id().and_then(|id| id.parse().ok());
///         let live = topic.subscribe(Backlog::drop_oldest(64)); // before looking back
///         let missed = stream::iter(seen.map(&missed).unwrap_or_default());
///         let events = Sse::new(&context, missed.chain(live).map(event));
///         async move { events }
///     })
///     .methods([Method::GET])
/// }
/// ```
#[derive(Debug)]
#[must_use = "events are sent once the answer is returned"]
pub struct Sse<S> {
    events: S,
    keep_alive: Duration,
    retry: Option<Duration>,
    draining: Option<Draining>,
    client: Option<OwnedSemaphorePermit>,
}

pin_project! {
    /// Events as they go over the wire.
    struct Encoded<S> {
        #[pin]
        events: S,
        keep_alive: Duration,
        silence: Pin<Box<Sleep>>,
        draining: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
        phase: Phase,
        // One of the route's clients for as long as this is there.
        _client: Option<OwnedSemaphorePermit>,
    }
}

enum Phase {
    /// Nothing has been sent; what begins the stream.
    Fresh(Option<Duration>),
    Open,
    /// The server drains; how many more events may go out.
    Draining {
        left: usize,
    },
    Ended,
}

// === impl Sse ===

impl<S> Sse<S> {
    /// Makes an answer to the request of `context`.
    pub fn new(context: &Context, events: S) -> Self {
        Self {
            events,
            keep_alive: KEEP_ALIVE,
            retry: None,
            draining: context.extensions().get().cloned(),
            client: None,
        }
    }

    /// How long nothing is sent before a comment is. Default: 15 s, half of what common proxies
    /// allow. `Duration::MAX` is never; what is shorter than a second is a second.
    ///
    /// A larger value notices later that a client is gone.
    pub fn keep_alive(mut self, after: Duration) -> Self {
        self.keep_alive = after;
        self
    }

    /// Tells clients how long to wait before they connect again. Default: their own choice, usually
    /// some seconds.
    pub fn retry(mut self, after: Duration) -> Self {
        self.retry = Some(after);
        self
    }

    /// Goes on to the stream's own end while the server drains, within its deadline: for streams
    /// that have one.
    pub fn finish_draining(mut self) -> Self {
        self.draining = None;
        self
    }

    fn of_client(mut self, client: OwnedSemaphorePermit) -> Self {
        self.client = Some(client);
        self
    }
}

impl<S, E> IntoAnswer for Sse<S>
where
    S: Stream<Item = Result<SseEvent, E>> + Send + 'static,
    E: ModuleError + 'static,
{
    fn into_answer(self) -> Result<Answer, ErrorAnswer> {
        let draining = self.draining.map(|draining| {
            let begun = async move { draining.begun().await };
            Box::pin(begun) as Pin<Box<dyn Future<Output = ()> + Send>>
        });
        let keep_alive = self.keep_alive.max(KEEP_ALIVE_MIN);
        let silence = due::after(Instant::now(), keep_alive);
        let body = Body::stream(Encoded {
            events: self.events,
            keep_alive,
            silence: Box::pin(sleep_until(silence)),
            draining,
            phase: Phase::Fresh(self.retry),
            _client: self.client,
        });
        let mut answer = Answer::new(body);
        let headers = answer.headers_mut();
        let event_stream = HeaderValue::from_static("text/event-stream");
        headers.insert(CONTENT_TYPE, event_stream);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // What nginx needs to hear; it would collect events otherwise.
        headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
        Ok(answer)
    }
}

// === impl Encoded ===

impl<S, E> Stream for Encoded<S>
where
    S: Stream<Item = Result<SseEvent, E>>,
    E: ModuleError,
{
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        let this = self.project();
        match this.phase {
            Phase::Ended => return Poll::Ready(None),
            Phase::Fresh(retry) => {
                // Something, so that the client sees an open stream before the first event.
                let hello = SseEvent::comment("").retry_after(retry.take());
                *this.phase = Phase::Open;
                return Poll::Ready(Some(Ok(hello.encode())));
            }
            Phase::Open | Phase::Draining { .. } => {}
        }
        if let Some(draining) = this.draining
            && draining.as_mut().poll(cx).is_ready()
        {
            *this.draining = None;
            *this.phase = Phase::Draining { left: LAST_EVENTS };
        }
        if let Phase::Draining { left: 0 } = this.phase {
            *this.phase = Phase::Ended;
            return Poll::Ready(Some(Ok(SseEvent::comment("draining").encode())));
        }
        let bytes = match this.events.poll_next(cx) {
            Poll::Ready(Some(Ok(event))) => {
                if let Phase::Draining { left } = this.phase {
                    *left -= 1;
                }
                event.encode()
            }
            Poll::Ready(Some(Err(error))) => {
                *this.phase = Phase::Ended;
                failure(error.into_error_answer()).encode()
            }
            Poll::Ready(None) => {
                *this.phase = Phase::Ended;
                return Poll::Ready(None);
            }
            Poll::Pending => match this.phase {
                Phase::Draining { .. } => {
                    *this.phase = Phase::Ended;
                    SseEvent::comment("draining").encode()
                }
                _ if this.silence.as_mut().poll(cx).is_ready() => SseEvent::comment("").encode(),
                _ => return Poll::Pending,
            },
        };
        let silence = due::after(Instant::now(), *this.keep_alive);
        this.silence.as_mut().reset(silence);
        Poll::Ready(Some(Ok(bytes)))
    }
}

/// The event for an error that comes too late for a status.
fn failure(error: ErrorAnswer) -> SseEvent {
    if error.is_fault() {
        let (message, detail) = (error.message(), error.detail());
        tracing::warn!(message, detail, "a stream of events failed");
    }
    let json = error.into_response().into_body().into_bytes();
    SseEvent::new(String::from_utf8_lossy(&json)).of_kind("error")
}

const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// With none, for which zero could be meant, comments would go out as fast as the client takes them.
const KEEP_ALIVE_MIN: Duration = Duration::from_secs(1);

/// As much as a backlog usually has, and little enough to be sent while a server stops.
const LAST_EVENTS: usize = 256;

const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
