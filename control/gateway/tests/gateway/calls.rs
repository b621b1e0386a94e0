//! Every route on the service, and every answer against its schema.

use std::collections::BTreeSet;

use axum::http::Method;
use gateway::routes::{ROUTES, Route};
use serde_json::{Value, json};

use crate::wire::{self, Reply, Served};

/// Holds an answer against the document's schema for it.
fn conforms(document: &Value, route: &Route, reply: &Reply) {
    let operation = &document["paths"][route.path][route.method.as_str().to_lowercase()];
    let content = &operation["responses"]["200"]["content"];
    let media = reply.header("content-type");
    let schema = json!({
        "$ref": content[media]["schema"]["$ref"],
        "components": document["components"],
    });
    let validator = jsonschema::validator_for(&schema).unwrap();
    let messages = match media {
        "application/json" => vec![reply.json()],
        "application/x-ndjson" => reply.lines(),
        other => panic!("{other}"),
    };
    for message in messages {
        let errors: Vec<_> = validator.iter_errors(&message).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{} {}: {errors:?} in {message}", route.method, route.path);
    }
}

struct Exercise<'a> {
    server: &'a Served,
    document: Value,
    done: BTreeSet<(&'static str, String)>,
}

impl Exercise<'_> {
    async fn ask(&mut self, method: Method, path: &str, target: &str, body: &Value) -> Reply {
        let route = ROUTES.iter().find(|route| route.path == path && route.method == method);
        let route = route.unwrap_or_else(|| panic!("{method} {path} is no route"));
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let reply = self.server.ask(method.clone(), target, &body).await;
        assert_eq!(reply.status, 200, "{method} {target}: {}", reply.text);
        conforms(&self.document, route, &reply);
        self.done.insert((route.path, method.to_string()));
        reply
    }
}

#[tokio::test]
async fn every_route_does_its_call_and_answers_as_the_document_says() {
    let server = wire::open().await;
    let document = server.ask(Method::GET, "/v1/openapi.json", "").await.json();
    let mut exercise = Exercise { server: &server, document, done: BTreeSet::new() };
    let none = Value::Null;
    let (get, post, patch, delete) = (Method::GET, Method::POST, Method::PATCH, Method::DELETE);

    let settings = json!({ "scheduler": "MAGLEV", "table_size": 65537, "hash_secret": "AAEC" });
    let pool = json!({ "pool_id": "web", "settings": settings });
    let created = exercise.ask(post.clone(), "/v1/pools", "/v1/pools", &pool).await.json();
    assert_eq!(created["settings"]["hash_secret"], "AAEC");
    assert_eq!(created["settings"]["forwarding"], "FORWARDING_UNSPECIFIED");

    // Names in lowerCamelCase, numbers as text, and what the path says once more.
    let change = json!({ "poolId": "web", "settings": { "drainSeconds": "30", "reselect": true } });
    let path = "/v1/pools/{pool_id}";
    let changed = exercise.ask(patch.clone(), path, "/v1/pools/web", &change).await.json();
    assert_eq!(changed["settings"]["drain_seconds"], 30);

    let backend = json!({
        "pool_id": "web", "backend_id": "host-1", "ip": "192.0.2.11", "port": 80,
        "labels": { "az": "a", "rack": "r1" },
    });
    let path = "/v1/backends";
    let registered = exercise.ask(post.clone(), path, path, &backend).await.json();
    assert_eq!(registered["backend"]["state"], "PENDING");
    assert_eq!(registered["backend"]["registered_at_ns"], u64::MAX.to_string());
    assert_eq!(registered["backend"]["weight"], 0, "zeroes are shown");

    let path = "/v1/backends/{backend_id}";
    let weight = json!({ "weight": 0, "labels": { "version": "2" } });
    exercise.ask(patch, path, "/v1/backends/host-1", &weight).await;
    let shown = exercise.ask(get.clone(), path, "/v1/backends/host-1", &none).await.json();
    assert_eq!(shown["labels"], json!({ "az": "a", "rack": "r1", "version": "2" }));
    for (query, count) in
        [("", 1), ("?pool_id=web", 1), ("?pool_id=other", 0), ("?poolId=a%20b", 0)]
    {
        let target = format!("/v1/backends{query}");
        let listed = exercise.ask(get.clone(), "/v1/backends", &target, &none).await.json();
        assert_eq!(listed["backends"].as_array().unwrap().len(), count, "{target}");
    }
    let drain = "/v1/backends/{backend_id}:drain";
    let target = "/v1/backends/host-1:drain";
    exercise.ask(post.clone(), drain, target, &none).await;
    exercise.ask(post.clone(), drain, target, &json!({ "drain_seconds": 5 })).await;
    let shown = exercise.ask(get.clone(), path, "/v1/backends/host-1", &none).await.json();
    assert_eq!((&shown["state"], &shown["drain_until_ns"]), (&json!("DRAINING"), &json!("5")));

    let vip = json!({
        "address": "203.0.113.1", "first_port": 80, "last_port": 80, "protocol": "PROTOCOL_TCP",
    });
    let bind = json!({ "pool_id": "web", "vip": vip });
    exercise.ask(post.clone(), "/v1/vips", "/v1/vips", &bind).await;
    let bound = exercise.ask(get.clone(), "/v1/vips", "/v1/vips?pool_id=web", &none).await.json();
    assert_eq!(bound["vips"][0]["vip"]["protocol"], "PROTOCOL_TCP");

    let pools = exercise.ask(get.clone(), "/v1/pools", "/v1/pools", &none).await.json();
    assert_eq!(pools["pools"][0]["backends"][0]["backend_id"], "host-1");
    let path = "/v1/pools/{pool_id}";
    let shown = exercise.ask(get.clone(), path, "/v1/pools/web", &none).await.json();
    assert_eq!(shown["vips"][0]["address"], "203.0.113.1");

    let plan = json!({ "drain": { "backend_id": "host-1" } });
    let planned = exercise.ask(post.clone(), "/v1/plan", "/v1/plan", &plan).await.json();
    assert_eq!(planned["backends_out"], json!(["host-1"]));
    exercise.ask(get.clone(), "/v1/nodes", "/v1/nodes", &none).await;

    for (path, target) in [
        ("/v1/pools/{pool_id}/snapshots", "/v1/pools/web/snapshots?node_id=lb-a1"),
        ("/v1/snapshots", "/v1/snapshots?node_id=lb-a1"),
    ] {
        let snapshots = exercise.ask(get.clone(), path, target, &none).await.lines();
        assert_eq!(snapshots[0]["store_id"], "lb-a1");
        assert_eq!(snapshots[1]["initial_set_complete"], true);
    }
    let path = "/v1/assignments";
    let target = "/v1/assignments?checker_id=checker-1&zone=a";
    let assigned = exercise.ask(get.clone(), path, target, &none).await.lines();
    assert_eq!(assigned[0]["assignments"][0]["settings"]["udp_payload"], "AP8=");

    exercise.ask(post.clone(), "/v1/vips:unbind", "/v1/vips:unbind", &json!({ "vip": vip })).await;
    let path = "/v1/backends/{backend_id}";
    let target = "/v1/backends/host-1?immediately=true";
    exercise.ask(delete.clone(), path, target, &none).await;
    exercise.ask(delete, "/v1/pools/{pool_id}", "/v1/pools/web", &none).await;

    // Events go on without an end: see `streams`.
    exercise.done.insert(("/v1/events", get.to_string()));
    let all: BTreeSet<_> =
        ROUTES.iter().map(|route| (route.path, route.method.to_string())).collect();
    assert_eq!(exercise.done, all);
}
