//! Answers that hyper has no part in, and closing so that they arrive.

use std::{io, time::Duration};

use http::HeaderValue;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

use super::transport::Transport;
use crate::{ErrorAnswer, request_id::X_REQUEST_ID};

/// Writes `error` to a connection whose request hyper did not finish reading, and closes it.
///
/// # Cancel safety
///
/// Dropping the future cuts the connection.
pub(super) async fn answer<T>(mut transport: T, error: ErrorAnswer, id: HeaderValue)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let bytes = serialise(error, id);
    if let Ok(Ok(())) = timeout(LINGER, transport.write_all(&bytes)).await {
        linger(transport).await;
    }
}

/// Closes a connection whose client may still be writing.
///
/// Were it closed while bytes come in, the operating system would reset it, and the client
/// could lose the answer it has not read yet. So only our half is closed; the rest is
/// read and thrown away, for a while.
///
/// # Cancel safety
///
/// Dropping the future cuts the connection.
pub(super) async fn linger<T>(mut transport: T)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let rest = async {
        transport.shutdown().await?;
        let mut scrap = vec![0; 16 * 1024];
        while transport.read(&mut scrap).await? > 0 {}
        io::Result::Ok(())
    };
    // However it ends, the connection has ended.
    let _ = timeout(LINGER, rest).await;
}

/// Closes a connection on which nothing is owed, with the word of farewell that its transport has.
///
/// # Cancel safety
///
/// Dropping the future cuts the connection.
pub(super) async fn take_leave<T: Transport>(mut transport: T) {
    if T::TAKES_LEAVE {
        // However it ends, the connection has ended.
        let _ = timeout(LINGER, transport.shutdown()).await;
    }
}

fn serialise(error: ErrorAnswer, id: HeaderValue) -> Vec<u8> {
    let mut answer = error.into_response();
    answer.headers_mut().insert(X_REQUEST_ID, id);
    let (parts, body) = answer.into_parts();
    let body = body.into_bytes();
    let date = httpdate::fmt_http_date(std::time::SystemTime::now());
    let mut bytes = format!(
        "HTTP/1.1 {}\r\ndate: {date}\r\ncontent-length: {}\r\n",
        parts.status,
        body.len()
    )
    .into_bytes();
    for (name, value) in &parts.headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(&body);
    bytes
}

/// Enough for a client to finish a write and read its answer; bounds what a hostile one costs.
pub(super) const LINGER: Duration = Duration::from_secs(2);
