//! Deadlock is an error: the request that closes a circle of waiting modules fails with
//! the path, and what only looks like one is left alone.

mod support;

use std::{pin::pin, sync::Arc, time::Duration};

use spark_channel::{
    Deadlocks, ModuleBuilder, ModuleHandle, Reply, SparkChannelError, SparkGenericModuleDispatcher,
    Stage, Stop, module, pool,
};
use support::{Gate, Job, Runner, job, queued, reason, within};
use tokio::{sync::Barrier, task::yield_now};

type Dispatcher = SparkGenericModuleDispatcher<Job, u64>;

fn named(name: &'static str) -> ModuleBuilder<Runner> {
    module(Runner).name(name)
}

/// Asks each in turn, from inside of the one before; the last answers 7.
fn ask_through(mut path: Vec<Dispatcher>) -> Job {
    if path.is_empty() {
        return job(async { Ok(7) });
    }
    let next = path.remove(0);
    job(async move { next.request(ask_through(path)).await })
}

#[track_caller]
fn path_of(error: SparkChannelError) -> String {
    let SparkChannelError::WouldDeadlock { path } = error else {
        panic!("not a deadlock: {error}");
    };
    path.join(" ")
}

async fn stopped(module: ModuleHandle<Job, u64>) {
    let report = within(module.shutdown(Stop::Drain)).await;
    let stats = report.stats;
    assert_eq!((stats.accounted(), stats.interrupted), (stats.handled, 0));
}

#[tokio::test]
async fn a_module_that_asks_itself_gets_the_path() {
    let a = named("a").spawn();
    let path = vec![a.dispatcher(), a.dispatcher()];

    let error = reason(within(path[0].request(ask_through(path[1..].to_vec()))).await);

    assert!(error.never_started());
    assert_eq!(path_of(error), "a a");
    drop(path);
    stopped(a).await;
}

