//! Pools that choose the replica: in turn, the least loaded, by key, all of them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use spark_channel::{
    ModuleBuilder, NativeHandler, PanicPolicy, SparkChannelError, Stop, StopReason, module, pool,
};
use tokio::time::Instant;

use crate::support::{Gate, Gated, Runner, job, queued, reason, within};

mod support;

const SECOND: Duration = Duration::from_secs(1);

/// A pool of as many replicas as gates, each behind its own.
fn behind<const N: usize>(gates: &[Gate; N]) -> ModuleBuilder<Gated> {
    let gates = gates.clone();
    let next = AtomicUsize::new(0);
    pool(N, move || {
        gates[next.fetch_add(1, Ordering::SeqCst) % N].module()
    })
}

/// The messages that the modules behind `gates` have started, per gate.
fn lines<const N: usize>(gates: &[Gate; N]) -> [Vec<String>; N] {
    gates.each_ref().map(|gate| gate.log.lines())
}

fn first_letter(message: &str) -> Option<char> {
    message.chars().next()
}

/// A letter whose messages go to `replica` of two.
fn letter_of(replica: usize, gates: &[Gate; 2]) -> char {
    let started = |letter: &char| {
        let found = gates[replica].log.lines();
        found.iter().any(|line| line.starts_with(*letter))
    };
    ('a'..='p').find(started).expect("one of sixteen keys")
}

// --- in turn

#[tokio::test]
async fn round_robin_gives_each_replica_a_message_in_turn() {
    let gates = [Gate::opened(), Gate::opened(), Gate::opened()];
    let module = behind(&gates).round_robin().spawn();
    let dispatcher = module.dispatcher();

    for message in ["0", "1", "2", "3", "4", "5"] {
        within(dispatcher.request(message)).await.expect("handled");
    }

    assert_eq!(lines(&gates), [["0", "3"], ["1", "4"], ["2", "5"]]);
}

#[tokio::test]
async fn round_robin_leaves_out_a_replica_that_is_full() {
    let gates = [Gate::closed(), Gate::opened()];
    // A replica holds what it handles and two more.
    let module = behind(&gates).capacity(4).round_robin().spawn();
    let dispatcher = module.dispatcher();

    let held: Vec<_> = (0..12)
        .map(|number| dispatcher.command(number.to_string()))
        .collect();
    for command in held {
        within(command).await.expect("room sooner or later");
    }
    within(dispatcher.request("last")).await.expect("handled");

    assert_eq!(gates[0].log.lines(), ["0"]);
    assert_eq!(gates[1].log.lines().len(), 10);
    gates[0].open();
    let report = within(module.shutdown(Stop::Drain)).await;
    assert_eq!((report.stats.handled, report.stats.accounted()), (13, 13));
}

#[tokio::test]
async fn the_least_loaded_replica_is_the_one_without_a_message() {
    let gates = [Gate::closed(), Gate::opened()];
    let module = behind(&gates).least_loaded().spawn();
    let dispatcher = module.dispatcher();
    within(dispatcher.command("slow")).await.expect("room");
    gates[0].entered().await;

    for message in ["a", "b", "c"] {
        within(dispatcher.request(message)).await.expect("handled");
    }

    assert_eq!(lines(&gates), [vec!["slow"], vec!["a", "b", "c"]]);
}

// --- by key

#[tokio::test]
async fn messages_of_one_key_go_to_one_replica_in_order() {
    let gates = [Gate::opened(), Gate::opened(), Gate::opened()];
    let module = behind(&gates)
        .by_key(|message| first_letter(message))
        .spawn();
    let dispatcher = module.dispatcher();

    for number in 0..8 {
        for key in 'a'..='f' {
            let message = format!("{key}{number}");
            within(dispatcher.command(message)).await.expect("room");
        }
    }
    within(module.shutdown(Stop::Drain)).await;

    for key in 'a'..='f' {
        let of_key = lines(&gates).map(|lines| {
            let lines = lines.into_iter();
            lines
                .filter(|line| line.starts_with(key))
                .collect::<Vec<_>>()
        });
        let found: Vec<_> = of_key
            .into_iter()
            .filter(|lines| !lines.is_empty())
            .collect();
        let all: Vec<_> = (0..8).map(|number| format!("{key}{number}")).collect();
        assert_eq!(found, [all]);
    }
}

