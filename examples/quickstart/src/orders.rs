//! Takes orders: reserves the items, asks for the price, leaves a line in the audit log.

use spark_channel::{
    NativeHandler, SparkChannelCancellationToken as Token, SparkChannelError,
    SparkGenericModuleDispatcher as Dispatcher,
};

use crate::{
    audit::Entries,
    pricing::Quote,
    stock::{StockError, StockMessage},
};

pub(crate) struct PlaceOrder {
    pub(crate) item: String,
    pub(crate) quantity: u32,
}

pub(crate) struct Receipt {
    pub(crate) order: u64,
    pub(crate) item: String,
    pub(crate) quantity: u32,
    pub(crate) total_cents: u64,
    pub(crate) left_in_stock: u32,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum OrderError {
    #[error(transparent)]
    Stock(#[from] StockError),
    #[error(transparent)]
    Call(#[from] SparkChannelError),
}

pub(crate) struct Orders {
    stock: Dispatcher<StockMessage, u32, Token, StockError>,
    pricing: Dispatcher<Quote, u64, Token, SparkChannelError>,
    audit: Dispatcher<String, Entries, Token, SparkChannelError>,
    taken: u64,
}

// === impl Orders ===

impl Orders {
    pub(crate) fn new(
        stock: Dispatcher<StockMessage, u32, Token, StockError>,
        pricing: Dispatcher<Quote, u64, Token, SparkChannelError>,
        audit: Dispatcher<String, Entries, Token, SparkChannelError>,
    ) -> Self {
        Self {
            stock,
            pricing,
            audit,
            taken: 0,
        }
    }
}

impl NativeHandler for Orders {
    type Message = PlaceOrder;
    type Response = Receipt;
    type Error = OrderError;

    // One order at a time, so `taken` needs no lock. The calls inherit the deadline
    // of the request that this one answers.
    async fn handle_request(&mut self, order: PlaceOrder) -> Result<Receipt, OrderError> {
        let PlaceOrder { item, quantity } = order;
        let reserve = StockMessage::Take(item.clone(), quantity);
        let left_in_stock = self.stock.request(reserve).await?;

        let quote = Quote {
            item: item.clone(),
            quantity,
        };
        let total_cents = match self.pricing.request(quote).await {
            Ok(total_cents) => total_cents,
            Err(error) => {
                // A command needs no answer. If even that is refused, stock is gone.
                let _ = self
                    .stock
                    .command(StockMessage::PutBack(item, quantity))
                    .await;
                return Err(error.into());
            }
        };

        self.taken += 1;
        let order = self.taken;
        let line = format!("order {order}: {quantity} × {item} for {total_cents} cents");
        // An order without its line in the log is still an order.
        let _ = self.audit.command(line).await;
        Ok(Receipt {
            order,
            item,
            quantity,
            total_cents,
            left_in_stock,
        })
    }

    async fn handle_command(&mut self, order: PlaceOrder) -> Result<(), OrderError> {
        self.handle_request(order).await.map(drop)
    }
}
