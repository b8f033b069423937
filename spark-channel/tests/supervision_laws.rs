//! The accounting law under supervision: whatever fails, restarts and stops, of
//! whatever is accepted each message is accounted for once, and every asker answered.

use std::time::Duration;

use proptest::prelude::*;
use spark_channel::{
    Backoff, Child, Class, NativeHandler, Overflow, Priority, Restart,
    SparkChannelCancellationToken, SparkChannelError, SparkGenericModuleDispatcher,
    SparkGenericModuleMessage, Stop, Strategy as Answer, Supervisor,
};

use crate::{
    schedules::{EXPECTED, quiet_expected_panics, two_threads, virtual_time},
    support::within,
};

#[path = "support/schedules.rs"]
mod schedules;
mod support;

const SLOW: Class = Class::new("slow")
    .priority(Priority::Low)
    .capacity(2)
    .overflow(Overflow::DropOldest);
const PANICS: Class = Class::new("panics")
    .priority(Priority::High)
    .capacity(1)
    .overflow(Overflow::DropNewest);

#[derive(Clone, Copy, Debug)]
enum Message {
    Quick,
    Slow,
    Panic,
    PanicSlowly,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Asks and goes on.
    Ask(usize, Message),
    /// Asks, perhaps directly, and waits for the answer.
    Await(usize, Message),
    Tell(usize, Message),
    Shutdown(usize),
    Wait(u64),
}

#[derive(Clone, Debug)]
struct Plan {
    answer: Answer,
    children: Vec<(Restart, usize)>,
    /// How many of the children are in a supervisor of their own.
    nested: usize,
    intensity: usize,
    starts_fail_in: u64,
    /// How the replicas of a pool are chosen.
    routing: u8,
    /// Whether messages are sorted into classes.
    sorted: bool,
    steps: Vec<Step>,
    stop: Stop,
}

/// Starts, or fails to.
struct Fragile {
    fails: bool,
}

type Dispatcher = SparkGenericModuleDispatcher<Message, ()>;

// === impl Fragile ===

impl Fragile {
    async fn handle(&mut self, message: Message) -> eyre::Result<()> {
        if let Message::Slow | Message::PanicSlowly = message {
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        let panics = matches!(message, Message::Panic | Message::PanicSlowly);
        assert!(!panics, "{EXPECTED}");
        Ok(())
    }
}

impl NativeHandler for Fragile {
    type Message = Message;
    type Response = ();
    type Error = eyre::Report;

    async fn handle_request(&mut self, message: Message) -> eyre::Result<()> {
        self.handle(message).await
    }

    async fn handle_command(&mut self, message: Message) -> eyre::Result<()> {
        self.handle(message).await
    }

    async fn started(&mut self) -> eyre::Result<()> {
        tokio::task::yield_now().await;
        eyre::ensure!(!self.fails, "told to fail");
        Ok(())
    }

