//! What the admin interface says of a fed node, whom it lets in, and the drain.

use std::sync::atomic::Ordering::Relaxed;

use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode};
use control::admin::{AdminState, Token, router};
use tower::ServiceExt as _;

use crate::feed::Lab;
use crate::messages::{complete, snapshot};

struct Interface(std::sync::Arc<AdminState>);

impl Interface {
    fn of(lab: &Lab, token: Option<&str>) -> Self {
        let clock = lab.clock.clone();
        let token = token.map(|text| Token::new(text).expect("a token"));
        let now = move || clock.load(Relaxed);
        Self(AdminState::guarded(lab.node.clone(), Vec::new(), Vec::new(), now, token))
    }

    async fn ask(&self, method: Method, path: &str, bearer: Option<&str>) -> (StatusCode, String) {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(bearer) = bearer {
            request = request.header("authorization", bearer);
        }
        let request = request.body(Body::empty()).expect("a request");
        let response = router(self.0.clone()).oneshot(request).await.expect("an answer");
        let status = response.status();
        let body = to_bytes(response.into_body(), usize::MAX).await.expect("a body");
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    async fn get(&self, path: &str) -> (StatusCode, String) {
        self.ask(Method::GET, path, None).await
    }
}

#[tokio::test]
async fn without_the_token_one_learns_whether_it_lives_and_nothing_else() {
    let lab = Lab::started();
    let interface = Interface::of(&lab, Some(" s3cret\n"));
    for path in ["/", "/metrics", "/admin/pools", "/admin/pools/web", "/admin/flows", "/nothing"] {
        assert_eq!(interface.get(path).await.0, StatusCode::UNAUTHORIZED, "{path}");
    }
    let wrong =
        ["", "Bearer", "Bearer ", "Bearer s3cre", "Bearer s3cret2", "Basic s3cret", "s3cret"];
    for bearer in wrong {
        let (status, body) = interface.ask(Method::GET, "/metrics", Some(bearer)).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{bearer}");
        assert!(!body.contains("s3cret"));
    }
    let drain = "/admin/pools/web/drain/a";
    assert_eq!(interface.ask(Method::POST, drain, None).await.0, StatusCode::UNAUTHORIZED);
    for bearer in ["Bearer s3cret", "bearer s3cret"] {
        assert_eq!(interface.ask(Method::GET, "/metrics", Some(bearer)).await.0, StatusCode::OK);
    }
    let (status, body) = interface.get("/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "no worker is running");
    assert!(!body.contains("worker"), "{body}");
    let (_, body) = interface.ask(Method::GET, "/readyz", Some("Bearer s3cret")).await;
    assert!(body.contains("no worker is running"), "{body}");
    assert!(!format!("{:?}", Token::new("s3cret")).contains("s3cret"));
}

#[test]
fn a_token_is_one_visible_word() {
    for text in ["", " \n", "two words", "t\u{e9}l\u{e9}"] {
        assert_eq!(Token::new(text), None, "{text:?}");
    }
    assert_eq!(Token::new("x\n"), Token::new(" x"));
}

#[tokio::test]
async fn a_backend_is_drained_here_until_that_is_taken_back() {
    let lab = Lab::started();
    let interface = Interface::of(&lab, None);
    let path = "/admin/pools/web/drain/a";
    for _ in 0..2 {
        let (status, body) = interface.ask(Method::POST, path, None).await;
        assert_eq!(status, StatusCode::OK, "{body}");
    }
    let pool = interface.get("/admin/pools/web").await.1;
    let pool: serde_json::Value = serde_json::from_str(&pool).expect("JSON");
    assert_eq!(pool["backends"][0]["state"], "draining");
    assert_eq!(pool["backends"][0]["drained_here"], true);
    assert_eq!(pool["backends"][0]["slots"], 0);
    assert_eq!(pool["backends"][1]["drained_here"], false);
    let list = interface.get("/admin/pools").await.1;
    let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
    assert_eq!(list["pools"][0]["drained_here"], serde_json::json!(["a"]));
    let metrics = interface.get("/metrics").await.1;
    assert!(metrics.contains("weir_backend_drained_here{pool=\"web\",backend=\"a\"} 1"));
    assert!(interface.get("/readyz").await.1.contains("drained on this node"));

    assert_eq!(interface.ask(Method::DELETE, path, None).await.0, StatusCode::OK);
    assert_eq!(interface.ask(Method::DELETE, path, None).await.0, StatusCode::NOT_FOUND);
    for path in ["/admin/pools/web/drain/x", "/admin/pools/wep/drain/a"] {
        let (status, body) = interface.ask(Method::POST, path, None).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert!(body.contains("\"web\"") || body.contains("\"b\""), "what there is: {body}");
    }
    assert_eq!(interface.get(path).await.0, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn readyz_says_what_is_served_and_why_no_newer() {
    let mut lab = Lab::new();
    let interface = Interface::of(&lab, None);
    let (_, body) = interface.get("/readyz").await;
    assert!(body.contains("no snapshot of a controller, and none in the cache"), "{body}");
    lab.feed.take(vec![snapshot("s", "web", 5, &[("a", 1)]), complete("s")]);
    let mut bad = snapshot("s", "web", 6, &[("b", 1)]);
    bad.backends[0].ip = "nowhere".to_owned();
    lab.feed.take(vec![bad]);
    lab.clock.fetch_add(23_000_000_000, Relaxed);
    let (_, body) = interface.get("/readyz").await;
    assert!(!body.contains("no snapshot"), "{body}");
    assert!(body.contains("warning: stale, snapshots of 23 s ago are served"), "{body}");
    let refused = "pool \"web\": snapshot refused, version 5 stays in force: backend \"b\"";
    assert!(body.contains(refused), "{body}");
    let metrics = interface.get("/metrics").await.1;
    for line in [
        "weir_controller_connected 0",
        "weir_snapshot_stale 1",
        "weir_snapshot_version{pool=\"web\"} 5",
        "weir_snapshot_refused_total{pool=\"web\",reason=\"address\"} 1",
        "weir_snapshot_applied_total 1",
        "weir_snapshot_cache_failing 0",
    ] {
        assert!(metrics.contains(&format!("{line}\n")), "{line}");
    }
}

#[tokio::test]
async fn the_controllers_secret_is_shown_nowhere() {
    let lab = Lab::started();
    let interface = Interface::of(&lab, None);
    for path in ["/readyz", "/metrics", "/admin/pools", "/admin/pools/web"] {
        let body = interface.get(path).await.1;
        for form in ["0123456789abcdef", "30313233343536", "48,49,50"] {
            assert!(!body.replace(' ', "").contains(form), "{path}");
        }
    }
}
