//! What can be seen of a service from outside: health, readiness, metrics, and with features the
//! document of its routes and its live page.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use http::{
    HeaderValue, Method, Request,
    header::{CACHE_CONTROL, CONTENT_TYPE},
    request::Parts,
};
use spark_channel::{System, Watch, WeakDispatcher};
use tower_service::Service;
#[cfg(feature = "dashboard")]
use {std::time::Duration, tokio::time::Instant};

#[cfg(feature = "dashboard")]
use crate::dashboard::Sampler;
#[cfg(feature = "openapi")]
use crate::openapi::{self, Documented};
use crate::{
    Answer, Body, ErrorAnswer, ServerHandle, answer, panic,
    request_id::{RequestIds, X_REQUEST_ID},
};

mod metrics;
mod modules;
mod mount;
mod prometheus;
mod readiness;
mod routes;
mod view;

pub(crate) use self::{
    modules::WatchedModule as Watched,
    mount::{Mount, Serves},
    readiness::Unready,
    routes::RouteCounters as Counters,
};
use self::{
    modules::{Modules, WatchedModule},
    readiness::Check,
    routes::RouteCounters,
    view::View,
};
#[cfg(feature = "dashboard")]
pub(crate) use self::{
    modules::{SeenModule, state_name},
    routes::{BOUNDS, RouteCounts, Times},
};

/// Shows how a service is doing: to balancers, to Prometheus, and to people.
///
/// | path | answers |
/// |---|---|
/// | `/healthz` | 200 while the process answers at all |
/// | `/readyz` | 200 while it should get requests; 503 while a watched server drains, a module is not running or a check fails |
/// | `/metrics` | the counts of routes, servers and modules, in the text format of Prometheus (0.0.4) |
/// | `/openapi.json` | with the feature `openapi`: what the routes are, in OpenAPI 3.1 |
/// | `/_spark` | with the feature `dashboard`: a live page for people, which needs no network but this service |
///
/// Only `GET` and `HEAD`. What is watched by modules and servers is read when somebody asks; what
/// is counted of requests costs each a few relaxed atomic additions and two looks at the clock.
///
/// Cheap to clone; all clones are the same. There are two places for it:
///
/// * **On the ingress itself**: [`IngressBuilder::seeing`](crate::IngressBuilder::seeing).
/// * **On a listener of its own**, for administrators: an ingress that only counts
///   ([`IngressBuilder::seen_by`](crate::IngressBuilder::seen_by)), and a second
///   [`HttpServer`](crate::HttpServer) that serves this, which is a tower service. It asks for no
///   credentials: bind it to an address that only administrators reach.
///
/// The modules behind the routes of an ingress are watched by themselves; others are named with
/// [`watch`](Self::watch) or found in a [system](Self::watch_system).
///
/// # Examples
///
/// ```
/// use http::Request;
/// use spark_http::{Body, HttpServer, Ingress, Seeing};
/// use tower::ServiceExt as _;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let seeing = Seeing::new();
/// let ingress = Ingress::builder()
///     .handler_fn("hello", |_context, _body| async { "world" })
///     .seeing(&seeing)
///     .build()?;
/// let server = HttpServer::bind("127.0.0.1:0").await?;
/// seeing.watch_server("public", &server.handle());
///
/// let ready = Request::get("/readyz").body(Body::empty())?;
/// assert_eq!(ingress.clone().oneshot(ready).await?.status(), 200);
///
/// server.handle().drain();
/// let ready = Request::get("/readyz").body(Body::empty())?;
/// assert_eq!(ingress.oneshot(ready).await?.status(), 503);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Seeing(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: Box<str>,
    version: Box<str>,
    modules: Modules,
    routes: Mutex<Vec<SeenRoute>>,
    unrouted: RouteCounters,
    servers: Mutex<Vec<SeenServer>>,
    checks: Mutex<Vec<Check>>,
    ids: RequestIds,
    #[cfg(feature = "dashboard")]
    page: PageOf,
    #[cfg(feature = "openapi")]
    documented: Mutex<Vec<Documented>>,
}

/// What the live page alone needs.
#[cfg(feature = "dashboard")]
#[derive(Debug)]
struct PageOf {
    sampler: Sampler,
    since: Instant,
}

