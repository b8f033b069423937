//! What the code that `#[module]` writes needs, and nobody else.
//!
//! The traits here say no more than their bounds do, but say it in the words of who
//! wrote the impl block.

mod mocked_method;

pub use eyre::Report;

pub use self::mocked_method::MockedMethod;
use crate::SparkChannelError;

/// The error of a `Result`, under whatever alias.
pub type ErrorOf<R> = <R as Fallible>::Error;

/// A `Result`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a `Result`",
    label = "only a type that is one may be called `Result` here"
)]
pub trait Fallible {
    /// What it fails with.
    type Error;
}

/// What a message or a reply carries.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot travel in a message or a reply",
    label = "it goes from task to task: make it `Send` and `'static`"
)]
pub trait Travels {}

/// A module's state.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a module",
    label = "a module moves between threads with its task: make it `Send` and `'static`"
)]
pub trait Module {}

/// A module's state that a handler borrows while it waits.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not `Sync`, and a message of it takes `&self`",
    label = "take `&mut self`, or make the state `Sync`"
)]
pub trait Shared {}

/// A module's error.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error type of a module",
    label = "a call can fail with it: implement `From<SparkChannelError>`, `Send` and `'static` for it",
    note = "or name another one: `#[module(error = Type)]`"
)]
pub trait ModuleError {}

/// An argument of a mock's method.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not `Clone`, and a mock records what it is called with",
    label = "make it `Clone`, or leave out `mock`"
)]
pub trait Recorded {
    /// Another one.
    #[must_use]
    fn copy(&self) -> Self;
}

/// Fails to compile at the type.
pub const fn travels<T: Travels>() {}

/// Fails to compile at the type.
pub const fn is_module<T: Module>() {}

/// Fails to compile at the type.
pub const fn is_shared<T: Shared>() {}

/// Fails to compile at the type.
pub const fn is_error<T: ModuleError>() {}

/// What [`travels`] and [`is_module`] say of a type parameter, which has bounds to add.
pub const fn is_send<T: Send + 'static>() {}

/// What [`is_shared`] says of a type parameter.
pub const fn is_sync<T: Sync>() {}

/// What a mock keeps of an argument.
pub fn record<T: Recorded>(argument: &T) -> T {
    argument.copy()
}

// === impl Fallible ===

impl<T, E> Fallible for Result<T, E> {
    type Error = E;
}

// === what the bounds are ===

#[diagnostic::do_not_recommend]
impl<T: Send + 'static> Travels for T {}

#[diagnostic::do_not_recommend]
impl<T: Send + 'static> Module for T {}

#[diagnostic::do_not_recommend]
impl<T: Sync> Shared for T {}

#[diagnostic::do_not_recommend]
impl<T: From<SparkChannelError> + Send + 'static> ModuleError for T {}

#[diagnostic::do_not_recommend]
impl<T: Clone> Recorded for T {
    fn copy(&self) -> Self {
        self.clone()
    }
}
