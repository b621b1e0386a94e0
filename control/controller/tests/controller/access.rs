//! Who is let in, and what each role may: tokens over loopback. Certificates and TLS are tested
//! where they live, in the access crate.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use access::{Access, Entry, Proof, Role};
use proto::v1::{CreatePoolReq, ListPoolsReq, PlanReq, WatchAssignmentsReq, WatchPoolReq};
use tonic::{Code, Request};

use crate::common::{Lab, create, everything, until};

/// A controller that knows an operator, a node, a checker and a viewer by their tokens.
async fn guarded() -> Lab {
    let folder = tempfile::tempdir().unwrap();
    let roles = [Role::Operator, Role::Node, Role::Checker, Role::Viewer];
    let entries = roles.map(|role| {
        let file = folder.path().join(role.to_string());
        fs::write(&file, token(&role.to_string())).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let name = if role == Role::Node { "node-1".to_owned() } else { role.to_string() };
        Entry { name, role, proof: Proof::TokenFile(file) }
    });
    let access = Arc::new(Access::new(entries.to_vec()).unwrap());
    Lab::begin(folder, |settings| settings.access = Some(access)).await
}

fn token(role: &str) -> String {
    format!("the-secret-token-of-the-{role}")
}

fn as_role<T>(role: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let value = format!("Bearer {}", token(role)).parse().unwrap();
    request.metadata_mut().insert("authorization", value);
    request
}

#[tokio::test]
async fn unauthenticated_without_a_token_that_is_known() {
    let mut lab = guarded().await;
    let refused = create(&mut lab.client, "web", Default::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let refused = lab.client.list_pools(as_role("stranger", ListPoolsReq {})).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(!refused.message().contains("secret"), "{refused}");
}

#[tokio::test]
async fn permission_denied_for_another_role() {
    let mut lab = guarded().await;
    let web = || CreatePoolReq { pool_id: "web".into(), settings: None };
    for role in ["node", "checker", "viewer"] {
        let refused = lab.client.create_pool(as_role(role, web())).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{role}");
    }
    lab.client.create_pool(as_role("operator", web())).await.unwrap();
    for (role, may) in [("viewer", true), ("operator", true), ("node", false), ("checker", false)] {
        let listed = lab.client.list_pools(as_role(role, ListPoolsReq {})).await;
        assert_eq!(listed.is_ok(), may, "{role}");
        let planned = lab.client.plan(as_role(role, PlanReq::default())).await.unwrap_err();
        assert_eq!(planned.code() != Code::PermissionDenied, may, "{role}");
    }
    for (role, may) in [("node", true), ("checker", false), ("viewer", false)] {
        let watched = lab.client.watch_pool(as_role(role, everything())).await;
        assert_eq!(watched.is_ok(), may, "{role}");
    }
    let request = || WatchAssignmentsReq { checker_id: "checker".into(), zone: "a".into() };
    for (role, may) in [("checker", true), ("node", false), ("viewer", false)] {
        let watched = lab.client.watch_assignments(as_role(role, request())).await;
        assert_eq!(watched.is_ok(), may, "{role}");
    }
    // A node speaks for itself.
    let other = WatchPoolReq { node_id: "node-2".into(), ..WatchPoolReq::default() };
    let refused = lab.client.watch_pool(as_role("node", other)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().starts_with("node_id"), "{refused}");
}

#[tokio::test]
async fn only_nodes_are_shown_the_secret() {
    let mut lab = guarded().await;
    let web = CreatePoolReq { pool_id: "web".into(), settings: None };
    let made = lab.client.create_pool(as_role("operator", web)).await.unwrap().into_inner();
    assert!(made.settings.unwrap().hash_secret.is_empty());
    for (role, length) in [("node", 16), ("operator", 0)] {
        let stream = lab.client.watch_pool(as_role(role, everything())).await;
        let web = until(&mut stream.unwrap().into_inner(), |s| s.pool_id == "web").await;
        assert_eq!(web.settings.unwrap().hash_secret.len(), length, "{role}");
    }
}
