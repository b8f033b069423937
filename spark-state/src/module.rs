//! The store as a module: what it is asked, and what it answers.

use std::collections::BTreeSet;

use spark_channel::{Access, ReaderWriterHandler, SparkChannelError};

mod message;
mod wire;

pub use self::{
    message::{
        Call, Change, CompareAndSwap, Get, Insert, KeyPage, Keys, Remove, StateReply, StateRequest,
        Update, Watch,
    },
    wire::{WireReply, WireRequest},
};
use crate::{SharedState, StateError, StateValue, Versioned};

/// A [`SharedState`] as a module of spark-channel: the same store, reached through a mailbox.
///
/// The store itself is as well used directly; the module is for callers that have a dispatcher and
/// nothing else, such as a route or another process. [`WireRequest`] and [`WireReply`] are its
/// messages as JSON.
///
/// All its requests are reads of a reader-writer module: they start in the order
/// accepted, and a function that awaits holds up nobody, up to the module's bound of
/// [readers](spark_channel::ReaderWriterBuilder::readers). Those that do not await, which is all
/// but [`Call`], are done when they have started. Commands run alone: a function that is called by
/// one holds up the module until it returns.
///
/// ```
/// use spark_channel::reader_writer;
/// use spark_state::{SharedState, StateValue, module::{Get, Insert, StateModule}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), spark_state::module::StateModuleError> {
/// let state = SharedState::new();
/// let module = reader_writer(StateModule::new(state.clone())).name("state").spawn();
/// let dispatcher = module.dispatcher();
///
/// dispatcher.call(Insert::new("hits", 41_i64)).await?;
/// state.increment("hits", 1)?;
/// let hits = dispatcher.call(Get::new("hits")).await?;
/// assert_eq!(hits.value, StateValue::Long(42));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct StateModule {
    state: SharedState,
}

