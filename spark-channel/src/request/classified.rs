//! Requests to a module with classes.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use super::{Admission, Admitted, Request, Sent, Timer, failed, wrap};
use crate::{
    Refused, SparkChannelError, SparkGenericModuleDispatcher, SparkGenericModuleMessage,
    classes::{Intake, LineId, Unaccepted},
    clock::Moment,
    deadlock::Edge,
};

/// A request in the envelope it travels in, and what its caller keeps of it.
pub(crate) struct Wrapped<M, R, C, E> {
    envelope: SparkGenericModuleMessage<M, R, C, E>,
    sent: Sent<R, E>,
}

pub(crate) type Offered<M, R, C, E> = Result<Sent<R, E>, Unaccepted<Wrapped<M, R, C, E>>>;

// === impl Request ===

impl<'a, M, R, C, E> Request<'a, M, R, C, E> {
    /// As [`Request::sent`].
    pub(super) fn sent_by_class(
        dispatcher: &'a SparkGenericModuleDispatcher<M, R, C, E>,
        intake: &Intake<M, R, C, E>,
        message: M,
        deadline: Option<Moment>,
        edge: Option<Edge>,
    ) -> Result<Self, Refused<M>> {
        match offer(dispatcher, intake, message, deadline, edge.as_ref()) {
            Ok(sent) => Ok(Self::underway(dispatcher, deadline, edge, sent, Timer::Off)),
            Err(unaccepted) => Err(dispatcher.unaccepted_request(unaccepted)),
        }
    }
}

impl<'a, M, R, C, E> Request<'a, M, R, C, E>
where
    M: Send,
    R: Send,
    C: Send,
    E: From<SparkChannelError> + Send,
{
    /// Sends the message, whose deadline is known; waits for room if it may.
    // Not inlined: requests to modules without classes pass by it.
    #[inline(never)]
    pub(super) fn poll_offer(
        mut self: Pin<&mut Self>,
        intake: &'a Intake<M, R, C, E>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), E>> {
        let this = self.as_mut().project();
        let Some(message) = this.asked.message.take() else {
            unreachable!("called only with a message to send");
        };
        let edge = this.asked.edge.as_ref();
        match offer(this.dispatcher, intake, message, this.asked.deadline, edge) {
            Ok(Sent { stamp, reply }) => {
                *this.stamp = stamp;
                *this.reply = Some(reply);
                Poll::Ready(Ok(()))
            }
            Err(Unaccepted::Wait(wrapped, line)) => {
                *this.admission = Some(wait(intake, line, wrapped));
                self.poll_admission(cx)
            }
            Err(unaccepted) => {
                this.asked.edge = None;
                Poll::Ready(failed(this.dispatcher.unaccepted(unaccepted).reason))
            }
        }
    }
}

// === impl SparkGenericModuleDispatcher ===

impl<M, R, C, E> SparkGenericModuleDispatcher<M, R, C, E> {
    pub(crate) fn unaccepted_request(
        &self,
        unaccepted: Unaccepted<Wrapped<M, R, C, E>>,
    ) -> Refused<M> {
        let Refused { message, reason } = self.unaccepted(unaccepted);
        Refused {
            message: message.envelope.into_inner(),
            reason,
        }
    }
}

/// Puts a request into its class.
pub(crate) fn offer<M, R, C, E>(
    dispatcher: &SparkGenericModuleDispatcher<M, R, C, E>,
    intake: &Intake<M, R, C, E>,
    message: M,
    deadline: Option<Moment>,
    edge: Option<&Edge>,
) -> Offered<M, R, C, E> {
    let class = intake.class_of(&message);
    let (envelope, sent) = wrap(dispatcher, message, deadline, edge);
    if dispatcher.is_stopping() {
        return Err(Unaccepted::Closed(Wrapped { envelope, sent }));
    }
    match intake.classes.offer(&class, envelope, None) {
        Ok(()) => Ok(sent),
        Err(unaccepted) => Err(unaccepted.map(|envelope| Wrapped { envelope, sent })),
    }
}

/// Waits for room, and sends the request.
pub(crate) fn wait<'a, M, R, C, E>(
    intake: &'a Intake<M, R, C, E>,
    line: LineId,
    wrapped: Wrapped<M, R, C, E>,
) -> Admission<'a, M, R, C, E>
where
    M: Send + 'a,
    R: Send + 'a,
    C: Send + 'a,
    E: Send + 'a,
{
    Box::pin(async move {
        let place = intake.classes.room(line).await?;
        place.fill(wrapped.envelope, None).map_err(drop)?;
        Ok(Admitted::Sent(wrapped.sent))
    })
}
