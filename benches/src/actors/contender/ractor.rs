//! ractor 0.16.
//!
//! One message enum with an [`RpcReplyPort`] per request, the state in `Actor::State`, `call!` and
//! `cast!`: the form of its `counter` example. Handlers are its native `async fn`s (without its
//! feature `async-trait`), and `call!` sets no timeout, which spares it a timer per request. Its default
//! feature `message_span_propogation` is off, because it adds a fifth to a request and a third to a command.
//!
//! ractor's mailboxes have no bound. `cast!` therefore never waits, and a producer never pays for
//! backpressure; what its queue may grow to is limited by the burst of the tell case.

use ractor::{
    Actor, ActorProcessingErr, ActorRef, RpcReplyPort, call, cast, concurrency::JoinHandle,
};

use super::Contender;
use crate::actors::workload::Counter;

/// ractor.
#[derive(Debug, Default)]
pub struct Ractor;

/// The messages of the counter.
#[derive(Debug)]
pub enum Message {
    /// Answered with the sum.
    Request(u64, RpcReplyPort<u64>),
    /// Not answered.
    Command(u64),
}

/// The actor and the task it runs in.
#[derive(Debug)]
pub struct Module {
    actor: ActorRef<Message>,
    task: JoinHandle<()>,
}

struct CounterActor;

// === impl Ractor ===

impl Contender for Ractor {
    const NAME: &'static str = "ractor";
    const ABOUT: &'static str =
        "0.16 without span propagation, no timeout; its mailboxes have no bound";

    type Module = Module;
    type Handle = ActorRef<Message>;

    async fn start(&self, counter: Counter) -> Module {
        let (actor, task) = Actor::spawn(None, CounterActor, counter)
            .await
            .expect("starting cannot fail without a name");
        Module { actor, task }
    }

    fn handle(module: &Module) -> Self::Handle {
        module.actor.clone()
    }

    async fn ask(handle: &Self::Handle, amount: u64) -> u64 {
        call!(handle, Message::Request, amount).expect("the actor runs until it is stopped")
    }

    async fn tell(handle: &Self::Handle, amount: u64) {
        cast!(handle, Message::Command(amount)).expect("the actor runs until it is stopped");
    }

    async fn stop(module: Module) {
        module.actor.stop(None);
        module.task.await.expect("the actor does not panic");
    }
}

// === impl CounterActor ===

impl Actor for CounterActor {
    type Msg = Message;
    type State = Counter;
    type Arguments = Counter;

    async fn pre_start(
        &self,
        _myself: ActorRef<Message>,
        counter: Counter,
    ) -> Result<Counter, ActorProcessingErr> {
        Ok(counter)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Message>,
        message: Message,
        counter: &mut Counter,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Request(amount, reply) => {
                // The caller may have gone; nothing is left to do then.
                let _ = reply.send(counter.request(amount));
            }
            Message::Command(amount) => counter.command(amount),
        }
        Ok(())
    }
}
