//! A request whose place in the mailbox was reserved before there was a message.

use tokio::sync::mpsc::OwnedPermit;

use super::{Caller, Limit, Request, Sent, Timer, classified, earlier, wrap};
use crate::{
    SparkChannelError, SparkGenericModuleDispatcher, SparkGenericModuleMessage, classes::Intake,
    clock::Moment, current, deadlock::Edge,
};

/// A request that is in the mailbox and awaited by nobody yet.
pub(crate) struct Placed<R, E> {
    deadline: Option<Moment>,
    edge: Option<Edge>,
    sent: Sent<R, E>,
}

// === impl Request ===

impl<'a, M, R, C, E> Request<'a, M, R, C, E> {
    /// Whether a request made here waits for the handler that makes it.
    pub(crate) fn asks_itself(dispatcher: &SparkGenericModuleDispatcher<M, R, C, E>) -> bool {
        dispatcher
            .control()
            .is_some_and(|control| !control.is_open() && current::is_inside(control))
    }

    /// Publishes that the handler this is called in waits for the module.
    pub(crate) fn wait(
        dispatcher: &SparkGenericModuleDispatcher<M, R, C, E>,
    ) -> Result<Option<Edge>, SparkChannelError> {
        Caller::of()
            .wait(dispatcher)
            .map_err(|reason| dispatcher.refuse(reason, ()).reason)
    }

    /// Sends `message` into its place at once.
    pub(crate) fn place(
        dispatcher: &SparkGenericModuleDispatcher<M, R, C, E>,
        permit: OwnedPermit<SparkGenericModuleMessage<M, R, C, E>>,
        message: M,
        edge: Option<Edge>,
    ) -> Placed<R, E> {
        let inherited = Caller::of().inherited;
        let deadline = earlier(inherited, Limit::Default.deadline(dispatcher));
        let (envelope, sent) = wrap(dispatcher, message, deadline, edge.as_ref());
        dispatcher.note_arrival();
        permit.send(envelope);
        Placed {
            deadline,
            edge,
            sent,
        }
    }

    /// Sends `message` into its class at once.
    pub(crate) fn place_by_class(
        dispatcher: &SparkGenericModuleDispatcher<M, R, C, E>,
        intake: &Intake<M, R, C, E>,
        message: M,
        edge: Option<Edge>,
    ) -> Result<Placed<R, E>, SparkChannelError> {
        let inherited = Caller::of().inherited;
        let deadline = earlier(inherited, Limit::Default.deadline(dispatcher));
        match classified::offer(dispatcher, intake, message, deadline, edge.as_ref()) {
            Ok(sent) => Ok(Placed {
                deadline,
                edge,
                sent,
            }),
            Err(unaccepted) => Err(dispatcher.unaccepted(unaccepted).reason),
        }
    }

    /// Awaits the answer of what [`place`](Self::place) has sent.
    pub(crate) fn placed(
        dispatcher: &'a SparkGenericModuleDispatcher<M, R, C, E>,
        placed: Placed<R, E>,
    ) -> Self {
        let Placed {
            deadline,
            edge,
            sent,
        } = placed;
        Self::underway(dispatcher, deadline, edge, sent, Timer::Fresh)
    }
}