/// Why a request to a [`StateModule`] was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateModuleError {
    /// The store has refused.
    #[error(transparent)]
    State(#[from] StateError),
    /// The call has failed.
    #[error(transparent)]
    Call(#[from] SparkChannelError),
}

/// The first keys of all that it is offered.
struct Page {
    keys: BTreeSet<String>,
    keys_max: usize,
    bytes: usize,
    /// The first key that is not in it any more. None behind it may be.
    end: Option<String>,
}

// === impl StateModule ===

impl StateModule {
    /// Makes a module of a store, or of a scope: its keys are that scope's, in errors, too, which so
    /// name what the caller has sent.
    #[must_use]
    pub fn new(state: SharedState) -> Self {
        Self { state }
    }

    async fn answer(&self, request: StateRequest) -> Result<StateReply, StateModuleError> {
        let answer = self.ask(request).await;
        Ok(answer.map_err(|error| error.within(&self.state))?)
    }

    async fn ask(&self, request: StateRequest) -> Result<StateReply, StateError> {
        let state = &self.state;
        Ok(match request {
            StateRequest::Get(get) => StateReply::Value(state.get_versioned(&get.key)?),
            StateRequest::Insert(insert) => {
                let Insert { key, value, expiry } = insert;
                StateReply::Written(match expiry {
                    Some(expiry) => state.insert_with(&key, value, expiry)?,
                    None => state.insert(&key, value)?,
                })
            }
            StateRequest::Remove(remove) => StateReply::Removed(state.remove(&remove.key)?),
            StateRequest::Update(update) => StateReply::Value(self.update(update)?),
            StateRequest::CompareAndSwap(swap) => {
                let version = state.compare_and_swap(&swap.key, swap.expected, swap.value)?;
                StateReply::Written(version)
            }
            StateRequest::Call(call) => {
                StateReply::Returned(state.call(&call.key, call.argument).await?)
            }
            StateRequest::Keys(keys) => StateReply::Keys(self.keys(&keys)),
            StateRequest::Watch(watch) => StateReply::Watching(state.watch(&watch.key)),
        })
    }

    fn update(&self, update: Update) -> Result<Versioned<StateValue>, StateError> {
        let Update { key, change } = update;
        let name = self.state.full(&key);
        match change {
            Change::Increment(by) => {
                let sum = self.state.increment_versioned(&name, by)?;
                Ok(Versioned::new(sum.value.into(), sum.version))
            }
            Change::Append(text) => {
                let appended = self.state.store.update(&name, |held: &mut String| {
                    held.push_str(&text);
                    Ok::<_, StateError>(held.clone())
                })?;
                Ok(Versioned::new(appended.value.into(), appended.version))
            }
            Change::Merge(patch) => {
                let merged = self
                    .state
                    .store
                    .update(&name, |held: &mut serde_json::Value| {
                        merge(held, patch);
                        Ok::<_, StateError>(held.clone())
                    })?;
                Ok(Versioned::new(merged.value.into(), merged.version))
            }
            Change::Apply(change) => self.state.store.update(&name, |held: &mut StateValue| {
                change(held);
                Ok::<_, StateError>(held.clone())
            }),
        }
    }

    /// The keys of a page, in order, whatever their number: no more than a page is held.
    fn keys(&self, asked: &Keys) -> KeyPage {
        let mut page = Page::of(asked.limit.clamp(1, KEYS_MAX));
        self.state.store.for_each(|name, _| {
            let Some(key) = self.state.within(name) else {
                return;
            };
            let behind = asked.after.as_deref().is_none_or(|after| key > after);
            if behind && key.starts_with(&asked.prefix) {
                page.offer(key);
            }
        });
        KeyPage {
            more: page.end.is_some(),
            keys: page.keys.into_iter().collect(),
        }
    }
}

impl ReaderWriterHandler for StateModule {
    type Message = StateRequest;
    type Response = StateReply;
    type Error = StateModuleError;

    /// The store orders its writers itself.
    fn access(_: &StateRequest) -> Access {
        Access::Read
    }

    async fn handle_read(&self, request: StateRequest) -> Result<StateReply, StateModuleError> {
        self.answer(request).await
    }

    async fn handle_write(
        &mut self,
        request: StateRequest,
    ) -> Result<StateReply, StateModuleError> {
        self.answer(request).await
    }

    async fn handle_command(&mut self, request: StateRequest) -> Result<(), StateModuleError> {
        self.answer(request).await?;
        Ok(())
    }
}

// === impl Page ===

impl Page {
    fn of(keys_max: usize) -> Self {
        Self {
            keys: BTreeSet::new(),
            keys_max,
            bytes: 0,
            end: None,
        }
    }

    fn offer(&mut self, key: &str) {
        if self.end.as_deref().is_some_and(|end| key >= end) {
            return;
        }
        self.bytes += key.len();
        self.keys.insert(key.to_owned());
        while self.is_beyond_its_bounds() {
            self.end = self.keys.pop_last();
            self.bytes -= self.end.as_ref().map_or(0, String::len);
        }
    }

    fn is_beyond_its_bounds(&self) -> bool {
        match self.keys.len() {
            // Without its first key, nobody would ever get behind it.
            0 | 1 => false,
            keys => keys > self.keys_max || self.bytes > KEY_BYTES_MAX,
        }
    }
}

/// RFC 7396: objects are merged, `null` removes, anything else replaces.
fn merge(target: &mut serde_json::Value, patch: serde_json::Value) {
    let serde_json::Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = serde_json::Value::Object(serde_json::Map::new());
    }
    let Some(fields) = target.as_object_mut() else {
        return;
    };
    for (name, value) in patch {
        if value.is_null() {
            fields.remove(&name);
        } else {
            merge(fields.entry(name).or_insert(serde_json::Value::Null), value);
        }
    }
}

/// A page is one answer, which somebody has to hold.
const KEYS_MAX: usize = 10_000;

/// As above: keys may be long.
const KEY_BYTES_MAX: usize = 1 << 20;
