#![doc = include_str!("../README.md")]

pub mod callback;
pub mod cancellation_token;
pub mod current;
pub mod listener;

mod clock;
mod control;
mod dispatcher;
mod error;
mod handle;
mod handler;
mod module;
mod request;
mod run_loop;
mod stats;

pub use async_trait::async_trait;

pub use crate::{
    callback::{CallbackSender, CallbackWrapper},
    cancellation_token::{SparkChannelCancellationToken, SparkChannelCancellationTrait},
    dispatcher::{SparkGenericModuleDispatcher, WeakDispatcher},
    error::{IntoResult, Refused, SparkChannelError, Stage},
    handle::{ModuleHandle, Report, Stop, StopReason},
    handler::{
        AsyncTraitHandler, IntoHandler, Native, NativeHandler, SparkGenericModuleHandler,
        ViaAsyncTrait,
    },
    listener::{SparkGenericModuleMessage, run_module_server},
    module::{
        Factory, HandleOf, ModuleBuilder, PanicPolicy, module, pool, spawn_module, spawn_pool,
    },
    request::Request,
    stats::Stats,
};
