//! The command line of the control plane: each wrong usage and configuration a clear message with
//! the right exit code, and nothing started.
//!
//! Exit codes (SPEC section 17): 0 done, 1 failed, 2 usage or configuration.

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use support::{scratch, weir};

/// Runs, and asks for the exit code and for each of `wanted` on standard error.
fn fails(arguments: &[&str], code: i32, wanted: &[&str]) {
    let output = weir(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "weir {arguments:?}\n{errors}");
    for text in wanted {
        assert!(errors.contains(text), "weir {arguments:?}: no {text:?} in\n{errors}");
    }
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// What a run that is done with exit code 0 printed: to standard output, and to standard error.
fn done(arguments: &[&str]) -> (String, String) {
    let output = weir(arguments);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "weir {arguments:?}\n{errors}");
    (String::from_utf8_lossy(&output.stdout).into_owned(), errors)
}

fn write(folder: &Path, name: &str, text: &str, mode: u32) -> String {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    path.display().to_string()
}

fn example(name: &str) -> String {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.join("docs/examples").join(name).display().to_string()
}

#[test]
fn check_knows_whose_file_it_is() {
    for (name, wanted) in [
        ("weir.toml", "1 pools with 1 backends, 1 VIPs"),
        ("node-controller.toml", "pools and VIPs from 3 controllers"),
        ("controller.toml", "a controller at 127.0.0.1:9190, no TLS, everybody on this machine"),
        ("controller-etcd.toml", "TLS, 6 callers, the registry in etcd, 3 members"),
        ("checker.toml", "the checker checker-a1, 3 controllers, 1 commands"),
    ] {
        let (said, _) = done(&["check", &example(name)]);
        assert!(said.contains(": ok: ") && said.contains(wanted), "{said}");
    }
}

#[test]
fn check_refuses_files_of_nobody_and_of_two_programs() {
    let folder = scratch("cli-kinds");
    let nobody = write(&folder, "nobody.toml", "[server]\nport = 1\n", 0o644);
    fails(&["check", &nobody], 2, &["nobody.toml:1", "\"server\"", "[[port]]", "[checker]"]);
    let both = "[checker]\nid = \"a\"\n\n[registry]\nkind = \"embedded\"\n";
    let both = write(&folder, "both.toml", both, 0o644);
    fails(&["check", &both], 2, &["both.toml:4", "[registry]", "a controller", "[checker]"]);
    let wrong = write(&folder, "wrong.toml", "[controller]\nlisen = \"127.0.0.1:1\"\n", 0o644);
    fails(&["check", &wrong], 2, &["wrong.toml:2", "\"lisen\"", "\"listen\""]);
}

#[test]
fn check_warns_of_files_that_are_missing_or_open_to_others() {
    let folder = scratch("cli-files");
    let certificate = write(&folder, "certificate.pem", "", 0o644);
    let key = write(&folder, "key.pem", "", 0o600);
    let token = write(&folder, "token", "", 0o640);
    let text = format!(
        "[tls]\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n\n[[access]]\nname = \"ops\"\n\
         role = \"operator\"\ntoken_file = \"{token}\"\n"
    );
    let config = write(&folder, "controller.toml", &text, 0o644);
    let (_, warnings) = done(&["check", &config]);
    assert_eq!(warnings, "", "nothing is doubtful");

    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(&token, Permissions::from_mode(0o602)).unwrap();
    fs::remove_file(&certificate).unwrap();
    let (_, warnings) = done(&["check", &config]);
    let lines: Vec<&str> = warnings.lines().collect();
    assert_eq!(lines.len(), 3, "{warnings}");
    assert!(lines[0].contains("[tls]: certificate") && lines[0].ends_with("is not there"));
    assert!(lines[1].contains("[tls]: key") && lines[1].contains("mode 0644"), "{warnings}");
    assert!(lines[2].contains("access \"ops\"") && lines[2].contains("mode 0602"), "{warnings}");
    fs::remove_file(&key).unwrap();
    fs::create_dir(&key).unwrap();
    let (_, warnings) = done(&["check", &config]);
    assert!(warnings.contains("is not a regular file"), "{warnings}");
}

#[test]
fn each_program_refuses_the_files_of_the_others() {
    let (controller, checker) = (example("controller.toml"), example("checker.toml"));
    for file in [&controller, &checker] {
        fails(&["run", file], 2, &["expected that of a node"]);
        fails(&["replay", file, "--in", "x", "--out", "y"], 2, &["expected that of a node"]);
    }
}

#[test]
fn what_needs_the_pools_of_the_file_says_that_they_are_elsewhere() {
    let fed = example("node-controller.toml");
    let wanted = ["[controller]", "expected [[pool]] and [[vip]]"];
    fails(&["replay", &fed, "--in", "x", "--out", "y"], 2, &wanted);
    let flow = ["--src", "198.51.100.7:1", "--dst", "203.0.113.1:80"];
    fails(&[&["explain", &fed][..], &flow].concat(), 2, &wanted);
}

#[test]
fn completions_name_the_subcommands_for_each_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (script, _) = done(&["completions", shell]);
        for subcommand in ["replay", "explain", "check"] {
            assert!(script.contains(subcommand), "{shell}: {subcommand}");
        }
    }
    fails(&["completions", "cmd"], 2, &["cmd", "bash"]);
    fails(&["completions"], 2, &["SHELL"]);
}
