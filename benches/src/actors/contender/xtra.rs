//! xtra 0.6, on tokio.
//!
//! `#[derive(Actor)]`, one message type per kind of message, `Mailbox::bounded`. A request is
//! `send(..).await`; a command is `send(..).detach().await`, which waits for room in the mailbox and
//! leaves the answer. Both are the forms of its documentation and of its own benchmark.
//!
//! The actor's task is `tokio::spawn(xtra::run(..))`, which is what `xtra::spawn_tokio` does inside,
//! because that one forgets the task to wait for. An actor ends when its last address is dropped.

use tokio::task::JoinHandle;
use xtra::{Actor, Address, Context, Handler, Mailbox};

use super::Contender;
use crate::actors::workload::{Counter, MAILBOX_CAPACITY};

/// xtra.
#[derive(Debug, Default)]
pub struct Xtra;

/// The address and the task of an actor.
#[derive(Debug)]
pub struct Module {
    address: Address<CounterActor>,
    task: JoinHandle<()>,
}

/// The counter as an actor.
#[derive(Debug, Actor)]
pub struct CounterActor(Counter);

struct Request(u64);

struct Command(u64);

// === impl Xtra ===

impl Contender for Xtra {
    const NAME: &'static str = "xtra";
    const ABOUT: &'static str = "0.6, bounded mailbox, commands detached";

    type Module = Module;
    type Handle = Address<CounterActor>;

    async fn start(&self, counter: Counter) -> Module {
        let (address, mailbox) = Mailbox::bounded(MAILBOX_CAPACITY);
        let task = tokio::spawn(xtra::run(mailbox, CounterActor(counter)));
        Module { address, task }
    }

    fn handle(module: &Module) -> Self::Handle {
        module.address.clone()
    }

    async fn ask(handle: &Self::Handle, amount: u64) -> u64 {
        handle
            .send(Request(amount))
            .await
            .expect("the actor runs until it is stopped")
    }

    async fn tell(handle: &Self::Handle, amount: u64) {
        let answer = handle
            .send(Command(amount))
            .detach()
            .await
            .expect("the actor runs until it is stopped");
        drop(answer);
    }

    async fn stop(module: Module) {
        drop(module.address);
        module.task.await.expect("the actor does not panic");
    }
}

// === impl CounterActor ===

impl Handler<Request> for CounterActor {
    type Return = u64;

    async fn handle(&mut self, request: Request, _: &mut Context<Self>) -> u64 {
        self.0.request(request.0)
    }
}

impl Handler<Command> for CounterActor {
    type Return = ();

    async fn handle(&mut self, command: Command, _: &mut Context<Self>) {
        self.0.command(command.0);
    }
}
