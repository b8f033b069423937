//! Direct calls on several threads: callers that meet, leave and stop a module while its
//! handler goes from one to the other.

mod support;

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Poll,
};

use spark_channel::{NativeHandler, SparkGenericModuleDispatcher, Stop, module, spawn_module};
use support::{Runner, job, within};
use tokio::task::yield_now;

const SENDERS: usize = 6;

/// The `number`th message of a sender.
struct Numbered {
    sender: usize,
    number: u64,
    then: Then,
}

#[derive(Clone, Copy)]
enum Then {
    Answer,
    /// Goes on in the module's task, if it was called directly.
    Yield,
    Panic,
}

/// Looks whether it is alone, and whether anybody was overtaken.
struct Watchful {
    inside: Arc<AtomicBool>,
    last: [u64; SENDERS],
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
        let then = match random >> 32 & 15 {
            0 => Then::Panic,
            1..=6 => Then::Yield,
            _ => Then::Answer,
        };
        let message = Numbered {
            sender,
            number,
            then,
        };
        accepted += match random >> 40 & 7 {
            0 => u64::from(dispatcher.command(message).await.is_ok()),
            1 => u64::from(dispatcher.try_command(message).is_ok()),
            2 => u64::from(dispatcher.try_request(message).is_ok()),
            3 | 4 => {
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
            5 => {
                let _ = dispatcher.clone().request(message).await;
                1
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
async fn nobody_meets_or_overtakes_in_a_handler_whoever_leaves() {
    for capacity in [1, 2, 64] {
        let module = module(Watchful {
            inside: Arc::default(),
            last: [0; SENDERS],
        })
        .capacity(capacity)
        .spawn();

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
async fn a_stop_loses_no_answer_of_a_call_it_races_with() {
    for (round, stop) in (0..600).zip([Stop::Drain, Stop::AfterCurrent, Stop::Now].iter().cycle()) {
        let module = spawn_module(Runner);
        let callers: Vec<_> = (0..3)
            .map(|caller| {
                let dispatcher = module.dispatcher();
                tokio::spawn(async move {
                    for call in 0.. {
                        let asked = dispatcher.request(job(async move {
                            if (call + caller) % 3 == 0 {
                                yield_now().await;
                            }
                            Ok(1)
                        }));
                        if asked.await.is_err() {
                            return call;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_a_batch_stay_in_order_though_the_module_is_idle_in_between() {
    const MESSAGES: u64 = 200;
    let module = spawn_module(Runner);
    let dispatcher = module.dispatcher();
    let handled = Arc::new(AtomicU64::new(0));
    let messages = (0..MESSAGES).map(|number| {
        // Until the module has come to rest, most likely.
        for spins in 0..100_000 {
            if spins > 100 && handled.load(Ordering::Acquire) == number {
                break;
            }
            std::thread::yield_now();
        }
        let handled = Arc::clone(&handled);
        job(async move {
            if number % 2 == 0 {
                yield_now().await;
            }
            handled.fetch_add(1, Ordering::Release);
            Ok(number)
        })
    });

    let answers = within(dispatcher.request_all(messages)).await;

    let answers: Vec<_> = answers.into_iter().map(|a| a.expect("answered")).collect();
    assert_eq!(answers, (0..MESSAGES).collect::<Vec<_>>());
}

// === impl Watchful ===

impl Watchful {
    async fn see(&mut self, message: Numbered) -> eyre::Result<u64> {
        eyre::ensure!(!self.inside.swap(true, Ordering::AcqRel), "not alone");
        let last = &mut self.last[message.sender];
        let in_order = *last < message.number;
        *last = message.number;
        if let Then::Yield = message.then {
            yield_now().await;
        }
        self.inside.store(false, Ordering::Release);
        eyre::ensure!(in_order, "overtaken");
        assert!(!matches!(message.then, Then::Panic), "told to panic");
        Ok(message.number)
    }
}

impl NativeHandler for Watchful {
    type Message = Numbered;
    type Response = u64;
    type Error = eyre::Report;

    async fn handle_request(&mut self, message: Numbered) -> eyre::Result<u64> {
        self.see(message).await
    }

    async fn handle_command(&mut self, message: Numbered) -> eyre::Result<()> {
        self.see(message).await.map(drop)
    }
}
