//! Direct calls to reader-writer modules: a request to an idle one is polled on its caller's task,
//! and a read that is not done by then goes on beside others.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::{Poll, Waker},
    time::Duration,
};

use reading::{
    Handle, Message, Subject, describe, doing, panicking, pass, read, settle, subject, write,
};
use spark_channel::{
    Access, NativeHandler, PanicPolicy, ReaderWriterBuilder, ReaderWriterHandler,
    SparkChannelError, Stop, StopReason, module, reader_writer,
};
use support::{Gate, Log, Runner, job, queued, reason, within};
use tokio::{
    task::{self as tasks, yield_now},
    time::{Instant, sleep},
};
use tokio_test::task;

#[path = "support/reading.rs"]
mod reading;
mod support;

/// A module that has started and waits.
async fn idle(builder: ReaderWriterBuilder<Subject>) -> Handle {
    let module = builder.spawn();
    settle().await;
    module
}

// --- at the first poll, and after

#[tokio::test(start_paused = true)]
async fn an_idle_module_answers_reads_and_writes_at_the_first_poll() {
    let module = idle(subject()).await;
    let dispatcher = module.dispatcher();
    for access in [Access::Read, Access::Write, Access::Read] {
        let start = Instant::now();
        let message = doing(access, async move { Ok(describe(start)) });
        let mut call = task::spawn(dispatcher.request(message).timeout(Duration::from_secs(5)));
        let answer = tokio_test::assert_ready!(call.poll());
        assert_eq!(answer.unwrap(), "subject 5");
    }
    assert_eq!(module.shutdown(Stop::Drain).await.stats.handled, 3);
}

