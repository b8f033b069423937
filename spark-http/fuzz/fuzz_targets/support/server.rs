//! A server that every input of a run talks to, and that outlives them all.

#![allow(dead_code, reason = "each target uses another part of this one")]

use std::{net::SocketAddr, time::Duration};

use spark_http::{HttpServer, HttpServerBuilder, Ingress, IngressBuilder, ServerHandle};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime::Runtime,
    time::timeout,
};

pub(crate) struct Server {
    pub(crate) runtime: Runtime,
    address: SocketAddr,
    handle: ServerHandle,
}

impl Server {
    /// Serves what `routes` adds to a route called `ping`. Modules may be spawned in there.
    pub(crate) fn start(
        builder: HttpServerBuilder,
        routes: impl FnOnce(IngressBuilder) -> IngressBuilder,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let (address, handle) = runtime.block_on(async {
            let server = builder.bind("127.0.0.1:0").await.expect("a free port");
            let address = server.local_addr().as_socket_addr().expect("TCP");
            let handle = server.handle();
            let ingress = Ingress::builder()
                .body_timeout(SHORT)
                .handler_fn("ping", |_, _| async { "pong" });
            tokio::spawn(server.serve(routes(ingress).build().expect("valid")));
            (address, handle)
        });
        Self {
            runtime,
            address,
            handle,
        }
    }

    /// A server that does not wait long for anything.
    pub(crate) fn impatient() -> HttpServerBuilder {
        HttpServer::builder()
            .head_timeout(SHORT)
            .keep_alive(SHORT)
            .answer_half_closed()
    }

    /// Says `pieces`, each in a write of its own, and hears the server out; `None` if it closed the
    /// connection while it was written to.
    pub(crate) async fn talk<P: AsRef<[u8]>>(
        &self,
        pieces: impl IntoIterator<Item = P>,
    ) -> Option<Vec<u8>> {
        let mut stream = TcpStream::connect(self.address)
            .await
            .expect("the server listens");
        stream.set_nodelay(true).expect("connected");
        let mut answer = Vec::new();
        let talk = async {
            for piece in pieces {
                stream.write_all(piece.as_ref()).await?;
                tokio::task::yield_now().await;
            }
            stream.shutdown().await?;
            stream.read_to_end(&mut answer).await
        };
        let talked = timeout(LONG, talk).await;
        talked.expect("every connection comes to an end").ok()?;
        Some(answer)
    }

    /// Holds the server to having ended every connection, and to serving the next.
    pub(crate) async fn check(&self) {
        let ended = async {
            while self.handle.stats().open > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let ended = timeout(LONG, ended).await;
        ended.expect("the server's end of a connection ends, too");
        let ping =
            b"POST /ping HTTP/1.1\r\nhost: fuzz\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        let answer = self.talk([ping]).await;
        let answer = answer.expect("a whole request is answered");
        assert!(answer.starts_with(b"HTTP/1.1 200 "), "{answer:?}");
    }
}

const SHORT: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(10);
