//! Direct calls: a request to an idle module is answered on its caller's task, and
//! nobody can tell but by the time it takes.

mod support;

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use spark_channel::{
    ModuleHandle, NativeHandler, PanicPolicy, SparkChannelError, SparkGenericModuleDispatcher,
    Stage, Stop, current, module, spawn_module,
};
use support::{Gate, Log, Runner, job, queued, reason, within};
use tokio::{
    runtime::{self, Handle},
    sync::Notify,
    task::yield_now,
    time::Instant,
};
use tokio_test::task;

/// Adds up what it is sent; 13 panics.
struct Sum(u64);

/// Asks the next one, if there is one; answers how many there are from here on.
struct Link(Option<SparkGenericModuleDispatcher<(), u64>>);

/// As [`Link`], with much of its own on the stack while it asks.
struct Wide(Option<SparkGenericModuleDispatcher<(), u64>>);

/// Looks whether anybody else is in it.
struct Alone {
    taken: Arc<AtomicBool>,
    seen: u64,
}

/// A module that has started and waits.
async fn idle<H>(handler: H) -> ModuleHandle<H::Message, H::Response>
where
    H: NativeHandler<Error = eyre::Report>,
{
    let module = spawn_module(handler);
    // On one thread: its task runs, and comes to rest, before this one goes on.
    yield_now().await;
    module
}

#[tokio::test]
async fn an_idle_module_answers_at_the_first_poll() {
    let module = idle(Sum(1)).await;
    let dispatcher = module.dispatcher();

    let mut asking = task::spawn(dispatcher.request(2_u64));
    let Poll::Ready(answer) = asking.poll() else {
        panic!("not answered at once");
    };

    assert_eq!(answer.expect("it adds"), 3);
    let report = within(module.shutdown(Stop::Drain)).await;
    assert_eq!((report.stats.handled, report.stats.accounted()), (1, 1));
}

#[tokio::test]
async fn an_idle_module_answers_a_whole_batch_at_the_first_poll() {
    let module = idle(Sum(0)).await;
    let dispatcher = module.dispatcher();

    let mut asking = task::spawn(dispatcher.request_all(1..=4_u64));
    let Poll::Ready(answers) = asking.poll() else {
        panic!("not answered at once");
    };

    let answers: eyre::Result<Vec<_>> = answers.into_iter().collect();
    assert_eq!(answers.expect("it adds"), [1, 3, 6, 10]);
}

#[tokio::test]
async fn a_batch_goes_on_through_the_mailbox_when_a_handler_has_to_wait() {
    let gate = Gate::closed();
    let module = idle(Runner).await;
    let dispatcher = module.dispatcher();
    let waits = {
        let gate = gate.clone();
        async move {
            gate.wait().await?;
            Ok(2)
        }
    };
    let jobs = [job(async { Ok(1) }), job(waits), job(async { Ok(3) })];
    let mut asking = task::spawn(dispatcher.request_all(jobs));

    assert!(asking.poll().is_pending());
    yield_now().await;
    assert!(asking.poll().is_pending());
    gate.open();

    let answers: eyre::Result<Vec<_>> = within(asking).await.into_iter().collect();
    assert_eq!(answers.expect("all succeed"), [1, 2, 3]);
}

#[tokio::test]
async fn a_batch_of_direct_calls_yields_now_and_then() {
    let module = idle(Sum(0)).await;
    let dispatcher = module.dispatcher();
    let turns = Arc::new(AtomicU64::new(0));
    let others = tokio::spawn({
        let turns = Arc::clone(&turns);
        async move {
            loop {
                turns.fetch_add(1, Ordering::Relaxed);
                yield_now().await;
            }
        }
    });

    let answers = within(dispatcher.request_all(std::iter::repeat_n(0_u64, 10_000))).await;

    assert_eq!(answers.len(), 10_000);
    assert!(turns.load(Ordering::Relaxed) > 10);
    others.abort();
}

#[tokio::test]
async fn a_module_without_direct_calls_answers_in_its_own_task() {
    let module = module(Sum(1)).without_direct_calls().spawn();
    yield_now().await;
    let dispatcher = module.dispatcher();

    let asking = queued(dispatcher.request(2_u64));

    assert_eq!(within(asking).await.expect("it adds"), 3);
}

#[tokio::test]
async fn commands_accepted_before_a_request_are_handled_before_it() {
    let module = idle(Sum(0)).await;
    let dispatcher = module.dispatcher();

    for number in 1..=5_u64 {
        dispatcher.try_command(number).expect("room");
    }
    let sum = within(dispatcher.request(100_u64)).await.expect("it adds");

    assert_eq!(sum, 115);
}

