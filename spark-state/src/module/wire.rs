//! The messages of a [`StateModule`](super::StateModule) as JSON.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Call, Change, CompareAndSwap, Get, Insert, Keys, Remove, StateReply, StateRequest, Update,
};
use crate::{Expiry, StateError, Version, WireValue, wire::shallow};

/// A request from another process.
///
/// ```
/// use spark_state::module::WireRequest;
///
/// for json in [
///     r#"{"do": "get", "key": "hits"}"#,
///     r#"{"do": "insert", "key": "hits", "value": {"kind": "long", "value": 1}, "ttl_ms": 60000}"#,
///     r#"{"do": "remove", "key": "hits"}"#,
///     r#"{"do": "increment", "key": "hits", "by": 1}"#,
///     r#"{"do": "append", "key": "log", "text": "more"}"#,
///     r#"{"do": "merge", "key": "config", "patch": {"retries": 3}}"#,
///     r#"{"do": "compare_and_swap", "key": "hits", "expected": 7, "value": {"kind": "none"}}"#,
///     r#"{"do": "call", "key": "double", "argument": {"kind": "long", "value": 21}}"#,
///     r#"{"do": "keys", "prefix": "orders/", "after": "orders/17", "limit": 100}"#,
/// ] {
///     serde_json::from_str::<WireRequest>(json)?;
/// }
/// # Ok::<_, serde_json::Error>(())
/// ```
///
/// [`Watch`](super::Watch) is none of them: an answer that goes on is a stream, and how that goes
/// over the wire is the wire's affair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum WireRequest {
    /// [`Get`].
    Get {
        /// Where.
        key: String,
    },
    /// [`Insert`].
    Insert {
        /// Where.
        key: String,
        /// What.
        value: WireValue,
        /// Its time to live, in milliseconds; the largest number is never, whatever the store's own
        /// expiry.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ttl_ms: Option<u64>,
        /// Its idle time, in milliseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        idle_ms: Option<u64>,
    },
    /// [`Remove`].
    Remove {
        /// Where.
        key: String,
    },
    /// [`Change::Increment`].
    Increment {
        /// Where.
        key: String,
        /// By how much.
        by: i64,
    },
    /// [`Change::Append`].
    Append {
        /// Where.
        key: String,
        /// What.
        text: String,
    },
    /// [`Change::Merge`].
    Merge {
        /// Where.
        key: String,
        /// What, of at most 100 levels, as a [`WireValue`].
        #[serde(deserialize_with = "shallow")]
        patch: serde_json::Value,
    },
    /// [`CompareAndSwap`].
    CompareAndSwap {
        /// Where.
        key: String,
        /// The version that is expected; 0 is none.
        expected: u64,
        /// What.
        value: WireValue,
    },
    /// [`Call`].
    Call {
        /// Which function.
        key: String,
        /// With what; with nothing, if it is not there.
        #[serde(default = "nothing")]
        argument: WireValue,
    },
    /// [`Keys`].
    Keys {
        /// What they begin with.
        #[serde(default)]
        prefix: String,
        /// The last one of the page before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<String>,
        /// At most so many, up to 10 000; 1 000, if it is not there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<usize>,
    },
}

/// An answer to another process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum WireReply {
    /// [`StateReply::Value`].
    Value {
        /// What is there.
        value: WireValue,
        /// Its version.
        version: u64,
    },
    /// [`StateReply::Written`].
    Written {
        /// The new version.
        version: u64,
    },
    /// [`StateReply::Removed`].
    Removed {
        /// Whether there was one.
        removed: bool,
    },
    /// [`StateReply::Returned`].
    Returned {
        /// What the function has returned.
        returned: WireValue,
    },
    /// [`StateReply::Keys`].
    Keys {
        /// The keys, in order.
        keys: Vec<String>,
        /// Whether there are others behind them.
        more: bool,
    },
}

// === impl WireRequest ===

