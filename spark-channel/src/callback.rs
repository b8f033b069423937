//! The reply slot of a request, and the envelope that carries it through a mailbox.

use std::fmt;

use tokio::sync::oneshot;
use tracing::{Span, span::Entered};

use crate::{clock::Moment, deadlock::Edge};

/// Where the reply to a request goes: tokio's one-shot sender.
pub type CallbackSender<V> = oneshot::Sender<V>;

/// A message together with the slot for its reply.
///
/// A raw receiver loop may take it apart by its two public fields
/// (`let CallbackWrapper { message, sender, .. } = wrapper`). What the
/// dispatcher adds for the run loop (deadline, call id, span) stays private.
pub struct CallbackWrapper<T, V> {
    /// The message to handle.
    pub message: T,
    /// Where the answer goes. Closed once the caller has gone.
    pub sender: CallbackSender<V>,
    pub(crate) meta: Meta,
}

/// What a request carries beside its message.
///
/// Sixteen bytes with a niche for the message enum's tag: tokio allocates a
/// mailbox in blocks of 32 messages, so every eight bytes more would cost each idle
/// module 256.
pub(crate) struct Meta {
    pub(crate) stamp: Option<Stamp>,
    /// Absent, without an allocation, in most requests.
    pub(crate) escort: Option<Box<Escort>>,
}

/// What some requests carry: the span their handler runs in, if a subscriber wants it,
/// and, made by another handler, that its module waits. A command that is
/// [linked](crate::link) to its sender has one, too.
pub(crate) struct Escort {
    pub(crate) span: Option<Span>,
    /// Ends the wait by being dropped.
    pub(crate) edge: Option<Edge>,
    /// What travels as a request is a command.
    is_command: bool,
}

/// A deadline, and a number that tells the calls with this deadline apart.
///
/// The deadline is rounded down to 15 µs.
/// Calls stamped from the coarse clock often share one; among those, two in 256
/// share the number as well, which only makes [`Control::may_run`](crate::control::Control::may_run)
/// doubt where it could be sure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    // Taken apart to leave a byte for `Always`, in whose niche `Option` and the
    // message enum keep their tags; one `u64` would have none.
    seconds: u32,
    fraction: u16,
    call: u8,
    always: Always,
}

/// Two values, of which only one is used, leave 254 for tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Always {
    Present = 1,
    #[expect(dead_code, reason = "an enum of one variant has no size and no niche")]
    Never = 2,
}

// === impl CallbackWrapper ===

impl<T, V> CallbackWrapper<T, V> {
    /// Wraps `message` and the slot its reply goes to, with no deadline.
    pub fn new(message: T, sender: CallbackSender<V>) -> Self {
        Self {
            message,
            sender,
            meta: Meta {
                stamp: None,
                escort: None,
            },
        }
    }

    /// The instant after which the caller no longer waits, if it set one.
    ///
    /// [`run_module_server`](crate::run_module_server) honours it; a hand-written
    /// loop should skip a request whose deadline has passed.
    #[must_use]
    pub fn deadline(&self) -> Option<tokio::time::Instant> {
        self.meta.stamp.map(|stamp| stamp.deadline().to_instant())
    }
}

impl<T: fmt::Debug, V> fmt::Debug for CallbackWrapper<T, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallbackWrapper")
            .field("message", &self.message)
            .finish_non_exhaustive()
    }
}

// === impl Meta ===

impl Meta {
    /// Whether it is not that of a request but of a [linked](crate::link) command.
    #[inline]
    pub(crate) fn is_of_command(&self) -> bool {
        self.escort.as_ref().is_some_and(|escort| escort.is_command)
    }
}

// === impl Escort ===

impl Escort {
    #[inline]
    pub(crate) fn new(span: Option<Span>, edge: Option<Edge>) -> Option<Box<Self>> {
        (span.is_some() || edge.is_some()).then(|| {
            Box::new(Self {
                span,
                edge,
                is_command: false,
            })
        })
    }

    /// What makes a request for which nobody waits a command, handled in `span`.
    pub(crate) fn of_command(span: Span) -> Self {
        Self {
            span: Some(span),
            edge: None,
            is_command: true,
        }
    }

    /// Enters the span until what is returned is dropped.
    pub(crate) fn enter(&self) -> Option<Entered<'_>> {
        self.span.as_ref().map(Span::enter)
    }
}

// === impl Stamp ===

impl Stamp {
    #[inline]
    pub(crate) const fn new(deadline: Moment, call: u8) -> Self {
        let raw = deadline.to_raw();
        #[expect(clippy::cast_possible_truncation, reason = "taken apart")]
        Self {
            seconds: (raw >> 32) as u32,
            fraction: (raw >> 16) as u16,
            call,
            always: Always::Present,
        }
    }

    #[inline]
    pub(crate) const fn deadline(self) -> Moment {
        Moment::from_raw((self.seconds as u64) << 32 | (self.fraction as u64) << 16)
    }

    /// Deadline and number in one word, never zero.
    #[inline]
    pub(crate) const fn to_raw(self) -> u64 {
        self.deadline().to_raw() | (self.call as u64) << 8 | 1
    }
}

#[cfg(test)]
mod tests {
    use super::Stamp;
    use crate::{SparkGenericModuleMessage, clock::Moment};

    #[test]
    fn a_message_of_one_word_takes_thirty_two_bytes_in_the_mailbox() {
        let size = size_of::<SparkGenericModuleMessage<u64, u64>>();
        assert_eq!(size, 32);
    }

    #[test]
    fn a_stamp_keeps_its_deadline_to_fifteen_microseconds_and_is_never_late() {
        let deadline = Moment::from_raw(0x1234_5678_9ABC_DEF0);
        let stamp = Stamp::new(deadline, 7);
        assert!(stamp.deadline() <= deadline);
        assert!(deadline.to_raw() - stamp.deadline().to_raw() < 1 << 16);
        assert_ne!(stamp.to_raw(), Stamp::new(deadline, 8).to_raw());
    }
}
