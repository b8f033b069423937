//! The one error table: what an error looks like to a network peer.
//!
//! | status | when |
//! |---|---|
//! | 400 | bad name, bad parameter, bad body, none, several or an invalid `Host`, invalid UTF-8 for a text codec, a body cut in the middle |
//! | 401 | missing or wrong credentials, with `WWW-Authenticate` |
//! | 403 | known, but not allowed: an identity, or a client's certificate without an allowed name |
//! | 404 | no such handler |
//! | 405 | not the method of the route, with `Allow` |
//! | 408 | the client is too slow |
//! | 413 | the body is too large |
//! | 415 | the codec cannot read this content type |
//! | 426 | not a WebSocket's handshake, where only that is answered |
//! | 431 | the head is too large |
//! | 500 | the handler's own error, with its text; a panic, without |
//! | 501 | CONNECT over HTTP/2; a transfer coding other than `chunked` |
//! | 502 | the module behind the route is gone |
//! | 503 | draining, shutting down, full, or too much in flight, with `Retry-After` |
//! | 504 | the deadline passed |
//!
//! Invariant: no other file of this crate names a status code.

use std::{borrow::Cow, error::Error, fmt, time::Duration};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{ALLOW, CONNECTION, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde::Serialize;
use spark_channel::{SparkChannelError, Stage};

use crate::{Answer, Body, answer::with_json_type};

/// An error as a network peer sees it: a status and a message that may leave the process.
///
/// On the wire it is `{"message": .., "status": "Error"}`; a body that could not
/// be understood adds `"pointer"`, the [JSON Pointer] of the field at fault.
///
/// ```
/// use http::StatusCode;
/// use spark_http::ErrorAnswer;
///
/// let sold_out = ErrorAnswer::new(StatusCode::CONFLICT, "sold out");
/// assert_eq!(sold_out.to_string(), "409 Conflict: sold out");
/// ```
///
/// [JSON Pointer]: https://www.rfc-editor.org/rfc/rfc6901
#[derive(Clone, Debug)]
#[must_use = "an error answers nobody until it is returned"]
pub struct ErrorAnswer {
    status: StatusCode,
    message: Cow<'static, str>,
    pointer: Option<Box<str>>,
    /// For logs only.
    detail: Option<Box<str>>,
    retry_after: Option<Duration>,
    /// Beside those that every error has; rare, and boxed so that errors stay small.
    headers: Option<Box<HeaderMap>>,
    close: bool,
    /// The message has words of the request's in it.
    quotes: bool,
}

/// An error type of modules and handler functions that has a place in the error table.
///
/// It holds for `eyre::Report`, `Box<dyn Error + Send + Sync>`,
/// [`SparkChannelError`] and [`ErrorAnswer`]. One's own type decides per variant,
/// or leaves everything to [`ErrorAnswer::from_error`]. For a type of a third crate,
/// see [`Route::module_with`](crate::Route::module_with).
///
/// ```
/// use http::StatusCode;
/// use spark_channel::SparkChannelError;
/// use spark_http::{ErrorAnswer, ModuleError};
///
/// #[derive(Debug, thiserror::Error)]
/// enum StockError {
///     #[error("only {left} left")]
///     SoldOut { left: u32 },
///     #[error(transparent)]
///     Call(#[from] SparkChannelError),
/// }
///
/// impl ModuleError for StockError {
///     fn into_error_answer(self) -> ErrorAnswer {
///         match self {
///             Self::SoldOut { .. } => ErrorAnswer::new(StatusCode::CONFLICT, self.to_string()),
///             Self::Call(error) => error.into(),
///         }
///     }
/// }
/// ```
pub trait ModuleError {
    /// What the client gets to see of `self`.
    fn into_error_answer(self) -> ErrorAnswer;
}

#[derive(Serialize)]
struct Wire<'a> {
    message: &'a str,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<&'a str>,
}

// === impl ErrorAnswer ===

#[cfg(feature = "openapi")]
impl ErrorAnswer {
    /// The table, as documents have it: status, name, and when.
    pub(crate) const TABLE: [(StatusCode, &str, &str); 13] = [
        (
            StatusCode::BAD_REQUEST,
            "BadRequest",
            "a path, a parameter or a body that cannot be read",
        ),
        (
            StatusCode::UNAUTHORIZED,
            "Unauthorized",
            "missing or wrong credentials",
        ),
        (StatusCode::FORBIDDEN, "Forbidden", "known, but not allowed"),
        (StatusCode::NOT_FOUND, "NotFound", "no such handler"),
        (
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            "not a method of the route",
        ),
        (
            StatusCode::REQUEST_TIMEOUT,
            "RequestTimeout",
            "the request came too slowly",
        ),
        (
            StatusCode::PAYLOAD_TOO_LARGE,
            "PayloadTooLarge",
            "the body is too large",
        ),
        (
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UnsupportedMediaType",
            "the route cannot read this content type",
        ),
        (
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "HeadTooLarge",
            "the head of the request is too large",
        ),
        (
            StatusCode::INTERNAL_SERVER_ERROR,
            "Failed",
            "the handler failed",
        ),
        (
            StatusCode::BAD_GATEWAY,
            "ModuleGone",
            "the module behind the route is gone",
        ),
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "Unavailable",
            "draining, shutting down or full; to be tried again",
        ),
        (
            StatusCode::GATEWAY_TIMEOUT,
            "DeadlinePassed",
            "the deadline passed",
        ),
    ];

    /// Whether only a request with wrong credentials, or none, is answered so.
    pub(crate) fn is_of_credentials(status: StatusCode) -> bool {
        status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN
    }
}

