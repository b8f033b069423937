//! The token that a [`Shutdown`](crate::SparkGenericModuleMessage::Shutdown) message carries.

use tokio_util::sync::CancellationToken;

/// What a run loop does with the token of a shutdown message once the module has stopped.
pub trait SparkChannelCancellationTrait {
    /// Tells whoever holds the token that the module has stopped.
    fn cancel_execution(&self);
}

/// The default token: tokio-util's [`CancellationToken`], cancelled when the module has stopped.
///
/// ```
/// use spark_channel::{SparkChannelCancellationToken, SparkChannelCancellationTrait};
///
/// let token = SparkChannelCancellationToken::new();
/// let watcher = token.clone();
/// token.cancel_execution();
/// assert!(watcher.0.is_cancelled());
/// ```
#[derive(Clone, Debug, Default)]
pub struct SparkChannelCancellationToken(pub CancellationToken);

impl SparkChannelCancellationToken {
    /// Creates a token that nobody has cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The tokio-util token inside.
    #[must_use]
    pub const fn inner(&self) -> &CancellationToken {
        &self.0
    }

    /// Unwraps the tokio-util token.
    #[must_use]
    pub fn into_inner(self) -> CancellationToken {
        self.0
    }
}

impl SparkChannelCancellationTrait for SparkChannelCancellationToken {
    fn cancel_execution(&self) {
        self.0.cancel();
    }
}

impl From<CancellationToken> for SparkChannelCancellationToken {
    fn from(token: CancellationToken) -> Self {
        Self(token)
    }
}