#[tokio::test]
async fn what_one_task_sends_keeps_its_order_when_its_budget_is_spent() {
    const REQUESTS: usize = 300;
    let gate = Gate::closed();
    let module = module(gate.module()).capacity(REQUESTS + 1).spawn();
    yield_now().await;
    let dispatcher = module.dispatcher();

    let asked: Vec<_> = (0..REQUESTS)
        .map(|number| queued(dispatcher.request(number.to_string())))
        .collect();
    dispatcher.try_command("last").expect("room");
    gate.open();
    for request in asked {
        within(request).await.expect("handled");
    }

    within(module.shutdown(Stop::Drain)).await;
    let numbers = (0..REQUESTS).map(|number| number.to_string());
    let expected: Vec<_> = numbers.chain(["last".into(), "stopped".into()]).collect();
    assert_eq!(gate.log.lines(), expected);
}

#[tokio::test]
async fn a_caller_that_leaves_does_not_tear_a_handler_that_has_begun() {
    let gate = Gate::closed();
    let module = idle(gate.module()).await;
    let dispatcher = module.dispatcher();

    let left = queued(dispatcher.request("begun"));
    assert_eq!(gate.log.lines(), ["begun"], "it began in the caller's task");
    drop(left);
    gate.open();
    within(dispatcher.request("next"))
        .await
        .expect("it goes on");

    let report = within(module.shutdown(Stop::Drain)).await;
    assert_eq!(gate.log.lines(), ["begun", "next", "stopped"]);
    assert_eq!((report.stats.handled, report.stats.interrupted), (2, 0));
}

#[tokio::test]
async fn what_comes_while_a_direct_call_runs_on_waits_for_it() {
    let gate = Gate::closed();
    let module = idle(gate.module()).await;
    let dispatcher = module.dispatcher();

    let first = queued(dispatcher.request("first"));
    let second = queued(dispatcher.request("second"));
    dispatcher.try_command("third").expect("room");
    gate.open();

    assert_eq!(within(first).await.expect("answered"), "first");
    assert_eq!(within(second).await.expect("answered"), "second");
    within(module.shutdown(Stop::Drain)).await;
    assert_eq!(gate.log.lines(), ["first", "second", "third", "stopped"]);
}

#[tokio::test]
async fn a_panic_is_an_error_for_its_caller_and_the_handler_keeps_its_state() {
    let module = idle(Sum(1)).await;
    let dispatcher = module.dispatcher();

    let error = reason(within(dispatcher.request(13_u64)).await);
    let sum = within(dispatcher.request(1_u64)).await.expect("it goes on");

    assert!(matches!(error, SparkChannelError::Panicked { .. }));
    assert_eq!(sum, 15, "what it added before the panic is there");
    let stats = within(module.shutdown(Stop::Drain)).await.stats;
    assert_eq!((stats.handled, stats.panicked, stats.panics), (1, 1, 1));
}

#[tokio::test]
async fn after_a_panic_the_policy_decides_as_ever() {
    let restarting = module(Sum(1))
        .on_panic(PanicPolicy::restart(|| Sum(100)))
        .spawn();
    let stopping = module(Sum(1)).on_panic(PanicPolicy::Stop).spawn();
    yield_now().await;
    let (restarted, stopped) = (restarting.dispatcher(), stopping.dispatcher());

    reason(within(restarted.request(13_u64)).await);
    reason(within(stopped.request(13_u64)).await);

    assert_eq!(within(restarted.request(1_u64)).await.expect("fresh"), 101);
    assert!(stopped.is_closed());
    within(stopping.wait()).await;
}

#[tokio::test]
async fn a_module_told_to_stop_is_called_no_more() {
    let module = idle(Sum(0)).await;
    let dispatcher = module.dispatcher();

    module.stop(Stop::Drain);
    let error = reason(within(dispatcher.request(1_u64)).await);

    assert_eq!(error, SparkChannelError::ShuttingDown);
    assert_eq!(within(module.wait()).await.stats.handled, 0);
}

#[tokio::test]
async fn what_follows_a_panic_is_no_part_of_the_handler_that_asked() {
    let log = Log::default();
    let made = log.clone();
    let restart = PanicPolicy::restart(move || {
        made.push(format!("in {:?}", current::module_name()));
        Runner
    });
    let inner = module(Runner).on_panic(restart).spawn();
    let outer = idle(Runner).await;
    let asked = inner.dispatcher();

    let asking = job(async move { asked.request(job(async { panic!("told to") })).await });
    let error = reason(within(outer.dispatcher().request(asking)).await);

    assert!(matches!(error, SparkChannelError::Panicked { .. }));
    assert_eq!(log.lines(), ["in None"]);
}

