//! Keyed sets: what is bounded, how they stop, and what they are to others.

use std::time::Duration;

use spark_channel::{
    Class, ModuleState, Priority, SparkChannelCancellationToken, SparkChannelError,
    SparkGenericModuleMessage, Stop, StopReason, System,
};
use tokio::time::Instant;

use grains::{World, ask};

use crate::support::{Gate, Log, queued, reason, until, within};

#[path = "support/grains.rs"]
mod grains;
mod support;

const SECOND: Duration = Duration::from_secs(1);

// --- bounds

#[tokio::test]
async fn what_waits_for_modules_is_bounded_together() {
    let world = World::new();
    let grains = world.grains().capacity(4).spawn();
    let dispatcher = grains.dispatcher();
    let held = queued(dispatcher.request("a held"));
    within(world.gate.entered()).await;

    let mut accepted = 0;
    let mut quiet = 0;
    while quiet < 16 {
        match dispatcher.try_command("a") {
            Ok(()) => accepted += 1,
            Err(_) => quiet += 1,
        }
        tokio::task::yield_now().await;
    }

    assert_eq!(accepted, 4 + 4);
    assert_eq!(grains.stats().depth, 8);
    world.gate.open();
    assert!(within(held).await.is_ok());
    let report = within(grains.shutdown(Stop::Drain)).await.report;
    assert_eq!(report.stats.handled, accepted + 1);
}

#[tokio::test]
#[should_panic(expected = "room for one module")]
async fn a_set_of_no_modules_is_refused() {
    let _ = World::new().grains().live_max(0).spawn();
}

// --- stopping

#[tokio::test]
async fn drain_starts_what_it_needs_to_handle_everything_accepted() {
    let world = World::new();
    let grains = world.grains().live_max(2).spawn();
    let dispatcher = grains.dispatcher();
    let requests: Vec<_> = ('a'..='h')
        .map(|key| queued(dispatcher.request(key)))
        .collect();

    let report = within(grains.shutdown(Stop::Drain)).await;

    for request in requests {
        assert_eq!(within(request).await.expect("handled"), 1);
    }
    assert_eq!(
        (report.report.stats.handled, report.population.started),
        (8, 8)
    );
    let lines = world.log.lines();
    assert_eq!(
        lines
            .iter()
            .filter(|line| line.ends_with("stopped"))
            .count(),
        8
    );
}

#[tokio::test]
async fn after_current_gives_back_what_no_module_has_and_what_waits_for_one() {
    let world = World::new();
    let returned = Log::default();
    let returning = returned.clone();
    let grains = world
        .grains()
        .live_max(1)
        .undelivered(move |command| returning.push(command))
        .spawn();
    let dispatcher = grains.dispatcher();
    let held = queued(dispatcher.request("a held"));
    within(dispatcher.command("a1")).await.expect("room");
    within(world.gate.entered()).await;
    within(dispatcher.command("b1")).await.expect("room");
    let waiting = queued(dispatcher.request("b2"));
    until(|| grains.population().waiting > 0).await;

    grains.stop(Stop::AfterCurrent);
    world.gate.open();
    let report = within(grains.wait()).await.report;

    assert!(within(held).await.is_ok());
    assert_eq!(
        reason(within(waiting).await),
        SparkChannelError::ShuttingDown
    );
    assert_eq!(returned.lines(), ["b1"]);
    let lines = world.log.lines();
    assert_eq!(lines[2..], ["a undelivered 1", "a stopped"]);
    assert_eq!((report.stats.handled, report.stats.returned), (1, 1));
    assert_eq!((report.stats.undelivered, report.stats.accounted()), (2, 4));
    assert_eq!(report.reason, StopReason::Requested(Stop::AfterCurrent));
}

