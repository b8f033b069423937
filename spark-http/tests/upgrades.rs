//! Connections that change their protocol stay the server's: counted, told of the drain, and cut.

use std::{convert::Infallible, future::Future, time::Duration};

use http::{Request, Response, StatusCode, header};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use spark_http::{AfterUpgrade, Body, Draining, HttpServer, Ingress, Route};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
};
use tower::Service;

use crate::wire::{Client, Serving, serve, within};

#[path = "support/wire.rs"]
mod wire;

const UPGRADE: &str =
    "GET /chat HTTP/1.1\r\nhost: t\r\nconnection: upgrade\r\nupgrade: chat\r\n\r\n";
const SWITCHING: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n";

type Chat = TokioIo<Upgraded>;

/// Changes to a protocol of `speak`, run on the connection's task.
fn chat<F, Fut>(
    speak: F,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ Sync
+ 'static
where
    F: Fn(Chat, Draining) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    tower::service_fn(move |mut request: Request<Body>| {
        let speak = speak.clone();
        async move {
            let upgrading = hyper::upgrade::on(&mut request);
            let extensions = request.extensions();
            let draining = extensions.get::<Draining>().expect("told").clone();
            let work = extensions.get::<AfterUpgrade>().expect("asked for");
            work.run(async move {
                if let Ok(upgraded) = upgrading.await {
                    speak(TokioIo::new(upgraded), draining).await;
                }
            });
            Ok(switching())
        }
    })
}

fn switching() -> Response<Body> {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, "upgrade".parse().expect("valid"));
    headers.insert(header::UPGRADE, "chat".parse().expect("valid"));
    answer
}

/// Reads up to and including `end`, and nothing behind it.
async fn read_until(client: &mut Client, end: &[u8]) -> Vec<u8> {
    let mut read = Vec::new();
    while !read.ends_with(end) {
        let byte = within(client.stream.read_u8()).await;
        read.push(byte.unwrap_or_else(|_| panic!("closed after {}", read.escape_ascii())));
    }
    read
}

async fn switched(serving: &Serving) -> Client {
    let mut client = serving.connect().await;
    client.send(UPGRADE).await;
    let head = read_until(&mut client, b"\r\n\r\n").await;
    assert!(head.starts_with(SWITCHING), "{}", head.escape_ascii());
    client
}

/// Says back what it hears, and `bye` once the server drains.
async fn polite(mut stream: Chat, draining: Draining) {
    let mut heard = [0; 64];
    loop {
        tokio::select! {
            read = stream.read(&mut heard) => match read {
                Ok(0) | Err(_) => return,
                Ok(length) => stream.write_all(&heard[..length]).await.expect("written"),
            },
            () = draining.begun() => {
                stream.write_all(b"bye").await.expect("written");
                stream.shutdown().await.expect("shut down");
                return;
            }
        }
    }
}

#[tokio::test]
async fn an_upgraded_connection_speaks_its_own_protocol_and_outlives_every_http_timeout() {
    let short = Duration::from_millis(20);
    let builder = HttpServer::builder().head_timeout(short).keep_alive(short);
    let serving = serve(builder, chat(polite)).await;
    let mut client = switched(&serving).await;
    // Until another connection has run into both.
    serving.connect().await.closed().await;
    client.send("hello").await;
    assert_eq!(read_until(&mut client, b"hello").await, b"hello");
    drop(client);
    let report = serving.drain().await;
    assert_eq!((report.served, report.abandoned, report.cut), (1, 0, 0));
    assert_eq!((report.upgraded, report.upgraded_cut), (1, 0));
}

#[tokio::test]
async fn what_a_client_sends_right_behind_its_upgrade_is_not_lost() {
    let serving = serve(HttpServer::builder(), chat(polite)).await;
    let mut client = serving.connect().await;
    client.send(format!("{UPGRADE}early")).await;
    let all = read_until(&mut client, b"early").await;
    assert!(all.starts_with(SWITCHING), "{}", all.escape_ascii());
}

#[tokio::test]
async fn an_upgraded_connection_learns_of_the_drain_and_is_waited_for() {
    let serving = serve(HttpServer::builder(), chat(polite)).await;
    let mut client = switched(&serving).await;
    serving.handle.drain();
    assert_eq!(read_until(&mut client, b"bye").await, b"bye");
    client.closed().await;
    let report = serving.report().await;
    assert!(!report.deadline_passed);
    assert_eq!((report.upgraded, report.upgraded_cut), (1, 0));
}

#[tokio::test]
async fn an_upgraded_connection_that_does_not_end_is_cut_at_the_deadline() {
    let deaf = |mut stream: Chat, _| async move {
        let mut heard = Vec::new();
        // Until the client leaves, which it does not.
        let _ = stream.read_to_end(&mut heard).await;
    };
    let builder = HttpServer::builder().drain_timeout(Duration::from_millis(50));
    let serving = serve(builder, chat(deaf)).await;
    let mut client = switched(&serving).await;
    let report = serving.drain().await;
    assert!(report.deadline_passed);
    assert_eq!((report.served, report.cut), (1, 0));
    assert_eq!((report.upgraded, report.upgraded_cut), (1, 1));
    client.closed().await;
}

