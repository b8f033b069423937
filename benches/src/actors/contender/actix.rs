//! actix 0.13, inside its own `System`.
//!
//! Synchronous handlers and one message type per kind of message: the form of its `ping` example.
//!
//! An actix actor lives on the thread it was started on, so "two threads" means something else here
//! than for the others. With one thread, actors and callers share the thread of the `System`, and
//! callers are spawned with `actix::spawn`, onto the same local set as the actor. With two, actors
//! live on the thread of an `Arbiter` and callers stay on the thread of the `System`: every message
//! crosses threads, where tokio's scheduler may keep caller and module on one worker. An actix user
//! who has the choice keeps chatty actors on one arbiter, which is the row for one thread.
//!
//! Requests respect the mailbox capacity, set as documented with `Context::set_mailbox_capacity`.
//! Commands are `do_send`, the documented way to send without waiting for a result, which ignores
//! the capacity; what the queue may grow to is limited by the burst of the tell case. There is no
//! form that waits for room: `try_send` refuses, and a `send` that finds the mailbox full registers
//! no waker.

use std::future::Future;

use actix::{Actor, ActorContext, Addr, Arbiter, ArbiterHandle, Context, Handler, Message, System};
use tokio::task::JoinHandle;

use super::{Contender, Threads};
use crate::actors::workload::{Counter, MAILBOX_CAPACITY};

/// actix, starting actors on an arbiter's thread or, without one, on the current thread.
#[derive(Debug, Default)]
pub struct Actix {
    arbiter: Option<ArbiterHandle>,
}

/// The counter as an actor.
#[derive(Debug)]
pub struct CounterActor(Counter);

#[derive(Message)]
#[rtype(result = "u64")]
struct Request(u64);

#[derive(Message)]
#[rtype(result = "()")]
struct Command(u64);

#[derive(Message)]
#[rtype(result = "()")]
struct Stop;

// === impl Actix ===

impl Contender for Actix {
    const NAME: &'static str = "actix";
    const ABOUT: &'static str =
        "0.13, do_send for commands (no bound); with two threads the actor is on its own arbiter";

    type Module = Addr<CounterActor>;
    type Handle = Addr<CounterActor>;

    fn run<Work, Output>(self, threads: Threads, work: impl FnOnce(Self) -> Work) -> Output
    where
        Work: Future<Output = Output> + Send + 'static,
        Output: Send + 'static,
    {
        System::new().block_on(async {
            let arbiter = (threads == Threads::Two).then(Arbiter::new);
            let place = Self {
                arbiter: arbiter.as_ref().map(Arbiter::handle),
            };
            let output = actix::spawn(work(place))
                .await
                .expect("a panic in a slice has been printed and ends the program");
            if let Some(arbiter) = arbiter {
                arbiter.stop();
                arbiter.join().expect("the arbiter does not panic");
            }
            output
        })
    }

    fn spawn<Task>(task: Task) -> JoinHandle<()>
    where
        Task: Future<Output = ()> + Send + 'static,
    {
        actix::spawn(task)
    }

    async fn start(&self, counter: Counter) -> Self::Module {
        match &self.arbiter {
            Some(arbiter) => CounterActor::start_in_arbiter(arbiter, |_| CounterActor(counter)),
            None => CounterActor(counter).start(),
        }
    }

    fn handle(module: &Self::Module) -> Self::Handle {
        module.clone()
    }

    async fn ask(handle: &Self::Handle, amount: u64) -> u64 {
        handle
            .send(Request(amount))
            .await
            .expect("the actor runs until it is stopped")
    }

    async fn tell(handle: &Self::Handle, amount: u64) {
        handle.do_send(Command(amount));
    }

    async fn stop(module: Self::Module) {
        // The answer means that the context is stopping. What is left is the rest of the poll in
        // which it answered; actix offers no task to wait for.
        module
            .send(Stop)
            .await
            .expect("the actor runs until it is stopped");
    }
}

// === impl CounterActor ===

impl Actor for CounterActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.set_mailbox_capacity(MAILBOX_CAPACITY);
    }
}

impl Handler<Request> for CounterActor {
    type Result = u64;

    fn handle(&mut self, request: Request, _: &mut Context<Self>) -> u64 {
        self.0.request(request.0)
    }
}

impl Handler<Command> for CounterActor {
    type Result = ();

    fn handle(&mut self, command: Command, _: &mut Context<Self>) {
        self.0.command(command.0);
    }
}

impl Handler<Stop> for CounterActor {
    type Result = ();

    fn handle(&mut self, _: Stop, context: &mut Context<Self>) {
        context.stop();
    }
}