#[tokio::test(start_paused = true)]
async fn a_module_without_direct_calls_answers_in_its_own_task() {
    let module = idle(subject().without_direct_calls()).await;
    let whose = || doing(Access::Read, async { Ok(format!("{:?}", tasks::try_id())) });
    let dispatcher = module.dispatcher();
    let asked = queued(dispatcher.request(whose()));
    let own = within(asked).await.unwrap();
    let caller = tokio::spawn(async move { dispatcher.request(whose()).await.unwrap() });
    assert_eq!(within(caller).await.unwrap(), own);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_its_caller_began_goes_on_beside_others() {
    let module = idle(subject().readers(2)).await;
    let dispatcher = module.dispatcher();
    let (slow, quick) = (Gate::closed(), Gate::opened());
    let begun = queued(dispatcher.request(read(&slow, "slow")));
    assert_eq!(slow.log.lines(), ["slow"]);
    assert_eq!(
        within(dispatcher.request(read(&quick, "quick")))
            .await
            .unwrap(),
        "quick"
    );

    // It takes one of the two places.
    let second = queued(dispatcher.request(read(&slow, "second")));
    let third = queued(dispatcher.request(read(&slow, "third")));
    settle().await;
    assert_eq!(slow.log.lines(), ["slow", "second"]);
    slow.open();
    for (call, name) in [(begun, "slow"), (second, "second"), (third, "third")] {
        assert_eq!(within(call).await.unwrap(), name);
    }
    assert_eq!(module.shutdown(Stop::Drain).await.stats.handled, 4);
}

#[tokio::test(start_paused = true)]
async fn a_write_waits_for_the_read_that_its_caller_began_and_then_has_the_state() {
    let module = idle(subject()).await;
    let dispatcher = module.dispatcher();
    let gate = Gate::closed();
    for _ in 0..2 {
        let begun = queued(dispatcher.request(read(&gate, "read")));
        let waiting = queued(dispatcher.request(write(&gate, "write")));
        let behind = queued(dispatcher.request(read(&gate, "behind")));
        settle().await;
        gate.let_pass(3);
        for (call, name) in [(begun, "read"), (waiting, "write"), (behind, "behind")] {
            assert_eq!(within(call).await.unwrap(), name);
        }
        // At rest again.
        settle().await;
    }
    let expected = ["read", "write", "behind"].repeat(2);
    assert_eq!(gate.log.lines(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_its_caller_began_runs_alone_to_its_end() {
    let module = idle(subject()).await;
    let dispatcher = module.dispatcher();
    let gate = Gate::closed();
    let begun = queued(dispatcher.request(write(&gate, "write")));
    let behind = queued(dispatcher.request(read(&gate, "read")));
    settle().await;
    assert_eq!(gate.log.lines(), ["write"]);
    gate.open();
    assert_eq!(within(begun).await.unwrap(), "write");
    assert_eq!(within(behind).await.unwrap(), "read");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_tears_no_read_unless_told_to() {
    for drop_abandoned in [false, true] {
        let mut builder = subject();
        if drop_abandoned {
            builder = builder.drop_abandoned();
        }
        let module = idle(builder).await;
        let dispatcher = module.dispatcher();
        let gate = Gate::closed();
        let log = Log::default();
        let (held, done) = (gate.clone(), log.clone());
        let begun = queued(dispatcher.request(doing(Access::Read, async move {
            pass(&held, "read").await;
            done.push("done");
            Ok(String::new())
        })));
        drop(begun);
        settle().await;
        gate.open();
        let again = dispatcher.request(write(&gate, "write"));
        assert_eq!(within(again).await.unwrap(), "write");
        let stats = module.shutdown(Stop::Drain).await.stats;
        let (lines, interrupted) = if drop_abandoned { (0, 1) } else { (1, 0) };
        assert_eq!(log.lines().len(), lines);
        assert_eq!(stats.interrupted, interrupted);
        assert_eq!(stats.accounted(), 2);
    }
}

/// A read that is pending until its waker, which it hands out at each poll, was used.
fn handing_out(wakers: &mpsc::SyncSender<Waker>) -> Message {
    let wakers = wakers.clone();
    let mut polls = 0;
    doing(Access::Read, async move {
        poll_fn(|cx| {
            polls += 1;
            wakers.send(cx.waker().clone()).expect("the test listens");
            // At its caller's, in the module's task, and woken.
            if polls < 3 {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
        Ok(String::from("woken"))
    })
}

#[tokio::test(start_paused = true)]
async fn wakers_of_reads_that_have_ended_keep_no_later_read_from_being_woken() {
    let module = idle(subject()).await;
    let dispatcher = module.dispatcher();
    let (wakers, handed_out) = mpsc::sync_channel(64);
    let mut stale: Vec<Waker> = Vec::new();
    for _ in 0..3 {
        let begun = queued(dispatcher.request(handing_out(&wakers)));
        // While the module rests, and while a read is about to go on.
        stale.iter().for_each(Waker::wake_by_ref);
        settle().await;
        let polled: Vec<_> = handed_out.try_iter().collect();
        assert!(polled.len() == 2 || !stale.is_empty(), "{}", polled.len());
        polled.last().expect("polled").wake_by_ref();
        assert_eq!(within(begun).await.unwrap(), "woken");
        stale.extend(polled.into_iter().chain(handed_out.try_iter()));
        settle().await;
        stale.iter().for_each(Waker::wake_by_ref);
        settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_that_its_caller_began_is_timed_until_it_ends() {
    let name = |message: &Message| match message.access {
        Some(Access::Read) => "read",
        _ => "write",
    };
    let module = idle(subject().message_names(name)).await;
    let dispatcher = module.dispatcher();
    let gate = Gate::closed();
    let begun = queued(dispatcher.request(read(&gate, "begun")));
    sleep(Duration::from_millis(5)).await;
    let second = queued(dispatcher.request(read(&gate, "second")));
    sleep(Duration::from_millis(5)).await;
    let stats = dispatcher.message_stats().expect("asked for");
    let current: Vec<_> = stats
        .current
        .iter()
        .map(|one| (one.name, one.age))
        .collect();
    let ms = Duration::from_millis;
    assert_eq!(current, [("read", ms(10)), ("read", ms(5))]);

    gate.open();
    within(begun).await.unwrap();
    within(second).await.unwrap();
    within(dispatcher.request(write(&gate, "write")))
        .await
        .unwrap();
    let stats = dispatcher.message_stats().expect("asked for");
    assert!(stats.current.is_empty());
    let reads = stats.named("read").expect("timed");
    assert_eq!((reads.handling.count, reads.handling.total), (2, ms(15)));
    assert_eq!((reads.waiting.count, reads.waiting.total), (2, ms(0)));
    assert_eq!(stats.named("write").expect("timed").handling.count, 1);
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_read_that_its_caller_began_is_dropped_while_others_run() {
    let module = idle(subject().drop_abandoned()).await;
    let dispatcher = module.dispatcher();
    let gate = Gate::closed();
    let (held, local) = (gate.clone(), Arc::new(()));
    let kept = Arc::downgrade(&local);
    let begun = queued(dispatcher.request(doing(Access::Read, async move {
        pass(&held, "begun").await;
        drop(local);
        Ok(String::new())
    })));
    let beside = queued(dispatcher.request(read(&gate, "beside")));
    settle().await;
    assert!(kept.upgrade().is_some());
    drop(begun);
    settle().await;
    assert!(kept.upgrade().is_none(), "kept as long as the other runs");
    gate.open();
    assert_eq!(within(beside).await.unwrap(), "beside");
    let stats = module.shutdown(Stop::Drain).await.stats;
    assert_eq!((stats.interrupted, stats.handled), (1, 1));
}

// --- panics, restarts, stops

#[tokio::test(start_paused = true)]
async fn a_read_that_panics_at_its_callers_or_later_is_answered_for() {
    for later in [false, true] {
        let module = idle(subject()).await;
        let dispatcher = module.dispatcher();
        let message = doing(Access::Read, async move {
            if later {
                yield_now().await;
            }
            panic!("told to panic")
        });
        let error = reason(within(dispatcher.request(message)).await);
        assert!(matches!(error, SparkChannelError::Panicked { text } if &*text == "told to panic"));
        for access in [Access::Write, Access::Read] {
            let again = doing(access, async { Ok(String::from("again")) });
            assert_eq!(within(dispatcher.request(again)).await.unwrap(), "again");
        }
        let stats = module.shutdown(Stop::Drain).await.stats;
        assert_eq!((stats.panicked, stats.handled), (1, 2));
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_cannot_say_what_it_does_panics_for_its_caller_alone() {
    let module = idle(subject()).await;
    let dispatcher = module.dispatcher();
    let unknown = Message {
        access: None,
        ..panicking(Access::Read)
    };
    let error = reason(within(dispatcher.request(unknown)).await);
    assert!(matches!(error, SparkChannelError::Panicked { .. }));
    let again = dispatcher.request(write(&Gate::opened(), "again"));
    assert_eq!(within(again).await.unwrap(), "again");
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_cannot_say_what_it_does_nor_be_dropped_panics_for_its_caller_alone() {
    let module = idle(subject()).await;
    let dispatcher = module.dispatcher();
    let bomb = Bomb;
    let unknown = Message {
        access: None,
        work: Box::pin(async move {
            let _bomb = bomb;
            Ok(String::new())
        }),
    };
    let error = reason(within(dispatcher.request(unknown)).await);
    assert!(matches!(error, SparkChannelError::Panicked { text } if &*text == "told to panic"));
    let again = dispatcher.request(write(&Gate::opened(), "again"));
    assert_eq!(within(again).await.unwrap(), "again");
    let stats = module.shutdown(Stop::Drain).await.stats;
    assert_eq!((stats.panicked, stats.handled), (1, 1));
}

/// Reads or writes, whatever it is sent.
struct Fickle;

impl ReaderWriterHandler for Fickle {
    type Message = Arc<AtomicUsize>;
    type Response = Access;
    type Error = eyre::Report;

    fn access(asked: &Arc<AtomicUsize>) -> Access {
        match asked.fetch_add(1, Ordering::SeqCst) % 2 {
            0 => Access::Read,
            _ => Access::Write,
        }
    }

    async fn handle_read(&self, _: Arc<AtomicUsize>) -> eyre::Result<Access> {
        yield_now().await;
        Ok(Access::Read)
    }

    async fn handle_write(&mut self, _: Arc<AtomicUsize>) -> eyre::Result<Access> {
        yield_now().await;
        Ok(Access::Write)
    }

    async fn handle_command(&mut self, asked: Arc<AtomicUsize>) -> eyre::Result<()> {
        self.handle_write(asked).await.map(drop)
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_says_something_else_each_time_does_what_it_said_first() {
    let module = reader_writer(Fickle).spawn();
    settle().await;
    for (before, first) in [(0, Access::Read), (1, Access::Write)] {
        let asked = Arc::new(AtomicUsize::new(before));
        let answer = within(module.dispatcher().request(asked)).await;
        assert_eq!(answer.unwrap(), first);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_at_its_callers_restarts_or_stops_the_module_as_one_in_its_task_does() {
    for access in [Access::Read, Access::Write] {
        let log = Log::default();
        let fresh = log.clone();
        let restart = PanicPolicy::restart(move || Subject { log: fresh.clone() });
        let module = idle(subject().on_panic(restart)).await;
        let dispatcher = module.dispatcher();
        let error = reason(within(dispatcher.request(panicking(access))).await);
        assert!(matches!(error, SparkChannelError::Panicked { .. }));
        let again = dispatcher.request(write(&Gate::opened(), "again"));
        assert_eq!(within(again).await.unwrap(), "again");
        assert_eq!(log.lines(), ["started"]);
        let stats = module.shutdown(Stop::Drain).await.stats;
        assert_eq!((stats.panicked, stats.restarts, stats.handled), (1, 1, 1));

        let module = idle(subject().on_panic(PanicPolicy::Stop)).await;
        let error = reason(within(module.dispatcher().request(panicking(access))).await);
        assert!(matches!(error, SparkChannelError::Panicked { .. }));
        let report = within(module.wait()).await;
        assert_eq!(report.reason, StopReason::Panicked);
        assert_eq!((report.stats.panicked, report.stats.accounted()), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_waits_for_the_read_that_its_caller_began() {
    let log = Log::default();
    let fresh = log.clone();
    let builder = subject().on_panic(PanicPolicy::restart(move || Subject { log: fresh.clone() }));
    let module = idle(builder).await;
    let dispatcher = module.dispatcher();
    let gate = Gate::closed();
    let begun = queued(dispatcher.request(read(&gate, "read")));
    let error = reason(within(dispatcher.request(panicking(Access::Read))).await);
    assert!(matches!(error, SparkChannelError::Panicked { .. }));
    settle().await;
    assert!(log.lines().is_empty(), "restarted while a read runs");
    gate.open();
    assert_eq!(within(begun).await.unwrap(), "read");
    settle().await;
    assert_eq!(log.lines(), ["started"]);
    let again = dispatcher.request(write(&gate, "again"));
    assert_eq!(within(again).await.unwrap(), "again");
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_the_read_that_its_caller_began_end_or_drops_it_at_once() {
    for stop in [Stop::Drain, Stop::AfterCurrent, Stop::Now] {
        let module = idle(subject()).await;
        let dispatcher = module.dispatcher();
        let gate = Gate::closed();
        let begun = queued(dispatcher.request(read(&gate, "read")));
        let stopping = tokio::spawn(module.shutdown(stop));
        settle().await;
        assert_eq!(stopping.is_finished(), stop == Stop::Now, "{stop:?}");
        gate.open();
        let stats = within(stopping).await.unwrap().stats;
        let answer = within(begun).await;
        if stop == Stop::Now {
            assert!(matches!(reason(answer), SparkChannelError::Cancelled));
            assert_eq!(stats.interrupted, 1);
        } else {
            assert_eq!(answer.unwrap(), "read");
            assert_eq!(stats.handled, 1);
        }
    }
}

/// Counts those that are there, and reads for as long as it is told to.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl ReaderWriterHandler for Counted {
    type Message = Gate;
    type Response = ();
    type Error = eyre::Report;

    fn access(_: &Gate) -> Access {
        Access::Read
    }

    async fn handle_read(&self, gate: Gate) -> eyre::Result<()> {
        gate.pass("read").await
    }

    async fn handle_write(&mut self, gate: Gate) -> eyre::Result<()> {
        self.handle_read(gate).await
    }

    async fn handle_command(&mut self, gate: Gate) -> eyre::Result<()> {
        self.handle_read(gate).await
    }
}

#[tokio::test(start_paused = true)]
async fn the_handler_is_dropped_once_however_its_module_ends() {
    for ending in 0..4 {
        let count = Arc::default();
        let module = reader_writer(Counted::new(&count)).spawn();
        settle().await;
        let dispatcher = module.dispatcher();
        let gate = Gate::closed();
        let begun = queued(dispatcher.request(gate.clone()));
        // The module's task has it as well, or has not been there yet.
        if ending % 2 == 0 {
            settle().await;
        }
        if ending < 2 {
            within(module.shutdown(Stop::Now)).await;
        } else {
            gate.open();
            within(module.shutdown(Stop::Drain)).await;
        }
        assert_eq!(count.load(Ordering::SeqCst), 0, "{ending}");
        drop(begun);
    }
}

// --- asked from within

#[tokio::test(start_paused = true)]
async fn a_read_at_its_callers_may_ask_its_own_module_for_a_read_and_not_for_a_write() {
    for (access, may) in [(Access::Read, true), (Access::Write, false)] {
        let module = idle(subject().readers(2)).await;
        let own = module.dispatcher();
        let asking = doing(Access::Read, async move {
            own.request(doing(access, async { Ok(String::from("inner")) }))
                .await
        });
        let answer = within(module.dispatcher().request(asking)).await;
        match answer {
            Ok(answer) => assert!(may && answer == "inner"),
            Err(error) => {
                let error = reason::<()>(Err(error));
                assert!(!may && matches!(error, SparkChannelError::WouldDeadlock { .. }));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn however_a_read_at_its_callers_ended_a_write_that_asks_its_own_module_would_deadlock() {
    let before: [fn() -> Message; 3] = [
        || read(&Gate::opened(), "answered"),
        || {
            doing(Access::Read, async {
                yield_now().await;
                Ok(String::from("handed over"))
            })
        },
        || panicking(Access::Read),
    ];
    for before in before {
        let module = idle(subject()).await;
        let dispatcher = module.dispatcher();
        let _ = within(dispatcher.request(before())).await;
        settle().await;
        let own = module.dispatcher();
        let asking = doing(Access::Write, async move {
            own.request(doing(Access::Read, async { Ok(String::new()) }))
                .await
        });
        let error = reason(within(dispatcher.request(asking)).await);
        assert!(matches!(error, SparkChannelError::WouldDeadlock { .. }));
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_read_that_has_ended_before_its_asker_looks() {
    let ends: [fn() -> Message; 2] = [
        || {
            doing(Access::Read, async {
                yield_now().await;
                Ok(String::new())
            })
        },
        || panicking(Access::Read),
    ];
    for end in ends {
        let reads = idle(subject()).await;
        let runner = module(Runner).spawn();
        settle().await;
        let [reads_of_runner, to_reads] = [(); 2].map(|()| reads.dispatcher());
        let [runner_of_reads, to_runner] = [(); 2].map(|()| runner.dispatcher());
        let asking = queued(to_runner.request(job(async move {
            let _ = reads_of_runner.request(end()).await;
            Ok(1)
        })));
        // Asks the one that has its answer, and has not looked.
        let behind = queued(to_reads.request(doing(Access::Write, async move {
            runner_of_reads.request(job(async { Ok(2) })).await?;
            Ok(String::from("no circle"))
        })));
        assert_eq!(within(behind).await.unwrap(), "no circle");
        assert_eq!(within(asking).await.unwrap(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_read_that_was_answered_at_once_though_its_request_is_kept() {
    let reads = idle(subject()).await;
    let runner = module(Runner).spawn();
    settle().await;
    let [reads_of_runner, to_reads] = [(); 2].map(|()| reads.dispatcher());
    let [runner_of_reads, to_runner] = [(); 2].map(|()| runner.dispatcher());
    let gate = Gate::closed();
    let held = gate.clone();
    let asking = queued(to_runner.request(job(async move {
        let mut request = pin!(reads_of_runner.request(read(&Gate::opened(), "read")));
        request.as_mut().await?;
        pass(&held, "held").await;
        Ok(1)
    })));
    let behind = queued(to_reads.request(doing(Access::Write, async move {
        runner_of_reads.request(job(async { Ok(2) })).await?;
        Ok(String::from("no circle"))
    })));
    settle().await;
    gate.open();
    assert_eq!(within(asking).await.unwrap(), 1);
    assert_eq!(within(behind).await.unwrap(), "no circle");
}

/// Asks a reader-writer module for what asks it back.
struct Asker(spark_channel::SparkGenericModuleDispatcher<Message, String>);

impl NativeHandler for Asker {
    type Message = Message;
    type Response = String;
    type Error = eyre::Report;

    async fn handle_request(&mut self, message: Message) -> eyre::Result<String> {
        self.0.request(message).await
    }

    async fn handle_command(&mut self, message: Message) -> eyre::Result<()> {
        self.handle_request(message).await.map(drop)
    }
}

#[tokio::test(start_paused = true)]
async fn a_circle_through_a_request_at_its_callers_would_deadlock() {
    for access in [Access::Read, Access::Write] {
        for yields in [false, true] {
            let module_read = idle(subject().name("read")).await;
            let asker = module(Asker(module_read.dispatcher()))
                .name("asker")
                .spawn();
            settle().await;
            let back = asker.dispatcher();
            // What was read before is over.
            let before = read(&Gate::opened(), "before");
            within(module_read.dispatcher().request(before))
                .await
                .unwrap();
            let asking = doing(access, async move {
                if yields {
                    yield_now().await;
                }
                back.request(doing(Access::Read, async { Ok(String::new()) }))
                    .await
            });
            let error = reason(within(asker.dispatcher().request(asking)).await);
            let SparkChannelError::WouldDeadlock { path } = error else {
                panic!("{error}");
            };
            assert_eq!(path.len(), 3, "{path:?}");
        }
    }
}
