//! Supervision on several threads: restarts and stops amidst calls that come as they like.

use spark_channel::{Child, SparkGenericModuleDispatcher, Stop, Strategy, Supervisor};

use crate::{
    support::{Job, Runner, job, within},
    world::{at_once, module},
};

mod support;
#[path = "supervision/world.rs"]
mod world;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_beside_each_other_are_all_answered_while_everything_restarts() {
    type Runners = SparkGenericModuleDispatcher<Job, u64>;

    async fn call(to: [Runners; 2], caller: usize) -> [u64; 2] {
        let mut accepted = [0, 0];
        for round in 0..300 {
            let which = (caller + round) % 2;
            let work = if round % 29 == caller {
                job(async { panic!("told to panic") })
            } else if round % 3 == 0 {
                job(async {
                    tokio::task::yield_now().await;
                    Ok(1)
                })
            } else {
                job(async { Ok(2) })
            };
            // The answer may be a panic; that there is one is the point.
            let _ = within(to[which].request(work)).await;
            accepted[which] += 1;
        }
        accepted
    }

    let mut tree = at_once(Strategy::OneForAll).unlimited();
    let runners = ["a", "b"].map(|name| tree.child(Child::new(|| Runner).name(name)));
    let tree = tree.spawn();
    let callers: Vec<_> = (0..4)
        .map(|caller| tokio::spawn(call(runners.clone(), caller)))
        .collect();
    let mut accepted = [0, 0];
    for caller in callers {
        let its = within(caller).await.expect("no panic");
        accepted = [accepted[0] + its[0], accepted[1] + its[1]];
    }

    let report = within(tree.shutdown(Stop::Drain)).await;

    let accounted = [0, 1].map(|child| module(&report, child).stats.accounted());
    assert_eq!(accounted, accepted);
    assert!(report.restarts > 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_amidst_calls_and_restarts_loses_nobody() {
    async fn call(to: [SparkGenericModuleDispatcher<Job, u64>; 2]) -> u64 {
        let mut accepted = 0;
        for round in 0_usize.. {
            let work = job(async move {
                tokio::task::yield_now().await;
                assert!(round % 11 != 10, "told to panic");
                Ok(1)
            });
            let Ok(request) = to[round % 2].try_request(work) else {
                if to[round % 2].is_closed() {
                    break;
                }
                tokio::task::yield_now().await;
                continue;
            };
            accepted += 1;
            // The answer may be a panic; that there is one is the point.
            let _ = within(request).await;
        }
        accepted
    }

    for (round, strategy) in [
        Strategy::OneForAll,
        Strategy::OneForOne,
        Strategy::RestForOne,
    ]
    .into_iter()
    .cycle()
    .take(60)
    .enumerate()
    {
        let mut tree = at_once(strategy).unlimited();
        let first = tree.child(Child::pool(1 + round % 2, || Runner).capacity(4));
        let second = tree.child(Child::new(|| Runner).capacity(4));
        let tree = tree.spawn();
        let callers: Vec<_> = (0..3)
            .map(|_| tokio::spawn(call([first.clone(), second.clone()])))
            .collect();
        let mut watch = second.watch().expect("known");
        for _ in 0..round % 5 {
            within(watch.restarted()).await;
        }

        let stop = [Stop::Drain, Stop::AfterCurrent, Stop::Now][round % 3];
        let report = within(tree.shutdown(stop)).await;

        let mut accepted = 0;
        for caller in callers {
            accepted += within(caller).await.expect("no panic");
        }
        let accounted: u64 = report.modules().map(|m| m.stats.accounted()).sum();
        assert_eq!(accounted, accepted);
        assert!(!report.deadline_passed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_wait_for_their_restart_drain_all_they_have_between_them() {
    for _ in 0..200 {
        let mut tree = Supervisor::new("tree", Strategy::OneForAll).unlimited();
        let pool = tree.child(Child::pool(2, || Runner));
        let tree = tree.spawn();
        let crashed = within(pool.request(job(async { panic!("told to panic") }))).await;
        assert!(crashed.is_err());
        for _ in 0..20 {
            pool.try_command(job(async {
                tokio::task::yield_now().await;
                Ok(1)
            }))
            .expect("room");
        }

        let report = within(tree.shutdown(Stop::Drain)).await;

        let stats = module(&report, 0).stats;
        assert_eq!((stats.undelivered, stats.handled), (0, 20));
    }
}
