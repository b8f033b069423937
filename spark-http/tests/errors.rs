//! The error table: which failure is answered with what, and what never leaves the process.

use std::{error::Error, pin::Pin, sync::Arc, task::Poll, time::Duration};

use eyre::WrapErr as _;
use http::StatusCode;
use spark_channel::{SparkChannelError, Stage, Stop, spawn_module};
use spark_http::{
    BodyStream, Context, ErrorAnswer, Ingress, ModuleError, ReceiveError, Route, TextCodec,
};

use crate::{
    call::{Reply, call, post},
    modules::Gated,
};

#[path = "support/call.rs"]
mod call;
#[path = "support/modules.rs"]
mod modules;

fn panicked() -> SparkChannelError {
    SparkChannelError::Panicked {
        text: Arc::from("secret-panic-text"),
    }
}

async fn answer_to<E: ModuleError + Send + 'static>(make: fn() -> E) -> Reply {
    let fail = move |_: Context, _| async move { Err::<String, _>(make()) };
    let ingress = Ingress::builder()
        .handler_fn("fail", fail)
        .build()
        .expect("valid");
    call(&ingress, post("/fail", "")).await
}

#[tokio::test]
async fn each_failure_of_a_call_has_its_status() {
    let table: [(fn() -> SparkChannelError, u16); 10] = [
        (|| SparkChannelError::Closed, 502),
        (|| SparkChannelError::ReplyDropped, 502),
        (|| SparkChannelError::Cancelled, 502),
        (|| SparkChannelError::ShuttingDown, 503),
        (|| SparkChannelError::Unavailable, 503),
        (|| SparkChannelError::Full, 503),
        (
            || SparkChannelError::TimedOut {
                stage: Stage::NotAdmitted,
            },
            504,
        ),
        (
            || SparkChannelError::TimedOut {
                stage: Stage::Running,
            },
            504,
        ),
        (
            || SparkChannelError::unexpected_response("secret", "secret"),
            500,
        ),
        (panicked, 500),
    ];
    for (make, status) in table {
        let reply = answer_to(make).await;
        assert_eq!(reply.status, status, "{:?}", make());
        assert_eq!(reply.headers.contains_key("retry-after"), status == 503);
        assert!(!reply.message().contains("secret"));
    }
}

#[tokio::test]
async fn a_handlers_own_error_is_a_500_with_its_text_and_without_its_causes() {
    let reply = answer_to(|| eyre::eyre!("no such file").wrap_err("boom: cannot price")).await;
    assert_eq!((reply.status, reply.message()), (500, "boom: cannot price"));

    let reply = answer_to(|| Box::<dyn Error + Send + Sync>::from("boom: boxed")).await;
    assert_eq!((reply.status, reply.message()), (500, "boom: boxed"));
}

#[tokio::test]
async fn a_failed_call_is_found_below_what_a_handler_says_of_it() {
    let reply = answer_to(|| {
        let call: Result<(), _> = Err(SparkChannelError::ShuttingDown);
        call.wrap_err("cannot price").expect_err("an error")
    })
    .await;
    assert_eq!(reply.status, 503);

    let reply = answer_to(|| eyre::Report::from(panicked())).await;
    assert_eq!((reply.status, reply.message()), (500, "internal error"));
}

#[derive(Debug, thiserror::Error)]
enum Own {
    #[error("sold out")]
    SoldOut,
    #[error(transparent)]
    Call(#[from] SparkChannelError),
}

impl ModuleError for Own {
    fn into_error_answer(self) -> ErrorAnswer {
        match self {
            Self::SoldOut => ErrorAnswer::new(StatusCode::CONFLICT, self.to_string()),
            Self::Call(call) => call.into(),
        }
    }
}

#[tokio::test]
async fn an_own_error_type_chooses_its_status() {
    assert_eq!(answer_to(|| Own::SoldOut).await.status, 409);
    assert_eq!(
        answer_to(|| Own::from(SparkChannelError::Full))
            .await
            .status,
        503
    );
}

#[tokio::test]
async fn a_status_that_is_no_error_becomes_a_500() {
    let reply = answer_to(|| ErrorAnswer::new(StatusCode::SWITCHING_PROTOCOLS, "odd")).await;
    assert_eq!(reply.status, 500);
}

#[tokio::test]
async fn a_client_is_told_to_come_back_not_a_moment_too_early() {
    let full =
        |after| ErrorAnswer::new(StatusCode::SERVICE_UNAVAILABLE, "full").with_retry_after(after);
    let ingress = Ingress::builder()
        .handler_fn("fail", move |context: Context, _| async move {
            let millis = context.query().and_then(|query| query.parse().ok());
            full(Duration::from_millis(millis.expect("a number")))
        })
        .build()
        .expect("valid");
    for (millis, seconds) in [
        (0, "1"),
        (999, "1"),
        (1_000, "1"),
        (1_001, "2"),
        (2_500, "3"),
    ] {
        let reply = call(&ingress, post(&format!("/fail?{millis}"), "")).await;
        assert_eq!(reply.headers["retry-after"], seconds, "{millis}");
    }
}

#[tokio::test]
async fn an_error_of_a_third_crate_is_classified_where_the_route_is_made() {
    let module = spawn_module(Gated::open());
    let dispatcher = module.dispatcher();
    module.shutdown(Stop::Drain).await;
    let route = Route::module_with(TextCodec, dispatcher, |error: eyre::Report| {
        ErrorAnswer::new(StatusCode::IM_A_TEAPOT, error.to_string())
    });
    let ingress = Ingress::builder()
        .route("gone", route)
        .build()
        .expect("valid");
    let reply = call(&ingress, post("/gone", "")).await;
    assert_eq!((reply.status, reply.message()), (418, "module stopped"));
}

#[tokio::test]
async fn a_module_that_stopped_is_a_502() {
    let module = spawn_module(Gated::open());
    let gone = module.dispatcher();
    module.shutdown(Stop::Drain).await;
    let ingress = Ingress::builder()
        .module("gone", TextCodec, gone)
        .build()
        .expect("valid");
    assert_eq!(call(&ingress, post("/gone", "")).await.status, 502);
}

#[tokio::test]
async fn a_module_that_shuts_down_is_a_503_that_says_when_to_come_back() {
    let gated = Gated::closed();
    let module = spawn_module(gated.clone());
    let dispatcher = module.dispatcher();
    let ingress = Ingress::builder()
        .module("m", TextCodec, dispatcher)
        .build()
        .expect("valid");
    let first = tokio::spawn({
        let ingress = ingress.clone();
        async move { call(&ingress, post("/m", "first")).await }
    });
    gated.has_started().await;

    module.stop(Stop::Drain);
    let refused = call(&ingress, post("/m", "second")).await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.headers["retry-after"], "1");

