//! What `manager_handlers` 0.7.2 got wrong over HTTP, one test for each fault that this crate
//! could have as well. What needs TLS comes with it.

use std::{
    future::{Future as _, poll_fn},
    net::SocketAddr,
    task::Poll,
    time::Duration,
};

use spark_channel::{Stop, pool, spawn_module};
use spark_http::{ApiKeys, ConfigError, HttpServer, Ingress, Route, ShutdownCredential, TextCodec};
use tower::ServiceExt as _;

use crate::{
    modules::Gated,
    wire::{Client, Reply, Serving, serve, within},
};

#[path = "support/modules.rs"]
mod modules;
#[path = "support/wire.rs"]
mod wire;

async fn serve_module(gated: &Gated) -> Serving {
    let module = spawn_module(gated.clone()).dispatcher();
    let ingress = Ingress::builder()
        .module("m", TextCodec, module)
        .build()
        .expect("valid");
    serve(HttpServer::builder(), ingress).await
}

async fn status(client: &mut Client, name: &str, body: &str) -> u16 {
    client.post(name, body).await;
    client.reply().await.status
}

/// The first answer that any of `clients` gets.
async fn first_reply(clients: &mut [Client]) -> Reply {
    let mut replies: Vec<_> = clients
        .iter_mut()
        .map(|client| Box::pin(client.reply()))
        .collect();
    let first = poll_fn(|cx| {
        let mut polled = replies.iter_mut().map(|reply| reply.as_mut().poll(cx));
        polled.find(Poll::is_ready).unwrap_or(Poll::Pending)
    });
    within(first).await
}

#[tokio::test]
async fn shutdown_is_neither_unauthenticated_nor_a_get() {
    let server = HttpServer::bind("127.0.0.1:0").await.expect("a free port");
    let credential = ShutdownCredential::new("stop").expect("valid");
    let ingress = Ingress::builder()
        .shutdown_route(server.handle(), credential)
        .build()
        .expect("valid");
    let serving = Serving::start(server, ingress);
    for (method, status) in [("GET", 405), ("POST", 401)] {
        let mut client = serving.connect().await;
        client
            .send(format!("{method} /shutdown HTTP/1.1\r\nhost: t\r\n\r\n"))
            .await;
        assert_eq!(client.reply().await.status, status, "{method}");
    }
    assert!(!serving.handle.is_draining());
}

#[tokio::test]
async fn an_empty_key_is_neither_on_nor_off_but_an_error() {
    let error = ApiKeys::new([("default", "")]).expect_err("empty");
    assert_eq!(error.to_string(), r#"credential "default" is empty"#);
    // Without a key, whatever is sent is let in; with one, an empty one is not.
    let keys = ApiKeys::new([("ci", "key")]).expect("valid");
    for (keys, status) in [(ApiKeys::default(), 200), (keys, 401)] {
        let ingress = Ingress::builder()
            .api_keys(keys)
            .handler_fn("m", |_, _| async { "in" })
            .build()
            .expect("valid");
        let serving = serve(HttpServer::builder(), ingress).await;
        let mut client = serving.connect().await;
        client
            .send("POST /m HTTP/1.1\r\nhost: t\r\nauthorization:\r\ncontent-length: 0\r\n\r\n")
            .await;
        assert_eq!(client.reply().await.status, status);
    }
}

#[tokio::test]
async fn the_global_permit_is_not_taken_before_the_local_one() {
    let gated = Gated::closed();
    let slow = Route::module(TextCodec, spawn_module(gated.clone()).dispatcher());
    let ingress = Ingress::builder()
        .max_in_flight(2)
        .route("slow", slow.concurrency(1).queue(8))
        .handler_fn("fast", |_, _| async { "fast" })
        .build()
        .expect("valid");
    let serving = serve(HttpServer::builder(), ingress).await;
    let mut slow = Vec::new();
    for _ in 0..10 {
        let mut client = serving.connect().await;
        client.post("slow", "").await;
        slow.push(client);
    }
    // One is turned away once one runs and eight wait.
    assert_eq!(first_reply(&mut slow).await.status, 503);
    let mut client = serving.connect().await;
    assert_eq!(status(&mut client, "fast", "").await, 200);
}

#[tokio::test]
async fn bodies_are_not_buffered_without_bound_before_any_permit() {
    let gated = Gated::open();
    let module = spawn_module(gated.clone()).dispatcher();
    let ingress = Ingress::builder()
        .body_limit(1000)
        .body_memory(2000)
        .route("m", Route::module(TextCodec, module).concurrency(1))
        .build()
        .expect("valid");
    let serving = serve(HttpServer::builder(), ingress).await;
    let head = "POST /m HTTP/1.1\r\nhost: t\r\ncontent-length: 1000\r\n\r\n";
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = serving.connect().await;
        client.send(format!("{head}{}", "x".repeat(999))).await;
        clients.push(client);
    }
    // Whichever came last does not fit.
    let reply = first_reply(&mut clients).await;
    assert_eq!((reply.status, reply.closes()), (503, true));
    assert!(reply.head.contains("\r\nretry-after: 1\r\n"));
    assert_eq!(gated.runs(), 0);
}

