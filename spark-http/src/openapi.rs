//! What routes say of themselves, for the OpenAPI document at `/openapi.json`.

use std::{fmt, sync::Arc};

use http::Method;
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::Route;

mod document;

pub(crate) use document::render;

/// A route's operation in the OpenAPI document, while it is described.
///
/// Codecs describe what they read and write in [`Codec::describe`](crate::Codec::describe), routes may
/// add to it with [`Route::describe`](crate::Route::describe). The later word holds. The errors of the
/// [table](crate#errors) are part of every operation.
#[derive(Debug)]
pub struct Operation<'a> {
    schemas: &'a mut Schemas,
    parts: Parts,
}

/// How a route is described.
pub(crate) type Describe = Arc<dyn Fn(&mut Operation<'_>) + Send + Sync>;

/// A route in the document.
#[derive(Clone)]
pub(crate) struct Documented {
    /// As a client writes it, with `{parameter}`s.
    pub(crate) path: String,
    pub(crate) parameters: Vec<Arc<str>>,
    pub(crate) methods: Vec<Method>,
    /// Whether it asks for an API key.
    pub(crate) needs_key: bool,
    pub(crate) describe: Option<Describe>,
}

/// The schemas of types. What is read and what is written may differ for one type.
struct Schemas {
    read: SchemaGenerator,
    written: SchemaGenerator,
}

#[derive(Debug, Default)]
struct Parts {
    summary: Option<String>,
    description: Option<String>,
    /// Schemas by media type.
    request: Map<String, Value>,
    request_is_optional: bool,
    response: Map<String, Value>,
    /// Whether it is known that the answer has no body.
    is_bare: bool,
    /// Schemas of parameters by name, and whether each is required.
    parameters: Map<String, Value>,
    required: Vec<String>,
}

// === impl Operation ===

impl Operation<'_> {
    /// Says in a few words what the operation does.
    pub fn summary(&mut self, text: impl Into<String>) -> &mut Self {
        self.parts.summary = Some(text.into());
        self
    }

    /// Says more than the [summary](Self::summary) does, in Markdown.
    pub fn description(&mut self, text: impl Into<String>) -> &mut Self {
        self.parts.description = Some(text.into());
        self
    }

    /// The body of a request is a `T` in this media type, such as `application/json`.
    pub fn request<T: JsonSchema + ?Sized>(&mut self, media_type: &str) -> &mut Self {
        let schema = self.schemas.read.subschema_for::<T>();
        self.request_schema(media_type, schema.into())
    }

    /// As [`request`](Self::request), with a JSON schema (2020-12) in the place of a type.
    pub fn request_schema(&mut self, media_type: &str, schema: Value) -> &mut Self {
        self.parts.request.insert(media_type.to_owned(), schema);
        self
    }

    /// A request may come without a body. Otherwise one that has been described must be there.
    pub fn optional_request(&mut self) -> &mut Self {
        self.parts.request_is_optional = true;
        self
    }

    /// The body of the answer, if all goes well, is a `T` in this media type.
    pub fn response<T: JsonSchema + ?Sized>(&mut self, media_type: &str) -> &mut Self {
        let schema = self.schemas.written.subschema_for::<T>();
        self.response_schema(media_type, schema.into())
    }

    /// As [`response`](Self::response), with a JSON schema (2020-12) in the place of a type.
    pub fn response_schema(&mut self, media_type: &str, schema: Value) -> &mut Self {
        self.parts.response.insert(media_type.to_owned(), schema);
        self
    }

    /// The fields of `T`, a struct, are the parameters: those of the path that have the name of a
    /// field, and for the other fields the query.
    pub fn parameters<T: JsonSchema>(&mut self) -> &mut Self {
        // On its own: parameters are written out one by one, not referred to.
        let schema = settings()
            .with(|settings| settings.inline_subschemas = true)
            .into_generator()
            .into_root_schema_for::<T>();
        let Some(fields) = schema.get("properties").and_then(Value::as_object) else {
            return self;
        };
        let required = schema.get("required").and_then(Value::as_array);
        let required = required.into_iter().flatten().filter_map(Value::as_str);
        self.parts.required.extend(required.map(str::to_owned));
        for (name, schema) in fields {
            self.parts.parameters.insert(name.clone(), schema.clone());
        }
        self
    }

    /// The answer has no body.
    pub(crate) fn without_response(&mut self) -> &mut Self {
        self.parts.response.clear();
        self.parts.is_bare = true;
        self
    }

    /// The answer is text in the small object of [`TextCodec`](crate::TextCodec).
    pub(crate) fn text_response(&mut self) -> &mut Self {
        let schema = json!({
            "type": "object",
            "properties": { "message": { "type": "string" }, "status": { "const": "Ok" } },
            "required": ["message", "status"],
        });
        self.response_schema("application/json", schema)
    }
}

// === impl Documented ===

impl fmt::Debug for Documented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Documented")
            .field("path", &self.path)
            .field("methods", &self.methods)
            .finish_non_exhaustive()
    }
}

// === impl Route ===

impl Route {
    /// Describes the route in the OpenAPI document, beyond what its codec says.
    ///
    /// ```
    /// use spark_http::{Json, Route};
    ///
    /// let dice = Route::handler_fn(|_context, _body| async { Json(4) }).describe(|operation| {
    ///     operation.summary("Throws a die").response::<u8>("application/json");
    /// });
    /// ```
    pub fn describe(
        mut self,
        describe: impl Fn(&mut Operation<'_>) + Send + Sync + 'static,
    ) -> Self {
        let before = self.describe.take();
        self.describe = Some(Arc::new(move |operation| {
            if let Some(before) = &before {
                before(operation);
            }
            describe(operation);
        }));
        self
    }
}

// === impl Schemas ===

impl Schemas {
    fn new() -> Self {
        Self {
            read: settings().for_deserialize().into_generator(),
            written: settings().for_serialize().into_generator(),
        }
    }
}

impl fmt::Debug for Schemas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schemas").finish_non_exhaustive()
    }
}

/// OpenAPI 3.1 has the schemas of JSON Schema 2020-12, in a place of its own.
fn settings() -> SchemaSettings {
    SchemaSettings::draft2020_12().with(|settings| {
        settings.meta_schema = None;
        settings.definitions_path = "/components/schemas".into();
    })
}
