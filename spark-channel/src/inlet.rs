//! Where a module's messages come from: the channel, or classes in front of it.

use std::sync::Arc;

use tokio::sync::{Mutex, mpsc};

use crate::{
    Class, Overflow, SparkChannelError, SparkGenericModuleMessage,
    classes::{Classes, Classify, Intake},
    config::Config,
    control::Control,
    run_loop::{self, Front, Mailbox, Receiver, stop_at_shutdown},
};

/// What the run loops of a module take from.
pub(crate) enum Inlet<T> {
    Channel(mpsc::Receiver<T>),
    Classes {
        classes: Arc<Classes<T>>,
        /// The bound of the default class.
        capacity: usize,
    },
}

type Message<M, R, C, E> = SparkGenericModuleMessage<M, R, C, E>;

/// An inlet, and what dispatchers put their messages into instead of the channel.
type InletAndIntake<M, R, C, E> = (Inlet<Message<M, R, C, E>>, Option<Arc<Intake<M, R, C, E>>>);

/// An inlet of classes, and the way in for dispatchers, if a module needs them; the
/// channel if not.
pub(crate) fn inlet<M, R, C, E>(
    receiver: mpsc::Receiver<Message<M, R, C, E>>,
    config: &Config,
    classify: Option<Classify<M>>,
    control: &Arc<Control>,
) -> InletAndIntake<M, R, C, E>
where
    M: 'static,
    R: 'static,
    C: 'static,
    E: From<SparkChannelError> + 'static,
{
    if classify.is_none() && config.overflow == Overflow::Wait {
        return (Inlet::Channel(receiver), None);
    }
    let capacity = config.capacity;
    let default = Class::DEFAULT.capacity(capacity).overflow(config.overflow);
    let classes = Classes::new(receiver, default, Arc::clone(control), run_loop::kind());
    let intake = Intake::new(Arc::clone(&classes), classify);
    let inlet = Inlet::Classes { classes, capacity };
    (inlet, Some(Arc::new(intake)))
}

// === impl Inlet ===

impl<M, R, C, E> Inlet<Message<M, R, C, E>>
where
    M: Send + 'static,
    R: Send + 'static,
    C: Send + 'static,
    E: Send + 'static,
{
    /// The mailbox of a single module.
    pub(crate) fn own(self, control: &Arc<Control>) -> Mailbox<Message<M, R, C, E>> {
        match self {
            Self::Channel(receiver) => Mailbox::own(receiver),
            Self::Classes { classes, .. } => {
                Mailbox::classes(classes.taker(0), stop_at_shutdown(Arc::clone(control)))
            }
        }
    }

    /// The mailbox of a single module that answers direct calls.
    pub(crate) fn resting(self, control: &Arc<Control>) -> Mailbox<Message<M, R, C, E>> {
        match self {
            Self::Channel(receiver) => Mailbox::resting(receiver),
            Self::Classes { classes, .. } => {
                Mailbox::resting_classes(classes.taker(0), stop_at_shutdown(Arc::clone(control)))
            }
        }
    }

    /// The mailboxes of replicas that share what comes.
    pub(crate) fn shared(
        self,
        replicas: usize,
        control: &Arc<Control>,
    ) -> Vec<Mailbox<Message<M, R, C, E>>> {
        let notice = stop_at_shutdown(Arc::clone(control));
        match self {
            Self::Channel(receiver) => {
                let receiver = Arc::new(Mutex::new(Receiver::new(receiver)));
                let mailbox = |_| Mailbox::shared(Arc::clone(&receiver), notice.clone());
                (0..replicas).map(mailbox).collect()
            }
            Self::Classes { classes, .. } => {
                let mailbox = |slot| Mailbox::classes(classes.taker(slot), notice.clone());
                (0..replicas).map(mailbox).collect()
            }
        }
    }

    /// What one reader, who is no replica, takes from.
    pub(crate) fn front(self, reader: usize) -> Front<Message<M, R, C, E>> {
        match self {
            Self::Channel(receiver) => Front::Channel(Receiver::new(receiver)),
            Self::Classes { classes, capacity } => Front::Classes {
                taker: classes.taker(reader),
                capacity,
                arrived: None,
            },
        }
    }
}
