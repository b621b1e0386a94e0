//! Streams over HTTP: as they come, in two framings, and over when the client goes.

use axum::http::Method;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;

use crate::wire::{self, Served, request, soon};

/// Reads until the text has what is looked for.
async fn until(body: &mut Incoming, end: &str) -> String {
    let mut text = String::new();
    while !text.contains(end) {
        let frame = soon(body.frame()).await.expect("the stream ended").unwrap();
        text.push_str(str::from_utf8(frame.data_ref().unwrap()).unwrap());
    }
    text
}

async fn change(server: &Served) {
    assert_eq!(server.ask(Method::POST, "/v1/pools", r#"{"pool_id": "a"}"#).await.status, 200);
}

#[tokio::test]
async fn events_come_as_they_happen_in_either_framing() {
    let server = wire::open().await;
    let mut lines = server.open(request(Method::GET, "/v1/events", ""), None).await.unwrap();
    let mut asked = request(Method::GET, "/v1/events", "");
    asked.headers_mut().insert("accept", "text/event-stream".parse().unwrap());
    let mut events = server.open(asked, None).await.unwrap();
    assert_eq!(lines.headers()["content-type"], "application/x-ndjson");
    assert_eq!(events.headers()["content-type"], "text/event-stream");
    for expected in ["1", "2"] {
        change(&server).await;
        let line: Value = serde_json::from_str(&until(lines.body_mut(), "\n").await).unwrap();
        assert_eq!((&line["kind"], &line["at_ns"]), (&"change".into(), &expected.into()));
        let event = until(events.body_mut(), "\n\n").await;
        let data = event.strip_prefix("data: ").unwrap();
        assert_eq!(serde_json::from_str::<Value>(data).unwrap(), line);
    }
}

#[tokio::test]
async fn a_client_that_goes_gives_its_place_back() {
    let server = wire::open().await;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(server.open(request(Method::GET, "/v1/events", ""), None).await.unwrap());
    }
    let refused = server.ask(Method::GET, "/v1/events", "").await;
    assert_eq!((refused.status, &refused.json()["status"]), (429, &"RESOURCE_EXHAUSTED".into()));
    drop(open);
    soon(async {
        while server.service.streams.open() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(server.open(request(Method::GET, "/v1/events", ""), None).await.is_ok());
}
