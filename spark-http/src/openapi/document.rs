//! The document: OpenAPI 3.1.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{Documented, Operation, Parts, Schemas};
use crate::{ErrorAnswer, percent};

/// The document of `routes`, of which two never have a path and a method in common.
pub(crate) fn render(title: &str, version: &str, routes: &[Documented]) -> Value {
    let mut schemas = Schemas::new();
    let mut described: Vec<(&Documented, Parts)> = routes
        .iter()
        .map(|route| (route, describe(route, &mut schemas)))
        .collect();
    let components = schemas_of(&mut schemas, &mut described);

    let mut paths = Map::new();
    let mut ids = BTreeSet::new();
    for (route, parts) in &described {
        let path = paths.entry(route.path.clone()).or_insert_with(|| json!({}));
        for method in &route.methods {
            let method = method.as_str().to_ascii_lowercase();
            if METHODS.contains(&method.as_str()) {
                let id = unique(&mut ids, &format!("{method}_{}", route.path));
                path[method] = operation(&id, route, parts);
            }
        }
    }
    let needs_key = routes.iter().any(|route| route.needs_key);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": title,
            // The field must be there.
            "version": if version.is_empty() { "0" } else { version },
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": error_responses(),
            "headers": { "x-request-id": {
                "description": "The client's own id of the request, or a new one",
                "schema": { "type": "string" },
            }},
            "securitySchemes": if needs_key { json!({ KEY: {
                "type": "http",
                "scheme": "bearer",
                "description": "An API key",
            }}) } else { json!({}) },
        },
    })
}

fn describe(route: &Documented, schemas: &mut Schemas) -> Parts {
    let mut operation = Operation {
        schemas,
        parts: Parts::default(),
    };
    if let Some(describe) = &route.describe {
        describe(&mut operation);
    }
    operation.parts
}

fn operation(id: &str, route: &Documented, parts: &Parts) -> Value {
    let mut operation = json!({
        "operationId": id,
        "parameters": parameters(route, parts),
        "responses": responses(route, parts),
    });
    for (name, text) in [
        ("summary", &parts.summary),
        ("description", &parts.description),
    ] {
        if let Some(text) = text {
            operation[name] = json!(text);
        }
    }
    if !parts.request.is_empty() {
        let required = !parts.request_is_optional;
        let content = content(&parts.request);
        operation["requestBody"] = json!({ "required": required, "content": content });
    }
    if route.needs_key {
        operation["security"] = json!([{ KEY: [] }]);
    }
    operation
}

fn parameters(route: &Documented, parts: &Parts) -> Vec<Value> {
    let is_of_path = |name: &str| route.parameters.iter().any(|known| **known == *name);
    let text = json!({ "type": "string", "minLength": 1 });
    let of_path = route.parameters.iter().map(|name| {
        let schema = parts.parameters.get(&**name).unwrap_or(&text);
        json!({ "name": &**name, "in": "path", "required": true, "schema": schema })
    });
    let of_query = parts
        .parameters
        .iter()
        .filter(|(name, _)| !is_of_path(name));
    let of_query = of_query.map(|(name, schema)| {
        let required = parts.required.contains(name);
        json!({ "name": name, "in": "query", "required": required, "schema": schema })
    });
    of_path.chain(of_query).collect()
}

fn responses(route: &Documented, parts: &Parts) -> Value {
    let mut responses = Map::new();
    let mut done = json!({ "description": "Done", "headers": headers() });
    if !parts.response.is_empty() {
        done["content"] = content(&parts.response);
    } else if !parts.is_bare {
        done["description"] = json!("Done, with an answer of the route's own");
        done["content"] = json!({ "*/*": {} });
    }
    responses.insert("2XX".to_owned(), done);
    for (status, name, _) in ErrorAnswer::TABLE {
        if route.needs_key || !ErrorAnswer::is_of_credentials(status) {
            responses.insert(status.as_str().to_owned(), error_reference(name));
        }
    }
    responses.insert("default".to_owned(), error_reference("Error"));
    responses.into()
}

fn error_responses() -> Value {
    let media = json!({ "schema": reference("schemas", ERROR) });
    let response = |text: &str| {
        json!({
            "description": text,
            "headers": headers(),
            "content": { "application/json": media },
        })
    };
    let mut responses = Map::new();
    for (_, name, text) in ErrorAnswer::TABLE {
        responses.insert(name.to_owned(), response(text));
    }
    responses.insert("Error".to_owned(), response("an error of the route's own"));
    responses.into()
}

