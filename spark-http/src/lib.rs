#![doc = include_str!("../README.md")]

mod address;
mod answer;
mod auth;
mod body;
mod codec;
mod config;
mod context;
#[cfg(feature = "dashboard")]
mod dashboard;
mod due;
mod endpoint;
mod error;
mod head;
mod ingress;
#[cfg(feature = "openapi")]
mod openapi;
mod panic;
mod params;
mod path_parameters;
mod percent;
mod permits;
mod request_id;
mod route;
mod seeing;
mod server;
mod signal;
mod sse;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "ws")]
mod ws;

pub use crate::{
    address::Address,
    answer::{Answer, IntoAnswer, Json},
    auth::{ApiKeys, Authenticate, Identity},
    body::{Body, BodyError, BodyStream, ReceiveError},
    codec::{
        BytesCodec, Codec, CodecFn, Envelope, EnvelopeCodec, JsonCodec, ParamsCodec, TextCodec,
        Verb, WithParams, codec_fn,
    },
    config::ConfigError,
    context::{Context, PeerAddr},
    endpoint::Endpoint,
    error::{ErrorAnswer, ModuleError},
    ingress::{Answering, Ingress, IngressBuilder, ShutdownCredential},
    path_parameters::PathParameters,
    route::Route,
    seeing::Seeing,
    server::{
        AfterUpgrade, BindError, DrainReport, Draining, HttpServer, HttpServerBuilder,
        ServerHandle, ServerStats,
    },
    signal::ShutdownSignals,
    sse::{InvalidSseEvent, ReplyEvents, Sse, SseEvent, TopicEvents},
};

#[cfg(feature = "tls")]
pub use crate::{
    auth::ClientNames,
    tls::{ClientCa, ClientCertificate, Pem, TlsConfig, TlsConfigBuilder, TlsError},
};

#[cfg(feature = "openapi")]
pub use crate::openapi::Operation;

#[cfg(feature = "ws")]
pub use crate::ws::{
    InvalidWsMessage, Origins, WebSocket, WsAnswer, WsCall, WsCodec, WsId, WsJson, WsMessage,
    WsRefusal, WsText,
};

/// The program of the workspace's README, so that it compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct WorkspaceReadme;

/// The last page of the guide, which needs this crate.
#[cfg(doctest)]
#[doc = include_str!("../../docs/guide/http.md")]
struct Guide;
