//! Takes orders. Keeps nothing itself, so a restart loses nothing.

use std::fmt;

use spark_channel::module;

use crate::{
    error::ShopError,
    ledger::{LedgerClient, Sale},
    printer::PrinterClient,
    stock::{Left, StockClient},
};

pub(crate) struct Orders {
    pub(crate) stock: StockClient,
    pub(crate) ledger: LedgerClient,
    pub(crate) printer: PrinterClient,
}

#[derive(Debug)]
pub(crate) struct Receipt {
    number: usize,
    sale: Sale,
    left: Left,
}

#[module(pub(crate), error = ShopError)]
impl Orders {
    // What it calls inherits what is left of these five seconds, a restart of the stock included.
    #[request(timeout = "5s")]
    async fn place(&mut self, item: String, quantity: u32) -> Result<Receipt, ShopError> {
        let left = self.stock.reserve(item.clone(), quantity).await?;
        let sale = Sale { item, quantity };
        let number = match self.ledger.record(sale.clone()).await {
            Ok(number) => number,
            Err(error) => {
                // A stock that refuses this starts from the ledger, which does not know the sale.
                let _ = self.stock.put_back(sale.item, quantity).await;
                return Err(error);
            }
        };
        // A sale whose receipt is not printed is still a sale.
        let _ = self.printer.print(format!("sale {number}")).await;
        Ok(Receipt { number, sale, left })
    }
}

// === impl Receipt ===

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, sale, left } = self;
        let Sale { item, quantity } = sale;
        write!(
            f,
            "sale {number}: {quantity} × {item}, {} left, enough for {} more",
            left.items, left.orders
        )
    }
}
