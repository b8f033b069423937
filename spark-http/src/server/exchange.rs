//! One request and its answer: what the server adds on the way, and how it counts them.

use std::{
    convert::Infallible,
    error::Error,
    future::{Future, poll_fn, ready},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use http::{
    Extensions, HeaderMap, HeaderValue, Method, Request, Response,
    header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING},
};
use http_body::{Body as _, Frame, SizeHint};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use pin_project_lite::pin_project;
use tokio_util::task::TaskTracker;
use tower_service::Service;

use super::{
    report::{Counts, bump},
    upgrade::Draining,
};
#[cfg(feature = "tls")]
use crate::ClientCertificate;
use crate::{
    Address, Answer, Body, ErrorAnswer, PeerAddr,
    body::Unread,
    request_id::{self, RequestIds, X_REQUEST_ID},
};

mod hosts;

use hosts::Hosts;

/// What all connections of a server share.
pub(super) struct Shared {
    pub(super) draining: AtomicBool,
    /// One token per busy connection.
    pub(super) busy: TaskTracker,
    /// One token per stream of HTTP/2, which have tasks of their own.
    #[cfg(feature = "http2")]
    pub(super) streams: TaskTracker,
    pub(super) counts: Arc<Counts>,
    pub(super) ids: RequestIds,
    pub(super) head_limit: usize,
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
pub(super) struct Exchanges<S, L> {
    pub(super) service: S,
    pub(super) peer: Peer,
    pub(super) shared: Arc<Shared>,
    pub(super) ledger: L,
}

/// Where a connection keeps account of its requests.
pub(super) trait Ledger {
    type Entry: Entry;

    /// The head of a request is complete. From here on the client is owed an answer.
    fn begin(&self) -> Self::Entry;
}

/// A request under way, in its connection's account.
pub(super) trait Entry: Send + 'static {
    /// Whether hyper sends what body an answer has, be it forbidden, in frames of this size.
    const FRAME: Option<usize> = None;

    /// Where the request's body goes if it is dropped before its end.
    fn unread(&self) -> Arc<Unread>;

    /// Whether it was, and the client is told with the answer that nobody reads on.
    fn has_unread(&self) -> bool {
        false
    }

    /// The answer may take its time, or has no length that is known. What is not read of the request meanwhile
    /// is not to be kept.
    fn streams(&self) {}

    /// The request asks for another protocol.
    fn asks_to_switch(&self, extensions: &mut Extensions);

    /// The answer agrees to it.
    fn switches(&self);

    /// Learns what of an answer goes out.
    type Progress: Progress;

    /// hyper was given a part of the answer, and comes back for more once the client has room.
    fn given(&self) {}

    /// hyper came back.
    fn taken(&self) {}

    fn progress(&self) -> Self::Progress;

    /// The answer is in hyper's hands, whole, or will never be.
    fn end(&self, answered: bool);
}

/// Who learns that bytes of an answer were written.
pub(super) trait Progress: Send + 'static {
    fn wrote(&self);
}

/// A part of an answer in hyper's hands.
pub(super) struct Part<P> {
    data: Bytes,
    progress: P,
}

pin_project! {
    /// The body of an answer, which knows when it has gone out.
    pub(super) struct Outgoing<B, E>
    where
        E: Entry,
    {
        #[pin]
        body: Either<B>,
        // What is left of data that is larger than a frame.
        rest: Bytes,
        // How many bytes hyper will still take, if that is known: it then drops the body
        // without asking for its end.
        left: Option<u64>,
        exchange: Exchange<E>,
    }
}

