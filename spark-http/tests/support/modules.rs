//! The modules that tests serve.

#![allow(dead_code, reason = "each test file uses another part of this one")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use spark_channel::NativeHandler;
use tokio::sync::Semaphore;

/// Answers what it is told, one message per permit; `panic` panics.
#[derive(Clone)]
pub(crate) struct Gated {
    pub(crate) gate: Arc<Semaphore>,
    /// Handlers that started.
    pub(crate) started: Arc<Semaphore>,
    pub(crate) runs: Arc<AtomicUsize>,
}

impl Gated {
    pub(crate) fn closed() -> Self {
        Self {
            gate: Arc::new(Semaphore::new(0)),
            started: Arc::new(Semaphore::new(0)),
            runs: Arc::default(),
        }
    }

    pub(crate) fn open() -> Self {
        let gated = Self::closed();
        gated.gate.add_permits(1_000);
        gated
    }

    pub(crate) fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }

    /// Waits until one more handler has started; fails the test rather than let it hang.
    pub(crate) async fn has_started(&self) {
        let started = tokio::time::timeout(Duration::from_secs(20), self.started.acquire());
        started.await.expect("in time").expect("open").forget();
    }
}

impl NativeHandler for Gated {
    type Message = String;
    type Response = String;
    type Error = eyre::Report;

    async fn handle_request(&mut self, message: String) -> eyre::Result<String> {
        self.runs.fetch_add(1, Ordering::SeqCst);
        self.started.add_permits(1);
        self.gate.acquire().await?.forget();
        assert!(message != "panic", "secret-panic-text");
        Ok(message)
    }

    async fn handle_command(&mut self, _: String) -> eyre::Result<()> {
        Ok(())
    }
}

/// Never starts.
pub(crate) struct Broken;

impl NativeHandler for Broken {
    type Message = String;
    type Response = String;
    type Error = eyre::Report;

    async fn started(&mut self) -> eyre::Result<()> {
        eyre::bail!("not today")
    }

    async fn handle_request(&mut self, message: String) -> eyre::Result<String> {
        Ok(message)
    }

    async fn handle_command(&mut self, _: String) -> eyre::Result<()> {
        Ok(())
    }
}
