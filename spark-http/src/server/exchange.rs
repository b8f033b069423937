//! One request and its answer: what the server adds on the way, and how it counts them.

use std::{
    error::Error,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header::CONNECTION};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tokio_util::task::TaskTracker;
use tower_service::Service;

use super::{
    report::{Counts, bump},
    socket::{Tap, lock},
};
use crate::{
    Answer, Body, ErrorAnswer, PeerAddr,
    request_id::{RequestIds, X_REQUEST_ID},
};

/// What all connections of a server share.
pub(super) struct Shared {
    pub(super) draining: AtomicBool,
    /// One token per busy connection.
    pub(super) busy: TaskTracker,
    pub(super) counts: Counts,
    pub(super) ids: RequestIds,
}

/// A connection's requests, as hyper hands them over.
pub(super) struct Exchanges<S, T> {
    pub(super) service: S,
    pub(super) peer: SocketAddr,
    pub(super) shared: Arc<Shared>,
    pub(super) tap: Arc<Mutex<Tap<T>>>,
}

pin_project! {
    /// The body of an answer, which knows when it has gone out.
    pub(super) struct Outgoing<B, T> {
        #[pin]
        body: Either<B>,
        exchange: Exchange<T>,
    }
}

pin_project! {
    #[project = EitherProjection]
    enum Either<B> {
        Own { body: Body },
        Service { #[pin] body: B },
    }
}

/// A request under way. Dropped when its answer is complete, or when it never will be.
struct Exchange<T> {
    shared: Arc<Shared>,
    tap: Arc<Mutex<Tap<T>>>,
    answered: bool,
}

// === impl Shared ===

impl Shared {
    pub(super) fn new() -> Self {
        Self {
            draining: AtomicBool::new(false),
            busy: TaskTracker::new(),
            counts: Counts::default(),
            ids: RequestIds::new(),
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}

// === impl Exchanges ===

impl<S, T, B> hyper::service::Service<Request<Incoming>> for Exchanges<S, T>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
    T: Send + 'static,
{
    type Response = Response<Outgoing<B, T>>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        // Before anything else: what hyper writes from here on is owed to the client.
        let exchange = Exchange::begin(&self.shared, &self.tap);
        let service = self.service.clone();
        let peer = PeerAddr(self.peer);
        Box::pin(async move { Ok(exchange.answer(service, peer, request).await) })
    }
}

// === impl Exchange ===

impl<T> Exchange<T> {
    fn begin(shared: &Arc<Shared>, tap: &Arc<Mutex<Tap<T>>>) -> Self {
        lock(tap).begin();
        Self {
            shared: Arc::clone(shared),
            tap: Arc::clone(tap),
            answered: false,
        }
    }

    async fn answer<S, B>(
        self,
        mut service: S,
        peer: PeerAddr,
        request: Request<Incoming>,
    ) -> Response<Outgoing<B, T>>
    where
        S: Service<Request<Body>, Response = Response<B>>,
        S::Error: Into<Box<dyn Error + Send + Sync>>,
        B: http_body::Body,
    {
        let unread = Arc::clone(&lock(&self.tap).unread);
        let mut request = request.map(|body| Body::incoming(body, unread));
        let id = self.shared.ids.of(request.headers());
        if self.shared.is_draining() {
            bump(&self.shared.counts.refused);
            return self.own(ErrorAnswer::draining(), id);
        }
        request.extensions_mut().insert(peer);
        let without_body = request.method() == Method::HEAD;
        let ready = std::future::poll_fn(|cx| service.poll_ready(cx).map_err(Into::into)).await;
        let answered: Result<_, Box<dyn Error + Send + Sync>> = match ready {
            Ok(()) => service.call(request).await.map_err(Into::into),
            Err(error) => Err(error),
        };
        match answered {
            Ok(answer) => {
                let mut answer = self.wrap(answer.map(|body| Either::Service { body }));
                answer.body_mut().exchange.answered |= without_body;
                answer
            }
            Err(error) => {
                tracing::warn!(error = %error, request_id = ?id, "service failed");
                self.own(ErrorAnswer::internal(error), id)
            }
        }
    }

    fn own<B: http_body::Body>(
        self,
        error: ErrorAnswer,
        id: HeaderValue,
    ) -> Response<Outgoing<B, T>> {
        let mut answer: Answer = error.into_response();
        answer.headers_mut().insert(X_REQUEST_ID, id);
        self.wrap(answer.map(|body| Either::Own { body }))
    }

    fn wrap<B: http_body::Body>(
        mut self,
        mut answer: Response<Either<B>>,
    ) -> Response<Outgoing<B, T>> {
        if self.shared.is_draining() {
            let close = HeaderValue::from_static("close");
            answer.headers_mut().insert(CONNECTION, close);
        }
        // hyper does not poll a body that has nothing to say.
        self.answered = answer.body().is_end_stream();
        answer.map(|body| Outgoing {
            body,
            exchange: self,
        })
    }
}

impl<T> Drop for Exchange<T> {
    fn drop(&mut self) {
        lock(&self.tap).end(self.answered);
    }
}

// === impl Outgoing ===

impl<B, T> http_body::Body for Outgoing<B, T>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let mut this = self.project();
        let frame = match this.body.as_mut().project() {
            EitherProjection::Own { body } => Pin::new(body).poll_frame(cx).map_err(Into::into),
            EitherProjection::Service { body } => body.poll_frame(cx).map_err(Into::into),
        };
        let ended = match &frame {
            Poll::Ready(None) => true,
            Poll::Ready(Some(Ok(_))) => this.body.is_end_stream(),
            _ => false,
        };
        if ended {
            this.exchange.answered = true;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Either::Own { body } => body.size_hint(),
            Either::Service { body } => body.size_hint(),
        }
    }
}

// === impl Either ===

impl<B: http_body::Body> Either<B> {
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own { body } => http_body::Body::is_end_stream(body),
            Self::Service { body } => body.is_end_stream(),
        }
    }
}
