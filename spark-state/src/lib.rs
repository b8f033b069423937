#![doc = include_str!("../README.md")]

#[cfg(feature = "module")]
pub mod module;

mod builder;
mod change;
mod clock;
mod containment;
mod entry;
mod error;
mod expiry;
mod flights;
mod hashing;
mod key;
mod listeners;
mod next_due;
mod presence;
mod reentry;
mod room;
mod shared_state;
mod snapshot;
mod stats;
mod store;
mod subscription;
mod sweeper;
mod types;
mod value;
mod version;
mod watch;
mod wire;

pub use crate::{
    builder::Builder,
    change::{Change, StateEvent},
    error::{Bound, StateError},
    expiry::Expiry,
    key::{InsertKey, Key, KeyName, StateKey},
    room::AtBound,
    shared_state::SharedState,
    snapshot::{LoadError, Restored, Skipped, Snapshot},
    stats::Stats,
    subscription::{RecvError, Subscription},
    sweeper::Sweeper,
    types::StateType,
    value::{AnyValue, AsyncFunction, FunctionFuture, Kind, StateValue, SyncFunction},
    version::{Version, Versioned},
    watch::Watch,
    wire::WireValue,
};
