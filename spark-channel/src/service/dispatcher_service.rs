//! A dispatcher as a tower service.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tower_service::Service;

use super::place::Place;
use crate::{
    Request, SparkChannelCancellationToken, SparkChannelError, SparkGenericModuleDispatcher,
    dispatcher::Envelope, request::Placed,
};

/// A dispatcher as a [`tower::Service`](Service): a call is a request.
///
/// Made by [`SparkGenericModuleDispatcher::service`].
///
/// **Readiness is a place.** `poll_ready` waits for room in the mailbox and reserves
/// it; `call` sends into the reserved place at once, without waiting. So a layer above
/// sees the module's backpressure, and messages of one service are handled in the
/// order of the calls. Each clone reserves for itself, at most one place; it is given
/// back when the service is dropped, and when the module stops. Until then it counts
/// in [`Stats::depth`](crate::Stats::depth), and nobody else can use it: keep
/// no more ready services than the mailbox has places to spare. Called without having
/// been ready, it takes a place if there is one now, and fails with
/// [`Full`](SparkChannelError::Full) if not.
///
/// A module with [classes](crate::ModuleBuilder::classify) is always ready, since only a
/// message says which class it needs room in; a call whose class has none and would wait
/// fails with [`Full`](SparkChannelError::Full).
///
/// **Errors** are the module's error type. `poll_ready` fails only once the module is
/// stopping or has stopped, which is for good. What concerns a single call fails that
/// call: in a handler, `poll_ready` waits no longer than the deadline of the request
/// being handled, and then the call is
/// [`TimedOut`](SparkChannelError::TimedOut); where waiting would close a circle of
/// modules, it is [`WouldDeadlock`](SparkChannelError::WouldDeadlock).
///
/// **Deadlines.** A call has the module's default timeout, from `call` on, and inherits
/// the deadline of the request being handled where `call` is made. A layer that makes
/// the call on a task of its own, such as tower's `Buffer`, has no deadline to pass on;
/// put a timeout outside of it. When a layer drops a call, the module skips it, or its
/// handler can [learn it](crate::current::cancelled).
///
/// A dispatcher made with [`new`](SparkGenericModuleDispatcher::new) cannot
/// see a stop. There, a reserved place that is not used keeps the module from ending,
/// until the deadline of its shutdown, like any permit of the raw sender.
///
/// Compared with [`request`](SparkGenericModuleDispatcher::request), a call costs one
/// allocation more.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use spark_channel::spawn_module;
/// use tower::{Service, ServiceBuilder, ServiceExt};
/// # use spark_channel::NativeHandler;
/// # struct Length;
/// # impl NativeHandler for Length {
/// #     type Message = String;
/// #     type Response = usize;
/// #     type Error = eyre::Report;
/// #     async fn handle_request(&mut self, m: String) -> eyre::Result<usize> { Ok(m.len()) }
/// #     async fn handle_command(&mut self, _: String) -> eyre::Result<()> { Ok(()) }
/// # }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower::BoxError> {
/// let module = spawn_module(Length);
/// let mut length = ServiceBuilder::new()
///     .concurrency_limit(16)
///     .timeout(Duration::from_secs(1))
///     .service(module.dispatcher().service());
///
/// assert_eq!(length.ready().await?.call("four".to_owned()).await?, 4);
/// # Ok(())
/// # }
/// ```
pub struct DispatcherService<M, R, C = SparkChannelCancellationToken, E = eyre::Report> {
    dispatcher: SparkGenericModuleDispatcher<M, R, C, E>,
    // Made when the service is first polled: a clone that is only cloned again, as
    // tower's users do, costs nothing.
    place: Option<Place<Envelope<M, R, C, E>>>,
}

/// The future of one call of a [`DispatcherService`].
///
/// # Cancel safety
///
/// Dropping it is how a call is given up: the message is skipped if its handler has
/// not started; a running handler goes on, and can
/// [learn it](crate::current::cancelled).
#[must_use = "the answer comes to whoever awaits it"]
pub struct ServiceCall<R, E> {
    answer: Pin<Box<dyn Future<Output = Result<R, E>> + Send>>,
}

// === impl SparkGenericModuleDispatcher ===

impl<M, R, C, E> SparkGenericModuleDispatcher<M, R, C, E> {
    /// This dispatcher as a [`tower::Service`](Service).
    #[must_use]
    pub fn service(&self) -> DispatcherService<M, R, C, E> {
        DispatcherService::new(self.clone())
    }
}

// === impl DispatcherService ===

impl<M, R, C, E> DispatcherService<M, R, C, E> {
    /// Makes a service of `dispatcher`.
    #[must_use]
    pub const fn new(dispatcher: SparkGenericModuleDispatcher<M, R, C, E>) -> Self {
        Self {
            dispatcher,
            place: None,
        }
    }

