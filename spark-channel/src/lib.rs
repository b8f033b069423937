#![doc = include_str!("../README.md")]

pub mod callback;
pub mod cancellation_token;
pub mod current;
pub mod listener;

mod clock;
mod config;
mod control;
mod direct;
mod dispatcher;
mod error;
mod handle;
mod handler;
mod module;
mod request;
mod run_loop;
#[cfg(feature = "tower")]
mod service;
mod stats;
mod stop;

pub use async_trait::async_trait;

pub use crate::{
    callback::{CallbackSender, CallbackWrapper},
    cancellation_token::{SparkChannelCancellationToken, SparkChannelCancellationTrait},
    config::{Factory, PanicPolicy},
    dispatcher::{SparkGenericModuleDispatcher, WeakDispatcher},
    error::{IntoResult, Refused, SparkChannelError, Stage},
    handle::ModuleHandle,
    handler::{
        AsyncTraitHandler, IntoHandler, Native, NativeHandler, SparkGenericModuleHandler,
        ViaAsyncTrait,
    },
    listener::{SparkGenericModuleMessage, run_module_server},
    module::{HandleOf, ModuleBuilder, module, pool, spawn_module, spawn_pool},
    request::Request,
    stats::Stats,
    stop::{Report, Stop, StopReason},
};

#[cfg(feature = "tower")]
pub use crate::service::{DispatcherService, ServiceCall, ServiceHandler, service_module};
