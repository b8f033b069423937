//! Responses of any type, for modules whose answers have nothing in common.

use std::{
    any::{Any, type_name},
    fmt,
};

use crate::SparkChannelError;

/// A response of any type, which remembers the name of its type.
///
/// A module with this response type answers each request with the type that belongs to
/// it, and needs no response enum. The caller's [`Call`](crate::Call) downcasts it. One
/// allocation per answer, for types that have a size.
///
/// # Examples
///
/// ```
/// use spark_channel::{AnyResponse, Call, NativeHandler, SparkChannelError, spawn_module};
///
/// enum Ask { Length(String), Reverse(String) }
///
/// struct Length(String);
///
/// impl Call<Ask, AnyResponse> for Length {
///     type Reply = usize;
///
///     fn into_message(self) -> Ask {
///         Ask::Length(self.0)
///     }
///
///     fn project(response: AnyResponse) -> Result<usize, SparkChannelError> {
///         response.into_reply()
///     }
/// }
///
/// struct Text;
///
/// impl NativeHandler for Text {
///     type Message = Ask;
///     type Response = AnyResponse;
///     type Error = eyre::Report;
///
///     async fn handle_request(&mut self, ask: Ask) -> eyre::Result<AnyResponse> {
///         Ok(match ask {
///             Ask::Length(text) => AnyResponse::new(text.len()),
///             Ask::Reverse(text) => AnyResponse::new(text.chars().rev().collect::<String>()),
///         })
///     }
///
///     async fn handle_command(&mut self, _: Ask) -> eyre::Result<()> {
///         eyre::bail!("nothing to do without an answer")
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> eyre::Result<()> {
/// let text = spawn_module(Text).dispatcher();
/// assert_eq!(text.call(Length("four".into())).await?, 4);
///
/// let reversed = text.request(Ask::Reverse("four".into())).await?;
/// assert_eq!(reversed.downcast::<String>().ok().as_deref(), Some("ruof"));
/// # Ok(())
/// # }
/// ```
pub struct AnyResponse {
    value: Box<dyn Any + Send>,
    type_name: &'static str,
}

// === impl AnyResponse ===

impl AnyResponse {
    /// Wraps `value`.
    #[must_use]
    pub fn new<T: Send + 'static>(value: T) -> Self {
        Self {
            value: Box::new(value),
            type_name: type_name::<T>(),
        }
    }

    /// The name of the type inside, as [`std::any::type_name`] spells it: for people.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        self.type_name
    }

    /// Whether a `T` is inside.
    #[must_use]
    pub fn is<T: 'static>(&self) -> bool {
        self.value.is::<T>()
    }

    /// What is inside, if it is a `T`.
    #[must_use]
    pub fn downcast_ref<T: 'static>(&self) -> Option<&T> {
        self.value.downcast_ref()
    }

    /// Takes out the `T` that is inside.
    ///
    /// # Errors
    ///
    /// The response itself, if something else is inside.
    pub fn downcast<T: 'static>(self) -> Result<T, Self> {
        let Self { value, type_name } = self;
        match value.downcast() {
            Ok(value) => Ok(*value),
            Err(value) => Err(Self { value, type_name }),
        }
    }

    /// Takes out the `T` that a caller expects: the whole of a
    /// [`Call::project`](crate::Call::project).
    ///
    /// # Errors
    ///
    /// [`UnexpectedResponse`](SparkChannelError::UnexpectedResponse) with both type names,
    /// if something else is inside.
    pub fn into_reply<T: 'static>(self) -> Result<T, SparkChannelError> {
        self.downcast().map_err(|found| {
            SparkChannelError::unexpected_response(type_name::<T>(), found.type_name)
        })
    }
}

impl fmt::Debug for AnyResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyResponse")
            .field("type_name", &self.type_name)
            .finish_non_exhaustive()
    }
}
