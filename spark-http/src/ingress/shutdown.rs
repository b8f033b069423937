//! The route that stops the server.

use std::{fmt, sync::Arc};

use http::{HeaderValue, header::CONNECTION};
use serde::Serialize;

use crate::{
    Body, ConfigError, Context, Route, ServerHandle, answer,
    auth::{Access, Secret},
    body::BodyLimits,
    permits::RouteLimit,
    route::{Running, StreamedTarget, Target},
};

/// What a client must send to [stop the server](crate::IngressBuilder::shutdown_route), in the
/// way of an [API key](crate::ApiKeys).
///
/// Only its digest is kept.
#[derive(Clone)]
pub struct ShutdownCredential(pub(super) Secret);

/// Does not read the body, so that neither a slow one nor too many others can hold it up.
struct ShutdownTarget(ServerHandle);

/// The shape of the answer, as `manager_handlers` 0.7.2 has it on the wire.
#[derive(Serialize)]
struct Wire {
    status: &'static str,
}

// === impl ShutdownCredential ===

impl ShutdownCredential {
    /// The credential `secret`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidCredential`] if it is empty, begins or ends with a space, or has a control
    /// character in it.
    pub fn new(secret: impl AsRef<str>) -> Result<Self, ConfigError> {
        Secret::configured(NAME, secret.as_ref()).map(Self)
    }
}

impl fmt::Debug for ShutdownCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ShutdownCredential")
    }
}

// === impl Route ===

impl Route {
    pub(super) fn shutdown(server: ServerHandle, credential: ShutdownCredential) -> Self {
        let mut route = Self::new(Target::Streamed(Arc::new(ShutdownTarget(server))));
        route.access = Access::Holder(credential.0);
        route.in_flight = RouteLimit::Exempt;
        route
    }
}

// === impl StreamedTarget ===

impl StreamedTarget for ShutdownTarget {
    fn call(self: Arc<Self>, context: Context, _: Body, _: BodyLimits) -> Running {
        Box::pin(async move {
            tracing::info!(peer = ?context.peer(), "shutdown asked for over HTTP");
            self.0.drain();
            let mut answer = answer::json(&Wire {
                status: "Shutting down",
            })?;
            // The server may not have noticed yet, and would keep the connection for a next request.
            let close = HeaderValue::from_static("close");
            answer.headers_mut().insert(CONNECTION, close);
            Ok(answer)
        })
    }
}

/// The name of the route, and of its credential in errors.
pub(super) const NAME: &str = "shutdown";
