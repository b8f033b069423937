//! Serves `POST /echo` with `manager_handlers` on the port it insists on.
//!
//! ```text
//! manager-handlers-server [--access-log]
//! ```
//!
//! It asks for an API key and writes a line to the error output for every request, and has no
//! setting for either. The key is [`API_KEY`]; the lines are turned off from outside, since none of
//! those it is compared with writes any, unless `--access-log` says otherwise.

use std::{env, error::Error, sync::Arc, time::Duration};

use async_trait::async_trait;
use manager_handlers::{
    core::{communication::multibus::MultiBus, states::SharedState, traits::Base},
    handler,
    manager::Manager,
};
use tokio::{net::TcpStream, runtime, time::sleep};

handler! {
    Echo, echo;
    async fn run(&self, _source: String, data: String) -> Result<String, Box<dyn Error + Send + Sync>> {
        Ok(data)
    },
}

fn main() -> Result<(), Box<dyn Error>> {
    let access_log = env::args().any(|argument| argument == "--access-log");
    // Connections have workers of their own, as many as the process has cores to run on.
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut manager = Manager::new_default();
        manager.with_api_key(API_KEY.to_owned());
        // As many as connections under load, so that nobody waits for a permit.
        manager.with_max_requests(CONCURRENCY);
        manager.add_handler::<Echo>("echo", CONCURRENCY);
        manager.with_keep_alive(Some(60));
        let announced = tokio::spawn(announce(access_log));
        manager.start().await;
        announced.abort();
    });
    Ok(())
}

/// Says where the manager listens once it does. It starts its logger before that.
async fn announce(access_log: bool) {
    while TcpStream::connect(ADDRESS).await.is_err() {
        sleep(Duration::from_millis(10)).await;
    }
    if !access_log {
        log::set_max_level(log::LevelFilter::Off);
    }
    println!("listening on {ADDRESS}");
}

const ADDRESS: &str = "127.0.0.1:8080";
const API_KEY: &str = "bench-key";
const CONCURRENCY: i32 = 64;
