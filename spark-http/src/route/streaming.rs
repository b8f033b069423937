//! A route whose handler reads the body as it comes.

use std::{
    future::Future,
    sync::{Arc, atomic::Ordering},
};

use http::{HeaderMap, HeaderValue, Version, header::CONNECTION};
use http_body::Body as _;
use tokio::time::timeout_at;

use super::{Running, StreamedTarget};
use crate::{Body, BodyStream, Context, ErrorAnswer, IntoAnswer, body::BodyLimits};

pub(super) struct StreamingTarget<F>(pub(super) F);

// === impl StreamedTarget ===

impl<F, Fut> StreamedTarget for StreamingTarget<F>
where
    F: Fn(Context, BodyStream) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: IntoAnswer> + Send + 'static,
{
    fn check(
        &self,
        headers: &HeaderMap,
        body: &Body,
        limits: BodyLimits,
    ) -> Result<(), ErrorAnswer> {
        limits.check(headers, body.size_hint())?;
        Ok(())
    }

    fn call(self: Arc<Self>, context: Context, body: Body, limits: BodyLimits) -> Running {
        Box::pin(async move {
            let deadline = context.deadline();
            let has_close = context.version() < Version::HTTP_2;
            let body = BodyStream::new(body, context.headers(), limits)?;
            let complete = body.completion();
            let answering = (self.0)(context, body);
            let answered = match deadline {
                None => answering.await.into_answer(),
                Some(deadline) => match timeout_at(deadline, answering).await {
                    Ok(answer) => answer.into_answer(),
                    Err(_) => Err(ErrorAnswer::deadline_passed()),
                },
            };
            if complete.load(Ordering::Relaxed) {
                return answered;
            }
            // The rest of the body is in the way of a next request.
            let mut answer = answered.map_err(ErrorAnswer::closing)?;
            if has_close {
                let close = HeaderValue::from_static("close");
                answer.headers_mut().insert(CONNECTION, close);
            }
            Ok(answer)
        })
    }
}
