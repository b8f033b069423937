//! Systems: modules by name, without keeping them alive, and everything that belongs
//! together stopped as one.

use std::{sync::Arc, time::Duration};

use spark_channel::{
    Backoff, Child, ChildReport, LookupError, ModuleState, RegisterError,
    SparkChannelCancellationToken, SparkChannelError, SparkGenericModuleDispatcher, Stop,
    StopReason, Strategy, Supervisor, System, module, spawn_module, spawn_pool,
};
use tokio::{sync::mpsc, time::Instant};

use crate::support::{Gate, Job, Runner, job, queued, reason, within};

mod support;

const SECOND: Duration = Duration::from_secs(1);

type Named = SparkGenericModuleDispatcher<String, String>;

fn absent(name: &str) -> LookupError {
    LookupError::Absent { name: name.into() }
}

fn names(system: &System) -> Vec<String> {
    let modules = system.modules();
    modules.iter().map(|m| m.name.to_string()).collect()
}

// --- by name

#[tokio::test]
async fn a_registered_module_is_found_by_its_name_and_type() {
    let system = System::new("shop");
    let gate = Gate::opened();
    let by_handle = module(gate.module()).name("by handle").spawn();
    let by_dispatcher = module(gate.module()).name("by dispatcher").spawn();
    system.register(&by_handle).expect("free");
    let dispatcher = by_dispatcher.dispatcher();
    system.register(&dispatcher).expect("free");
    system
        .register_as("alias", dispatcher.downgrade())
        .expect("free");

    for name in ["by handle", "by dispatcher", "alias"] {
        let found: Named = system.lookup(name).expect("registered");
        assert_eq!(within(found.request("a")).await.expect("handled"), "a");
    }
    assert_eq!(names(&system), ["alias", "by dispatcher", "by handle"]);
}

#[tokio::test]
async fn the_list_has_what_each_module_tells_and_which_entries_are_one_module() {
    let system = System::new("shop");
    let gate = Gate::opened();
    let telling = module(gate.module())
        .name("telling")
        .message_names(|_| "text")
        .spawn();
    let silent = module(gate.module()).name("silent").spawn();
    system.register(&telling).expect("free");
    system.register_as("alias", &telling).expect("free");
    system.register(&silent).expect("free");
    within(telling.dispatcher().request("a"))
        .await
        .expect("handled");

    let modules = system.modules();
    let [alias, silent_entry, entry] = &modules[..] else {
        panic!("three entries: {modules:?}");
    };
    let text = entry.messages.as_ref().and_then(|all| all.named("text"));
    assert_eq!(text.expect("handled one").handling.count, 1);
    assert_eq!(silent_entry.messages, None);
    assert_eq!(alias.watch, entry.watch);
    assert_eq!(entry.watch, telling.watch());
    assert_ne!(silent_entry.watch, telling.watch());
}

#[tokio::test]
async fn a_name_of_another_type_is_told_from_a_name_that_is_absent() {
    let system = System::new("shop");
    let module = module(Runner).name("runner").spawn();
    system.register(&module).expect("free");

    assert!(system.lookup::<Job, u64>("runner").is_ok());
    let wrong = system
        .lookup::<String, String>("runner")
        .expect_err("wrong");
    let missing = system.lookup::<Job, u64>("walker").expect_err("missing");

    assert_eq!(missing, absent("walker"));
    let LookupError::TypeMismatch {
        expected, found, ..
    } = wrong
    else {
        panic!("{wrong}");
    };
    assert!(expected.contains("String") && found.contains("Job"));
    // The token and the error are part of the type.
    let other_error =
        system.lookup_as::<Job, u64, SparkChannelCancellationToken, SparkChannelError>("runner");
    assert!(matches!(other_error, Err(LookupError::TypeMismatch { .. })));
}

#[tokio::test]
async fn a_name_belongs_to_one_living_module() {
    let system = System::new("shop");
    let gate = Gate::opened();
    let first = module(gate.module()).name("a").spawn();
    let second = module(gate.module()).name("a").spawn();
    system.register(&first).expect("free");

    let name = "a".into();
    let taken = system.register(&second).expect_err("taken");
    assert_eq!(taken, RegisterError::Taken { name });
    within(first.shutdown(Stop::Drain)).await;

    system.register(&second).expect("free again");
    assert!(system.lookup::<String, String>("a").is_ok());
}

