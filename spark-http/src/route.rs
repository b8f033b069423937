//! A route: a codec and its target, with limits of its own.

use std::{error::Error, fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use spark_channel::{Backlog, ReplyStreamSender, SparkChannelError, SparkGenericModuleDispatcher};
use tokio::time::timeout_at;
use tower_service::Service;

use self::{
    module::{CommandTarget, ModuleTarget},
    service::ServiceTarget,
    streaming::StreamingTarget,
};
use crate::{
    Answer, Body, BodyStream, Codec, Context, ErrorAnswer, IntoAnswer, InvalidSseEvent,
    ModuleError, ReplyEvents, SseEvent, TopicEvents, auth::Access, body::BodyLimits,
    permits::RouteLimit, seeing::Watched,
};

mod methods;
mod module;
mod service;
mod streaming;

pub(crate) use methods::Methods;
#[cfg(feature = "ws")]
pub(crate) use module::send_command;

/// Where requests for one name go. Limits it does not set are the
/// [ingress's](crate::IngressBuilder).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use spark_channel::SparkGenericModuleDispatcher;
/// use spark_http::{ConfigError, Ingress, Route, TextCodec};
///
/// fn ingress(notes: SparkGenericModuleDispatcher<String, String>) -> Result<Ingress, ConfigError> {
///     let notes = Route::module(TextCodec, notes)
///         .handler_timeout(Duration::from_secs(5))
///         .body_limit(64 * 1024);
///     Ingress::builder().route("notes", notes).build()
/// }
/// ```
#[derive(Clone)]
#[must_use = "a route answers nothing until an ingress has it"]
pub struct Route {
    pub(crate) target: Target,
    /// The module it leads to, if it leads to one.
    watched: Option<Arc<Watched>>,
    #[cfg(feature = "openapi")]
    pub(crate) describe: Option<crate::openapi::Describe>,
    pub(crate) methods: Methods,
    pub(crate) access: Access,
    pub(crate) in_flight: RouteLimit,
    pub(crate) handler_timeout: Option<Duration>,
    pub(crate) body_limit: Option<usize>,
}

/// What runs a route's requests.
#[derive(Clone)]
pub(crate) enum Target {
    /// Runs once the body is complete.
    Whole(Arc<dyn WholeTarget>),
    /// Reads the body itself.
    Streamed(Arc<dyn StreamedTarget>),
}

/// Runs one request of a route, whose body is complete.
pub(crate) trait WholeTarget: Send + Sync {
    fn call(self: Arc<Self>, context: Context, body: Bytes) -> Running;
}

/// Runs one request of a route, whose body has yet to come.
pub(crate) trait StreamedTarget: Send + Sync {
    /// Looks whether the request is worth a place among those in flight.
    ///
    /// # Errors
    ///
    /// The answer to a request whose head says already that it cannot be run.
    fn check(
        &self,
        headers: &HeaderMap,
        body: &Body,
        limits: BodyLimits,
    ) -> Result<(), ErrorAnswer> {
        let _ = (headers, body, limits);
        Ok(())
    }

    fn call(self: Arc<Self>, context: Context, body: Body, limits: BodyLimits) -> Running;
}

/// A request that runs. Dropping it gives the request up.
pub(crate) type Running = Pin<Box<dyn Future<Output = Result<Answer, ErrorAnswer>> + Send>>;

struct FnTarget<F>(F);

// === impl Route ===

impl Route {
    /// Sends each request to a module.
    ///
    /// The request's deadline travels with the message; if the module's default
    /// timeout ends earlier, that one holds. When the client leaves, a message that
    /// is still queued is skipped; a running handler goes on and can learn it from
    /// [`current::cancelled`](spark_channel::current::cancelled).
    ///
    /// While the mailbox is full, requests wait for room until their deadline.
    pub fn module<K, M, R, C, E>(
        codec: K,
        dispatcher: SparkGenericModuleDispatcher<M, R, C, E>,
    ) -> Self
    where
        K: Codec<M, R>,
        M: Send + 'static,
        R: Send + 'static,
        C: Send + 'static,
        E: ModuleError + From<SparkChannelError> + Send + 'static,
    {
        Self::module_with(codec, dispatcher, E::into_error_answer)
    }

    /// As [`module`](Self::module), for an error type that is no [`ModuleError`]: what
    /// becomes of it is up to `classify`.
    pub fn module_with<K, M, R, C, E, F>(
        codec: K,
        dispatcher: SparkGenericModuleDispatcher<M, R, C, E>,
        classify: F,
    ) -> Self
    where
        K: Codec<M, R>,
        M: Send + 'static,
        R: Send + 'static,
        C: Send + 'static,
        E: From<SparkChannelError> + Send + 'static,
        F: Fn(E) -> ErrorAnswer + Send + Sync + 'static,
    {
        let watched = Watched::new(dispatcher.downgrade());
        let target = Arc::new(ModuleTarget {
            codec,
            dispatcher,
            classify,
        });
        #[cfg(feature = "openapi")]
        let described = Arc::clone(&target);
        let route = Self::new(Target::Whole(target)).watching(watched);
        #[cfg(feature = "openapi")]
        let route = route.describe(move |operation| described.codec.describe(operation));
        route
    }

    /// Sends each request to a module as a command, and answers 202 without a body once the
    /// mailbox has accepted it.
    ///
    /// It waits for room until the request's deadline (504), if that is the mailbox's way of dealing
    /// with too much; another way of refusing it is a 503. Whether the module has handled the
    /// command, and how, is nothing that the client learns. The codec is used for decoding only.
    ///
    /// A client that leaves while there is no room takes its command along; one that leaves later
    /// does not.
    pub fn command<K, M, R, C, E>(
        codec: K,
        dispatcher: SparkGenericModuleDispatcher<M, R, C, E>,
    ) -> Self
    where
        K: Codec<M, R>,
        M: Send + 'static,
        R: Send + 'static,
        C: Send + 'static,
        E: ModuleError + From<SparkChannelError> + Send + 'static,
    {
        let watched = Watched::new(dispatcher.downgrade());
        let target = Arc::new(CommandTarget { codec, dispatcher });
        #[cfg(feature = "openapi")]
        let described = Arc::clone(&target);
        let route = Self::new(Target::Whole(target)).watching(watched);
        #[cfg(feature = "openapi")]
        let route = route.describe(move |operation| {
            described.codec.describe(operation);
            operation.without_response();
        });
        route
    }

    /// Runs `handler` on the connection's task.
    ///
    /// It is dropped, at its next `.await`, when the client leaves and at the deadline.
    pub fn handler_fn<F, Fut>(handler: F) -> Self
    where
        F: Fn(Context, Bytes) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: IntoAnswer> + Send + 'static,
    {
        Self::whole(FnTarget(handler))
    }

    /// Runs `handler` on the connection's task, with the request's body as it comes in.
    ///
    /// The [body limit](Self::body_limit) holds for the sum of its chunks: 413 before the handler
    /// runs if the head announces more, otherwise an error in the place of the first chunk
    /// beyond it. The ingress's [body timeout](crate::IngressBuilder::body_timeout) holds for each
    /// chunk that the handler waits for, and the handler timeout for everything, counted from the
    /// request's head: a route for large uploads sets both.
    ///
    /// A body that is cut in the middle is an error to the handler, which has begun then. An answer
    /// that comes before the body's end is sent at once, and the connection closes after it.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use spark_http::{BodyStream, Context, ReceiveError, Route};
    ///
    /// let route = Route::streaming(|_: Context, mut body: BodyStream| async move {
    ///     let mut lines = 0;
    ///     while let Some(chunk) = body.chunk().await? {
    ///         lines += chunk.iter().filter(|byte| **byte == b'\n').count();
    ///     }
    ///     Ok::<_, ReceiveError>(format!("{lines} lines"))
    /// });
    /// let route = route.body_limit(10 << 30).handler_timeout(Duration::from_secs(60 * 60));
    /// ```
    pub fn streaming<F, Fut>(handler: F) -> Self
    where
        F: Fn(Context, BodyStream) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: IntoAnswer> + Send + 'static,
    {
        Self::new(Target::Streamed(Arc::new(StreamingTarget(handler))))
    }

    /// Sends each client what is published to a topic; answers GET. See [`TopicEvents`].
    pub fn topic_events<T, B, F>(events: TopicEvents<T, B, F>) -> Self
    where
        T: Clone + Send + 'static,
        B: Fn() -> Backlog<T> + Send + Sync + 'static,
        F: Fn(T) -> Result<SseEvent, InvalidSseEvent> + Send + Sync + 'static,
    {
        events.into_route()
    }

    /// Asks a module for each request, and sends the items of its reply as events; answers GET. See
    /// [`ReplyEvents`].
    pub fn reply_events<T, Q, M, R, C, E, D, G, F>(
        events: ReplyEvents<T, M, R, C, E, D, G, F>,
    ) -> Self
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
        events.into_route()
    }

    /// Opens a WebSocket to each client; answers GET. See [`WebSocket`](crate::WebSocket).
    #[cfg(feature = "ws")]
    pub fn websocket<K, M, R, C, E>(socket: crate::WebSocket<K, M, R, C, E>) -> Self
    where
        K: crate::WsCodec<M, R>,
        M: Send + 'static,
        R: Send + 'static,
        C: Send + 'static,
        E: ModuleError + From<SparkChannelError> + Send + 'static,
    {
        socket.into_route()
    }

    /// Answers 504 when the handler takes longer, counted from the end of the body, or of the head
    /// if the body is [streamed](Self::streaming). Default: the ingress's. `Duration::MAX`, or anything from 30 years, means that there is no
    /// limit.
    pub fn handler_timeout(mut self, timeout: Duration) -> Self {
        self.handler_timeout = Some(timeout);
        self
    }

    /// Answers 413 to larger bodies, in bytes. Default: the ingress's.
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.body_limit = Some(bytes);
        self
    }

    /// Hands each request on to a tower service, as it came: an axum `Router`, or one's own.
    ///
    /// The service reads the body itself, so [`body_limit`](Self::body_limit) does not hold for it. It
    /// answers any [method](Self::methods) by default. The handler timeout ends with the head of its
    /// answer; an error of the service is a 500 without its text.
    pub fn service<S, B>(service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<Box<dyn Error + Send + Sync>>,
        S::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let mut route = Self::new(Target::Streamed(Arc::new(ServiceTarget(service))));
        route.methods = Methods::Any;
        route
    }

    /// Answers requests with one of `methods`. Default: POST.
    ///
    /// A route with GET answers HEAD as well, without its body. To any other method the path
    /// answers 405, and lists what its routes have in `Allow`.
    pub fn methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.methods = Methods::These(methods.into_iter().collect());
        self
    }

    /// The limit of its own for bodies that are held in memory.
    pub(crate) fn whole_body_limit(&self) -> Option<usize> {
        match self.target {
            Target::Whole(_) => self.body_limit,
            Target::Streamed(_) => None,
        }
    }

    pub(crate) fn watched(&self) -> Option<Arc<Watched>> {
        self.watched.clone()
    }

    /// Runs a request whose body has been collected, whatever its target.
    #[cfg(feature = "ws")]
    pub(crate) fn call_whole(&self, context: Context, body: Bytes) -> Running {
        match &self.target {
            Target::Whole(target) => Arc::clone(target).call(context, body),
            Target::Streamed(target) => {
                let limits = BodyLimits {
                    bytes: body.len(),
                    timeout: Duration::MAX,
                };
                Arc::clone(target).call(context, Body::from(body), limits)
            }
        }
    }

    /// A route with a module behind it.
    pub(crate) fn watching(mut self, module: Option<Arc<Watched>>) -> Self {
        self.watched = module;
        self
    }

    pub(crate) fn whole(target: impl WholeTarget + 'static) -> Self {
        Self::new(Target::Whole(Arc::new(target)))
    }

    pub(crate) fn new(target: Target) -> Self {
        Self {
            target,
            watched: None,
            #[cfg(feature = "openapi")]
            describe: None,
            methods: Methods::These(vec![Method::POST]),
            access: Access::Identified,
            in_flight: RouteLimit::default(),
            handler_timeout: None,
            body_limit: None,
        }
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route")
            .field("methods", &self.methods)
            .field("access", &self.access)
            .field("in_flight", &self.in_flight)
            .field("handler_timeout", &self.handler_timeout)
            .field("body_limit", &self.body_limit)
            .finish_non_exhaustive()
    }
}

// === impl WholeTarget ===

impl<F, Fut> WholeTarget for FnTarget<F>
where
    F: Fn(Context, Bytes) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: IntoAnswer> + Send + 'static,
{
    fn call(self: Arc<Self>, context: Context, body: Bytes) -> Running {
        Box::pin(async move {
            let deadline = context.deadline();
            let answering = (self.0)(context, body);
            let Some(deadline) = deadline else {
                return answering.await.into_answer();
            };
            match timeout_at(deadline, answering).await {
                Ok(answer) => answer.into_answer(),
                Err(_) => Err(ErrorAnswer::deadline_passed()),
            }
        })
    }
}
