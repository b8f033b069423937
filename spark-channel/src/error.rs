//! What can happen to a call, as types a caller can act on.

use std::{fmt, sync::Arc};

/// What happened to a call that the module did not answer itself.
///
/// A handler's own error never takes this shape: it reaches the caller as the
/// module's error type, untouched. The module's error type only has to be able
/// to *hold* this one, `Error: From<SparkChannelError>`, which `eyre::Report`,
/// `anyhow::Error` and `Box<dyn Error + Send + Sync>` can by themselves, and a
/// `thiserror` enum with a `#[from]` variant.
///
/// Cloning copies at most two words and a reference count.
///
/// ```
/// use spark_channel::{SparkChannelError, Stage};
///
/// let error = SparkChannelError::TimedOut { stage: Stage::Queued };
/// assert!(error.never_started() && error.is_retryable());
/// assert_eq!(error.to_string(), "deadline passed while the request was queued");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SparkChannelError {
    /// The module has stopped. No call through this dispatcher can succeed again.
    #[error("module stopped")]
    Closed,
    /// The module is stopping and did not start this call.
    #[error("module is shutting down")]
    ShuttingDown,
    /// Of a [keyed set](crate::keyed()): the module of this call's key could not be
    /// started, or ended by itself before it came to this call. Another call starts
    /// another module.
    #[error("module for this key is not available")]
    Unavailable,
    /// The mailbox is at its bound and the caller did not want to wait.
    #[error("mailbox full")]
    Full,
    /// The request was accepted and then dropped, before it started, by the
    /// [`Overflow`](crate::Overflow) policy of a class that was full.
    #[error("request was dropped from a full mailbox")]
    Overflowed,
    /// The deadline passed first.
    #[error("deadline passed while the request was {stage}")]
    TimedOut {
        /// How far the call had come.
        stage: Stage,
    },
    /// The handler was dropped while it ran, by [`Stop::Now`](crate::Stop::Now)
    /// or at the deadline of a shutdown.
    #[error("handler was cancelled while it ran")]
    Cancelled,
    /// The handler panicked. The module itself goes on as its
    /// [`PanicPolicy`](crate::PanicPolicy) says.
    #[error("handler panicked")]
    Panicked {
        /// The panic's text: for logs, not for network peers, which is why the
        /// error does not print it.
        text: Arc<str>,
    },
    /// Waiting for this reply could never end: the path leads back to its start.
    #[error("request would deadlock: {}", Arrows(path))]
    WouldDeadlock {
        /// Module names, from the module that asked round to itself.
        path: Arc<[Arc<str>]>,
    },
    /// The reply slot was dropped without an answer: the task that ran the
    /// module was aborted, its runtime ended, or a hand-written loop let it fall.
    #[error("reply dropped without an answer")]
    ReplyDropped,
    /// The module answered with another kind of response than the call expects.
    #[error("unexpected response: expected {expected}, found {found}")]
    UnexpectedResponse {
        /// What the caller wanted.
        expected: &'static str,
        /// What came.
        found: &'static str,
    },
}

/// How far a call had come when its deadline passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// It waited for room in the mailbox. It will not run.
    NotAdmitted,
    /// It waited in the mailbox. It will not run.
    Queued,
    /// Its handler was running, or whether it was is not known: a dispatcher
    /// made from a bare sender cannot see into the run loop.
    Running,
}

/// A send that was refused, with the message it was refused for.
///
/// An error like any other; `?` into an `eyre::Report` asks for a message that is
/// `Sync`. For others there is `.map_err(|refused| refused.reason)`.
///
/// ```
/// use spark_channel::{Refused, SparkChannelError};
///
/// let refused = Refused { message: "hello", reason: SparkChannelError::Full };
/// assert_eq!(refused.to_string(), "mailbox full");
/// assert_eq!(refused.into_inner(), "hello");
/// ```
pub struct Refused<M> {
    /// The message, as it was sent.
    pub message: M,
    /// Why it was not accepted.
    pub reason: SparkChannelError,
}

/// Turns a result of the module's own types into the one a caller asked for.
///
/// It names the result in `send_command::<_, R>(..)`, and holds for every
/// `Result<T, F>` whose error can be made from the module's.
pub trait IntoResult<Success, Error> {
    /// The result the caller gets.
    type Output;

    /// Converts `result`.
    fn into_result(result: Result<Success, Error>) -> Self::Output;
}

struct Arrows<'a>(&'a [Arc<str>]);

// === impl SparkChannelError ===

impl SparkChannelError {
    /// An answer of the wrong kind, for code that projects a module's response
    /// enum to one variant.
    #[must_use]
    pub const fn unexpected_response(expected: &'static str, found: &'static str) -> Self {
        Self::UnexpectedResponse { expected, found }
    }

    /// Whether the same call through the same dispatcher may succeed later, and
    /// repeating it cannot do its work twice.
    ///
    /// True for [`Full`](Self::Full), [`Overflowed`](Self::Overflowed),
    /// [`Unavailable`](Self::Unavailable), and for
    /// [`TimedOut`](Self::TimedOut) before the handler started.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Full
                | Self::Overflowed
                | Self::Unavailable
                | Self::TimedOut {
                    stage: Stage::NotAdmitted | Stage::Queued
                }
        )
    }

    /// Whether the handler is known never to have seen the message, and never will.
    ///
    /// Of the call that failed, that is: an error that a handler passes on from a
    /// call of its own speaks of that one.
    #[must_use]
    pub const fn never_started(&self) -> bool {
        match self {
            Self::Closed
            | Self::ShuttingDown
            | Self::Unavailable
            | Self::Full
            | Self::Overflowed
            | Self::WouldDeadlock { .. } => true,
            Self::TimedOut { stage } => matches!(stage, Stage::NotAdmitted | Stage::Queued),
            Self::Cancelled
            | Self::Panicked { .. }
            | Self::ReplyDropped
            | Self::UnexpectedResponse { .. } => false,
        }
    }
}

// === impl Stage ===

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAdmitted => "waiting for room in the mailbox",
            Self::Queued => "queued",
            Self::Running => "running",
        })
    }
}

// === impl Refused ===

impl<M> Refused<M> {
    /// The message, to be sent again or elsewhere.
    pub fn into_inner(self) -> M {
        self.message
    }
}

impl<M> fmt::Debug for Refused<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused")
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

impl<M> fmt::Display for Refused<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

impl<M> std::error::Error for Refused<M> {}

impl<M> From<Refused<M>> for SparkChannelError {
    fn from(refused: Refused<M>) -> Self {
        refused.reason
    }
}

// === impl IntoResult ===

impl<T, E, F: From<E>> IntoResult<T, E> for Result<T, F> {
    type Output = Self;

    fn into_result(result: Result<T, E>) -> Self {
        result.map_err(F::from)
    }
}

// === impl Arrows ===

impl fmt::Display for Arrows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(" → ")?;
            }
            f.write_str(name)?;
        }
        Ok(())
    }
}
