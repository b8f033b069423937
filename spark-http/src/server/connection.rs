//! One connection: which protocol it speaks, and who serves it.

use std::{error::Error, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use super::{
    Settings,
    exchange::{Peer, Shared},
    http1::{self, timeline::Timeline},
    transport::Transport,
};
#[cfg(feature = "http2")]
use super::{http2, refusal};
use crate::Body;
#[cfg(feature = "http2")]
use crate::ErrorAnswer;
#[cfg(feature = "tls")]
use crate::due;
#[cfg(feature = "tls")]
use {
    super::handshake::shake_hands,
    crate::{Address, TlsConfig},
    tokio::net::TcpStream,
};

/// What every connection of a server is given.
#[derive(Clone)]
pub(super) struct Common<S> {
    pub(super) service: S,
    pub(super) settings: Arc<Settings>,
    pub(super) shared: Arc<Shared>,
    /// Cancelled when connections that owe nothing are to close.
    pub(super) close_idle: CancellationToken,
}

/// Serves a connection without TLS.
///
/// # Cancel safety
///
/// Dropping the future cuts the connection.
pub(super) async fn serve_plain<T, S, B>(
    transport: T,
    peer: Peer,
    accepted: Instant,
    common: Common<S>,
) where
    T: Transport,
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    #[cfg(feature = "http2")]
    {
        let head_timeout = common.settings.head_timeout;
        match http2::listen(transport, accepted, head_timeout, &common.close_idle).await {
            http2::Spoken::Http1(transport, since) => {
                let timeline = Timeline::new(accepted, since);
                http1::serve(transport, peer, timeline, common).await;
            }
            http2::Spoken::Http2(transport) => {
                http2::serve(transport, peer, accepted, common).await;
            }
            http2::Spoken::Unfinished(transport) => {
                let id = common.shared.ids.fresh();
                refusal::answer(transport, ErrorAnswer::head_too_slow(), id).await;
            }
            http2::Spoken::Nothing => {}
        }
    }
    #[cfg(not(feature = "http2"))]
    http1::serve(transport, peer, Timeline::new(accepted, None), common).await;
}

/// Serves a connection with TLS.
///
/// # Cancel safety
///
/// Dropping the future cuts the connection.
#[cfg(feature = "tls")]
pub(super) async fn serve_tls<S, B>(
    stream: TcpStream,
    address: Address,
    config: TlsConfig,
    accepted: Instant,
    common: Common<S>,
) where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let deadline = due::after(accepted, common.settings.head_timeout);
    let (closing, ids) = (&common.close_idle, &common.shared.ids);
    let shaken = shake_hands(stream, address, &config, deadline, closing, ids).await;
    let Some((transport, peer)) = shaken else {
        return;
    };
    #[cfg(feature = "http2")]
    if speaks_http2(&transport) {
        return http2::serve(transport, peer, accepted, common).await;
    }
    http1::serve(transport, peer, Timeline::new(accepted, None), common).await;
}

/// What was agreed upon during the handshake.
#[cfg(all(feature = "tls", feature = "http2"))]
fn speaks_http2<T>(transport: &tokio_rustls::server::TlsStream<T>) -> bool {
    transport.get_ref().1.alpn_protocol() == Some(b"h2")
}