impl ErrorAnswer {
    /// An answer of one's own. A `status` that does not stand for an error becomes 500.
    pub fn new(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        let is_error = status.is_client_error() || status.is_server_error();
        Self {
            status: if is_error {
                status
            } else {
                StatusCode::INTERNAL_SERVER_ERROR
            },
            message: message.into(),
            pointer: None,
            detail: None,
            retry_after: None,
            headers: None,
            close: false,
            quotes: false,
        }
    }

    /// 400: the body is not what the codec can read. The message is not logged: it may quote what the
    /// client sent.
    pub fn bad_body(message: impl fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, shortened(&message.to_string())).quoting()
    }

    /// 400: a parameter in the path or the query is not what is asked for. The message is not logged:
    /// it may quote what the client sent.
    pub fn bad_parameter(message: impl fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, shortened(&message.to_string())).quoting()
    }

    /// 401: the client has to say who it is, with a bearer token unless
    /// [`with_challenge`](Self::with_challenge) says otherwise.
    pub fn unauthorized(message: impl Into<Cow<'static, str>>) -> Self {
        let bearer = HeaderValue::from_static("Bearer");
        Self::new(StatusCode::UNAUTHORIZED, message).with_challenge(bearer)
    }

    /// 403: the client is known, and may not do this.
    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    /// 415: the codec reads `expected` and nothing else.
    pub fn unsupported_media_type(expected: &str) -> Self {
        let message = format!("expected content-type {expected}");
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
    }

    /// 500 with `message`: the handler's own error, in words meant for the client.
    pub fn failed(message: impl fmt::Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message.to_string())
    }

    /// 500 that tells the client nothing; `detail` goes to the log.
    pub fn internal(detail: impl fmt::Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error").with_detail(detail)
    }

    /// What the table has for `error`: the status of the [`SparkChannelError`] it is or is
    /// caused by, otherwise 500 with its text.
    ///
    /// So a handler that passes on the failure of a call it made itself (`?`) answers as
    /// if that call had been the route's own. The text is that of `error` alone, without its
    /// causes, which go to the log.
    pub fn from_error(error: &(dyn Error + 'static)) -> Self {
        let mut cause = Some(error);
        let mut call = None;
        let mut chain = String::new();
        while let Some(error) = cause {
            call = call.or_else(|| error.downcast_ref::<SparkChannelError>());
            if !chain.is_empty() {
                chain.push_str(": ");
            }
            chain.push_str(&error.to_string());
            cause = error.source();
        }
        match call {
            Some(call) => Self::from(call.clone()),
            None => Self::failed(error),
        }
        .with_detail(chain)
    }

    /// Adds the place in the body that is at fault, as a JSON Pointer (RFC 6901).
    pub fn with_pointer(mut self, pointer: impl Into<String>) -> Self {
        self.pointer = Some(shortened(&pointer.into()).into());
        self
    }

    /// Adds `Retry-After`, in whole seconds, rounded up, and at least one.
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Sets `WWW-Authenticate`: how a client says who it is.
    pub fn with_challenge(self, challenge: HeaderValue) -> Self {
        self.with_header(WWW_AUTHENTICATE, challenge)
    }

    /// Adds what the log should say and the client should not see.
    pub fn with_detail(mut self, detail: impl fmt::Display) -> Self {
        self.detail = Some(detail.to_string().into());
        self
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The message, as the client sees it.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What the log says beside the message.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    pub(crate) fn bad_path(reason: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, reason)
    }

    pub(crate) fn bad_request() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "not an HTTP request").closing()
    }

    pub(crate) fn no_tunnel() -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, "no tunnels over HTTP/2")
    }

    #[cfg(feature = "tls")]
    pub(crate) fn plain_on_tls() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "only TLS is spoken on this port").closing()
    }

    #[cfg(feature = "tls")]
    pub(crate) fn client_not_allowed() -> Self {
        let message = "the client's certificate has none of the names that are allowed";
        Self::new(StatusCode::FORBIDDEN, message).closing()
    }

    pub(crate) fn unknown_coding() -> Self {
        let message = "chunked is the only transfer coding here";
        Self::new(StatusCode::NOT_IMPLEMENTED, message).closing()
    }

    pub(crate) fn bad_host() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "exactly one host is needed").closing()
    }

    pub(crate) fn bad_content_length() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "content-length is not a number").closing()
    }

    pub(crate) fn body_cut() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "body ended early").closing()
    }

    pub(crate) fn handler_not_found(name: &str) -> Self {
        let message = format!("Handler not found: {}", shortened(name));
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// 405; `allow` lists what the path has.
    pub(crate) fn method_not_allowed(allow: &HeaderValue) -> Self {
        let message = match allow.as_bytes() {
            b"POST" => "only POST runs a handler",
            _ => "method not allowed",
        };
        Self::new(StatusCode::METHOD_NOT_ALLOWED, message).with_header(ALLOW, allow.clone())
    }

    pub(crate) fn only_get() -> Self {
        Self::method_not_allowed(&HeaderValue::from_static("GET, HEAD"))
    }

    pub(crate) fn nothing_here() -> Self {
        Self::new(StatusCode::NOT_FOUND, "nothing here")
    }

    #[cfg(feature = "dashboard")]
    pub(crate) fn too_many_viewers() -> Self {
        unavailable("too many viewers")
    }

    pub(crate) fn not_ready(why: String) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, why).with_retry_after(RETRY)
    }

    pub(crate) fn body_too_slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "body came too slowly").closing()
    }

    pub(crate) fn head_too_slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "request came too slowly").closing()
    }

    pub(crate) fn body_too_large(limit: usize) -> Self {
        let message = format!("body is larger than {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, message).closing()
    }

    pub(crate) fn draining() -> Self {
        unavailable("server is shutting down").closing()
    }

    /// 503: as many requests are in flight, and as many wait, as may.
    pub(crate) fn saturated() -> Self {
        unavailable("too many requests in flight")
    }

    /// 503: no memory is left for bodies.
    pub(crate) fn out_of_memory() -> Self {
        unavailable("too many bodies in memory").closing()
    }

    /// 504: the deadline passed while the request waited for its turn.
    pub(crate) fn never_started() -> Self {
        let stage = Stage::NotAdmitted;
        SparkChannelError::TimedOut { stage }.into()
    }

    pub(crate) fn deadline_passed() -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, "deadline passed")
    }

    pub(crate) fn head_too_large() -> Self {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        Self::new(status, "request head is too large").closing()
    }

    /// What the table has for a head that hyper's parser refused with `status`.
    pub(crate) fn refused_head(status: u16) -> Self {
        let too_large = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        match StatusCode::from_u16(status) {
            // The target is part of the head, and the head has one limit.
            Ok(status) if status == too_large || status == StatusCode::URI_TOO_LONG => {
                Self::head_too_large()
            }
            _ => Self::bad_request(),
        }
    }

    /// 202 without a body: not an error, but this is the file that names statuses.
    pub(crate) fn accepted() -> Answer {
        let mut answer = Answer::new(Body::empty());
        *answer.status_mut() = StatusCode::ACCEPTED;
        answer
    }

    /// 204, to which browsers do not come back for more events.
    pub(crate) fn no_content() -> Answer {
        let mut answer = Answer::new(Body::empty());
        *answer.status_mut() = StatusCode::NO_CONTENT;
        answer
    }

    /// 101, with nothing that says to what.
    #[cfg(feature = "ws")]
    pub(crate) fn switching_protocols() -> Answer {
        let mut answer = Answer::new(Body::empty());
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        answer
    }

    /// 426, for what opens no WebSocket.
    #[cfg(feature = "ws")]
    pub(crate) fn upgrade_required() -> Self {
        use http::header;

        let message = "this is a WebSocket, of version 13";
        Self::new(StatusCode::UPGRADE_REQUIRED, message)
            .with_header(header::UPGRADE, HeaderValue::from_static("websocket"))
            .with_header(CONNECTION, HeaderValue::from_static("upgrade"))
            .with_header(
                header::SEC_WEBSOCKET_VERSION,
                HeaderValue::from_static("13"),
            )
    }

    /// 403, for pages of other origins.
    #[cfg(feature = "ws")]
    pub(crate) fn origin_not_allowed() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "pages of this origin may not connect",
        )
    }

    #[cfg(feature = "ws")]
    pub(crate) fn pointer(&self) -> Option<&str> {
        self.pointer.as_deref()
    }

    /// Places the pointer below `parent`.
    #[cfg(feature = "ws")]
    pub(crate) fn within(self, parent: &str) -> Self {
        let pointer = format!("{parent}{}", self.pointer().unwrap_or_default());
        self.with_pointer(pointer)
    }

    pub(crate) fn too_many_clients() -> Self {
        unavailable("too many clients")
    }

    /// Whether an answer with `status` ends with its head.
    pub(crate) fn forbids_body(status: StatusCode) -> bool {
        status.is_informational()
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::NOT_MODIFIED
    }

    /// Whether a handler may answer with `status`. Interim ones are the server's own to send, and 101
    /// is for requests that ask for another protocol.
    pub(crate) fn is_final(status: StatusCode, asks_to_switch: bool) -> bool {
        let switches = status == StatusCode::SWITCHING_PROTOCOLS && asks_to_switch;
        switches || !status.is_informational()
    }

    /// Whether an answer with `status` to a request of `method` is the last one of HTTP on its
    /// connection.
    pub(crate) fn switches_protocols(method: &Method, status: StatusCode) -> bool {
        status == StatusCode::SWITCHING_PROTOCOLS
            || (method == Method::CONNECT && status.is_success())
    }

    /// Whether the server, rather than the client, is at fault.
    pub(crate) fn is_fault(&self) -> bool {
        self.status.is_server_error()
    }

    /// Ends the connection after the answer; for requests whose rest was not read.
    pub(crate) fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// What the log says in the place of the message: the place in the request if the message quotes it.
    pub(crate) fn loggable(&self) -> &str {
        if self.quotes {
            self.pointer.as_deref().unwrap_or_default()
        } else {
            &self.message
        }
    }

    fn quoting(mut self) -> Self {
        self.quotes = true;
        self
    }

    fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.get_or_insert_default().insert(name, value);
        self
    }

    pub(crate) fn into_response(self) -> Answer {
        let wire = Wire {
            message: &self.message,
            status: "Error",
            pointer: self.pointer.as_deref(),
        };
        // Strings and nothing else: that cannot fail.
        let json = serde_json::to_vec(&wire).unwrap_or_default();
        let mut response: http::Response<Body> = with_json_type(json.into());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if let Some(after) = self.retry_after {
            let begun = u64::from(after.subsec_nanos() > 0);
            let seconds = after.as_secs().saturating_add(begun).max(1);
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if let Some(own) = self.headers {
            headers.extend(*own);
        }
        if self.close {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl fmt::Display for ErrorAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status, self.message)
    }
}

