//! Death watch: whoever watches a module learns its end, however it ends, and its
//! restarts, without owning it.

use spark_channel::{
    Child, ModuleState, PanicPolicy, Report, SparkChannelError, SparkGenericModuleDispatcher, Stop,
    StopReason, Strategy, Supervisor, module, spawn_module, spawn_pool,
};
use tokio::sync::mpsc;

use crate::support::{Gate, Runner, job, queued, within};

mod support;

const DRAINED: StopReason = StopReason::Requested(Stop::Drain);

fn ended(report: &Report) -> String {
    format!("ended: {}", report.module)
}

#[tokio::test]
async fn every_watcher_learns_the_end_and_its_report() {
    let module = spawn_module(Gate::opened().module());
    let (first, second) = (module.watch(), module.dispatcher().watch().expect("known"));
    let early = queued(first.ended());
    let from_weak = module.downgrade().watch().expect("known");

    let report = within(module.shutdown(Stop::Drain)).await;

    assert!(early.is_woken());
    assert_eq!(within(early).await, report);
    for watch in [first, second.clone(), second, from_weak] {
        assert_eq!(within(watch).await, report);
    }
}

#[tokio::test]
async fn a_module_can_be_watched_after_its_end() {
    let module = spawn_module(Gate::opened().module());
    let weak = module.downgrade();
    let report = within(module.shutdown(Stop::Drain)).await;

    let watch = weak.watch().expect("known");

    assert_eq!(watch.state(), ModuleState::Ended);
    assert_eq!(watch.report(), Some(report.clone()));
    assert_eq!(within(watch).await, report);
}

#[tokio::test]
async fn a_watch_keeps_no_module_alive() {
    let module = spawn_module(Gate::opened().module());
    let watch = module.watch();

    within(module.wait()).await;

    assert_eq!(within(watch).await.reason, StopReason::NoDispatchers);
}

#[tokio::test]
async fn a_watch_tells_what_the_module_is_doing() {
    let gate = Gate::closed();
    let module = module(gate.module()).name("busy").spawn();
    let watch = module.watch();
    assert_eq!(
        (watch.name(), watch.state()),
        ("busy", ModuleState::Running)
    );
    assert_eq!(watch.report(), None);
    module.dispatcher().try_command("held").expect("room");
    gate.entered().await;

    module.stop(Stop::Drain);

    assert_eq!(watch.state(), ModuleState::Stopping);
    gate.open();
    within(watch).await;
}

#[tokio::test]
async fn a_dispatcher_of_a_bare_sender_cannot_watch() {
    let (sender, _receiver) = mpsc::channel(1);
    let bare: SparkGenericModuleDispatcher<(), ()> = SparkGenericModuleDispatcher::new(sender);
    assert!(bare.watch().is_none() && bare.downgrade().watch().is_none());
}

#[tokio::test]
async fn a_pool_ends_once_for_its_watchers_when_all_replicas_have() {
    let gate = Gate::closed();
    let pool = spawn_pool(3, {
        let gate = gate.clone();
        move || gate.module()
    });
    let mut watching = queued(pool.watch().ended());
    pool.dispatcher().try_command("held").expect("room");
    gate.entered().await;

    pool.stop(Stop::Drain);
    tokio::task::yield_now().await;

    assert!(watching.poll().is_pending());
    gate.open();
    assert_eq!(within(watching).await.reason, DRAINED);
}

#[tokio::test]
async fn a_runtime_that_ends_aborts_its_modules_for_their_watchers() {
    let other = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        let _entered = runtime.enter();
        let single = spawn_module(Gate::opened().module());
        let pool = spawn_pool(2, || Runner);
        [single.watch(), pool.watch()]
    });
    // The runtime ended before the tasks were ever polled.
    for watch in other.join().expect("no panic") {
        assert_eq!(within(watch).await.reason, StopReason::Aborted);
    }
}

#[tokio::test]
async fn a_restart_is_told_and_is_not_an_end() {
    let gate = Gate::opened();
    let fresh = gate.clone();
    let module = module(gate.module())
        .on_panic(PanicPolicy::restart(move || fresh.module()))
        .spawn();
    let mut watch = module.watch();
    let mut end = queued(watch.ended());
    let restart = queued({
        let mut watch = watch.clone();
        async move { watch.restarted().await }
    });

    let crashed = within(module.dispatcher().request("panic")).await;

    assert!(crashed.is_err());
    assert!(restart.is_woken());
    assert_eq!(within(restart).await, Some(1));
    assert_eq!(
        (watch.restarts(), within(watch.restarted()).await),
        (1, Some(1))
    );
    assert!(end.poll().is_pending());
    let none_left = queued(watch.restarted());
    within(module.shutdown(Stop::Drain)).await;
    assert!(none_left.is_woken());
    assert_eq!(within(none_left).await, None);
    assert_eq!(within(end).await.stats.restarts, 1);
}

