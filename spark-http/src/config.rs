//! What can be wrong with a configuration, found before anything runs.

/// Error returned by [`IngressBuilder::build`](crate::IngressBuilder::build) and
/// inside of [`BindError`](crate::BindError).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Two routes have one name, or path, and a method in common.
    #[error("two routes are named {name:?}")]
    DuplicateRoute {
        /// The name, or path.
        name: String,
    },
    /// Two paths match the same requests although they are written differently.
    #[error("route path {path:?} matches what {other:?} matches")]
    ConflictingRoutes {
        /// The path that came second.
        path: String,
        /// The path that came first.
        other: String,
    },
    /// A route has no method, so that nothing could ever reach it.
    #[error("route {name:?} has no method")]
    NoMethods {
        /// The name, or path.
        name: String,
    },
    /// A route's name or path could never be reached, or would be misread on the way.
    #[error("route name {name:?} {reason}")]
    InvalidRouteName {
        /// The name, or path.
        name: String,
        /// What is wrong with it, to follow the name in a sentence.
        reason: &'static str,
    },
    /// A key or password cannot be used. What it is, is not said.
    #[error("credential {name:?} {reason}")]
    InvalidCredential {
        /// Whose it is.
        name: String,
        /// What is wrong with it, to follow the name in a sentence.
        reason: &'static str,
    },
    /// A route has a rule for identities, and nothing finds out who sends a request.
    #[error("route {name:?} allows identities, but no requests are authenticated")]
    AllowWithoutAuthentication {
        /// The name, or path.
        name: String,
    },
    /// A time limit is zero, so that nothing could ever keep to it.
    #[error("{setting} is zero")]
    ZeroTimeout {
        /// The method that set it.
        setting: &'static str,
    },
    /// A limit is zero, so that nothing could ever be let in.
    #[error("{setting} is zero")]
    ZeroLimit {
        /// The method that set it.
        setting: &'static str,
    },
    /// A route has a queue, and no limit that anybody could wait for.
    #[error("route {name:?} has a queue, but its concurrency is not limited")]
    QueueWithoutConcurrency {
        /// The name, or path.
        name: String,
    },
    /// A body may be larger than all bodies together.
    #[error("a body limit of {body_limit} bytes is above what all bodies may take, {body_memory}")]
    BodyLimitAboveMemory {
        /// The limit of one body, in bytes.
        body_limit: usize,
        /// The limit of all, in bytes.
        body_memory: usize,
    },
    /// The limit of a request's head is smaller than the smallest the parser works with.
    #[error("head limit of {bytes} bytes is below the smallest possible, {least}")]
    HeadLimitTooSmall {
        /// The configured limit.
        bytes: usize,
        /// The smallest that can be configured.
        least: usize,
    },
}

/// Fails if one of the named time limits is zero.
pub(crate) fn check_timeouts(
    timeouts: &[(&'static str, std::time::Duration)],
) -> Result<(), ConfigError> {
    match timeouts.iter().find(|(_, timeout)| timeout.is_zero()) {
        Some(&(setting, _)) => Err(ConfigError::ZeroTimeout { setting }),
        None => Ok(()),
    }
}
