//! Routers: one enum, a sub-handler or another module for each of its variants.

use std::{future::pending, time::Duration};

use spark_channel::{
    HandleOf, IntoHandler, NativeHandler, Parts, Reply, Router, RouterHandler, SparkChannelError,
    SparkGenericModuleDispatcher, Stage, Stop, StopReason, Verb, current, module, pool,
};
use tokio_test::task;

use crate::support::{Gate, Gated, Job, Log, Runner, job, queued, within};

mod support;

#[derive(Debug)]
enum Order {
    Count(u64),
    Text(String),
    Far(Job),
    Own,
}

#[derive(Debug, PartialEq)]
enum Answer {
    Counted(u64),
    Text(String),
    Far(u64),
    Own,
}

#[derive(Debug, PartialEq, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Call(#[from] SparkChannelError),
    #[error(transparent)]
    Count(#[from] TooMuch),
    #[error("{0}")]
    Other(String),
}

/// The counter's own error, which holds what happened to a call as well.
#[derive(Debug, PartialEq, thiserror::Error)]
enum TooMuch {
    #[error("{0} is too much")]
    Number(u64),
    #[error(transparent)]
    Call(#[from] SparkChannelError),
}

/// Adds up; fails above a hundred.
struct Counter {
    sum: u64,
    log: Log,
}

/// A counter, texts behind a gate, and a module elsewhere.
struct Shop {
    counter: Counter,
    texts: Gated,
    far: SparkGenericModuleDispatcher<Job, u64>,
    log: Log,
}

impl From<eyre::Report> for Failure {
    fn from(report: eyre::Report) -> Self {
        match report.downcast() {
            Ok(call) => Self::Call(call),
            Err(report) => Self::Other(report.to_string()),
        }
    }
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Job")
    }
}

impl NativeHandler for Counter {
    type Message = u64;
    type Response = u64;
    type Error = TooMuch;

    async fn handle_request(&mut self, n: u64) -> Result<u64, TooMuch> {
        self.handle_command(n).await?;
        Ok(self.sum)
    }

    async fn handle_command(&mut self, n: u64) -> Result<(), TooMuch> {
        self.log.push(format!("count {n}"));
        if n > 100 {
            return Err(TooMuch::Number(n));
        }
        self.sum += n;
        Ok(())
    }

    async fn started(&mut self) -> Result<(), TooMuch> {
        self.log.push("counter started");
        match self.sum {
            0..=100 => Ok(()),
            more => Err(TooMuch::Number(more)),
        }
    }

    async fn stopped(&mut self) {
        self.log.push("counter stopped");
    }

    async fn undelivered(&mut self, n: u64) {
        self.log.push(format!("undelivered count {n}"));
    }
}

impl Router for Shop {
    type Message = Order;
    type Response = Answer;
    type Error = Failure;

    async fn route<V: Verb>(
        &mut self,
        order: Order,
        verb: V,
    ) -> Result<V::Outcome<Answer>, Failure> {
        match order {
            Order::Count(n) => verb.delegate(&mut self.counter, n, Answer::Counted).await,
            Order::Text(text) => verb.delegate(&mut self.texts, text, Answer::Text).await,
            Order::Far(job) => verb.forward(&self.far, job, Answer::Far).await,
            Order::Own => {
                let own = async {
                    self.log.push("own");
                    Ok(Answer::Own)
                };
                verb.handle(own).await
            }
        }
    }

    fn parts(&mut self) -> impl Parts<Failure> {
        (&mut self.counter, &mut self.texts)
    }

    fn command_failed(&mut self, error: Failure) {
        self.log.push(format!("failed: {error}"));
    }
}

fn shop(gate: &Gate, far: &HandleOf<Runner>) -> Shop {
    Shop {
        counter: Counter {
            sum: 0,
            log: gate.log.clone(),
        },
        texts: gate.module(),
        far: far.dispatcher(),
        log: gate.log.clone(),
    }
}