#[tokio::test(start_paused = true)]
async fn a_restart_by_a_supervisor_is_told_as_well() {
    let gate = Gate::opened();
    let mut tree = Supervisor::new("tree", Strategy::OneForOne);
    let child = tree.child(Child::new(move || gate.module()));
    let _tree = tree.spawn();
    let mut watch = child.watch().expect("known");
    let restart = queued({
        let mut watch = watch.clone();
        async move { watch.restarted().await }
    });

    assert!(within(child.request("panic")).await.is_err());

    assert_eq!(watch.state(), ModuleState::Restarting);
    assert_eq!(within(restart).await, Some(1));
    assert_eq!(within(watch.restarted()).await, Some(1));
}

// --- as a message

#[tokio::test]
async fn a_death_notice_is_a_command_of_the_watching_module() {
    let gate = Gate::opened();
    let watching = spawn_module(gate.module());
    let watched = module(Runner).name("watched").spawn();
    let notice = watched.watch_into(&watching.dispatcher(), ended);
    assert_eq!(notice.outcome(), None);

    within(watched.shutdown(Stop::Drain)).await;

    gate.entered().await;
    assert_eq!(gate.log.lines(), ["ended: watched"]);
    assert_eq!(notice.outcome(), Some(Ok(())));
}

#[tokio::test]
async fn a_death_notice_of_a_module_that_has_ended_comes_at_once() {
    let gate = Gate::opened();
    let watching = spawn_module(gate.module());
    let watched = module(Runner).name("watched").spawn();
    let watch = watched.watch();
    within(watched.shutdown(Stop::Drain)).await;

    let notice = watch.send_into(&watching.dispatcher(), ended);

    assert_eq!(notice.outcome(), Some(Ok(())));
    gate.entered().await;
    assert_eq!(gate.log.lines(), ["ended: watched"]);
}

#[tokio::test]
async fn a_death_notice_that_finds_the_mailbox_full_is_dropped_and_counted() {
    let gate = Gate::closed();
    let watching = module(gate.module()).capacity(1).spawn();
    let watched = spawn_module(Runner);
    let notice = watched.watch_into(&watching.dispatcher(), ended);
    watching.dispatcher().try_command("held").expect("room");
    gate.entered().await;
    watching.dispatcher().try_command("waits").expect("room");

    within(watched.shutdown(Stop::Drain)).await;

    assert_eq!(notice.outcome(), Some(Err(SparkChannelError::Full)));
    assert_eq!(watching.stats().rejected, 1);
}

#[tokio::test]
async fn a_death_notice_keeps_no_watching_module_alive() {
    let watching = spawn_module(Gate::opened().module());
    let watched = spawn_module(Runner);
    let notice = watched.watch_into(&watching.dispatcher(), ended);

    within(watching.wait()).await;
    within(watched.shutdown(Stop::Drain)).await;

    assert_eq!(notice.outcome(), Some(Err(SparkChannelError::Closed)));
}

#[tokio::test]
async fn a_death_notice_is_called_off_when_dropped_and_stands_when_kept() {
    let gate = Gate::opened();
    let watching = spawn_module(gate.module());
    let watched = module(Runner).name("watched").spawn();
    let target = watching.dispatcher();
    drop(watched.watch_into(&target, |_| "called off".to_owned()));
    watched.watch_into(&target, |_| "stands".to_owned()).keep();

    within(watched.shutdown(Stop::Drain)).await;
    within(watching.shutdown(Stop::Drain)).await;

    assert_eq!(gate.log.lines(), ["stands", "stopped"]);
}

#[tokio::test]
async fn a_death_notice_that_panics_harms_nobody() {
    let gate = Gate::opened();
    let watching = spawn_module(gate.module());
    let watched = spawn_module(Runner);
    let target = watching.dispatcher();
    let broken = watched.watch_into(&target, |_| -> String { panic!("told to panic") });
    let other = watched.watch_into(&target, ended);

    let report = within(watched.shutdown(Stop::Drain)).await;

    assert_eq!(report.reason, DRAINED);
    assert_eq!((broken.outcome(), other.outcome()), (None, Some(Ok(()))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_module_that_blocks_its_thread_has_ended_for_its_watchers_when_it_is_given_up() {
    let (release, held) = std::sync::mpsc::sync_channel::<()>(1);
    let (entered, mut enters) = mpsc::channel(1);
    let module = spawn_module(Runner);
    let watch = module.watch();
    let blocking = job(async move {
        entered.send(()).await?;
        held.recv()?;
        Ok(0)
    });
    module.dispatcher().try_command(blocking).expect("room");
    within(enters.recv()).await.expect("sent");

    let report = within(module.shutdown_within(Stop::Now, std::time::Duration::ZERO)).await;

    assert_eq!(report.reason, StopReason::Unresponsive);
    assert_eq!(within(watch).await, report);
    release.send(()).expect("it waits");
}
