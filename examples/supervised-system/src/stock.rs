//! Knows how many of each item are left. Loses that when it crashes, and gets it back from the ledger.

use std::collections::HashMap;

use spark_channel::module;

use crate::{error::ShopError, ledger::LedgerClient};

pub(crate) struct Stock {
    ledger: LedgerClient,
    items: HashMap<String, u32>,
}

/// What is left after an order.
#[derive(Debug)]
pub(crate) struct Left {
    pub(crate) items: u32,
    /// How many more orders of the same size can be filled.
    pub(crate) orders: u32,
}

// === impl Stock ===

impl Stock {
    pub(crate) fn new(ledger: LedgerClient) -> Self {
        Self {
            ledger,
            items: HashMap::new(),
        }
    }
}

#[module(pub(crate), error = ShopError)]
impl Stock {
    /// Runs before the first message and after each restart.
    #[started]
    async fn open(&mut self) -> Result<(), ShopError> {
        self.items = HashMap::from([("lamp".to_owned(), 12)]);
        for sale in self.ledger.sales().await? {
            *self.items.entry(sale.item).or_default() -= sale.quantity;
        }
        Ok(())
    }

    #[request(timeout = "2s")]
    async fn reserve(&mut self, item: String, quantity: u32) -> Result<Left, ShopError> {
        let left = self.items.entry(item.clone()).or_default();
        *left = left
            .checked_sub(quantity)
            .ok_or(ShopError::SoldOut { item, left: *left })?;
        // The bug: nobody thought of an order of none.
        let orders = *left / quantity;
        Ok(Left {
            items: *left,
            orders,
        })
    }

    #[command]
    async fn put_back(&mut self, item: String, quantity: u32) {
        *self.items.entry(item).or_default() += quantity;
    }
}
