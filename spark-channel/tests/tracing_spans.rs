//! Spans: a request belongs to whoever made it, across modules.

use std::{sync::Arc, time::Duration};

use spark_channel::{Access, Deadlocks, ModuleTasks, Reply, Stop, module};
use tokio::task::yield_now;
use tracing::{Instrument, Level};

use crate::{
    recording::Recorder,
    support::{Gate, Runner, job, queued, within},
};

#[path = "support/reading.rs"]
mod reading;
#[path = "support/recording.rs"]
mod recording;
mod support;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_request_is_a_child_of_the_callers_span_across_modules() {
    let recorder = Recorder::new(Level::DEBUG);
    let _recording = tracing::subscriber::set_default(recorder.clone());
    let first = module(Runner).name("first").spawn();
    let second = module(Runner).name("second").spawn();
    let (to_first, to_second) = (first.dispatcher(), second.dispatcher());

    let asked = async {
        let nested = job(async move {
            let inner = job(async {
                tracing::info!("innermost");
                Ok(1)
            });
            to_second.request(inner).await
        });
        within(to_first.request(nested)).await
    };
    let asked = asked.instrument(tracing::info_span!("caller")).await;

    assert_eq!(asked.expect("handled"), 1);
    let paths = recorder.paths();
    let of_caller: Vec<_> = paths
        .iter()
        .filter(|path| path.contains("caller"))
        .collect();
    let expected = [
        "caller",
        "caller > request(first)",
        "caller > request(first) > request(second)",
    ];
    assert_eq!(of_caller, expected);
    let innermost = "caller > request(first) > request(second) | INFO: innermost";
    assert_eq!(recorder.events(), [innermost]);
}

