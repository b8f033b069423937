//! Calling functions that are values.

use std::{
    any::Any,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    task::Poll,
};

use crate::{FunctionFuture, KeyName, SharedState, StateError, StateValue, containment::contain};

// === impl SharedState ===

impl SharedState {
    /// Calls the function under `key`, of either kind, and returns what it returns.
    ///
    /// The function is taken out before it runs: nothing is locked meanwhile, and it may use the
    /// store, or replace itself.
    ///
    /// # Errors
    ///
    /// [`Missing`](StateError::Missing), [`NotAFunction`](StateError::NotAFunction), and
    /// [`Panicked`](StateError::Panicked) if it panics.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the function's, where that awaits.
    pub async fn call(
        &self,
        key: impl KeyName,
        argument: impl Into<StateValue>,
    ) -> Result<StateValue, StateError> {
        let name = self.full(key.name());
        let found: Option<StateValue> = self.store.get(&name)?;
        let argument = argument.into();
        match found {
            Some(StateValue::FunctionSync(function)) => contained(|| function(argument)),
            Some(StateValue::FunctionAsync(function)) => {
                let running = contained(|| function(argument))?;
                contained_future(running).await
            }
            Some(other) => Err(StateError::NotAFunction {
                found: other.type_name(),
                key: name.into(),
            }),
            None => Err(StateError::missing(&name)),
        }
    }
}

fn contained<R>(run: impl FnOnce() -> R) -> Result<R, StateError> {
    // What a panic leaves behind is the function's own, as it is in a task.
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = text_of(&*panic).into();
        contain(|| drop(panic));
        StateError::Panicked { text }
    })
}

async fn contained_future(mut running: FunctionFuture) -> Result<StateValue, StateError> {
    let returned = poll_fn(|cx| match contained(|| running.as_mut().poll(cx)) {
        Ok(poll) => poll.map(Ok),
        Err(error) => Poll::Ready(Err(error)),
    })
    .await;
    // Its destructor is the function's, too.
    let dropped = contained(|| drop(running));
    returned.and_then(|value| dropped.map(|()| value))
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "a panic without a text",
    }
}
