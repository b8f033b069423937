//! Direct calls and runtimes: a handler belongs to that of its module, wherever its caller is
//! polled, and ends with it.

mod support;

use std::{future::pending, sync::mpsc};

use spark_channel::{SparkChannelError, spawn_module};
use support::{Log, Runner, job, reason, within};
use tokio::{
    runtime::{self, Handle, Runtime},
    task::block_in_place,
};
use tokio_test::task;

/// Writes down that it is dropped.
struct Dropped(Log);

fn another_runtime() -> Runtime {
    let mut builder = runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_blocks_on_another_runtime_calls_nobody_directly_there() {
    let module = spawn_module(Runner);
    let dispatcher = module.dispatcher();
    let here = Handle::current().id();
    let looks = move || job(async move { Ok(u64::from(Handle::current().id() == here)) });

    let asking = tokio::spawn(async move {
        let mut at_home = 0;
        for _ in 0..20 {
            at_home += dispatcher.request(looks()).await?;
            at_home += block_in_place(|| {
                another_runtime().block_on(async { within(dispatcher.request(looks())).await })
            })?;
        }
        eyre::Ok(at_home)
    });

    let at_home = within(asking).await.expect("no panic");
    assert_eq!(at_home.expect("answered"), 40);
}

#[test]
fn a_handler_that_runs_on_is_dropped_with_its_runtime_and_its_caller_learns_it() {
    for _ in 0..50 {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .expect("a runtime");
        let module = runtime.block_on(async {
            let module = spawn_module(Runner);
            let asked = module.dispatcher().request(job(async { Ok(1) })).await;
            asked.expect("answered");
            module
        });
        let (dispatcher, entered) = (module.dispatcher(), runtime.handle().clone());
        let log = Log::default();
        let dropped = Dropped(log.clone());
        let (begun, has_begun) = mpsc::sync_channel(1);

        let caller = std::thread::spawn(move || {
            let mut asking = task::spawn(dispatcher.request(job(async move {
                let _dropped = dropped;
                pending().await
            })));
            let polled = {
                let _entered = entered.enter();
                asking.poll().is_pending()
            };
            begun.send(polled).expect("awaited");
            another_runtime().block_on(async { within(asking).await })
        });
        assert!(has_begun.recv().expect("it begins"));
        drop(runtime);

        let error = reason(caller.join().expect("no panic"));
        assert_eq!(error, SparkChannelError::ReplyDropped);
        assert_eq!(log.lines(), ["dropped"]);
    }
}

// === impl Dropped ===

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.push("dropped");
    }
}
