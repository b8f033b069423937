//! Who sends a request, and whether it may go on.

use std::{any::Any, fmt, future::Future, pin::Pin, sync::Arc};

use http::{HeaderMap, request::Parts};

use crate::{ConfigError, ErrorAnswer, Route};

mod api_keys;
#[cfg(feature = "tls")]
mod client_names;
mod secret;

pub use api_keys::ApiKeys;
#[cfg(feature = "tls")]
pub use client_names::ClientNames;
pub(crate) use secret::{Secret, is_credential};

/// Finds out who sends a request, from its head.
///
/// It runs before anything is said about routes, so that whoever has no credentials cannot learn
/// which there are. [`ApiKeys`] is one. An own one sees method, URI, headers, and what the server and
/// layers attached as extensions: the [client's address](crate::PeerAddr), and over TLS its
/// certificate. It has as long as the ingress's
/// [handler timeout](crate::IngressBuilder::handler_timeout); then the answer is 504.
///
/// # Examples
///
/// ```
/// use http::request::Parts;
/// use spark_http::{ApiKeys, Authenticate, ErrorAnswer, Identity, PeerAddr};
///
/// /// Whoever is on this machine needs no key.
/// struct LocalOr(ApiKeys);
///
/// impl Authenticate for LocalOr {
///     async fn authenticate(&self, head: &Parts) -> Result<Identity, ErrorAnswer> {
///         let peer = head.extensions.get::<PeerAddr>().and_then(|peer| peer.0.as_socket_addr());
///         match peer {
///             Some(peer) if peer.ip().is_loopback() => Ok(Identity::new("local")),
///             _ => self.0.authenticate(head).await,
///         }
///     }
/// }
/// ```
pub trait Authenticate: Send + Sync + 'static {
    /// Says who sends the request.
    ///
    /// # Errors
    ///
    /// The answer to send instead: [`unauthorized`](ErrorAnswer::unauthorized) to those who are
    /// nobody yet, [`forbidden`](ErrorAnswer::forbidden) to those who are the wrong one.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped when the client leaves.
    fn authenticate(
        &self,
        head: &Parts,
    ) -> impl Future<Output = Result<Identity, ErrorAnswer>> + Send;
}

/// Who sends a request, as its [`Authenticate`] found out. Cheap to clone.
///
/// ```
/// use spark_http::Identity;
///
/// struct Tenant(u32);
///
/// let identity = Identity::new("billing").with_claims(Tenant(7));
/// assert_eq!(identity.name(), "billing");
/// assert_eq!(identity.claims::<Tenant>().map(|tenant| tenant.0), Some(7));
/// ```
#[derive(Clone)]
pub struct Identity {
    name: Arc<str>,
    claims: Option<Arc<dyn Any + Send + Sync>>,
}

/// How an ingress authenticates.
#[derive(Clone)]
pub(crate) enum Authentication {
    Off,
    /// Apart from the rest because it needs no box per request.
    ApiKeys(ApiKeys),
    Own(Arc<dyn DynAuthenticate>),
}

/// Who may use a route.
#[derive(Clone)]
pub(crate) enum Access {
    /// Whoever the ingress lets in.
    Identified,
    /// Whoever asks.
    Public,
    /// Those for whom the rule holds.
    Allowed(Arc<dyn Fn(&Identity) -> bool + Send + Sync>),
    /// Whoever knows this, which is no API key.
    Holder(Secret),
}

/// [`Authenticate`] behind a pointer.
pub(crate) trait DynAuthenticate: Send + Sync {
    fn check<'a>(&'a self, head: &'a Parts) -> Checking<'a>;
}

type Checking<'a> = Pin<Box<dyn Future<Output = Result<Identity, ErrorAnswer>> + Send + 'a>>;

// === impl Identity ===

impl Identity {
    /// An identity of this name. Names go to logs; they are no secrets.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            claims: None,
        }
    }

    /// Adds what else is known, in place of what was added before.
    #[must_use]
    pub fn with_claims<T: Any + Send + Sync>(mut self, claims: T) -> Self {
        self.claims = Some(Arc::new(claims));
        self
    }

    /// The name; for an API key, the key's.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What was added with [`with_claims`](Self::with_claims), if it is a `T`.
    #[must_use]
    pub fn claims<T: Any>(&self) -> Option<&T> {
        self.claims.as_deref()?.downcast_ref()
    }
}

