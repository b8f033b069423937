//! What a module counts while it runs.

use spark_channel::{SparkGenericModuleDispatcher, Stats, Stop, module, spawn_module};
use tokio::sync::mpsc;

use crate::support::{Gate, queued, within};

mod support;

#[tokio::test]
async fn a_new_module_has_counted_nothing() {
    let module = module(Gate::opened().module()).capacity(5).spawn();

    let mut expected = Stats::default();
    expected.capacity = 5;
    assert_eq!(module.stats(), expected);
    assert_eq!(module.dispatcher().stats(), Some(expected));
}

#[test]
fn a_bare_dispatcher_knows_no_name_and_no_counts() {
    let (sender, _receiver) = mpsc::channel(1);
    let dispatcher = SparkGenericModuleDispatcher::<String, String>::new(sender);

    assert_eq!(dispatcher.name(), None);
    assert_eq!(dispatcher.stats(), None);
}

#[tokio::test]
async fn depth_is_what_waits_now_and_high_water_the_most_that_ever_did() {
    let gate = Gate::closed();
    let module = module(gate.module()).capacity(8).spawn();
    let dispatcher = module.dispatcher();
    dispatcher.try_command("running").expect("room");
    gate.entered().await;

    for command in ["1", "2", "3", "4", "5"] {
        dispatcher.try_command(command).expect("room");
    }
    let full = module.stats();
    gate.open();
    within(dispatcher.request("last")).await.expect("handled");
    let empty = module.stats();

    assert_eq!((full.depth, full.high_water), (5, 5));
    assert_eq!(empty.depth, 0);
    assert!((5..=6).contains(&empty.high_water), "{empty:?}");
}

#[tokio::test]
async fn what_an_idle_module_finds_when_it_wakes_is_all_counted_as_waiting() {
    for direct_calls in [true, false] {
        let mut builder = module(Gate::opened().module());
        if !direct_calls {
            builder = builder.without_direct_calls();
        }
        let module = builder.spawn();
        let dispatcher = module.dispatcher();
        within(dispatcher.request("before")).await.expect("handled");
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        for command in ["1", "2", "3", "4", "5"] {
            dispatcher.try_command(command).expect("room");
        }
        within(dispatcher.request("last")).await.expect("handled");
        assert_eq!(module.stats().high_water, 6, "{direct_calls}");
    }
}

#[tokio::test]
async fn who_has_an_answer_finds_it_counted() {
    let module = spawn_module(Gate::opened().module());
    let dispatcher = module.dispatcher();

    for expected in 1..=10 {
        within(dispatcher.request("a")).await.expect("handled");
        assert_eq!(module.stats().handled, expected);
    }
}

#[tokio::test]
async fn sends_that_were_refused_are_counted_apart_from_what_was_accepted() {
    let gate = Gate::closed();
    let module = module(gate.module()).capacity(1).spawn();
    let dispatcher = module.dispatcher();
    let running = queued(dispatcher.request("running"));
    gate.entered().await;
    let waiting = queued(dispatcher.request("waiting"));

    assert!(dispatcher.try_command("full").is_err());
    assert!(dispatcher.try_request("full").is_err());
    module.stop(Stop::Drain);
    assert!(within(dispatcher.request("stopping")).await.is_err());
    assert!(within(dispatcher.command("stopping")).await.is_err());
    gate.open();

    assert!(within(running).await.is_ok() && within(waiting).await.is_ok());
    let stats = within(module.wait()).await.stats;
    assert_eq!((stats.rejected, stats.accounted()), (4, 2));
}

#[tokio::test]
async fn failures_are_counted_among_the_handled_and_a_commands_error_goes_to_the_hook() {
    let gate = Gate::opened();
    let module = spawn_module(gate.module());
    let dispatcher = module.dispatcher();

    let asked = within(dispatcher.request("fail")).await;
    within(dispatcher.command("fail")).await.expect("room");
    let next = within(dispatcher.request("next")).await;

    assert_eq!(asked.expect_err("failed").to_string(), "told to fail");
    assert_eq!(next.expect("the module goes on"), "next");
    let lines = ["fail", "fail", "failed: told to fail", "next"];
    assert_eq!(gate.log.lines(), lines);
    let stats = module.stats();
    assert_eq!((stats.handled, stats.failed, stats.panicked), (3, 2, 0));
}

#[tokio::test]
async fn a_report_names_the_module_and_holds_its_last_counts() {
    let module = module(Gate::opened().module()).name("counted").spawn();
    let dispatcher = module.dispatcher();
    within(dispatcher.request("a")).await.expect("handled");
    assert_eq!(
        (module.name(), dispatcher.name()),
        ("counted", Some("counted"))
    );
    assert!(!module.is_finished());

    let report = within(module.shutdown(Stop::Drain)).await;

    assert_eq!(&*report.module, "counted");
    let stats = dispatcher.stats().expect("a dispatcher of the module");
    assert_eq!((report.stats.handled, stats.handled), (1, 1));
    assert_eq!((report.stats.depth, stats.depth), (0, 0));
}

#[tokio::test]
async fn a_module_is_named_after_its_handler_unless_it_is_named() {
    let module = spawn_module(Gate::opened().module());

    assert_eq!(module.name(), "Gated");
}
