//! A reply that comes item by item, told as events.

use std::{
    fmt,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;
use http::Method;
use spark_channel::{
    ReplyStream, ReplyStreamSender, SparkChannelError, SparkGenericModuleDispatcher,
};

use super::{InvalidSseEvent, KEEP_ALIVE, Sse, SseEvent};
use crate::{
    Context, ErrorAnswer, IntoAnswer, ModuleError, Route,
    route::{Running, WholeTarget},
    seeing::Watched,
};

/// A route that asks a module for each request, and sends the items of its
/// [streamed reply](SparkGenericModuleDispatcher::request_stream) as events; see [`Sse`].
///
/// The producer is at most a buffer ahead of the client. When the client leaves, the reply is
/// dropped, which the producer learns. The request's deadline, and the module's default timeout,
/// hold for the whole reply. While the server drains, the reply goes on to its end.
///
/// What fails before the first item is an error answer with its status; later, it is the
/// event `error`, and the end. A complete reply ends with the event `end`, at which browsers close
/// their `EventSource`: otherwise it would ask again.
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use serde::Deserialize;
/// use spark_channel::{ReplyStreamSender, SparkGenericModuleDispatcher};
/// use spark_http::{Context, ReplyEvents, Route, SseEvent};
///
/// struct Tail { file: String, lines: ReplyStreamSender<String> }
///
/// #[derive(Deserialize)]
/// struct Query { file: String }
///
/// fn route(logs: SparkGenericModuleDispatcher<Tail, ()>) -> Route {
///     Route::reply_events(ReplyEvents::new(
///         logs,
///         |context: &Context, _: Bytes| context.query_as::<Query>(),
///         |Query { file }, lines| Tail { file, lines },
///         |line: String| Ok(SseEvent::new(line)),
///     ))
/// }
/// ```
#[must_use = "a route answers nothing until an ingress has it"]
pub struct ReplyEvents<T, M, R, C, E, D, G, F> {
    target: ReplyTarget<T, M, R, C, E, D, G, F>,
}

struct ReplyTarget<T, M, R, C, E, D, G, F> {
    dispatcher: SparkGenericModuleDispatcher<M, R, C, E>,
    read: D,
    message: G,
    event: Arc<F>,
    keep_alive: Duration,
    items: PhantomData<fn() -> T>,
}

/// A reply whose first item has come.
struct Told<T, E, F> {
    first: Option<T>,
    reply: ReplyStream<T, E>,
    event: Arc<F>,
    ended: bool,
}

// === impl ReplyEvents ===

impl<T, Q, M, R, C, E, D, G, F> ReplyEvents<T, M, R, C, E, D, G, F>
where
    T: Send + 'static,
    Q: Send + 'static,
    M: Send + 'static,
    R: Send + 'static,
    C: Send + 'static,
    E: ModuleError + From<SparkChannelError> + Send + 'static,
    D: Fn(&Context, Bytes) -> Result<Q, ErrorAnswer> + Send + Sync + 'static,
    G: Fn(Q, ReplyStreamSender<T, E>) -> M + Send + Sync + 'static,
    F: Fn(T) -> Result<SseEvent, InvalidSseEvent> + Send + Sync + 'static,
{
    /// `read`s a request, its body included, asks with the `message` that is made of it, and tells
    /// each item by `event`. An item that cannot be told ends the answer, with the event `error`.
    ///
    /// The route answers GET; with [`methods`](Route::methods) it may be another.
    pub fn new(
        dispatcher: SparkGenericModuleDispatcher<M, R, C, E>,
        read: D,
        message: G,
        event: F,
    ) -> Self {
        Self {
            target: ReplyTarget {
                dispatcher,
                read,
                message,
                event: Arc::new(event),
                keep_alive: KEEP_ALIVE,
                items: PhantomData,
            },
        }
    }

    /// As [`Sse::keep_alive`]. Default: 15 s.
    pub fn keep_alive(mut self, after: Duration) -> Self {
        self.target.keep_alive = after;
        self
    }

    pub(crate) fn into_route(self) -> Route {
        let watched = Watched::new(self.target.dispatcher.downgrade());
        let route = Route::whole(self.target).watching(watched);
        route.methods([Method::GET])
    }
}

impl<T, M, R, C, E, D, G, F> fmt::Debug for ReplyEvents<T, M, R, C, E, D, G, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyEvents")
            .field("dispatcher", &self.target.dispatcher)
            .field("keep_alive", &self.target.keep_alive)
            .finish_non_exhaustive()
    }
}

// === impl ReplyTarget ===

impl<T, Q, M, R, C, E, D, G, F> WholeTarget for ReplyTarget<T, M, R, C, E, D, G, F>
where
    T: Send + 'static,
    Q: Send + 'static,
    M: Send + 'static,
    R: Send + 'static,
    C: Send + 'static,
    E: ModuleError + From<SparkChannelError> + Send + 'static,
    D: Fn(&Context, Bytes) -> Result<Q, ErrorAnswer> + Send + Sync + 'static,
    G: Fn(Q, ReplyStreamSender<T, E>) -> M + Send + Sync + 'static,
    F: Fn(T) -> Result<SseEvent, InvalidSseEvent> + Send + Sync + 'static,
{
    fn call(self: Arc<Self>, context: Context, body: Bytes) -> Running {
        Box::pin(async move {
            let read = (self.read)(&context, body)?;
            let message = |items| (self.message)(read, items);
            let mut reply = self.dispatcher.request_stream(message);
            if let Some(deadline) = context.deadline() {
                reply = reply.at_most(deadline);
            }
            let first = reply.next().await.transpose();
            let first = first.map_err(E::into_error_answer)?;
            let told = Told {
                first,
                reply,
                event: Arc::clone(&self.event),
                ended: false,
            };
            let events = Sse::new(&context, told).keep_alive(self.keep_alive);
            events.finish_draining().into_answer()
        })
    }
}

// === impl Told ===

// Nothing is pinned inside of it but what is boxed.
impl<T, E, F> Unpin for Told<T, E, F> {}

impl<T, E, F> Stream for Told<T, E, F>
where
    E: ModuleError + From<SparkChannelError>,
    F: Fn(T) -> Result<SseEvent, InvalidSseEvent>,
{
    type Item = Result<SseEvent, ErrorAnswer>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let item = match self.first.take() {
            Some(first) => Some(Ok(first)),
            None => ready!(Pin::new(&mut self.reply).poll_next(cx)),
        };
        Poll::Ready(Some(match item {
            Some(Ok(item)) => (self.event)(item).map_err(InvalidSseEvent::into_error_answer),
            Some(Err(error)) => Err(error.into_error_answer()),
            None => {
                self.ended = true;
                Ok(SseEvent::new("").of_kind("end"))
            }
        }))
    }
}
