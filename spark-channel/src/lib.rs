#![doc = include_str!("../README.md")]

pub mod callback;
pub mod cancellation_token;
pub mod current;
mod link;
pub mod listener;
#[cfg(feature = "test-util")]
pub mod testing;

mod any_response;
mod ask_with;
mod attached;
mod call;
mod class;
mod classes;
mod clock;
mod command_all;
mod config;
mod contained;
mod control;
mod deadlock;
mod direct;
mod dispatcher;
mod ending;
mod error;
#[cfg(doctest)]
mod guides;
mod handle;
mod handler;
mod inlet;
mod keyed;
mod message_stats;
#[cfg(feature = "metrics")]
mod metrics_exporter;
mod module;
#[cfg(feature = "macros")]
mod module_macro;
mod module_tasks;
mod oversight;
mod reader_writer;
mod readers;
mod reply;
mod reply_stream;
mod request;
mod request_all;
mod router;
mod routing;
mod run_loop;
#[cfg(feature = "tower")]
mod service;
mod state;
mod stats;
mod stop;
mod supervision;
mod system;
mod timings;
mod topic;
mod watch;

pub use async_trait::async_trait;
#[cfg(feature = "macros")]
#[doc = include_str!("module_macro.md")]
pub use spark_channel_macros::module;

pub use crate::{
    any_response::AnyResponse,
    ask_with::AskWith,
    attached::{Attached, Detached, Tick},
    call::{Call, Projection, TypedRequest},
    callback::{CallbackSender, CallbackWrapper},
    cancellation_token::{SparkChannelCancellationToken, SparkChannelCancellationTrait},
    class::{Class, ClassStats, Overflow, Priority},
    command_all::RefusedBatch,
    config::{Factory, PanicPolicy},
    deadlock::Deadlocks,
    dispatcher::{SparkGenericModuleDispatcher, WeakDispatcher},
    error::{IntoResult, Refused, SparkChannelError, Stage},
    handle::ModuleHandle,
    handler::{
        AsyncTraitHandler, IntoHandler, Native, NativeHandler, SparkGenericModuleHandler,
        ViaAsyncTrait,
    },
    keyed::{KeyedBuilder, KeyedHandle, KeyedPanicPolicy, KeyedReport, Population, keyed},
    listener::{SparkGenericModuleMessage, run_module_server},
    message_stats::{CurrentMessage, Durations, MessageStats, NamedStats},
    module::{DispatcherOf, HandleOf, ModuleBuilder, module, pool, spawn_module, spawn_pool},
    module_tasks::{ModuleTasks, TaskStats},
    oversight::Restart,
    reader_writer::{
        Access, ReaderWriter, ReaderWriterBuilder, ReaderWriterHandler, ViaReaderWriter,
        reader_writer,
    },
    reply::Reply,
    reply_stream::{ReplyStream, ReplyStreamSender},
    request::Request,
    request_all::RequestAll,
    router::{Parts, Router, RouterHandler, Verb, ViaRouter},
    state::ModuleState,
    stats::Stats,
    stop::{Report, Stop, StopReason},
    supervision::{
        Backoff, Child, ChildFailure, ChildReport, ChildStatus, Strategy, Supervisor,
        SupervisorEnd, SupervisorHandle, SupervisorReport,
    },
    system::{LookupError, RegisterError, RegisteredModule, System, SystemClosed, SystemReport},
    topic::{
        Backlog, ModuleSubscription, Subscription, SubscriptionEnd, SubscriptionStats, Topic,
        TopicStats,
    },
    watch::{DeathNotice, Ended, Watch},
};

#[cfg(feature = "metrics")]
pub use crate::metrics_exporter::MetricsExporter;
#[cfg(feature = "tower")]
pub use crate::service::{DispatcherService, ServiceCall, ServiceHandler, service_module};

/// What the code that macros write needs, and nobody else.
#[cfg(feature = "macros")]
#[doc(hidden)]
pub mod __private {
    pub use crate::module_macro::*;
}