#[tokio::test]
async fn a_key_has_the_same_replica_in_every_pool_of_that_size() {
    let mut found = Vec::new();
    for _ in 0..2 {
        let gates = [Gate::opened(), Gate::opened()];
        let module = behind(&gates)
            .by_key(|message| first_letter(message))
            .spawn();
        for key in 'a'..='p' {
            let request = module.dispatcher();
            within(request.request(key)).await.expect("handled");
        }
        found.push(lines(&gates));
    }

    assert_eq!(found[0], found[1]);
    assert!(found[0].iter().all(|lines| lines.len() > 2), "{found:?}");
}

#[tokio::test]
async fn a_key_in_demand_holds_up_others_only_once_all_the_room_is_taken() {
    let gates = [Gate::opened(), Gate::opened()];
    let module = behind(&gates)
        .capacity(8)
        .by_key(|message| first_letter(message))
        .spawn();
    let dispatcher = module.dispatcher();
    for key in 'a'..='p' {
        within(dispatcher.request(key)).await.expect("handled");
    }
    let [hot, cold] = [letter_of(0, &gates), letter_of(1, &gates)];
    let held = Gate::closed();
    let gates = [held.clone(), Gate::opened()];
    let module = behind(&gates)
        .capacity(8)
        .by_key(|message| first_letter(message))
        .spawn();
    let dispatcher = module.dispatcher();

    // One is handled and eight wait: more than that replica's part.
    for _ in 0..9 {
        within(dispatcher.command(hot)).await.expect("room");
    }
    assert!(within(dispatcher.request(cold)).await.is_ok());

    // From here on the mailbox itself fills up, and the cold one waits behind.
    for _ in 0..9 {
        within(dispatcher.command(hot)).await.expect("room");
    }
    let waiting = queued(dispatcher.request(cold));
    assert_eq!(gates[1].log.lines().len(), 1);
    held.open();
    assert!(within(waiting).await.is_ok());
}

#[tokio::test]
async fn a_key_that_panics_is_an_error_for_one_caller() {
    let gates = [Gate::opened(), Gate::opened()];
    let module = behind(&gates)
        .by_key(|message: &String| {
            assert!(message != "bad", "no key");
            message.len()
        })
        .spawn();
    let dispatcher = module.dispatcher();

    let failed = within(dispatcher.request("bad")).await;
    within(dispatcher.command("bad")).await.expect("room");

    let text = Arc::from("no key");
    assert_eq!(reason(failed), SparkChannelError::Panicked { text });
    assert_eq!(
        within(dispatcher.request("good")).await.expect("handled"),
        "good"
    );
    let report = within(module.shutdown(Stop::Drain)).await;
    let stats = report.stats;
    assert_eq!((stats.panicked, stats.panics, stats.restarts), (2, 2, 0));
    assert_eq!((stats.handled, stats.accounted()), (1, 3));
}

#[tokio::test]
async fn a_replica_that_panics_keeps_its_queue() {
    let gates = [Gate::closed(), Gate::closed()];
    let module = behind(&gates).by_key(|_| 0).spawn();
    let dispatcher = module.dispatcher();
    let requests = ["panic", "a", "b"].map(|message| queued(dispatcher.request(message)));

    gates.iter().for_each(Gate::open);
    let [panicked, a, b] = requests;

    let error = reason(within(panicked).await);
    assert!(matches!(error, SparkChannelError::Panicked { .. }));
    assert_eq!(within(a).await.expect("handled"), "a");
    assert_eq!(within(b).await.expect("handled"), "b");
    assert_eq!(module.stats().restarts, 1);
}