#[tokio::test]
async fn commands_still_in_the_mailbox_are_the_sets_to_take_back_and_a_panic_there_is_counted() {
    let world = World::new();
    let returned = Log::default();
    let returning = returned.clone();
    let grains = world
        .grains()
        .capacity(2)
        .undelivered(move |command| {
            returning.push(&*command);
            assert!(command != "a3", "told to panic");
        })
        .spawn();
    let dispatcher = grains.dispatcher();
    let held = queued(dispatcher.request("a held"));
    within(world.gate.entered()).await;
    // Two wait for the module, and two in the mailbox.
    for command in ["a1", "a2", "a3", "a4"] {
        within(dispatcher.command(command)).await.expect("room");
    }

    grains.stop(Stop::AfterCurrent);
    world.gate.open();
    let report = within(grains.wait()).await.report;

    assert!(within(held).await.is_ok());
    assert_eq!(returned.lines(), ["a3", "a4"]);
    let lines = world.log.lines();
    assert_eq!(
        lines[2..],
        ["a undelivered 1", "a undelivered 2", "a stopped"]
    );
    assert_eq!((report.stats.undelivered, report.stats.panics), (4, 1));
    assert_eq!(report.stats.accounted(), 5);
}

#[tokio::test]
async fn now_drops_what_every_module_runs() {
    let world = World::new();
    let grains = world.grains().spawn();
    let dispatcher = grains.dispatcher();
    let running = ["a held", "b held"].map(|message| queued(dispatcher.request(message)));
    within(world.gate.entered()).await;
    within(world.gate.entered()).await;

    let report = within(grains.shutdown(Stop::Now)).await.report;

    for running in running {
        assert_eq!(reason(within(running).await), SparkChannelError::Cancelled);
    }
    assert_eq!((report.stats.interrupted, report.stats.accounted()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn one_deadline_holds_for_all_modules_and_those_who_wait_for_one() {
    let world = World::new();
    let grains = world.grains().live_max(2).spawn();
    let dispatcher = grains.dispatcher();
    let running = ["a held", "b held"].map(|message| queued(dispatcher.request(message)));
    let waiting = ["c", "a2"].map(|message| queued(dispatcher.request(message)));
    let start = Instant::now();

    let report = within(grains.shutdown_within(Stop::Drain, SECOND))
        .await
        .report;

    assert!(start.elapsed() < SECOND + SECOND / 100);
    assert!(report.deadline_passed);
    for running in running {
        assert_eq!(reason(within(running).await), SparkChannelError::Cancelled);
    }
    for waiting in waiting {
        assert_eq!(
            reason(within(waiting).await),
            SparkChannelError::ShuttingDown
        );
    }
    assert_eq!((report.stats.interrupted, report.stats.accounted()), (2, 4));
}

#[tokio::test(start_paused = true)]
async fn a_module_that_does_not_stop_is_cut_off_at_the_deadline_of_a_drain() {
    let mut world = World::new();
    world.stopping = Gate::closed();
    let grains = world.grains().spawn();
    ask(&grains.dispatcher(), "a").await;
    let start = Instant::now();

    let report = within(grains.shutdown_within(Stop::Drain, SECOND))
        .await
        .report;

    assert!(start.elapsed() < SECOND + SECOND / 100);
    assert!(report.deadline_passed);
}

#[tokio::test(start_paused = true)]
async fn a_passivation_that_is_cut_short_makes_room_and_is_in_the_report() {
    let mut world = World::new();
    world.stopping = Gate::closed();
    let grains = world.grains().live_max(1).shutdown_timeout(SECOND).spawn();
    let dispatcher = grains.dispatcher();
    ask(&dispatcher, "a").await;
    let start = Instant::now();

    assert_eq!(ask(&dispatcher, "b").await, 1);
    assert!(start.elapsed() < SECOND + SECOND / 100);
    world.stopping.open();

    let report = within(grains.shutdown(Stop::Drain)).await.report;
    assert!(report.deadline_passed);
    assert_eq!(report.stats.accounted(), 2);
}

#[tokio::test]
async fn a_shutdown_message_keeps_its_place() {
    let world = World::new();
    let grains = world.grains().live_max(1).spawn();
    let dispatcher = grains.dispatcher();
    let before: Vec<_> = ["a held", "b", "c", "a2"]
        .map(|message| queued(dispatcher.request(message)))
        .into();
    let token = SparkChannelCancellationToken::new();
    let shutdown = SparkGenericModuleMessage::Shutdown(token.clone());
    within(dispatcher.sender.send(shutdown))
        .await
        .expect("room");
    let behind = queued(dispatcher.request("d"));

    world.gate.open();
    let report = within(grains.wait()).await.report;

    for before in before {
        assert!(within(before).await.is_ok());
    }
    assert_eq!(
        reason(within(behind).await),
        SparkChannelError::ShuttingDown
    );
    assert!(token.inner().is_cancelled());
    assert_eq!(report.reason, StopReason::ShutdownMessage);
    assert_eq!((report.stats.handled, report.stats.accounted()), (4, 6));
}

#[tokio::test]
async fn a_set_ends_with_its_last_dispatcher() {
    let world = World::new();
    let grains = world.grains().spawn();
    grains.dispatcher().try_command("a").expect("room");

    let report = within(grains.wait()).await.report;

    assert_eq!(report.reason, StopReason::NoDispatchers);
    assert_eq!(world.log.lines(), ["a started", "a ", "a stopped"]);
}

#[test]
fn a_set_whose_runtime_ends_is_reported_as_aborted() {
    let world = World::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("the runtime starts");
    let watch = runtime.block_on(async {
        let grains = world.grains().spawn();
        let dispatcher = grains.dispatcher();
        let _held = queued(dispatcher.request("a held"));
        world.gate.entered().await;
        grains.watch()
    });

    drop(runtime);

    let report = watch.report().expect("ended");
    assert_eq!(report.reason, StopReason::Aborted);
}

// --- to others

#[tokio::test]
async fn what_waits_in_the_mailbox_of_a_set_is_sorted_into_classes() {
    const URGENT: Class = Class::new("urgent").priority(Priority::Control);
    let world = World::new();
    let grains = world
        .grains()
        .capacity(1)
        .classify(|message: &String| match message.strip_suffix("urgent") {
            Some(_) => URGENT,
            None => Class::DEFAULT,
        })
        .spawn();
    let dispatcher = grains.dispatcher();
    let held = queued(dispatcher.request("a held"));
    within(world.gate.entered()).await;
    // One waits for the module, and then one in the mailbox.
    for message in ["a1", "a2"] {
        within(dispatcher.command(message)).await.expect("room");
    }
    dispatcher.try_command("a urgent").expect("room");

    world.gate.open();
    within(held).await.expect("handled");
    let report = within(grains.shutdown(Stop::Drain)).await.report;

    let lines = world.log.lines();
    assert_eq!(lines[1..5], ["a  held", "a 1", "a  urgent", "a 2"]);
    assert_eq!((report.stats.handled, report.stats.accounted()), (4, 4));
}

#[tokio::test]
async fn who_watches_a_set_learns_of_restarts_and_of_its_end_but_not_of_passivations() {
    let world = World::new();
    let grains = world.grains().live_max(1).spawn();
    let dispatcher = grains.dispatcher();
    let mut watch = grains.watch();
    ask(&dispatcher, "a").await;
    ask(&dispatcher, "b").await;
    assert_eq!((watch.restarts(), watch.state()), (0, ModuleState::Running));

    let mut restarted = tokio_test::task::spawn(async move { (watch.restarted().await, watch) });
    assert!(restarted.poll().is_pending());
    let _ = within(dispatcher.request("b panic")).await;
    let (restarts, watch) = within(restarted).await;

    assert_eq!(restarts, Some(1));
    let report = within(grains.shutdown(Stop::Drain)).await.report;
    assert_eq!(within(watch).await, report);
}

#[tokio::test]
async fn a_set_is_found_stopped_and_reported_like_any_module() {
    let world = World::new();
    let system = System::new("world");
    let grains = world.grains().name("grains").spawn();
    system.register(&grains).expect("free");
    system.adopt(grains.into_module()).expect("open");

    let found = system.lookup::<String, u64>("grains").expect("there");
    assert_eq!(ask(&found, "a").await, 1);
    let report = within(system.shutdown(Stop::Drain, SECOND)).await;

    assert!(!report.deadline_passed);
    assert_eq!(world.log.lines(), ["a started", "a ", "a stopped"]);
    assert!(system.lookup::<String, u64>("grains").is_err());
}
