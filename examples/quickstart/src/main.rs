//! An order desk: five modules that call each other, served over HTTP.
//!
//! ```text
//!                      ┌──▶ stock    reserves items, keeps the counts
//!  POST /orders ─▶ orders ─▶ pricing  4 replicas behind one dispatcher
//!                      └──▶ audit ◀── POST /audit
//!  POST /echo ───▶ echo
//! ```
//!
//! Run it, paste the `curl` lines it prints, and stop it with ctrl-c:
//!
//! ```text
//! cargo run --release --locked -p quickstart
//! curl http://127.0.0.1:8080/orders -H 'content-type: application/json' -d '{"item":"lamp","quantity":2}'
//! ```

use std::{fmt, io::Write as _, process::ExitCode};

use spark_channel::{Stop, module, pool};
use spark_http::{HttpServer, ShutdownSignals};

mod options;
mod web;

mod audit;
mod echo;
mod orders;
mod pricing;
mod stock;

use crate::{
    audit::Audit,
    echo::Echo,
    options::{Options, StartError},
    orders::Orders,
    pricing::Pricing,
    stock::Stock,
};

#[tokio::main]
async fn main() -> ExitCode {
    match Options::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => match run(options).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => error.report(),
        },
        Ok(None) => {
            say(format_args!("{}", options::USAGE));
            ExitCode::SUCCESS
        }
        Err(error) => error.report(),
    }
}

async fn run(options: Options) -> Result<(), StartError> {
    // From here on ctrl-c and SIGTERM are ours to answer.
    let mut signals = ShutdownSignals::listen().map_err(StartError::Signals)?;
    let server = HttpServer::bind(&options.listen).await?;

    // Build: each module gets the dispatchers of those it calls.
    let audit = module(Audit::default()).name("audit").spawn();
    let stock = module(Stock::full()).name("stock").spawn();
    let pricing = pool(4, Pricing::default).name("pricing").spawn();
    let orders = Orders::new(stock.dispatcher(), pricing.dispatcher(), audit.dispatcher());
    let orders = module(orders).name("orders").spawn();
    let echo = module(Echo).name("echo").spawn();
    let ingress = web::ingress(echo.dispatcher(), orders.dispatcher(), audit.dispatcher())?;

    // Run, until a signal comes and the requests under way are answered.
    let address = server.local_addr();
    say(format_args!("listening on http://{address}"));
    say(format_args!("curl http://{address}/echo -d 'hello, Spark'"));
    let json = r#"{"item":"lamp","quantity":2}"#;
    say(format_args!(
        "curl http://{address}/orders -H 'content-type: application/json' -d '{json}'"
    ));
    say(format_args!("curl http://{address}/audit -d 'last 5'"));
    let served = server.serve_until(ingress, &mut signals).await;
    say(format_args!("http: {served}"));

    // Shut down: callers before those they call, so that nobody finds a door closed.
    // Each module is bound by its shutdown timeout; a further signal ends the wait.
    let drained = async {
        for report in [
            echo.shutdown(Stop::Drain).await,
            orders.shutdown(Stop::Drain).await,
            pricing.shutdown(Stop::Drain).await,
            stock.shutdown(Stop::Drain).await,
            audit.shutdown(Stop::Drain).await,
        ] {
            let stats = report.stats;
            say(format_args!(
                "{}: handled={} failed={} abandoned={} returned={} undelivered={}",
                report.module,
                stats.handled,
                stats.failed,
                stats.abandoned,
                stats.returned,
                stats.undelivered
            ));
        }
    };
    tokio::select! {
        () = drained => {}
        () = signals.recv() => eprintln!("quickstart: stopped before every module had drained"),
    }
    Ok(())
}

/// As `println!`, which panics when nobody reads any more (`quickstart | head -1`): the modules
/// would not be drained.
fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
