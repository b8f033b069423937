//! Knows how many of each item are left. Written in the `async_trait` shape.

use std::collections::HashMap;

use async_trait::async_trait;
use spark_channel::{SparkChannelError, SparkGenericModuleHandler};

pub(crate) enum StockMessage {
    Take(String, u32),
    PutBack(String, u32),
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum StockError {
    #[error("no such item: {item}")]
    UnknownItem { item: String },
    #[error("only {left} of {item} left")]
    SoldOut { item: String, left: u32 },
    #[error(transparent)]
    Call(#[from] SparkChannelError),
}

pub(crate) struct Stock {
    left: HashMap<String, u32>,
}

// === impl Stock ===

impl Stock {
    pub(crate) fn full() -> Self {
        let items = [("lamp", 100_000), ("desk", 20), ("chair", 80)];
        Self {
            left: items.map(|(item, left)| (item.to_owned(), left)).into(),
        }
    }
}

#[async_trait]
impl SparkGenericModuleHandler<StockMessage, u32, StockError> for Stock {
    /// Answers how many are left.
    async fn handle_request(&mut self, message: StockMessage) -> Result<u32, StockError> {
        let (StockMessage::Take(item, _) | StockMessage::PutBack(item, _)) = &message;
        let Some(left) = self.left.get_mut(item) else {
            return Err(StockError::UnknownItem { item: item.clone() });
        };
        match message {
            StockMessage::PutBack(_, quantity) => *left += quantity,
            StockMessage::Take(_, quantity) if quantity <= *left => *left -= quantity,
            StockMessage::Take(item, _) => {
                return Err(StockError::SoldOut { item, left: *left });
            }
        }
        Ok(*left)
    }

    async fn handle_command(&mut self, message: StockMessage) -> Result<(), StockError> {
        self.handle_request(message).await.map(drop)
    }
}
