//! Commands to a module with classes.

use std::pin::pin;

use tokio::task::consume_budget;

use super::{Envelope, SparkGenericModuleDispatcher};
use crate::{
    Class, ClassStats, Refused, SparkChannelError,
    classes::{Intake, Unaccepted},
    current,
};

// === impl SparkGenericModuleDispatcher ===

impl<M, R, C, E> SparkGenericModuleDispatcher<M, R, C, E> {
    /// What the module has counted of each class of messages it has seen, the
    /// default class first; empty for a module without classes.
    #[must_use]
    pub fn class_stats(&self) -> Vec<ClassStats> {
        let intake = self.intake.as_ref();
        intake.map_or_else(Vec::new, |intake| intake.classes.stats())
    }

    pub(crate) async fn command_by_class(
        &self,
        intake: &Intake<M, R, C, E>,
        command: M,
    ) -> Result<(), Refused<M>> {
        // Most policies let nobody wait: whoever sends in a loop lets others run.
        consume_budget().await;
        let class = intake.class_of(&command);
        let (command, line) = match self.offer(intake, &class, command) {
            Ok(()) => return Ok(()),
            Err(Unaccepted::Wait(command, line)) => (command, line),
            Err(unaccepted) => return Err(self.unaccepted_command(unaccepted)),
        };
        if self.control.as_ref().is_some_and(current::is_inside) {
            // It would wait for itself.
            return Err(self.refuse(SparkChannelError::Full, command.into_inner()));
        }
        let room = pin!(intake.classes.room(line));
        match self.room(room).await {
            Ok(place) => place
                .fill(command, class.key)
                .map_err(|command| self.refuse(self.closed_reason(), command.into_inner())),
            Err(reason) => Err(self.refuse(reason, command.into_inner())),
        }
    }

    pub(super) fn try_command_by_class(
        &self,
        intake: &Intake<M, R, C, E>,
        command: M,
    ) -> Result<(), Refused<M>> {
        let class = intake.class_of(&command);
        self.offer(intake, &class, command)
            .map_err(|unaccepted| self.unaccepted_command(unaccepted))
    }

    fn offer(
        &self,
        intake: &Intake<M, R, C, E>,
        class: &Class,
        command: M,
    ) -> Result<(), Unaccepted<Envelope<M, R, C, E>>> {
        if self.is_stopping() {
            return Err(Unaccepted::Closed(Envelope::Command(command)));
        }
        let command = Envelope::command(command, self.link());
        intake.classes.offer(class, command, class.key)
    }

    fn unaccepted_command(&self, unaccepted: Unaccepted<Envelope<M, R, C, E>>) -> Refused<M> {
        self.unaccepted(unaccepted.map(Envelope::into_inner))
    }

    pub(crate) fn unaccepted<T>(&self, unaccepted: Unaccepted<T>) -> Refused<T> {
        match unaccepted {
            Unaccepted::Wait(command, _) | Unaccepted::Full(command) => {
                self.refuse(SparkChannelError::Full, command)
            }
            Unaccepted::Closed(command) => self.refuse(self.closed_reason(), command),
        }
    }
}
