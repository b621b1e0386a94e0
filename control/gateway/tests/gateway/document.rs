//! The committed document, the router and the service's calls against each other.

use std::collections::BTreeSet;
use std::path::Path;
use std::{env, fs};

use gateway::openapi;
use gateway::routes::{NOT_ROUTED, ROUTES};
use prost::Message;
use serde_json::Value;

#[test]
fn the_committed_document_is_the_one_that_is_served() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let generated = openapi::document();
    if env::var_os("WEIR_WRITE_OPENAPI").is_some() {
        fs::write(&path, serde_json::to_string_pretty(&generated).unwrap() + "\n").unwrap();
    }
    let committed: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert!(
        committed == generated,
        "docs/openapi.json is old: WEIR_WRITE_OPENAPI=1 cargo test -p gateway writes it"
    );
}

#[test]
fn every_call_of_the_service_has_a_route_or_a_reason() {
    let set = prost_types::FileDescriptorSet::decode(proto::FILE_DESCRIPTOR_SET).unwrap();
    let services = set.file.iter().flat_map(|file| &file.service);
    let calls: BTreeSet<&str> =
        services.flat_map(|service| &service.method).map(|method| method.name()).collect();
    let routed: BTreeSet<&str> = ROUTES.iter().map(|route| route.rpc.name()).collect();
    let reasons: BTreeSet<&str> = NOT_ROUTED.iter().map(|(name, _)| *name).collect();
    assert!(routed.is_disjoint(&reasons));
    assert_eq!(routed.union(&reasons).copied().collect::<BTreeSet<_>>(), calls);
}

#[test]
fn the_document_has_every_route_once() {
    let document = openapi::document();
    let mut ids = BTreeSet::new();
    let mut count = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            count += 1;
            let known = ROUTES.iter().any(|route| {
                route.path == path && route.method.as_str().eq_ignore_ascii_case(method)
            });
            assert!(known, "{method} {path}");
            assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{method} {path}");
            assert!(!operation["summary"].as_str().unwrap().is_empty(), "{method} {path}");
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let in_path = parameters.iter().filter(|parameter| parameter["in"] == "path");
            let names: Vec<_> =
                in_path.map(|parameter| parameter["name"].as_str().unwrap()).collect();
            assert_eq!(names.len(), path.matches('{').count(), "{path}");
            assert!(names.iter().all(|name| path.contains(&format!("{{{name}}}"))), "{path}");
        }
    }
    assert_eq!(count, ROUTES.len());
}

#[test]
fn references_lead_somewhere_and_schemas_are_schemas() {
    fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(target)) = fields.get("$ref") {
                    found.insert(target);
                }
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document = openapi::document();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    for reference in &found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        assert!(jsonschema::meta::is_valid(schema), "{name}");
        let described = schema["properties"].as_object().is_none_or(|all| !all.contains_key(""));
        assert!(described, "{name}");
    }
}
