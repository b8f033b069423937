//! What goes back to the client when all went well.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use http_body::Body as _;
use serde::{Serialize, Serializer};

use crate::{Body, ErrorAnswer, ModuleError};

/// An answer on its way to the client.
pub type Answer = Response<Body>;

/// What a [handler function](crate::Route::handler_fn) may return.
///
/// Text becomes what [`TextCodec`](crate::TextCodec) answers, [`Json`] the JSON
/// of its value, an [`Answer`] is sent as it is. Each of them may come with a status and headers
/// of one's own, which replace the ones it has, as `(StatusCode, T)` or `(StatusCode, HeaderMap, T)`,
/// and each in a `Result`, whose error is anything that is a [`ModuleError`].
pub trait IntoAnswer {
    /// Converts `self`.
    ///
    /// # Errors
    ///
    /// The answer to send instead.
    fn into_answer(self) -> Result<Answer, ErrorAnswer>;
}

/// Answers 200 with the JSON of its value and nothing around it.
///
/// ```
/// use spark_http::{IntoAnswer, Json};
///
/// let answer = Json([1, 2, 3]).into_answer()?;
/// assert_eq!(answer.headers()["content-type"], "application/json");
/// # Ok::<_, spark_http::ErrorAnswer>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Json<T>(pub T);

/// The shape of a text answer, as `manager_handlers` 0.7.2 has it on the wire.
#[derive(Serialize)]
struct TextWire<T: std::fmt::Display> {
    #[serde(serialize_with = "displayed")]
    message: T,
    status: &'static str,
}

// === impl IntoAnswer ===

impl IntoAnswer for Answer {
    fn into_answer(self) -> Result<Answer, ErrorAnswer> {
        Ok(self)
    }
}

impl IntoAnswer for String {
    fn into_answer(self) -> Result<Answer, ErrorAnswer> {
        text(self)
    }
}

impl IntoAnswer for &str {
    fn into_answer(self) -> Result<Answer, ErrorAnswer> {
        text(self)
    }
}

impl<T: Serialize> IntoAnswer for Json<T> {
    fn into_answer(self) -> Result<Answer, ErrorAnswer> {
        json(&self.0)
    }
}

impl<T: IntoAnswer> IntoAnswer for (StatusCode, T) {
    fn into_answer(self) -> Result<Answer, ErrorAnswer> {
        let (status, answer) = self;
        let mut answer = answer.into_answer()?;
        *answer.status_mut() = status;
        Ok(answer)
    }
}

impl<T: IntoAnswer> IntoAnswer for (StatusCode, HeaderMap, T) {
    fn into_answer(self) -> Result<Answer, ErrorAnswer> {
        let (status, headers, answer) = self;
        let mut answer = (status, answer).into_answer()?;
        answer.headers_mut().extend(headers);
        Ok(answer)
    }
}

impl IntoAnswer for ErrorAnswer {
    fn into_answer(self) -> Result<Answer, ErrorAnswer> {
        Err(self)
    }
}

impl<T: IntoAnswer, E: ModuleError> IntoAnswer for Result<T, E> {
    fn into_answer(self) -> Result<Answer, ErrorAnswer> {
        self.map_err(E::into_error_answer)?.into_answer()
    }
}

/// 200 `{"message": <text>, "status": "Ok"}`.
pub(crate) fn text(message: impl std::fmt::Display) -> Result<Answer, ErrorAnswer> {
    json(&TextWire {
        message,
        status: "Ok",
    })
}

/// 200 with the JSON of `value`.
pub(crate) fn json(value: &impl Serialize) -> Result<Answer, ErrorAnswer> {
    match serde_json::to_vec(value) {
        Ok(json) => Ok(with_json_type(json.into())),
        Err(error) => Err(ErrorAnswer::internal(format_args!(
            "response is not JSON: {error}"
        ))),
    }
}

/// What HEAD gets: the head alone, with the length that the body would have had.
pub(crate) fn without_body(mut answer: Answer) -> Answer {
    let body = std::mem::take(answer.body_mut());
    if let Some(length) = body.size_hint().exact()
        && !answer.headers().contains_key(CONTENT_LENGTH)
        && !ErrorAnswer::forbids_body(answer.status())
    {
        answer.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    answer
}

pub(crate) fn with_json_type(json: Bytes) -> Answer {
    let mut answer = Response::new(Body::from(json));
    let json = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(CONTENT_TYPE, json);
    answer
}

fn displayed<T: std::fmt::Display, S: Serializer>(
    value: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
