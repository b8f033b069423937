//! A shop that survives a crash, and closes in time.
//!
//! ```text
//! system "shop"
//! ├── printer                   prints receipts, and jams
//! └── supervisor "sales"        one-for-one
//!     ├── ledger                what was sold
//!     ├── stock ──▶ ledger      rebuilds its counts from it when it starts; has a bug
//!     └── orders ──▶ stock, ledger, printer
//! ```
//!
//! ```text
//! cargo run --locked -p supervised-system
//! ```
//!
//! It takes orders, lets one of them crash the stock, takes more through the same client, and shuts
//! down with a deadline that the jammed printer does not keep. The panic's own message goes to
//! standard error.

use std::{error::Error, time::Duration};

use spark_channel::{ChildReport, Stop, System};

mod error;
mod ledger;
mod orders;
mod printer;
mod shop;
mod stock;

use crate::{error::ShopError, stock::StockClient};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let system = System::new("shop");
    let orders = shop::open(&system)?;

    // Found by name; the compiler and the system agree on the types.
    let stock: StockClient = system.appeared_as("stock").await?.into();
    let mut watch = stock.dispatcher().watch().ok_or("a module of its own")?;

    for quantity in [2, 3] {
        println!("{}", orders.place("lamp".into(), quantity).await?);
    }

    match orders.place("lamp".into(), 0).await {
        Err(ShopError::Call(error)) => println!("an order of none: {error}"),
        other => return Err(format!("the bug is gone: {other:?}").into()),
    }

    // The same client. What it sends now waits for the new stock, which knows what was sold.
    let (restarts, order) = tokio::join!(watch.restarted(), orders.place("lamp".into(), 1));
    println!("restarts of the stock: {}", restarts.ok_or("it has ended")?);
    println!("{}", order?);
    println!("{}", orders.place("lamp".into(), 4).await?);
    if let Err(error) = orders.place("lamp".into(), 4).await {
        println!("one more: {error}");
    }

    // Callers before those they call. The printer comes last and gets what is left of the time.
    let report = system.shutdown(Stop::Drain, CLOSING_TIME).await;
    println!("in time: {}", !report.deadline_passed);
    for tree in &report.trees {
        if let ChildReport::Supervisor(sales) = tree {
            println!(
                "{}: {:?}, restarts={}",
                sales.supervisor, sales.reason, sales.restarts
            );
        }
    }
    for module in report.modules() {
        let stats = module.stats;
        println!(
            "{}: handled={} failed={} panicked={} interrupted={} undelivered={}",
            module.module,
            stats.handled,
            stats.failed,
            stats.panicked,
            stats.interrupted,
            stats.undelivered
        );
    }
    Ok(())
}

/// How long the whole system may take to stop.
const CLOSING_TIME: Duration = Duration::from_millis(500);