#[tokio::test]
async fn what_panics_after_an_upgrade_ends_its_connection_and_is_not_counted_as_cut() {
    let panics = |_, _| async { panic!("secret-panic-text") };
    let serving = serve(HttpServer::builder(), chat(panics)).await;
    let mut client = switched(&serving).await;
    client.closed().await;
    let report = serving.drain().await;
    assert_eq!((report.served, report.abandoned), (1, 0));
    assert_eq!((report.upgraded, report.upgraded_cut), (1, 0));
}

#[tokio::test]
async fn a_socket_held_by_a_task_of_its_own_is_taken_away_at_the_cut() {
    let (ended, mut ends) = mpsc::channel(1);
    let service = tower::service_fn(move |mut request: Request<Body>| {
        let ended = ended.clone();
        let upgrading = hyper::upgrade::on(&mut request);
        // As a WebSocket library would that knows nothing of this server.
        tokio::spawn(async move {
            let mut stream = TokioIo::new(upgrading.await.expect("upgraded"));
            let read = stream.read(&mut [0]).await;
            ended.send(read).await.expect("room");
        });
        async { Ok::<_, Infallible>(switching()) }
    });
    let serving = serve(HttpServer::builder(), service).await;
    let mut client = switched(&serving).await;
    serving.handle.drain();
    serving.handle.cut();
    let report = serving.report().await;
    assert_eq!((report.upgraded, report.upgraded_cut), (1, 1));
    let read = within(ends.recv()).await.expect("woken");
    assert!(read.is_err(), "{read:?}");
    client.closed().await;
}

#[tokio::test]
async fn an_upgraded_client_that_does_not_read_is_cut() {
    let flood = |mut stream: Chat, _| async move {
        let scrap = vec![0; 64 * 1024];
        while stream.write_all(&scrap).await.is_ok() {}
    };
    let builder = HttpServer::builder().write_timeout(Duration::from_millis(50));
    let serving = serve(builder, chat(flood)).await;
    let _client = switched(&serving).await;
    // The drain waits for it, and ends because it is cut.
    let report = serving.drain().await;
    assert!(!report.deadline_passed);
    assert_eq!((report.upgraded, report.upgraded_cut), (1, 0));
}

#[tokio::test]
async fn an_upgrade_that_is_asked_for_during_the_drain_is_a_503() {
    let server = HttpServer::bind("127.0.0.1:0").await.expect("a free port");
    let address = server.local_addr().as_socket_addr().expect("TCP");
    let mut client = TcpStream::connect(address).await.expect("queued");
    client.write_all(UPGRADE.as_bytes()).await.expect("sent");
    server.handle().drain();
    let report = within(server.serve(chat(polite))).await;
    assert_eq!((report.refused, report.upgraded), (1, 0));
    let mut answer = String::new();
    let read = within(client.read_to_string(&mut answer)).await;
    read.expect("not reset");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
}

#[tokio::test]
async fn a_request_whose_upgrade_is_not_taken_up_is_answered_as_any_other() {
    let ingress = Ingress::builder()
        .handler_fn("chat", |_, _| async { "no chat" })
        .build();
    let serving = serve(HttpServer::builder(), ingress.expect("valid")).await;
    let mut client = serving.connect().await;
    client.send(UPGRADE.replace("GET", "POST")).await;
    assert_eq!(client.reply().await.status, 200);
    client.post("chat", "").await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.closes()), (200, false));
    assert_eq!(reply.body, r#"{"message":"no chat","status":"Ok"}"#);
    let report = serving.drain().await;
    assert_eq!((report.served, report.upgraded), (2, 0));
}

#[tokio::test]
async fn a_connection_that_changed_its_protocol_holds_its_permit_until_it_ends() {
    let chat = chat(|mut chat: Chat, _| async move {
        let mut read = Vec::new();
        let _ = chat.read_to_end(&mut read).await;
    });
    let ingress = Ingress::builder()
        .route("chat", Route::service(chat).concurrency(1).queue(0))
        .build()
        .expect("valid");
    let serving = serve(HttpServer::builder(), ingress).await;
    let first = switched(&serving).await;
    let mut turned_away = serving.connect().await;
    turned_away.send(UPGRADE).await;
    let head = read_until(&mut turned_away, b"\r\n\r\n").await;
    assert!(
        head.starts_with(b"HTTP/1.1 503 "),
        "{}",
        head.escape_ascii()
    );

    drop(first);
    // Until the server has seen that the client left.
    within(async {
        loop {
            let mut client = serving.connect().await;
            client.send(UPGRADE).await;
            let head = read_until(&mut client, b"\r\n\r\n").await;
            if head.starts_with(SWITCHING) {
                break;
            }
        }
    })
    .await;
}
