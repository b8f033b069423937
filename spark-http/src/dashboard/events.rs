//! The stream of events that a viewer reads.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::Frame;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::sampler::{PERIOD, Viewer};
use crate::{BodyError, Draining, Seeing};

/// An endless body: a picture of the service every second, until the server drains.
///
/// Nothing is buffered: a viewer who does not read gets no pictures taken.
pub(super) struct Events {
    seeing: Seeing,
    ticks: Interval,
    draining: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// The number of the last picture sent.
    sent: u64,
    has_ended: bool,
    _viewer: Viewer,
}

// === impl Events ===

impl Events {
    /// `None` if there are as many viewers as may be.
    pub(super) fn open(seeing: &Seeing, draining: Option<Draining>) -> Option<Self> {
        let viewer = seeing.sampler().enter()?;
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Some(Self {
            seeing: seeing.clone(),
            ticks,
            draining: draining.map(|draining| -> Pin<Box<dyn Future<Output = ()> + Send>> {
                Box::pin(async move { draining.begun().await })
            }),
            sent: 0,
            has_ended: false,
            _viewer: viewer,
        })
    }

    fn drains(&mut self, cx: &mut Context<'_>) -> bool {
        let draining = self.draining.as_mut();
        draining.is_some_and(|draining| draining.as_mut().poll(cx).is_ready())
    }
}

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        if self.drains(cx) {
            // The page must know that this end is no failure.
            self.has_ended = true;
            let last = Bytes::from_static(b"event: draining\ndata: {}\n\n");
            return Poll::Ready(Some(Ok(Frame::data(last))));
        }
        loop {
            let now = ready!(self.ticks.poll_tick(cx));
            let (number, event) = self.seeing.sampler().look(&self.seeing, now);
            if number > self.sent {
                self.sent = number;
                return Poll::Ready(Some(Ok(Frame::data(event))));
            }
        }
    }
}