impl From<WireRequest> for StateRequest {
    fn from(request: WireRequest) -> Self {
        match request {
            WireRequest::Get { key } => Get::new(key).into(),
            WireRequest::Insert {
                key,
                value,
                ttl_ms,
                idle_ms,
            } => {
                let mut expiry = Expiry::never();
                let lives_ms = ttl_ms.filter(|ttl| *ttl != NEVER_MS);
                expiry.ttl = lives_ms.map(Duration::from_millis);
                expiry.idle = idle_ms.map(Duration::from_millis);
                let insert = Insert::new(key, value);
                let own = ttl_ms.is_some() || idle_ms.is_some();
                if own { insert.expiry(expiry) } else { insert }.into()
            }
            WireRequest::Remove { key } => Remove::new(key).into(),
            WireRequest::Increment { key, by } => Update::new(key, Change::Increment(by)).into(),
            WireRequest::Append { key, text } => Update::new(key, Change::Append(text)).into(),
            WireRequest::Merge { key, patch } => Update::new(key, Change::Merge(patch)).into(),
            WireRequest::CompareAndSwap {
                key,
                expected,
                value,
            } => CompareAndSwap::new(key, Version::from_u64(expected), value).into(),
            WireRequest::Call { key, argument } => Call::new(key, argument).into(),
            WireRequest::Keys {
                prefix,
                after,
                limit,
            } => {
                let keys = Keys::under(prefix);
                let limit = limit.unwrap_or(keys.limit);
                Keys {
                    after,
                    limit,
                    ..keys
                }
                .into()
            }
        }
    }
}

impl TryFrom<StateRequest> for WireRequest {
    type Error = StateError;

    /// # Errors
    ///
    /// [`NotSerialisable`](StateError::NotSerialisable) for what cannot leave the process: functions,
    /// values of types of one's own, [`Change::Apply`] and [`Watch`](super::Watch).
    fn try_from(request: StateRequest) -> Result<Self, StateError> {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Ok(match request {
            StateRequest::Get(Get { key }) => Self::Get { key },
            StateRequest::Insert(Insert { key, value, expiry }) => Self::Insert {
                key,
                value: value.try_into()?,
                ttl_ms: match expiry {
                    // Without either, the store's own expiry would hold.
                    Some(expiry) if expiry == Expiry::never() => Some(NEVER_MS),
                    expiry => expiry.and_then(|expiry| expiry.ttl).map(millis),
                },
                idle_ms: expiry.and_then(|expiry| expiry.idle).map(millis),
            },
            StateRequest::Remove(Remove { key }) => Self::Remove { key },
            StateRequest::Update(Update { key, change }) => match change {
                Change::Increment(by) => Self::Increment { key, by },
                Change::Append(text) => Self::Append { key, text },
                Change::Merge(patch) => Self::Merge { key, patch },
                Change::Apply(_) => return Err(StateError::NotSerialisable { found: "closure" }),
            },
            StateRequest::CompareAndSwap(CompareAndSwap {
                key,
                expected,
                value,
            }) => Self::CompareAndSwap {
                key,
                expected: expected.to_u64(),
                value: value.try_into()?,
            },
            StateRequest::Call(Call { key, argument }) => Self::Call {
                key,
                argument: argument.try_into()?,
            },
            StateRequest::Keys(Keys {
                prefix,
                after,
                limit,
            }) => Self::Keys {
                prefix,
                after,
                limit: Some(limit),
            },
            StateRequest::Watch(_) => return Err(StateError::NotSerialisable { found: "watch" }),
        })
    }
}

// === impl WireReply ===

impl TryFrom<StateReply> for WireReply {
    type Error = StateError;

    /// # Errors
    ///
    /// [`NotSerialisable`](StateError::NotSerialisable) for what cannot leave the process: functions,
    /// values of types of one's own, and a [`Watch`](crate::Watch).
    fn try_from(reply: StateReply) -> Result<Self, StateError> {
        Ok(match reply {
            StateReply::Value(found) => Self::Value {
                version: found.version.to_u64(),
                value: found.value.try_into()?,
            },
            StateReply::Written(version) => Self::Written {
                version: version.to_u64(),
            },
            StateReply::Removed(removed) => Self::Removed { removed },
            StateReply::Returned(value) => Self::Returned {
                returned: value.try_into()?,
            },
            StateReply::Keys(page) => Self::Keys {
                keys: page.keys,
                more: page.more,
            },
            StateReply::Watching(_) => {
                return Err(StateError::NotSerialisable { found: "watch" });
            }
        })
    }
}

fn nothing() -> WireValue {
    WireValue::nothing()
}

const NEVER_MS: u64 = u64::MAX;
