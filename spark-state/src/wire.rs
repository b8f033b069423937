//! Values as JSON, in snapshots and between processes.

use std::borrow::Cow;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};

use crate::{StateError, StateValue};

/// A value that can leave the process: `{"kind": .., "value": ..}`.
///
/// | kind | value |
/// |---|---|
/// | `none` | none, or `null` |
/// | `bool`, `int`, `long`, `string`, `json` | as JSON has it |
/// | `float`, `double` | a number; `"NaN"`, `"inf"` and `"-inf"` are strings |
/// | `bytes` | base64 (RFC 4648, padded) |
///
/// Functions and values of types of one's own have none, nor has JSON of more than 100 levels of
/// arrays and objects: readers of JSON stop at some depth, and what is written is to be read again.
///
/// ```
/// use spark_state::{StateError, StateValue, WireValue};
///
/// let value = WireValue::try_from(StateValue::from(42_i64))?;
/// let json = serde_json::to_string(&value)?;
/// assert_eq!(json, r#"{"kind":"long","value":42}"#);
/// let back: WireValue = serde_json::from_str(&json)?;
/// assert_eq!(back.into_inner(), StateValue::from(42_i64));
///
/// let function = WireValue::try_from(StateValue::function(|value| value));
/// assert!(matches!(function, Err(StateError::NotSerialisable { .. })));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct WireValue(StateValue);

/// What is written and read.
#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", content = "value", rename_all = "lowercase")]
enum Wire<'a> {
    None,
    Bool(bool),
    Int(i32),
    Long(i64),
    // As a double, which says exactly what it is.
    Float(Number),
    Double(Number),
    #[serde(borrow)]
    String(Cow<'a, str>),
    Bytes(String),
    Json(Cow<'a, serde_json::Value>),
}

/// A floating-point number; JSON has no name for some.
#[derive(Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a number, \"NaN\", \"inf\" or \"-inf\""
)]
enum Number {
    Finite(f64),
    Other(NotFinite),
}

#[derive(Serialize, Deserialize)]
enum NotFinite {
    NaN,
    #[serde(rename = "inf")]
    Infinity,
    #[serde(rename = "-inf")]
    NegativeInfinity,
}

// === impl WireValue ===

impl WireValue {
    #[cfg(feature = "module")]
    pub(crate) const fn nothing() -> Self {
        Self(StateValue::None)
    }

    /// Looks at the kind only.
    pub(crate) fn of_kind(value: StateValue) -> Result<Self, StateError> {
        if value.kind().is_serialisable() {
            return Ok(Self(value));
        }
        let found = value.type_name();
        Err(StateError::NotSerialisable { found })
    }

    /// Whether it has the right kind and cannot be written all the same.
    pub(crate) fn is_too_deep(&self) -> bool {
        matches!(&self.0, StateValue::Json(json) if is_deeper(json, JSON_DEPTH_MAX))
    }

    /// Returns the value.
    pub fn into_inner(self) -> StateValue {
        self.0
    }
}

impl TryFrom<StateValue> for WireValue {
    type Error = StateError;

    /// # Errors
    ///
    /// [`NotSerialisable`](StateError::NotSerialisable) for functions,
    /// [`Any`](StateValue::Any), and JSON that is nested too deeply.
    fn try_from(value: StateValue) -> Result<Self, StateError> {
        let value = Self::of_kind(value)?;
        if value.is_too_deep() {
            return Err(StateError::NotSerialisable { found: TOO_DEEP });
        }
        Ok(value)
    }
}

impl From<WireValue> for StateValue {
    fn from(value: WireValue) -> Self {
        value.0
    }
}

impl Serialize for WireValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let wire = match &self.0 {
            StateValue::None => Wire::None,
            StateValue::Bool(value) => Wire::Bool(*value),
            StateValue::Int(value) => Wire::Int(*value),
            StateValue::Long(value) => Wire::Long(*value),
            StateValue::Float(value) => Wire::Float(f64::from(*value).into()),
            StateValue::Double(value) => Wire::Double((*value).into()),
            StateValue::String(value) => Wire::String(Cow::Borrowed(value)),
            StateValue::Bytes(value) => Wire::Bytes(BASE64_STANDARD.encode(&**value)),
            StateValue::Json(value) => Wire::Json(Cow::Borrowed(value)),
            // `try_from` refuses them.
            StateValue::FunctionSync(_) | StateValue::FunctionAsync(_) | StateValue::Any(_) => {
                let found = self.0.type_name();
                return Err(S::Error::custom(StateError::NotSerialisable { found }));
            }
        };
        wire.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for WireValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Self(match Wire::deserialize(deserializer)? {
            Wire::None => StateValue::None,
            Wire::Bool(value) => value.into(),
            Wire::Int(value) => value.into(),
            Wire::Long(value) => value.into(),
            Wire::Float(value) => float(value.into())
                .ok_or_else(|| D::Error::custom("a number beyond a float"))?
                .into(),
            Wire::Double(value) => f64::from(value).into(),
            Wire::String(value) => (&*value).into(),
            Wire::Bytes(value) => {
                let bytes = BASE64_STANDARD.decode(value).map_err(D::Error::custom)?;
                bytes.into()
            }
            Wire::Json(value) => value.into_owned().into(),
        });
        if value.is_too_deep() {
            return Err(D::Error::custom(TOO_DEEP));
        }
        Ok(value)
    }
}

/// Reads a document that a [`WireValue`] could hold, by itself.
#[cfg(feature = "module")]
pub(crate) fn shallow<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<serde_json::Value, D::Error> {
    let json = serde_json::Value::deserialize(deserializer)?;
    if is_deeper(&json, JSON_DEPTH_MAX) {
        return Err(D::Error::custom(TOO_DEEP));
    }
    Ok(json)
}

/// Whether it has more levels of arrays and objects. Looks no deeper.
fn is_deeper(json: &serde_json::Value, levels: usize) -> bool {
    let deeper = |inner: &serde_json::Value| is_deeper(inner, levels - 1);
    match json {
        serde_json::Value::Array(_) | serde_json::Value::Object(_) if levels == 0 => true,
        serde_json::Value::Array(items) => items.iter().any(deeper),
        serde_json::Value::Object(fields) => fields.values().any(deeper),
        _ => false,
    }
}

/// As a float, unless it is a number that none is near.
fn float(double: f64) -> Option<f32> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "what was written is a float"
    )]
    let float = double as f32;
    (float.is_finite() || !double.is_finite()).then_some(float)
}

// === impl Number ===

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        if value.is_finite() {
            Self::Finite(value)
        } else if value.is_nan() {
            Self::Other(NotFinite::NaN)
        } else if value > 0.0 {
            Self::Other(NotFinite::Infinity)
        } else {
            Self::Other(NotFinite::NegativeInfinity)
        }
    }
}

impl From<Number> for f64 {
    fn from(number: Number) -> Self {
        match number {
            Number::Finite(value) => value,
            Number::Other(NotFinite::NaN) => f64::NAN,
            Number::Other(NotFinite::Infinity) => f64::INFINITY,
            Number::Other(NotFinite::NegativeInfinity) => f64::NEG_INFINITY,
        }
    }
}

/// `serde_json` reads 127 levels; this leaves some to what a value is wrapped in.
const JSON_DEPTH_MAX: usize = 100;

const TOO_DEEP: &str = "deeply nested json";
