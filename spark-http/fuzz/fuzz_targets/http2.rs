//! Any frames of HTTP/2. The server answers with whole frames and closes, counts nothing twice, and
//! goes on serving others.

#![no_main]

use std::sync::OnceLock;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;

use crate::server::Server;

#[path = "support/server.rs"]
mod server;

#[derive(Arbitrary, Debug)]
enum Piece<'a> {
    Frame {
        kind: u8,
        flags: u8,
        stream: u8,
        payload: &'a [u8],
    },
    /// A head that is well, for the next stream.
    Request {
        ends: bool,
        post: bool,
    },
    Bytes(&'a [u8]),
}

fuzz_target!(|pieces: Vec<Piece<'_>>| {
    static SERVER: OnceLock<Server> = OnceLock::new();
    let server = SERVER.get_or_init(|| Server::start(Server::impatient(), |routes| routes));
    let mut next = 1;
    let pieces = pieces.iter().map(|piece| encode(piece, &mut next));
    let begin = [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
        &frame(4, 0, 0, b""),
    ]
    .concat();
    server.runtime.block_on(async {
        let answer = server.talk([begin].into_iter().chain(pieces)).await;
        if let Some(answer) = answer {
            check(&answer);
        }
        server.check().await;
    });
});

fn encode(piece: &Piece<'_>, next: &mut u32) -> Vec<u8> {
    match piece {
        Piece::Frame {
            kind,
            flags,
            stream,
            payload,
        } => frame(kind % 12, *flags, u32::from(*stream), payload),
        Piece::Request { ends, post } => {
            let stream = *next;
            *next += 2;
            let method = if *post { b'\x83' } else { b'\x82' };
            let head = [&[method], &b"\x86\x04\x05/ping\x01\x01t"[..]].concat();
            frame(1, 4 | u8::from(*ends), stream, &head)
        }
        Piece::Bytes(bytes) => bytes.to_vec(),
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// What the server said is frames, the first of them its settings, and the last one whole.
fn check(answer: &[u8]) {
    let mut rest = answer;
    let mut is_first = true;
    while let [a, b, c, kind, _, _, _, _, _, payload @ ..] = rest {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        assert!(*kind <= 9 && length <= 16 * 1024, "{answer:?}");
        assert!(!is_first || *kind == 4, "{answer:?}");
        is_first = false;
        rest = payload.get(length..).expect("a whole frame");
    }
    assert!(rest.is_empty(), "{answer:?}");
}
