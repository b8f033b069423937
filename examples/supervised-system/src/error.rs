//! What the shop says no with.

use spark_channel::SparkChannelError;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ShopError {
    #[error("only {left} of {item} left")]
    SoldOut { item: String, left: u32 },
    #[error(transparent)]
    Call(#[from] SparkChannelError),
}
