//! One event, and its bytes on the wire.

use std::{borrow::Cow, time::Duration};

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::Serialize;

use crate::{ErrorAnswer, ModuleError};

/// One server-sent event.
///
/// # Examples
///
/// ```
/// use spark_http::SseEvent;
///
/// let event = SseEvent::json(&[1, 2])?.name("pair")?.id("17")?;
/// # Ok::<_, spark_http::InvalidSseEvent>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "an event is nothing until it is sent"]
pub struct SseEvent {
    comment: Option<String>,
    name: Cow<'static, str>,
    id: Option<String>,
    retry: Option<Duration>,
    data: Option<String>,
}

/// Error of an event that cannot be told on the wire.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSseEvent {
    /// A name or an id has a line break in it, or an id a NUL.
    #[error("the {field} of an event has a line break or a NUL in it")]
    NotALine {
        /// Which of its fields.
        field: &'static str,
    },
    /// The data cannot be written as JSON.
    #[error("the data of an event is not JSON")]
    NotJson(#[source] serde_json::Error),
}

// === impl SseEvent ===

impl SseEvent {
    /// An event with `data` and no name, which clients get as a `message`.
    ///
    /// Data may have any number of lines, also none. `\r\n` and `\r` arrive as `\n`.
    pub fn new(data: impl Into<String>) -> Self {
        Self {
            data: Some(data.into()),
            ..Self::default()
        }
    }

    /// An event whose data is the JSON of `value`.
    ///
    /// # Errors
    ///
    /// [`InvalidSseEvent::NotJson`], as serde has it.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, InvalidSseEvent> {
        let json = serde_json::to_string(value).map_err(InvalidSseEvent::NotJson)?;
        Ok(Self::new(json))
    }

    /// A comment, which clients do not see.
    pub fn comment(text: impl Into<String>) -> Self {
        Self {
            comment: Some(text.into()),
            ..Self::default()
        }
    }

    /// Names the event, for those who listen to that name only.
    ///
    /// # Errors
    ///
    /// [`InvalidSseEvent::NotALine`] if it has a line break in it.
    pub fn name(self, name: impl Into<Cow<'static, str>>) -> Result<Self, InvalidSseEvent> {
        let name = name.into();
        if name.contains(['\r', '\n']) {
            return Err(InvalidSseEvent::NotALine { field: "name" });
        }
        Ok(Self { name, ..self })
    }

    /// Says which event this is: clients that connect again
    /// [tell](crate::Context::last_event_id) the last one they have seen. An empty id makes them
    /// forget it.
    ///
    /// # Errors
    ///
    /// [`InvalidSseEvent::NotALine`] if it has a line break or a NUL in it.
    pub fn id(self, id: impl Into<String>) -> Result<Self, InvalidSseEvent> {
        let id = id.into();
        if id.contains(['\r', '\n', '\0']) {
            return Err(InvalidSseEvent::NotALine { field: "id" });
        }
        let id = Some(id);
        Ok(Self { id, ..self })
    }

    /// Tells the client how long to wait before it connects again, in whole milliseconds.
    pub fn retry(self, after: Duration) -> Self {
        self.retry_after(Some(after))
    }

    pub(super) fn retry_after(self, retry: Option<Duration>) -> Self {
        Self { retry, ..self }
    }

    /// Names the event with what is known to be a line.
    pub(super) fn of_kind(self, name: &'static str) -> Self {
        let name = Cow::Borrowed(name);
        Self { name, ..self }
    }

    pub(super) fn encode(&self) -> Bytes {
        let data = self.data.as_deref();
        let mut wire = BytesMut::with_capacity(data.map_or(0, str::len) + 64);
        for line in self.comment.iter().flat_map(|comment| lines(comment)) {
            field(&mut wire, "", line);
        }
        if !self.name.is_empty() {
            field(&mut wire, "event", &self.name);
        }
        if let Some(id) = &self.id {
            field(&mut wire, "id", id);
        }
        if let Some(retry) = self.retry {
            field(&mut wire, "retry", &retry.as_millis().to_string());
        }
        for line in data.into_iter().flat_map(lines) {
            field(&mut wire, "data", line);
        }
        wire.put_u8(b'\n');
        wire.freeze()
    }
}

// === impl InvalidSseEvent ===

impl ModuleError for InvalidSseEvent {
    fn into_error_answer(self) -> ErrorAnswer {
        ErrorAnswer::internal(self)
    }
}

fn field(wire: &mut BytesMut, name: &str, value: &str) {
    wire.put_slice(name.as_bytes());
    wire.put_u8(b':');
    if !value.is_empty() {
        // Clients remove one space, be it this one or the value's own.
        wire.put_u8(b' ');
        wire.put_slice(value.as_bytes());
    }
    wire.put_u8(b'\n');
}

/// The lines of a text by any of the three line breaks; at least one.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.find(['\r', '\n']) else {
            return rest.take();
        };
        let (line, ended) = text.split_at(end);
        let after = ended.strip_prefix("\r\n").unwrap_or(&ended[1..]);
        rest = Some(after);
        Some(line)
    })
}

#[cfg(test)]
mod tests;