#[tokio::test]
async fn unknown_handler_is_not_a_panic_and_a_dead_connection() {
    let serving = serve_module(&Gated::open()).await;
    let mut client = serving.connect().await;
    client.post("nobody", "").await;
    let reply = client.reply().await;
    assert_eq!(reply.status, 404);
    assert_eq!(
        reply.body,
        r#"{"message":"Handler not found: nobody","status":"Error"}"#
    );
    assert_eq!(status(&mut client, "m", "alive").await, 200);
}

#[tokio::test]
async fn unlimited_bodies_are_not_buffered() {
    let gated = Gated::open();
    let serving = serve_module(&gated).await;
    let mut client = serving.connect().await;
    client
        .send("POST /m HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x1_0000));
    for _ in 0..17 {
        client.send(&chunk).await;
    }
    assert_eq!(client.reply().await.status, 413);
    assert_eq!(gated.runs(), 0);
}

#[tokio::test]
async fn slowloris_is_answered_408_and_closed() {
    let builder = HttpServer::builder().head_timeout(Duration::from_millis(50));
    let ingress = Ingress::builder().build().expect("valid");
    let serving = serve(builder, ingress).await;
    let mut client = serving.connect().await;
    client.send("POST /m HTTP/1.1\r\nslow:").await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.closes()), (408, true));
    client.closed().await;
}

#[tokio::test]
async fn a_slow_body_is_answered_408_and_closed() {
    let gated = Gated::open();
    let module = spawn_module(gated.clone()).dispatcher();
    let ingress = Ingress::builder()
        .body_timeout(Duration::from_millis(50))
        .module("m", TextCodec, module)
        .build()
        .expect("valid");
    let serving = serve(HttpServer::builder(), ingress).await;
    let mut client = serving.connect().await;
    client
        .send("POST /m HTTP/1.1\r\nhost: t\r\ncontent-length: 5\r\n\r\nab")
        .await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.closes()), (408, true));
    assert_eq!(gated.runs(), 0);
}

#[tokio::test]
async fn panic_text_does_not_reach_clients() {
    let serving = serve_module(&Gated::open()).await;
    let mut client = serving.connect().await;
    client.post("m", "panic").await;
    let reply = client.reply().await;
    assert_eq!(reply.status, 500);
    assert_eq!(
        reply.body,
        r#"{"message":"internal error","status":"Error"}"#
    );
    assert_eq!(status(&mut client, "m", "alive").await, 200);
}

#[tokio::test]
async fn the_address_is_not_fixed() {
    let address: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let server = HttpServer::bind(address).await.expect("a free port");
    let bound = server.local_addr().as_socket_addr().expect("TCP");
    assert!(bound.ip().is_loopback());
    assert_ne!(bound.port(), 0);
}

#[tokio::test]
async fn a_handler_that_never_ends_has_a_timeout() {
    let slow = Route::module(TextCodec, spawn_module(Gated::closed()).dispatcher());
    let slow = slow.handler_timeout(Duration::from_millis(50));
    let ingress = Ingress::builder()
        .route("slow", slow)
        .build()
        .expect("valid");
    let serving = serve(HttpServer::builder(), ingress).await;
    let mut client = serving.connect().await;
    assert_eq!(status(&mut client, "slow", "").await, 504);
}

#[tokio::test(start_paused = true)]
async fn a_handler_has_a_timeout_without_being_given_one() {
    let ingress = Ingress::builder()
        .handler_fn("never", |_, _| std::future::pending::<&str>())
        .build()
        .expect("valid");
    let begun = tokio::time::Instant::now();
    let request = http::Request::post("/never").body(spark_http::Body::empty());
    let answer = ingress.oneshot(request.expect("a request")).await;
    assert_eq!(answer.expect("infallible").status(), 504);
    assert_eq!(begun.elapsed(), Duration::from_secs(120));
}