    gated.gate.add_permits(1);
    assert_eq!(first.await.expect("answered").json["message"], "first");
    module.shutdown(Stop::Drain).await;
    assert_eq!(gated.runs(), 1);
}

#[tokio::test]
async fn a_panic_in_a_handler_function_or_codec_is_a_500_without_its_text() {
    struct Panics;
    impl std::fmt::Display for Panics {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("secret-panic-text")
        }
    }
    async fn panics(_: Context, _: bytes::Bytes) -> &'static str {
        panic!("secret-panic-text")
    }
    let ingress = Ingress::builder()
        .handler_fn("now", |_, _| -> std::future::Ready<&str> {
            panic!("secret-panic-text")
        })
        .handler_fn("later", panics)
        .handler_fn("text", |_, _| async {
            Err::<String, _>(ErrorAnswer::failed(Panics))
        })
        .build()
        .expect("valid");
    for path in ["/now", "/later", "/text"] {
        let reply = call(&ingress, post(path, "")).await;
        assert_eq!(
            (reply.status, reply.message()),
            (500, "internal error"),
            "{path}"
        );
    }
}

/// The body of a request that panics in one of the ways there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PanicsIn {
    SizeHint,
    IsEndStream,
    PollFrame,
    /// In the second poll.
    Later,
    Drop,
}

struct Panicking {
    panics_in: PanicsIn,
    polls: u8,
}

impl Panicking {
    fn here(&self, here: PanicsIn) {
        assert!(self.panics_in != here, "secret-panic-text");
    }
}

impl http_body::Body for Panicking {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<bytes::Bytes>, Self::Error>>> {
        self.here(PanicsIn::PollFrame);
        self.polls += 1;
        if self.polls == 1 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.here(PanicsIn::Later);
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.here(PanicsIn::IsEndStream);
        false
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.here(PanicsIn::SizeHint);
        http_body::SizeHint::default()
    }
}

impl Drop for Panicking {
    fn drop(&mut self) {
        self.here(PanicsIn::Drop);
    }
}

#[tokio::test]
async fn a_request_whose_body_panics_is_a_500_without_its_text() {
    let ingress = Ingress::builder()
        .handler_fn("whole", |_, _| async { "read" })
        .route(
            "streamed",
            Route::streaming(|_, mut body: BodyStream| async move {
                while body.chunk().await?.is_some() {}
                Ok::<_, ReceiveError>("read")
            }),
        )
        .max_in_flight(1)
        .build()
        .expect("valid");
    for path in ["/whole", "/streamed"] {
        for panics_in in [
            PanicsIn::SizeHint,
            PanicsIn::IsEndStream,
            PanicsIn::PollFrame,
            PanicsIn::Later,
            PanicsIn::Drop,
        ] {
            let body = Panicking {
                panics_in,
                polls: 0,
            };
            let request = http::Request::post(path).body(body).expect("a request");
            let reply = call(&ingress, request).await;
            assert_eq!(
                (reply.status, reply.message()),
                (500, "internal error"),
                "{path} {panics_in:?}"
            );
        }
        let reply = call(&ingress, post(path, "")).await;
        assert_eq!(reply.status, 200, "{path}");
    }
}

#[tokio::test]
async fn an_answer_to_head_whose_body_panics_is_a_500() {
    for panics_in in [PanicsIn::SizeHint, PanicsIn::Drop] {
        let service = tower::service_fn(move |_: http::Request<spark_http::Body>| async move {
            let polls = 0;
            let body = Panicking { panics_in, polls };
            Ok::<_, std::convert::Infallible>(http::Response::new(body))
        });
        let ingress = Ingress::builder()
            .route("s", Route::service(service))
            .build()
            .expect("valid");
        let head = http::Request::head("/s").body(spark_http::Body::empty());
        let reply = call(&ingress, head.expect("a request")).await;
        assert_eq!(reply.status, 500, "{panics_in:?}");
    }
}

#[tokio::test]
async fn a_status_that_ends_no_request_is_a_500_of_the_table() {
    for status in [100, 101, 102, 103, 199] {
        let status = StatusCode::from_u16(status).expect("a status");
        let ingress = Ingress::builder()
            .handler_fn("m", move |_, _| async move { (status, "text") })
            .build()
            .expect("valid");
        let reply = call(&ingress, post("/m", "")).await;
        assert_eq!((reply.status, reply.message()), (500, "internal error"));
    }
}
