//! Calls passed on to a module with classes.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

use super::Reply;
use crate::{
    CallbackWrapper, Refused, SparkChannelError, SparkGenericModuleDispatcher,
    SparkGenericModuleMessage,
    classes::{Intake, Unaccepted},
    current, deadlock,
    dispatcher::Envelope,
};

// === impl Reply ===

impl<T, E: From<SparkChannelError>> Reply<T, E> {
    /// As [`Reply::forward_to`].
    pub(super) async fn forward_by_class<M, C>(
        self,
        other: &SparkGenericModuleDispatcher<M, T, C, E>,
        intake: &Intake<M, T, C, E>,
        message: M,
    ) {
        let (envelope, reason) = match self.offer(other, intake, message) {
            Ok(()) => return,
            Err(Unaccepted::Wait(mut envelope, line))
                if !other.control().is_some_and(current::is_inside) =>
            {
                let room = pin!(intake.classes.room(line));
                let mut room = pin!(deadlock::wait_for_room(other.control(), room));
                let place = poll_fn(|cx| match room.as_mut().poll(cx)? {
                    Poll::Ready(Ok(place)) => Poll::Ready(Ok(place)),
                    Poll::Ready(Err(())) => Poll::Ready(Err(other.closed_reason())),
                    Poll::Pending => match &mut envelope {
                        // Its caller may go first.
                        SparkGenericModuleMessage::Request(wrapper) => wrapper
                            .sender
                            .poll_closed(cx)
                            .map(|()| Err(SparkChannelError::Full)),
                        _ => Poll::Pending,
                    },
                });
                match place.await {
                    Ok(place) => match place.fill(envelope, None) {
                        Ok(()) => return,
                        Err(envelope) => (envelope, other.closed_reason()),
                    },
                    Err(reason) => (envelope, reason),
                }
            }
            Err(Unaccepted::Wait(envelope, _) | Unaccepted::Full(envelope)) => {
                (envelope, SparkChannelError::Full)
            }
            Err(Unaccepted::Closed(envelope)) => (envelope, other.closed_reason()),
        };
        let reason = other.refuse(reason, ()).reason;
        if let SparkGenericModuleMessage::Request(wrapper) = envelope {
            let _ = wrapper.sender.send(Err(reason.into()));
        }
    }

    /// As [`Reply::try_forward_to`].
    pub(super) fn try_forward_by_class<M, C>(
        self,
        other: &SparkGenericModuleDispatcher<M, T, C, E>,
        intake: &Intake<M, T, C, E>,
        message: M,
    ) -> Result<(), Refused<(M, Self)>> {
        let deadline = self.deadline;
        self.offer(other, intake, message).map_err(|unaccepted| {
            let Refused { message, reason } = other.unaccepted(unaccepted);
            let SparkGenericModuleMessage::Request(wrapper) = message else {
                unreachable!("a request was offered");
            };
            let CallbackWrapper {
                message,
                sender,
                meta,
            } = wrapper;
            let reply = Self {
                sender,
                deadline,
                span: meta.escort.and_then(|escort| escort.span),
            };
            Refused {
                message: (message, reply),
                reason,
            }
        })
    }

    fn offer<M, C>(
        self,
        other: &SparkGenericModuleDispatcher<M, T, C, E>,
        intake: &Intake<M, T, C, E>,
        message: M,
    ) -> Result<(), Unaccepted<Envelope<M, T, C, E>>> {
        let class = intake.class_of(&message);
        let envelope = self.wrap(message);
        if other.is_stopping() {
            return Err(Unaccepted::Closed(envelope));
        }
        intake.classes.offer(&class, envelope, None)
    }
}