#[tokio::test]
async fn a_read_that_goes_on_beside_others_keeps_its_span() {
    let recorder = Recorder::new(Level::DEBUG);
    let _recording = tracing::subscriber::set_default(recorder.clone());
    let module = reading::subject().spawn();
    yield_now().await;
    let dispatcher = module.dispatcher();
    let read = |number: u32| {
        reading::doing(Access::Read, async move {
            yield_now().await;
            tracing::info!("read {number}");
            Ok(String::new())
        })
    };
    let [first, second] = [1, 2].map(|number| {
        let caller = tracing::info_span!("caller", name = number);
        within(dispatcher.request(read(number))).instrument(caller)
    });
    let (first, second) = tokio::join!(first, second);
    assert!(first.and(second).is_ok());
    let expected = [1, 2].map(|n| format!("caller({n}) > request(subject) | INFO: read {n}"));
    assert_eq!(recorder.events(), expected);
    assert!(recorder.entered().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_circle_that_is_only_warned_of_is_warned_of_once() {
    let recorder = Recorder::new(Level::WARN);
    let _recording = tracing::subscriber::set_default(recorder.clone());
    let module = module(Runner).name("a").deadlocks(Deadlocks::Warn).spawn();
    let (dispatcher, own) = (module.dispatcher(), module.dispatcher());

    let asking = job(async move { own.request(job(async { Ok(1) })).await });
    let asked = within(dispatcher.request(asking).timeout(SECOND)).await;

    assert!(asked.is_err());
    let warning = " | WARN: request would deadlock: a → a(a)";
    assert_eq!(recorder.events(), [warning]);
}

#[tokio::test(start_paused = true)]
async fn a_circle_that_closes_later_is_warned_of_as_well() {
    let recorder = Recorder::new(Level::WARN);
    let _recording = tracing::subscriber::set_default(recorder.clone());
    let module = reading::subject().deadlocks(Deadlocks::Warn).spawn();
    let dispatcher = module.dispatcher();
    let (own, gate) = (module.dispatcher(), Gate::opened());
    let nested = gate.clone();
    let asking = reading::doing(Access::Read, async move {
        own.request(reading::read(&nested, "nested")).await
    });

    // The module has not seen the write when the read asks.
    let asked = queued(dispatcher.request(asking).timeout(SECOND));
    let write = queued(dispatcher.request(reading::write(&gate, "write")));
    for _ in 0..3 {
        let read = queued(dispatcher.request(reading::read(&gate, "behind")));
        reading::settle().await;
        drop(read);
    }

    assert!(within(asked).await.is_err());
    within(write).await.expect("the read has given up");
    let warning = " | WARN: request would deadlock: subject → subject(subject)";
    assert_eq!(recorder.events(), [warning]);
}

#[tokio::test]
async fn what_a_module_does_outside_of_a_request_is_in_the_modules_span() {
    let recorder = Recorder::new(Level::INFO);
    let _recording = tracing::subscriber::set_default(recorder.clone());
    let module = module(Runner).name("owner").spawn();
    let dispatcher = module.dispatcher();
    let command = job(async {
        tracing::info!("told");
        Ok(0)
    });

    assert!(dispatcher.try_command(command).is_ok());
    within(module.shutdown(Stop::Drain)).await;

    assert_eq!(recorder.events(), ["module(owner) | INFO: told"]);
}

#[tokio::test]
async fn a_module_does_not_belong_to_the_span_it_is_started_in() {
    let recorder = Recorder::new(Level::INFO);
    let _recording = tracing::subscriber::set_default(recorder.clone());

    let starting = tracing::info_span!("starting");
    let module = starting.in_scope(|| module(Runner).name("owner").spawn());
    within(module.shutdown(Stop::Drain)).await;

    assert_eq!(recorder.paths(), ["starting", "module(owner)"]);
}

#[tokio::test]
async fn failed_commands_and_panics_are_traced_with_the_name_of_their_module() {
    let recorder = Recorder::new(Level::WARN);
    let _recording = tracing::subscriber::set_default(recorder.clone());
    let module = module(Runner).name("sick").spawn();
    let dispatcher = module.dispatcher();

    let failing = dispatcher.try_command(job(async { Err(eyre::eyre!("told to fail")) }));
    let panicking = dispatcher.try_command(job(async { panic!("told to panic") }));
    within(module.shutdown(Stop::Drain)).await;

    assert!(failing.is_ok() && panicking.is_ok());
    let mut events = recorder.events().into_iter();
    let has = |event: Option<String>, level: &str| {
        let event = event.expect("an event");
        event.contains("sick") && event.contains(level)
    };
    assert!(has(events.next(), "WARN"));
    assert!(has(events.next(), "ERROR"));
    assert_eq!(events.next(), None);
}

#[tokio::test]
async fn no_span_is_left_entered_by_a_panic_or_a_stop() {
    let recorder = Recorder::new(Level::DEBUG);
    let _recording = tracing::subscriber::set_default(recorder.clone());
    let module = module(Runner).name("sick").spawn();
    let dispatcher = module.dispatcher();

    let crashed = within(dispatcher.request(job(async { panic!("told to panic") }))).await;
    let pending = dispatcher.try_request(job(std::future::pending()));
    within(module.shutdown(Stop::Now)).await;

    assert!(crashed.is_err() && pending.is_ok());
    assert_eq!(recorder.entered(), None);
}

#[tokio::test]
async fn a_deferred_call_keeps_its_span_where_it_is_worked_on_and_where_it_is_forwarded_to() {
    let recorder = Recorder::new(Level::DEBUG);
    let _recording = tracing::subscriber::set_default(recorder.clone());
    let first = module(Runner).name("first").spawn();
    let second = module(Runner).name("second").spawn();
    let (to_first, to_second) = (first.dispatcher(), second.dispatcher());

    let asked = async {
        let works = |reply: Reply<u64>| {
            let work = async {
                tracing::info!("worked on");
                eyre::Ok(1)
            };
            job(async {
                reply.answer_with(work).await;
                Ok(0)
            })
        };
        let forwards = |reply: Reply<u64>| {
            let there = job(async {
                tracing::info!("forwarded");
                Ok(2)
            });
            job(async move {
                reply.forward_to(&to_second, there).await;
                Ok(0)
            })
        };
        let one = within(to_first.ask_with(works)).await;
        (one, within(to_first.ask_with(forwards)).await)
    };
    let (one, two) = asked.instrument(tracing::info_span!("caller")).await;

    assert_eq!((one.expect("answered"), two.expect("answered")), (1, 2));
    let expected = [
        "caller > request(first) | INFO: worked on",
        "caller > request(first) | INFO: forwarded",
    ];
    assert_eq!(recorder.events(), expected);
}

#[tokio::test]
async fn a_panic_of_a_background_task_is_traced_with_the_name_of_its_module() {
    let recorder = Recorder::new(Level::ERROR);
    let _recording = tracing::subscriber::set_default(recorder.clone());
    let owner = module(Runner).name("owner").spawn();
    let tasks = Arc::new(ModuleTasks::at_most(std::num::NonZeroUsize::MIN));
    let spawner = Arc::clone(&tasks);

    let spawning = job(async move {
        let panics = async { panic!("in the background") };
        Ok(u64::from(spawner.spawn(panics).is_ok()))
    });
    let spawned = within(owner.dispatcher().request(spawning)).await;
    tokio::task::yield_now().await;

    assert_eq!((spawned.expect("handled"), tasks.stats().panicked), (1, 1));
    assert_eq!(
        recorder.events(),
        [" | ERROR: background task panicked(owner)"]
    );
}