pin_project! {
    #[project = EitherProjection]
    enum Either<B> {
        Nothing,
        Own { body: Body },
        Service { #[pin] body: B },
    }
}

/// What an answer has to know of its request.
struct Asked {
    method: Method,
    /// The client's own id of it, if it has one.
    id: Option<HeaderValue>,
    names_one_host: bool,
}

/// A request under way. Dropped when its answer is complete, or when it never will be.
struct Exchange<E: Entry> {
    shared: Arc<Shared>,
    entry: E,
    /// hyper closes the connection if the request's body is not read to its end.
    is_long: bool,
    answered: bool,
}

// === impl Shared ===

impl Shared {
    pub(super) fn new(drain: Draining, counts: Arc<Counts>, head_limit: usize) -> Self {
        Self {
            head_limit,
            drain,
            draining: AtomicBool::new(false),
            busy: TaskTracker::new(),
            #[cfg(feature = "http2")]
            streams: TaskTracker::new(),
            counts,
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

    /// What is answered to all its requests, if it is not to have others.
    #[cfg(feature = "tls")]
    fn refusal(&self) -> Option<ErrorAnswer> {
        (!self.is_allowed).then(ErrorAnswer::client_not_allowed)
    }

    fn introduce(&self, extensions: &mut Extensions) {
        extensions.insert(PeerAddr(self.address.clone()));
        #[cfg(feature = "tls")]
        if let Some(certificate) = &self.certificate {
            extensions.insert(certificate.clone());
        }
    }
}

// === impl Exchanges ===

impl<S, L, B> hyper::service::Service<Request<Incoming>> for Exchanges<S, L>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
    L: Ledger,
{
    type Response = Response<Outgoing<B, L::Entry>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        // Before anything else: what hyper writes from here on is owed to the client.
        let mut exchange = Exchange::begin(&self.shared, self.ledger.begin());
        exchange.is_long = request
            .body()
            .size_hint()
            .upper()
            .is_none_or(|upper| upper > SHORT);
        let asked = Asked::by(&request);
        let refusal = exchange.refusal(&request, &asked);
        #[cfg(feature = "tls")]
        let refusal = refusal.or_else(|| self.peer.refusal());
        if let Some(error) = refusal {
            // Dropped as any other body, so that the connection learns that it was not read.
            drop(Body::incoming(request.into_body(), exchange.entry.unread()));
            return Box::pin(ready(Ok(exchange.own(error, asked))));
        }
        let request = exchange.introduce(request, &self.peer);
        Box::pin(exchange.answer(self.service.clone(), request, asked))
    }
}

// === impl Asked ===

impl Asked {
    fn by<B>(request: &Request<B>) -> Self {
        let (mut id, mut hosts) = (None, Hosts::None);
        for (name, value) in request.headers() {
            if *name == HOST {
                hosts = hosts.and(value);
            } else if *name == X_REQUEST_ID {
                id.get_or_insert(value);
            }
        }
        Self {
            method: request.method().clone(),
            id: id.and_then(request_id::sane),
            names_one_host: hosts.name_one(request.uri(), request.version()),
        }
    }
}

// === impl Exchange ===

impl<E: Entry> Exchange<E> {
    fn begin(shared: &Arc<Shared>, entry: E) -> Self {
        bump(&shared.counts.begun);
        Self {
            shared: Arc::clone(shared),
            entry,
            is_long: false,
            answered: false,
        }
    }

    /// What is answered in the service's place.
    fn refusal(&self, request: &Request<Incoming>, asked: &Asked) -> Option<ErrorAnswer> {
        if self.shared.is_draining() {
            bump(&self.shared.counts.refused);
            return Some(ErrorAnswer::draining());
        }
        if E::FRAME.is_some() && head_size(request) > self.shared.head_limit {
            return Some(ErrorAnswer::head_too_large());
        }
        if E::FRAME.is_some() && request.method() == Method::CONNECT {
            return Some(ErrorAnswer::no_tunnel());
        }
        if !asked.names_one_host {
            return Some(ErrorAnswer::bad_host());
        }
        // Only HTTP/1 has codings, and hyper a length for every body without one.
        let is_coded = E::FRAME.is_none() && request.body().size_hint().upper().is_none();
        if is_coded && !is_chunked(request.headers()) {
            return Some(ErrorAnswer::unknown_coding());
        }
        None
    }

    /// Tells the service whose request it is, and of the drain.
    fn introduce(&self, request: Request<Incoming>, peer: &Peer) -> Request<Body> {
        let mut request = request.map(|body| Body::incoming(body, self.entry.unread()));
        let extensions = request.extensions_mut();
        peer.introduce(extensions);
        extensions.insert(self.shared.drain.clone());
        if extensions.get::<OnUpgrade>().is_some() {
            self.entry.asks_to_switch(extensions);
        }
        request
    }

    #[expect(
        clippy::manual_async_fn,
        reason = "an `async fn` would hold its arguments twice"
    )]
    fn answer<S, B>(
        self,
        mut service: S,
        request: Request<Body>,
        asked: Asked,
    ) -> impl Future<Output = Result<Response<Outgoing<B, E>>, Infallible>> + Send
    where
        S: Service<Request<Body>, Response = Response<B>> + Send,
        S::Error: Into<Box<dyn Error + Send + Sync>>,
        S::Future: Send,
        B: http_body::Body + Send,
    {
        async move {
            let ready = poll_fn(|cx| service.poll_ready(cx).map_err(Into::into)).await;
            let answered: Result<_, Box<dyn Error + Send + Sync>> = match ready {
                Ok(()) => service.call(request).await.map_err(Into::into),
                Err(error) => Err(error),
            };
            Ok(match answered {
                Ok(answer) => {
                    let answer = answer.map(|body| Either::Service { body });
                    self.wrap(answer, &asked.method)
                }
                Err(error) => {
                    tracing::warn!(error = %error, request_id = ?asked.id, "service failed");
                    self.own(ErrorAnswer::internal(error), asked)
                }
            })
        }
    }

    fn own<B: http_body::Body>(self, error: ErrorAnswer, asked: Asked) -> Response<Outgoing<B, E>> {
        let mut answer: Answer = error.into_response();
        let id = asked.id.unwrap_or_else(|| self.shared.ids.fresh());
        answer.headers_mut().insert(X_REQUEST_ID, id);
        self.wrap(answer.map(|body| Either::Own { body }), &asked.method)
    }

    fn leaves_much_unread(&self) -> bool {
        self.is_long && self.entry.has_unread()
    }

    fn wrap<B: http_body::Body>(
        mut self,
        mut answer: Response<Either<B>>,
        method: &Method,
    ) -> Response<Outgoing<B, E>> {
        let is_switching = ErrorAnswer::switches_protocols(method, answer.status());
        if is_switching {
            self.entry.switches();
        } else if E::FRAME.is_some() {
            // HTTP/2 has no such header.
            answer.headers_mut().remove(CONNECTION);
        } else if self.shared.is_draining() || self.leaves_much_unread() {
            let close = HeaderValue::from_static("close");
            answer.headers_mut().insert(CONNECTION, close);
        }
        // In this order, as hyper has it.
        let exact = answer.body().size_hint().exact();
        let left = exact.or_else(|| announced(answer.headers()));
        if exact.is_none() {
            self.entry.streams();
        }
        let is_bare = method == Method::HEAD || ErrorAnswer::forbids_body(answer.status());
        if is_bare && E::FRAME.is_some() {
            if let (&Method::HEAD, Some(length)) = (method, left) {
                let length = HeaderValue::from(length);
                answer.headers_mut().entry(CONTENT_LENGTH).or_insert(length);
            }
            *answer.body_mut() = Either::Nothing;
        }
        // hyper does not poll a body that has nothing to say, or no right to.
        self.answered = is_bare || is_switching || left == Some(0) || answer.body().is_end_stream();
        answer.map(|body| Outgoing {
            body,
            rest: Bytes::new(),
            left,
            exchange: self,
        })
    }
}

