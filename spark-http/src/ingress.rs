//! The ingress: names, limits, and the way of one request through them.

use std::{
    any::Any,
    collections::{HashMap, hash_map::Entry},
    convert::Infallible,
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, request::Parts};
use spark_channel::{SparkChannelError, SparkGenericModuleDispatcher};
use tokio::time::Instant;
use tower_service::Service;
use tracing::Instrument;

use crate::{
    Answer, Codec, ConfigError, Context, ErrorAnswer, IntoAnswer, ModuleError, Route, config, due,
    request_id::{RequestIds, X_REQUEST_ID},
};

mod name;
mod receive;

/// Answers `POST /{name}` with the route of that name. Cheap to clone.
///
/// A [`tower::Service`](Service) for requests with any body: serve it with
/// [`HttpServer`](crate::HttpServer), mount it in another router, wrap it in layers, or call it in
/// a test without a socket. It never fails: what goes wrong is answered from the one
/// [error table](crate#errors).
///
/// # Examples
///
/// ```
/// use http::Request;
/// use spark_http::{Body, Ingress};
/// use tower::ServiceExt as _;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let ingress = Ingress::builder()
///     .handler_fn("hello", |context, _body| async move { format!("id {}", context.request_id()) })
///     .build()?;
///
/// let request = Request::post("/hello").header("x-request-id", "7").body(Body::empty())?;
/// let answer = ingress.oneshot(request).await?;
/// assert_eq!(answer.status(), 200);
/// assert_eq!(answer.headers()["x-request-id"], "7");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Ingress {
    inner: Arc<Inner>,
}

/// Settings and routes of an [`Ingress`] that does not exist yet.
#[derive(Debug)]
#[must_use = "an ingress exists once it is built"]
pub struct IngressBuilder {
    routes: Vec<(String, Route)>,
    limits: Limits,
}

/// An answer in the making: the future of [`Ingress`].
///
/// Dropping it gives the request up: a message that is queued at a module is skipped,
/// a [handler function](Route::handler_fn) is dropped.
#[must_use = "futures do nothing unless polled"]
pub struct Answering(Pin<Box<dyn Future<Output = Answer> + Send>>);

struct Inner {
    routes: HashMap<Box<str>, Named>,
    limits: Limits,
    ids: RequestIds,
}

struct Named {
    name: Arc<str>,
    route: Route,
}

#[derive(Debug)]
struct Limits {
    body_limit: usize,
    body_timeout: Duration,
    handler_timeout: Duration,
}

// === impl Ingress ===

impl Ingress {
    /// Starts with the default limits and no routes.
    pub fn builder() -> IngressBuilder {
        IngressBuilder {
            routes: Vec::new(),
            limits: Limits {
                body_limit: 1024 * 1024,
                body_timeout: Duration::from_secs(30),
                handler_timeout: Duration::from_secs(120),
            },
        }
    }
}

impl<B> Service<Request<B>> for Ingress
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Answer;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Answering {
        let inner = Arc::clone(&self.inner);
        Answering(Box::pin(async move { inner.answer(request).await }))
    }
}

impl fmt::Debug for Ingress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ingress")
            .field("routes", &self.inner.routes.keys())
            .field("limits", &self.inner.limits)
            .finish_non_exhaustive()
    }
}

// === impl IngressBuilder ===

impl IngressBuilder {
    /// Sends requests for `name` to a module; see [`Route::module`].
    pub fn module<K, M, R, C, E>(
        self,
        name: impl Into<String>,
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
        self.route(name, Route::module(codec, dispatcher))
    }

    /// Runs `handler` for requests for `name`; see [`Route::handler_fn`].
    pub fn handler_fn<F, Fut>(self, name: impl Into<String>, handler: F) -> Self
    where
        F: Fn(Context, Bytes) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: IntoAnswer> + Send + 'static,
    {
        self.route(name, Route::handler_fn(handler))
    }

    /// Adds a route.
    ///
    /// `name` is one segment of a path, in plain text; clients percent-encode what
    /// needs it.
    pub fn route(mut self, name: impl Into<String>, route: Route) -> Self {
        self.routes.push((name.into(), route));
        self
    }