    /// The dispatcher it calls through.
    #[must_use]
    pub const fn dispatcher(&self) -> &SparkGenericModuleDispatcher<M, R, C, E> {
        &self.dispatcher
    }
}

impl<M, R, C, E> DispatcherService<M, R, C, E>
where
    M: Send + 'static,
    R: Send + 'static,
    C: Send + 'static,
    E: Send + 'static,
{
    fn make_place(&self) -> Place<Envelope<M, R, C, E>> {
        let place = Place::empty();
        if let Some(control) = self.dispatcher.control() {
            control
                .reservations
                .add(Arc::downgrade(&place.as_release()));
        }
        place
    }
}

impl<M, R, C, E> Service<M> for DispatcherService<M, R, C, E>
where
    M: Send + 'static,
    R: Send + 'static,
    C: Send + 'static,
    E: From<SparkChannelError> + Send + 'static,
{
    type Response = R;
    type Error = E;
    type Future = ServiceCall<R, E>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        let place = match self.place.take() {
            Some(place) => place,
            None => self.make_place(),
        };
        let place = self.place.insert(place);
        if Request::asks_itself(&self.dispatcher) {
            // Waiting here would be for oneself; the call will say so.
            return Poll::Ready(Ok(()));
        }
        let dispatcher = &self.dispatcher;
        if dispatcher.intake().is_some() {
            // Which class the next message has, it says itself.
            let is_closed = dispatcher.is_closed();
            return Poll::Ready(if is_closed {
                Err(dispatcher.closed_reason().into())
            } else {
                Ok(())
            });
        }
        ready!(place.poll_reserve(&dispatcher.sender, dispatcher.control(), cx))
            .map_err(|_| dispatcher.closed_reason().into())
            .into()
    }

    fn call(&mut self, message: M) -> Self::Future {
        let dispatcher = &self.dispatcher;
        let edge = match Request::wait(dispatcher) {
            Ok(edge) => edge,
            Err(reason) => return ServiceCall::failed(reason),
        };
        if let Some(intake) = dispatcher.intake() {
            return match Request::place_by_class(dispatcher, intake, message, edge) {
                Ok(placed) => ServiceCall::placed(dispatcher, placed),
                Err(reason) => ServiceCall::failed(reason),
            };
        }
        let permit = match &self.place {
            Some(place) => place.take(&dispatcher.sender, dispatcher.control()),
            None => Place::empty().take(&dispatcher.sender, dispatcher.control()),
        };
        match permit {
            Ok(permit) => {
                let placed = Request::place(dispatcher, permit, message, edge);
                ServiceCall::placed(dispatcher, placed)
            }
            Err(reason) => {
                let reason = reason.unwrap_or_else(|| dispatcher.closed_reason());
                ServiceCall::failed(dispatcher.refuse(reason, ()).reason)
            }
        }
    }
}

impl<M, R, C, E> Clone for DispatcherService<M, R, C, E> {
    fn clone(&self) -> Self {
        Self::new(self.dispatcher.clone())
    }
}

impl<M, R, C, E> From<SparkGenericModuleDispatcher<M, R, C, E>> for DispatcherService<M, R, C, E> {
    fn from(dispatcher: SparkGenericModuleDispatcher<M, R, C, E>) -> Self {
        Self::new(dispatcher)
    }
}

impl<M, R, C, E> fmt::Debug for DispatcherService<M, R, C, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DispatcherService")
            .field("dispatcher", &self.dispatcher)
            .finish_non_exhaustive()
    }
}

// === impl ServiceCall ===

impl<R: Send + 'static, E: From<SparkChannelError> + Send + 'static> ServiceCall<R, E> {
    fn new(answer: impl Future<Output = Result<R, E>> + Send + 'static) -> Self {
        Self {
            answer: Box::pin(answer),
        }
    }

    fn placed<M, C>(
        dispatcher: &SparkGenericModuleDispatcher<M, R, C, E>,
        placed: Placed<R, E>,
    ) -> Self
    where
        M: Send + 'static,
        C: Send + 'static,
    {
        let dispatcher = dispatcher.clone();
        Self::new(async move { Request::placed(&dispatcher, placed).await })
    }

    fn failed(reason: SparkChannelError) -> Self {
        Self::new(std::future::ready(Err(reason.into())))
    }
}

impl<R, E> Future for ServiceCall<R, E> {
    type Output = Result<R, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.answer.as_mut().poll(cx)
    }
}

impl<R, E> fmt::Debug for ServiceCall<R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceCall").finish_non_exhaustive()
    }
}
