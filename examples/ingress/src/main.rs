//! One server with every kind of route, to be checked from outside: with curl, openssl, a load
//! generator, a WebSocket client or a raw socket.
//!
//! | route | does |
//! |---|---|
//! | `POST /echo` | answers with the text it was sent |
//! | `POST /fail` | fails; the text of the error starts with `boom: ` |
//! | `POST /panics` | panics with the text it was sent; nobody outside sees it |
//! | `POST /slow` | sleeps as many milliseconds as the body says; one at a time, two may wait |
//! | `POST /sum` | JSON: `{"a":1,"b":2}` → `{"sum":3}` |
//! | `POST /events` | publishes the text it was sent |
//! | `GET /events` | everything published from now on: server-sent events, or a WebSocket |
//! | `POST /shutdown` | with `--enable-shutdown`: drains, and ends the process |
//! | `GET /healthz`, `/readyz`, `/metrics`, `/openapi.json`, `/_spark` | to be seen |
//!
//! ```text
//! cargo run --release --locked -p ingress -- --listen 127.0.0.1:8080
//! curl http://127.0.0.1:8080/echo -d 'hello'
//! curl -N http://127.0.0.1:8080/events
//! ```
//!
//! It prints `listening on ADDRESS` for each address, and, when it has drained, its report as one
//! line of JSON.

use std::{fmt, io::Write as _, process::ExitCode};

use clap::Parser as _;
use eyre::WrapErr as _;
use spark_http::{HttpServer, ShutdownSignals};

mod modules;
mod options;
mod report;
mod web;

use crate::{modules::Modules, options::Options};

#[tokio::main]
async fn main() -> ExitCode {
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ingress: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> eyre::Result<()> {
    // From here on ctrl-c and SIGTERM are ours to answer.
    let mut signals = ShutdownSignals::listen().wrap_err("cannot listen for signals")?;
    let server = bind(&options).await?;
    let modules = Modules::spawn();
    let ingress = web::ingress(&options, &modules, &server.handle())?;

    for address in server.local_addrs() {
        say(format_args!("listening on {address}"));
    }
    let served = server.serve_until(ingress, &mut signals).await;

    // Nothing calls them any more. A further signal ends the wait.
    tokio::select! {
        reports = modules.drain(options.drain()) => {
            say(format_args!("{}", report::json(&served, &reports)));
            Ok(())
        }
        () = signals.recv() => eyre::bail!("stopped before every module had drained"),
    }
}

async fn bind(options: &Options) -> eyre::Result<HttpServer> {
    let mut endpoints = options.endpoints()?;
    let last = endpoints.pop().expect("there is a default");
    let mut builder = HttpServer::builder().drain_timeout(options.drain());
    if let Some(timeout) = options.header_timeout() {
        builder = builder.head_timeout(timeout);
    }
    for endpoint in endpoints {
        builder = builder.endpoint(endpoint);
    }
    Ok(builder.bind(last).await?)
}

/// As `println!`, which panics when nobody reads any more.
fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
