//! Callers with tokens: what a role may not is said, and secrets stay where they belong.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use access::{Access, Entry, Proof, Role};
use tempfile::TempDir;

use crate::support::{Bench, write};

/// A file with a token, as long as a token must be.
fn token(folder: &Path, name: &str) -> String {
    let path = folder.join(name);
    let text = write(&path, &format!("token-of-{name}-0123456789abcdef"));
    set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    text
}

#[tokio::test]
async fn operators_may_nodes_are_shown_secrets_and_strangers_nothing() {
    let files = TempDir::new().unwrap();
    let (operator, node) = (token(files.path(), "operator"), token(files.path(), "node"));
    let stranger = token(files.path(), "stranger");
    let entry = |name: &str, role, path: &String| Entry {
        name: name.into(),
        role,
        proof: Proof::TokenFile(path.into()),
    };
    let entries = vec![entry("ops", Role::Operator, &operator), entry("lb-1", Role::Node, &node)];
    let access = Arc::new(Access::new(entries).unwrap());
    let bench = Bench::start_with(|settings| settings.access = Some(access)).await;

    bench.ok(&format!("pool create web --token-file {operator}")).await;
    let message = bench.fails(&format!("pool create x --token-file {node}")).await;
    assert!(message.starts_with("CreatePool: not allowed: lb-1 has the role node"), "{message}");
    let message = bench.fails(&format!("pool list --token-file {stranger}")).await;
    assert!(message.contains("does not know who calls"), "{message}");
    assert!(!message.contains("0123456789abcdef"), "{message}");
    let message = bench.fails("pool list").await;
    assert!(message.contains("give --cert and --key, or --token-file"), "{message}");

    let message = bench.fails(&format!("export --secrets --token-file {operator}")).await;
    assert!(message.contains("does not show the secret of pool web"), "{message}");
    let text = bench
        .ok(&format!(
            "export --secrets --token-file {operator} --node lb-1 --node-token-file {node}"
        ))
        .await;
    assert!(text.contains("hash_secret = "), "{text}");
    // Who is not shown secrets sends them; the controller finds them the same.
    let file = write(&bench.path("whole.toml"), &text);
    let done = bench.ok(&format!("import {file} --token-file {operator}")).await;
    assert_eq!(done, "update pool web: hash_secret\n1 steps done\n");
    let again = bench
        .ok(&format!(
            "export --secrets --token-file {operator} --node lb-1 --node-token-file {node}"
        ))
        .await;
    assert_eq!(again, text);
    bench.stop().await;
}
