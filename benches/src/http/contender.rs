//! Who serves, and how. All answer `POST /echo` with `{"message": <body>, "status": "Ok"}`.

use std::{error::Error, fmt, io::Write as _};

use axum::{Json, Router, routing::post};
use serde::Serialize;
use spark_channel::{NativeHandler, spawn_module};
use spark_http::{ApiKeys, HttpServer, Ingress, TextCodec};
use tokio::net::TcpListener;

use super::client::API_KEY;

/// A server to be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contender {
    /// A closure mounted in axum: what the others are compared with.
    Axum,
    /// A module behind Spark's ingress.
    Spark,
    /// A handler function in Spark's ingress.
    SparkFn,
    /// As `Spark`, for those who send the right API key.
    SparkKey,
    /// `manager_handlers`, which is built apart and listens on a fixed port.
    ManagerHandlers,
}

#[derive(Serialize)]
struct Answer {
    message: String,
    status: &'static str,
}

struct Echo;

// === impl Contender ===

impl Contender {
    /// Those this program serves itself, the one to compare with first.
    pub const OWN: [Self; 4] = [Self::Axum, Self::Spark, Self::SparkFn, Self::SparkKey];

    /// The name in tables, in JSON and in `--only`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Axum => "axum",
            Self::Spark => "spark",
            Self::SparkFn => "spark-fn",
            Self::SparkKey => "spark-key",
            Self::ManagerHandlers => "manager-handlers",
        }
    }

    /// Version and configuration, for the line under the tables.
    #[must_use]
    pub const fn about(self) -> &'static str {
        match self {
            Self::Axum => {
                "axum 0.8 and axum::serve, without any timeout or limit but its own on bodies"
            }
            Self::Spark => {
                "a module behind TextCodec, every limit of the ingress and the server on"
            }
            Self::SparkFn => "as spark, a handler function in place of the module",
            Self::SparkKey => "as spark, and each request's API key is checked",
            Self::ManagerHandlers => {
                "manager_handlers 0.7.2, which always checks an API key; 64 replicas and 64 requests \
                 at a time (its default is 1), its access log off unless --access-log"
            }
        }
    }

    /// Finds one of [`OWN`](Self::OWN) by its name.
    #[must_use]
    pub fn own(name: &str) -> Option<Self> {
        Self::OWN.into_iter().find(|own| own.name() == name)
    }

    /// Whether this program serves it.
    #[must_use]
    pub fn is_own(self) -> bool {
        self != Self::ManagerHandlers
    }

    /// Whether it is Spark's, in any configuration.
    #[must_use]
    pub fn is_spark(self) -> bool {
        matches!(self, Self::Spark | Self::SparkFn | Self::SparkKey)
    }

    /// Serves until the process is killed, and prints where once it listens.
    ///
    /// # Errors
    ///
    /// If there is no port to be had.
    ///
    /// # Panics
    ///
    /// Panics if it is not one of [`OWN`](Self::OWN).
    pub fn serve(self) -> Result<(), Box<dyn Error>> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        runtime.block_on(async {
            // On the worker, as connections are.
            tokio::spawn(async move {
                match self {
                    Self::Axum => serve_axum().await,
                    Self::Spark | Self::SparkFn | Self::SparkKey => self.serve_spark().await,
                    Self::ManagerHandlers => panic!("{self} is a program of its own"),
                }
                .map_err(|error| error.to_string())
            })
            .await?
            .map_err(Into::into)
        })
    }

    async fn serve_spark(self) -> Result<(), Box<dyn Error>> {
        let mut builder = Ingress::builder();
        if self == Self::SparkKey {
            builder = builder.api_keys(ApiKeys::new([("bench", API_KEY)])?);
        }
        let ingress = if self == Self::SparkFn {
            builder.handler_fn("echo", |_, body| async move {
                String::from_utf8(body.to_vec()).map_err(|error| eyre::eyre!(error))
            })
        } else {
            let echo = spawn_module(Echo);
            builder.module("echo", TextCodec, echo.dispatcher())
        };
        let server = HttpServer::bind("127.0.0.1:0").await?;
        announce(server.local_addr())?;
        server.serve(ingress.build()?).await;
        Ok(())
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

// === impl Echo ===

impl NativeHandler for Echo {
    type Message = String;
    type Response = String;
    type Error = eyre::Report;

    async fn handle_request(&mut self, text: String) -> eyre::Result<String> {
        Ok(text)
    }

    async fn handle_command(&mut self, _: String) -> eyre::Result<()> {
        Ok(())
    }
}

async fn serve_axum() -> Result<(), Box<dyn Error>> {
    let echo = |message: String| async move {
        Json(Answer {
            message,
            status: "Ok",
        })
    };
    let app = Router::new().route("/echo", post(echo));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    announce(listener.local_addr()?)?;
    axum::serve(listener, app).await?;
    Ok(())
}

fn announce(address: impl fmt::Display) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "listening on {address}")?;
    out.flush()
}