impl Error for ErrorAnswer {}

impl From<SparkChannelError> for ErrorAnswer {
    fn from(error: SparkChannelError) -> Self {
        let bad_gateway = |message| Self::new(StatusCode::BAD_GATEWAY, message);
        let timed_out = |message| Self::new(StatusCode::GATEWAY_TIMEOUT, message);
        match &error {
            SparkChannelError::Closed => bad_gateway("module stopped"),
            SparkChannelError::ReplyDropped => bad_gateway("module gave no answer"),
            SparkChannelError::Cancelled => bad_gateway("handler was stopped while it ran"),
            SparkChannelError::ShuttingDown => unavailable("module is shutting down"),
            SparkChannelError::Unavailable => unavailable("module is not available"),
            SparkChannelError::Full | SparkChannelError::Overflowed => {
                unavailable("module is busy")
            }
            SparkChannelError::TimedOut { stage } => timed_out(match stage {
                Stage::NotAdmitted | Stage::Queued => "deadline passed before the handler started",
                Stage::Running => "deadline passed while the handler ran",
            }),
            // Faults of the program. What they say is for its log.
            other => Self::internal(other),
        }
    }
}

// === impl ModuleError ===

impl ModuleError for ErrorAnswer {
    fn into_error_answer(self) -> Self {
        self
    }
}

impl ModuleError for SparkChannelError {
    fn into_error_answer(self) -> ErrorAnswer {
        self.into()
    }
}

impl ModuleError for eyre::Report {
    fn into_error_answer(self) -> ErrorAnswer {
        ErrorAnswer::from_error(&*self)
    }
}

impl ModuleError for Box<dyn Error + Send + Sync> {
    fn into_error_answer(self) -> ErrorAnswer {
        ErrorAnswer::from_error(&*self)
    }
}

impl ModuleError for std::convert::Infallible {
    fn into_error_answer(self) -> ErrorAnswer {
        match self {}
    }
}

fn unavailable(message: &'static str) -> ErrorAnswer {
    ErrorAnswer::new(StatusCode::SERVICE_UNAVAILABLE, message).with_retry_after(RETRY)
}

/// The first part of a text that echoes what a client sent.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(ECHO_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Long enough to recognise one's own mistake, too short to be a use of bandwidth.
const ECHO_CHARS_MAX: usize = 256;

/// Long enough for a balancer to look elsewhere, short enough for a restart behind it.
const RETRY: Duration = Duration::from_secs(1);