impl fmt::Debug for Identity {
    // Without claims, which may be anything.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.name).finish()
    }
}

// === impl Authentication ===

impl Authentication {
    /// Whether a request for `route` needs an API key.
    #[cfg(feature = "openapi")]
    pub(crate) fn asks_key(&self, route: &Route) -> bool {
        matches!(self, Self::ApiKeys(_)) && !matches!(route.access, Access::Public)
    }

    pub(crate) fn own(authenticate: impl Authenticate) -> Self {
        Self::Own(Arc::new(authenticate))
    }

    /// Whether user code decides, and how long it takes.
    pub(crate) fn is_own(&self) -> bool {
        matches!(self, Self::Own(_))
    }

    /// `None` if this ingress asks nobody.
    ///
    /// # Errors
    ///
    /// As [`Authenticate::authenticate`].
    pub(crate) async fn check(&self, head: &Parts) -> Result<Option<Identity>, ErrorAnswer> {
        match self {
            Self::Off => Ok(None),
            Self::ApiKeys(keys) => keys.check(&head.headers).map(Some),
            Self::Own(own) => own.check(head).await.map(Some),
        }
    }

    /// # Errors
    ///
    /// [`ConfigError`] if the route called `name` asks for identities that nobody establishes.
    pub(crate) fn check_route(&self, name: &str, route: &Route) -> Result<(), ConfigError> {
        match (self, &route.access) {
            (Self::Off, Access::Allowed(_)) => Err(ConfigError::AllowWithoutAuthentication {
                name: name.to_owned(),
            }),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("Off"),
            Self::ApiKeys(keys) => keys.fmt(f),
            Self::Own(_) => f.write_str("Own"),
        }
    }
}

// === impl Access ===

impl Access {
    /// Whether the ingress's authentication comes first.
    pub(crate) fn needs_identity(&self, headers: &HeaderMap) -> bool {
        match self {
            Self::Identified | Self::Allowed(_) => true,
            Self::Public => false,
            // Whoever does not hold it is answered as on any other path, so that this one cannot be told
            // from them.
            Self::Holder(_) => self.check(None, headers).is_err(),
        }
    }

    /// # Errors
    ///
    /// 403 to the wrong identity; 401 to whoever does not hold what is needed.
    pub(crate) fn check(
        &self,
        identity: Option<&Identity>,
        headers: &HeaderMap,
    ) -> Result<(), ErrorAnswer> {
        match self {
            Self::Identified | Self::Public => Ok(()),
            Self::Allowed(rule) if identity.is_some_and(|identity| rule(identity)) => Ok(()),
            Self::Allowed(_) => Err(ErrorAnswer::forbidden("not allowed")),
            Self::Holder(secret) if secret.is(&Secret::presented(headers)?).into() => Ok(()),
            Self::Holder(_) => Err(ErrorAnswer::unauthorized("Invalid API Key")),
        }
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Identified => "Identified",
            Self::Public => "Public",
            Self::Allowed(_) => "Allowed",
            Self::Holder(_) => "Holder",
        })
    }
}

// === impl DynAuthenticate ===

impl<T: Authenticate> DynAuthenticate for T {
    fn check<'a>(&'a self, head: &'a Parts) -> Checking<'a> {
        Box::pin(self.authenticate(head))
    }
}

// === impl Route ===

impl Route {
    /// Answers without asking who sends the request: for health checks and the like.
    ///
    /// Credentials that come with the request are not looked at, so there is no
    /// [identity](crate::Context::identity). Replaces an earlier [`allow`](Self::allow).
    pub fn public(mut self) -> Self {
        self.access = Access::Public;
        self
    }

    /// Answers 403 to identities for which `rule` does not hold. Default: everybody who is
    /// [authenticated](crate::IngressBuilder::authenticate) may use a route.
    ///
    /// The rule runs for each request and should be quick. Replaces an earlier rule, or
    /// [`public`](Self::public).
    pub fn allow(mut self, rule: impl Fn(&Identity) -> bool + Send + Sync + 'static) -> Self {
        self.access = Access::Allowed(Arc::new(rule));
        self
    }
}