#[tokio::test(start_paused = true)]
async fn each_kind_is_answered_by_its_own_handler_with_its_own_type() {
    let far = module(Runner).spawn();
    let shop = module(shop(&Gate::opened(), &far)).spawn();
    let dispatcher = shop.dispatcher();

    let count = within(dispatcher.request(Order::Count(3))).await;
    let text = within(dispatcher.request(Order::Text("hi".into()))).await;
    let forwarded = within(dispatcher.request(Order::Far(job(async { Ok(7) })))).await;
    let own = within(dispatcher.request(Order::Own)).await;

    assert_eq!(count, Ok(Answer::Counted(3)));
    assert_eq!(text, Ok(Answer::Text("hi".into())));
    assert_eq!(forwarded, Ok(Answer::Far(7)));
    assert_eq!(own, Ok(Answer::Own));
    assert_eq!(shop.name(), "Shop");
    assert_eq!(within(shop.shutdown(Stop::Drain)).await.stats.handled, 4);
}

#[tokio::test(start_paused = true)]
async fn each_handlers_error_is_converted_into_the_routers() {
    let far = module(Runner).spawn();
    let shop = module(shop(&Gate::opened(), &far)).spawn();
    let dispatcher = shop.dispatcher();
    let failing = job(async { Err(eyre::eyre!("far away")) });

    let count = within(dispatcher.request(Order::Count(101))).await;
    let text = within(dispatcher.request(Order::Text("fail".into()))).await;
    let forwarded = within(dispatcher.request(Order::Far(failing))).await;
    within(far.shutdown(Stop::Now)).await;
    let closed = within(dispatcher.request(Order::Far(job(async { Ok(0) })))).await;

    assert_eq!(count, Err(Failure::Count(TooMuch::Number(101))));
    assert_eq!(text, Err(Failure::Other("told to fail".into())));
    assert_eq!(forwarded, Err(Failure::Other("far away".into())));
    assert_eq!(closed, Err(Failure::Call(SparkChannelError::Closed)));
}

#[tokio::test(start_paused = true)]
async fn commands_go_the_same_way_in_the_same_order_and_their_errors_to_the_router() {
    let gate = Gate::opened();
    let far = module(Runner).name("far").spawn();
    let shop = module(shop(&gate, &far)).spawn();
    let dispatcher = shop.dispatcher();

    let commands = [
        Order::Count(1),
        Order::Text("two".into()),
        Order::Far(job(async { Ok(0) })),
        Order::Count(400),
        Order::Own,
        Order::Text("fail".into()),
    ];
    for command in commands {
        assert!(dispatcher.try_command(command).is_ok());
    }
    let report = within(shop.shutdown(Stop::Drain)).await;

    let expected = [
        "counter started",
        "count 1",
        "two",
        "count 400",
        "failed: 400 is too much",
        "own",
        "fail",
        "failed: told to fail",
        "stopped",
        "counter stopped",
    ];
    assert_eq!(gate.log.lines(), expected);
    assert_eq!((report.stats.handled, report.stats.failed), (6, 2));
    assert_eq!(within(far.shutdown(Stop::Drain)).await.stats.handled, 1);
}

#[tokio::test(start_paused = true)]
async fn commands_that_are_not_handled_are_taken_back_by_whom_they_were_for() {
    let gate = Gate::closed();
    let far = module(Runner).spawn();
    let shop = module(shop(&gate, &far)).spawn();
    let dispatcher = shop.dispatcher();
    let running = queued(dispatcher.request(Order::Text("running".into())));
    gate.entered().await;
    let commands = [
        Order::Count(1),
        Order::Text("two".into()),
        Order::Far(job(async { Ok(0) })),
        Order::Own,
    ];
    for command in commands {
        assert!(dispatcher.try_command(command).is_ok());
    }

    shop.stop(Stop::AfterCurrent);
    gate.open();
    assert_eq!(within(running).await, Ok(Answer::Text("running".into())));
    let report = within(shop.wait()).await;

    let expected = [
        "counter started",
        "running",
        "undelivered count 1",
        "undelivered two",
        "stopped",
        "counter stopped",
    ];
    assert_eq!(gate.log.lines(), expected);
    assert_eq!(report.stats.undelivered, 4);
    assert_eq!(within(far.shutdown(Stop::Drain)).await.stats.handled, 1);
}