// --- all of them

#[tokio::test]
async fn a_broadcast_pool_gives_every_replica_each_command_in_order() {
    let gates = [Gate::opened(), Gate::opened(), Gate::opened()];
    let module = behind(&gates).broadcast().spawn();
    let dispatcher = module.dispatcher();

    for message in ["a", "b", "c"] {
        within(dispatcher.command(message)).await.expect("room");
    }
    let report = within(module.shutdown(Stop::Drain)).await;

    assert_eq!(lines(&gates), [["a", "b", "c", "stopped"]; 3]);
    assert_eq!((report.stats.handled, report.stats.accounted()), (3, 3));
    assert_eq!(report.stats.copies, 6);
}

#[tokio::test]
async fn a_request_to_a_broadcast_pool_is_answered_by_one_replica_after_the_commands_before_it() {
    let gates = [Gate::opened(), Gate::opened()];
    let module = behind(&gates).broadcast().spawn();
    let dispatcher = module.dispatcher();
    within(dispatcher.command("told")).await.expect("room");

    for message in ["1", "2"] {
        within(dispatcher.request(message)).await.expect("handled");
    }

    assert_eq!(lines(&gates), [["told", "1"], ["told", "2"]]);
}

#[tokio::test]
async fn each_replica_gives_back_its_copies_and_one_of_them_what_is_in_the_mailbox() {
    let gates = [Gate::closed(), Gate::closed()];
    let module = behind(&gates).capacity(2).broadcast().spawn();
    let dispatcher = module.dispatcher();
    for message in ["handled", "copied", "left", "left"] {
        within(dispatcher.command(message)).await.expect("room");
    }
    gates[0].entered().await;
    gates[1].entered().await;
    assert_eq!(module.stats().depth, 4);

    module.stop(Stop::AfterCurrent);
    gates.iter().for_each(Gate::open);
    let stats = within(module.wait()).await.stats;

    let lines = lines(&gates).concat();
    let given_back = |what: &str| lines.iter().filter(|line| *line == what).count();
    assert_eq!(given_back("undelivered copied"), 2);
    assert_eq!(given_back("undelivered left"), 2);
    assert_eq!((stats.handled, stats.undelivered, stats.copies), (1, 3, 2));
}

#[tokio::test]
async fn what_a_copy_comes_to_is_not_the_commands_fate() {
    let gates = [Gate::opened(), Gate::opened()];
    let module = behind(&gates)
        .on_panic(PanicPolicy::Continue)
        .broadcast()
        .spawn();
    let dispatcher = module.dispatcher();

    for message in ["fail", "panic"] {
        within(dispatcher.command(message)).await.expect("room");
    }
    let stats = within(module.shutdown(Stop::Drain)).await.stats;

    assert_eq!((stats.handled, stats.failed, stats.panicked), (1, 1, 1));
    assert_eq!((stats.accounted(), stats.copies, stats.panics), (2, 2, 2));
}

#[tokio::test]
async fn a_command_that_cannot_be_cloned_reaches_no_replica() {
    struct Brittle(Arc<AtomicBool>);
    impl Clone for Brittle {
        fn clone(&self) -> Self {
            assert!(!self.0.load(Ordering::SeqCst), "no copy");
            Self(Arc::clone(&self.0))
        }
    }
    struct Counts(Arc<AtomicUsize>);
    impl NativeHandler for Counts {
        type Message = Brittle;
        type Response = ();
        type Error = eyre::Report;
        async fn handle_request(&mut self, _: Brittle) -> eyre::Result<()> {
            Ok(())
        }
        async fn handle_command(&mut self, _: Brittle) -> eyre::Result<()> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    }
    let handled = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&handled);
    let module = pool(3, move || Counts(Arc::clone(&counting)))
        .broadcast()
        .spawn();
    let dispatcher = module.dispatcher();

    for breaks in [true, false] {
        let message = Brittle(Arc::new(AtomicBool::new(breaks)));
        within(dispatcher.command(message)).await.expect("room");
    }
    let stats = within(module.shutdown(Stop::Drain)).await.stats;

    assert_eq!(handled.load(Ordering::SeqCst), 3);
    assert_eq!((stats.panicked, stats.handled, stats.copies), (1, 1, 2));
}

