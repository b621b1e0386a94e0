//! Which lines of source an instruction comes from: its own, and those that inlined it.
//!
//! A release build is a few long functions into which all others went. `addr2line` (of binutils)
//! reads from the line tables which; of each chain of calls the part of the path is told that does
//! the work, whatever small helpers of the standard library or of the headers it is made of.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The files of a chain of calls that were inlined into one another, the innermost first; without
/// lines, and from the repository's folder on where they are in it.
pub type Chain = Vec<String>;

/// The chain of each of `addresses` in `program`.
///
/// # Errors
/// When `addr2line` is not there, or fails.
pub fn chains(program: &Path, addresses: &[u64]) -> Result<HashMap<u64, Chain>> {
    let mut child = Command::new("addr2line")
        .args(["--addresses", "--inlines", "--exe"])
        .arg(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("addr2line did not start: apt-get install binutils")?;
    let stdin = child.stdin.take();
    let text: String = addresses.iter().map(|address| format!("{address:#x}\n")).collect();
    // It answers line by line: both pipes have to be emptied at a time.
    let writer = std::thread::spawn(move || stdin.map(|mut pipe| pipe.write_all(text.as_bytes())));
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("addr2line failed: {}", output.status);
    }
    let _ = writer.join();
    Ok(read(&String::from_utf8_lossy(&output.stdout)))
}

/// Reads what `addr2line` says: an address, then its lines, the innermost first.
fn read(text: &str) -> HashMap<u64, Chain> {
    let mut found: HashMap<u64, Chain> = HashMap::new();
    let mut address = None;
    for line in text.lines() {
        if let Some(digits) = line.strip_prefix("0x") {
            address = u64::from_str_radix(digits, 16).ok();
        } else if let Some(address) = address {
            let file = line.rsplit_once(':').map_or(line, |(file, _)| file);
            found.entry(address).or_default().push(in_the_repository(file));
        }
    }
    found
}

fn in_the_repository(file: &str) -> String {
    let bench = env!("CARGO_MANIFEST_DIR");
    let root = bench.strip_suffix("bench").unwrap_or(bench);
    file.strip_prefix(root).unwrap_or(file).to_owned()
}

/// The parts of the path, in the order of a packet.
pub const PARTS: [&str; 10] = [
    "port",
    "parse",
    "hash",
    "classify",
    "conntrack",
    "select",
    "rewrite",
    "counters",
    "loops",
    "rest",
];

/// Files, or the beginnings of their names, and the part of the path that they are. What is in
/// none (the key, the headers' layout, the standard library) belongs to who uses it.
const FILES: [(&str, &str); 21] = [
    ("dataplane/src/port/", "port"),
    ("shim.c", "port"),
    ("dataplane/src/parse", "parse"),
    ("conntrack/src/hash", "hash"),
    ("dataplane/src/classify", "classify"),
    ("dataplane/src/vip", "classify"),
    ("conntrack/src/table", "conntrack"),
    ("conntrack/src/steady", "conntrack"),
    ("conntrack/src/lanes", "conntrack"),
    ("conntrack/src/tags", "conntrack"),
    ("conntrack/src/entry", "conntrack"),
    ("conntrack/src/state", "conntrack"),
    ("conntrack/src/evict", "conntrack"),
    ("conntrack/src/run", "conntrack"),
    ("conntrack/src/reap", "conntrack"),
    ("dataplane/src/select", "select"),
    ("maglev/src/", "select"),
    ("dataplane/src/forward", "rewrite"),
    ("dataplane/src/counters", "counters"),
    ("dataplane/src/worker", "loops"),
    ("bench/src/", "rest"),
];

/// The part of the path that an instruction belongs to, by its chain.
pub fn part(chain: &[String]) -> &'static str {
    let parts = chain.iter().filter_map(|file| {
        let is = |name: &str| file.starts_with(name) || file.ends_with(name);
        FILES.iter().find(|(name, _)| is(name)).map(|(_, part)| *part)
    });
    // A buffer is asked for bytes by everybody: only what nobody else does is the port's.
    let mut port = None;
    for part in parts {
        if part != "port" {
            return port.filter(|_| part == "loops").unwrap_or(part);
        }
        port = Some(part);
    }
    port.unwrap_or("rest")
}

/// The innermost file of `chain` that is in the repository; else the innermost.
pub fn file(chain: &[String]) -> &str {
    let own = chain.iter().find(|file| !file.starts_with(['/', '?', '.']));
    own.or(chain.first()).map_or("?", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(files: &[&str]) -> Chain {
        files.iter().map(|file| (*file).to_owned()).collect()
    }

    #[test]
    fn chains_are_read_with_their_files_from_the_repository_on() {
        let root = env!("CARGO_MANIFEST_DIR").strip_suffix("bench").unwrap();
        let text = format!(
            "0x0000000000000010\n/rustc/1/library/core/src/num.rs:7\n\
             {root}conntrack/src/hash.rs:12 (discriminator 3)\n0x0000000000000014\n??:0\n"
        );
        let found = read(&text);
        let hash = ["/rustc/1/library/core/src/num.rs", "conntrack/src/hash.rs"];
        assert_eq!(found[&16], chain(&hash));
        assert_eq!(found[&20], chain(&["??"]));
    }

    #[test]
    fn helpers_belong_to_who_uses_them() {
        let of = |files: &[&str]| part(&chain(files));
        let (worker, library) =
            ("dataplane/src/worker/ready.rs", "/rustc/1/library/core/src/num.rs");
        assert_eq!(of(&[library, "conntrack/src/hash.rs", worker]), "hash");
        assert_eq!(of(&["dataplane/src/wire/ipv4.rs", "dataplane/src/forward/ipip.rs"]), "rewrite");
        assert_eq!(of(&["conntrack/src/key.rs", "dataplane/src/parse/common.rs"]), "parse");
        assert_eq!(of(&["dataplane/src/port/dpdk/mbuf.rs", "dataplane/src/parse.rs"]), "parse");
        assert_eq!(of(&["dataplane/src/port/dpdk/mbuf.rs", worker]), "port");
        assert_eq!(of(&[library, worker]), "loops");
        assert_eq!(of(&["/target/out/shim.c"]), "port");
        assert_eq!(of(&["??"]), "rest");
        assert_eq!(file(&chain(&[library, worker])), worker);
        assert_eq!(file(&chain(&[library])), library);
        assert_eq!(file(&[]), "?");
    }

    #[test]
    fn every_file_is_of_a_part_that_is_listed() {
        assert!(FILES.iter().all(|(_, part)| PARTS.contains(part)));
    }
}