#[tokio::test(start_paused = true)]
async fn a_part_that_fails_to_start_is_stopped_and_those_behind_it_never_begin() {
    let gate = Gate::opened();
    let far = module(Runner).spawn();
    let mut shop = shop(&gate, &far);
    shop.counter.sum = 1_000;

    let report = within(module(shop).spawn().wait()).await;

    assert_eq!(report.reason, StopReason::StartFailed);
    let expected = [
        "counter started",
        "failed: 1000 is too much",
        "counter stopped",
    ];
    assert_eq!(gate.log.lines(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_forwarded_request_inherits_the_deadline() {
    let far = module(Runner).spawn();
    let shop = module(shop(&Gate::opened(), &far)).spawn();
    let dispatcher = shop.dispatcher();
    let limit = Duration::from_secs(8);

    let left = job(async { Ok(current::remaining().expect("inherited").as_secs()) });
    let left = within(dispatcher.request(Order::Far(left)).timeout(limit)).await;
    let hanging = dispatcher
        .request(Order::Far(job(pending())))
        .timeout(limit);
    let hanging = within(hanging).await;

    assert_eq!(left, Ok(Answer::Far(7)));
    let stage = Stage::Running;
    let timed_out = SparkChannelError::TimedOut { stage };
    assert_eq!(hanging, Err(Failure::Call(timed_out)));
    // The router waits no longer than its caller.
    let next = within(dispatcher.request(Order::Count(1))).await;
    assert_eq!(next, Ok(Answer::Counted(1)));
}

#[tokio::test(start_paused = true)]
async fn forwarding_waits_for_room_in_the_other_module() {
    let far = module(Runner).capacity(1).spawn();
    let shop = module(shop(&Gate::opened(), &far)).spawn();
    let (to_far, dispatcher) = (far.dispatcher(), shop.dispatcher());
    let gate = Gate::closed();
    let held = gate.clone();
    let holding = job(async move {
        held.module().handle_command("held".into()).await?;
        Ok(0)
    });
    let _holding = queued(to_far.request(holding));
    gate.entered().await;
    let _queued = to_far.try_request(job(async { Ok(0) })).expect("room");

    let mut forwarded = task::spawn(dispatcher.request(Order::Far(job(async { Ok(9) }))));
    assert!(forwarded.poll().is_pending());
    assert!(
        dispatcher
            .try_command(Order::Far(job(async { Ok(0) })))
            .is_ok()
    );
    gate.open();

    assert_eq!(within(forwarded).await, Ok(Answer::Far(9)));
    assert_eq!(within(shop.shutdown(Stop::Drain)).await.stats.handled, 2);
    assert_eq!(within(far.shutdown(Stop::Drain)).await.stats.handled, 4);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_part_is_an_error_for_one_caller() {
    let far = module(Runner).spawn();
    let shop = module(shop(&Gate::opened(), &far)).spawn();
    let dispatcher = shop.dispatcher();

    let crashed = within(dispatcher.request(Order::Text("panic".into()))).await;
    let next = within(dispatcher.request(Order::Count(2))).await;

    assert!(matches!(
        crashed,
        Err(Failure::Call(SparkChannelError::Panicked { .. }))
    ));
    assert_eq!(next, Ok(Answer::Counted(2)));
}

#[tokio::test(start_paused = true)]
async fn a_pool_of_routers_forwards_side_by_side() {
    let gate = Gate::closed();
    let to_gate = gate.clone();
    let far = pool(2, || Runner).spawn();
    let to_far = far.dispatcher();
    let shops = pool(2, move || Shop {
        counter: Counter {
            sum: 0,
            log: Log::default(),
        },
        texts: to_gate.module(),
        far: to_far.clone(),
        log: Log::default(),
    })
    .spawn();
    let dispatcher = shops.dispatcher();
    let wait = || {
        let held = gate.clone();
        Order::Far(job(async move {
            held.module().handle_command("held".into()).await?;
            Ok(1)
        }))
    };

    let first = queued(dispatcher.request(wait()));
    let second = queued(dispatcher.request(wait()));
    gate.entered().await;
    gate.entered().await;
    gate.open();

    assert_eq!(within(first).await, Ok(Answer::Far(1)));
    assert_eq!(within(second).await, Ok(Answer::Far(1)));
}

// === replies that are passed on ===

/// Keeps the replies it is sent, behind a dispatcher that only forwards.
#[derive(Default)]
struct Keeper(Vec<Reply<u64>>);

struct Desk(SparkGenericModuleDispatcher<Reply<u64>, ()>);

enum Question {
    Slow(Reply<u64>),
    Quick,
}

impl NativeHandler for Keeper {
    type Message = Reply<u64>;
    type Response = ();
    type Error = eyre::Report;

    async fn handle_request(&mut self, _: Reply<u64>) -> eyre::Result<()> {
        eyre::bail!("only commands carry a reply")
    }

    async fn handle_command(&mut self, reply: Reply<u64>) -> eyre::Result<()> {
        self.0.push(reply);
        Ok(())
    }

    async fn stopped(&mut self) {
        for reply in self.0.drain(..) {
            let _ = reply.send(Ok(42));
        }
    }
}

impl Router for Desk {
    type Message = Question;
    type Response = ();
    type Error = eyre::Report;

    async fn route<V: Verb>(
        &mut self,
        question: Question,
        verb: V,
    ) -> eyre::Result<V::Outcome<()>> {
        match question {
            Question::Slow(reply) => verb.forward(&self.0, reply, |()| ()).await,
            Question::Quick => verb.handle(async { Ok(()) }).await,
        }
    }

    fn parts(&mut self) -> impl Parts<eyre::Report> {}
}

#[tokio::test(start_paused = true)]
async fn a_message_that_carries_its_reply_is_passed_on_without_awaiting_the_answer() {
    let keeper = module(Keeper::default()).spawn();
    let desk = module(Desk(keeper.dispatcher())).spawn();
    let dispatcher = desk.dispatcher();

    let slow = queued(dispatcher.ask_with(Question::Slow));
    assert!(within(dispatcher.request(Question::Quick)).await.is_ok());
    assert_eq!(within(desk.shutdown(Stop::Drain)).await.stats.handled, 2);
    within(keeper.shutdown(Stop::Drain)).await;

    assert_eq!(within(slow).await.expect("answered past the desk"), 42);
}

// === routers in routers ===

/// All it has is a shop, of which it answers the same.
struct Mall {
    shop: RouterHandler<Shop>,
}

impl Router for Mall {
    type Message = Order;
    type Response = (&'static str, Answer);
    type Error = Failure;

    async fn route<V: Verb>(
        &mut self,
        order: Order,
        verb: V,
    ) -> Result<V::Outcome<Self::Response>, Failure> {
        let from_shop = |answer| ("shop", answer);
        verb.delegate(&mut self.shop, order, from_shop).await
    }

    fn parts(&mut self) -> impl Parts<Failure> {
        &mut self.shop
    }
}

#[tokio::test(start_paused = true)]
async fn a_router_can_be_part_of_a_router() {
    let gate = Gate::opened();
    let far = module(Runner).spawn();
    let shop = shop(&gate, &far).into_handler();
    let mall = module(Mall { shop }).spawn();

    let answer = within(mall.dispatcher().request(Order::Count(5))).await;
    within(mall.shutdown(Stop::Drain)).await;

    assert_eq!(answer, Ok(("shop", Answer::Counted(5))));
    let expected = ["counter started", "count 5", "stopped", "counter stopped"];
    assert_eq!(gate.log.lines(), expected);
}