impl<E: Entry> Drop for Exchange<E> {
    fn drop(&mut self) {
        self.entry.end(self.answered);
    }
}

// === impl Outgoing ===

impl<B, E> http_body::Body for Outgoing<B, E>
where
    E: Entry,
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Part<E::Progress>;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let mut this = self.project();
        let entry = &this.exchange.entry;
        entry.taken();
        let frame = match this.body.as_mut().project() {
            _ if !this.rest.is_empty() => {
                let rest = std::mem::take(this.rest);
                Poll::Ready(Some(Ok(Frame::data(rest))))
            }
            EitherProjection::Nothing => Poll::Ready(None),
            EitherProjection::Own { body } => Pin::new(body).poll_frame(cx).map_err(Into::into),
            EitherProjection::Service { body } => body.poll_frame(cx).map_err(Into::into),
        };
        let frame = match (frame, E::FRAME) {
            (Poll::Ready(Some(Ok(frame))), Some(size)) => {
                Poll::Ready(Some(Ok(cut_to(size, frame, this.rest))))
            }
            (frame, _) => frame,
        };
        let ended = match &frame {
            Poll::Ready(None) => true,
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                *this.left = this.left.map(|left| left.saturating_sub(length));
                entry.given();
                this.rest.is_empty() && (*this.left == Some(0) || this.body.is_end_stream())
            }
            _ => false,
        };
        if ended {
            this.exchange.answered = true;
        }
        let entry = &this.exchange.entry;
        frame.map_ok(|frame| {
            frame.map_data(|data| Part {
                data,
                progress: entry.progress(),
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let rest = self.rest.len() as u64;
        hint.set_lower(hint.lower() + rest);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

// === impl Part ===

impl<P: Progress> Buf for Part<P> {
    fn remaining(&self) -> usize {
        self.data.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.data
    }

    fn advance(&mut self, count: usize) {
        self.data.advance(count);
        self.progress.wrote();
    }
}

impl Progress for () {
    fn wrote(&self) {}
}

// === impl Either ===

impl<B: http_body::Body> Either<B> {
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Own { body } => http_body::Body::is_end_stream(body),
            Self::Service { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Nothing => SizeHint::with_exact(0),
            Self::Own { body } => http_body::Body::size_hint(body),
            Self::Service { body } => body.size_hint(),
        }
    }
}

/// The first `size` bytes of a frame of data; what is behind them becomes the rest.
fn cut_to(size: usize, frame: Frame<Bytes>, rest: &mut Bytes) -> Frame<Bytes> {
    match frame.into_data() {
        Ok(mut data) => {
            if data.len() > size {
                *rest = data.split_off(size);
            }
            Frame::data(data)
        }
        Err(other) => other,
    }
}

/// The size of a head as HTTP/2 counts it (RFC 9113, 6.5.2); HTTP/1 is bounded as it is read.
fn head_size<B>(request: &Request<B>) -> usize {
    let field = |name: usize, value: usize| name + value + 32;
    let (uri, method) = (request.uri(), request.method().as_str().len());
    let authority = uri
        .authority()
        .map_or(0, |authority| authority.as_str().len());
    let path = uri.path_and_query().map_or(0, |path| path.as_str().len());
    let headers = request.headers().iter();
    let headers = headers.map(|(name, value)| field(name.as_str().len(), value.len()));
    field(0, method) + field(0, authority) + field(0, path) + headers.sum::<usize>()
}

/// Whether `chunked` is all that was done to a body: what else was done, nobody here would undo, and
/// nobody would know of it.
fn is_chunked(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let only = match (codings.next(), codings.next()) {
        (Some(coding), None) => coding.as_bytes(),
        _ => return false,
    };
    only.eq_ignore_ascii_case(b"chunked")
}

/// The length that an answer's head announces.
fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// What hyper has mostly read with the head. The rest of a longer body it does not read for its own sake.
const SHORT: u64 = 8 * 1024;