/// The schemas that others refer to, those of what is read and of what is written, by names that a
/// component may have. Where both have one of the same name and differ, what is written gets another
/// name.
fn schemas_of(schemas: &mut Schemas, described: &mut [(&Documented, Parts)]) -> Value {
    let read = schemas.read.take_definitions(true);
    let written = schemas.written.take_definitions(true);
    let apart = told_apart(&read, &written);

    let mut taken = BTreeSet::from([ERROR.to_owned()]);
    let mut of_read = Names::new();
    for name in read.keys() {
        of_read.insert(name.clone(), component(&mut taken, name));
    }
    let mut of_written = Names::new();
    for name in written.keys() {
        let new = match of_read.get(name) {
            Some(known) if !apart.contains(name) => known.clone(),
            Some(_) => component(&mut taken, &format!("{name}Answer")),
            None => component(&mut taken, name),
        };
        of_written.insert(name.clone(), new);
    }

    for (_, parts) in described {
        let requests = parts.request.values_mut();
        requests.for_each(|schema| redirect(schema, &of_read));
        let responses = parts.response.values_mut();
        responses.for_each(|schema| redirect(schema, &of_written));
    }
    let mut all = Map::new();
    for (schemas, names) in [(written, &of_written), (read, &of_read)] {
        for (name, mut schema) in schemas {
            redirect(&mut schema, names);
            all.insert(names[&name].clone(), schema);
        }
    }
    all.insert(ERROR.to_owned(), error_schema());
    all.into()
}

/// What names of types are as names of components.
type Names = BTreeMap<String, String>;

/// A name that a component may have, and none has.
fn component(taken: &mut BTreeSet<String>, name: &str) -> String {
    let plain = |char: char| {
        if char.is_ascii_alphanumeric() || ['.', '_', '-'].contains(&char) {
            char
        } else {
            '_'
        }
    };
    let mut name: String = name.chars().map(plain).collect();
    while !taken.insert(name.clone()) {
        name.push('_');
    }
    name
}

/// The type that a `$ref` leads to, and what follows in it.
fn referred(to: &str) -> Option<(String, &str)> {
    let step = to.strip_prefix("#/components/schemas/")?;
    let (step, rest) = step.split_at(step.find('/').unwrap_or(step.len()));
    // A JSON Pointer's step, in a URL's fragment.
    let step = percent::decode(step, |decoded, byte, _| decoded.push(byte)).ok()?;
    Some((step.replace("~1", "/").replace("~0", "~"), rest))
}

/// The names that `read` and `written` both have, for schemas that are not the same: they differ, or
/// lead to one that does.
fn told_apart(read: &Map<String, Value>, written: &Map<String, Value>) -> BTreeSet<String> {
    let both = written.iter();
    let both = both.filter_map(|(name, schema)| Some((name, schema, read.get(name)?)));
    let both: Vec<_> = both.collect();
    let mut apart = BTreeSet::new();
    loop {
        let known = apart.len();
        for (name, written, read) in &both {
            if !apart.contains(*name) && (written != read || refers(written, &apart)) {
                apart.insert((*name).clone());
            }
        }
        if apart.len() == known {
            return apart;
        }
    }
}

/// Whether anything in `schema` refers to one of `names`.
fn refers(schema: &Value, names: &BTreeSet<String>) -> bool {
    match schema {
        Value::Object(fields) => {
            let to = fields.get("$ref").and_then(Value::as_str);
            let is_here = to
                .and_then(referred)
                .is_some_and(|(name, _)| names.contains(&name));
            is_here || fields.values().any(|field| refers(field, names))
        }
        Value::Array(items) => items.iter().any(|item| refers(item, names)),
        _ => false,
    }
}

/// Makes everything in `schema` that refers to a type refer to the type's component.
fn redirect(schema: &mut Value, names: &Names) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::String(to)) = fields.get_mut("$ref")
                && let Some((name, rest)) = referred(to)
                && let Some(component) = names.get(&name)
            {
                *to = format!("#/components/schemas/{component}{rest}");
            }
            fields.values_mut().for_each(|field| redirect(field, names));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| redirect(item, names)),
        _ => {}
    }
}

fn error_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "message": { "type": "string" },
            "status": { "const": "Error" },
            "pointer": {
                "type": "string",
                "description": "The JSON Pointer (RFC 6901) of the field at fault",
            },
        },
        "required": ["message", "status"],
    })
}

fn content(schemas: &Map<String, Value>) -> Value {
    let media = schemas.iter().map(|(media_type, schema)| {
        let media = json!({ "schema": schema });
        (media_type.clone(), media)
    });
    Value::Object(media.collect())
}

fn headers() -> Value {
    json!({ "x-request-id": reference("headers", "x-request-id") })
}

fn error_reference(name: &str) -> Value {
    reference("responses", name)
}

fn reference(kind: &str, name: &str) -> Value {
    json!({ "$ref": format!("#/components/{kind}/{name}") })
}

/// An identifier for tools that make functions of operations.
fn unique(ids: &mut BTreeSet<String>, text: &str) -> String {
    let plain = |char: char| {
        if char.is_ascii_alphanumeric() {
            char
        } else {
            '_'
        }
    };
    let plain: String = text.chars().map(plain).collect();
    let words: Vec<&str> = plain.split('_').filter(|word| !word.is_empty()).collect();
    let mut id = words.join("_");
    while !ids.insert(id.clone()) {
        id.push('_');
    }
    id
}

/// Those that OpenAPI 3.1 has a place for.
const METHODS: [&str; 8] = [
    "get", "put", "post", "delete", "options", "head", "patch", "trace",
];

const KEY: &str = "apiKey";

const ERROR: &str = "Error";
