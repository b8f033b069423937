//! kameo 0.22.
//!
//! `#[derive(Actor)]`, one message type per kind of message, `ask` and `tell`: the form of its
//! README. The mailbox is bounded to the capacity all contenders share (kameo's default is 64). Requests are
//! sent with `.send().await`, which its documentation gives next to the bare `.await`: the latter
//! boxes the future. No reply timeout is set, which spares it a timer per request. Its default feature
//! `tracing` is off, because it adds a tenth to a request and a sixth to a command.
//!
//! Actors are spawned by way of `prepare`, which is what `spawn` does inside, because it returns the
//! task to wait for.

use kameo::{
    Actor,
    actor::{ActorRef, Spawn},
    error::{ActorStopReason, PanicError},
    mailbox,
    message::{Context, Message},
};
use tokio::task::JoinHandle;

use super::Contender;
use crate::actors::workload::{Counter, MAILBOX_CAPACITY};

/// kameo.
#[derive(Debug, Default)]
pub struct Kameo;

/// The actor and the task it runs in.
#[derive(Debug)]
pub struct Module {
    actor: ActorRef<CounterActor>,
    task: JoinHandle<Result<(CounterActor, ActorStopReason), PanicError>>,
}

/// The counter as an actor.
#[derive(Debug, Actor)]
pub struct CounterActor(Counter);

struct Request(u64);

struct Command(u64);

// === impl Kameo ===

impl Contender for Kameo {
    const NAME: &'static str = "kameo";
    const ABOUT: &'static str = "0.22 without tracing, bounded mailbox, no timeout";

    type Module = Module;
    type Handle = ActorRef<CounterActor>;

    async fn start(&self, counter: Counter) -> Module {
        let prepared = CounterActor::prepare_with_mailbox(mailbox::bounded(MAILBOX_CAPACITY));
        let actor = prepared.actor_ref().clone();
        let task = prepared.spawn(CounterActor(counter));
        Module { actor, task }
    }

    fn handle(module: &Module) -> Self::Handle {
        module.actor.clone()
    }

    async fn ask(handle: &Self::Handle, amount: u64) -> u64 {
        handle
            .ask(Request(amount))
            .send()
            .await
            .expect("the actor runs until it is stopped")
    }

    async fn tell(handle: &Self::Handle, amount: u64) {
        handle
            .tell(Command(amount))
            .send()
            .await
            .expect("the actor runs until it is stopped");
    }

    async fn stop(module: Module) {
        module
            .actor
            .stop_gracefully()
            .await
            .expect("the actor runs until it is stopped");
        module
            .task
            .await
            .expect("the task is not aborted")
            .expect("the actor does not panic");
    }
}

// === impl CounterActor ===

impl Message<Request> for CounterActor {
    type Reply = u64;

    async fn handle(&mut self, request: Request, _: &mut Context<Self, u64>) -> u64 {
        self.0.request(request.0)
    }
}

impl Message<Command> for CounterActor {
    type Reply = ();

    async fn handle(&mut self, command: Command, _: &mut Context<Self, ()>) {
        self.0.command(command.0);
    }
}
