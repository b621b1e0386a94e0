//! The house keeps its walls: who may depend on whom, and where unsafe code may be.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each crate of the workspace, its folder, and the crates of the workspace it may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("dpdk-sys", &[]),
    ("maglev", &[]),
    ("conntrack", &[]),
    ("config", &[]),
    ("control/proto", &[]),
    ("control/registry", &[]),
    ("control/health", &[]),
    ("control/client", &["proto"]),
    ("control/access", &["proto"]),
    ("control/checker", &["client", "health", "proto"]),
    ("control/gateway", &["access", "proto"]),
    ("control/controller", &["access", "gateway", "health", "maglev", "proto", "registry"]),
    ("control/ctl", &["client", "config", "proto"]),
    ("scripts/lab/decap", &[]),
    ("dataplane/receiver", &[]),
    ("dataplane", &["conntrack", "dpdk-sys", "maglev"]),
    (
        "control",
        &["access", "client", "config", "conntrack", "dataplane", "health", "maglev", "proto"],
    ),
    ("bench", &["client", "config", "conntrack", "control", "dataplane", "maglev", "proto"]),
    (
        ".",
        &[
            "access",
            "checker",
            "client",
            "config",
            "conntrack",
            "control",
            "controller",
            "ctl",
            "dataplane",
            "health",
            "maglev",
            "proto",
            "registry",
        ],
    ),
];

/// Where unsafe code may be, besides `dpdk-sys`.
const UNSAFE: &[&str] = &[
    "conntrack/src/lanes.rs",
    "conntrack/src/prefetch.rs",
    "dataplane/src/parse/front.rs",
    "dataplane/src/port/dpdk/",
    "dataplane/src/prefetch.rs",
    "dataplane/src/publish.rs",
    "maglev/src/flow_hash/lanes.rs",
    "scripts/lab/decap/src/",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Names of the workspace's own crates.
fn own_crates() -> BTreeSet<&'static str> {
    ARROWS.iter().filter_map(|(folder, _)| folder.rsplit('/').next()).collect()
}

/// The crates of the workspace that a manifest's `[dependencies]` name.
fn dependencies(manifest: &str) -> Vec<String> {
    let own = own_crates();
    let mut section = "";
    let mut found = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line.trim();
        } else if section == "[dependencies]"
            && let Some(name) = line.split(['.', ' ', '=']).next()
            && own.contains(name)
        {
            found.push(name.to_owned());
        }
    }
    found
}

#[test]
fn dependencies_point_one_way() {
    for (folder, allowed) in ARROWS {
        let Ok(manifest) = fs::read_to_string(root().join(folder).join("Cargo.toml")) else {
            continue;
        };
        for name in dependencies(&manifest) {
            assert!(allowed.contains(&name.as_str()), "{folder} depends on {name}");
        }
    }
}

#[test]
fn every_crate_of_the_workspace_has_its_arrows_listed() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let line = manifest.lines().find(|line| line.starts_with("members")).unwrap();
    let members = line.split('"').skip(1).step_by(2);
    for member in members {
        assert!(ARROWS.iter().any(|(folder, _)| *folder == member), "{member}");
    }
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() {
            if name != "target" && name != "fuzz" && name != "loom" && name != ".git" {
                rust_files(&path, files);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

#[test]
fn unsafe_code_stays_where_it_belongs_and_says_why() {
    let mut files = Vec::new();
    rust_files(root(), &mut files);
    assert!(files.len() > 100);
    for file in files {
        let name = file.strip_prefix(root()).unwrap().display().to_string();
        if name.starts_with("dpdk-sys/") || name.contains("tests/") || name.contains("benches/") {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let has = text.lines().map(str::trim).any(|line| {
            let code = line.split("//").next().unwrap_or_default();
            code.contains("unsafe {") || code.contains("unsafe impl") || code.contains("unsafe fn")
        });
        if has {
            assert!(UNSAFE.iter().any(|place| name.starts_with(place)), "unsafe code in {name}");
            assert!(text.contains("SAFETY:") || text.contains("# Safety"), "{name} says no why");
        }
    }
}
