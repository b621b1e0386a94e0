//! Whatever is sent, the answer is an error of the sender's, and the server goes on.

use std::sync::Arc;

use access::Access;
use axum::body::Body;
use axum::http::{Method, Request};
use http_body_util::BodyExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use proptest::prelude::*;

use crate::service::Memory;

/// The router alone, without a socket between.
fn answer(method: Method, target: &str, body: Vec<u8>) -> Option<(u16, Vec<u8>)> {
    let access = Arc::new(Access::open("127.0.0.1:0".parse().unwrap()).unwrap());
    let service = Arc::new(Memory::new(Arc::clone(&access)));
    let router = gateway::router(service, gateway::Settings { access, max_body: 1000 });
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header("content-type", "application/json")
        .body(Body::from(body))
        .ok()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let response = TowerToHyperService::new(router).call(request).await.unwrap();
        let status = response.status().as_u16();
        if status == 200 {
            return None;
        }
        let body = response.into_body().collect().await.unwrap().to_bytes();
        Some((status, body.to_vec()))
    })
}

fn targets() -> impl Strategy<Value = String> {
    let known = prop::sample::select(
        gateway::routes::ROUTES.iter().map(|route| route.path).collect::<Vec<_>>(),
    );
    (known, "[!-~]{0,12}", prop::option::of("[!-~&=]{0,20}")).prop_map(|(path, text, query)| {
        let text = text.replace(['#', '?'], "%");
        let path = path.replace("{pool_id}", &text).replace("{backend_id}", &text);
        match query {
            Some(query) => format!("{path}?{query}"),
            None => path,
        }
    })
}

fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let fields =
        prop::sample::select(vec!["pool_id", "settings", "labels", "vip", "drain", "weight"]);
    let values = prop::sample::select(vec![
        "null",
        "1",
        "-1",
        "1e99",
        "\"\"",
        "\"a\"",
        "[]",
        "[1]",
        "{}",
        "{\"probe\":[]}",
        "true",
        "18446744073709551616",
        "{\"address\":{}}",
        "{\"backend_id\":\"\\ud800\"}",
    ]);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..50),
        (fields, values).prop_map(|(field, value)| format!("{{\"{field}\":{value}}}").into_bytes()),
        (1..500_usize).prop_map(|depth| "{\"settings\":".repeat(depth).into_bytes()),
        (1..2000_usize).prop_map(|length| vec![b'['; length]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn nothing_sent_is_the_servers_fault(
        target in targets(),
        method in prop::sample::select(vec![
            Method::GET, Method::POST, Method::PATCH, Method::DELETE, Method::PUT, Method::HEAD,
        ]),
        body in bodies(),
    ) {
        if let Some((status, body)) = answer(method, &target, body) {
            prop_assert!((400..500).contains(&status), "{status} for {target}");
            if !body.is_empty() {
                let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
                prop_assert!(body["message"].is_string(), "{body}");
            }
        }
    }
}
