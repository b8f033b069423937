//! A request whose place in the mailbox was reserved before there was a message.

use tokio::sync::{mpsc::OwnedPermit, oneshot};

use super::{Caller, Limit, Request, Timer, deadlock, earlier, next_call, span};
use crate::{
    CallbackWrapper, SparkChannelError, SparkGenericModuleDispatcher, SparkGenericModuleMessage,
    callback::{Meta, Stamp},
    clock::Moment,
};

/// A request that is in the mailbox and awaited by nobody yet.
pub(crate) struct Placed<R, E> {
    deadline: Option<Moment>,
    stamp: Option<Stamp>,
    reply: oneshot::Receiver<Result<R, E>>,
}

// === impl Request ===

impl<'a, M, R, C, E> Request<'a, M, R, C, E> {
    /// Whether a request made here asks the only one who could answer it.
    pub(crate) fn asks_itself(dispatcher: &SparkGenericModuleDispatcher<M, R, C, E>) -> bool {
        Caller::of(dispatcher).asks_itself
    }

    /// The error of a request that [asks itself](Self::asks_itself), counted as refused.
    pub(crate) fn self_call_refused(
        dispatcher: &SparkGenericModuleDispatcher<M, R, C, E>,
    ) -> SparkChannelError {
        deadlock(dispatcher)
    }

    /// Sends `message` into its place at once.
    pub(crate) fn place(
        dispatcher: &SparkGenericModuleDispatcher<M, R, C, E>,
        permit: OwnedPermit<SparkGenericModuleMessage<M, R, C, E>>,
        message: M,
    ) -> Placed<R, E> {
        let inherited = Caller::of(dispatcher).inherited;
        let deadline = earlier(inherited, Limit::Default.deadline(dispatcher));
        let stamp = deadline.map(|deadline| Stamp::new(deadline, next_call()));
        let (sender, reply) = oneshot::channel();
        let span = span(dispatcher.name());
        permit.send(SparkGenericModuleMessage::Request(CallbackWrapper {
            message,
            sender,
            meta: Meta { stamp, span },
        }));
        Placed {
            deadline,
            stamp,
            reply,
        }
    }

    /// Awaits the answer of what [`place`](Self::place) has sent.
    pub(crate) fn placed(
        dispatcher: &'a SparkGenericModuleDispatcher<M, R, C, E>,
        placed: Placed<R, E>,
    ) -> Self {
        Self {
            dispatcher,
            limit: Limit::Default,
            at_most: None,
            deadline: placed.deadline,
            stamp: placed.stamp,
            message: None,
            admission: None,
            reply: Some(placed.reply),
            timer: Timer::Fresh,
        }
    }
}