#[tokio::test]
async fn an_entry_keeps_no_module_alive_and_vanishes_with_it() {
    let system = System::new("shop");
    let module = module(Gate::opened().module()).name("a").spawn();
    system.register(&module).expect("free");

    let report = within(module.wait()).await;

    assert_eq!(report.reason, StopReason::NoDispatchers);
    assert!(system.modules().is_empty());
    assert_eq!(
        system.lookup::<String, String>("a").expect_err("gone"),
        absent("a")
    );
}

#[tokio::test]
async fn the_end_of_a_module_takes_no_later_entry_of_its_name_off() {
    let system = System::new("shop");
    let gate = Gate::opened();
    let first = module(gate.module()).name("a").spawn();
    let second = module(gate.module()).name("a").spawn();
    system.register(&first).expect("free");
    assert!(system.deregister("a") && !system.deregister("a"));
    system.register(&second).expect("free");

    within(first.shutdown(Stop::Drain)).await;

    assert_eq!(names(&system), ["a"]);
}

#[tokio::test]
async fn what_has_ended_or_cannot_be_seen_to_end_is_not_registered() {
    let system = System::new("shop");
    let module = module(Gate::opened().module()).name("a").spawn();
    let weak = module.downgrade();
    within(module.shutdown(Stop::Drain)).await;
    let (sender, _receiver) = mpsc::channel(1);
    let bare = Named::new(sender);

    assert_eq!(system.register(weak), Err(RegisterError::Ended));
    assert_eq!(system.register_as("b", &bare), Err(RegisterError::Unknown));
    assert!(system.modules().is_empty());
}

#[tokio::test]
async fn whoever_waits_for_a_name_gets_the_module_when_it_appears() {
    let system = System::new("shop");
    let waiting = queued({
        let system = system.clone();
        async move { system.appeared::<String, String>("late").await }
    });
    let other = module(Runner).name("other").spawn();
    system.register(&other).expect("free");

    let late = module(Gate::opened().module()).name("late").spawn();
    system.register(&late).expect("free");

    assert!(waiting.is_woken());
    let found = within(waiting).await.expect("of that type");
    assert_eq!(found.name(), Some("late"));
    let wrong = within(system.appeared::<Job, u64>("late")).await;
    assert!(matches!(wrong, Err(LookupError::TypeMismatch { .. })));
}

#[tokio::test]
async fn a_list_shows_what_the_modules_are_doing() {
    let system = System::new("shop");
    let gate = Gate::closed();
    let busy = module(gate.module()).name("busy").spawn();
    let idle = module(Runner).name("idle").spawn();
    system.register(&busy).expect("free");
    system.register(&idle).expect("free");
    busy.dispatcher().try_command("held").expect("room");
    gate.entered().await;
    busy.dispatcher().try_command("waits").expect("room");
    let answer = within(idle.dispatcher().request(job(async { Ok(1) }))).await;
    assert_eq!(answer.expect("handled"), 1);
    busy.stop(Stop::Drain);

    let modules = system.modules();

    let shown = |index: usize| (modules[index].state, modules[index].stats);
    assert_eq!(shown(0).0, ModuleState::Stopping);
    assert_eq!(shown(0).1.depth, 1);
    assert_eq!(shown(1).0, ModuleState::Running);
    assert_eq!(shown(1).1.handled, 1);
    assert!(modules[1].message_type.ends_with("Job"));
    gate.open();
    within(busy.wait()).await;
}

#[tokio::test]
async fn a_name_taken_off_leaves_nothing_behind_at_its_module_nor_does_a_system() {
    let module = module(Runner).name("a").spawn();
    let name: Arc<str> = "alias".into();
    for _ in 0..10 {
        let system = System::new("shop");
        for _ in 0..10 {
            system
                .register_as(Arc::clone(&name), &module)
                .expect("free");
            assert!(system.deregister("alias"));
        }
        system
            .register_as(Arc::clone(&name), &module)
            .expect("free");
        assert!(system.register_as(Arc::clone(&name), &module).is_err());
    }

    assert_eq!(Arc::strong_count(&name), 1);
    within(module.shutdown(Stop::Drain)).await;
}

