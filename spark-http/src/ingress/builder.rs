//! What an ingress is made of.

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use spark_channel::{SparkChannelError, SparkGenericModuleDispatcher};

use super::{
    Ingress, Inner, Limits, ShutdownCredential, shutdown,
    table::{Place, Registered},
};
use crate::{
    ApiKeys, Authenticate, Codec, ConfigError, Context, IntoAnswer, ModuleError, Route, Seeing,
    ServerHandle,
    auth::Authentication,
    config,
    permits::{ByteBudget, Permits},
    request_id::RequestIds,
    seeing::{Mount, Serves},
};

/// Settings and routes of an [`Ingress`] that does not exist yet.
#[derive(Debug)]
#[must_use = "an ingress exists once it is built"]
pub struct IngressBuilder {
    routes: Registered,
    authentication: Authentication,
    shutdown: Option<ShutdownCredential>,
    limits: Limits,
    mount: Option<Mount>,
}

// === impl IngressBuilder ===

impl IngressBuilder {
    pub(super) fn new() -> Self {
        Self {
            routes: Registered::default(),
            authentication: Authentication::Off,
            shutdown: None,
            limits: Limits {
                body_limit: 1024 * 1024,
                body_timeout: Duration::from_secs(30),
                handler_timeout: Duration::from_secs(120),
                in_flight: 10_000,
                queue: 1024,
                body_memory: None,
            },
            mount: None,
        }
    }

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
        self.routes.push(Place::Name(name.into()), route);
        self
    }

    /// Adds a route for a path of several segments, some of which may be `{parameter}`s.
    ///
    /// A parameter is a whole segment, and matches any that is not empty; its name has letters,
    /// digits and `_`. What it matched is in [`Context::path_parameters`]. Where a literal segment and a
    /// parameter both match, the literal one is preferred. The other segments are plain text, as names are.
    ///
    /// ```
    /// use http::{Method, Request};
    /// use spark_http::{Body, Context, Ingress, Route};
    /// use tower::ServiceExt as _;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let order = Route::handler_fn(|context: Context, _body| async move {
    ///     format!("order {}", context.path_parameters().get("id").unwrap_or_default())
    /// });
    /// let ingress = Ingress::builder().path("orders/{id}", order.methods([Method::GET])).build()?;
    ///
    /// let answer = ingress.oneshot(Request::get("/orders/7").body(Body::empty())?).await?;
    /// assert_eq!(answer.status(), 200);
    /// # Ok(())
    /// # }
    /// ```
    pub fn path(mut self, path: impl Into<String>, route: Route) -> Self {
        self.routes.push(Place::Path(path.into()), route);
        self
    }

    /// Adds a route, usually a [service](Route::service), for `path` and everything below it.
    ///
    /// Paths are handed on whole, with `path` in front. More specific routes go first.
    pub fn mount(mut self, path: impl Into<String>, route: Route) -> Self {
        self.routes.push(Place::Below(path.into()), route);
        self
    }

    /// Adds the route for whatever no other matches, in the place of 404.
    pub fn fallback(mut self, route: Route) -> Self {
        self.routes.push(Place::Fallback, route);
        self
    }

    /// Answers 401 to whoever does not send one of `keys`. Default: nobody is asked.
    ///
    /// Without a key in it, nobody is asked either. Replaces an earlier choice, also by
    /// [`authenticate`](Self::authenticate).
    pub fn api_keys(mut self, keys: ApiKeys) -> Self {
        self.authentication = if keys.is_empty() {
            Authentication::Off
        } else {
            Authentication::ApiKeys(keys)
        };
        self
    }

    /// Asks `authenticate` who sends a request, before anything is said about routes, and for all but
    /// [public](Route::public) ones. Default: nobody is asked.
    ///
    /// Replaces an earlier choice, also by [`api_keys`](Self::api_keys).
    pub fn authenticate(mut self, authenticate: impl Authenticate) -> Self {
        self.authentication = Authentication::own(authenticate);
        self
    }

    /// Drains `server` on `POST /shutdown` with `credential`, and answers 200
    /// `{"status": "Shutting down"}`. Default: there is no such route.
    ///
    /// The credential is sent in the way of an [API key](ApiKeys), and is none: API keys do not open this
    /// route, and whoever has none of them may use it. The request's body is not read, and no limit on
    /// requests holds it up. While the server drains, further requests are answered 503 as any other;
    /// they do not shorten the drain.
    ///
    /// ```
    /// use spark_http::{ConfigError, Ingress, ServerHandle, ShutdownCredential};
    ///
    /// fn ingress(server: ServerHandle, secret: &str) -> Result<Ingress, ConfigError> {
    ///     let credential = ShutdownCredential::new(secret)?;
    ///     Ingress::builder().shutdown_route(server, credential).build()
    /// }
    /// ```
    pub fn shutdown_route(mut self, server: ServerHandle, credential: ShutdownCredential) -> Self {
        self.shutdown = Some(credential.clone());
        self.route(shutdown::NAME, Route::shutdown(server, credential))
    }

    /// Answers 413 to larger bodies, in bytes. Default: 1 MiB.
    ///
    /// A body is held in memory whole; [`body_memory`](Self::body_memory) bounds them all.
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.limits.body_limit = bytes;
        self
    }

    /// Lets `requests` be in flight at a time, of all routes together; others wait in a
    /// [queue](Self::queue). Default: 10 000. `usize::MAX` is no limit.
    ///
    /// A request takes the permit of its [route](Route::concurrency) first and this one last, so
    /// that those who wait for a busy route hold up no others. A larger value lets more work compete for
    /// processors and memory.
    pub fn max_in_flight(mut self, requests: usize) -> Self {
        self.limits.in_flight = requests;
        self
    }

    /// Lets `requests` wait while as many as [may](Self::max_in_flight) are in flight; further ones are
    /// answered 503 at once. Default: 1024.
    ///
    /// A larger value turns fewer away in a burst, and makes those who wait wait longer.
    pub fn queue(mut self, requests: usize) -> Self {
        self.limits.queue = requests;
        self
    }

    /// Bounds what the bodies of requests take in memory, all together, in bytes. Default: 256 MiB, or
    /// the largest body limit if that is more.
    ///
    /// A body counts from its first byte, while it waits and until its handler has answered or the client
    /// has left. At the bound,
    /// the request whose next bytes do not fit is answered 503; nobody waits for memory, as
    /// those who hold some could be waiting for each other. Bodies that are streamed do not count.
    pub fn body_memory(mut self, bytes: usize) -> Self {
        self.limits.body_memory = Some(bytes);
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

    /// Counts requests for `seeing`, and answers its addresses in front of the routes.
    ///
    /// Health and readiness need no credential, the rest needs one if routes do. Replaces an
    /// earlier choice.
    pub fn seeing(mut self, seeing: &Seeing) -> Self {
        self.mount = Some(Mount::new(seeing, Serves::OpenHealth));
        self
    }

    /// As [`seeing`](Self::seeing), with nothing open to those without a credential.
    pub fn seeing_guarded(mut self, seeing: &Seeing) -> Self {
        self.mount = Some(Mount::new(seeing, Serves::Guarded));
        self
    }

    /// Counts requests for `seeing` and answers none of its addresses, which are served from a
    /// listener of their own.
    pub fn seen_by(mut self, seeing: &Seeing) -> Self {
        self.mount = Some(Mount::new(seeing, Serves::Nothing));
        self
    }

    /// Makes the ingress.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] when a name or path and a method are taken twice, or two paths cannot be told
    /// apart; when a name, or a segment of a path, is empty, longer than 128 bytes, `.` or `..`, or has a
    /// control character in it, or a name a `/`; when a route has an address of what
    /// [sees](Self::seeing) it, or [allows](Route::allow) identities that nothing establishes; when the
    /// credential of the shutdown route is an API key; when a timeout or a limit on requests is zero, or a
    /// route has a queue without a concurrency; and when a body may be larger than all
    /// bodies together.
    pub fn build(self) -> Result<Ingress, ConfigError> {
        config::check_timeouts(&[
            ("body_timeout", self.limits.body_timeout),
            ("handler_timeout", self.limits.handler_timeout),
        ])?;
        if let (Some(shutdown), Authentication::ApiKeys(keys)) =
            (&self.shutdown, &self.authentication)
            && keys.has(&shutdown.0)
        {
            return Err(ConfigError::InvalidCredential {
                name: shutdown::NAME.to_owned(),
                reason: "is an API key",
            });
        }
        let mut table = self.routes.build()?;
        let permits = self.limits.permits()?;
        let body_memory = self
            .limits
            .body_memory(table.routes().map(|named| &named.route))?;
        for named in table.routes() {
            self.authentication.check_route(&named.name, &named.route)?;
            if let Some(timeout) = named.route.handler_timeout {
                config::check_timeouts(&[("handler_timeout", timeout)])?;
            }
        }
        if let Some(mount) = &self.mount {
            for named in table.routes_mut() {
                mount.claim(&named.name)?;
                named.counters = Some(mount.counters(&named.name, &named.route));
            }
            #[cfg(feature = "openapi")]
            mount.document(table.documented(|route| self.authentication.asks_key(route)));
        }
        Ok(Ingress {
            inner: Arc::new(Inner {
                table,
                authentication: self.authentication,
                permits,
                bodies: ByteBudget::new(body_memory),
                limits: self.limits,
                ids: RequestIds::new(),
                mount: self.mount,
            }),
        })
    }
}

