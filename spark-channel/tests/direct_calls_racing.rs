//! Direct calls on several threads: callers that meet, leave and stop a module while its
//! handler goes from one to the other.

#[path = "support/racing.rs"]
mod racing;
mod support;

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use racing::{Numbered, SENDERS, send_from_all, stop_while_asked};
use spark_channel::{ModuleHandle, NativeHandler, module, spawn_module};
use support::{Runner, job, within};
use tokio::task::yield_now;

/// Looks whether it is alone, and whether anybody was overtaken.
struct Watchful {
    inside: Arc<AtomicBool>,
    last: [u64; SENDERS],
}

fn watchful(capacity: usize) -> ModuleHandle<Numbered, u64> {
    let watchful = Watchful {
        inside: Arc::default(),
        last: [0; SENDERS],
    };
    module(watchful).capacity(capacity).spawn()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_meets_or_overtakes_in_a_handler_whoever_leaves() {
    for capacity in [1, 2, 64] {
        send_from_all(watchful(capacity)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_stop_loses_no_answer_of_a_call_it_races_with() {
    stop_while_asked(|| watchful(32)).await;
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
        message.go_on().await;
        self.inside.store(false, Ordering::Release);
        eyre::ensure!(in_order, "overtaken");
        Ok(message.end())
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
