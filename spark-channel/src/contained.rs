//! User code in a task of its own, whose panic ends there.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use crate::run_loop::{panic_text, quietly};

/// Runs `work`, boxed; completes with the text of its panic if it panics, in its own
/// code or while it is dropped after its end.
pub(crate) struct Contained<T> {
    work: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
}

// === impl Contained ===

impl<T> Contained<T> {
    pub(crate) fn new(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self {
            work: Some(Box::pin(work)),
        }
    }
}

impl<T> Future for Contained<T> {
    type Output = Result<T, Arc<str>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let Some(work) = &mut self.work else {
                unreachable!("not polled after it completed");
            };
            let polled = work.as_mut().poll(cx);
            if polled.is_ready() {
                self.work = None;
            }
            polled
        }));
        match polled {
            Ok(polled) => polled.map(Ok),
            Err(panic) => {
                let text = Arc::from(panic_text(&*panic));
                #[cfg(feature = "test-util")]
                crate::testing::panicked(&text);
                // The first panic is the one to report.
                quietly(|| self.work = None);
                quietly(|| drop(panic));
                Poll::Ready(Err(text))
            }
        }
    }
}
