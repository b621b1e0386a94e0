//! The OpenAPI 3.1 document, made of the table of routes and the `.proto` file's descriptors.
//!
//! Schemas are JSON Schema (2020-12) of what protobuf's JSON mapping writes. It reads more than
//! that: 64-bit numbers also as numbers, names also in lowerCamelCase.

use serde_json::{Map, Value, json};

use crate::answer::{EVENTS, LINES};
use crate::descriptors::{self, Call, Enumeration, Field, Kind, Message};
use crate::request::{has_body, query_fields};
use crate::routes::{ROUTES, Route};

/// The document that `GET /v1/openapi.json` answers with, and `docs/openapi.json` holds.
#[must_use]
pub fn document() -> Value {
    let mut paths = Map::new();
    for route in &ROUTES {
        let Some(call) = descriptors::all().calls.get(route.rpc.name()) else {
            continue;
        };
        let methods = paths.entry(route.path).or_insert_with(|| json!({}));
        if let Some(methods) = methods.as_object_mut() {
            methods.insert(route.method.as_str().to_lowercase(), operation(route, call));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Weir control plane",
            "version": "1",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            "description": INTRODUCTION,
        },
        "servers": [{ "url": "/", "description": "The controller's HTTP listener" }],
        "security": [{ "token": [] }, { "certificate": [] }, {}],
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "responses": { "Error": error_response() },
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token of an access entry",
                },
                "certificate": {
                    "type": "mutualTLS",
                    "description": "A client certificate that an access entry names",
                },
            },
        },
    })
}

const INTRODUCTION: &str = "The calls of weir.v1.LBControlPlane as HTTP and JSON. Bodies are \
    protobuf's JSON mapping with the field names of the .proto file: 64-bit numbers are strings, \
    bytes are base64. Only the controller that leads answers; the others say 503 and name its gRPC \
    address. Without access entries, which only a loopback listener allows, no credential is asked \
    for. See docs/api.md.";

fn operation(route: &Route, call: &Call) -> Value {
    let mut operation = json!({
        "operationId": operation_id(route),
        "tags": [route.tag],
        "summary": first_sentence(&call.comment),
        "description": call.comment,
        "x-grpc": format!("weir.v1.LBControlPlane/{}", route.rpc.name()),
        "responses": {
            "200": success(call),
            "default": { "$ref": "#/components/responses/Error" },
        },
    });
    let Some(fields) = operation.as_object_mut() else {
        return operation;
    };
    if let Some(message) = descriptors::all().messages.get(&call.request) {
        let parameters = parameters(route, message);
        if !parameters.is_empty() {
            fields.insert("parameters".to_owned(), parameters.into());
        }
        if has_body(&route.method) {
            let body = json!({
                "required": false,
                "description": "What the path names may be left out.",
                "content": { "application/json": { "schema": reference(&call.request) } },
            });
            fields.insert("requestBody".to_owned(), body);
        }
    }
    operation
}

/// The call's name; a call with two routes has the pool's one under a name of its own.
fn operation_id(route: &Route) -> String {
    let routes = ROUTES.iter().filter(|other| other.rpc == route.rpc).count();
    let suffix = if routes > 1 && !route.path.contains('{') { "s" } else { "" };
    format!("{}{suffix}", route.rpc.name())
}

fn parameters(route: &Route, message: &Message) -> Vec<Value> {
    let parameter = |field: &Field, place: &str| {
        json!({
            "name": field.name,
            "in": place,
            "required": place == "path",
            "description": field.comment,
            "schema": schema_of(&field.kind),
        })
    };
    let in_path = message
        .fields
        .iter()
        .filter(|field| route.path.contains(&format!("{{{}}}", field.name)))
        .map(|field| parameter(field, "path"));
    in_path.chain(query_fields(message, route).map(|field| parameter(field, "query"))).collect()
}

fn success(call: &Call) -> Value {
    let schema = reference(&call.response);
    match call.streams {
        (_, true) => json!({
            "description": "Messages as they come: one a line, or one an event. Empty lines and \
                comments say that the stream lives; one that fails ends with {\"error\": Error}.",
            "content": { LINES: { "schema": schema }, EVENTS: { "schema": schema } },
        }),
        (_, false) => json!({
            "description": "Done.",
            "content": { "application/json": { "schema": schema } },
        }),
    }
}

fn error_response() -> Value {
    json!({
        "description": "What went wrong, with the code gRPC has for it.",
        "headers": {
            "weir-leader": {
                "description": "With 503: the gRPC address of the controller that leads.",
                "schema": { "type": "string" },
            },
        },
        "content": { "application/json": { "schema": reference("Error") } },
    })
}

fn schemas() -> Map<String, Value> {
    let all = descriptors::all();
    let messages = all.messages.iter().map(|(name, message)| (name.clone(), object(message)));
    let enums = all.enums.iter().map(|(name, values)| (name.clone(), words(values)));
    messages.chain(enums).chain([("Error".to_owned(), error())]).collect()
}

fn error() -> Value {
    json!({
        "type": "object",
        "description": "What every answer but 200 holds.",
        "properties": {
            "code": { "type": "integer", "minimum": 1, "maximum": 16 },
            "status": { "type": "string", "description": "The code's name: NOT_FOUND ..." },
            "message": { "type": "string", "description": "What was wrong, naming the field." },
            "leader": { "type": "string", "description": "The gRPC address of the leader." },
        },
        "required": ["code", "status", "message"],
        "additionalProperties": false,
    })
}

fn object(message: &Message) -> Value {
    let properties: Map<_, _> =
        message.fields.iter().map(|field| (field.name.clone(), property(field))).collect();
    let mut object = json!({
        "type": "object",
        "description": message.comment,
        "properties": properties,
        "additionalProperties": false,
    });
    if let (true, Some(fields)) = (message.is_choice, object.as_object_mut()) {
        let one = message.fields.iter().map(|field| json!({ "required": [field.name] }));
        fields.insert("oneOf".to_owned(), one.collect());
    }
    object
}

fn property(field: &Field) -> Value {
    let mut schema = match field.repeated {
        true => json!({ "type": "array", "items": schema_of(&field.kind) }),
        false => schema_of(&field.kind),
    };
    if let (false, Some(fields)) = (field.comment.is_empty(), schema.as_object_mut()) {
        fields.insert("description".to_owned(), field.comment.clone().into());
    }
    schema
}

fn schema_of(kind: &Kind) -> Value {
    match kind {
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Unsigned32 => json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }),
        Kind::Unsigned64 => json!({ "type": "string", "pattern": "^[0-9]{1,20}$" }),
        Kind::Text => json!({ "type": "string" }),
        Kind::Bytes => json!({ "type": "string", "contentEncoding": "base64" }),
        Kind::Enumeration(name) | Kind::Message(name) => reference(name),
        Kind::Map(value) => {
            json!({ "type": "object", "additionalProperties": schema_of(value) })
        }
    }
}

fn words(enumeration: &Enumeration) -> Value {
    json!({
        "type": "string",
        "description": enumeration.comment,
        "enum": enumeration.values,
    })
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn first_sentence(text: &str) -> &str {
    let end = text.find(". ").or_else(|| text.find(": ")).unwrap_or(text.len());
    text.get(..end).unwrap_or(text).trim_end_matches('.')
}
