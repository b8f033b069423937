//! The conversion of a [`SparkChannelError`] into the module's own error is user
//! code: it may panic, wherever a call has to be told what became of it.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use spark_channel::{NativeHandler, SparkChannelError, Stop, module};
use tokio::sync::Notify;

use crate::support::{queued, within};

mod support;

#[derive(Debug, PartialEq)]
struct Picky(SparkChannelError);

impl From<SparkChannelError> for Picky {
    fn from(error: SparkChannelError) -> Self {
        let refused = [
            SparkChannelError::ShuttingDown,
            SparkChannelError::Panicked {
                text: "crash".into(),
            },
        ];
        assert!(!refused.contains(&error), "not this one");
        Self(error)
    }
}

struct Crashing {
    running: Arc<Notify>,
    stopped: Arc<AtomicBool>,
}

impl NativeHandler for Crashing {
    type Message = bool;
    type Response = ();
    type Error = Picky;

    async fn handle_request(&mut self, crash: bool) -> Result<(), Picky> {
        assert!(!crash, "crash");
        self.running.notify_one();
        pending().await
    }

    async fn handle_command(&mut self, _: bool) -> Result<(), Picky> {
        Ok(())
    }

    async fn stopped(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_conversion_that_panics_costs_its_caller_the_answer_and_nobody_else() {
    let (running, stopped) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
    let crashing = Crashing {
        running: Arc::clone(&running),
        stopped: Arc::clone(&stopped),
    };
    let module = module(crashing).spawn();
    let dispatcher = module.dispatcher();
    let dropped = Err(Picky(SparkChannelError::ReplyDropped));

    assert_eq!(within(dispatcher.request(true)).await, dropped);
    let cut_short = queued(dispatcher.request(false));
    within(running.notified()).await;
    let waiting = [
        queued(dispatcher.request(false)),
        queued(dispatcher.request(false)),
    ];
    let report = within(module.shutdown(Stop::Now)).await;

    let cancelled = Err(Picky(SparkChannelError::Cancelled));
    assert_eq!(within(cut_short).await, cancelled);
    for waiting in waiting {
        assert_eq!(within(waiting).await, dropped);
    }
    assert!(stopped.load(Ordering::SeqCst));
    assert_eq!(report.stats.accounted(), 4);
}
