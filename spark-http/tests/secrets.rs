//! Keys and credentials appear nowhere. Alone in its process: what is logged is recorded for one
//! thread, and tests on others would decide whether it is looked at.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
};

use http::Request;
use spark_http::{
    ApiKeys, Body, Context, ErrorAnswer, HttpServer, Ingress, Route, ShutdownCredential,
};
use tower::ServiceExt as _;
use tracing_subscriber::fmt::MakeWriter;

use crate::wire::serve;

#[cfg(feature = "http2")]
#[path = "support/http2.rs"]
mod http2;
#[cfg(feature = "http2")]
#[path = "support/modules.rs"]
mod modules;
#[path = "support/wire.rs"]
mod wire;

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .expect("not poisoned")
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn no_log_line_and_no_debug_output_has_a_key_in_it() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(log.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let shutdown = ShutdownCredential::new("secret-stop").expect("valid");
    let keys = ApiKeys::new([("named", "secret-key")]).expect("valid");
    let mut debug = vec![format!("{keys:?} {shutdown:?}")];
    let server = HttpServer::bind("127.0.0.1:0").await.expect("a port");
    let look = Route::handler_fn(|context: Context, _| async move {
        tracing::info!(?context, headers = ?context.headers(), "seen");
        format!("{context:?}")
    });
    let read = Route::handler_fn(|context: Context, body: bytes::Bytes| async move {
        match context.query_as::<BTreeMap<String, u32>>() {
            Ok(_) => serde_json::from_slice::<u32>(&body)
                .map(|_| "")
                .map_err(ErrorAnswer::bad_body),
            Err(error) => Err(error),
        }
    });
    let builder = Ingress::builder()
        .api_keys(keys)
        .route("look", look)
        .route("read", read)
        .shutdown_route(server.handle(), shutdown);
    debug.push(format!("{builder:?}"));
    let ingress = builder.build().expect("valid");
    debug.push(format!("{ingress:?}"));

    for key in [
        "secret-key",
        "Bearer secret-key",
        "Bearer secret-wrong",
        "secret-stop",
    ] {
        for path in ["/look", "/nobody", "/shutdown"] {
            let request = Request::post(path).header("authorization", key);
            // What one's own authentication may go by.
            let request = request.header("cookie", "session=secret-session");
            let request = request.header("proxy-authorization", "Basic secret-proxy");
            let request = request.body(Body::empty()).expect("a request");
            let answer = ingress.clone().oneshot(request).await.expect("infallible");
            let (head, body) = answer.into_parts();
            let body = http_body_util::BodyExt::collect(body)
                .await
                .expect("in memory");
            debug.push(format!("{:?} {:?}", head.headers, body.to_bytes()));
        }
    }
    // Also what clients say where it does not belong.
    for (path, body) in [
        ("/read?token=secret-token", "0"),
        ("/read", "\"secret-body\""),
    ] {
        let request = Request::post(path).header("x-api-key", "secret-key");
        let request = request.body(Body::from(body)).expect("a request");
        let answer = ingress.clone().oneshot(request).await.expect("infallible");
        assert_eq!(answer.status(), 400);
    }
    // Nor does what lies below the ingress log what goes through it.
    let serving = serve(HttpServer::builder(), ingress).await;
    let mut client = serving.connect().await;
    let head = "POST /look HTTP/1.1\r\nhost: t\r\nauthorization: Bearer secret-key\r\n";
    let head = format!("{head}cookie: secret-session\r\ncontent-length: 0\r\n\r\n");
    client.send(head).await;
    assert_eq!(client.reply().await.status, 200);
    #[cfg(feature = "http2")]
    {
        let mut client = http2::Http2::connect(&serving).await;
        let mut request = http2::post("look");
        let key = "Bearer secret-key".parse().expect("a value");
        request.headers_mut().insert("authorization", key);
        let answer = client.send(request, b"").await;
        assert_eq!(http2::reply(answer).await.status(), 200);
    }
    let debug = debug.concat();
    let log = String::from_utf8(log.0.lock().expect("not poisoned").clone()).expect("UTF-8");
    assert!(log.contains("identity=\"named\""), "{log}");
    assert!(log.contains("request refused") && log.contains("Invalid API Key"));
    assert!(log.contains("seen") && log.contains("/token"), "{log}");
    assert!(!log.contains("secret-"), "{log}");
    assert!(
        debug.contains("named") && !debug.contains("secret-"),
        "{debug}"
    );
}
