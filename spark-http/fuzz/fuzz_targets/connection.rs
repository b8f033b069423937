//! Any bytes on a connection. The server answers with whole answers or closes, and goes on
//! serving others.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

use crate::server::Server;

#[path = "support/server.rs"]
mod server;

fuzz_target!(|bytes: &[u8]| {
    static SERVER: OnceLock<Server> = OnceLock::new();
    let server = SERVER.get_or_init(|| Server::start(Server::impatient(), |routes| routes));
    server.runtime.block_on(async {
        let answer = server.talk([bytes]).await.unwrap_or_default();
        // Of HTTP/2, the settings, on no stream.
        let is_http2 = answer.get(3..9) == Some(b"\x04\0\0\0\0\0");
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1.") || is_http2,
            "{answer:?}"
        );
        server.check().await;
    });
});
