//! Many commands at once: places in the mailbox are taken several at a time.

use std::{fmt, future::Future, pin::pin};

use tokio::sync::mpsc::{PermitIterator, error::TrySendError};

use crate::{
    Refused, SparkChannelError, SparkGenericModuleDispatcher, SparkGenericModuleMessage, current,
    dispatcher::Envelope,
};

/// A batch of commands of which not all were accepted.
///
/// ```
/// use spark_channel::{RefusedBatch, SparkChannelError};
///
/// let reason = SparkChannelError::Closed;
/// let refused = RefusedBatch { accepted: 2, messages: vec!["third", "fourth"], reason };
/// assert_eq!(refused.to_string(), "2 commands accepted, 2 refused: module stopped");
/// ```
pub struct RefusedBatch<M> {
    /// How many were accepted: the first of the batch.
    pub accepted: usize,
    /// The ones that were not, in order.
    pub messages: Vec<M>,
    /// Why they were not accepted.
    pub reason: SparkChannelError,
}

// === impl SparkGenericModuleDispatcher ===

impl<M, R, C, E> SparkGenericModuleDispatcher<M, R, C, E> {
    /// Sends a command for each message, waiting while there is no room; returns how
    /// many there were.
    ///
    /// They are accepted in order, up to 32 at a time (less if that is more than half of
    /// the mailbox); messages of other senders may come between such groups. The iterator
    /// must end.
    ///
    /// # Errors
    ///
    /// As [`command`](Self::command), with all the messages that were not accepted and
    /// how many were.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves those accepted so far with the module and drops the
    /// others; how many there were is lost.
    ///
    /// # Examples
    ///
    /// ```
    /// # use spark_channel::SparkGenericModuleDispatcher;
    /// async fn log(events: &SparkGenericModuleDispatcher<String, ()>, lines: Vec<String>) {
    ///     if let Err(refused) = events.command_all(lines).await {
    ///         eprintln!("{refused}; lost: {:?}", refused.messages);
    ///     }
    /// }
    /// ```
    pub fn command_all<I>(
        &self,
        commands: I,
    ) -> impl Future<Output = Result<usize, RefusedBatch<M>>>
    where
        I: IntoIterator<Item: Into<M>>,
    {
        let mut commands = commands.into_iter();
        let group_max = (self.sender.max_capacity() / 2).clamp(1, GROUP_MAX);
        async move {
            let mut accepted = 0;
            if let Some(intake) = self.intake() {
                while let Some(command) = commands.next() {
                    let sent = self.command_by_class(intake, command.into()).await;
                    if let Err(Refused { message, reason }) = sent {
                        let mut refused = self.refuse_batch(accepted, commands, reason);
                        refused.messages.insert(0, message);
                        return Err(refused);
                    }
                    accepted += 1;
                }
                return Ok(accepted);
            }
            while let Some(first) = commands.next() {
                let more = commands.size_hint().0.min(group_max - 1);
                let permits = match self.admit_group(1 + more).await {
                    Ok(permits) => permits,
                    Err(reason) => {
                        let rest = std::iter::once(first).chain(commands);
                        return Err(self.refuse_batch(accepted, rest, reason));
                    }
                };
                let mut next = Some(first);
                for permit in permits {
                    // Whoever promised more than there is has reserved in vain.
                    let Some(command) = next.take().or_else(|| commands.next()) else {
                        return Ok(accepted);
                    };
                    let command = command.into();
                    let link = self.link();
                    self.note_arrival();
                    permit.send(SparkGenericModuleMessage::command(command, link));
                    accepted += 1;
                }
            }
            Ok(accepted)
        }
    }

    /// Places for this many messages; fewer if the caller must not wait for them.
    async fn admit_group(
        &self,
        messages: usize,
    ) -> Result<Group<'_, M, R, C, E>, SparkChannelError> {
        match self.try_admit_group(messages) {
            Err(SparkChannelError::Full) => {}
            admitted => return admitted,
        }
        if self.control().is_some_and(current::is_inside) {
            // Its own handler would wait for itself.
            return self.try_admit_up_to(messages);
        }
        let reserving = pin!(self.sender.reserve_many(messages));
        Box::pin(self.room(reserving)).await
    }

    /// Places for this many messages or fewer, but not none, if there are any now.
    pub(crate) fn try_admit_up_to(
        &self,
        messages: usize,
    ) -> Result<Group<'_, M, R, C, E>, SparkChannelError> {
        match self.try_admit_group(messages) {
            Err(SparkChannelError::Full) if messages > 1 => {
                // Others may take places in between; then one is tried for.
                let free = self.sender.capacity().min(messages);
                self.try_admit_group(free.max(1))
                    .or_else(|_| self.try_admit_group(1))
            }
            admitted => admitted,
        }
    }

    fn try_admit_group(&self, messages: usize) -> Result<Group<'_, M, R, C, E>, SparkChannelError> {
        if self.control().is_some_and(|control| control.is_stopping()) {
            return Err(self.closed_reason());
        }
        self.sender
            .try_reserve_many(messages)
            .map_err(|error| match error {
                TrySendError::Full(()) => SparkChannelError::Full,
                TrySendError::Closed(()) => self.closed_reason(),
            })
    }

    fn refuse_batch(
        &self,
        accepted: usize,
        rest: impl Iterator<Item: Into<M>>,
        reason: SparkChannelError,
    ) -> RefusedBatch<M> {
        let messages: Vec<M> = rest.map(Into::into).collect();
        if let Some(control) = self.control() {
            for _ in &messages {
                control.count_rejected();
            }
        }
        RefusedBatch {
            accepted,
            messages,
            reason,
        }
    }
}

// === impl RefusedBatch ===

impl<M> RefusedBatch<M> {
    /// The messages that were not accepted, to be sent again or elsewhere.
    pub fn into_inner(self) -> Vec<M> {
        self.messages
    }
}

impl<M> fmt::Debug for RefusedBatch<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefusedBatch")
            .field("accepted", &self.accepted)
            .field("refused", &self.messages.len())
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

impl<M> fmt::Display for RefusedBatch<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (accepted, refused) = (self.accepted, self.messages.len());
        write!(
            f,
            "{accepted} commands accepted, {refused} refused: {}",
            self.reason
        )
    }
}

impl<M> std::error::Error for RefusedBatch<M> {}

impl<M> From<RefusedBatch<M>> for SparkChannelError {
    fn from(refused: RefusedBatch<M>) -> Self {
        refused.reason
    }
}

pub(crate) type Group<'a, M, R, C, E> = PermitIterator<'a, Envelope<M, R, C, E>>;

/// More brings nothing: what a group saves is spread over its messages already.
const GROUP_MAX: usize = 32;
