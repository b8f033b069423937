//! A connection that speaks HTTP/1, from its first byte to its close.

use std::{
    error::Error,
    future::Future,
    pin::pin,
    sync::{Arc, Mutex},
    task::Poll,
};

use bytes::Bytes;
use http::{Request, Response};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use super::{
    Settings,
    connection::Common,
    exchange::{Exchanges, Peer, Shared},
    limits::Limits,
    refusal,
    transport::Transport,
    upgrade,
};
use crate::{
    Body, ErrorAnswer,
    due::{self, Alarm, Wakes},
};

pub(super) mod socket;
pub(super) mod timeline;

use socket::{Socket, Tap, lock};
use timeline::{Overdue, Timeline};

/// Why hyper's part of a connection is over.
enum End {
    Done,
    Failed(hyper::Error),
    Overdue(Overdue),
    Drained,
    /// The client has left, and what it asked for is given up.
    Left,
}

/// Serves a connection that stands where `timeline` says, to its end.
///
/// # Cancel safety
///
/// Dropping the future cuts the connection.
pub(super) async fn serve<T, S, B>(transport: T, peer: Peer, timeline: Timeline, common: Common<S>)
where
    T: Transport,
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let Common {
        service,
        settings,
        shared,
        close_idle,
    } = common;
    let tap = Tap::new(transport, timeline, Arc::clone(&shared));
    let address = peer.address.clone();
    let exchanges = Exchanges {
        service,
        peer,
        shared: Arc::clone(&shared),
        ledger: Arc::clone(&tap),
    };
    let socket = TokioIo::new(Socket::new(Arc::clone(&tap)));
    let connection = http(&settings).serve_connection(socket, exchanges);
    let limits = settings.limits();
    let connection = connection.with_upgrades();
    let watches = !settings.half_close;
    let end = drive(connection, &tap, &limits, &shared, &close_idle, watches).await;

    // hyper is gone, so whoever has the socket now has taken the connection over.
    let taken_over = {
        let mut tap = lock(&tap);
        tap.is_held().then(|| tap.after_upgrade.take())
    };
    if let Some(work) = taken_over {
        return upgrade::keep(&tap, &shared, &limits, work).await;
    }
    let (transport, refused, owed, unread) = {
        let mut tap = lock(&tap);
        let unread = tap.unread.is_noted();
        let owed = tap.timeline.is_busy();
        (tap.transport.take(), tap.refused, owed, unread)
    };
    let Some(transport) = transport else {
        return;
    };
    let error = match end {
        End::Overdue(Overdue::Head) => Some(ErrorAnswer::head_too_slow()),
        End::Failed(error) => {
            tracing::debug!(peer = %address, error = %error, "connection failed");
            match refused {
                Some(status) => Some(ErrorAnswer::refused_head(status)),
                // hyper has no answer of its own for the preface of HTTP/2.
                None => (error.is_parse() && !owed).then(ErrorAnswer::bad_request),
            }
        }
        End::Done => None,
        // Nothing is owed: no answer could get lost.
        End::Drained | End::Overdue(Overdue::Silent) => {
            return refusal::take_leave(transport).await;
        }
        // The client takes nothing.
        End::Overdue(Overdue::Write) | End::Left => return,
    };
    match error {
        Some(error) => refusal::answer(transport, error, shared.ids.fresh()).await,
        None if unread => refusal::linger(transport).await,
        None => {}
    }
}

/// Polls a connection until it ends, is overdue, or owes nothing while the server drains; or, if it
/// `watches`, until its client leaves.
async fn drive<T: Transport>(
    connection: impl Future<Output = hyper::Result<()>>,
    tap: &Mutex<Tap<T>>,
    limits: &Limits,
    shared: &Shared,
    close_idle: &CancellationToken,
    watches: bool,
) -> End {
    let mut connection = pin!(connection);
    let mut closing = pin!(close_idle.cancelled());
    let mut is_closing = false;
    let mut wakes = Wakes::default();
    // One timer for the life of the connection.
    let mut alarm = pin!(Alarm::new(due::after(Instant::now(), limits.head)));
    std::future::poll_fn(|cx| {
        // First, so that a request that has arrived is seen before anything is closed.
        if let Poll::Ready(result) = connection.as_mut().poll(cx) {
            return Poll::Ready(match result {
                Ok(()) => End::Done,
                Err(error) => End::Failed(error),
            });
        }
        // It locks what all connections share, so it is asked only before it waits, and in a drain.
        if !is_closing && (shared.is_draining() || !wakes.the_task_of(cx)) {
            is_closing = closing.as_mut().poll(cx).is_ready();
            wakes.note(cx);
        }
        let mut tap = lock(tap);
        if watches && tap.poll_left(cx).is_ready() {
            return Poll::Ready(End::Left);
        }
        if is_closing && !tap.timeline.is_busy() {
            return Poll::Ready(End::Drained);
        }
        let Some((due, overdue)) = tap.timeline.due(limits, Instant::now) else {
            return Poll::Pending;
        };
        alarm
            .as_mut()
            .poll_at(due, cx)
            .map(|()| End::Overdue(overdue))
    })
    .await
}

/// hyper without timeouts: [`Timeline`](timeline::Timeline) has them, which tells
/// an idle connection from a slow head, and both from a client that does not read.
fn http(settings: &Settings) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.header_read_timeout(None)
        .half_close(settings.half_close)
        .max_header_size(settings.head_limit)
        .max_buf_size(settings.head_limit);
    http
}