// --- bounds, stopping

#[tokio::test]
async fn what_waits_is_bounded_by_twice_the_capacity() {
    for strategy in [ModuleBuilder::round_robin, ModuleBuilder::least_loaded] {
        let gates = [Gate::closed(), Gate::closed()];
        let module = strategy(behind(&gates).capacity(6)).spawn();
        let dispatcher = module.dispatcher();

        let mut accepted = 0;
        loop {
            while dispatcher.try_command("a").is_ok() {
                accepted += 1;
            }
            tokio::task::yield_now().await;
            if dispatcher.sender.capacity() == 0 && lines(&gates).iter().all(|l| l.len() == 1) {
                break;
            }
        }

        assert_eq!(accepted, 6 + 6 + 2);
        assert_eq!((module.stats().depth, module.stats().capacity), (12, 6));
        gates.iter().for_each(Gate::open);
        let report = within(module.shutdown(Stop::Drain)).await;
        assert_eq!(report.stats.handled, accepted);
        assert!(report.stats.high_water >= 6, "{report:?}");
    }
}

#[tokio::test]
async fn what_waits_for_one_key_is_bounded_by_the_room_of_all_replicas() {
    let gates = [Gate::closed(), Gate::closed(), Gate::closed()];
    let module = behind(&gates).capacity(6).by_key(|_| 0).spawn();
    let dispatcher = module.dispatcher();

    let mut accepted = 0;
    while accepted < 6 + 6 + 3 {
        accepted += u64::from(dispatcher.try_command("a").is_ok());
        tokio::task::yield_now().await;
    }
    for _ in 0..9 {
        assert!(dispatcher.try_command("a").is_err());
        tokio::task::yield_now().await;
    }

    assert_eq!(module.stats().depth, 6 + 6 + 2);
    gates.iter().for_each(Gate::open);
    let report = within(module.shutdown(Stop::Drain)).await;
    assert_eq!(report.stats.handled, accepted);
}

#[tokio::test]
async fn after_current_gives_back_what_waits_behind_every_replica() {
    let gates = [Gate::closed(), Gate::closed()];
    let module = behind(&gates).capacity(2).round_robin().spawn();
    let dispatcher = module.dispatcher();
    for number in 0..6 {
        let command = dispatcher.command(number.to_string());
        within(command).await.expect("room sooner or later");
    }
    gates[0].entered().await;
    gates[1].entered().await;

    module.stop(Stop::AfterCurrent);
    gates.iter().for_each(Gate::open);
    let report = within(module.wait()).await;

    assert_eq!((report.stats.handled, report.stats.undelivered), (2, 4));
    let undelivered = lines(&gates).concat();
    let undelivered = undelivered.iter().filter(|l| l.starts_with("undelivered"));
    assert_eq!(undelivered.count(), 4);
    assert_eq!(report.reason, StopReason::Requested(Stop::AfterCurrent));
}

