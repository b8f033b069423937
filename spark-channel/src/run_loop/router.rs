//! The task that moves a pool's messages from its mailbox to the replicas' lanes.
//!
//! It is the mailbox's only reader, so it alone closes it, and it takes a message
//! only when it can put it down. Once the module gives back what is left, it no
//! longer minds how full a lane is: that is bounded by the mailbox, which is closed.
//! What no replica takes back any more, at the deadline, it answers for itself.

use std::{
    any::Any,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::time::Instant;
use tracing::Span;

use super::{
    Envelope, Mailbox, Worker,
    conclusion::Conclusion,
    front::Front,
    guarded::{Turns, quietly, take_turns},
    lane::{Entry, Lane, LaneReceiver, Mark, Space},
    panic_text, refuse,
    replicas::{start, tokens_of},
    timed::arrival,
};
use crate::{
    NativeHandler, SparkChannelCancellationTrait, SparkChannelError, SparkGenericModuleMessage,
    callback::Escort,
    control::{Control, Slot},
    current::Scope,
    routing::Routing,
};

pub(crate) struct Router<H: NativeHandler, C> {
    front: Front<Envelope<H, C>>,
    lanes: Vec<Arc<Lane<Envelope<H, C>>>>,
    space: Arc<Space>,
    routing: Routing<H::Message>,
    /// Whose turn it is.
    next: usize,
    /// Received and not put down yet, so that a panic can be answered for.
    in_hand: Option<Envelope<H, C>>,
    /// When that was accepted, if that is noted.
    arrived: Option<Instant>,
    control: Arc<Control>,
    slot: Arc<Slot>,
    tokens: Vec<C>,
}

/// Runs a pool whose replicas have a lane each. Dropping the future aborts them.
pub(crate) fn run_routed<H, C>(
    workers: Vec<Worker<H, C>>,
    router: Router<H, C>,
) -> impl Future<Output = ()> + Send
where
    H: NativeHandler,
    C: SparkChannelCancellationTrait + Send + 'static,
{
    let conclusion = Conclusion::new(Arc::clone(&router.control));
    async move { conclusion.conclude(route(workers, router).await) }
}

/// Returns the tokens of the shutdown messages.
async fn route<H, C>(workers: Vec<Worker<H, C>>, mut router: Router<H, C>) -> Vec<C>
where
    H: NativeHandler,
    C: SparkChannelCancellationTrait + Send + 'static,
{
    let control = Arc::clone(&router.control);
    let replicas = start(workers);
    let scope = Scope {
        control,
        slot: Arc::clone(&router.slot),
    };
    take_turns(&mut router, scope, None).await;
    router.slot.unregister();
    for lane in &router.lanes {
        lane.close();
    }
    router.tokens.extend(tokens_of(replicas).await);
    router.give_back_the_rest();
    let tokens = std::mem::take(&mut router.tokens);
    // User code once more: what it owns is dropped here.
    quietly(|| drop(router));
    tokens
}

// === impl Router ===

impl<H, C> Router<H, C>
where
    H: NativeHandler,
    C: SparkChannelCancellationTrait + Send + 'static,
{
    /// A router for `replicas`, and the mailboxes it fills. The last of the slots of
    /// `control` is the router's own.
    pub(crate) fn new(
        front: Front<Envelope<H, C>>,
        routing: Routing<H::Message>,
        replicas: usize,
        control: Arc<Control>,
    ) -> (Self, Vec<Mailbox<Envelope<H, C>>>) {
        let space = Arc::new(Space::new(Arc::clone(&control)));
        let lanes: Vec<_> = (0..replicas)
            .map(|_| Arc::new(Lane::new(Arc::clone(&space))))
            .collect();
        let mailboxes = lanes
            .iter()
            .map(|lane| Mailbox::lane(LaneReceiver::new(Arc::clone(lane))))
            .collect();
        let slot = Arc::clone(&control.slots[replicas]);
        let router = Self {
            front,
            lanes,
            space,
            routing,
            next: 0,
            in_hand: None,
            arrived: None,
            control,
            slot,
            tokens: Vec::new(),
        };
        (router, mailboxes)
    }

    /// Completes when no message can come any more, or it is too late for those that could.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.control.is_stopping() {
                self.front.close();
            }
            if !self.control.is_past_draining() {
                ready!(self.poll_room(cx));
            }
            match self.front.poll_recv(cx) {
                // Also pending, with messages waiting, is a task whose budget is
                // spent; they are given back with the rest.
                Poll::Pending if self.control.deadline_passed() => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Ready(Some(message)) => self.receive(message),
            }
        }
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.space.poll_room(cx, || match &self.routing {
            // Every one of them has to take the next message.
            Routing::Broadcast(_) => self.lanes.iter().all(|lane| self.has_room(lane)),
            // Whichever it is for: a lane may use all the room there is, so that a key
            // in demand holds up the others as late as possible.
            Routing::ByKey(_) => self.space.load() < self.share() * self.lanes.len(),
            _ => self.lanes.iter().any(|lane| self.has_room(lane)),
        })
    }

    fn has_room(&self, lane: &Lane<Envelope<H, C>>) -> bool {
        lane.load() < self.share()
    }

    /// How much a replica may hold: its part of a second mailbox, and what it handles.
    fn share(&self) -> usize {
        self.front.capacity().div_ceil(self.lanes.len()) + 1
    }

    fn receive(&mut self, message: Envelope<H, C>) {
        let depth = 1 + self.front.len() + self.control.waiting_at_replicas();
        self.slot.counters.saw_depth(depth);
        let arrived = self.front.arrived();
        self.arrived = arrived.or_else(|| arrival(&self.control, &message));
        // A module that a shutdown message restarts learns of it from a replica.
        let stops = self.control.is_stopping() || !self.control.outlives_shutdown();
        let message = match message {
            SparkGenericModuleMessage::Shutdown(token) if stops => {
                self.accept_shutdown(token);
                return;
            }
            message => message,
        };
        if self.control.deadline_passed() {
            self.give_back(message);
            return;
        }
        self.in_hand = Some(message);
        let replica = self.choose();
        if let Some(message) = self.in_hand.take() {
            self.put(replica, message, false);
        }
    }

    /// Whose the message in hand is; for a broadcast, hands out the copies.
    fn choose(&mut self) -> usize {
        let count = self.lanes.len();
        let spilling = self.control.is_past_draining();
        let turn = (0..count).map(|step| (self.next + step) % count);
        let in_hand = self.in_hand.as_ref();
        let message = in_hand.and_then(SparkGenericModuleMessage::message);
        let chosen = match (&self.routing, message) {
            (Routing::ByKey(key_of), Some(message)) => {
                let hash = key_of(message) % count as u64;
                #[expect(clippy::cast_possible_truncation, reason = "less than a length")]
                return hash as usize;
            }
            (Routing::Broadcast(clone), Some(message))
                if !spilling && in_hand.is_some_and(SparkGenericModuleMessage::is_command) =>
            {
                // All of them first: if one panics, nobody has got the message.
                let copy = |_| {
                    let link = in_hand.and_then(SparkGenericModuleMessage::link);
                    SparkGenericModuleMessage::command(clone(message), link)
                };
                let copies: Vec<_> = (1..count).map(copy).collect();
                for (replica, copy) in (1..).zip(copies) {
                    self.put(replica, copy, true);
                }
                return 0;
            }
            (Routing::LeastLoaded, _) => turn.min_by_key(|replica| self.lanes[*replica].load()),
            _ => {
                let mut turn = turn;
                turn.find(|replica| spilling || self.has_room(&self.lanes[*replica]))
            }
        };
        let chosen = chosen.unwrap_or(self.next);
        self.next = (chosen + 1) % count;
        chosen
    }

    fn put(&self, replica: usize, message: Envelope<H, C>, copy: bool) {
        let in_time = !self.control.is_past_draining();
        let entry = Entry {
            message,
            mark: Mark {
                in_time,
                copy,
                arrived: self.arrived,
            },
        };
        let pushed = self.lanes[replica].push(entry);
        debug_assert!(pushed.is_ok(), "only the router closes a lane, at its end");
    }

    fn give_back(&self, message: Envelope<H, C>) {
        give_back::<H, C>(message, &self.control, &self.slot, drop);
    }

    /// Answers for what nobody took in time.
    fn give_back_the_rest(&mut self) {
        self.front.close();
        while let Some(message) = self.front.try_recv() {
            if let SparkGenericModuleMessage::Shutdown(token) = message {
                self.accept_shutdown(token);
            } else {
                self.give_back(message);
            }
        }
        for lane in std::mem::take(&mut self.lanes) {
            while let Some(Entry { message, mark }) = lane.take_left() {
                if mark.copy {
                    self.slot.counters.copies.bump();
                    quietly(|| drop(message));
                } else if let SparkGenericModuleMessage::Shutdown(token) = message {
                    self.accept_shutdown(token);
                } else {
                    self.give_back(message);
                }
            }
        }
    }

    fn accept_shutdown(&mut self, token: C) {
        self.slot.counters.shutdowns.bump();
        self.tokens.push(token);
        self.control.shutdown_message_taken();
    }
}

