//! What a store holds under a key.

use std::{
    any::{Any, type_name},
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
};

use bytes::Bytes;

/// A value of one of the kinds that a store holds.
///
/// Cloning is cheap: a number is copied, everything else is shared.
///
/// One rarely names a variant: [`SharedState::insert`](crate::SharedState::insert) takes `true`,
/// `1_i64`, `"text"`, a [`serde_json::Value`] or an `Arc<T>`, and
/// [`SharedState::get`](crate::SharedState::get) gives them back by type.
///
/// ```
/// use spark_state::{Kind, StateValue};
///
/// let value = StateValue::from("tea");
/// assert_eq!(value.kind(), Kind::String);
/// assert_eq!(value.get::<String>().as_deref(), Some("tea"));
/// assert_eq!(value.get::<i64>(), None);
/// ```
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum StateValue {
    /// Nothing; a name that is there, all the same.
    #[default]
    None,
    /// A truth value.
    Bool(bool),
    /// An integer of 32 bits.
    Int(i32),
    /// An integer of 64 bits.
    Long(i64),
    /// A floating-point number of 32 bits.
    Float(f32),
    /// A floating-point number of 64 bits.
    Double(f64),
    /// Text.
    String(Arc<str>),
    /// Bytes; behind an `Arc`, so that they do not make every other value larger.
    Bytes(Arc<Bytes>),
    /// A JSON document.
    Json(Arc<serde_json::Value>),
    /// A function to [`call`](crate::SharedState::call).
    FunctionSync(SyncFunction),
    /// A function to [`call`](crate::SharedState::call) and await.
    FunctionAsync(AsyncFunction),
    /// A value of a type of one's own.
    Any(AnyValue),
}

/// Which variant a [`StateValue`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// [`StateValue::None`].
    None,
    /// [`StateValue::Bool`].
    Bool,
    /// [`StateValue::Int`].
    Int,
    /// [`StateValue::Long`].
    Long,
    /// [`StateValue::Float`].
    Float,
    /// [`StateValue::Double`].
    Double,
    /// [`StateValue::String`].
    String,
    /// [`StateValue::Bytes`].
    Bytes,
    /// [`StateValue::Json`].
    Json,
    /// [`StateValue::FunctionSync`].
    FunctionSync,
    /// [`StateValue::FunctionAsync`].
    FunctionAsync,
    /// [`StateValue::Any`].
    Any,
}

/// A function that a store holds.
pub type SyncFunction = Arc<dyn Fn(StateValue) -> StateValue + Send + Sync>;

/// An async function that a store holds.
pub type AsyncFunction = Arc<dyn Fn(StateValue) -> FunctionFuture + Send + Sync>;

/// What an [`AsyncFunction`] returns.
pub type FunctionFuture = Pin<Box<dyn Future<Output = StateValue> + Send>>;

/// A shared value of any type, which knows its type's name.
#[derive(Clone)]
pub struct AnyValue {
    value: Arc<dyn Named>,
}

/// As `Any`, with what is said about a value of the wrong type, and its size.
trait Named: Any + Send + Sync {
    fn type_name(&self) -> &'static str;
    fn size(&self) -> usize;
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

// === impl StateValue ===

impl StateValue {
    /// Makes a function of a closure.
    ///
    /// ```
    /// use spark_state::{SharedState, StateValue};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), spark_state::StateError> {
    /// let state = SharedState::new();
    /// state.insert("double", StateValue::function(|arg| {
    ///     StateValue::from(arg.get::<i64>().unwrap_or(0) * 2)
    /// }))?;
    /// assert_eq!(state.call("double", 21_i64).await?.get::<i64>(), Some(42));
    /// # Ok(())
    /// # }
    /// ```
    pub fn function(function: impl Fn(Self) -> Self + Send + Sync + 'static) -> Self {
        Self::FunctionSync(Arc::new(function))
    }

    /// Makes an async function of a closure that returns a future.
    ///
    /// ```
    /// use spark_state::{SharedState, StateValue};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), spark_state::StateError> {
    /// let state = SharedState::new();
    /// state.insert("greet", StateValue::async_function(|name| async move {
    ///     tokio::task::yield_now().await;
    ///     StateValue::from(format!("hello, {}", name.get::<String>().unwrap_or_default()))
    /// }))?;
    /// assert_eq!(state.call("greet", "Ada").await?.get::<String>().unwrap(), "hello, Ada");
    /// # Ok(())
    /// # }
    /// ```
    pub fn async_function<F, Fut>(function: F) -> Self
    where
        F: Fn(Self) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Self> + Send + 'static,
    {
        Self::FunctionAsync(Arc::new(move |argument| Box::pin(function(argument))))
    }

    /// Makes a value of a type of one's own, as inserting an `Arc<T>` does.
    pub fn any<T: Any + Send + Sync>(value: T) -> Self {
        Self::Any(AnyValue::new(Arc::new(value)))
    }

