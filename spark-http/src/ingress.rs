//! The ingress: names, limits, and the way of one request through them.

use std::{
    any::Any,
    convert::Infallible,
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, request::Parts, uri::PathAndQuery};
use http_body::Body as _;
use tokio::time::{Instant, timeout_at};
use tower_service::Service;
use tracing::Instrument;

use crate::{
    Answer, Body, Context, ErrorAnswer, Identity, answer,
    auth::Authentication,
    body::BodyLimits,
    due,
    head::Head,
    panic,
    permits::{ByteBudget, Permits, RouteLimit},
    request_id::{RequestIds, X_REQUEST_ID},
    route::{Running, StreamedTarget, Target, WholeTarget},
    seeing::Mount,
};

mod admission;
mod builder;
mod path;
mod receive;
mod shutdown;
mod table;

pub use builder::IngressBuilder;
pub use shutdown::ShutdownCredential;

use admission::Upgrade;
use table::{Found, Named, Table};

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

/// An answer in the making: the future of [`Ingress`].
///
/// Dropping it gives the request up: a message that is queued at a module is skipped,
/// a [handler function](crate::Route::handler_fn) is dropped.
#[must_use = "futures do nothing unless polled"]
pub struct Answering(Pin<Box<dyn Future<Output = Answer> + Send>>);

struct Inner {
    table: Table,
    authentication: Authentication,
    permits: Option<Arc<Permits>>,
    bodies: ByteBudget,
    limits: Limits,
    ids: RequestIds,
    mount: Option<Mount>,
}

/// A target and its request's body.
enum Input<'a> {
    Whole(&'a Arc<dyn WholeTarget>, Bytes),
    Streamed(&'a Arc<dyn StreamedTarget>, Body, BodyLimits),
}

#[derive(Debug)]
struct Limits {
    body_limit: usize,
    body_timeout: Duration,
    handler_timeout: Duration,
    in_flight: usize,
    queue: usize,
    body_memory: Option<usize>,
}

// === impl Ingress ===

impl Ingress {
    /// Starts with the default limits and no routes.
    pub fn builder() -> IngressBuilder {
        IngressBuilder::new()
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
        let (parts, body) = request.into_parts();
        let head = Head::arrived(parts, &inner.ids);
        Answering(Box::pin(inner.answer(head, Body::wrap(body))))
    }
}

impl fmt::Debug for Ingress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.inner.table.routes().map(|named| &named.name);
        f.debug_struct("Ingress")
            .field("routes", &names.collect::<Vec<_>>())
            .field("authentication", &self.inner.authentication)
            .field("limits", &self.inner.limits)
            .finish_non_exhaustive()
    }
}

// === impl Inner ===

impl Inner {
    async fn answer(self: Arc<Self>, head: Box<Head>, body: Body) -> Answer {
        let id = head.id.clone();
        let target = head.parts.uri.path_and_query().cloned();
        let is_head = head.parts.method == Method::HEAD;
        let outcome = guarded(pin!(self.run(head, body))).await;
        let outcome = if is_head {
            outcome.and_then(without_body)
        } else {
            outcome
        };
        let mut answer = outcome.unwrap_or_else(|error| {
            let path = target.as_ref().map_or("", PathAndQuery::path);
            report(&error, path, &id);
            let answer = error.into_response();
            if is_head {
                answer::without_body(answer)
            } else {
                answer
            }
        });
        answer.headers_mut().insert(X_REQUEST_ID, id);
        answer
    }

    /// The way of a request: each step may end it.
    async fn run(&self, head: Box<Head>, body: Body) -> Result<Answer, ErrorAnswer> {
        let parts = &head.parts;
        if let Some(mount) = &self.mount {
            if let Some(answer) = mount.answer_open(parts) {
                return answer;
            }
            if mount.has(parts) {
                self.identify(parts).await?;
                return mount.answer(parts);
            }
        }
        let (found, identity) = match self.admit(parts).await {
            Ok(admitted) => admitted,
            Err(error) => {
                if let Some(mount) = &self.mount {
                    mount.count_unrouted(&error);
                }
                return Err(error);
            }
        };
        let counting = found
            .named
            .counters
            .as_ref()
            .map(|counters| counters.begin());
        let outcome = self.run_route(found, identity, head, body).await;
        if let Some(counting) = counting {
            counting.end(&outcome);
        }
        outcome
    }

