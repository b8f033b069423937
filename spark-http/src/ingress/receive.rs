//! Reading a request's body: all of it, within its limits, or not at all.

use std::{
    future::poll_fn,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Body as _;
use tokio::time::{Instant, timeout_at};

use crate::{
    Body, ErrorAnswer,
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

/// A body on its way into memory.
struct Collecting<'a, 'b> {
    body: &'a mut Body,
    collected: Collected,
    reserved: &'a mut Reserved<'b>,
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
pub(super) async fn body(
    body: &mut Body,
    headers: &HeaderMap,
    limits: BodyLimits,
    reserved: &mut Reserved<'_>,
) -> Result<Bytes, ErrorAnswer> {
    let Announced { length, least } = limits.check(headers, body.size_hint())?;
    if body.is_end_stream() && least == 0 {
        return Ok(Bytes::new());
    }
    let mut collecting = Collecting {
        body,
        collected: Collected::new(limits.bytes),
        reserved,
    };
    // Small bodies come with their head: no timer, and no look at the clock.
    let at_once = poll_fn(|cx| Poll::Ready(collecting.poll(cx))).await;
    let bytes = match at_once {
        Poll::Ready(collected) => collected?,
        Poll::Pending => {
            let due = due::after(Instant::now(), limits.timeout);
            // Boxed: most requests' futures need no room for it.
            let collected = Box::pin(timeout_at(due, poll_fn(|cx| collecting.poll(cx)))).await;
            collected.unwrap_or_else(|_| Err(ErrorAnswer::body_too_slow()))?
        }
    };
    // hyper checks this itself; whoever else calls the service may not.
    if length.is_some_and(|length| length != bytes.len() as u64) {
        return Err(ErrorAnswer::body_cut());
    }
    Ok(bytes)
}

// === impl Collecting ===

impl Collecting<'_, '_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, ErrorAnswer>> {
        loop {
            match ready!(Pin::new(&mut *self.body).poll_frame(cx)) {
                None => return Poll::Ready(Ok(self.collected.take())),
                Some(Ok(frame)) => {
                    // Trailers have no meaning here.
                    if let Ok(data) = frame.into_data() {
                        self.push(data)?;
                    }
                }
                Some(Err(error)) => return Poll::Ready(Err(error.into_error_answer())),
            }
        }
    }

    fn push(&mut self, data: Bytes) -> Result<(), ErrorAnswer> {
        // First, as this client need not come back.
        if !self.collected.has_room_for(data.len()) {
            return Err(ErrorAnswer::body_too_large(self.collected.limit));
        }
        self.reserved
            .grow(data.len())
            .map_err(|Full| ErrorAnswer::out_of_memory())?;
        self.collected.push(data);
        Ok(())
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
    fn push(&mut self, data: Bytes) {
        if self.held() == 0 {
            self.first = data;
            return;
        }
        if self.rest.is_empty() {
            self.rest.reserve(self.first.len() + data.len());
            self.rest.extend_from_slice(&mem::take(&mut self.first));
        }
        self.rest.extend_from_slice(&data);
    }

    fn held(&self) -> usize {
        self.first.len() + self.rest.len()
    }

    fn take(&mut self) -> Bytes {
        let first = mem::take(&mut self.first);
        if self.rest.is_empty() {
            first
        } else {
            mem::take(&mut self.rest).freeze()
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
            prop_assert_eq!(collected.take(), model);
        }
    }
}