    /// Answers 413 to larger bodies, in bytes. Default: 1 MiB.
    ///
    /// A body is held in memory whole, so this times the number of connections is what
    /// clients can make the process hold.
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.limits.body_limit = bytes;
        self
    }

    /// Answers 408 when a body takes longer to come in, first byte to last. Default: 30 s.
    ///
    /// A larger value lets slow clients hold connections for longer.
    pub fn body_timeout(mut self, timeout: Duration) -> Self {
        self.limits.body_timeout = timeout;
        self
    }

    /// Answers 504 when a handler takes longer, counted from the end of the body.
    /// Default: 120 s. `Duration::MAX`, or anything from 30 years, means that there is no limit.
    ///
    /// A larger value lets a handler that hangs hold more connections at a time.
    pub fn handler_timeout(mut self, timeout: Duration) -> Self {
        self.limits.handler_timeout = timeout;
        self
    }

    /// Makes the ingress.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] when a name is taken twice, is empty, longer than 128 bytes,
    /// `.` or `..`, or has a `/` or a control character in it, and when a timeout is zero.
    pub fn build(self) -> Result<Ingress, ConfigError> {
        config::check_timeouts(&[
            ("body_timeout", self.limits.body_timeout),
            ("handler_timeout", self.limits.handler_timeout),
        ])?;
        let mut routes = HashMap::with_capacity(self.routes.len());
        for (name, route) in self.routes {
            if let Some(reason) = name::fault(&name) {
                return Err(ConfigError::InvalidRouteName { name, reason });
            }
            if let Some(timeout) = route.handler_timeout {
                config::check_timeouts(&[("handler_timeout", timeout)])?;
            }
            match routes.entry(name.clone().into_boxed_str()) {
                Entry::Occupied(_) => return Err(ConfigError::DuplicateRoute { name }),
                Entry::Vacant(entry) => entry.insert(Named {
                    name: name.into(),
                    route,
                }),
            };
        }
        Ok(Ingress {
            inner: Arc::new(Inner {
                routes,
                limits: self.limits,
                ids: RequestIds::new(),
            }),
        })
    }
}

// === impl Inner ===

impl Inner {
    async fn answer<B>(&self, request: Request<B>) -> Answer
    where
        B: http_body::Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        let id = self.ids.of(&parts.headers);
        let uri = parts.uri.clone();
        let outcome = self.run(parts, id.clone(), body).await;
        let mut answer = outcome.unwrap_or_else(|error| {
            report(&error, uri.path(), &id);
            error.into_response()
        });
        answer.headers_mut().insert(X_REQUEST_ID, id);
        answer
    }

    async fn run<B>(&self, parts: Parts, id: HeaderValue, body: B) -> Result<Answer, ErrorAnswer>
    where
        B: http_body::Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let Named { name, route } = self.find(&parts)?;
        let limit = route.body_limit.unwrap_or(self.limits.body_limit);
        let body = receive::body(body, &parts.headers, limit, self.limits.body_timeout).await?;
        let timeout = route.handler_timeout.unwrap_or(self.limits.handler_timeout);
        let deadline = due::unless_never(Instant::now(), timeout);
        let span = tracing::debug_span!("http_request", handler = &**name, request_id = ?id);
        let context = Context::new(parts, Arc::clone(name), id, deadline);
        guarded(route.call(context, body)).instrument(span).await
    }

    fn find(&self, parts: &Parts) -> Result<&Named, ErrorAnswer> {
        let path = parts.uri.path();
        // `*` and the target of a CONNECT are none.
        let segment = path.strip_prefix('/').ok_or("request target is no path");
        let name = segment
            .and_then(name::decode)
            .map_err(ErrorAnswer::bad_name)?;
        let Some(named) = self.routes.get(&*name) else {
            return Err(ErrorAnswer::handler_not_found(&name));
        };
        if parts.method == Method::POST {
            Ok(named)
        } else {
            Err(ErrorAnswer::method_not_allowed())
        }
    }
}

// === impl Answering ===

impl Future for Answering {
    type Output = Result<Answer, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx).map(Ok)
    }
}

impl fmt::Debug for Answering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answering").finish_non_exhaustive()
    }
}

/// Turns a panic in a codec or a handler function into an answer.
async fn guarded(mut running: crate::route::Running) -> Result<Answer, ErrorAnswer> {
    std::future::poll_fn(|cx| {
        // Unwind safe: the future is dropped and never polled again.
        catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(cx))).unwrap_or_else(|panic| {
            let text = panic_text(&*panic);
            Poll::Ready(Err(ErrorAnswer::internal(format_args!("panicked: {text}"))))
        })
    })
    .await
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text")
}

fn report(error: &ErrorAnswer, path: &str, id: &HeaderValue) {
    let status = error.status().as_u16();
    let message = error.message();
    let detail = error.detail();
    if error.is_fault() {
        tracing::warn!(status, path, request_id = ?id, message, detail, "request failed");
    } else {
        tracing::debug!(status, path, request_id = ?id, message, detail, "request refused");
    }
}