#[tokio::test]
async fn a_module_that_has_just_ended_is_absent_whatever_its_type_is() {
    let system = System::new("shop");
    let recorder = spawn_module(Gate::opened().module());
    let ending = module(Runner).name("a").spawn();
    let (seen, look) = std::sync::mpsc::sync_channel(2);
    let in_notice = system.clone();
    // Before the entry vanishes, for its own notice comes after this one.
    let notice = ending.watch_into(&recorder.dispatcher(), move |_| {
        let _ = seen.send(in_notice.lookup::<Job, u64>("a").map(drop));
        let _ = seen.send(in_notice.lookup::<String, String>("a").map(drop));
        String::new()
    });
    system.register(&ending).expect("free");

    within(ending.shutdown(Stop::Drain)).await;

    assert_eq!(
        look.try_iter().collect::<Vec<_>>(),
        [Err(absent("a")), Err(absent("a"))]
    );
    assert_eq!(notice.outcome(), Some(Ok(())));
}

#[tokio::test]
async fn the_end_of_a_module_leaves_whoever_took_its_name_meanwhile() {
    let system = System::new("shop");
    let recorder = spawn_module(Gate::opened().module());
    let [first, second] = [(), ()].map(|()| module(Runner).name("a").spawn());
    let (in_notice, heir) = (system.clone(), second.downgrade());
    // Before the entry of the first vanishes, for its own notice comes after this one.
    let notice = first.watch_into(&recorder.dispatcher(), move |_| {
        in_notice.register(heir).expect("free again");
        String::new()
    });
    system.register(&first).expect("free");

    within(first.shutdown(Stop::Drain)).await;

    assert_eq!(notice.outcome(), Some(Ok(())));
    assert_eq!(names(&system), ["a"]);
    assert!(system.lookup::<Job, u64>("a").is_ok());
}

#[tokio::test]
async fn names_given_while_modules_end_lead_to_living_modules_only() {
    let system = System::new("shop");
    for _ in 0..200 {
        let first = module(Runner).name("a").spawn();
        let second = module(Runner).name("a").spawn();
        let weak = first.downgrade();
        let ends = tokio::spawn(first.shutdown(Stop::Now));
        while system.register(weak.clone()).is_ok() {
            system.deregister("a");
            tokio::task::yield_now().await;
        }
        system.register(&second).expect("free");
        within(ends).await.expect("no panic");

        let found = system.lookup::<Job, u64>("a").expect("registered");
        assert_eq!(
            within(found.request(job(async { Ok(3) })))
                .await
                .expect("handled"),
            3
        );
        within(second.shutdown(Stop::Drain)).await;
        assert!(system.modules().is_empty());
    }
}

#[tokio::test]
async fn systems_are_apart_and_clones_are_one() {
    let (here, there) = (System::new("here"), System::new("there"));
    let module = module(Runner).name("a").spawn();
    here.register(&module).expect("free");

    assert_eq!(names(&here.clone()), ["a"]);
    assert!(there.modules().is_empty());
    there.register(&module).expect("free there");
}

#[tokio::test(start_paused = true)]
async fn a_supervised_module_keeps_its_entry_across_restarts() {
    let system = System::new("shop");
    let gate = Gate::opened();
    let mut tree = Supervisor::new("tree", Strategy::OneForOne);
    let made = gate.clone();
    let child = tree.child(Child::new(move || made.module()).name("a"));
    system.register(&child).expect("free");
    system.supervise(tree).expect("open");
    let found: Named = system.lookup("a").expect("registered");
    assert!(within(found.request("panic")).await.is_err());

    let state = system.modules()[0].state;

    assert_eq!(state, ModuleState::Restarting);
    assert_eq!(within(found.request("a")).await.expect("handled"), "a");
    assert_eq!(system.modules()[0].stats.restarts, 1);
    let trees = system.trees();
    assert_eq!((&*trees[0].name, trees[0].restarts), ("tree", 1));
    within(system.shutdown(Stop::Drain, SECOND)).await;
    assert!(system.modules().is_empty());
}

