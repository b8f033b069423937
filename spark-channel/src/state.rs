//! What a module is doing.

/// What a module is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ModuleState {
    /// It serves, or is starting its first handler.
    Running,
    /// A supervised module, or a replica of it, has no handler that has started: it
    /// is to be started, or waits for its restart. Its mailbox accepts messages.
    Restarting,
    /// It was told to stop and has not ended.
    Stopping,
    /// It has ended.
    Ended,
}