impl<H, C> Turns for Router<H, C>
where
    H: NativeHandler,
    C: SparkChannelCancellationTrait + Send + 'static,
{
    async fn turn(&mut self) {
        poll_fn(|cx| self.poll(cx)).await;
    }

    /// Answers for the message whose key, or copies, could not be made.
    fn after_panic(&mut self, panic: &(dyn Any + Send), _: Option<&Span>) {
        if let Some(message) = self.in_hand.take() {
            answer_panicked::<H, C>(message, panic, &self.control, &self.slot);
        }
    }
}

/// Answers a request that no handler is left for; a command goes to `undelivered`.
pub(super) fn give_back<H: NativeHandler, C>(
    message: Envelope<H, C>,
    control: &Control,
    slot: &Slot,
    undelivered: impl FnOnce(H::Message),
) {
    let (message, link) = message.unlinked();
    match message {
        SparkGenericModuleMessage::Request(wrapper) if wrapper.sender.is_closed() => {
            slot.counters.abandoned.bump();
            quietly(|| drop(wrapper));
        }
        SparkGenericModuleMessage::Request(wrapper) => {
            slot.counters.returned.bump();
            refuse(wrapper, control.reason_given_back());
        }
        SparkGenericModuleMessage::Command(command) => {
            slot.counters.undelivered.bump();
            let _entered = link.as_deref().and_then(Escort::enter);
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| undelivered(command))) {
                let text = panic_text(&*panic);
                tracing::error!(module = &*control.name, text, "undelivered panicked");
                slot.counters.panics.bump();
                quietly(|| drop(panic));
            }
        }
        SparkGenericModuleMessage::Shutdown(_) => {}
    }
}

/// Answers a message for which the user's own routing panicked.
pub(super) fn answer_panicked<H: NativeHandler, C>(
    message: Envelope<H, C>,
    panic: &(dyn Any + Send),
    control: &Control,
    slot: &Slot,
) {
    let text = panic_text(panic);
    let (message, link) = message.unlinked();
    let _entered = link.as_deref().and_then(Escort::enter);
    tracing::error!(module = &*control.name, text, "routing panicked");
    slot.counters.panics.bump();
    slot.counters.panicked.bump();
    match message {
        SparkGenericModuleMessage::Request(wrapper) => {
            let text = Arc::from(text);
            refuse(wrapper, SparkChannelError::Panicked { text });
        }
        message => quietly(|| drop(message)),
    }
}