// === impl Limits ===

impl Limits {
    /// # Errors
    ///
    /// [`ConfigError::ZeroLimit`].
    fn permits(&self) -> Result<Option<Arc<Permits>>, ConfigError> {
        match self.in_flight {
            0 => Err(ConfigError::ZeroLimit {
                setting: "max_in_flight",
            }),
            usize::MAX => Ok(None),
            limit => Ok(Some(Permits::new(limit, self.queue))),
        }
    }

    /// # Errors
    ///
    /// [`ConfigError::BodyLimitAboveMemory`] if the body of one of `routes` could never be read.
    fn body_memory<'a>(
        &self,
        routes: impl Iterator<Item = &'a Route>,
    ) -> Result<usize, ConfigError> {
        let limits = routes.filter_map(Route::whole_body_limit);
        let body_limit = limits.fold(self.body_limit, usize::max);
        match self.body_memory {
            None => Ok(BODY_MEMORY.max(body_limit)),
            Some(body_memory) if body_memory < body_limit => {
                Err(ConfigError::BodyLimitAboveMemory {
                    body_limit,
                    body_memory,
                })
            }
            Some(body_memory) => Ok(body_memory),
        }
    }
}

/// Bodies of the default limit for 256 requests, or of the usual kilobytes for many more.
const BODY_MEMORY: usize = 256 * 1024 * 1024;
