//! The messages of a [`StateModule`](super::StateModule), in its own process.

use std::fmt;

use spark_channel::SparkChannelError;

use crate::{Expiry, StateValue, Version, Versioned};

/// What a store is asked. Each variant holds a message that can be
/// [called](spark_channel::SparkGenericModuleDispatcher::call) by itself.
#[derive(Debug)]
#[non_exhaustive]
pub enum StateRequest {
    /// For a value.
    Get(Get),
    /// To put one there.
    Insert(Insert),
    /// To remove one.
    Remove(Remove),
    /// To change one.
    Update(Update),
    /// To replace one, if it is still the same.
    CompareAndSwap(CompareAndSwap),
    /// To call a function.
    Call(Call),
    /// For its keys.
    Keys(Keys),
    /// To follow a value.
    Watch(Watch),
}

/// What a store answers.
#[derive(Debug)]
#[non_exhaustive]
pub enum StateReply {
    /// The value that is there, or that an update has made.
    Value(Versioned<StateValue>),
    /// The version of the value that was put there.
    Written(Version),
    /// Whether there was one.
    Removed(bool),
    /// What the function has returned.
    Returned(StateValue),
    /// Keys, in order.
    Keys(KeyPage),
    /// The value from now on; it cannot leave the process.
    Watching(crate::Watch<StateValue>),
}

/// Answered with the value under a key, of whatever kind, and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Get {
    pub(super) key: String,
}

/// Puts a value under a key; answered with its version.
#[derive(Clone, Debug, PartialEq)]
pub struct Insert {
    pub(super) key: String,
    pub(super) value: StateValue,
    pub(super) expiry: Option<Expiry>,
}

/// Removes the value under a key; answered with whether there was one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remove {
    pub(super) key: String,
}

/// Changes the value under a key in one step; answered with what it is then.
#[derive(Debug)]
pub struct Update {
    pub(super) key: String,
    pub(super) change: Change,
}

/// How a value is changed.
#[non_exhaustive]
pub enum Change {
    /// A [`Long`](StateValue::Long) is added to; where nothing is, it is put there.
    Increment(i64),
    /// Text is added to a [`String`](StateValue::String).
    Append(String),
    /// A merge patch (RFC 7396) is applied to a [`Json`](StateValue::Json): objects are merged, and
    /// `null` removes a field.
    Merge(serde_json::Value),
    /// Anything. It cannot leave the process.
    Apply(Box<dyn FnOnce(&mut StateValue) + Send>),
}

/// Replaces the value under a key if it has a version; answered with the next one.
#[derive(Clone, Debug, PartialEq)]
pub struct CompareAndSwap {
    pub(super) key: String,
    pub(super) expected: Version,
    pub(super) value: StateValue,
}

/// Calls the function under a key; answered with what it returns.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub(super) key: String,
    pub(super) argument: StateValue,
}

/// Answered with a page of the keys that begin with a prefix.
///
/// A page has a bound in keys, its [`limit`](Self::limit), and one in bytes: its keys are a mebibyte
/// together, at most, or one key that is longer. What is cut off by either comes with the next page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    pub(super) prefix: String,
    pub(super) after: Option<String>,
    pub(super) limit: usize,
}

/// Some keys, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyPage {
    /// The keys.
    pub keys: Vec<String>,
    /// Whether there are others behind the last of them, to be asked for [after](Keys::after) it.
    pub more: bool,
}

/// Answered with a [`Watch`](crate::Watch) of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    pub(super) key: String,
}

// === impl messages ===

impl Get {
    /// Asks for the value under `key`.
    pub fn new(key: impl Into<String>) -> Self {
        Self { key: key.into() }
    }
}

impl Insert {
    /// Asks to put `value` under `key`, to expire as the store's values do.
    pub fn new(key: impl Into<String>, value: impl Into<StateValue>) -> Self {
        Self {
            key: key.into(),
            value: value.into(),
            expiry: None,
        }
    }

    /// Gives it an expiry of its own.
    #[must_use]
    pub fn expiry(mut self, expiry: Expiry) -> Self {
        self.expiry = Some(expiry);
        self
    }
}

impl Remove {
    /// Asks to remove the value under `key`.
    pub fn new(key: impl Into<String>) -> Self {
        Self { key: key.into() }
    }
}

impl Update {
    /// Asks to change the value under `key`.
    pub fn new(key: impl Into<String>, change: Change) -> Self {
        Self {
            key: key.into(),
            change,
        }
    }
}

impl CompareAndSwap {
    /// Asks to put `value` under `key` if what is there has the version `expected`.
    pub fn new(key: impl Into<String>, expected: Version, value: impl Into<StateValue>) -> Self {
        Self {
            key: key.into(),
            expected,
            value: value.into(),
        }
    }
}

impl Call {
    /// Asks to call the function under `key`.
    pub fn new(key: impl Into<String>, argument: impl Into<StateValue>) -> Self {
        Self {
            key: key.into(),
            argument: argument.into(),
        }
    }
}

impl Keys {
    /// Asks for the first 1 000 of the keys that begin with `prefix`.
    pub fn under(prefix: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
            after: None,
            limit: 1_000,
        }
    }

    /// Begins behind `key`, the last one of the page before.
    #[must_use]
    pub fn after(mut self, key: impl Into<String>) -> Self {
        self.after = Some(key.into());
        self
    }

    /// At most so many: from one to ten thousand, whatever is asked for.
    #[must_use]
    pub fn limit(mut self, keys: usize) -> Self {
        self.limit = keys;
        self
    }
}

impl Watch {
    /// Asks to follow the value under `key`.
    pub fn new(key: impl Into<String>) -> Self {
        Self { key: key.into() }
    }
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Increment(by) => f.debug_tuple("Increment").field(by).finish(),
            Self::Append(text) => f.debug_tuple("Append").field(text).finish(),
            Self::Merge(patch) => f.debug_tuple("Merge").field(patch).finish(),
            Self::Apply(_) => f.write_str("Apply(..)"),
        }
    }
}

// === impl StateReply ===

impl StateReply {
    fn name(&self) -> &'static str {
        match self {
            Self::Value(_) => "Value",
            Self::Written(_) => "Written",
            Self::Removed(_) => "Removed",
            Self::Returned(_) => "Returned",
            Self::Keys(_) => "Keys",
            Self::Watching(_) => "Watching",
        }
    }
}

/// Each message by itself: the variant it goes in, and the one its answer comes out of.
macro_rules! calls {
    ($($message:ident -> $answer:ident($reply:ty);)+) => { $(
        impl From<$message> for StateRequest {
            fn from(message: $message) -> Self {
                Self::$message(message)
            }
        }

        impl spark_channel::Call<StateRequest, StateReply> for $message {
            type Reply = $reply;

            fn into_message(self) -> StateRequest {
                self.into()
            }

            fn project(reply: StateReply) -> Result<$reply, SparkChannelError> {
                match reply {
                    StateReply::$answer(answer) => Ok(answer),
                    other => Err(SparkChannelError::unexpected_response(
                        stringify!($answer),
                        other.name(),
                    )),
                }
            }
        }
    )+ };
}

calls! {
    Get -> Value(Versioned<StateValue>);
    Insert -> Written(Version);
    Remove -> Removed(bool);
    Update -> Value(Versioned<StateValue>);
    CompareAndSwap -> Written(Version);
    Call -> Returned(StateValue);
    Keys -> Keys(KeyPage);
    Watch -> Watching(crate::Watch<StateValue>);
}