#[tokio::test]
async fn circles_of_two_and_three_get_the_path_directly_called_or_not() {
    for direct in [true, false] {
        let build = |name| {
            let builder = named(name);
            if direct {
                builder
            } else {
                builder.without_direct_calls()
            }
        };
        let (a, b, c) = (build("a").spawn(), build("b").spawn(), build("c").spawn());
        yield_now().await;
        let [da, db, dc] = [&a, &b, &c].map(ModuleHandle::dispatcher);

        let two = within(da.request(ask_through(vec![db.clone(), da.clone()]))).await;
        let three = within(da.request(ask_through(vec![db.clone(), dc.clone(), da.clone()]))).await;

        assert_eq!(path_of(reason(two)), "b a b");
        assert_eq!(path_of(reason(three)), "c a b c");
        assert_eq!(
            within(da.request(ask_through(vec![db, dc])))
                .await
                .expect("no circle"),
            7
        );
        for module in [a, b, c] {
            stopped(module).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_commands_that_waits_for_room_closes_a_circle_as_one_command_does() {
    let (a, b) = (named("a").spawn(), named("b").capacity(1).spawn());
    let (to_a, to_b, gate) = (a.dispatcher(), b.dispatcher(), Gate::closed());
    let (held, full) = (gate.clone(), to_b.clone());
    let asked = queued(to_a.request(job(async move {
        held.wait().await?;
        let nothing = || job(async { Ok(0) });
        let sent = full.command_all((0..9).map(|_| nothing())).await;
        let refused = sent.expect_err("b waits for a");
        assert_eq!(refused.accepted + refused.messages.len(), 9);
        Err(refused.reason.into())
    })));
    gate.entered().await;
    let back = to_a.clone();
    let asking = queued(to_b.request(job(async move { back.request(job(async { Ok(2) })).await })));
    yield_now().await;
    gate.open();

    assert_eq!(path_of(reason(within(asked).await)), "a b a");
    assert_eq!(within(asking).await.expect("a goes on"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_racing_circles_at_least_one_request_fails_and_none_hangs() {
    const ROUNDS: usize = 200;
    let (a, b) = (named("a").spawn(), named("b").spawn());
    for _ in 0..ROUNDS {
        let both_run = Arc::new(Barrier::new(2));
        let ask = |here: Dispatcher, there: Dispatcher| {
            let both_run = Arc::clone(&both_run);
            tokio::spawn(async move {
                here.request(job(async move {
                    both_run.wait().await;
                    there.request(job(async { Ok(7) })).await
                }))
                .await
            })
        };
        let first = ask(a.dispatcher(), b.dispatcher());
        let second = ask(b.dispatcher(), a.dispatcher());

        let answers =
            [within(first).await, within(second).await].map(|answer| answer.expect("no panic"));

        let failed = answers.into_iter().filter_map(Result::err);
        let paths: Vec<_> = failed
            .map(|report| path_of(report.downcast().expect("the channel's")))
            .collect();
        assert!(!paths.is_empty());
        assert!(
            paths.iter().all(|path| path == "a b a" || path == "b a b"),
            "{paths:?}"
        );
    }
    stopped(a).await;
    stopped(b).await;
}

#[tokio::test]
async fn asking_one_module_twice_at_once_and_diamonds_are_no_circles() {
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| named(name).spawn());
    let [da, db, dc, dd] = [&a, &b, &c, &d].map(ModuleHandle::dispatcher);

    let twice = db.clone();
    let twice = job(async move {
        let (one, two) = tokio::join!(
            twice.request(ask_through(vec![])),
            twice.request(ask_through(vec![]))
        );
        Ok(one? + two?)
    });
    let diamond = job(async move {
        let (one, two) = tokio::join!(
            db.request(ask_through(vec![dd.clone()])),
            dc.request(ask_through(vec![dd.clone()]))
        );
        Ok(one? + two?)
    });

    assert_eq!(within(da.request(twice)).await.expect("answered"), 14);
    assert_eq!(within(da.request(diamond)).await.expect("answered"), 14);
    for module in [a, b, c, d] {
        stopped(module).await;
    }
}

#[tokio::test]
async fn a_wait_ends_with_its_reply_and_not_when_the_caller_looks() {
    a_wait_ends_with_its_reply(named("b").without_direct_calls().spawn()).await;
}

#[tokio::test]
async fn a_wait_for_a_handler_that_runs_on_ends_with_its_reply_too() {
    let b = named("b").spawn();
    yield_now().await;
    a_wait_ends_with_its_reply(b).await;
}

async fn a_wait_ends_with_its_reply(b: ModuleHandle<Job, u64>) {
    let a = named("a").spawn();
    let (da, db) = (a.dispatcher(), b.dispatcher());
    let gate = Gate::closed();
    let seen = gate.module();
    let held = module(seen).name("held").spawn();
    let looking = held.dispatcher();

    // `a` is answered by `b`, and then looks elsewhere before it takes the answer.
    let b_in_a = db.clone();
    let asking = queued(da.request(job(async move {
        let mut answer = tokio_test::task::spawn(b_in_a.request(job(async {
            yield_now().await;
            Ok(7)
        })));
        assert!(answer.poll().is_pending(), "not answered yet");
        looking.request("looking").await?;
        answer.await
    })));
    gate.entered().await;
    // Behind it, `b` asks `a`: no circle, since nobody waits for `b` any more.
    within(db.request(job(async { Ok(0) })))
        .await
        .expect("answered");
    let behind = queued(db.request(ask_through(vec![da.clone()])));
    gate.open();

    assert_eq!(within(asking).await.expect("answered"), 7);
    assert_eq!(within(behind).await.expect("answered"), 7);
    stopped(a).await;
    stopped(b).await;
    within(held.shutdown(Stop::Drain)).await;
}

#[tokio::test]
async fn a_request_that_is_dropped_is_waited_for_no_more() {
    let (a, b) = (named("a").spawn(), named("b").spawn());
    let (da, db) = (a.dispatcher(), b.dispatcher());
    let gate = Gate::closed();
    let held = module(gate.module()).name("held").spawn();
    let (in_b, in_a) = (held.dispatcher(), held.dispatcher());

    let busy = queued(db.request(job(async move {
        in_b.request("b is busy").await?;
        Ok(1)
    })));
    gate.entered().await;
    let b_in_a = db.clone();
    let asking = queued(da.request(job(async move {
        drop(queued(b_in_a.request(ask_through(vec![]))));
        in_a.request("a goes on").await?;
        Ok(2)
    })));
    yield_now().await;
    let behind = queued(db.request(ask_through(vec![da.clone()])));
    gate.open();

    assert_eq!(within(busy).await.expect("answered"), 1);
    assert_eq!(within(asking).await.expect("answered"), 2);
    assert_eq!(within(behind).await.expect("no circle"), 7);
    stopped(a).await;
    let report = within(b.shutdown(Stop::Drain)).await;
    assert_eq!(report.stats.abandoned, 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_has_timed_out_is_waited_for_no_more_also_if_it_is_kept() {
    let (a, b) = (named("a").spawn(), named("b").spawn());
    let (da, db) = (a.dispatcher(), b.dispatcher());
    let (in_a, in_b) = (Gate::closed(), Gate::closed());

    let (held, back) = (in_b.clone(), da.clone());
    let busy = queued(db.request(job(async move {
        held.wait().await?;
        back.request(job(async { Ok(1) })).await
    })));
    in_b.entered().await;
    let (held, to_b) = (in_a.clone(), db.clone());
    let asking = tokio::spawn(async move {
        let keeps = job(async move {
            let late = to_b.request(job(async { Ok(0) }));
            let mut late = pin!(late.timeout(Duration::from_secs(1)));
            assert!(late.as_mut().await.is_err());
            held.wait().await?;
            Ok(2)
        });
        da.request(keeps).await
    });
    in_a.entered().await;
    in_b.open();
    // `b` asks `a` meanwhile.
    yield_now().await;
    in_a.open();

    let asked = within(asking).await.expect("no panic");
    assert_eq!(asked.expect("answered"), 2);
    assert_eq!(within(busy).await.expect("no circle"), 1);
}

#[tokio::test]
async fn waiting_for_room_for_many_is_waiting_too() {
    let a = named("a").capacity(1).spawn();
    let b = named("b").spawn();
    let (da, db) = (a.dispatcher(), b.dispatcher());
    let quiet = || job(async { Ok(0) });

    let a_in_b = da.clone();
    let in_b = job(async move {
        let refused = a_in_b.command_all([quiet(), quiet(), quiet()]).await;
        let refused = refused.expect_err("no room");
        assert_eq!((refused.accepted, refused.messages.len()), (1, 2));
        Err(refused.reason.into())
    });
    let asking = da.request(job(async move { db.request(in_b).await }));

    assert_eq!(path_of(reason(within(asking).await)), "b a b");
    stopped(a).await;
    stopped(b).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn of_three_requests_that_race_round_a_circle_at_least_one_fails() {
    let [a, b, c] = ["a", "b", "c"].map(|name| named(name).spawn());
    for _ in 0..200 {
        let all_run = Arc::new(Barrier::new(3));
        let ask = |here: Dispatcher, there: Dispatcher| {
            let all_run = Arc::clone(&all_run);
            tokio::spawn(async move {
                let asks = job(async move {
                    all_run.wait().await;
                    there.request(job(async { Ok(7) })).await
                });
                here.request(asks).await
            })
        };
        let [da, db, dc] = [&a, &b, &c].map(ModuleHandle::dispatcher);
        let asked = [
            ask(da.clone(), db.clone()),
            ask(db, dc.clone()),
            ask(dc, da),
        ];

        let mut failed = 0;
        for asked in asked {
            failed += usize::from(within(asked).await.expect("no panic").is_err());
        }
        assert!(failed > 0);
    }
    for module in [a, b, c] {
        stopped(module).await;
    }
}

#[tokio::test]
async fn waiting_for_room_is_waiting_too() {
    let a = named("a").capacity(1).spawn();
    let b = named("b").capacity(1).spawn();
    let (da, db) = (a.dispatcher(), b.dispatcher());
    let quiet = || job(async { Ok(0) });

    let (a_in_b, b_in_a) = (da.clone(), db.clone());
    let asking = da.request(job(async move {
        b_in_a
            .request(job(async move {
                // Takes the one place in the mailbox of `a`, whose handler waits for this one.
                a_in_b
                    .try_command(quiet())
                    .map_err(|refused| refused.reason)?;
                match a_in_b.command(quiet()).await {
                    Ok(()) => Ok(0),
                    Err(refused) => Err(refused.reason.into()),
                }
            }))
            .await
    }));

    assert_eq!(path_of(reason(within(asking).await)), "b a b");
    stopped(a).await;
    stopped(b).await;
}

#[tokio::test(start_paused = true)]
async fn a_module_that_is_only_warned_or_not_told_waits_until_its_deadline() {
    for mode in [Deadlocks::Warn, Deadlocks::Off] {
        let a = named("a").deadlocks(mode).spawn();
        let b = named("b").deadlocks(mode).spawn();
        let (da, db) = (a.dispatcher(), b.dispatcher());

        let asking = da
            .request(ask_through(vec![db, da.clone()]))
            .timeout(Duration::from_secs(5));
        let error = reason(within(asking).await);

        assert!(matches!(
            error,
            SparkChannelError::TimedOut {
                stage: Stage::Running | Stage::Queued
            }
        ));
        within(a.shutdown(Stop::Drain)).await;
        within(b.shutdown(Stop::Drain)).await;
    }
}

#[tokio::test]
async fn a_pool_is_asked_by_its_own_replica_and_another_one_answers() {
    let workers = pool(2, || Runner).name("workers").spawn();
    let path = [workers.dispatcher(), workers.dispatcher()];

    let answer = within(path[0].request(ask_through(path[1..].to_vec()))).await;

    assert_eq!(answer.expect("the other one"), 7);
}

#[tokio::test]
async fn asking_with_a_reply_a_module_that_waits_for_the_asker_gets_the_path() {
    let (a, b) = (named("a").spawn(), named("b").spawn());
    let (da, db) = (a.dispatcher(), b.dispatcher());

    let back = db.clone();
    let in_a = job(async move {
        let answer = |_: Reply<u64>| -> Job { unreachable!("it is not sent") };
        back.ask_with(answer).await
    });
    let asked = within(db.request(job(async move { da.request(in_a).await }))).await;

    assert_eq!(path_of(reason(asked)), "a b a");
    drop(db);
    stopped(a).await;
    stopped(b).await;
}

#[tokio::test]
async fn a_module_may_ask_one_that_waits_for_a_reply_it_gives_elsewhere() {
    let (a, b) = (named("a").spawn(), named("b").spawn());
    let (da, db) = (a.dispatcher(), b.dispatcher());
    let (keep, kept) = tokio::sync::oneshot::channel::<Reply<u64>>();

    let to_b = db.clone();
    let in_a = job(async move {
        let keeps = |reply| job(async { Ok(u64::from(keep.send(reply).is_ok())) });
        to_b.ask_with(keeps).await
    });
    let mut a_waits = queued(da.request(in_a));
    let reply = within(kept).await.expect("b keeps it");
    let back = da.clone();
    let mut b_waits =
        queued(db.request(job(async move { back.request(job(async { Ok(2) })).await })));
    yield_now().await;
    assert!(a_waits.poll().is_pending() && b_waits.poll().is_pending());

    reply.send(Ok(1)).expect("it waits");
    assert_eq!(within(a_waits).await.expect("answered"), 1);
    assert_eq!(within(b_waits).await.expect("answered"), 2);
}