/// A route whose requests are counted.
#[derive(Clone, Debug)]
pub(crate) struct SeenRoute {
    pub(crate) label: Arc<str>,
    pub(crate) counters: Arc<RouteCounters>,
    /// The module it leads to.
    module: Option<Arc<WatchedModule>>,
}

#[derive(Clone, Debug)]
pub(crate) struct SeenServer {
    pub(crate) name: Arc<str>,
    pub(crate) handle: ServerHandle,
}

// === impl Seeing ===

impl Seeing {
    /// Watches nothing yet, of a service without a name.
    #[must_use]
    pub fn new() -> Self {
        Self::named("service", "")
    }

    /// As [`new`](Self::new), of a service that people know by `name` and `version`.
    #[must_use]
    pub fn named(name: impl Into<String>, version: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            name: name.into().into(),
            version: version.into().into(),
            modules: Modules::default(),
            routes: Mutex::default(),
            unrouted: RouteCounters::default(),
            servers: Mutex::default(),
            checks: Mutex::default(),
            ids: RequestIds::new(),
            #[cfg(feature = "dashboard")]
            page: PageOf {
                sampler: Sampler::new(),
                since: Instant::now(),
            },
            #[cfg(feature = "openapi")]
            documented: Mutex::default(),
        }))
    }

    /// Watches a module, without keeping it alive. Watching it again changes nothing.
    ///
    /// Takes a reference to its dispatcher or handle, or a weak dispatcher. One made from a bare
    /// mailbox has nothing to show and is left out. A module that ends stays, as ended, and the
    /// service is not ready until it is [forgotten](Self::forget).
    pub fn watch<M, R, C, E>(&self, module: impl Into<WeakDispatcher<M, R, C, E>>)
    where
        M: Send + 'static,
        R: Send + 'static,
        C: Send + 'static,
        E: Send + 'static,
    {
        if let Some(module) = WatchedModule::new(module.into()) {
            self.0.modules.add(module);
        }
    }

    /// Watches the modules that are registered with a system, and those it owns, whenever they
    /// come and go.
    ///
    /// Holds a clone of the system. The service is not ready while a registered module, or
    /// anything in the system's [trees](System::trees), restarts or stops, and while one of the
    /// trees has ended. A supervisor's child that has ended for good is its supervisor's to judge.
    pub fn watch_system(&self, system: &System) {
        self.0.modules.add_system(system);
    }

    /// Watches a server under `name`, in the place of one that was watched under it before. The
    /// service is not ready once it drains.
    pub fn watch_server(&self, name: impl Into<Arc<str>>, server: &ServerHandle) {
        let server = SeenServer {
            name: name.into(),
            handle: server.clone(),
        };
        let mut servers = lock(&self.0.servers);
        servers.retain(|known| known.name != server.name);
        servers.push(server);
    }

    /// Adds what must hold for the service to be ready, such as a connection to a database.
    ///
    /// `passes` is called whenever somebody asks, who need not be trusted, on the task that
    /// answers: it should look at what is known and not find out. A panic in it is traced, and
    /// does not pass.
    pub fn check(
        &self,
        name: impl Into<Arc<str>>,
        passes: impl Fn() -> bool + Send + Sync + 'static,
    ) {
        let check = Check::new(name.into(), passes);
        lock(&self.0.checks).push(check);
    }

    /// Takes off the modules called `name` that were [watched](Self::watch) by themselves.
    pub fn forget(&self, name: &str) {
        self.0.modules.remove(name);
    }

    /// Whether the service should get requests, as `/readyz` says.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.unready().is_ready()
    }

    pub(crate) fn unready(&self) -> Unready {
        let modules = self.0.modules.see();
        let checks = lock(&self.0.checks).clone();
        Unready {
            draining: self
                .servers()
                .into_iter()
                .filter(|server| server.handle.is_draining())
                .map(|server| server.name)
                .collect(),
            modules: modules
                .into_iter()
                .filter(modules::SeenModule::is_missed)
                .map(|module| module.name)
                .collect(),
            // Not under the lock: they are the user's.
            checks: checks
                .into_iter()
                .filter(|check| !check.passes())
                .map(|check| check.name)
                .collect(),
        }
    }

    /// The counters of the route called `label`: one set, however often it is asked for.
    pub(crate) fn route(
        &self,
        label: &str,
        module: Option<Arc<WatchedModule>>,
    ) -> Arc<RouteCounters> {
        if let Some(module) = &module {
            self.0.modules.add(Arc::clone(module));
        }
        let mut routes = lock(&self.0.routes);
        if let Some(known) = routes.iter().find(|route| *route.label == *label) {
            return Arc::clone(&known.counters);
        }
        let counters = Arc::new(RouteCounters::default());
        routes.push(SeenRoute {
            label: label.into(),
            counters: Arc::clone(&counters),
            module,
        });
        counters
    }

    /// The service's name and version.
    pub(crate) fn name(&self) -> (&str, &str) {
        (&self.0.name, &self.0.version)
    }

    pub(crate) fn routes(&self) -> Vec<SeenRoute> {
        lock(&self.0.routes).clone()
    }

    pub(crate) fn unrouted(&self) -> &RouteCounters {
        &self.0.unrouted
    }

    pub(crate) fn servers(&self) -> Vec<SeenServer> {
        lock(&self.0.servers).clone()
    }

    pub(crate) fn modules(&self) -> &Modules {
        &self.0.modules
    }

    pub(crate) fn answer(&self, view: View, parts: &Parts) -> Result<Answer, ErrorAnswer> {
        if parts.method != Method::GET && parts.method != Method::HEAD {
            return Err(ErrorAnswer::only_get());
        }
        let mut answer = match view {
            View::Live => answer::text("live")?,
            View::Ready => {
                let unready = self.unready();
                if !unready.is_ready() {
                    return Err(ErrorAnswer::not_ready(unready.summary()));
                }
                answer::text("ready")?
            }
            #[cfg(feature = "openapi")]
            View::OpenApi => answer::json(&self.openapi())?,
            #[cfg(feature = "dashboard")]
            View::Dashboard(part) => return part.answer(self, parts),
            View::Metrics => {
                let mut answer = Answer::new(Body::from(metrics::page(self)));
                let kind = HeaderValue::from_static(prometheus::CONTENT_TYPE);
                answer.headers_mut().insert(CONTENT_TYPE, kind);
                answer
            }
        };
        let never = HeaderValue::from_static("no-store");
        answer.headers_mut().insert(CACHE_CONTROL, never);
        Ok(answer)
    }
}

