//! Direct calls to reader-writer modules on several threads: callers that meet, leave and stop a
//! module while its reads go from one to the other.

mod support;

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    task::Poll,
};

use spark_channel::{
    Access, ReaderWriterHandler, SparkGenericModuleDispatcher, Stop, reader_writer,
};
use support::within;
use tokio::task::yield_now;

const SENDERS: usize = 6;

/// The `number`th message of a sender.
struct Numbered {
    sender: usize,
    number: u64,
    access: Access,
    then: Then,
}

#[derive(Clone, Copy)]
enum Then {
    Answer,
    /// Goes on in the module's task, if it was called directly.
    Yield,
    Panic,
}

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
        if let Then::Yield = message.then {
            yield_now().await;
        }
        eyre::ensure!(last < message.number, "overtaken");
        assert!(!matches!(message.then, Then::Panic), "told to panic");
        Ok(message.number)
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

/// Sends 2 000 messages, each in one of the ways there are; how many were accepted for sure.
async fn send_in_every_way(
    dispatcher: SparkGenericModuleDispatcher<Numbered, u64>,
    sender: usize,
) -> u64 {
    let mut accepted = 0;
    let mut random = sender as u64 * 7_919 + 1;
    for number in 1..=2_000 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let message = Numbered {
            sender,
            number,
            access: match random >> 24 & 3 {
                0 => Access::Write,
                _ => Access::Read,
            },
            then: match random >> 32 & 15 {
                0 => Then::Panic,
                1..=6 => Then::Yield,
                _ => Then::Answer,
            },
        };
        accepted += match random >> 40 & 15 {
            0 => u64::from(dispatcher.command(message).await.is_ok()),
            1 => u64::from(dispatcher.try_request(message).is_ok()),
            2..=4 => {
                // Leaves after a poll or two.
                let mut asking = pin!(dispatcher.request(message));
                let mut polls = random >> 50 & 3;
                poll_fn(|cx| {
                    while polls > 0 && asking.as_mut().poll(cx).is_pending() {
                        polls -= 1;
                    }
                    Poll::Ready(())
                })
                .await;
                0
            }
            _ => {
                let _ = dispatcher.request(message).await;
                1
            }
        };
    }
    accepted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_write_meets_anybody_and_nobody_overtakes_whoever_leaves() {
    for (readers, capacity) in [(1, 2), (2, 64), (64, 1), (64, 64)] {
        let module = reader_writer(Watchful::new());
        let module = module.readers(readers).capacity(capacity).spawn();

        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| tokio::spawn(send_in_every_way(module.dispatcher(), sender)))
            .collect();
        let mut accepted = 0;
        for sender in senders {
            accepted += within(sender).await.expect("no panic");
        }

        let stats = within(module.shutdown(Stop::Drain)).await.stats;
        assert_eq!((stats.failed, stats.interrupted), (0, 0), "{stats:?}");
        assert!(stats.accounted() >= accepted, "{accepted}: {stats:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_stop_loses_no_answer_of_a_read_it_races_with() {
    for (round, stop) in (0..600).zip([Stop::Drain, Stop::AfterCurrent, Stop::Now].iter().cycle()) {
        let module = reader_writer(Watchful::new()).spawn();
        let callers: Vec<_> = (0..3)
            .map(|sender| {
                let dispatcher = module.dispatcher();
                tokio::spawn(async move {
                    for number in 1.. {
                        let asked = dispatcher.request(Numbered {
                            sender,
                            number,
                            access: match number % 5 {
                                0 => Access::Write,
                                _ => Access::Read,
                            },
                            then: match (number + sender as u64) % 3 {
                                0 => Then::Yield,
                                _ => Then::Answer,
                            },
                        });
                        if asked.await.is_err() {
                            return number - 1;
                        }
                    }
                    unreachable!("it is stopped")
                })
            })
            .collect();
        for _ in 0..round % 50 {
            yield_now().await;
        }

        let report = within(module.shutdown(*stop)).await;

        let mut answered = 0;
        for caller in callers {
            answered += within(caller).await.expect("no panic");
        }
        assert_eq!(report.stats.handled, answered, "{stop:?}");
    }
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