#[tokio::test]
async fn a_handler_that_runs_on_learns_that_its_caller_has_left() {
    let module = idle(Runner).await;
    let dispatcher = module.dispatcher();
    let learnt = Arc::new(Notify::new());
    let tell = Arc::clone(&learnt);

    drop(queued(dispatcher.request(job(async move {
        current::cancelled().await;
        tell.notify_one();
        Ok(0)
    }))));

    within(learnt.notified()).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_deadline_has_passed_never_runs() {
    let module = idle(Sum(0)).await;
    let dispatcher = module.dispatcher();
    let passed = Instant::now();
    tokio::time::advance(Duration::from_secs(1)).await;

    let error = reason(within(dispatcher.request(1_u64).deadline(passed)).await);
    let batch = within(dispatcher.request_all([2_u64, 3]).deadline(passed)).await;

    let stage = Stage::Queued;
    assert_eq!(error, SparkChannelError::TimedOut { stage });
    let errors: Vec<_> = batch.into_iter().map(reason).collect();
    assert!(errors.iter().all(SparkChannelError::never_started));
    let stats = within(module.shutdown(Stop::Drain)).await.stats;
    assert_eq!((stats.handled, stats.expired), (0, 3));
}

#[tokio::test(start_paused = true)]
async fn a_handler_finds_its_own_deadline_and_name_and_the_caller_finds_none_after() {
    let module = idle(Runner).await;
    let dispatcher = module.dispatcher();

    let left = dispatcher
        .request(job(async {
            assert_eq!(current::module_name().as_deref(), Some("Runner"));
            Ok(current::remaining().map_or(0, |left| left.as_secs()))
        }))
        .timeout(Duration::from_millis(7_500));

    assert_eq!(within(left).await.expect("answered"), 7);
    assert_eq!((current::deadline(), current::module_name()), (None, None));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_holds_for_a_handler_that_runs_on() {
    let module = idle(Runner).await;
    let dispatcher = module.dispatcher();

    let hanging = dispatcher
        .request(job(std::future::pending()))
        .timeout(Duration::from_secs(3));
    let error = reason(within(hanging).await);

    let stage = Stage::Running;
    assert_eq!(error, SparkChannelError::TimedOut { stage });
    let report = within(module.shutdown_within(Stop::Now, Duration::from_secs(1))).await;
    assert_eq!(
        (report.stats.interrupted, report.deadline_passed),
        (1, false)
    );
}

#[tokio::test]
async fn a_handler_always_runs_on_its_modules_runtime() {
    let module = idle(Runner).await;
    let dispatcher = module.dispatcher();
    let here = Handle::current().id();

    let asking = std::thread::spawn(move || {
        let other = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let asking = dispatcher.request(job(async move {
            assert_eq!(Handle::current().id(), here);
            Ok(1)
        }));
        other.block_on(async { within(asking).await })
    });
    let joined = tokio::task::spawn_blocking(|| asking.join().expect("no panic"));

    assert_eq!(
        within(joined).await.expect("no panic").expect("answered"),
        1
    );
}

#[tokio::test]
async fn a_caller_in_a_loop_lets_other_tasks_run() {
    let module = idle(Sum(0)).await;
    let dispatcher = module.dispatcher();
    let ran = Arc::new(AtomicBool::new(false));
    let other = Arc::clone(&ran);
    let other = tokio::spawn(async move { other.store(true, Ordering::Relaxed) });

    let mut asked = 0_u64;
    while !ran.load(Ordering::Relaxed) && asked < 10_000 {
        dispatcher.request(1_u64).await.expect("it adds");
        asked += 1;
    }

    assert!(asked < 10_000, "the other task never ran");
    within(other).await.expect("no panic");
}

#[tokio::test]
async fn a_long_chain_of_modules_does_not_pile_up_on_one_stack() {
    const LENGTH: u64 = 500;
    let mut modules = Vec::new();
    let mut next = None;
    for _ in 0..LENGTH {
        let module = spawn_module(Link(next.take()));
        next = Some(module.dispatcher());
        modules.push(module);
    }
    yield_now().await;

    let length = within(next.expect("there are some").request(())).await;

    assert_eq!(length.expect("all answer"), LENGTH);
}

#[test]
fn handlers_that_need_much_stack_do_not_share_one() {
    const LENGTH: u64 = 32;
    let chain = || {
        let runtime = runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut modules = Vec::new();
            let mut next = None;
            for _ in 0..LENGTH {
                let module = spawn_module(Wide(next.take()));
                next = Some(module.dispatcher());
                modules.push(module);
            }
            yield_now().await;
            within(next.expect("there are some").request(())).await
        })
    };

    let small = std::thread::Builder::new().stack_size(2 << 20);
    let length = small.spawn(chain).expect("a thread").join();

    assert_eq!(length.expect("no panic").expect("all answer"), LENGTH);
}

