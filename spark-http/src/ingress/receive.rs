//! Reading a request's body: all of it, within its limits, or not at all.

use std::{
    error::Error,
    future::{Future as _, poll_fn},
    pin::pin,
    task::Poll,
};

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body::Body;
use tokio::time::{Instant, timeout_at};

use crate::{
    ErrorAnswer,
    body::{Announced, BodyLimits},
    due,
    permits::{Full, Reserved},
};

/// Collects chunks up to a limit. One chunk is passed on without a copy.
struct Collected {
    limit: usize,
    first: Bytes,
    rest: BytesMut,
}

/// Reads `body` to its end.
///
/// # Errors
///
/// 413 before the first read if `content-length` says so, otherwise at the first
/// excess byte; 503 when `reserved` cannot hold it; 408 when it takes longer than its limit;
/// 400 when it ends early.
///
/// # Cancel safety
///
/// Dropping the future drops what was read.
pub(super) async fn body<B>(
    body: B,
    headers: &HeaderMap,
    limits: BodyLimits,
    reserved: &mut Reserved<'_>,
) -> Result<Bytes, ErrorAnswer>
where
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let Announced { length, least } = limits.check(headers, body.size_hint())?;
    if body.is_end_stream() && least == 0 {
        return Ok(Bytes::new());
    }
    let mut collecting = pin!(collect(body, limits.bytes, reserved));
    // Small bodies come with their head: no timer, and no look at the clock.
    let at_once = poll_fn(|cx| Poll::Ready(collecting.as_mut().poll(cx))).await;
    let bytes = match at_once {
        Poll::Ready(collected) => collected?,
        Poll::Pending => {
            let due = due::after(Instant::now(), limits.timeout);
            let collected = timeout_at(due, collecting).await;
            collected.unwrap_or_else(|_| Err(ErrorAnswer::body_too_slow()))?
        }
    };
    // hyper checks this itself; whoever else calls the service may not.
    if length.is_some_and(|length| length != bytes.len() as u64) {
        return Err(ErrorAnswer::body_cut());
    }
    Ok(bytes)
}

async fn collect<B>(
    body: B,
    limit: usize,
    reserved: &mut Reserved<'_>,
) -> Result<Bytes, ErrorAnswer>
where
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut body = pin!(body);
    let mut collected = Collected::new(limit);
    loop {
        match poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            None => return Ok(collected.into_bytes()),
            Some(Ok(frame)) => {
                // Trailers have no meaning here.
                if let Ok(data) = frame.into_data() {
                    let length = data.remaining();
                    // First, as this client need not come back.
                    if !collected.has_room_for(length) {
                        return Err(ErrorAnswer::body_too_large(limit));
                    }
                    reserved
                        .grow(length)
                        .map_err(|Full| ErrorAnswer::out_of_memory())?;
                    collected.push(data);
                }
            }
            Some(Err(error)) => {
                let error: Box<dyn Error + Send + Sync> = error.into();
                return Err(ErrorAnswer::body_cut().with_detail(error));
            }
        }
    }
}

// === impl Collected ===

impl Collected {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            first: Bytes::new(),
            rest: BytesMut::new(),
        }
    }

    fn has_room_for(&self, length: usize) -> bool {
        length <= self.limit - self.held()
    }

    /// Adds what there is [room for](Self::has_room_for).
    fn push(&mut self, mut data: impl Buf) {
        if self.held() == 0 {
            // No copy if `data` is `Bytes`.
            self.first = data.copy_to_bytes(data.remaining());
            return;
        }
        if self.rest.is_empty() {
            self.rest.reserve(self.first.len() + data.remaining());
            self.rest
                .extend_from_slice(&std::mem::take(&mut self.first));
        }
        while data.has_remaining() {
            let chunk = data.chunk();
            self.rest.extend_from_slice(chunk);
            let length = chunk.len();
            data.advance(length);
        }
    }

    fn held(&self) -> usize {
        self.first.len() + self.rest.len()
    }

    fn into_bytes(self) -> Bytes {
        if self.rest.is_empty() {
            self.first
        } else {
            self.rest.freeze()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn chunks_are_joined_in_order_or_refused_at_the_first_excess_byte(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..8), 0..8),
            limit in 0_usize..40,
        ) {
            let mut collected = Collected::new(limit);
            let mut model = Vec::new();
            for chunk in chunks {
                let fits = model.len() + chunk.len() <= limit;
                prop_assert_eq!(collected.has_room_for(chunk.len()), fits);
                if fits {
                    collected.push(Bytes::from(chunk.clone()));
                    model.extend(chunk);
                }
            }
            prop_assert_eq!(collected.into_bytes(), model);
        }
    }
}
