//! One JSON message out of path, query and body.
//!
//! Every field is named in the request message's descriptor; what is not is refused by name, and
//! so is a field that two places give differently. Text in path and query becomes what the field's
//! type asks for; protobuf's JSON mapping reads numbers from strings, so only flags need care.

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::{Map, Value};

use crate::descriptors::{self, Field, Kind, Message};
use crate::problem::Problem;
use crate::routes::{Parameters, Route};

type Fields = Map<String, Value>;

pub(crate) async fn read(
    route: &Route,
    parameters: &Parameters,
    head: &Parts,
    body: Body,
    max_body: usize,
) -> Result<Value, Problem> {
    let message = descriptors::request_of(route.rpc)
        .ok_or_else(|| Problem::from(tonic::Status::internal("a call without a descriptor")))?;
    let mut fields =
        if has_body(&route.method) { json(head, body, max_body).await? } else { Fields::new() };
    let query = head.uri.query().unwrap_or_default();
    for (name, text) in form_urlencoded::parse(query.as_bytes()) {
        if has_body(&route.method) {
            return Err(Problem::argument(format!(
                "{name}: expected in the body, not in the query"
            )));
        }
        let field = query_field(message, route, &name)?;
        if fields.contains_key(&field.name) {
            return Err(Problem::argument(format!("{name}: given twice")));
        }
        fields.insert(field.name.clone(), value(field, &text)?);
    }
    for (name, text) in parameters {
        let Some(field) = message.field(name) else {
            continue;
        };
        let own = value(field, text)?;
        // The body may repeat what the path says, under either of the field's names.
        for name in [&field.name, &field.json_name] {
            if fields.remove(name).is_some_and(|given| given != own) {
                return Err(Problem::argument(format!(
                    "{name}: the body says other than the path"
                )));
            }
        }
        fields.insert(field.name.clone(), own);
    }
    Ok(Value::Object(fields))
}

/// Whether fields come in a body.
pub(crate) fn has_body(method: &Method) -> bool {
    *method == Method::POST || *method == Method::PATCH
}

/// The fields of `route` that the query may give.
pub(crate) fn query_fields<'a>(
    message: &'a Message,
    route: &'a Route,
) -> impl Iterator<Item = &'a Field> {
    message.fields.iter().filter(|field| {
        let in_path = route.path.contains(&format!("{{{}}}", field.name));
        !has_body(&route.method) && !in_path && !field.repeated && !field.is_message()
    })
}

fn query_field<'a>(
    message: &'a Message,
    route: &'a Route,
    name: &str,
) -> Result<&'a Field, Problem> {
    let found = query_fields(message, route).find(|field| field.is_named(name));
    found.ok_or_else(|| {
        let names: Vec<_> = query_fields(message, route).map(|field| field.name.as_str()).collect();
        let expected = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        Problem::argument(format!("unknown query parameter {name:?}: expected {expected}"))
    })
}

fn value(field: &Field, text: &str) -> Result<Value, Problem> {
    match (&field.kind, text) {
        (Kind::Bool, "true" | "1") => Ok(Value::Bool(true)),
        (Kind::Bool, "false" | "0") => Ok(Value::Bool(false)),
        (Kind::Bool, _) => {
            Err(Problem::argument(format!("{}: expected true or false", field.name)))
        }
        _ => Ok(Value::String(text.to_owned())),
    }
}

/// The body's object; nothing at all is an empty one.
async fn json(head: &Parts, body: Body, max_body: usize) -> Result<Fields, Problem> {
    let bytes = match Limited::new(body, max_body).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            return Err(Problem::argument_with(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body has more than {max_body} bytes"),
            ));
        }
        Err(error) => return Err(Problem::argument(format!("the body broke off: {error}"))),
    };
    if bytes.is_empty() {
        return Ok(Fields::new());
    }
    let media = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media = media.and_then(|value| value.split(';').next()).map(str::trim);
    if !media.is_some_and(|media| media.eq_ignore_ascii_case("application/json")) {
        return Err(Problem::argument_with(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "content-type: expected application/json",
        ));
    }
    serde_json::from_slice(&bytes)
        .map_err(|error| Problem::argument(format!("the body is no JSON object: {error}")))
}
