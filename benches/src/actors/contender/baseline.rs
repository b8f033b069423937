//! The baseline: what one writes by hand with tokio and no framework.
//!
//! A bounded `mpsc` channel into a task that owns the state, and a `oneshot` per request, written
//! the plain way: `send(..).await`, `while let Some(..) = recv().await`. No timeout, no panic
//! isolation, no statistics. All ratios are ratios to this.

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use super::Contender;
use crate::actors::workload::{Counter, MAILBOX_CAPACITY};

/// The hand-written loop.
#[derive(Debug, Default)]
pub struct Baseline;

/// A message as one writes it by hand.
#[derive(Debug)]
pub enum Message {
    /// Answered with the sum.
    Request {
        /// What to add.
        amount: u64,
        /// Where the answer goes.
        reply: oneshot::Sender<u64>,
    },
    /// Not answered.
    Command {
        /// What to add.
        amount: u64,
    },
}

/// The task and the sending end of its channel.
#[derive(Debug)]
pub struct Module {
    sender: mpsc::Sender<Message>,
    task: JoinHandle<()>,
}

// === impl Baseline ===

impl Contender for Baseline {
    const NAME: &'static str = "baseline";
    const ABOUT: &'static str = "hand-written loop: tokio mpsc (bounded) and oneshot";

    type Module = Module;
    type Handle = mpsc::Sender<Message>;

    async fn start(&self, counter: Counter) -> Module {
        let (sender, receiver) = mpsc::channel(MAILBOX_CAPACITY);
        let task = tokio::spawn(serve(counter, receiver));
        Module { sender, task }
    }

    fn handle(module: &Module) -> Self::Handle {
        module.sender.clone()
    }

    async fn ask(handle: &Self::Handle, amount: u64) -> u64 {
        let (reply, answer) = oneshot::channel();
        handle
            .send(Message::Request { amount, reply })
            .await
            .expect("the module runs until it is stopped");
        answer.await.expect("every request is answered")
    }

    async fn tell(handle: &Self::Handle, amount: u64) {
        handle
            .send(Message::Command { amount })
            .await
            .expect("the module runs until it is stopped");
    }

    async fn stop(module: Module) {
        drop(module.sender);
        module.task.await.expect("the loop does not panic");
    }
}

async fn serve(mut counter: Counter, mut receiver: mpsc::Receiver<Message>) {
    while let Some(message) = receiver.recv().await {
        match message {
            Message::Request { amount, reply } => {
                // The caller may have gone; nothing is left to do then.
                let _ = reply.send(counter.request(amount));
            }
            Message::Command { amount } => counter.command(amount),
        }
    }
}
