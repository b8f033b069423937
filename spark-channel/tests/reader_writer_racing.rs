//! Direct calls to reader-writer modules on several threads: callers that meet, leave and stop a
//! module while its reads go from one to the other.

#[path = "support/racing.rs"]
mod racing;
mod support;

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

use racing::{Numbered, SENDERS, send_from_all, stop_while_asked};
use spark_channel::{Access, ReaderWriterHandler, SparkGenericModuleDispatcher, reader_writer};
use support::within;
use tokio::task::yield_now;

/// Looks whether writes are alone, and whether anybody was overtaken.
struct Watchful {
    /// How many reads are at work; one less than none while a write is.
    inside: AtomicI64,
    last: [AtomicU64; SENDERS],
}

/// One that is at work, until it is dropped.
struct Inside<'a>(&'a AtomicI64, i64);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::AcqRel);
    }
}

impl Watchful {
    fn new() -> Self {
        Self {
            inside: AtomicI64::new(0),
            last: Default::default(),
        }
    }

    async fn see(&self, message: Numbered, weight: i64) -> eyre::Result<u64> {
        let before = self.inside.fetch_add(weight, Ordering::AcqRel);
        let _inside = Inside(&self.inside, weight);
        let may = if weight > 0 { before >= 0 } else { before == 0 };
        eyre::ensure!(may, "not alone");
        let last = self.last[message.sender].swap(message.number, Ordering::AcqRel);
        message.go_on().await;
        eyre::ensure!(last < message.number, "overtaken");
        Ok(message.end())
    }
}

impl ReaderWriterHandler for Watchful {
    type Message = Numbered;
    type Response = u64;
    type Error = eyre::Report;

    fn access(message: &Numbered) -> Access {
        message.access
    }

    async fn handle_read(&self, message: Numbered) -> eyre::Result<u64> {
        self.see(message, 1).await
    }

    async fn handle_write(&mut self, message: Numbered) -> eyre::Result<u64> {
        self.see(message, -1).await
    }

    async fn handle_command(&mut self, message: Numbered) -> eyre::Result<()> {
        self.see(message, -1).await.map(drop)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_write_meets_anybody_and_nobody_overtakes_whoever_leaves() {
    for (readers, capacity) in [(1, 2), (2, 64), (64, 1), (64, 64)] {
        for direct_calls in [true, false] {
            let mut module = reader_writer(Watchful::new());
            if !direct_calls {
                module = module.without_direct_calls();
            }
            send_from_all(module.readers(readers).capacity(capacity).spawn()).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_stop_loses_no_answer_of_a_read_it_races_with() {
    stop_while_asked(|| reader_writer(Watchful::new()).spawn()).await;
    let without = || reader_writer(Watchful::new()).without_direct_calls();
    stop_while_asked(|| without().spawn()).await;
}

/// Reads by asking the other module, as often as it is told to.
struct Asking(Arc<OnceLock<SparkGenericModuleDispatcher<u32, u32>>>);

impl Asking {
    async fn ask(&self, depth: u32) -> eyre::Result<u32> {
        if depth == 0 {
            return Ok(0);
        }
        if depth.is_multiple_of(3) {
            yield_now().await;
        }
        let other = self.0.get().expect("both were started");
        Ok(1 + other.request(depth - 1).await?)
    }
}

impl ReaderWriterHandler for Asking {
    type Message = u32;
    type Response = u32;
    type Error = eyre::Report;

    fn access(_: &u32) -> Access {
        Access::Read
    }

    async fn handle_read(&self, depth: u32) -> eyre::Result<u32> {
        self.ask(depth).await
    }

    async fn handle_write(&mut self, depth: u32) -> eyre::Result<u32> {
        self.ask(depth).await
    }

    async fn handle_command(&mut self, depth: u32) -> eyre::Result<()> {
        self.ask(depth).await.map(drop)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn modules_whose_reads_ask_each_other_for_reads_are_never_refused() {
    let others = [(); 2].map(|()| Arc::new(OnceLock::new()));
    let modules = [0, 1].map(|own| {
        let other = Arc::clone(&others[1 - own]);
        reader_writer(Asking(other)).spawn()
    });
    for (own, module) in modules.iter().enumerate() {
        assert!(others[own].set(module.dispatcher()).is_ok());
    }

    let callers: Vec<_> = (0..SENDERS)
        .map(|caller| {
            let dispatcher = modules[caller % 2].dispatcher();
            tokio::spawn(async move {
                for round in 0..2_000 {
                    let depth = round % 6;
                    let answer = dispatcher.request(depth).await;
                    assert_eq!(answer.expect("no circle"), depth);
                }
            })
        })
        .collect();
    for caller in callers {
        within(caller).await.expect("no panic");
    }
}
