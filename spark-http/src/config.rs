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
    /// A window of HTTP/2 is outside of what the protocol allows.
    #[error("{setting} of {bytes} bytes is not between {least} and {most}")]
    WindowOutOfRange {
        /// The method that set it.
        setting: &'static str,
        /// The configured size.
        bytes: u32,
        /// The smallest that can be configured.
        least: u32,
        /// The largest.
        most: u32,
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

/// Fails if one of the named windows is smaller than its least, or larger than the protocol allows.
#[cfg(feature = "http2")]
pub(crate) fn check_windows(windows: &[(&'static str, u32, u32)]) -> Result<(), ConfigError> {
    match windows
        .iter()
        .find(|(_, bytes, least)| !(*least..=WINDOW_MAX).contains(bytes))
    {
        Some(&(setting, bytes, least)) => Err(ConfigError::WindowOutOfRange {
            setting,
            bytes,
            least,
            most: WINDOW_MAX,
        }),
        None => Ok(()),
    }
}

/// RFC 9113, 6.9.1.
#[cfg(feature = "http2")]
const WINDOW_MAX: u32 = i32::MAX as u32;
