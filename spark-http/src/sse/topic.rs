//! A topic's events, for every client that asks.

use std::{
    fmt,
    num::NonZeroUsize,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;
use http::Method;
use spark_channel::{Backlog, Subscription, Topic};
use tokio::sync::Semaphore;

use super::{InvalidSseEvent, KEEP_ALIVE, Sse, SseEvent};
use crate::{
    Context, ErrorAnswer, IntoAnswer, Route,
    permits::RouteLimit,
    route::{Running, WholeTarget},
};

/// A route that sends each client what is published to a [`Topic`] from then on; see [`Sse`].
///
/// Each client has a subscription of its own. What waits for a slow one waits in its backlog, whose
/// policy decides what happens at the bound: with [`Backlog::wait`] a slow client slows the
/// publishers down, so prefer the others for clients one does not know. When the client leaves,
/// its subscription is dropped at once.
///
/// The answer ends with the topic, and with a subscription that was too slow. A topic that is
/// closed already answers 204, which tells browsers not to come back. The route keeps the topic
/// open: as long as it is there, only [`Topic::close`] closes it.
///
/// A client takes no permit of the [limit on requests in flight](crate::IngressBuilder::max_in_flight):
/// it would hold it for hours. [`clients_max`](Self::clients_max) is the bound instead.
///
/// # Examples
///
/// ```
/// use spark_channel::{Backlog, Topic};
/// use spark_http::{ConfigError, Ingress, Route, SseEvent, TopicEvents};
///
/// fn ingress(prices: Topic<u32>) -> Result<Ingress, ConfigError> {
///     let prices = TopicEvents::new(
///         prices,
///         || Backlog::drop_oldest(64),
///         |price| SseEvent::json(&price)?.name("price"),
///     );
///     Ingress::builder().route("prices", Route::topic_events(prices)).build()
/// }
/// ```
#[must_use = "a route answers nothing until an ingress has it"]
pub struct TopicEvents<T, B, F> {
    topic: Topic<T>,
    backlog: B,
    event: F,
    keep_alive: Duration,
    retry: Option<Duration>,
    clients_max: NonZeroUsize,
}

struct TopicTarget<T, B, F> {
    topic: Topic<T>,
    backlog: B,
    event: Arc<F>,
    keep_alive: Duration,
    retry: Option<Duration>,
    clients: Arc<Semaphore>,
}

/// A subscription whose events are being told.
struct Told<T, F> {
    subscription: Subscription<T>,
    event: Arc<F>,
}

// === impl TopicEvents ===

impl<T, B, F> TopicEvents<T, B, F>
where
    T: Clone + Send + 'static,
    B: Fn() -> Backlog<T> + Send + Sync + 'static,
    F: Fn(T) -> Result<SseEvent, InvalidSseEvent> + Send + Sync + 'static,
{
    /// Sends the events of `topic` as `event` tells them, through a `backlog` for each client.
    ///
    /// An event that cannot be told ends the answer, with the event `error`.
    pub fn new(topic: Topic<T>, backlog: B, event: F) -> Self {
        Self {
            topic,
            backlog,
            event,
            keep_alive: KEEP_ALIVE,
            retry: None,
            clients_max: CLIENTS_MAX,
        }
    }

    /// As [`Sse::keep_alive`]. Default: 15 s.
    pub fn keep_alive(mut self, after: Duration) -> Self {
        self.keep_alive = after;
        self
    }

    /// As [`Sse::retry`].
    pub fn retry(mut self, after: Duration) -> Self {
        self.retry = Some(after);
        self
    }

    /// Answers 503 to more clients at a time. Default: 1024.
    ///
    /// Each holds a connection of the server's (or a stream of one) and a backlog; a publisher
    /// clones an event for each.
    pub fn clients_max(mut self, clients: NonZeroUsize) -> Self {
        self.clients_max = clients;
        self
    }

    pub(crate) fn into_route(self) -> Route {
        let clients = self.clients_max.get().min(Semaphore::MAX_PERMITS);
        let target = TopicTarget {
            topic: self.topic,
            backlog: self.backlog,
            event: Arc::new(self.event),
            keep_alive: self.keep_alive,
            retry: self.retry,
            clients: Arc::new(Semaphore::new(clients)),
        };
        let mut route = Route::whole(target).methods([Method::GET]);
        route.in_flight = RouteLimit::Exempt;
        route
    }
}

impl<T, B, F> fmt::Debug for TopicEvents<T, B, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicEvents")
            .field("topic", &self.topic)
            .field("keep_alive", &self.keep_alive)
            .field("clients_max", &self.clients_max)
            .finish_non_exhaustive()
    }
}

// === impl TopicTarget ===

impl<T, B, F> WholeTarget for TopicTarget<T, B, F>
where
    T: Clone + Send + 'static,
    B: Fn() -> Backlog<T> + Send + Sync + 'static,
    F: Fn(T) -> Result<SseEvent, InvalidSseEvent> + Send + Sync + 'static,
{
    fn call(self: Arc<Self>, context: Context, _: Bytes) -> Running {
        Box::pin(async move {
            let client = Arc::clone(&self.clients).try_acquire_owned();
            let client = client.map_err(|_| ErrorAnswer::too_many_clients())?;
            if self.topic.is_closed() {
                return Ok(ErrorAnswer::no_content());
            }
            let told = Told {
                subscription: self.topic.subscribe((self.backlog)()),
                event: Arc::clone(&self.event),
            };
            let mut events = Sse::new(&context, told).keep_alive(self.keep_alive);
            events.retry = self.retry;
            events.of_client(client).into_answer()
        })
    }
}

// === impl Told ===

impl<T, F> Stream for Told<T, F>
where
    F: Fn(T) -> Result<SseEvent, InvalidSseEvent>,
{
    type Item = Result<SseEvent, InvalidSseEvent>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        let event = self.subscription.poll_recv(cx);
        event.map(|event| event.map(|event| (self.event)(event)))
    }
}

/// A tenth of the connections that a server has by default.
const CLIENTS_MAX: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");