#[tokio::test(start_paused = true)]
async fn at_the_deadline_everything_is_accounted_for_at_once() {
    let gates = [Gate::closed(), Gate::closed()];
    let module = behind(&gates)
        .capacity(4)
        .by_key(|message| first_letter(message))
        .spawn();
    let dispatcher = module.dispatcher();
    let requests: Vec<_> = (0..3)
        .map(|number| queued(dispatcher.request(format!("a{number}"))))
        .collect();
    for number in 0..6 {
        let command = dispatcher.command(format!("a{number}"));
        within(command).await.expect("room sooner or later");
    }
    let start = Instant::now();

    let report = within(module.shutdown_within(Stop::Drain, SECOND)).await;

    assert!(start.elapsed() < SECOND + SECOND / 100);
    assert!(report.deadline_passed);
    assert_eq!((report.stats.interrupted, report.stats.accounted()), (1, 9));
    let mut requests = requests.into_iter();
    let first = requests.next().expect("three were sent");
    assert_eq!(reason(within(first).await), SparkChannelError::Cancelled);
    for request in requests {
        let given_back = reason(within(request).await);
        assert_eq!(given_back, SparkChannelError::ShuttingDown);
    }
}

#[tokio::test]
async fn a_routed_pool_ends_with_its_last_dispatcher() {
    let gates = [Gate::opened(), Gate::opened()];
    let module = behind(&gates).broadcast().spawn();
    module.dispatcher().try_command("a").expect("room");

    let report = within(module.wait()).await;

    assert_eq!(report.reason, StopReason::NoDispatchers);
    assert_eq!(lines(&gates), [["a", "stopped"]; 2]);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_behind_a_replica_keeps_its_deadline_and_never_starts_after_it() {
    let gates = [Gate::closed(), Gate::closed()];
    let module = behind(&gates).by_key(|_| 0).spawn();
    let dispatcher = module.dispatcher();
    let first = queued(dispatcher.request("first"));
    let late = queued(dispatcher.request("late").timeout(SECOND));
    let left = queued(dispatcher.request("left"));

    let given_up = reason(within(late).await);
    drop(left);
    gates.iter().for_each(Gate::open);
    assert!(within(first).await.is_ok());

    assert!(given_up.never_started(), "{given_up:?}");
    let report = within(module.shutdown(Stop::Drain)).await;
    assert_eq!((report.stats.expired, report.stats.abandoned), (1, 1));
    assert_eq!(report.stats.accounted(), 3);
}

#[tokio::test]
async fn of_a_single_module_a_strategy_changes_nothing() {
    let module = module(Runner).round_robin().spawn();
    let dispatcher = module.dispatcher();
    let again = dispatcher.clone();

    let asked = dispatcher.request(job(
        async move { again.request(job(async { Ok(1) })).await },
    ));

    let error = reason(within(asked).await);
    assert!(matches!(error, SparkChannelError::WouldDeadlock { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_before_a_shutdown_message_is_handled_and_nothing_behind_it() {
    for round in 0..300 {
        let gates = [Gate::opened(), Gate::opened(), Gate::opened()];
        let builder = behind(&gates).capacity(4);
        let module = match round % 3 {
            0 => builder.round_robin().spawn(),
            1 => builder.least_loaded().spawn(),
            _ => builder.by_key(|message| first_letter(message)).spawn(),
        };
        let dispatcher = module.dispatcher();
        for number in 0..10 {
            let command = dispatcher.command(format!("{number}before"));
            within(command).await.expect("room sooner or later");
        }
        let token = spark_channel::SparkChannelCancellationToken::new();
        let shutdown = spark_channel::SparkGenericModuleMessage::Shutdown(token.clone());
        within(dispatcher.sender.send(shutdown))
            .await
            .expect("room");
        for number in 0..5 {
            // Refused, or accepted and handed back.
            let _ = dispatcher.try_command(format!("{number}behind"));
        }

        let report = within(module.wait()).await;

        let lines = lines(&gates).concat();
        let started = |what: &str| {
            let lines = lines.iter();
            lines
                .filter(|line| line.ends_with(what) && !line.contains(' '))
                .count()
        };
        assert_eq!((started("before"), started("behind")), (10, 0));
        assert_eq!(report.stats.handled, 10);
        assert!(token.inner().is_cancelled());
    }
}
