//! Weak dispatchers: they reach a module without keeping it alive.

use spark_channel::{SparkChannelError, Stop, StopReason, WeakDispatcher, module, spawn_module};

use crate::support::{Gate, queued, reason, within};

mod support;

#[tokio::test]
async fn a_weak_dispatcher_reaches_the_module_while_another_keeps_it_alive() {
    let module = spawn_module(Gate::opened().module());
    let weak = module.downgrade();

    let upgraded = weak.upgrade().expect("the handle keeps it alive");
    let handled = within(upgraded.request("a")).await;

    assert_eq!(handled.expect("handled"), "a");
}

#[tokio::test]
async fn a_weak_dispatcher_does_not_keep_the_module_alive() {
    let module = spawn_module(Gate::opened().module());
    let (of_handle, of_dispatcher) = (module.downgrade(), module.dispatcher().downgrade());

    let report = within(module.wait()).await;

    assert_eq!(report.reason, StopReason::NoDispatchers);
    assert!(of_handle.upgrade().is_none() && of_dispatcher.upgrade().is_none());
}

#[tokio::test]
async fn an_upgraded_dispatcher_keeps_the_module_alive_again() {
    let module = spawn_module(Gate::opened().module());
    let weak = module.downgrade();
    let upgraded = weak.upgrade().expect("alive");

    let mut ended = queued(module.wait());
    let handled = within(upgraded.request("a")).await;

    assert!(handled.is_ok() && ended.poll().is_pending());
    drop(upgraded);
    within(ended).await;
}

#[tokio::test]
async fn a_module_that_knows_itself_by_a_weak_dispatcher_still_ends() {
    let gate = Gate::opened();
    let module = spawn_module(gate.module());
    let known: WeakDispatcher<_, _> = module.downgrade();
    let copy = known.clone();

    let report = within(module.wait()).await;

    assert_eq!(report.reason, StopReason::NoDispatchers);
    drop((known, copy));
}

#[tokio::test]
async fn what_a_weak_dispatcher_upgrades_to_knows_the_module() {
    let module = module(Gate::opened().module())
        .name("known")
        .capacity(3)
        .spawn();

    let upgraded = module.downgrade().upgrade().expect("alive");

    assert_eq!(upgraded.name(), Some("known"));
    assert_eq!(upgraded.stats().expect("known").capacity, 3);
}

#[tokio::test]
async fn a_dispatcher_of_a_stopped_module_can_be_upgraded_and_is_closed() {
    let module = spawn_module(Gate::opened().module());
    let dispatcher = module.dispatcher();
    let weak = dispatcher.downgrade();
    within(module.shutdown(Stop::Drain)).await;

    let upgraded = weak.upgrade().expect("a dispatcher still exists");

    let asked = within(upgraded.request("late")).await;
    assert_eq!(reason(asked), SparkChannelError::Closed);
}
