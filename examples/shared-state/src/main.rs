//! One store, used directly, as a module, and over HTTP.
//!
//! | route | does |
//! |---|---|
//! | `POST /state` | one request of JSON, as `spark_state::module::WireRequest` has them |
//! | `GET /watch/KEY` | the value now and each later one, as server-sent events |
//! | `GET /healthz`, `/metrics` | to be seen |
//!
//! ```text
//! cargo run --release --locked -p shared-state -- --file state.json
//! ```
//!
//! It prints `listening on ADDRESS` and commands to try. With `--file`, the store is restored from
//! the file when it starts, and saved there again and again and when it ends: kill it (`kill -9`),
//! start it again, and what was saved last is there.

use std::{
    fmt,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use eyre::WrapErr as _;
use spark_channel::{Stop, reader_writer};
use spark_http::{HttpServer, ShutdownSignals};
use spark_state::{SharedState, Snapshot, StateValue, module::StateModule};
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

mod web;

/// Serves a shared store over HTTP.
#[derive(Debug, Parser)]
struct Options {
    /// Where to listen; port 0 takes any that is free
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: String,

    /// Where to keep the values
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// How often to save them
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    save_every_ms: u64,
}

/// Saves the store from time to time, and once more at its end.
struct Saver {
    task: JoinHandle<eyre::Result<()>>,
    stop: oneshot::Sender<()>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shared-state: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> eyre::Result<()> {
    let mut signals = ShutdownSignals::listen().wrap_err("cannot listen for signals")?;
    let state = SharedState::builder()
        .entries_max(100_000)
        .bytes_max(64 << 20)
        .build();
    // What is reachable from outside has a scope of its own.
    let values = state.scope("values");
    if let Some(file) = &options.file {
        restore(&values, file)?;
    }
    values.insert("double", StateValue::function(|argument| double(&argument)))?;

    let sweeper = state.sweep_every(Duration::from_secs(10));
    let every = Duration::from_millis(options.save_every_ms);
    let saver = options.file.map(|file| Saver::start(&values, file, every));
    let module = reader_writer(StateModule::new(values))
        .name("state")
        .readers(64)
        .spawn();

    let server = HttpServer::bind(&*options.listen).await?;
    let ingress = web::ingress(&module, &server.handle())?;
    for address in server.local_addrs() {
        say(format_args!("listening on {address}"));
        say(format_args!("{}", web::commands(&address.to_string())));
    }
    server.serve_until(ingress, &mut signals).await;

    module.shutdown(Stop::Drain).await;
    sweeper.stop().await;
    match saver {
        Some(saver) => saver.stop().await,
        None => Ok(()),
    }
}

fn restore(values: &SharedState, file: &Path) -> eyre::Result<()> {
    let snapshot = match Snapshot::load(file) {
        Err(error) if error.is_not_found() => return Ok(()),
        loaded => loaded.wrap_err_with(|| file.display().to_string())?,
    };
    let report = values.restore(&snapshot);
    say(format_args!("restored {} values", report.restored));
    for (key, error) in report.refused {
        say(format_args!("lost {key:?}: {error}"));
    }
    Ok(())
}

fn double(argument: &StateValue) -> StateValue {
    let number = argument.get::<i64>();
    number
        .and_then(|number| number.checked_mul(2))
        .map_or(StateValue::None, StateValue::from)
}

// === impl Saver ===

impl Saver {
    fn start(values: &SharedState, file: PathBuf, every: Duration) -> Self {
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(save_until(stopped, values.clone(), file, every));
        Self { task, stop }
    }

    async fn stop(self) -> eyre::Result<()> {
        // If it has panicked already, that is said below.
        let _ = self.stop.send(());
        self.task.await?
    }
}

async fn save_until(
    mut stopped: oneshot::Receiver<()>,
    values: SharedState,
    file: PathBuf,
    every: Duration,
) -> eyre::Result<()> {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = false;
    while !last {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = &mut stopped => last = true,
        }
        let saved = values.save(&file).await;
        match saved.wrap_err_with(|| file.display().to_string()) {
            Ok(_) => {}
            Err(error) if last => return Err(error),
            // The disk may have room again the next time.
            Err(error) => say(format_args!("not saved: {error:#}")),
        }
    }
    Ok(())
}

/// As `println!`, which panics when nobody reads any more.
fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
