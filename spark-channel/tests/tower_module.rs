//! A tower service served as a module.
#![cfg(feature = "tower")]

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use spark_channel::{
    PanicPolicy, ServiceHandler, SparkChannelError, Stop, current, module, service_module,
};
use tokio_test::task;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn};

use crate::support::within;

mod support;

/// Ready once for each time it is allowed; panics when it is called before.
#[derive(Clone, Default)]
struct Strict(Arc<Mutex<Allowed>>);

#[derive(Default)]
struct Allowed {
    times: u32,
    is_ready: bool,
    waker: Option<Waker>,
}

impl Strict {
    fn allow_once(&self) {
        let mut allowed = self.0.lock().expect("no panic under it");
        allowed.times += 1;
        if let Some(waker) = allowed.waker.take() {
            waker.wake();
        }
    }
}

impl Service<u64> for Strict {
    type Response = u64;
    type Error = BoxError;
    type Future = Ready<Result<u64, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let mut allowed = self.0.lock().expect("no panic under it");
        if !allowed.is_ready {
            if allowed.times == 0 {
                allowed.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            allowed.times -= 1;
            allowed.is_ready = true;
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, n: u64) -> Self::Future {
        let mut allowed = self.0.lock().expect("no panic under it");
        assert!(std::mem::take(&mut allowed.is_ready), "called unready");
        ready(Ok(n))
    }
}

fn reason<T>(result: Result<T, BoxError>) -> SparkChannelError {
    let error = result.err().expect("the call failed");
    *error.downcast().expect("not the service's own")
}

#[tokio::test(start_paused = true)]
async fn a_service_is_called_only_when_it_is_ready() {
    let service = Strict::default();
    let handle = service_module(service.clone()).name("strict").spawn();
    let dispatcher = handle.dispatcher();

    let mut first = task::spawn(dispatcher.request(1_u64));
    assert!(first.poll().is_pending());
    service.allow_once();
    assert_eq!(within(first).await.expect("ready"), 1);
    service.allow_once();
    assert_eq!(within(dispatcher.request(2_u64)).await.expect("ready"), 2);

    assert_eq!(handle.name(), "strict");
    assert_eq!(within(handle.shutdown(Stop::Drain)).await.stats.handled, 2);
}

#[tokio::test(start_paused = true)]
async fn the_services_own_error_reaches_the_caller_untouched() {
    #[derive(Debug, PartialEq, thiserror::Error)]
    #[error("odd")]
    struct Odd;
    let halve = service_fn(|n: u64| async move {
        match n % 2 {
            0 => Ok(n / 2),
            _ => Err(BoxError::from(Odd)),
        }
    });
    let handle = service_module(halve).spawn();
    let dispatcher = handle.dispatcher();

    assert_eq!(within(dispatcher.request(8_u64)).await.expect("even"), 4);
    let failed = within(dispatcher.request(7_u64)).await.expect_err("odd");
    assert_eq!(failed.downcast_ref(), Some(&Odd));
    assert!(dispatcher.try_command(5_u64).is_ok());

    let report = within(handle.shutdown(Stop::Drain)).await;
    assert_eq!((report.stats.handled, report.stats.failed), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_cannot_fail_gets_an_error_type_that_can_hold_ours() {
    let double = service_fn(|n: u64| async move { Ok::<_, Infallible>(2 * n) });
    let handler = ServiceHandler::new(double).error::<BoxError>();
    let handle = module(handler).spawn();

    let doubled = within(handle.dispatcher().request(21_u64)).await;

    assert_eq!(doubled.expect("handled"), 42);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_service_is_an_error_for_one_caller() {
    let fragile = service_fn(|n: u64| async move {
        assert!(n != 13, "unlucky");
        Ok::<_, BoxError>(n)
    });
    let factory = move || ServiceHandler::new(fragile);
    let handle = module(factory())
        .on_panic(PanicPolicy::restart(factory))
        .spawn();
    let dispatcher = handle.dispatcher();

    let crashed = within(dispatcher.request(13_u64)).await;
    let next = within(dispatcher.request(1_u64)).await;

    assert!(matches!(
        reason(crashed),
        SparkChannelError::Panicked { .. }
    ));
    assert_eq!(next.expect("goes on"), 1);
    assert_eq!(within(handle.shutdown(Stop::Drain)).await.stats.restarts, 1);
}

#[tokio::test(start_paused = true)]
async fn layers_under_the_module_hold_for_its_callers() {
    let hanging = ServiceBuilder::new()
        .timeout(Duration::from_secs(1))
        .service(service_fn(|(): ()| {
            std::future::pending::<Result<(), BoxError>>()
        }));
    let handle = service_module(hanging).spawn();

    let failed = within(handle.dispatcher().request(())).await;

    assert!(
        failed
            .expect_err("it hangs")
            .is::<tower::timeout::error::Elapsed>()
    );
}

#[tokio::test(start_paused = true)]
async fn a_service_module_is_a_service_again_and_passes_the_deadline_on() {
    let left = service_fn(|(): ()| async {
        Ok::<_, BoxError>(current::remaining().map_or(0, |left| left.as_secs()))
    });
    let inner = service_module(left).name("inner").spawn();
    let middle = service_module(inner.dispatcher().service())
        .name("middle")
        .default_timeout(Duration::from_secs(9))
        .spawn();

    let answer = within(middle.dispatcher().service().oneshot(())).await;

    assert_eq!(answer.expect("handled"), 8);
    assert!(!within(middle.shutdown(Stop::Drain)).await.deadline_passed);
    assert!(!within(inner.shutdown(Stop::Drain)).await.deadline_passed);
}