#[test]
fn a_module_whose_runtime_has_ended_is_closed() {
    let other = runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .expect("a runtime");
    let module = other.block_on(async {
        let module = spawn_module(Sum(0));
        module.dispatcher().request(1_u64).await.expect("it adds");
        module
    });
    let dispatcher = module.dispatcher();
    drop(other);

    let here = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let error = here.block_on(async {
        within(dispatcher.closed()).await;
        reason(within(dispatcher.request(1_u64)).await)
    });

    assert_eq!(error, SparkChannelError::Closed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_on_several_threads_never_meet_in_a_handler() {
    const CALLERS: u64 = 8;
    const EACH: u64 = 2_000;
    let module = spawn_module(Alone {
        taken: Arc::default(),
        seen: 0,
    });
    let answered = Arc::new(AtomicU64::new(0));

    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (dispatcher, answered) = (module.dispatcher(), Arc::clone(&answered));
            tokio::spawn(async move {
                for round in 0..EACH {
                    dispatcher.request(round).await.expect("it is alone");
                    answered.fetch_add(1, Ordering::Relaxed);
                    if round % 7 == 0 {
                        dispatcher.command(round).await.expect("it is open");
                    }
                }
            })
        })
        .collect();
    for caller in callers {
        within(caller).await.expect("no panic");
    }

    let report = within(module.shutdown(Stop::Drain)).await;
    assert_eq!(answered.load(Ordering::Relaxed), CALLERS * EACH);
    let commands = CALLERS * EACH.div_ceil(7);
    assert_eq!(report.stats.handled, CALLERS * EACH + commands);
    assert_eq!(report.stats.failed, 0);
}

// === impl NativeHandler ===

impl NativeHandler for Sum {
    type Message = u64;
    type Response = u64;
    type Error = eyre::Report;

    async fn handle_request(&mut self, number: u64) -> eyre::Result<u64> {
        self.0 += number;
        assert!(number != 13, "told to panic");
        Ok(self.0)
    }

    async fn handle_command(&mut self, number: u64) -> eyre::Result<()> {
        self.0 += number;
        Ok(())
    }
}

impl NativeHandler for Link {
    type Message = ();
    type Response = u64;
    type Error = eyre::Report;

    async fn handle_request(&mut self, (): ()) -> eyre::Result<u64> {
        match &self.0 {
            Some(next) => Ok(next.request(()).await? + 1),
            None => Ok(1),
        }
    }

    async fn handle_command(&mut self, (): ()) -> eyre::Result<()> {
        Ok(())
    }
}

impl NativeHandler for Wide {
    type Message = ();
    type Response = u64;
    type Error = eyre::Report;

    async fn handle_request(&mut self, (): ()) -> eyre::Result<u64> {
        let Some(next) = &self.0 else { return Ok(1) };
        let mut asking = pin!(next.request(()));
        let rest = poll_fn(|cx| {
            #[expect(clippy::large_stack_arrays, reason = "the stack is what it is about")]
            let on_the_stack = std::hint::black_box([1_u8; 150 << 10]);
            let polled = asking.as_mut().poll(cx);
            std::hint::black_box(&on_the_stack);
            polled
        });
        Ok(rest.await? + 1)
    }

    async fn handle_command(&mut self, (): ()) -> eyre::Result<()> {
        Ok(())
    }
}

impl Alone {
    /// Yields now and then, so that some calls run on in the module's task.
    async fn look(&mut self, round: u64) -> eyre::Result<u64> {
        eyre::ensure!(!self.taken.swap(true, Ordering::AcqRel), "not alone");
        self.seen += 1;
        if round.is_multiple_of(5) {
            yield_now().await;
        }
        self.taken.store(false, Ordering::Release);
        Ok(self.seen)
    }
}

impl NativeHandler for Alone {
    type Message = u64;
    type Response = u64;
    type Error = eyre::Report;

    async fn handle_request(&mut self, round: u64) -> eyre::Result<u64> {
        self.look(round).await
    }

    async fn handle_command(&mut self, round: u64) -> eyre::Result<()> {
        self.look(round).await.map(drop)
    }
}
