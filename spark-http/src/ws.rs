//! WebSocket: requests and commands in, answers and events out.

use std::{
    fmt,
    num::NonZeroUsize,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;
use http::{HeaderValue, Method, Version};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use spark_channel::{
    Backlog, SparkChannelError, SparkGenericModuleDispatcher, Subscription, SubscriptionEnd, Topic,
};
use tokio::{sync::Semaphore, time::Instant};
use tracing::Instrument as _;

use crate::{
    AfterUpgrade, Context, Draining, ErrorAnswer, ModuleError, Route, Verb, due,
    permits::RouteLimit,
    route::{Running, WholeTarget},
    seeing::Watched,
};

mod codec;
mod handshake;
mod heartbeat;
mod message;
mod metered;
mod session;

pub use codec::{WsAnswer, WsCall, WsCodec, WsId, WsJson, WsRefusal, WsText};
pub use handshake::Origins;
pub use message::{InvalidWsMessage, WsMessage};

use session::{Call, Close, Conversation, Events, Settings, Step};

/// A route that a client opens a WebSocket to: what it sends goes to a module as requests and commands,
/// and answers, and a topic's events if [asked for](Self::events), come back.
///
/// **Backpressure.** At most [`calls_max`](Self::calls_max) messages of a socket are under way, those
/// that wait for room in the mailbox included. At the bound one more is read and waits, and then none, so
/// its client's sending stalls. What is under way when the client leaves is dropped as any request of a client that
/// left. Messages reach the mailbox in the order sent.
///
/// **Slow clients.** While a client does not read, its events wait in its backlog, whose policy decides
/// (a subscription that is [too slow](Backlog::disconnect) closes the socket with 1013), and
/// after the [write timeout](Self::write_timeout) it is cut.
///
/// **Silent clients.** A ping goes out every 10 s; a client from which not a byte has come since two of
/// them is cut at the next, unless more of it waits to be read.
///
/// **Deadlines.** Each message has the route's handler timeout for itself.
///
/// **Closing.** 1001 while the server drains, once what is under way has been answered and events
/// that wait have gone out; 1002 for a broken protocol; 1003 and 1007 for what the codec
/// cannot read; 1009 for a message over [`message_limit`](Self::message_limit); 1011 for a
/// panic of the codec or an event that cannot be told, never with its text. A panic in the module is an
/// error for its one message.
///
/// **Who may.** The route authenticates as every other, before the socket is opened. Pages of other
/// [origins](Origins) are refused with 403. A request that opens no socket is a 426.
///
/// A socket holds no permit of the [limit on requests in flight](crate::IngressBuilder::max_in_flight):
/// it would hold it for hours. [`clients_max`](Self::clients_max) is the bound instead. Sockets are driven by the task of their
/// connection, so this needs an [`HttpServer`](crate::HttpServer), on HTTP/1.1; with another server
/// it is a 500. Compression is not offered.
///
/// # Examples
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use spark_channel::{Backlog, SparkGenericModuleDispatcher, Topic};
/// use spark_http::{ConfigError, Ingress, Route, WebSocket, WsJson, WsMessage};
///
/// #[derive(Deserialize)]
/// struct Say { text: String }
///
/// #[derive(Serialize)]
/// struct Said { number: u64 }
///
/// fn ingress(
///     room: SparkGenericModuleDispatcher<Say, Said>,
///     said: Topic<String>,
/// ) -> Result<Ingress, ConfigError> {
///     let chat = WebSocket::new(WsJson::<Say, Said>::new(), room)
///         .events(said, || Backlog::disconnect(64), |text| WsMessage::event("said", &text));
///     Ingress::builder().route("chat", Route::websocket(chat)).build()
/// }
/// // {"type":"request","id":1,"data":{"text":"hi"}}
/// // {"type":"response","id":1,"data":{"number":7}}
/// // {"type":"event","name":"said","data":"hi"}
/// ```
#[must_use = "a route answers nothing until an ingress has it"]
pub struct WebSocket<K, M, R, C, E> {
    codec: K,
    dispatcher: SparkGenericModuleDispatcher<M, R, C, E>,
    events: Option<Arc<dyn Fn() -> Events + Send + Sync>>,
    otherwise: Option<Route>,
    origins: Origins,
    subprotocols: Vec<HeaderValue>,
    clients_max: NonZeroUsize,
    settings: Settings,
}

struct WebSocketTarget<K, M, R, C, E> {
    codec: Arc<K>,
    dispatcher: SparkGenericModuleDispatcher<M, R, C, E>,
    events: Option<Arc<dyn Fn() -> Events + Send + Sync>>,
    otherwise: Option<Route>,
    origins: Origins,
    subprotocols: Vec<HeaderValue>,
    clients: Arc<Semaphore>,
    settings: Settings,
}

/// The messages of one client.
struct Speaker<K, M, R, C, E> {
    codec: Arc<K>,
    dispatcher: SparkGenericModuleDispatcher<M, R, C, E>,
    context: Arc<Context>,
    timeout: Option<Duration>,
}

/// A subscription whose events are being told.
struct Told<T, F> {
    subscription: Subscription<T>,
    event: Arc<F>,
    ended: bool,
}

// === impl WebSocket ===

impl<K, M, R, C, E> WebSocket<K, M, R, C, E>
where
    K: WsCodec<M, R>,
    M: Send + 'static,
    R: Send + 'static,
    C: Send + 'static,
    E: ModuleError + From<SparkChannelError> + Send + 'static,
{
    /// Sends what clients say to a module.
    pub fn new(codec: K, dispatcher: SparkGenericModuleDispatcher<M, R, C, E>) -> Self {
        let calls_max = if codec.is_correlated() { CALLS_MAX } else { 1 };
        Self {
            codec,
            dispatcher,
            events: None,
            otherwise: None,
            origins: Origins::Same,
            subprotocols: Vec::new(),
            clients_max: CLIENTS_MAX,
            settings: Settings {
                ping_every: Duration::from_secs(10),
                pings_missed_max: 2,
                message_limit: 1024 * 1024,
                calls_max,
                write_timeout: Duration::from_secs(30),
                close_timeout: Duration::from_secs(5),
            },
        }
    }

    /// Sends each client what is published to `topic` from then on, as `event` tells it, through a
    /// `backlog` of its own.
    ///
    /// As with [`TopicEvents`](crate::TopicEvents), [`Backlog::wait`] lets a slow client slow the
    /// publishers down, and the route keeps the topic open. The end of the topic does not end the
    /// socket.
    pub fn events<T, B, F>(mut self, topic: Topic<T>, backlog: B, event: F) -> Self
    where
        T: Clone + Send + 'static,
        B: Fn() -> Backlog<T> + Send + Sync + 'static,
        F: Fn(T) -> Result<WsMessage, InvalidWsMessage> + Send + Sync + 'static,
    {
        let event = Arc::new(event);
        self.events = Some(Arc::new(move || {
            Box::pin(Told {
                subscription: topic.subscribe(backlog()),
                event: Arc::clone(&event),
                ended: false,
            })
        }));
        self
    }

    /// Answers requests that ask for no WebSocket as `route` does, in the place of 426: a path may
    /// have both a WebSocket and, say, [server-sent events](Route::topic_events). Methods, limits and
    /// rules are those of the WebSocket's route, not of this one.
    pub fn otherwise(mut self, route: Route) -> Self {
        self.otherwise = Some(route);
        self
    }

    /// The web pages whose scripts may open a socket. Default: [`Origins::Same`].
    pub fn origins(mut self, origins: Origins) -> Self {
        self.origins = origins;
        self
    }

    /// The subprotocols it speaks, the favourite first. Default: none.
    ///
    /// The first one that the client offers is chosen, and told to it; without one in common the
    /// socket opens without, which browsers that offered some refuse.
    pub fn subprotocols(mut self, names: impl IntoIterator<Item = HeaderValue>) -> Self {
        self.subprotocols = names.into_iter().collect();
        self
    }

    /// Pings so often, and cuts a client that has not been heard of for `missed_max` pings at the
    /// next. Default: 10 s and 2. `Duration::MAX` is never.
    ///
    /// A larger value notices later that a client is gone; proxies close what is silent for
    /// 30 or 60 s.
    pub fn ping_every(mut self, interval: Duration, missed_max: u32) -> Self {
        self.settings.ping_every = interval;
        self.settings.pings_missed_max = missed_max;
        self
    }

    /// Closes at larger messages, in bytes (1009). Default: 1 MiB.
    ///
    /// A message is held in memory whole, so this times [`clients_max`](Self::clients_max) is what
    /// clients can make the process hold with messages that are not complete, and once more with those
    /// that wait because as much as may be is under way.
    pub fn message_limit(mut self, bytes: usize) -> Self {
        self.settings.message_limit = bytes;
        self
    }

    /// Begins no further one while so many messages of a client are under way. Default: 16, and 1 for
    /// a codec that is [not correlated](WsCodec::is_correlated), which is all that such a one can have.
    ///
    /// A larger value lets one client take more of the mailbox.
    pub fn calls_max(mut self, calls: NonZeroUsize) -> Self {
        if self.codec.is_correlated() {
            self.settings.calls_max = calls.get();
        }
        self
    }

    /// Cuts a client that takes nothing of what is sent for so long. Default: 30 s.
    ///
    /// The server's own [write timeout](crate::HttpServerBuilder::write_timeout) holds as well.
    pub fn write_timeout(mut self, timeout: Duration) -> Self {
        self.settings.write_timeout = timeout;
        self
    }

    /// Answers 503 to more clients at a time. Default: 1024.
    pub fn clients_max(mut self, clients: NonZeroUsize) -> Self {
        self.clients_max = clients;
        self
    }

    pub(crate) fn into_route(self) -> Route {
        let clients = self.clients_max.get().min(Semaphore::MAX_PERMITS);
        let watched = Watched::new(self.dispatcher.downgrade());
        let target = WebSocketTarget {
            codec: Arc::new(self.codec),
            dispatcher: self.dispatcher,
            events: self.events,
            otherwise: self.otherwise,
            origins: self.origins,
            subprotocols: self.subprotocols,
            clients: Arc::new(Semaphore::new(clients)),
            settings: self.settings,
        };
        let mut route = Route::whole(target).watching(watched);
        route.in_flight = RouteLimit::Exempt;
        route.methods([Method::GET])
    }
}

impl<K, M, R, C, E> fmt::Debug for WebSocket<K, M, R, C, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket")
            .field("origins", &self.origins)
            .field("clients_max", &self.clients_max)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

// === impl WebSocketTarget ===

impl<K, M, R, C, E> WholeTarget for WebSocketTarget<K, M, R, C, E>
where
    K: WsCodec<M, R>,
    M: Send + 'static,
    R: Send + 'static,
    C: Send + 'static,
    E: ModuleError + From<SparkChannelError> + Send + 'static,
{
    fn call(self: Arc<Self>, mut context: Context, body: Bytes) -> Running {
        // HTTP/1.0 has no other protocols, whatever its headers say.
        let is_asked =
            context.version() == Version::HTTP_11 && handshake::is_asked(context.headers());
        if let Some(route) = &self.otherwise
            && !is_asked
        {
            return route.call_whole(context, body);
        }
        Box::pin(async move {
            if !is_asked {
                return Err(ErrorAnswer::upgrade_required());
            }
            let headers = context.headers();
            let answer = handshake::accept(headers, &self.origins, &self.subprotocols)?;
            let client = Arc::clone(&self.clients).try_acquire_owned();
            let client = client.map_err(|_| ErrorAnswer::too_many_clients())?;
            // Taken out, as the session has the context and is kept in one of them.
            let upgrade = context.take_extension::<OnUpgrade>();
            let (Some(upgrade), Some(after)) = (upgrade, context.take_extension::<AfterUpgrade>())
            else {
                return Err(ErrorAnswer::internal("WebSocket needs an HttpServer"));
            };
            // From here on, so that nothing is missed that is published after the answer.
            let events = self.events.as_ref().map(|events| events());
            let draining = context.extensions().get::<Draining>().cloned();
            let draining = async move {
                match draining {
                    Some(draining) => draining.begun().await,
                    None => std::future::pending().await,
                }
            };
            let span = tracing::debug_span!(
                "websocket",
                handler = context.handler(),
                request_id = context.request_id()
            );
            let speaker = Speaker {
                codec: Arc::clone(&self.codec),
                dispatcher: self.dispatcher.clone(),
                timeout: context.remaining(),
                context: Arc::new(context),
            };
            let session = async move {
                let _client = client;
                let Ok(upgraded) = upgrade.await else {
                    return;
                };
                let io = TokioIo::new(upgraded);
                let settings = self.settings.clone();
                session::run(io, settings, Box::new(speaker), events, Box::pin(draining)).await;
            };
            after.run(session.instrument(span));
            Ok(answer)
        })
    }
}

// === impl Speaker ===

impl<K, M, R, C, E> Conversation for Speaker<K, M, R, C, E>
where
    K: WsCodec<M, R>,
    M: Send + 'static,
    R: Send + 'static,
    C: Send + 'static,
    E: ModuleError + From<SparkChannelError> + Send + 'static,
{
    fn begin(&self, message: WsMessage) -> Step {
        let WsCall { verb, id, message } = match self.codec.decode(&self.context, message) {
            Ok(call) => call,
            Err(WsRefusal::Unsupported(reason)) => return Step::Close(Close::unsupported(reason)),
            Err(WsRefusal::Malformed(reason)) => return Step::Close(Close::malformed(&reason)),
            Err(WsRefusal::Answer { id, error }) => {
                let answer = WsAnswer::Error(error);
                return match encode(&*self.codec, &self.context, &id, answer) {
                    Ok(answer) => Step::answer(answer),
                    Err(close) => Step::Close(close),
                };
            }
        };
        let codec = Arc::clone(&self.codec);
        let context = Arc::clone(&self.context);
        let dispatcher = self.dispatcher.clone();
        let timeout = self.timeout;
        let call: Call = Box::pin(async move {
            let deadline = timeout.map(|timeout| due::after(Instant::now(), timeout));
            let answer = match verb {
                Verb::Request => {
                    let mut request = dispatcher.request(message);
                    if let Some(deadline) = deadline {
                        request = request.at_most(deadline);
                    }
                    request.await.map(WsAnswer::Response)
                }
                Verb::Command => {
                    let sent = crate::route::send_command(&dispatcher, message, deadline).await;
                    sent.map(|()| WsAnswer::Accepted).map_err(E::from)
                }
            };
            let answer = answer.unwrap_or_else(|error| WsAnswer::Error(error.into_error_answer()));
            encode(&*codec, &context, &id, answer)
        });
        Step::Call(call)
    }
}

// === impl Step ===

impl Step {
    fn answer(answer: Option<WsMessage>) -> Self {
        match answer {
            Some(answer) => Self::Answer(answer),
            None => Self::Call(Box::pin(std::future::ready(Ok(None)))),
        }
    }
}

// === impl Told ===

// Nothing is pinned inside of it.
impl<T, F> Unpin for Told<T, F> {}

impl<T, F> Stream for Told<T, F>
where
    F: Fn(T) -> Result<WsMessage, InvalidWsMessage>,
{
    type Item = Result<WsMessage, Close>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let event = ready!(self.subscription.poll_recv(cx));
        if let Some(event) = event {
            return Poll::Ready(Some((self.event)(event).map_err(|error| {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(source, "an event cannot be told");
                Close::fault()
            })));
        }
        self.ended = true;
        let is_too_slow = self.subscription.end() == Some(SubscriptionEnd::TooSlow);
        Poll::Ready(is_too_slow.then(|| Err(Close::too_slow())))
    }
}

/// Makes an answer, or one that says that it could not be made.
fn encode<K: WsCodec<M, R>, M, R>(
    codec: &K,
    context: &Context,
    id: &K::Id,
    answer: WsAnswer<R>,
) -> Result<Option<WsMessage>, Close> {
    let answer = note(answer);
    codec.encode(context, id, answer).or_else(|error| {
        let error = note(WsAnswer::Error(error));
        codec.encode(context, id, error).map_err(|_| Close::fault())
    })
}

/// Logs what is the server's fault.
fn note<R>(answer: WsAnswer<R>) -> WsAnswer<R> {
    if let WsAnswer::Error(error) = &answer
        && error.is_fault()
    {
        let (status, message) = (error.status().as_u16(), error.message());
        let detail = error.detail();
        tracing::warn!(status, message, detail, "a message of a WebSocket failed");
    }
    answer
}

/// Enough to keep a module busy over a slow line, little beside its mailbox.
const CALLS_MAX: usize = 16;

/// A tenth of the connections that a server has by default.
const CLIENTS_MAX: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");
