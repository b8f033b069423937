//! A tower service as a module.

use std::{fmt, future::poll_fn, marker::PhantomData};

use tower_service::Service;

use crate::{ModuleBuilder, NativeHandler, SparkChannelError, module};

/// Serves a tower service as a module's handler.
///
/// For each message it waits until the service is ready, calls it, and awaits its
/// answer: one message at a time, in order. For several at once, serve clones of the
/// service in a [`pool`](crate::pool). A command is a call whose response is dropped.
///
/// `E` is the module's error type, into which the service's is converted; `new`
/// takes the service's own.
///
/// A panic in the service is answered as in any module; what the
/// service is afterwards is its own affair, so give the module a
/// [`PanicPolicy`](crate::PanicPolicy) if it matters. When `poll_ready` fails, the caller
/// gets the error, and the next message asks again.
///
/// # Examples
///
/// A service whose error cannot hold a [`SparkChannelError`] names one that can:
///
/// ```
/// use std::convert::Infallible;
/// use spark_channel::{ServiceHandler, spawn_pool};
/// use tower::service_fn;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> eyre::Result<()> {
/// let double = service_fn(|n: u64| async move { Ok::<_, Infallible>(2 * n) });
/// let module = spawn_pool(2, move || ServiceHandler::new(double).error::<eyre::Report>());
///
/// assert_eq!(module.dispatcher().request(21_u64).await?, 42);
/// # Ok(())
/// # }
/// ```
pub struct ServiceHandler<S, Request, E> {
    service: S,
    types: PhantomData<fn(Request) -> E>,
}

/// Prepares a module that serves `service`; see [`ServiceHandler`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use spark_channel::{Stop, service_module};
/// use tower::{BoxError, ServiceBuilder, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let double = ServiceBuilder::new()
///     .timeout(Duration::from_secs(1))
///     .service(service_fn(|n: u64| async move { Ok::<_, BoxError>(2 * n) }));
/// let module = service_module(double).name("double").spawn();
///
/// assert_eq!(module.dispatcher().request(21_u64).await?, 42);
/// assert_eq!(module.shutdown(Stop::Drain).await.stats.handled, 1);
/// # Ok(())
/// # }
/// ```
pub fn service_module<S, Request>(service: S) -> ModuleBuilder<ServiceHandler<S, Request, S::Error>>
where
    S: Service<Request> + Send + 'static,
    S::Response: Send + 'static,
    S::Error: From<SparkChannelError> + Send + 'static,
    S::Future: Send,
    Request: Send + 'static,
{
    module(ServiceHandler::new(service))
}

// === impl ServiceHandler ===

impl<S: Service<Request>, Request> ServiceHandler<S, Request, S::Error> {
    /// Serves `service`, with its own error type as the module's.
    pub const fn new(service: S) -> Self {
        Self {
            service,
            types: PhantomData,
        }
    }
}

impl<S, Request, E> ServiceHandler<S, Request, E> {
    /// Makes `Error` the module's error type.
    pub fn error<Error>(self) -> ServiceHandler<S, Request, Error> {
        ServiceHandler {
            service: self.service,
            types: PhantomData,
        }
    }

    /// The service.
    pub fn into_inner(self) -> S {
        self.service
    }
}

impl<S, Request, E> NativeHandler for ServiceHandler<S, Request, E>
where
    S: Service<Request> + Send + 'static,
    S::Response: Send + 'static,
    S::Error: Send,
    S::Future: Send,
    Request: Send + 'static,
    E: From<S::Error> + From<SparkChannelError> + Send + 'static,
{
    type Message = Request;
    type Response = S::Response;
    type Error = E;

    async fn handle_request(&mut self, request: Request) -> Result<S::Response, E> {
        poll_fn(|cx| self.service.poll_ready(cx)).await?;
        Ok(self.service.call(request).await?)
    }

    async fn handle_command(&mut self, command: Request) -> Result<(), E> {
        self.handle_request(command).await.map(drop)
    }
}

impl<S: Clone, Request, E> Clone for ServiceHandler<S, Request, E> {
    fn clone(&self) -> Self {
        Self {
            service: self.service.clone(),
            types: PhantomData,
        }
    }
}

impl<S: fmt::Debug, Request, E> fmt::Debug for ServiceHandler<S, Request, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceHandler")
            .field("service", &self.service)
            .finish()
    }
}
