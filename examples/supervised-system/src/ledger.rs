//! What was sold. A real one would write it to a file or a database.

use spark_channel::module;

use crate::error::ShopError;

#[derive(Clone, Debug)]
pub(crate) struct Sale {
    pub(crate) item: String,
    pub(crate) quantity: u32,
}

#[derive(Default)]
pub(crate) struct Ledger {
    sales: Vec<Sale>,
}

#[module(pub(crate), error = ShopError)]
impl Ledger {
    /// Writes a sale down; returns its number.
    #[request]
    async fn record(&mut self, sale: Sale) -> usize {
        self.sales.push(sale);
        self.sales.len()
    }

    #[request]
    async fn sales(&self) -> Vec<Sale> {
        self.sales.clone()
    }
}
