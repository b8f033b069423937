//! Reader-writer modules whose runtime ends while reads run: those, and the handler, are the user's, and
//! may panic when they are dropped.

mod support;

use std::future::pending;

use spark_channel::{Access, ReaderWriterHandler, StopReason, reader_writer};
use support::queued;
use tokio::task::yield_now;

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

/// Reads without end, with a bomb in each.
struct Explosive {
    _bomb: Bomb,
}

impl ReaderWriterHandler for Explosive {
    type Message = ();
    type Response = ();
    type Error = eyre::Report;

    fn access((): &()) -> Access {
        Access::Read
    }

    async fn handle_read(&self, (): ()) -> eyre::Result<()> {
        let _bomb = Bomb;
        pending().await
    }

    async fn handle_write(&mut self, (): ()) -> eyre::Result<()> {
        self.handle_read(()).await
    }

    async fn handle_command(&mut self, (): ()) -> eyre::Result<()> {
        self.handle_read(()).await
    }
}

#[test]
fn reads_and_a_handler_that_panic_when_their_runtime_ends_do_not_end_the_process() {
    // One may still lie where its caller left it.
    for (reads, direct_calls, settles) in [
        (1, true, false),
        (1, true, true),
        (3, true, true),
        (3, false, true),
    ] {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("the runtime starts");
        let (watch, asking) = runtime.block_on(async {
            let mut module = reader_writer(Explosive { _bomb: Bomb });
            if !direct_calls {
                module = module.without_direct_calls();
            }
            let module = module.spawn();
            yield_now().await;
            let dispatcher = module.dispatcher();
            let asking: Vec<_> = (0..reads)
                .map(|_| {
                    let dispatcher = dispatcher.clone();
                    queued(async move { dispatcher.request(()).await.is_ok() })
                })
                .collect();
            if settles {
                yield_now().await;
            }
            (module.watch(), asking)
        });

        drop(runtime);

        assert_eq!(watch.report().expect("ended").reason, StopReason::Aborted);
        drop(asking);
    }
}
