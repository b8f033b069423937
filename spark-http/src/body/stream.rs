//! A body that is made while it is sent.

use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_core::Stream;
use http_body::Frame;
use pin_project_lite::pin_project;

use super::{Body, BodyError, Panicked, catching};

pin_project! {
    /// The chunks of a user's stream, up to the first that is an error.
    struct Streamed<S> {
        #[pin]
        stream: S,
        ended: bool,
    }
}

// === impl Body ===

impl Body {
    /// A body whose chunks are the stream's items. Its length is not announced; empty chunks are
    /// skipped.
    ///
    /// The stream is polled while the client takes what came before, a write buffer ahead at most,
    /// and dropped when the client leaves. Once the head of the answer is out, an error can no
    /// longer be told: at the first one, and at a panic, the connection ends in the middle of
    /// the body, which clients see, and the log says why. The handler timeout does not reach here: a
    /// stream that never ends is only ended by the client or the server's drain deadline.
    ///
    /// # Examples
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::Response;
    /// use spark_channel::ReplyStream;
    /// use spark_http::{Answer, Body};
    ///
    /// fn answer(lines: ReplyStream<Bytes>) -> Answer {
    ///     Response::new(Body::stream(lines))
    /// }
    /// ```
    pub fn stream<S, D, E>(stream: S) -> Self
    where
        S: Stream<Item = Result<D, E>> + Send + 'static,
        D: Into<Bytes> + 'static,
        E: Into<Box<dyn Error + Send + Sync>> + 'static,
    {
        let ended = false;
        Self::foreign(Streamed { stream, ended })
    }
}

// === impl Streamed ===

impl<S, D, E> http_body::Body for Streamed<S>
where
    S: Stream<Item = Result<D, E>>,
    D: Into<Bytes>,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut this = self.project();
        if *this.ended {
            return Poll::Ready(None);
        }
        let polled = catching(|| {
            loop {
                match this.stream.as_mut().poll_next(cx) {
                    Poll::Ready(Some(Ok(data))) => {
                        let data: Bytes = data.into();
                        if !data.is_empty() {
                            return Poll::Ready(Some(Ok(data)));
                        }
                    }
                    Poll::Ready(Some(Err(error))) => {
                        return Poll::Ready(Some(Err(error.into())));
                    }
                    Poll::Ready(None) => return Poll::Ready(None),
                    Poll::Pending => return Poll::Pending,
                }
            }
        });
        let polled = polled.unwrap_or_else(|panicked| Poll::Ready(Some(Err(panicked.into()))));
        polled.map(|chunk| match chunk {
            Some(Ok(data)) => Some(Ok(Frame::data(data))),
            Some(Err(error)) => {
                *this.ended = true;
                if !error.is::<Panicked>() {
                    tracing::warn!(%error, "the stream of an answer's body failed");
                }
                Some(Err(BodyError::new(error)))
            }
            None => {
                *this.ended = true;
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}
