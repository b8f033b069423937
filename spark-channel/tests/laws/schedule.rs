//! A schedule as data: what the module is, what its senders do, how it ends.

use proptest::{collection::vec, option, prelude::*};
use spark_channel::{Overflow, Stop};

/// One case. Times are milliseconds, of the paused clock where there is one.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) shape: Shape,
    /// Through `#[async_trait]` instead of the native trait.
    pub(crate) boxed: bool,
    /// With a mailbox of classes, of which one is used, and its policy: the same laws hold.
    pub(crate) class: Option<Overflow>,
    pub(crate) capacity: usize,
    pub(crate) policy: Policy,
    pub(crate) drop_abandoned: bool,
    pub(crate) default_timeout: Option<u64>,
    pub(crate) shutdown_timeout: u64,
    /// What each start does, in turn; later ones are quick.
    pub(crate) starts: Vec<Hook>,
    pub(crate) stopped: Hook,
    pub(crate) undelivered: Hook,
    /// Each sender is a task with a dispatcher clone of its own.
    pub(crate) senders: Vec<Vec<Op>>,
    pub(crate) end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One replica, which answers direct calls.
    Single,
    /// One replica, which handles everything in its own task.
    Queued,
    Pool(usize),
    /// A pool whose replicas have a queue each.
    Routed(usize, Route),
    /// `run_module_server` on a plain channel.
    Raw,
}

/// How a routed pool chooses a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    InTurn,
    LeastLoaded,
    ByKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    Continue,
    Restart,
    Stop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    Quick,
    Takes(u64),
    /// For `started`: an error. Quick elsewhere.
    Fails,
    Panics,
    Never,
}

/// What a handler does with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Quick,
    Yields(u8),
    Takes(u64),
    Fails,
    Panics,
    PanicsAfter(u64),
    /// Until the caller has gone, or for a while.
    UntilCancelled,
    Never,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    Ask {
        work: Work,
        /// `try_request` instead of `request`.
        at_once: bool,
        limit: Option<u64>,
        /// The caller drops the request after this time.
        patience: Option<u64>,
        /// The sender waits for the outcome before its next operation.
        awaited: bool,
    },
    Tell {
        work: Work,
        way: Way,
    },
    Pause(u64),
    /// A `Shutdown` message through the public sender.
    Shutdown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Waiting,
    AtOnce,
    Turbofish,
    /// Past the dispatcher, through its public sender.
    Raw,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    LastDropped,
    Stop {
        after: u64,
        stop: Stop,
        within: u64,
        /// Told before, by `stop`, this long ago.
        told: Option<(u64, Stop)>,
    },
}

// === impl Plan ===

impl Plan {
    pub(crate) fn replicas(&self) -> usize {
        match self.shape {
            Shape::Pool(replicas) | Shape::Routed(replicas, _) => replicas,
            Shape::Single | Shape::Queued | Shape::Raw => 1,
        }
    }

    /// Whether a full mailbox drops what it has accepted.
    pub(crate) fn drops(&self) -> bool {
        matches!(
            self.class,
            Some(Overflow::DropNewest | Overflow::DropOldest)
        )
    }

    /// Takes out what would, rightly, never end: a handler that never completes
    /// in a module that nobody stops.
    fn ended(mut self) -> Self {
        if self.shape == Shape::Raw {
            self.policy = Policy::Continue;
            self.drop_abandoned = false;
            self.class = None;
            self.default_timeout = None;
        }
        let is_stopped = matches!(self.end, End::Stop { .. }) && self.shape != Shape::Raw;
        if is_stopped {
            return self;
        }
        let hooks = self.starts.iter_mut().chain([&mut self.stopped]);
        for hook in hooks.filter(|hook| **hook == Hook::Never) {
            *hook = Hook::Takes(7);
        }
        for op in self.senders.iter_mut().flatten() {
            if let Op::Ask { work, .. } | Op::Tell { work, .. } = op
                && *work == Work::Never
            {
                *work = Work::Takes(7);
            }
        }
        self
    }
}

// === strategies ===