    async fn stopped(&mut self) {
        tokio::task::yield_now().await;
    }
}

fn plan() -> impl Strategy<Value = Plan> {
    let answer = prop_oneof![
        Just(Answer::OneForOne),
        Just(Answer::OneForAll),
        Just(Answer::RestForOne)
    ];
    let kind = prop_oneof![
        4 => Just(Restart::Permanent),
        2 => Just(Restart::Transient),
        1 => Just(Restart::Temporary)
    ];
    let message = || {
        prop_oneof![
            5 => Just(Message::Quick),
            2 => Just(Message::Slow),
            2 => Just(Message::Panic),
            1 => Just(Message::PanicSlowly)
        ]
    };
    let step = prop_oneof![
        6 => (0_usize..4, message()).prop_map(|(child, message)| Step::Ask(child, message)),
        6 => (0_usize..4, message()).prop_map(|(child, message)| Step::Tell(child, message)),
        3 => (0_usize..4, message()).prop_map(|(child, message)| Step::Await(child, message)),
        1 => (0_usize..4).prop_map(Step::Shutdown),
        4 => (0_u64..6).prop_map(Step::Wait),
    ];
    let stop = prop_oneof![
        2 => Just(Stop::Drain),
        1 => Just(Stop::AfterCurrent),
        1 => Just(Stop::Now)
    ];
    (
        answer,
        prop::collection::vec((kind, 1_usize..3), 1..5),
        0_usize..3,
        prop_oneof![Just(3_usize), Just(1_000)],
        2_u64..9,
        (0_u8..7, any::<bool>()),
        prop::collection::vec(step, 0..60),
        stop,
    )
        .prop_map(
            |(
                answer,
                children,
                nested,
                intensity,
                starts_fail_in,
                (routing, sorted),
                steps,
                stop,
            )| Plan {
                answer,
                children,
                nested,
                intensity,
                starts_fail_in,
                routing,
                sorted,
                steps,
                stop,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 600,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn everything_accepted_is_accounted_for_in_virtual_time(plan in plan()) {
        virtual_time().block_on(run(plan));
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        max_shrink_iters: 64,
        ..ProptestConfig::default()
    })]

    #[test]
    fn everything_accepted_is_accounted_for_on_two_threads(plan in plan()) {
        two_threads().block_on(run(plan));
    }
}

async fn run(plan: Plan) {
    quiet_expected_panics();
    let (tree, children) = build(&plan);
    let tree = tree.spawn();
    let mut accepted = vec![0_u64; children.len()];
    let mut perhaps = accepted.clone();
    let mut asked = Vec::new();
    for step in &plan.steps {
        match *step {
            Step::Ask(child, message) => {
                let child = child % children.len();
                if let Ok(request) = children[child].try_request(message) {
                    accepted[child] += 1;
                    asked.push(request);
                }
            }
            Step::Await(child, message) => {
                let child = child % children.len();
                match within(children[child].request(message)).await {
                    Ok(()) => accepted[child] += 1,
                    Err(error) => match error.downcast_ref() {
                        Some(SparkChannelError::Closed) => {}
                        // Refused, or accepted and given back.
                        Some(SparkChannelError::ShuttingDown) => perhaps[child] += 1,
                        _ => accepted[child] += 1,
                    },
                }
            }
            Step::Tell(child, message) => {
                let child = child % children.len();
                accepted[child] += u64::from(children[child].try_command(message).is_ok());
            }
            Step::Shutdown(child) => {
                let child = child % children.len();
                let token = SparkChannelCancellationToken::new();
                let shutdown = SparkGenericModuleMessage::Shutdown(token);
                let sent = children[child].sender.try_send(shutdown);
                accepted[child] += u64::from(sent.is_ok());
            }
            Step::Wait(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
        }
    }

    let report = within(tree.shutdown(plan.stop)).await;

    for request in asked {
        // Whatever the answer is, there is one.
        let _ = within(request).await;
    }
    for module in report.modules() {
        let child: usize = module.module.parse().expect("named after its number");
        let (least, most) = (accepted[child], accepted[child] + perhaps[child]);
        let accounted = module.stats.accounted();
        assert!(
            (least..=most).contains(&accounted),
            "{child}: {accounted} of {least}"
        );
    }
    assert_eq!(report.modules().count(), children.len());
    assert!(!report.deadline_passed);
}

fn build(plan: &Plan) -> (Supervisor, Vec<Dispatcher>) {
    let backoff = Backoff::exponential(Duration::from_millis(1), Duration::from_millis(4));
    let tree = |name| {
        Supervisor::new(name, plan.answer)
            .backoff(backoff)
            .seed(7)
            .intensity(plan.intensity, Duration::from_secs(1))
    };
    let (mut outer, mut inner) = (tree("outer"), tree("inner"));
    let mut children = Vec::new();
    for (number, &(restart, replicas)) in plan.children.iter().enumerate() {
        let starts = std::sync::atomic::AtomicU64::new(0);
        let every = plan.starts_fail_in;
        let make = move || {
            let start = starts.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            // Not for ever: children that restart together might never be up together.
            let fails = start < 12 && start % every == every - 1;
            Fragile { fails }
        };
        let child = Child::pool(replicas, make)
            .name(number.to_string())
            .capacity(8)
            .restart(restart);
        let child = match plan.routing {
            0 => child.round_robin(),
            1 => child.least_loaded(),
            2 => child.by_key(|message| *message as u8),
            3 => child.without_direct_calls(),
            4 => child.broadcast(),
            _ => child,
        };
        let child = if plan.sorted {
            child.classify(|message| match message {
                Message::Quick => Class::DEFAULT,
                Message::Slow => SLOW,
                Message::Panic | Message::PanicSlowly => PANICS,
            })
        } else {
            child
        };
        let inside = number < plan.nested;
        children.push(if inside { &mut inner } else { &mut outer }.child(child));
    }
    outer.supervisor(inner);
    (outer, children)
}
