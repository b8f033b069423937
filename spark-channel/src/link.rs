//! Commands that are linked to their sender: while a subscriber listens, a command travels with a
//! span that follows from its sender's, and is handled in it.
//!
//! [`Command`](SparkGenericModuleMessage::Command) has room for nothing but the message. So such a
//! command travels as a request for which nobody waits, whose private part says what it is. Only
//! modules that know of it are sent it, and in them nothing but this file and the run
//! loop's look at the private part tell the two apart.

use std::cell::Cell;

use tokio::sync::oneshot;
use tracing::Span;

use crate::{
    CallbackWrapper, SparkGenericModuleDispatcher, SparkGenericModuleMessage,
    callback::{Escort, Meta},
    request::wants_spans,
};

thread_local! {
    static IS_LINKING: Cell<bool> = const { Cell::new(false) };
}

/// A link that is being made. A subscriber that is told of its span, and itself sends commands of
/// what it is told, makes no other meanwhile: it would never end.
struct Turn(());

// === impl Turn ===

impl Turn {
    fn begin() -> Option<Self> {
        (!IS_LINKING.replace(true)).then_some(Self(()))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        IS_LINKING.set(false);
    }
}

// === impl SparkGenericModuleDispatcher ===

impl<M, R, C, E> SparkGenericModuleDispatcher<M, R, C, E> {
    /// What links a command sent now to its sender, if anybody listens. Not to be dropped or
    /// made under a lock, nor between noting an arrival and sending: it runs code of the subscriber.
    #[inline]
    pub(crate) fn link(&self) -> Option<Box<Escort>> {
        if !wants_spans() {
            return None;
        }
        self.link_to(command_span)
    }

    /// As [`link`](Self::link), to a span that there is.
    pub(crate) fn link_with(&self, span: Option<&Span>) -> Option<Box<Escort>> {
        let span = span?;
        self.link_to(|_| Some(span.clone()))
    }

    #[cold]
    fn link_to(&self, span: impl FnOnce(&str) -> Option<Span>) -> Option<Box<Escort>> {
        // A loop that is not ours expects a command to be one.
        let control = self.control()?;
        let _turn = Turn::begin()?;
        span(&control.name).map(|span| Box::new(Escort::of_command(span)))
    }
}

/// The span of a command, if anybody listens. It is no child of its sender's, which nobody keeps
/// open for it.
fn command_span(module: &str) -> Option<Span> {
    let span = tracing::debug_span!(parent: None, "command", module);
    if span.is_disabled() {
        return None;
    }
    span.follows_from(Span::current());
    Some(span)
}

// === impl SparkGenericModuleMessage ===

impl<M, R, C, E> SparkGenericModuleMessage<M, R, C, E> {
    /// A command in the envelope it travels in.
    #[inline]
    pub(crate) fn command(message: M, link: Option<Box<Escort>>) -> Self {
        match link {
            None => Self::Command(message),
            Some(link) => Self::linked(message, link),
        }
    }

    #[cold]
    fn linked(message: M, link: Box<Escort>) -> Self {
        let (sender, _) = oneshot::channel();
        Self::Request(CallbackWrapper {
            message,
            sender,
            meta: Meta {
                stamp: None,
                escort: Some(link),
            },
        })
    }

    /// Whether it is a command, linked or not.
    #[inline]
    pub(crate) fn is_command(&self) -> bool {
        match self {
            Self::Request(wrapper) => wrapper.meta.is_of_command(),
            Self::Command(_) => true,
            Self::Shutdown(_) => false,
        }
    }

    /// The same with a command as a command, and beside it what it was linked with.
    pub(crate) fn unlinked(self) -> (Self, Option<Box<Escort>>) {
        match self {
            Self::Request(CallbackWrapper { message, meta, .. }) if meta.is_of_command() => {
                (Self::Command(message), meta.escort)
            }
            message => (message, None),
        }
    }

    /// What links a copy of this command to the same sender.
    pub(crate) fn link(&self) -> Option<Box<Escort>> {
        match self {
            Self::Request(wrapper) if wrapper.meta.is_of_command() => {
                let span = wrapper.meta.escort.as_ref()?.span.clone();
                span.map(|span| Box::new(Escort::of_command(span)))
            }
            _ => None,
        }
    }

    /// The message inside, unless it is one to shut down.
    pub(crate) fn message(&self) -> Option<&M> {
        match self {
            Self::Request(wrapper) => Some(&wrapper.message),
            Self::Command(message) => Some(message),
            Self::Shutdown(_) => None,
        }
    }

    /// The message that was sent, without what it travels in.
    pub(crate) fn into_inner(self) -> M {
        match self {
            Self::Request(wrapper) => wrapper.message,
            Self::Command(command) => command,
            Self::Shutdown(_) => unreachable!("no dispatcher sends one"),
        }
    }
}
