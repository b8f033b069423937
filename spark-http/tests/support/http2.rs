//! Clients of HTTP/2, one that knows the protocol and one that knows its frames; and what they ask.

#![allow(dead_code, reason = "each test file uses another part of this one")]

use bytes::Bytes;
use h2::{
    RecvStream,
    client::{Builder, SendRequest},
};
use http::{Request, Response};
use serde_json::Value;
use spark_channel::spawn_module;
use spark_http::{Answer, Body, Ingress, TextCodec};
use tokio::{io::AsyncReadExt as _, task::JoinHandle};

use crate::{
    modules::Gated,
    wire::{Client, Serving, within},
};

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// `POST /echo`, in words of the static table and a literal.
pub(crate) const POST_ECHO: &[u8] = b"\x83\x86\x04\x05/echo\x01\x01t";
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) fn echo(gated: &Gated) -> Ingress {
    let module = spawn_module(gated.clone()).dispatcher();
    let huge = |_, _| async { Answer::new(Body::from(vec![0; 8 * 1024 * 1024])) };
    let large = |_, _| async { Answer::new(Body::from(vec![0; 200 * 1024])) };
    let builder = Ingress::builder().body_limit(100);
    let builder = builder.module("echo", TextCodec, module);
    // Each on a task of its own, so that several run at once.
    let waits = gated.clone();
    let wait = move |_, _| {
        let gated = waits.clone();
        async move {
            gated.started.add_permits(1);
            gated.gate.acquire().await.expect("open").forget();
            "waited"
        }
    };
    let builder = builder.handler_fn("large", large);
    let builder = builder.handler_fn("huge", huge).handler_fn("wait", wait);
    builder.build().expect("valid")
}

/// A client that knows from the start what is spoken.
pub(crate) struct Http2 {
    pub(crate) requests: SendRequest<Bytes>,
    pub(crate) connection: JoinHandle<Result<(), h2::Error>>,
}

pub(crate) struct Reply {
    pub(crate) response: Response<()>,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

impl Http2 {
    pub(crate) async fn connect(serving: &Serving) -> Self {
        Self::with(&Builder::new(), serving).await
    }

    pub(crate) async fn with(builder: &Builder, serving: &Serving) -> Self {
        let stream = serving.connect().await.stream;
        let (requests, connection) = within(builder.handshake(stream)).await.expect("begun");
        Self {
            requests,
            connection: tokio::spawn(connection),
        }
    }

    /// Sends a request, whose answer comes whenever the future is polled.
    pub(crate) async fn send(
        &mut self,
        request: Request<()>,
        body: &'static [u8],
    ) -> impl Future<Output = Result<Response<RecvStream>, h2::Error>> + use<> {
        let mut requests = within(self.requests.clone().ready()).await.expect("open");
        let ends = body.is_empty();
        let (answer, mut stream) = requests.send_request(request, ends).expect("valid");
        if !ends {
            let body = Bytes::from_static(body);
            stream.send_data(body, true).expect("sent");
        }
        answer
    }

    pub(crate) async fn post(&mut self, name: &str, body: &'static [u8]) -> Reply {
        let answer = self.send(post(name), body).await;
        reply(answer).await
    }

    /// How the connection ended.
    pub(crate) async fn ended(self) -> Result<(), h2::Error> {
        drop(self.requests);
        within(self.connection).await.expect("no panic")
    }
}

pub(crate) fn post(name: &str) -> Request<()> {
    let uri = format!("http://test/{name}");
    Request::post(uri).body(()).expect("valid")
}

pub(crate) async fn reply(
    answer: impl Future<Output = Result<Response<RecvStream>, h2::Error>>,
) -> Reply {
    let (parts, mut stream) = within(answer).await.expect("answered").into_parts();
    let mut body = Vec::new();
    while let Some(data) = within(stream.data()).await {
        let data = data.expect("whole");
        body.extend_from_slice(&data);
        let _ = stream.flow_control().release_capacity(data.len());
    }
    let id = parts.headers["x-request-id"].as_bytes();
    assert!((1..=128).contains(&id.len()));
    assert!(!parts.headers.contains_key("connection"));
    Reply {
        response: Response::from_parts(parts, ()),
        body: body.into(),
    }
}

/// Frames, one at a time.
pub(crate) struct Raw(pub(crate) Client);

impl Raw {
    pub(crate) async fn connect(serving: &Serving) -> Self {
        let mut raw = Self(serving.connect().await);
        raw.0.send(PREFACE).await;
        raw.send(SETTINGS, 0, 0, b"").await;
        raw
    }

    pub(crate) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.0.send(frame(kind, flags, stream, payload)).await;
    }

    /// The payload of the first frame that is wanted; `None` if the connection ends before.
    pub(crate) async fn read(&mut self, wanted: impl Fn(u8, u8, u32) -> bool) -> Option<Vec<u8>> {
        let frame = self.read_frame(wanted).await;
        frame.map(|(_, payload)| payload)
    }

    /// As [`read`](Self::read), with what kind of frame it is.
    pub(crate) async fn read_frame(
        &mut self,
        wanted: impl Fn(u8, u8, u32) -> bool,
    ) -> Option<(u8, Vec<u8>)> {
        within(async {
            loop {
                let mut header = [0; 9];
                self.0.stream.read_exact(&mut header).await.ok()?;
                let [a, b, c, kind, flags, stream @ ..] = header;
                let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
                self.0.stream.read_exact(&mut payload).await.ok()?;
                if wanted(kind, flags, u32::from_be_bytes(stream)) {
                    return Some((kind, payload));
                }
            }
        })
        .await
    }
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}