    #[expect(
        clippy::manual_async_fn,
        reason = "an `async fn` would hold its arguments twice"
    )]
    fn run_route<'a>(
        &'a self,
        Found { named, parameters }: Found<'a>,
        identity: Option<Identity>,
        head: Box<Head>,
        mut body: Body,
    ) -> impl Future<Output = Result<Answer, ErrorAnswer>> + Send + 'a {
        async move {
            let Named { name, route, .. } = named;
            route.access.check(identity.as_ref(), &head.parts.headers)?;
            let in_flight = self.in_flight(named);
            if !body.is_end_stream() {
                in_flight.check()?;
            }
            let asks_to_switch = head.asks_to_switch;
            let upgrade = Upgrade::of(&head.parts);
            let limits = BodyLimits {
                bytes: route.body_limit.unwrap_or(self.limits.body_limit),
                timeout: self.limits.body_timeout,
            };
            let mut reserved = self.bodies.reserve();
            let body = match &route.target {
                Target::Whole(target) => {
                    let headers = &head.parts.headers;
                    let whole = receive::body(&mut body, headers, limits, &mut reserved).await?;
                    drop(body);
                    Input::Whole(target, whole)
                }
                Target::Streamed(target) => {
                    target.check(&head.parts.headers, &body, limits)?;
                    Input::Streamed(target, body, limits)
                }
            };
            let timeout = route.handler_timeout.unwrap_or(self.limits.handler_timeout);
            let deadline = due::unless_never(Instant::now(), timeout);
            // After the body, so that a client that is slow to send it holds nobody's permit.
            let admission = in_flight.admit(deadline).await?;
            let span = tracing::debug_span!(
                "http_request",
                handler = &**name,
                request_id = ?head.id,
                identity = identity.as_ref().map(Identity::name),
            );
            let name = Arc::clone(name);
            let context = Context::new(head, name, parameters, identity, deadline);
            let answer = body.run(context).instrument(span).await?;
            let status = answer.status();
            if !ErrorAnswer::is_final(status, asks_to_switch) {
                return Err(ErrorAnswer::internal(format_args!(
                    "the handler answered {status}"
                )));
            }
            Ok(admission.last_for(answer, upgrade))
        }
    }
}

impl Inner {
    /// Which route a request is for, and who sends it. That is asked before anything is told of
    /// the routes: whoever has no credentials learns of public ones only.
    async fn admit(&self, parts: &Parts) -> Result<(Found<'_>, Option<Identity>), ErrorAnswer> {
        let found = self.table.find(parts);
        let identity = match &found {
            Ok(found) if !found.needs_identity(&parts.headers) => None,
            _ => self.identify(parts).await?,
        };
        Ok((found?, identity))
    }

    fn in_flight<'a>(&'a self, named: &'a Named) -> admission::Limits<'a> {
        let is_exempt = named.route.in_flight == RouteLimit::Exempt;
        admission::Limits {
            route: named.permits.as_ref(),
            all: self.permits.as_ref().filter(|_| !is_exempt),
        }
    }

    async fn identify(&self, parts: &Parts) -> Result<Option<Identity>, ErrorAnswer> {
        let checking = self.authentication.check(parts);
        if !self.authentication.is_own() {
            return checking.await;
        }
        let due = due::after(Instant::now(), self.limits.handler_timeout);
        let checked = timeout_at(due, checking).await;
        checked.unwrap_or_else(|_| Err(ErrorAnswer::deadline_passed()))
    }
}

// === impl Input ===

impl Input<'_> {
    fn run(self, context: Context) -> Running {
        match self {
            Self::Whole(target, body) => Arc::clone(target).call(context, body),
            Self::Streamed(target, body, limits) => Arc::clone(target).call(context, body, limits),
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

/// Turns a panic in user code into an answer.
async fn guarded<F>(mut running: Pin<&mut F>) -> Result<Answer, ErrorAnswer>
where
    F: Future<Output = Result<Answer, ErrorAnswer>>,
{
    std::future::poll_fn(|cx| {
        // Unwind safe: the future is never polled again.
        catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(cx)))
            .unwrap_or_else(|payload| Poll::Ready(Err(panicked(&*payload))))
    })
    .await
}

/// An answer to HEAD. Its body, which may be the user's, is asked how long it is, and dropped.
fn without_body(answer: Answer) -> Result<Answer, ErrorAnswer> {
    catch_unwind(AssertUnwindSafe(|| answer::without_body(answer)))
        .map_err(|payload| panicked(&*payload))
}

fn panicked(payload: &(dyn Any + Send)) -> ErrorAnswer {
    let text = panic::text(payload);
    ErrorAnswer::internal(format_args!("panicked: {text}"))
}

fn report(error: &ErrorAnswer, path: &str, id: &HeaderValue) {
    let status = error.status().as_u16();
    let message = error.loggable();
    let detail = error.detail();
    if error.is_fault() {
        tracing::warn!(status, path, request_id = ?id, message, detail, "request failed");
    } else {
        tracing::debug!(status, path, request_id = ?id, message, detail, "request refused");
    }
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_future_of_a_request_fits_a_small_allocation() {
        let ingress = Ingress::builder().build().expect("no routes");
        let (parts, ()) = Request::new(()).into_parts();
        let head = Head::arrived(parts, &ingress.inner.ids);
        let answering = ingress.inner.answer(head, Body::empty());
        // Beyond, malloc keeps no list of free ones per thread, and each request pays for it.
        assert!(size_of_val(&answering) <= 1032);
    }
}
