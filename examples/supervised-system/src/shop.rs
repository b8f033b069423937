//! Who depends on whom, and who keeps whom alive.

use std::{error::Error, time::Duration};

use spark_channel::{Backoff, Child, Strategy, Supervisor, System, module};

use crate::{
    ledger::{Ledger, LedgerClient},
    orders::{Orders, OrdersClient},
    printer::{Printer, PrinterClient},
    stock::{Stock, StockClient},
};

/// Starts the shop; `system` owns all of it.
pub(crate) fn open(system: &System) -> Result<OrdersClient, Box<dyn Error>> {
    // Given first, so stopped last.
    let printer = module(Printer::default()).name("printer").spawn();
    let to_printer = PrinterClient::from(printer.dispatcher());
    system.adopt(printer)?;

    // Each child is added after those it depends on: they start in this order and stop in the
    // reverse. One restarts alone, as addresses survive that and `orders` keeps no state.
    let mut sales = Supervisor::new("sales", Strategy::OneForOne)
        .intensity(3, Duration::from_secs(60))
        .backoff(Backoff::exponential(
            Duration::from_millis(10),
            Duration::from_secs(5),
        ));

    let ledger = LedgerClient::from(sales.child(Child::new(Ledger::default).name("ledger")));

    let of_stock = ledger.clone();
    let stock = sales.child(Child::new(move || Stock::new(of_stock.clone())).name("stock"));
    system.register(&stock)?;

    let stock = StockClient::from(stock);
    let orders = move || Orders {
        stock: stock.clone(),
        ledger: ledger.clone(),
        printer: to_printer.clone(),
    };
    let orders = sales.child(Child::new(orders).name("orders"));

    system.supervise(sales)?;
    Ok(orders.into())
}
