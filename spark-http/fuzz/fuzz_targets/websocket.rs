//! Any bytes after a connection has become a WebSocket. The server answers with whole frames, says
//! no more than it was asked for, holds no more than its limits, and ends.

#![no_main]

use std::{marker::PhantomData, sync::OnceLock};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use spark_channel::{NativeHandler, SparkChannelError, spawn_module};
use spark_http::{Route, WebSocket, WsJson, WsText};

use crate::server::Server;

#[path = "support/server.rs"]
mod server;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    is_json: bool,
    pieces: Vec<Piece<'a>>,
}

#[derive(Arbitrary, Debug)]
enum Piece<'a> {
    /// As the protocol has them, but for what is arbitrary.
    Frame {
        first: u8,
        mask: Option<[u8; 4]>,
        payload: &'a [u8],
    },
    /// A request or a command of `WsJson`.
    Envelope {
        is_command: bool,
        id: Option<i64>,
        data: &'a str,
    },
    Bytes(&'a [u8]),
}

struct Echo<T>(PhantomData<fn(T)>);

fuzz_target!(|input: Input<'_>| {
    static SERVER: OnceLock<Server> = OnceLock::new();
    let server = SERVER.get_or_init(|| {
        Server::start(Server::impatient(), |routes| {
            let json = WsJson::<Value, Value>::new();
            let json = WebSocket::new(json, spawn_module(Echo::<Value>(PhantomData)).dispatcher());
            let text = WebSocket::new(
                WsText,
                spawn_module(Echo::<String>(PhantomData)).dispatcher(),
            );
            routes
                .route("json", Route::websocket(json.message_limit(MESSAGE_LIMIT)))
                .route("text", Route::websocket(text.message_limit(MESSAGE_LIMIT)))
        })
    });
    let name = if input.is_json { "json" } else { "text" };
    let handshake = format!(
        "GET /{name} HTTP/1.1\r\nhost: fuzz\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let pieces: Vec<_> = input.pieces.iter().map(encode).collect();
    let said: usize = pieces.iter().map(Vec::len).sum();
    server.runtime.block_on(async {
        let all = [handshake.into_bytes()].into_iter().chain(pieces);
        if let Some(answer) = server.talk(all).await {
            check(&answer, said);
        }
        server.check().await;
    });
    let resident = resident();
    assert!(resident < RESIDENT_MAX, "{resident} KiB are held");
});

fn encode(piece: &Piece<'_>) -> Vec<u8> {
    match piece {
        Piece::Frame {
            first,
            mask,
            payload,
        } => frame(*first, *mask, payload),
        Piece::Envelope {
            is_command,
            id,
            data,
        } => {
            let kind = if *is_command { "command" } else { "request" };
            let envelope = json!({ "type": kind, "id": id, "data": data });
            frame(0x81, Some([1, 2, 3, 4]), envelope.to_string().as_bytes())
        }
        Piece::Bytes(bytes) => bytes.to_vec(),
    }
}

fn frame(first: u8, mask: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    let mut frame = vec![first];
    match u8::try_from(payload.len()) {
        Ok(length @ ..126) => frame.push(masked | length),
        _ => {
            frame.push(masked | 126);
            let length = u16::try_from(payload.len()).expect("short");
            frame.extend(length.to_be_bytes());
        }
    }
    frame.extend(mask.unwrap_or_default().iter().filter(|_| mask.is_some()));
    let mask = mask.unwrap_or_default();
    let masked = payload.iter().zip(mask.iter().cycle());
    frame.extend(masked.map(|(byte, mask)| byte ^ mask));
    frame
}

/// `answer` is a handshake and whole frames, as servers send them.
fn check(answer: &[u8], said: usize) {
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{answer:?}");
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let mut rest = &answer[head.expect("a whole head") + 4..];
    // An answer may have an envelope, and an error a message, around what was said.
    assert!(rest.len() <= 8 * said + 1024, "{said}: {answer:?}");
    let mut has_closed = false;
    while let [first, second, tail @ ..] = rest {
        assert!(!has_closed, "{answer:?}");
        assert!(first & 0x70 == 0 && second & 0x80 == 0, "{answer:?}");
        let (length, tail) = match (second, tail) {
            (126, [high, low, tail @ ..]) => (usize::from(u16::from_be_bytes([*high, *low])), tail),
            (length, tail) => (usize::from(*length), tail),
        };
        has_closed = first & 0x0f == 8;
        rest = tail.get(length..).expect("a whole frame");
    }
    assert!(rest.is_empty(), "{answer:?}");
}

/// What is resident, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut lines = status.lines();
    let line = lines.find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    kib.unwrap_or_default()
}

impl<T: Send + 'static> NativeHandler for Echo<T> {
    type Message = T;
    type Response = T;
    type Error = SparkChannelError;

    async fn handle_request(&mut self, message: T) -> Result<T, SparkChannelError> {
        Ok(message)
    }

    async fn handle_command(&mut self, _: T) -> Result<(), SparkChannelError> {
        Ok(())
    }
}

const MESSAGE_LIMIT: usize = 4096;

/// What libFuzzer itself takes is most of it.
const RESIDENT_MAX: u64 = 512 * 1024;
