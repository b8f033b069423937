//! Which Rust types a store takes and gives back.

use std::{
    any::{Any, TypeId, type_name},
    sync::Arc,
};

use bytes::Bytes;
use serde_json::Value as Json;

use crate::{AnyValue, AsyncFunction, Kind, StateValue, SyncFunction};

/// A type that a store holds and gives back as it was.
///
/// | type | kind |
/// |---|---|
/// | `()` | [`None`](Kind::None) |
/// | `bool`, `i32`, `i64`, `f32`, `f64` | [`Bool`](Kind::Bool), [`Int`](Kind::Int), [`Long`](Kind::Long), [`Float`](Kind::Float), [`Double`](Kind::Double) |
/// | `String`, and shared instead of copied `Arc<str>` | [`String`](Kind::String) |
/// | [`Bytes`] | [`Bytes`](Kind::Bytes) |
/// | [`serde_json::Value`], and shared instead of copied `Arc<serde_json::Value>` | [`Json`](Kind::Json) |
/// | [`SyncFunction`], [`AsyncFunction`] | the functions |
/// | `Arc<T>` of any other `T: Send + Sync + 'static` | [`Any`](Kind::Any) |
/// | [`StateValue`] | whatever is there |
///
/// Types are not converted: an [`Int`](Kind::Int) is not read as an `i64`. Mind the suffix of a
/// literal: `insert("hits", 1)` inserts an `i32`.
///
/// Sealed: a type of one's own goes in as an `Arc`.
#[diagnostic::on_unimplemented(
    message = "a store does not hold a bare `{Self}`",
    label = "not one of `StateType`'s list",
    note = "a type of one's own is held as `Arc<T>`"
)]
pub trait StateType: Into<StateValue> + Clone + Send + Sync + sealed::Sealed + 'static {
    /// Whether reading takes longer than a shard should be locked for.
    #[doc(hidden)]
    const COPIES: bool = false;

    /// Its name in errors.
    #[doc(hidden)]
    fn type_name() -> &'static str;

    /// Reads it. Unless it [copies](Self::COPIES), while a shard is locked.
    #[doc(hidden)]
    fn read(value: &StateValue) -> Option<Self>;

    /// Whether [`read`](Self::read) would succeed.
    #[doc(hidden)]
    fn is(value: &StateValue) -> bool;
}

mod sealed {
    pub trait Sealed {}
}

// === impl StateValue ===

impl StateValue {
    /// Returns the value as a `T`, if that is its type.
    pub fn get<T: StateType>(&self) -> Option<T> {
        T::read(self)
    }
}

impl From<()> for StateValue {
    fn from((): ()) -> Self {
        Self::None
    }
}

impl From<String> for StateValue {
    fn from(text: String) -> Self {
        Self::String(text.into())
    }
}

impl From<&str> for StateValue {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

impl From<Bytes> for StateValue {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(Arc::new(bytes))
    }
}

impl From<Vec<u8>> for StateValue {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<&[u8]> for StateValue {
    fn from(bytes: &[u8]) -> Self {
        Bytes::copy_from_slice(bytes).into()
    }
}

impl From<Json> for StateValue {
    fn from(json: Json) -> Self {
        Self::Json(Arc::new(json))
    }
}

impl<T: Any + Send + Sync> From<Arc<T>> for StateValue {
    fn from(value: Arc<T>) -> Self {
        if TypeId::of::<T>() != TypeId::of::<Json>() {
            return Self::Any(AnyValue::new(value));
        }
        let any: Arc<dyn Any + Send + Sync> = value;
        Self::Json(any.downcast().expect("its type was compared"))
    }
}

// === impl StateType ===

impl sealed::Sealed for StateValue {}

impl StateType for StateValue {
    fn type_name() -> &'static str {
        "any value"
    }

    fn read(value: &StateValue) -> Option<Self> {
        Some(value.clone())
    }

    fn is(_: &StateValue) -> bool {
        true
    }
}

impl sealed::Sealed for () {}

impl StateType for () {
    fn type_name() -> &'static str {
        Kind::None.name()
    }

    fn read(value: &StateValue) -> Option<Self> {
        Self::is(value).then_some(())
    }

    fn is(value: &StateValue) -> bool {
        matches!(value, StateValue::None)
    }
}

/// The types that a variant holds as they are.
macro_rules! held {
    ($($type:ty => $variant:ident),+ $(,)?) => { $(
        impl From<$type> for StateValue {
            fn from(value: $type) -> Self {
                Self::$variant(value)
            }
        }

        impl sealed::Sealed for $type {}

        impl StateType for $type {
            fn type_name() -> &'static str {
                Kind::$variant.name()
            }

            #[inline]
            fn read(value: &StateValue) -> Option<Self> {
                match value {
                    StateValue::$variant(value) => Some(value.clone()),
                    _ => None,
                }
            }

            fn is(value: &StateValue) -> bool {
                matches!(value, StateValue::$variant(_))
            }
        }
    )+ };
}

held! {
    bool => Bool,
    i32 => Int,
    i64 => Long,
    f32 => Float,
    f64 => Double,
    Arc<str> => String,
    SyncFunction => FunctionSync,
    AsyncFunction => FunctionAsync,
}

impl sealed::Sealed for String {}

impl StateType for String {
    const COPIES: bool = true;

    fn type_name() -> &'static str {
        Kind::String.name()
    }

    fn read(value: &StateValue) -> Option<Self> {
        match value {
            StateValue::String(text) => Some((**text).to_owned()),
            _ => None,
        }
    }

    fn is(value: &StateValue) -> bool {
        matches!(value, StateValue::String(_))
    }
}

impl sealed::Sealed for Bytes {}

impl StateType for Bytes {
    fn type_name() -> &'static str {
        Kind::Bytes.name()
    }

    fn read(value: &StateValue) -> Option<Self> {
        match value {
            StateValue::Bytes(bytes) => Some((**bytes).clone()),
            _ => None,
        }
    }

    fn is(value: &StateValue) -> bool {
        matches!(value, StateValue::Bytes(_))
    }
}

impl sealed::Sealed for Json {}

impl StateType for Json {
    const COPIES: bool = true;

    fn type_name() -> &'static str {
        Kind::Json.name()
    }

    fn read(value: &StateValue) -> Option<Self> {
        match value {
            StateValue::Json(json) => Some((**json).clone()),
            _ => None,
        }
    }

    fn is(value: &StateValue) -> bool {
        matches!(value, StateValue::Json(_))
    }
}

impl<T: Any + Send + Sync> sealed::Sealed for Arc<T> {}

impl<T: Any + Send + Sync> StateType for Arc<T> {
    fn type_name() -> &'static str {
        if TypeId::of::<T>() == TypeId::of::<Json>() {
            Kind::Json.name()
        } else {
            type_name::<T>()
        }
    }

    fn read(value: &StateValue) -> Option<Self> {
        match value {
            StateValue::Any(any) => any.downcast(),
            StateValue::Json(json) => {
                let json: Arc<dyn Any + Send + Sync> = Arc::clone(json) as _;
                json.downcast().ok()
            }
            _ => None,
        }
    }

    fn is(value: &StateValue) -> bool {
        match value {
            StateValue::Any(any) => any.is::<T>(),
            StateValue::Json(_) => TypeId::of::<T>() == TypeId::of::<Json>(),
            _ => false,
        }
    }
}
