//! The dispatcher's end of a mailbox of classes.

use std::sync::Arc;

use super::Classes;
use crate::{Class, SparkGenericModuleMessage};

/// Chooses the class of a message.
pub(crate) type Classify<M> = Arc<dyn Fn(&M) -> Class + Send + Sync>;

/// Where the dispatchers of a module with classes put their messages.
pub(crate) struct Intake<M, R, C, E> {
    pub(crate) classes: Arc<Classes<SparkGenericModuleMessage<M, R, C, E>>>,
    classify: Option<Classify<M>>,
}

// === impl Intake ===

impl<M, R, C, E> Intake<M, R, C, E> {
    pub(crate) const fn new(
        classes: Arc<Classes<SparkGenericModuleMessage<M, R, C, E>>>,
        classify: Option<Classify<M>>,
    ) -> Self {
        Self { classes, classify }
    }

    /// The class of `message`. Runs user code.
    pub(crate) fn class_of(&self, message: &M) -> Class {
        match &self.classify {
            Some(classify) => classify(message),
            None => Class::DEFAULT,
        }
    }
}
