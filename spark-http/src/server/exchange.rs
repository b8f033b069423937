//! One request and its answer: what the server adds on the way, and how it counts them.

use std::{
    error::Error,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    Extensions, HeaderMap, HeaderValue, Method, Request, Response, Version,
    header::{CONNECTION, CONTENT_LENGTH, HOST},
};
use http_body::{Frame, SizeHint};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use pin_project_lite::pin_project;
use tokio_util::task::TaskTracker;
use tower_service::Service;

use super::{
    report::{Counts, bump},
    socket::{Tap, lock},
    transport::Transport,
    upgrade::{AfterUpgrade, Draining},
};
#[cfg(feature = "tls")]
use crate::ClientCertificate;
use crate::{
    Address, Answer, Body, ErrorAnswer, PeerAddr,
    request_id::{RequestIds, X_REQUEST_ID},
};

/// What all connections of a server share.
pub(super) struct Shared {
    pub(super) draining: AtomicBool,
    /// One token per busy connection.
    pub(super) busy: TaskTracker,
    pub(super) counts: Counts,
    pub(super) ids: RequestIds,
    /// What handlers learn of the drain from.
    pub(super) drain: Draining,
}

/// Who is at the other end of a connection.
#[derive(Clone)]
pub(super) struct Peer {
    pub(super) address: Address,
    #[cfg(feature = "tls")]
    pub(super) certificate: Option<ClientCertificate>,
    /// Whether its certificate is good enough, where one is needed.
    #[cfg(feature = "tls")]
    pub(super) is_allowed: bool,
}

/// A connection's requests, as hyper hands them over.
pub(super) struct Exchanges<S, T: Transport> {
    pub(super) service: S,
    pub(super) peer: Peer,
    pub(super) shared: Arc<Shared>,
    pub(super) tap: Arc<Mutex<Tap<T>>>,
}

pin_project! {
    /// The body of an answer, which knows when it has gone out.
    pub(super) struct Outgoing<B, T>
    where
        T: Transport,
    {
        #[pin]
        body: Either<B>,
        // How many bytes hyper will still take, if that is known: it then drops the body
        // without asking for its end.
        left: Option<u64>,
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
struct Exchange<T: Transport> {
    shared: Arc<Shared>,
    tap: Arc<Mutex<Tap<T>>>,
    answered: bool,
}

// === impl Shared ===

impl Shared {
    pub(super) fn new(drain: Draining) -> Self {
        Self {
            drain,
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

// === impl Peer ===

impl Peer {
    /// Somebody who needs no certificate.
    pub(super) fn new(address: Address) -> Self {
        Self {
            address,
            #[cfg(feature = "tls")]
            certificate: None,
            #[cfg(feature = "tls")]
            is_allowed: true,
        }
    }

    fn introduce(self, extensions: &mut Extensions) {
        extensions.insert(PeerAddr(self.address));
        #[cfg(feature = "tls")]
        if let Some(certificate) = self.certificate {
            extensions.insert(certificate);
        }
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
    T: Transport,
{
    type Response = Response<Outgoing<B, T>>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        // Before anything else: what hyper writes from here on is owed to the client.
        let exchange = Exchange::begin(&self.shared, &self.tap);
        let service = self.service.clone();
        let peer = self.peer.clone();
        Box::pin(async move { Ok(exchange.answer(service, peer, request).await) })
    }
}

// === impl Exchange ===

impl<T: Transport> Exchange<T> {
    fn begin(shared: &Arc<Shared>, tap: &Arc<Mutex<Tap<T>>>) -> Self {
        bump(&shared.counts.begun);
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
        peer: Peer,
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
        let method = request.method().clone();
        if self.shared.is_draining() {
            bump(&self.shared.counts.refused);
            return self.own(ErrorAnswer::draining(), id, &method);
        }
        if request.version() == Version::HTTP_11 && !has_one_host(request.headers()) {
            return self.own(ErrorAnswer::bad_host(), id, &method);
        }
        #[cfg(feature = "tls")]
        if !peer.is_allowed {
            return self.own(ErrorAnswer::client_not_allowed(), id, &method);
        }
        let extensions = request.extensions_mut();
        peer.introduce(extensions);
        extensions.insert(self.shared.drain.clone());
        if extensions.get::<OnUpgrade>().is_some() {
            let work = AfterUpgrade::new();
            extensions.insert(work.clone());
            lock(&self.tap).after_upgrade = Some(work);
        }
        let ready = std::future::poll_fn(|cx| service.poll_ready(cx).map_err(Into::into)).await;
        let answered: Result<_, Box<dyn Error + Send + Sync>> = match ready {
            Ok(()) => service.call(request).await.map_err(Into::into),
            Err(error) => Err(error),
        };
        match answered {
            Ok(answer) => self.wrap(answer.map(|body| Either::Service { body }), &method),
            Err(error) => {
                tracing::warn!(error = %error, request_id = ?id, "service failed");
                self.own(ErrorAnswer::internal(error), id, &method)
            }
        }
    }

    fn own<B: http_body::Body>(
        self,
        error: ErrorAnswer,
        id: HeaderValue,
        method: &Method,
    ) -> Response<Outgoing<B, T>> {
        let mut answer: Answer = error.into_response();
        answer.headers_mut().insert(X_REQUEST_ID, id);
        self.wrap(answer.map(|body| Either::Own { body }), method)
    }

    fn wrap<B: http_body::Body>(
        mut self,
        mut answer: Response<Either<B>>,
        method: &Method,
    ) -> Response<Outgoing<B, T>> {
        let is_switching = ErrorAnswer::switches_protocols(method, answer.status());
        if is_switching {
            lock(&self.tap).is_switching = true;
        } else if self.shared.is_draining() {
            let close = HeaderValue::from_static("close");
            answer.headers_mut().insert(CONNECTION, close);
        }
        // In this order, as hyper has it.
        let exact = answer.body().size_hint().exact();
        let left = exact.or_else(|| announced(answer.headers()));
        // hyper does not poll a body that has nothing to say, or no right to.
        self.answered = method == Method::HEAD
            || is_switching
            || ErrorAnswer::forbids_body(answer.status())
            || left == Some(0)
            || answer.body().is_end_stream();
        answer.map(|body| Outgoing {
            body,
            left,
            exchange: self,
        })
    }
}

impl<T: Transport> Drop for Exchange<T> {
    fn drop(&mut self) {
        lock(&self.tap).end(self.answered);
    }
}

// === impl Outgoing ===

impl<B, T> http_body::Body for Outgoing<B, T>
where
    T: Transport,
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
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                *this.left = this.left.map(|left| left.saturating_sub(length));
                *this.left == Some(0) || this.body.is_end_stream()
            }
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
        self.body.size_hint()
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

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own { body } => http_body::Body::size_hint(body),
            Self::Service { body } => body.size_hint(),
        }
    }
}

/// Whether a head says whom it is for, and once. Where heads are read differently on the way,
/// a second `Host` is how a request passes for another one (RFC 9112 3.2).
fn has_one_host(headers: &HeaderMap) -> bool {
    headers.get_all(HOST).iter().count() == 1
}

/// The length that an answer's head announces.
fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