#[tokio::test]
async fn concurrency_is_not_one_by_default() {
    let gated = Gated::closed();
    let factory = gated.clone();
    let module = pool(4, move || factory.clone()).spawn();
    let dispatcher = module.dispatcher();
    let ingress = Ingress::builder()
        .module("m", TextCodec, dispatcher)
        .build()
        .expect("valid");
    let serving = serve(HttpServer::builder(), ingress).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = serving.connect().await;
        client.post("m", "together").await;
        clients.push(client);
    }
    for _ in 0..4 {
        within(gated.has_started()).await;
    }
    gated.gate.add_permits(4);
    for mut client in clients {
        assert_eq!(client.reply().await.status, 200);
    }
}

#[tokio::test]
async fn work_does_not_run_on_after_the_client_left() {
    let (started, mut starts) = tokio::sync::mpsc::channel(1);
    let forever = move |_, _| {
        let started = started.clone();
        async move {
            started.send(()).await.expect("the test listens");
            std::future::pending::<&str>().await
        }
    };
    let ingress = Ingress::builder()
        .handler_fn("forever", forever)
        .build()
        .expect("valid");
    let serving = serve(HttpServer::builder(), ingress).await;
    let mut client = serving.connect().await;
    client.post("forever", "").await;
    within(starts.recv()).await.expect("started");
    drop(client);
    // The drain would wait for it until its deadline.
    let report = serving.drain().await;
    assert_eq!((report.abandoned, report.deadline_passed), (1, false));
}

#[tokio::test]
async fn half_a_body_is_not_executed_as_if_complete() {
    let gated = Gated::open();
    let serving = serve_module(&gated).await;
    for half in [
        "POST /m HTTP/1.1\r\nhost: t\r\ncontent-length: 10\r\n\r\nhalf",
        "POST /m HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let mut client = serving.connect().await;
        client.send(half).await;
        drop(client);
    }
    // The drain ends once both are dealt with.
    let report = serving.drain().await;
    assert!(!report.deadline_passed);
    assert_eq!(gated.runs(), 0);
}

#[tokio::test]
async fn not_any_method_runs_handlers() {
    let gated = Gated::open();
    let serving = serve_module(&gated).await;
    for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"] {
        let mut client = serving.connect().await;
        client
            .send(format!("{method} /m HTTP/1.1\r\nhost: t\r\n\r\n"))
            .await;
        let reply = client.reply().await;
        assert_eq!(reply.status, 405, "{method}");
        assert!(reply.head.contains("\r\nallow: POST\r\n"));
    }
    assert_eq!(gated.runs(), 0);
}

#[tokio::test]
async fn invalid_utf_8_is_not_replaced_silently() {
    let gated = Gated::open();
    let serving = serve_module(&gated).await;
    let mut client = serving.connect().await;
    client
        .send(b"POST /m HTTP/1.1\r\nhost: t\r\ncontent-length: 3\r\n\r\na\xff\xfe")
        .await;
    let reply = client.reply().await;
    assert_eq!(reply.status, 400);
    assert_eq!(
        reply.body,
        r#"{"message":"body is not UTF-8 at byte 1","status":"Error"}"#
    );
    assert_eq!(gated.runs(), 0);
}

#[tokio::test]
async fn graceful_shutdown_does_not_panic_and_drop_requests() {
    let gated = Gated::closed();
    let serving = serve_module(&gated).await;
    let mut client = serving.connect().await;
    client.post("m", "under way").await;
    within(gated.has_started()).await;
    serving.handle.drain();
    gated.gate.add_permits(1);
    assert_eq!(client.reply().await.status, 200);
    let report = serving.report().await;
    assert_eq!((report.served, report.cut, report.abandoned), (1, 0, 0));
}

#[tokio::test]
async fn config_errors_are_not_panics_or_hangs() {
    let twice = |builder: spark_http::IngressBuilder| builder.handler_fn("a", |_, _| async { "" });
    let error = twice(twice(Ingress::builder()))
        .build()
        .expect_err("duplicate");
    assert!(matches!(error, ConfigError::DuplicateRoute { .. }));
    assert!(HttpServer::bind("256.0.0.1:0").await.is_err());
}

#[tokio::test]
async fn replicas_are_not_lost_after_a_panic() {
    let gated = Gated::open();
    let factory = gated.clone();
    let module = pool(2, move || factory.clone()).spawn();
    let dispatcher = module.dispatcher();
    let ingress = Ingress::builder()
        .module("m", TextCodec, dispatcher)
        .build()
        .expect("valid");
    let serving = serve(HttpServer::builder(), ingress).await;
    let mut client = serving.connect().await;
    for _ in 0..8 {
        assert_eq!(status(&mut client, "m", "panic").await, 500);
    }
    assert_eq!(status(&mut client, "m", "alive").await, 200);
    let stats = module.shutdown(Stop::Drain).await.stats;
    assert_eq!((stats.panics, stats.restarts), (8, 8));
}