pub(crate) fn plan() -> impl Strategy<Value = Plan> {
    let module = (
        shape(),
        (any::<bool>(), option::weighted(0.5, overflow())),
        prop_oneof![4 => 1..=4_usize, 1 => Just(8), 1 => Just(32)],
        prop_oneof![
            2 => Just(Policy::Continue),
            2 => Just(Policy::Restart),
            1 => Just(Policy::Stop)
        ],
        any::<bool>(),
        option::weighted(0.2, 1..30_u64),
        5..60_u64,
    );
    let hooks = (
        prop_oneof![4 => Just(Vec::new()), 1 => vec(hook(), 1..3)],
        prop_oneof![3 => Just(Hook::Quick), 1 => hook()],
        prop_oneof![3 => Just(Hook::Quick), 1 => hook()],
    );
    (module, hooks, vec(vec(op(), 0..14), 1..4), end()).prop_map(
        |(module, (starts, stopped, undelivered), senders, end)| {
            let (shape, (boxed, class), capacity, policy, drop_abandoned, default_timeout, bound) =
                module;
            Plan {
                shape,
                boxed,
                class,
                capacity,
                policy,
                drop_abandoned,
                default_timeout,
                shutdown_timeout: bound,
                starts,
                stopped,
                undelivered,
                senders,
                end,
            }
            .ended()
        },
    )
}

fn shape() -> impl Strategy<Value = Shape> {
    prop_oneof![
        4 => Just(Shape::Single),
        2 => Just(Shape::Queued),
        3 => (1..=3_usize).prop_map(Shape::Pool),
        3 => (1..=3_usize, route()).prop_map(|(replicas, route)| Shape::Routed(replicas, route)),
        1 => Just(Shape::Raw),
    ]
}

fn route() -> impl Strategy<Value = Route> {
    prop_oneof![
        1 => Just(Route::InTurn),
        1 => Just(Route::LeastLoaded),
        2 => Just(Route::ByKey)
    ]
}

fn overflow() -> impl Strategy<Value = Overflow> {
    prop_oneof![
        2 => Just(Overflow::Wait),
        1 => Just(Overflow::Reject),
        2 => Just(Overflow::DropNewest),
        2 => Just(Overflow::DropOldest),
    ]
}

fn hook() -> impl Strategy<Value = Hook> {
    prop_oneof![
        2 => Just(Hook::Quick),
        2 => (1..20_u64).prop_map(Hook::Takes),
        1 => Just(Hook::Fails),
        1 => Just(Hook::Panics),
        1 => Just(Hook::Never),
    ]
}

/// Often the same few instants, so that things happen at once.
fn time() -> impl Strategy<Value = u64> {
    prop_oneof![2 => (0..5_u64).prop_map(|step| step * 5), 1 => 0..25_u64]
}

fn work() -> impl Strategy<Value = Work> {
    prop_oneof![
        5 => Just(Work::Quick),
        2 => (0..4_u8).prop_map(Work::Yields),
        5 => time().prop_map(Work::Takes),
        1 => Just(Work::Fails),
        1 => Just(Work::Panics),
        1 => (1..5_u64).prop_map(Work::PanicsAfter),
        1 => Just(Work::UntilCancelled),
        1 => Just(Work::Never),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let limit = || option::weighted(0.4, time());
    let ask = (work(), any::<bool>(), limit(), limit(), any::<bool>()).prop_map(
        |(work, at_once, limit, patience, awaited)| Op::Ask {
            work,
            at_once,
            limit,
            patience,
            // A sender that awaits a handler that never completes does nothing else.
            awaited: awaited && (work != Work::Never || patience.is_some()),
        },
    );
    let way = prop_oneof![
        3 => Just(Way::Waiting),
        2 => Just(Way::AtOnce),
        1 => Just(Way::Turbofish),
        1 => Just(Way::Raw),
    ];
    prop_oneof![
        10 => ask,
        6 => (work(), way).prop_map(|(work, way)| Op::Tell { work, way }),
        3 => time().prop_map(Op::Pause),
        1 => Just(Op::Shutdown),
    ]
}

fn stop() -> impl Strategy<Value = Stop> {
    prop_oneof![
        2 => Just(Stop::Drain),
        1 => Just(Stop::AfterCurrent),
        1 => Just(Stop::Now)
    ]
}

fn end() -> impl Strategy<Value = End> {
    let end_time = prop_oneof![time(), 0..60_u64];
    prop_oneof![
        1 => Just(End::LastDropped),
        3 => (end_time, stop(), 0..80_u64, option::weighted(0.3, (time(), stop()))).prop_map(
            |(after, stop, within, told)| End::Stop { after, stop, within, told }
        ),
    ]
}
