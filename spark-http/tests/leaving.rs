//! Clients that leave: what they asked for is dropped, and what they left behind is not mistaken.

use std::convert::Infallible;

use futures_util::FutureExt as _;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use spark_channel::{Stop, spawn_module};
use spark_http::{Body, HttpServer, Ingress, TextCodec};
use tokio::{io::AsyncWriteExt as _, sync::mpsc};
use tower::{Service, ServiceExt as _};

use crate::{
    modules::Gated,
    wire::{serve, within},
};

#[path = "support/modules.rs"]
mod modules;
#[path = "support/wire.rs"]
mod wire;

fn echo(gated: &Gated, name: &str) -> Ingress {
    let module = spawn_module(gated.clone()).dispatcher();
    let builder = Ingress::builder().module(name, TextCodec, module);
    builder.build().expect("valid")
}

/// `service`, and who is told when an answer in the making is dropped: that is when the server has
/// noticed that its client left.
fn noting_ends<S>(
    service: S,
) -> (
    impl Service<Request<Body>, Response = S::Response, Error = S::Error, Future: Send>
    + Clone
    + Send
    + 'static,
    mpsc::Receiver<()>,
)
where
    S: Service<Request<Body>, Future: Send> + Clone + Send + 'static,
{
    let (ended, ends) = mpsc::channel(8);
    let service = tower::service_fn(move |request| {
        let (service, ended) = (service.clone(), ended.clone());
        async move {
            let _ended = OnDrop(ended);
            service.oneshot(request).await
        }
    });
    (service, ends)
}

struct OnDrop(mpsc::Sender<()>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        // Nobody listens once a test has failed.
        let _ = self.0.try_send(());
    }
}

#[tokio::test]
async fn a_client_that_leaves_while_queued_is_skipped_by_the_module() {
    let gated = Gated::closed();
    let module = spawn_module(gated.clone());
    let dispatcher = module.dispatcher();
    let ingress = Ingress::builder()
        .module("m", TextCodec, dispatcher)
        .build()
        .expect("valid");
    let (service, mut ends) = noting_ends(ingress);
    let serving = serve(HttpServer::builder(), service).await;
    let mut staying = serving.connect().await;
    staying.post("m", "stays").await;
    gated.has_started().await;
    let mut leaving = serving.connect().await;
    leaving.post("m", "leaves").await;
    within(async {
        while module.stats().depth == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;

    drop(leaving);
    within(ends.recv())
        .await
        .expect("the answer of the one that left");
    gated.gate.add_permits(2);
    assert_eq!(staying.reply().await.status, 200);
    let report = serving.drain().await;
    assert_eq!((report.served, report.abandoned), (1, 1));
    let stats = module.shutdown(Stop::Drain).await.stats;
    assert_eq!((gated.runs(), stats.handled, stats.abandoned), (1, 1, 1));
}

#[tokio::test]
async fn a_client_that_ends_its_half_has_left_unless_the_server_is_told_to_answer_it() {
    let gated = Gated::closed();
    let (service, mut ends) = noting_ends(echo(&gated, "m"));
    let serving = serve(HttpServer::builder(), service.clone()).await;
    let mut client = serving.connect().await;
    client.post("m", "left").await;
    gated.has_started().await;
    client.stream.shutdown().await.expect("its half ended");
    within(ends.recv()).await.expect("dropped");
    client.closed().await;
    assert_eq!(serving.drain().await.abandoned, 1);
    gated.gate.add_permits(1);

    let serving = serve(HttpServer::builder().answer_half_closed(), service).await;
    let mut client = serving.connect().await;
    client.post("m", "waits").await;
    gated.has_started().await;
    client.stream.shutdown().await.expect("its half ended");
    gated.gate.add_permits(1);
    assert_eq!(client.reply().await.status, 200);
    client.closed().await;
    assert_eq!(serving.drain().await.served, 1);
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_its_next_request_has_left() {
    let gated = Gated::closed();
    let (service, mut ends) = noting_ends(echo(&gated, "echo"));
    let serving = serve(HttpServer::builder(), service).await;
    // At once, and later.
    for (first, then) in [("POST /", ""), ("", "\r\n"), ("P", "OST /")] {
        let mut client = serving.connect().await;
        client
            .send(format!(
                "POST /echo HTTP/1.1\r\nhost: t\r\ncontent-length: 0\r\n\r\n{first}"
            ))
            .await;
        gated.has_started().await;
        client.send(then).await;
        drop(client);
        within(ends.recv()).await.expect("dropped");
        gated.gate.add_permits(1);
    }
    let report = serving.drain().await;
    assert_eq!((report.served, report.abandoned), (0, 3));
}

#[tokio::test]
async fn what_comes_while_a_request_is_under_way_is_kept_for_later() {
    let gated = Gated::closed();
    let serving = serve(HttpServer::builder(), echo(&gated, "echo")).await;
    let mut client = serving.connect().await;
    client.post("echo", "first").await;
    gated.has_started().await;
    // More than is looked at for a client that leaves.
    let bodies = ["x".repeat(3), "y".repeat(100_000), "z".repeat(9_000)];
    let mut both = client;
    let sending = async {
        for body in &bodies {
            both.post("echo", body).await;
        }
        gated.gate.add_permits(4);
        let mut answers = Vec::new();
        for _ in 0..4 {
            answers.push(both.reply().await.body);
        }
        answers
    };
    let answers = within(sending).await;
    for (answer, body) in answers.iter().zip(
        ["first"]
            .into_iter()
            .chain(bodies.iter().map(|body| &**body)),
    ) {
        assert!(answer.contains(body), "{}", answer.len());
    }
    assert_eq!(serving.drain().await.served, 4);
}

/// Where a handler gives up the body of its request, before it goes on for ever.
#[derive(Clone, Copy)]
enum GivesUp {
    AtOnce,
    AfterAPart,
    WhileItWaits,
}

#[tokio::test]
async fn a_client_that_leaves_behind_a_body_that_was_given_up_has_left() {
    for (sent, gives_up) in [
        ("", GivesUp::AtOnce),
        ("part", GivesUp::AtOnce),
        ("part", GivesUp::AfterAPart),
        ("part", GivesUp::WhileItWaits),
    ] {
        let (given_up, mut gives_it_up) = mpsc::channel(1);
        let handler = tower::service_fn(move |request: Request<Body>| {
            let given_up = given_up.clone();
            async move {
                let mut body = request.into_body();
                if !matches!(gives_up, GivesUp::AtOnce) {
                    body.frame().await.expect("a part").expect("well");
                }
                if matches!(gives_up, GivesUp::WhileItWaits) {
                    // A look at what is not there makes hyper wait for it.
                    for _ in 0..3 {
                        assert!(body.frame().now_or_never().is_none());
                        tokio::task::yield_now().await;
                    }
                }
                drop(body);
                given_up.try_send(()).expect("room");
                std::future::pending::<Result<Response<Body>, Infallible>>().await
            }
        });
        let (service, mut ends) = noting_ends(handler);
        let serving = serve(HttpServer::builder(), service).await;
        let mut client = serving.connect().await;
        let head = "POST /m HTTP/1.1\r\nhost: t\r\ncontent-length: 100\r\n\r\n";
        client.send(format!("{head}{sent}")).await;
        within(gives_it_up.recv()).await.expect("given up");
        // So that hyper learns of it before the client leaves.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        drop(client);
        within(ends.recv()).await.expect("dropped");
        assert_eq!(serving.drain().await.abandoned, 1);
    }
}
