//! A connection that speaks HTTP/2, from its preface to its close.
//!
//! hyper and h2 speak the protocol, with h2's own bounds on resets, pings and settings. What is
//! owed and what is overdue is read off the [wire](wire), as for HTTP/1.

use std::{
    error::Error,
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use hyper::server::conn::http2;
use hyper_util::rt::TokioIo;
use tokio::time::Instant;
use tower_service::Service;

use super::{
    Settings,
    connection::Common,
    exchange::{Exchanges, Peer, Shared},
    limits::Limits,
    refusal,
    transport::Transport,
};
use crate::{
    Body,
    due::{self, Alarm},
};

mod account;
mod preface;
mod socket;
mod streams;
mod wire;

pub(super) use preface::{Spoken, listen};

use account::{Account, Book, Overdue};
use socket::Socket;
use streams::Streams;

/// Why hyper's part of a connection is over.
enum End {
    Done,
    Failed(hyper::Error),
    Overdue(Overdue),
}

/// Serves a connection that was `accepted`, to its end.
///
/// # Cancel safety
///
/// Dropping the future cuts the connection.
pub(super) async fn serve<T, S, B>(transport: T, peer: Peer, accepted: Instant, common: Common<S>)
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
        ..
    } = common;
    let account = Account::new(accepted, Arc::clone(&shared));
    let streams = Streams::new(shared.streams.clone(), settings.write_timeout);
    let streams = streams.owned();
    let address = peer.address.clone();
    let exchanges = Exchanges {
        service,
        peer,
        shared: Arc::clone(&shared),
        ledger: Book {
            account: account.clone(),
            streams: Streams::clone(&streams),
        },
    };
    let (socket, back) = Socket::new(transport, account.clone());
    let connection = http(&settings, Streams::clone(&streams));
    let connection = connection.serve_connection(TokioIo::new(socket), exchanges);
    let end = drive(connection, &account, &streams, &settings.limits(), &shared).await;
    let mut is_told = false;
    match end {
        End::Done => {}
        End::Failed(error) => {
            tracing::debug!(peer = %address, error = %error, "connection failed");
        }
        End::Overdue(Overdue::Idle | Overdue::Leaving) => is_told = true,
        // Nothing that could be said would arrive.
        End::Overdue(Overdue::Head | Overdue::Write) => return,
    }
    match back.take() {
        // It has had its time to leave.
        Some(transport) if is_told => refusal::take_leave(transport).await,
        // Clients go on sending acknowledgements, which must not cost them an answer.
        Some(transport) => refusal::linger(transport).await,
        None => {}
    }
}

/// Polls a connection until it ends or is overdue. Once the server drains, or nothing was asked
/// for a while, the client is told to open no more streams; the connection ends with the last.
async fn drive<T, S, B>(
    connection: http2::Connection<TokioIo<Socket<T>>, Exchanges<S, Book>, Streams>,
    account: &Account,
    streams: &Streams,
    limits: &Limits,
    shared: &Shared,
) -> End
where
    T: Transport,
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut connection = pin!(connection);
    let mut draining = pin!(shared.drain.begun());
    let mut is_leaving = false;
    // One timer for the life of the connection.
    let mut alarm = pin!(Alarm::new(due::after(Instant::now(), limits.head)));
    std::future::poll_fn(|cx| {
        loop {
            let polled = connection.as_mut().poll(cx);
            streams.poll_reap(cx);
            if let Poll::Ready(result) = polled {
                return Poll::Ready(match result {
                    Ok(()) => End::Done,
                    Err(error) => End::Failed(error),
                });
            }
            let drains = !is_leaving && draining.as_mut().poll(cx).is_ready();
            if !drains {
                let Some((due, overdue)) = account.due(limits) else {
                    return Poll::Pending;
                };
                ready!(alarm.as_mut().poll_at(due, cx));
                if overdue != Overdue::Idle {
                    return Poll::Ready(End::Overdue(overdue));
                }
            }
            // Polled again, it writes what it says to the client.
            is_leaving = true;
            account.leave(Instant::now());
            connection.as_mut().graceful_shutdown();
        }
    })
    .await
}

fn http(settings: &Settings, streams: Streams) -> http2::Builder<Streams> {
    let mut http = http2::Builder::new(streams);
    // Twice what is allowed, so that a head somewhat too large is answered from the error table;
    // what is larger still, h2 answers itself.
    let head_limit = settings.head_limit.saturating_mul(2);
    // No pings: one waits behind all that the client has not read yet, so slow readers would be
    // taken for dead ones. TCP's own keep-alive tells them apart.
    http.max_concurrent_streams(settings.streams_max.get())
        .max_header_list_size(u32::try_from(head_limit).unwrap_or(u32::MAX))
        .initial_stream_window_size(settings.stream_window)
        .initial_connection_window_size(settings.connection_window)
        .max_send_buf_size(SEND_BUFFER)
        // As h2 has them today, said so that no other default becomes ours unseen.
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(1024);
    http
}

/// How much of an answer h2 takes ahead of its client: enough frames that one is always there to be
/// written, and little enough that what a stream holds does not depend on the room that its
/// client announces.
const SEND_BUFFER: usize = 4 * account::FRAME;