#[cfg(feature = "openapi")]
impl Seeing {
    /// The OpenAPI 3.1 document of the routes of all ingresses that are seen, as `/openapi.json`
    /// answers it.
    ///
    /// Left out is what answers everything below a path, or everything that nothing else does.
    /// Where two ingresses have one path and method, the later one is told of.
    #[must_use]
    pub fn openapi(&self) -> serde_json::Value {
        // Describing calls codecs, which are the user's: not under the lock.
        let documented = lock(&self.0.documented).clone();
        let (name, version) = self.name();
        openapi::render(name, version, &documented)
    }

    pub(crate) fn document(&self, routes: Vec<Documented>) {
        lock(&self.0.documented).extend(routes);
    }
}

#[cfg(feature = "dashboard")]
impl Seeing {
    pub(crate) fn sampler(&self) -> &Sampler {
        &self.0.page.sampler
    }

    pub(crate) fn up(&self) -> Duration {
        self.0.page.since.elapsed()
    }
}

impl Default for Seeing {
    fn default() -> Self {
        Self::new()
    }
}

impl SeenRoute {
    pub(crate) fn module_watch(&self) -> Option<&Watch> {
        self.module.as_deref().map(WatchedModule::watch)
    }
}

impl<B> Service<Request<B>> for Seeing {
    type Response = Answer;
    type Error = Infallible;
    type Future = Ready<Result<Answer, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (parts, _) = request.into_parts();
        let answered = match View::at(parts.uri.path()) {
            // Unwind safe: nothing is left half done by who only reads.
            Some(view) => catch_unwind(AssertUnwindSafe(|| self.answer(view, &parts)))
                .unwrap_or_else(|payload| {
                    let panic = panic::text(&*payload);
                    tracing::warn!(panic, "what is to be seen panicked");
                    Err(ErrorAnswer::internal(format_args!("panicked: {panic}")))
                }),
            None => Err(ErrorAnswer::nothing_here()),
        };
        let mut answer = answered.unwrap_or_else(ErrorAnswer::into_response);
        let id = self.0.ids.of(&parts.headers);
        answer.headers_mut().insert(X_REQUEST_ID, id);
        ready(Ok(answer))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that can panic runs under these locks; a poisoned one is still whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
