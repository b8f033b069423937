//! A route whose target is a tower service.

use std::{error::Error, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use tokio::time::timeout_at;
use tower_service::Service;

use super::{Running, StreamedTarget};
use crate::{Body, Context, ErrorAnswer, body::BodyLimits};

/// Hands requests on, head and body.
pub(super) struct ServiceTarget<S>(pub(super) S);

// === impl StreamedTarget ===

impl<S, B> StreamedTarget for ServiceTarget<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    fn call(self: Arc<Self>, context: Context, body: Body, _: BodyLimits) -> Running {
        let mut service = self.0.clone();
        let deadline = context.deadline();
        let request = Request::from_parts(context.into_parts(), body);
        let failed = |error: S::Error| ErrorAnswer::internal(error.into());
        let answering = async move {
            let ready = std::future::poll_fn(|cx| service.poll_ready(cx).map_err(failed));
            ready.await?;
            let answer = service.call(request).await.map_err(failed)?;
            Ok(answer.map(Body::wrap))
        };
        Box::pin(async move {
            let Some(deadline) = deadline else {
                return answering.await;
            };
            let answer = timeout_at(deadline, answering).await;
            answer.unwrap_or_else(|_| Err(ErrorAnswer::deadline_passed()))
        })
    }
}
