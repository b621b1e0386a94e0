//! What goes wrong, told with the field, the gRPC code and the HTTP status.

use axum::http::Method;
use serde_json::json;

use crate::wire::{self, MAX_BODY, Reply, request};

fn check(reply: &Reply, http: u16, status: &str, message: &str) {
    assert_eq!(reply.status, http, "{}", reply.text);
    assert_eq!(reply.header("content-type"), "application/json");
    let body = reply.json();
    assert_eq!(body["status"], status, "{body}");
    assert!(body["message"].as_str().unwrap().contains(message), "{body} lacks {message:?}");
    let document = gateway::openapi::document();
    let schema = &document["components"]["schemas"]["Error"];
    assert!(jsonschema::validator_for(schema).unwrap().is_valid(&body), "{body}");
}

#[tokio::test]
async fn a_wrong_request_is_told_what_is_wrong_with_it() {
    let server = wire::open().await;
    let post = || Method::POST;
    let large = format!("{{\"pool_id\": \"{}\"}}", "x".repeat(MAX_BODY));
    for (method, target, body, http, status, message) in [
        (post(), "/v1/pools", r#"{"pool": "a"}"#, 400, "INVALID_ARGUMENT", "unknown field `pool`"),
        (
            post(),
            "/v1/pools",
            r#"{"pool_id": "a", "settings": {"probe": {"intervall_ms": 1}}}"#,
            400,
            "INVALID_ARGUMENT",
            "settings.probe.intervall_ms: unknown field `intervall_ms`",
        ),
        (
            post(),
            "/v1/pools",
            r#"{"pool_id": "a", "settings": {"table_size": -1}}"#,
            400,
            "INVALID_ARGUMENT",
            "settings.table_size: ",
        ),
        (
            post(),
            "/v1/pools",
            r#"{"pool_id": "a", "settings": {"scheduler": "MAGLAV"}}"#,
            400,
            "INVALID_ARGUMENT",
            "settings.scheduler: unknown variant `MAGLAV`",
        ),
        (post(), "/v1/pools", r#"{"pool_id": 1}"#, 400, "INVALID_ARGUMENT", "pool_id: "),
        (post(), "/v1/pools", r#"{"pool_id""#, 400, "INVALID_ARGUMENT", "is no JSON object: EOF"),
        (post(), "/v1/pools", "[]", 400, "INVALID_ARGUMENT", "is no JSON object"),
        (post(), "/v1/pools", "{}", 400, "INVALID_ARGUMENT", "pool_id: expected a name"),
        (
            post(),
            "/v1/pools?pool_id=a",
            "{}",
            400,
            "INVALID_ARGUMENT",
            "pool_id: expected in the body",
        ),
        (post(), "/v1/pools", &large, 413, "INVALID_ARGUMENT", "more than 4096 bytes"),
        (
            Method::PATCH,
            "/v1/pools/a",
            r#"{"poolId": "b"}"#,
            400,
            "INVALID_ARGUMENT",
            "poolId: the body says other than the path",
        ),
        (
            Method::GET,
            "/v1/backends?pool=a",
            "",
            400,
            "INVALID_ARGUMENT",
            "unknown query parameter \"pool\": expected pool_id",
        ),
        (Method::GET, "/v1/pools?x=1", "", 400, "INVALID_ARGUMENT", "\"x\": expected none"),
        (
            Method::GET,
            "/v1/backends?pool_id=a&poolId=b",
            "",
            400,
            "INVALID_ARGUMENT",
            "given twice",
        ),
        (
            Method::DELETE,
            "/v1/backends/b?immediately=yes",
            "",
            400,
            "INVALID_ARGUMENT",
            "immediately: expected true or false",
        ),
        (Method::GET, "/v1/pools/none", "", 404, "NOT_FOUND", "pool_id: no pool \"none\""),
        (Method::GET, "/v1/pool", "", 404, "NOT_FOUND", "no such path: /v1/pool"),
        (Method::PUT, "/v1/pools", "{}", 405, "UNIMPLEMENTED", "no PUT here: expected GET, POST"),
        (
            post(),
            "/v1/plan",
            r#"{"drain": {}, "deregister": {}}"#,
            400,
            "INVALID_ARGUMENT",
            "duplicate field",
        ),
    ] {
        let reply = server.ask(method, target, body).await;
        check(&reply, http, status, message);
        if http == 405 {
            assert_eq!(reply.header("allow"), "GET, POST");
        }
    }
}

#[tokio::test]
async fn a_body_is_json_and_says_so() {
    let server = wire::open().await;
    let body = r#"{"pool_id": "a"}"#;
    for (media, http) in [
        (Some("application/json; charset=utf-8"), 200),
        (Some("application/x-www-form-urlencoded"), 415),
        (Some("text/plain"), 415),
        (None, 415),
    ] {
        let mut request = request(Method::POST, "/v1/pools", body);
        request.headers_mut().remove("content-type");
        if let Some(media) = media {
            request.headers_mut().insert("content-type", media.parse().unwrap());
        }
        let reply = server.send(request).await;
        assert_eq!(reply.status, http, "{media:?} {}", reply.text);
    }
}

#[tokio::test]
async fn the_codes_of_the_service_are_http_statuses() {
    let server = wire::open().await;
    server.ask(Method::POST, "/v1/pools", r#"{"pool_id": "a"}"#).await;
    let backend = r#"{"pool_id": "a", "backend_id": "b"}"#;
    assert_eq!(server.ask(Method::POST, "/v1/backends", backend).await.status, 200);
    let again = server.ask(Method::POST, "/v1/backends", backend).await;
    check(&again, 409, "ALREADY_EXISTS", "backend_id: b");
    let in_use = server.ask(Method::DELETE, "/v1/pools/a", "").await;
    check(&in_use, 400, "FAILED_PRECONDITION", "in use");
    assert_eq!(in_use.json()["code"], 9);
}

#[tokio::test]
async fn a_follower_names_its_leader() {
    let server = wire::open().await;
    *server.service.follows.lock().unwrap() = Some("http://192.0.2.1:9190");
    for target in ["/v1/pools", "/v1/events"] {
        let reply = server.ask(Method::GET, target, "").await;
        check(&reply, 503, "UNAVAILABLE", "not the leader");
        assert_eq!(reply.header("weir-leader"), "http://192.0.2.1:9190");
        let expected = json!({
            "code": 14,
            "status": "UNAVAILABLE",
            "message": "this controller is not the leader",
            "leader": "http://192.0.2.1:9190",
        });
        assert_eq!(reply.json(), expected);
    }
}

#[tokio::test]
async fn pages_of_other_origins_are_refused() {
    let server = wire::open().await;
    for (name, value) in [("origin", "http://evil.example"), ("host", "evil.example")] {
        let mut request = request(Method::POST, "/v1/pools", r#"{"pool_id": "a"}"#);
        request.headers_mut().insert(name, value.parse().unwrap());
        check(&server.send(request).await, 403, "PERMISSION_DENIED", "evil.example");
    }
    assert_eq!(server.ask(Method::GET, "/v1/pools/a", "").await.status, 404);
}
