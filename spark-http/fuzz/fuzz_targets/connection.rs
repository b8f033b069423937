//! Any bytes on a connection. The server answers with whole answers or closes, and goes on
//! serving others.

#![no_main]

use std::{net::SocketAddr, sync::OnceLock, time::Duration};

use libfuzzer_sys::fuzz_target;
use spark_http::{HttpServer, Ingress};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime::Runtime,
    time::timeout,
};

fuzz_target!(|bytes: &[u8]| {
    let (runtime, address) = server();
    runtime.block_on(async {
        let answer = talk(*address, bytes).await;
        if let Some(answer) = answer
            && !answer.is_empty()
        {
            assert!(answer.starts_with(b"HTTP/1."), "{answer:?}");
        }
        let ping =
            b"POST /ping HTTP/1.1\r\nhost: fuzz\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        let answer = talk(*address, ping)
            .await
            .expect("a whole request is answered");
        assert!(answer.starts_with(b"HTTP/1.1 200 "), "{answer:?}");
    });
});

/// `None` if the server closed the connection while it was written to.
async fn talk(address: SocketAddr, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(address)
        .await
        .expect("the server listens");
    let mut answer = Vec::new();
    let talk = async {
        stream.write_all(bytes).await?;
        stream.shutdown().await?;
        stream.read_to_end(&mut answer).await
    };
    let talked = timeout(Duration::from_secs(10), talk).await;
    talked.expect("every connection comes to an end").ok()?;
    Some(answer)
}

fn server() -> &'static (Runtime, SocketAddr) {
    static SERVER: OnceLock<(Runtime, SocketAddr)> = OnceLock::new();
    SERVER.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let address = runtime.block_on(async {
            let server = HttpServer::builder()
                .head_timeout(Duration::from_millis(200))
                .keep_alive(Duration::from_millis(200))
                .answer_half_closed()
                .bind("127.0.0.1:0")
                .await
                .expect("a free port");
            let address = server.local_addr().as_socket_addr().expect("TCP");
            let ingress = Ingress::builder()
                .body_timeout(Duration::from_millis(200))
                .handler_fn("ping", |_, _| async { "pong" })
                .build()
                .expect("valid");
            tokio::spawn(server.serve(ingress));
            address
        });
        (runtime, address)
    })
}