// --- as one

fn tree(name: &'static str, gate: &Gate) -> (Supervisor, Named) {
    let gate = gate.clone();
    let mut tree = Supervisor::new(name, Strategy::OneForOne).backoff(Backoff::none());
    let child = tree.child(Child::new(move || gate.module()).name(format!("of {name}")));
    (tree, child)
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_stops_the_last_first_and_reports_on_all() {
    let system = System::new("shop");
    let gate = Gate::opened();
    let (first, in_first) = tree("first", &gate);
    system.supervise(first).expect("open");
    let second = module(gate.module()).name("second").spawn();
    let in_second = second.dispatcher();
    system.adopt(second).expect("open");
    let (third, in_third) = tree("third", &gate);
    system.supervise(third).expect("open");
    let ends = [&in_first, &in_second, &in_third].map(|d| d.watch().expect("known"));
    let order = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let recorder = spawn_module(gate.module());
    for end in &ends {
        let order = std::sync::Arc::clone(&order);
        let record = move |report: &spark_channel::Report| {
            let mut order = order.lock().expect("no panic under it");
            order.push(report.module.to_string());
            String::new()
        };
        end.send_into(&recorder.dispatcher(), record).keep();
    }
    for dispatcher in [in_first, in_second, in_third] {
        assert!(within(dispatcher.request("a")).await.is_ok());
    }

    let report = within(system.shutdown(Stop::Drain, SECOND)).await;

    let order = order.lock().expect("no panic under it").clone();
    assert_eq!(order, ["of third", "second", "of first"]);
    let names: Vec<_> = report.trees.iter().map(ChildReport::name).collect();
    assert_eq!(names, ["first", "second", "third"]);
    let modules: Vec<_> = report.modules().map(|module| &*module.module).collect();
    assert_eq!(modules, ["of first", "second", "of third"]);
    assert_eq!((&*report.system, report.deadline_passed), ("shop", false));
}

#[tokio::test(start_paused = true)]
async fn one_deadline_bounds_the_shutdown_of_all() {
    let system = System::new("shop");
    let gate = Gate::closed();
    for name in ["first", "second"] {
        let (tree, child) = tree(name, &gate);
        system.supervise(tree).expect("open");
        child.try_command("held").expect("room");
        gate.entered().await;
    }
    let third = spawn_module(gate.module());
    third.dispatcher().try_command("held").expect("room");
    gate.entered().await;
    system.adopt(third).expect("open");
    let before = Instant::now();

    let report = within(system.shutdown(Stop::Drain, 3 * SECOND)).await;

    assert_eq!(before.elapsed().as_secs(), 3);
    assert!(report.deadline_passed);
    assert!(report.trees.iter().all(ChildReport::deadline_passed));
}

#[tokio::test(start_paused = true)]
async fn a_system_that_shuts_down_gives_back_what_it_is_to_own() {
    let system = System::new("shop");
    within(system.shutdown(Stop::Drain, SECOND)).await;
    let (late, child) = tree("late", &Gate::opened());

    let refused = system.supervise(late).expect_err("closed").into_inner();
    let pool = spawn_pool(2, || Runner);
    let given_back = system.adopt(pool).expect_err("closed").into_inner();

    let late = refused.spawn();
    assert!(within(child.request("a")).await.is_ok());
    within(late.shutdown(Stop::Drain)).await;
    within(given_back.shutdown(Stop::Drain)).await;
}

#[tokio::test(start_paused = true)]
async fn a_second_shutdown_waits_for_the_first_and_has_nothing_to_report() {
    let system = System::new("shop");
    let gate = Gate::closed();
    let (tree, child) = tree("tree", &gate);
    system.supervise(tree).expect("open");
    child.try_command("held").expect("room");
    gate.entered().await;
    let first = queued({
        let system = system.clone();
        async move { system.shutdown(Stop::Drain, SECOND).await }
    });
    let mut second = queued(system.shutdown(Stop::Drain, SECOND));
    tokio::task::yield_now().await;
    assert!(second.poll().is_pending());

    gate.open();

    assert_eq!(within(first).await.trees.len(), 1);
    assert_eq!(within(second).await.trees.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_that_is_dropped_still_stops_everything() {
    let system = System::new("shop");
    let gate = Gate::closed();
    let module = spawn_module(gate.module());
    let watches = {
        let (tree, child) = tree("tree", &gate);
        let watches = [module.watch(), child.watch().expect("known")];
        system.adopt(module).expect("open");
        system.supervise(tree).expect("open");
        child.try_command("held").expect("room");
        watches
    };
    gate.entered().await;

    drop(queued(system.shutdown(Stop::AfterCurrent, SECOND)));
    gate.open();

    for watch in watches {
        let report = within(watch).await;
        assert_eq!(report.reason, StopReason::Requested(Stop::AfterCurrent));
    }
}

#[tokio::test(start_paused = true)]
async fn a_system_that_is_dropped_stops_what_it_owns() {
    let system = System::new("shop");
    let gate = Gate::opened();
    let single = spawn_module(gate.module());
    let (tree, child) = tree("tree", &gate);
    let dispatcher = single.dispatcher();
    system.adopt(single).expect("open");
    system.supervise(tree).expect("open");
    let last = system.clone();
    drop(system);
    for module in [&dispatcher, &child] {
        assert!(within(module.request("a")).await.is_ok());
    }

    drop(last);

    for module in [dispatcher, child] {
        let report = within(module.watch().expect("known")).await;
        assert_eq!(report.reason, StopReason::Requested(Stop::Drain));
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_shutdown_hastens_the_first() {
    let system = System::new("shop");
    let gate = Gate::closed();
    let (first, in_first) = tree("first", &gate);
    system.supervise(first).expect("open");
    let second = spawn_module(gate.module());
    let in_second = second.dispatcher();
    system.adopt(second).expect("open");
    for module in [&in_first, &in_second] {
        module.try_command("held").expect("room");
        gate.entered().await;
    }
    let patient = queued({
        let system = system.clone();
        async move { system.shutdown(Stop::Drain, 100 * SECOND).await }
    });
    let before = Instant::now();

    let nothing = within(system.shutdown(Stop::Now, SECOND));
    let (report, nothing) = tokio::join!(within(patient), nothing);

    assert!(before.elapsed() < SECOND);
    assert_eq!((report.trees.len(), nothing.trees.len()), (2, 0));
    let interrupted = report.trees.iter().map(|tree| match tree {
        ChildReport::Module(report) => report.stats.interrupted,
        ChildReport::Supervisor(tree) => tree.modules().map(|m| m.stats.interrupted).sum(),
    });
    assert_eq!(interrupted.collect::<Vec<_>>(), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_second_shutdown_waits_for_what_a_dropped_one_left() {
    let system = System::new("shop");
    let gate = Gate::closed();
    for name in ["first", "second"] {
        let (tree, child) = tree(name, &gate);
        system.supervise(tree).expect("open");
        child.try_command("held").expect("room");
        gate.entered().await;
    }
    drop(queued(system.shutdown(Stop::Drain, 100 * SECOND)));

    let mut second = queued(system.shutdown(Stop::Drain, 100 * SECOND));

    tokio::time::sleep(SECOND).await;
    assert!(second.poll().is_pending());
    gate.open();
    let names: Vec<_> = within(second)
        .await
        .trees
        .iter()
        .map(|t| t.name().to_owned())
        .collect();
    assert_eq!(names, ["first", "second"]);
}

#[tokio::test]
async fn a_lookup_of_a_module_that_stops_finds_it_closed() {
    let system = System::new("shop");
    let gate = Gate::closed();
    let module = module(gate.module()).name("a").spawn();
    system.register(&module).expect("free");
    module.dispatcher().try_command("held").expect("room");
    gate.entered().await;
    module.stop(Stop::Drain);

    let found: Named = system.lookup("a").expect("it has not ended");

    let late = within(found.request("late")).await;
    assert_eq!(reason(late), SparkChannelError::ShuttingDown);
    gate.open();
    within(module.wait()).await;
}
