//! What a handler and a codec can see of a request beside its body.

use std::{fmt, sync::Arc, time::Duration};

use http::{Extensions, HeaderMap, Method, Uri, Version, request::Parts};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

#[cfg(feature = "tls")]
use crate::ClientCertificate;
use crate::{Address, ErrorAnswer, Identity, PathParameters, head::Head, params};

/// What is known of a request beside its body.
pub struct Context {
    head: Box<Head>,
    handler: Arc<str>,
    path_parameters: PathParameters,
    identity: Option<Identity>,
    deadline: Option<Instant>,
}

/// The client's address, as a request extension.
///
/// [`HttpServer`](crate::HttpServer) adds it to every request. Another server, or a
/// layer that trusts a proxy's header, may add or replace it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddr(pub Address);

// === impl Context ===

impl Context {
    pub(crate) fn new(
        head: Box<Head>,
        handler: Arc<str>,
        path_parameters: PathParameters,
        identity: Option<Identity>,
        deadline: Option<Instant>,
    ) -> Self {
        Self {
            head,
            handler,
            path_parameters,
            identity,
            deadline,
        }
    }

    /// The route's name, or its path as it was registered.
    #[must_use]
    pub fn handler(&self) -> &str {
        &self.handler
    }

    /// Who sends the request; `None` if the ingress does not
    /// [authenticate](crate::IngressBuilder::authenticate), or not for this
    /// [route](crate::Route::public).
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// The request's method.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.head.parts.method
    }

    #[cfg(feature = "ws")]
    pub(crate) fn take_extension<T: Send + Sync + 'static>(&mut self) -> Option<T> {
        self.head.parts.extensions.remove()
    }

    pub(crate) fn version(&self) -> Version {
        self.head.parts.version
    }

    /// The request's target, as sent.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.head.parts.uri
    }

    /// What follows the `?` of the target, as sent: still percent-encoded.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.head.parts.uri.query()
    }

    /// What the request's path has in the place of its route's `{parameter}`s.
    #[must_use]
    pub fn path_parameters(&self) -> &PathParameters {
        &self.path_parameters
    }

    /// Reads the path's parameters as a `T`: a struct or a map by their names, a tuple by their
    /// order, or, if there is one only, a single value.
    ///
    /// Numbers, `true` and `false`, characters, text and enum variants without fields are read from
    /// text as it stands; numbers that are not finite are refused.
    ///
    /// # Errors
    ///
    /// 400, with a pointer to the parameter at fault.
    pub fn path<T: DeserializeOwned>(&self) -> Result<T, ErrorAnswer> {
        params::from_path(self.path_parameters())
    }

    /// Reads the query as a `T`: a struct or a map, each value as [`path`](Self::path) reads it.
    ///
    /// A name that is given several times is a sequence, and an error where one value is asked for. A
    /// name without a value has the value `""`. What is asked for with `#[serde(flatten)]` is read
    /// as text only.
    ///
    /// # Errors
    ///
    /// 400, with a pointer to the parameter at fault.
    pub fn query_as<T: DeserializeOwned>(&self) -> Result<T, ErrorAnswer> {
        params::from_query(self.query())
    }

    /// Reads the path's parameters and the query as one `T`; see [`path`](Self::path) and
    /// [`query_as`](Self::query_as).
    ///
    /// # Errors
    ///
    /// 400, with a pointer to the parameter at fault, also if the query repeats a name of the path.
    pub fn params<T: DeserializeOwned>(&self) -> Result<T, ErrorAnswer> {
        params::from_both(self.path_parameters(), self.query())
    }

    /// The request's headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.head.parts.headers
    }

    /// The id of the last [event](crate::SseEvent::id) that the client has seen, if it has come back
    /// for more: its `Last-Event-ID`.
    #[must_use]
    pub fn last_event_id(&self) -> Option<&str> {
        let id = self.headers().get("last-event-id")?;
        str::from_utf8(id.as_bytes()).ok()
    }

    /// What servers and layers attached to the request.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        &self.head.parts.extensions
    }

    /// The client's address, if whoever accepted the connection [told](PeerAddr).
    #[must_use]
    pub fn peer(&self) -> Option<&Address> {
        self.extensions().get().map(|PeerAddr(address)| address)
    }

    /// The client's verified certificate, if it had to show one.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn client_certificate(&self) -> Option<&ClientCertificate> {
        self.extensions().get()
    }

    /// The value of the answer's `x-request-id`: the client's own if it sent a
    /// sane one, otherwise a new one.
    #[must_use]
    pub fn request_id(&self) -> &str {
        // Both kinds are visible ASCII, which is checked where they are made.
        self.head.id.to_str().unwrap_or_default()
    }

    /// The request's head, for whoever serves it from here on; the identity is an extension.
    pub(crate) fn into_parts(mut self) -> Parts {
        if let Some(identity) = self.identity {
            self.head.parts.extensions.insert(identity);
        }
        self.head.parts
    }

    /// When the client gets an answer whether the handler is done or not; `None` if the handler
    /// has no timeout.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// How much is left until the [`deadline`](Self::deadline); zero once it has passed,
    /// `None` if there is none.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        let deadline = self.deadline?;
        Some(deadline.saturating_duration_since(Instant::now()))
    }
}

impl fmt::Debug for Context {
    // Without headers and query: they may carry credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("handler", &self.handler)
            .field("method", self.method())
            .field("peer", &self.peer())
            .field("request_id", &self.head.id)
            .finish_non_exhaustive()
    }
}
