//! A reader-writer module that has nothing to do, called directly or not, with classes or
//! without: whatever comes next, a message or a stop, is seen to at once.

use std::time::Duration;

use reading::{Message, Subject, doing, read, settle, write};
use spark_channel::{
    Access, CallbackWrapper, Class, HandleOf, ReaderWriter, SparkChannelCancellationToken,
    SparkGenericModuleMessage, Stop, StopReason, reader_writer,
};
use support::{Gate, Log, queued, within};
use tokio::{sync::oneshot, time::Instant};

#[path = "support/reading.rs"]
mod reading;
mod support;

/// How a module gets its messages.
#[derive(Clone, Copy, Debug)]
struct Way {
    direct_calls: bool,
    classes: bool,
    /// That many ran side by side before the module was idle.
    reads_before: usize,
}

/// A module that is idle.
struct Idle {
    module: HandleOf<ReaderWriter<Subject>>,
    log: Log,
}

// === impl Way ===

impl Way {
    fn all() -> impl Iterator<Item = Self> {
        (0..12).map(|number| Self {
            direct_calls: number % 2 == 0,
            classes: number / 2 % 2 == 0,
            reads_before: [0, 1, 3][number / 4],
        })
    }

    async fn idle(self) -> Idle {
        let log = Log::default();
        let mut builder = reader_writer(Subject { log: log.clone() });
        if !self.direct_calls {
            builder = builder.without_direct_calls();
        }
        if self.classes {
            builder = builder.classify(|_| Class::DEFAULT);
        }
        let module = builder.spawn();
        settle().await;
        let dispatcher = module.dispatcher();
        let gate = Gate::closed();
        let mut reads = Vec::new();
        for _ in 0..self.reads_before {
            reads.push(queued(dispatcher.request(read(&gate, "before"))));
            gate.entered().await;
        }
        gate.open();
        for read in reads {
            within(read).await.expect("answered");
        }
        settle().await;
        log.take();
        Idle { module, log }
    }
}

fn at_once(access: Access) -> Message {
    doing(access, async { Ok(String::new()) })
}

// --- what comes next

#[tokio::test(start_paused = true)]
async fn every_message_is_handled_whatever_came_before() {
    for way in Way::all() {
        let Idle { module, .. } = way.idle().await;
        let dispatcher = module.dispatcher();
        let gate = Gate::opened();
        let start = Instant::now();
        for _ in 0..3 {
            for access in [Access::Read, Access::Write] {
                within(dispatcher.request(at_once(access))).await.unwrap();
                within(dispatcher.command(read(&gate, "command")))
                    .await
                    .unwrap();
            }
        }
        within(dispatcher.request(write(&gate, "last")))
            .await
            .unwrap();
        assert_eq!(gate.log.lines().len(), 7, "{way:?}");
        assert_eq!(start.elapsed(), Duration::ZERO, "{way:?}");
        let report = within(module.shutdown(Stop::Drain)).await;
        let handled = 13 + way.reads_before as u64;
        assert_eq!(report.stats.handled, handled, "{way:?}");
    }
}

// --- stopping

#[tokio::test(start_paused = true)]
async fn every_stop_ends_it_at_once() {
    for way in Way::all() {
        for stop in [Stop::Drain, Stop::AfterCurrent, Stop::Now] {
            let Idle { module, log } = way.idle().await;
            let start = Instant::now();
            let report = within(module.shutdown(stop)).await;
            assert_eq!(report.reason, StopReason::Requested(stop), "{way:?}");
            assert_eq!(start.elapsed(), Duration::ZERO, "{way:?} {stop:?}");
            assert_eq!(log.take(), ["stopped"], "{way:?} {stop:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_message_or_that_nobody_is_left_ends_it_at_once() {
    for way in Way::all() {
        for is_told in [true, false] {
            let Idle { module, log } = way.idle().await;
            let start = Instant::now();
            let expected = if is_told {
                let shutdown = SparkChannelCancellationToken::new();
                let shutdown = SparkGenericModuleMessage::Shutdown(shutdown);
                module.dispatcher().sender.send(shutdown).await.unwrap();
                StopReason::ShutdownMessage
            } else {
                StopReason::NoDispatchers
            };
            let report = within(module.wait()).await;
            assert_eq!(report.reason, expected, "{way:?}");
            assert_eq!(start.elapsed(), Duration::ZERO, "{way:?}");
            assert_eq!(log.take(), ["stopped"], "{way:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn while_it_drains_a_reserved_place_is_waited_for_until_the_deadline() {
    const DEADLINE: Duration = Duration::from_millis(30);
    for way in Way::all() {
        for is_used in [true, false] {
            let Idle { module, log } = way.idle().await;
            let sender = module.dispatcher().sender.clone();
            let permit = sender.reserve_owned().await.unwrap();
            let start = Instant::now();
            let stopping = tokio::spawn(module.shutdown_within(Stop::Drain, DEADLINE));
            settle().await;
            assert!(!stopping.is_finished(), "{way:?}");
            if is_used {
                let (sender, reply) = oneshot::channel();
                let request = CallbackWrapper::new(at_once(Access::Read), sender);
                permit.send(SparkGenericModuleMessage::Request(request));
                within(reply).await.expect("answered").expect("handled");
                let report = within(stopping).await.unwrap();
                assert!(!report.deadline_passed, "{way:?}");
                assert!(start.elapsed() < DEADLINE, "{way:?}");
            } else {
                let report = within(stopping).await.unwrap();
                drop(permit);
                assert!(report.deadline_passed, "{way:?}");
                assert!(start.elapsed() <= DEADLINE + Duration::from_millis(2));
            }
            assert_eq!(log.take(), ["stopped"], "{way:?} {is_used}");
        }
    }
}
