//! The beginning of a connection with TLS.

use std::{io, sync::Arc};

use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use super::{exchange::Peer, refusal, transport::Counting};
use crate::{Address, ClientCertificate, ErrorAnswer, TlsConfig, request_id::RequestIds};

/// Makes a TLS connection of `stream` until `deadline`; `None` if it cannot be made.
///
/// # Cancel safety
///
/// Dropping the future cuts the connection.
pub(super) async fn shake_hands(
    stream: TcpStream,
    address: Address,
    config: &TlsConfig,
    deadline: Instant,
    close_idle: &CancellationToken,
    ids: &RequestIds,
) -> Option<(TlsStream<Counting<TcpStream>>, Peer)> {
    let loaded = config.current();
    let begun = async {
        if begins_in_plain(&stream).await? {
            return Ok(Err(stream));
        }
        let acceptor = TlsAcceptor::from(Arc::clone(&loaded.server));
        acceptor.accept(Counting::new(stream)).await.map(Ok)
    };
    let shaken: io::Result<Result<_, TcpStream>> = tokio::select! {
        shaken = timeout_at(deadline, begun) => shaken.unwrap_or_else(|late| Err(late.into())),
        // Nothing is owed to a client that is not connected yet.
        () = close_idle.cancelled() => return None,
    };
    let stream = match shaken {
        Ok(Ok(stream)) => stream,
        Ok(Err(plain)) => {
            refusal::answer(plain, ErrorAnswer::plain_on_tls(), ids.fresh()).await;
            return None;
        }
        Err(error) => {
            tracing::debug!(peer = %address, %error, "TLS handshake failed");
            return None;
        }
    };
    // Verified during the handshake, if one was asked for.
    let certificate = stream.get_ref().1.peer_certificates();
    let certificate = certificate.and_then(|chain| chain.first());
    let certificate = certificate.map(|certificate| ClientCertificate::new(certificate));
    let is_allowed = match (&loaded.client_ca, &certificate) {
        (Some(ca), Some(certificate)) => ca.allows(certificate),
        (ca, _) => ca.is_none(),
    };
    let peer = Peer {
        address,
        certificate,
        is_allowed,
    };
    Some((stream, peer))
}

/// Whether a client begins as HTTP does, with a letter, where TLS begins with a number.
async fn begins_in_plain(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    let length = stream.peek(&mut first).await?;
    Ok(length > 0 && first[0].is_ascii_alphabetic())
}