    /// Returns which kind it is of.
    pub fn kind(&self) -> Kind {
        match self {
            Self::None => Kind::None,
            Self::Bool(_) => Kind::Bool,
            Self::Int(_) => Kind::Int,
            Self::Long(_) => Kind::Long,
            Self::Float(_) => Kind::Float,
            Self::Double(_) => Kind::Double,
            Self::String(_) => Kind::String,
            Self::Bytes(_) => Kind::Bytes,
            Self::Json(_) => Kind::Json,
            Self::FunctionSync(_) => Kind::FunctionSync,
            Self::FunctionAsync(_) => Kind::FunctionAsync,
            Self::Any(_) => Kind::Any,
        }
    }

    /// What it is, in an error: its kind, and for [`Any`](Self::Any) the type's name.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Any(any) => any.type_name(),
            other => other.kind().name(),
        }
    }

    /// How many bytes it takes beyond its place in the map; of JSON, about.
    pub(crate) fn payload_bytes(&self) -> usize {
        match self {
            Self::String(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::Json(json) => json_bytes(json),
            Self::Any(any) => (*any.value).size(),
            _ => 0,
        }
    }
}

impl fmt::Debug for StateValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Bool(value) => f.debug_tuple("Bool").field(value).finish(),
            Self::Int(value) => f.debug_tuple("Int").field(value).finish(),
            Self::Long(value) => f.debug_tuple("Long").field(value).finish(),
            Self::Float(value) => f.debug_tuple("Float").field(value).finish(),
            Self::Double(value) => f.debug_tuple("Double").field(value).finish(),
            Self::String(value) => f.debug_tuple("String").field(value).finish(),
            Self::Bytes(value) => f.debug_tuple("Bytes").field(value).finish(),
            Self::Json(value) => f.debug_tuple("Json").field(value).finish(),
            Self::FunctionSync(_) => f.write_str("FunctionSync(..)"),
            Self::FunctionAsync(_) => f.write_str("FunctionAsync(..)"),
            Self::Any(value) => f.debug_tuple("Any").field(value).finish(),
        }
    }
}

/// Functions, and values of types of one's own, are equal only to themselves.
impl PartialEq for StateValue {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None, Self::None) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Long(a), Self::Long(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a == b,
            (Self::Double(a), Self::Double(b)) => a == b,
            (Self::String(a), Self::String(b)) => a == b,
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::Json(a), Self::Json(b)) => a == b,
            (Self::FunctionSync(a), Self::FunctionSync(b)) => Arc::ptr_eq(a, b),
            (Self::FunctionAsync(a), Self::FunctionAsync(b)) => Arc::ptr_eq(a, b),
            (Self::Any(a), Self::Any(b)) => Arc::ptr_eq(&a.value, &b.value),
            _ => false,
        }
    }
}

// === impl Kind ===

impl Kind {
    /// Its name, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Long => "long",
            Self::Float => "float",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Json => "json",
            Self::FunctionSync => "function",
            Self::FunctionAsync => "async function",
            Self::Any => "any",
        }
    }

    /// Whether a value of it can be written down: everything but functions and
    /// [`Any`](Self::Any).
    pub fn is_serialisable(self) -> bool {
        !matches!(self, Self::FunctionSync | Self::FunctionAsync | Self::Any)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

// === impl AnyValue ===

impl AnyValue {
    /// Wraps `value`.
    pub fn new<T: Any + Send + Sync>(value: Arc<T>) -> Self {
        Self { value }
    }

    /// Returns the value, if it is a `T`.
    pub fn downcast<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        if !self.is::<T>() {
            return None;
        }
        Arc::clone(&self.value).into_any().downcast().ok()
    }

    /// Whether the value is a `T`.
    pub fn is<T: Any + Send + Sync>(&self) -> bool {
        (&*self.value as &dyn Any).is::<T>()
    }

    /// Returns the name of the value's type, as [`std::any::type_name`] has it.
    pub fn type_name(&self) -> &'static str {
        // Of what is inside: an `Arc` has a name, too.
        (*self.value).type_name()
    }
}

impl fmt::Debug for AnyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.type_name())
    }
}

// === impl Named ===

impl<T: Any + Send + Sync> Named for T {
    fn type_name(&self) -> &'static str {
        type_name::<T>()
    }

    fn size(&self) -> usize {
        size_of::<T>()
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// About what a document takes: its nodes and its text.
fn json_bytes(json: &serde_json::Value) -> usize {
    const NODE: usize = size_of::<serde_json::Value>();
    NODE + match json {
        serde_json::Value::String(text) => text.len(),
        serde_json::Value::Array(items) => items.iter().map(json_bytes).sum(),
        serde_json::Value::Object(fields) => fields
            .iter()
            .map(|(name, field)| name.len() + NODE + json_bytes(field))
            .sum(),
        _ => 0,
    }
}
