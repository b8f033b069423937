//! What the tests of direct calls on several threads share: callers that meet, leave and stop a
//! module while its handlers go from one thread to another.

#![allow(dead_code, reason = "only some modules tell reads from writes")]

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

use spark_channel::{Access, ModuleHandle, SparkGenericModuleDispatcher, Stop};
use tokio::task::yield_now;

use crate::support::within;

pub(crate) const SENDERS: usize = 6;

/// The `number`th message of a sender.
pub(crate) struct Numbered {
    pub(crate) sender: usize,
    pub(crate) number: u64,
    /// What a reader-writer module is to take it for.
    pub(crate) access: Access,
    pub(crate) then: Then,
}

#[derive(Clone, Copy)]
pub(crate) enum Then {
    Answer,
    /// Goes on in the module's task, if it was called directly.
    Yield,
    Panic,
}

// === impl Numbered ===

impl Numbered {
    /// What a handler does once it has been noted that the message is there.
    pub(crate) async fn go_on(&self) {
        if let Then::Yield = self.then {
            yield_now().await;
        }
    }

    pub(crate) fn end(self) -> u64 {
        assert!(!matches!(self.then, Then::Panic), "told to panic");
        self.number
    }
}

/// Sends from several tasks in every way there is, and checks that all of it is accounted for.
pub(crate) async fn send_from_all(module: ModuleHandle<Numbered, u64>) {
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
            1 => u64::from(dispatcher.try_command(message).is_ok()),
            2 => u64::from(dispatcher.try_request(message).is_ok()),
            3..=6 => {
                leave_after(random >> 50 & 3, dispatcher.request(message)).await;
                0
            }
            7 | 8 => {
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

/// Drops what is asked for after so many polls.
async fn leave_after<F: Future>(polls: u64, asking: F) {
    let mut asking = pin!(asking);
    poll_fn(|cx| {
        for _ in 0..polls {
            if asking.as_mut().poll(cx).is_ready() {
                break;
            }
        }
        Poll::Ready(())
    })
    .await;
}

/// Stops modules while three callers ask them, as soon and in as many ways as possible: each answer
/// that was counted has come, and no other.
pub(crate) async fn stop_while_asked(spawn: impl Fn() -> ModuleHandle<Numbered, u64>) {
    for (round, stop) in (0..600).zip([Stop::Drain, Stop::AfterCurrent, Stop::Now].iter().cycle()) {
        let module = spawn();
        let callers: Vec<_> = (0..3)
            .map(|sender| tokio::spawn(ask_until_stopped(module.dispatcher(), sender)))
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

/// How many answers came.
async fn ask_until_stopped(
    dispatcher: SparkGenericModuleDispatcher<Numbered, u64>,
    sender: usize,
) -> u64 {
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
}
