//! The document: OpenAPI 3.1.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{Documented, Operation, Parts, Schemas};
use crate::ErrorAnswer;

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

/// The schemas that others refer to, those of what is read and of what is written. Where both have
/// one of the same name and differ, what is written gets another name.
fn schemas_of(schemas: &mut Schemas, described: &mut [(&Documented, Parts)]) -> Value {
    let mut all = schemas.read.take_definitions(true);
    let mut written: Value = schemas.written.take_definitions(true).into();
    let names: Vec<String> = written
        .as_object()
        .into_iter()
        .flat_map(Map::keys)
        .filter(|name| all.contains_key(*name) && all[*name] != written[*name])
        .cloned()
        .collect();
    let mut answers = Vec::new();
    for (_, parts) in described.iter_mut() {
        answers.extend(parts.response.values_mut());
    }
    for name in names {
        let mut new = format!("{name}Answer");
        while all.contains_key(&new) || !written[&new].is_null() {
            new.push('_');
        }
        let (from, to) = (reference("schemas", &name), reference("schemas", &new));
        redirect(&mut written, &from["$ref"], &to["$ref"]);
        for answer in &mut answers {
            redirect(answer, &from["$ref"], &to["$ref"]);
        }
        written[&new] = written[&name].take();
    }
    if let Value::Object(written) = written {
        all.extend(written.into_iter().filter(|(_, schema)| !schema.is_null()));
    }
    all.insert(ERROR.to_owned(), error_schema());
    all.into()
}

/// Makes everything in `schema` that refers to `from` refer to `to`.
fn redirect(schema: &mut Value, from: &Value, to: &Value) {
    match schema {
        Value::Object(fields) => {
            for (name, value) in fields {
                if name == "$ref" && value == from {
                    value.clone_from(to);
                }
                redirect(value, from, to);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| redirect(item, from, to)),
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
    // A name is a JSON Pointer's step.
    let name = name.replace('~', "~0").replace('/', "~1");
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
