//! Golden cases: packets in, packets out, byte by byte, through the real `weir replay`.
//!
//! A case is a folder in `tests/golden`: a configuration, the capture that is sent, the capture
//! and the lines of JSON that must come of it, and a sentence. The sent packets and the outcome
//! of each are written in code (`cases/`), so four things must agree: the code, the folder, what
//! the program does, and what it does the second time. What goes out is also judged by the RFCs,
//! with a parser that is not ours (`cases/judge.rs`).
//!
//! `WEIR_BLESS=1 cargo test --test golden` writes the folders anew; the judgement stays.

mod cases;
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use cases::judge::Judge;
use cases::{Case, Outer};
use dataplane::verdict::DropReason;

use support::{Packet, read_capture, scratch, weir, write_capture};

/// Reasons that no capture can show, and who shows them.
const ELSEWHERE: &[(&str, &str)] = &[
    ("segmented", "a capture's packets are in one piece: parse tests"),
    ("icmp_rate_limited", "ten thousand packets: tests/limits.rs"),
    ("arp_rate_limited", "a thousand packets: tests/limits.rs"),
    ("ndp_rate_limited", "a thousand packets: tests/limits.rs"),
    ("reset_rate_limited", "ten thousand packets: tests/limits.rs"),
    ("exception_rate_limited", "thousands of packets: dataplane/tests/exception.rs"),
    ("exception_too_big", "a replay's interface takes all: dataplane/tests/exception.rs"),
    ("exception_full", "a replay's kernel takes all: dataplane/tests/exception.rs"),
    ("handoff_full", "a replay has one worker: dataplane/src/handoff.rs"),
    ("no_headroom", "a capture's packets have room: forward tests"),
    ("neighbour_unresolved", "happens between packets: case unresolved-neighbour"),
    ("transmit_full", "a replay's port takes all: dataplane/tests/no_allocation.rs"),
    ("no_buffer", "a replay's memory is not a pool: dataplane/tests/no_allocation.rs"),
];

fn folder(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(case)
}

#[test]
fn every_case_gives_what_it_gave_and_what_the_contract_asks_for() {
    let bless = std::env::var_os("WEIR_BLESS").is_some();
    let mut failed = Vec::new();
    for case in cases::all() {
        let run = AssertUnwindSafe(|| {
            if bless {
                write_inputs(&case);
            }
            check(&case, bless);
        });
        if catch_unwind(run).is_err() {
            failed.push(case.name);
        }
    }
    assert!(failed.is_empty(), "failed cases: {failed:?}");
}

fn write_inputs(case: &Case) {
    let folder = folder(case.name);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("config.toml"), &case.config).unwrap();
    for (packet, config) in &case.reloads {
        fs::write(folder.join(format!("reload-{packet}.toml")), config).unwrap();
    }
    fs::write(folder.join("README.md"), format!("{}\n", case.sentence)).unwrap();
    write_capture(&folder.join("sent.pcap"), &packets(case));
}

fn packets(case: &Case) -> Vec<Packet> {
    let packet = |sent: &cases::Sent| Packet { time: sent.time, bytes: sent.frame.clone() };
    case.sent.iter().map(packet).collect()
}

fn check(case: &Case, bless: bool) {
    let folder = folder(case.name);
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    assert_eq!(read("config.toml"), case.config, "{}", case.name);
    assert_eq!(read("README.md").trim_end(), case.sentence);
    assert_eq!(read_capture(&folder.join("sent.pcap")), packets(case), "{}", case.name);

    let (output, lines) = replay(case, &folder, "first");
    let again = replay(case, &folder, "second");
    assert_eq!((&output, &lines), (&again.0, &again.1), "{}: the same at every run", case.name);
    for (number, (line, sent)) in lines.lines().zip(&case.sent).enumerate() {
        assert_eq!(line, sent.expected.line(number), "{}", case.name);
    }
    assert_eq!(lines.lines().count(), case.sent.len(), "{}: one line a packet", case.name);
    judge(case, &read_capture(&output_path(case, "first")));
    if bless {
        fs::write(folder.join("expected.pcap"), &output).unwrap();
        fs::write(folder.join("expected.jsonl"), &lines).unwrap();
    }
    assert_eq!(lines, read("expected.jsonl"), "{}", case.name);
    let golden = read_capture(&folder.join("expected.pcap"));
    assert_eq!(read_capture(&output_path(case, "first")), golden, "{}", case.name);
    assert!(output == fs::read(folder.join("expected.pcap")).unwrap(), "{}", case.name);
}

fn output_path(case: &Case, run: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("golden").join(case.name).join(run).join("out.pcap")
}

/// The capture and the lines that the program gives.
fn replay(case: &Case, folder: &Path, run: &str) -> (Vec<u8>, String) {
    scratch(&format!("golden/{}/{run}", case.name));
    let path = |name: &str| folder.join(name).display().to_string();
    let out = output_path(case, run);
    let (config, sent, received) =
        (path("config.toml"), path("sent.pcap"), out.display().to_string());
    let mut arguments = vec!["replay", &config, "--in", &sent, "--out", &received, "--json"];
    let reloads: Vec<String> = case
        .reloads
        .iter()
        .map(|(packet, _)| format!("{packet}:{}", path(&format!("reload-{packet}.toml"))))
        .collect();
    for reload in &reloads {
        arguments.extend(["--reload", reload]);
    }
    let output = weir(&arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", case.name);
    (fs::read(&out).unwrap(), String::from_utf8(output.stdout).unwrap())
}

/// Every packet that went out, by the RFCs.
fn judge(case: &Case, outputs: &[Packet]) {
    let any_mac = !case.config.contains("\nmac = ");
    let mut judge = Judge::new(case.outer, any_mac.then_some([0x02, 0, 0, 0, 0, 0]));
    let mut outputs = outputs.iter();
    for (number, sent) in case.sent.iter().enumerate() {
        for out in &sent.expected.outputs {
            let output = outputs.next().unwrap();
            assert_eq!(output.time, sent.time, "a replay takes no time");
            judge.check(out, number, &case.sent, &output.bytes);
        }
    }
    assert!(outputs.next().is_none());
    judge.finish();
    check_entropy(case);
}

/// One outer source a flow, and not one for all flows.
fn check_entropy(case: &Case) {
    let Outer { source: (_, length), .. } = case.outer;
    if length == 32 {
        return;
    }
    let outputs = read_capture(&output_path(case, "first"));
    let sources: Vec<&[u8]> = outputs.iter().map(|output| &output.bytes[26..30]).collect();
    // The case sends two packets of each flow, one after the other.
    assert!(sources.chunks(2).all(|flow| flow[0] == flow[1]));
    let distinct: BTreeSet<_> = sources.iter().collect();
    assert!(distinct.len() * 2 >= sources.len() - 2, "{distinct:?}");
}

#[test]
fn every_drop_reason_has_a_case() {
    let shown: BTreeSet<&str> = cases::all()
        .iter()
        .flat_map(|case| case.sent.iter().filter_map(|sent| sent.expected.reason))
        .chain(ELSEWHERE.iter().map(|(reason, _)| *reason))
        .collect();
    let all: BTreeSet<&str> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
    assert_eq!(shown, all);
}

#[test]
fn every_folder_is_a_case() {
    let names: BTreeSet<String> = cases::all().iter().map(|case| case.name.to_owned()).collect();
    let folders: BTreeSet<String> = fs::read_dir(folder(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(folders, names);
}

/// The names in code spans of a text that could be folders: in small letters, with hyphens.
fn spans(text: &str) -> BTreeSet<&str> {
    let name = |span: &&str| {
        !span.is_empty()
            && span.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    text.split('`').skip(1).step_by(2).filter(name).collect()
}

#[test]
fn every_row_of_the_packet_contract_names_its_cases_for_both_versions_of_ip() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/packets.md");
    let page = fs::read_to_string(page).unwrap();
    let cases: BTreeSet<&str> = cases::all().iter().map(|case| case.name).collect();
    let mut rows = 0;
    for row in page.lines().filter(|line| line.starts_with("| ") && line.contains('`')) {
        // The last two columns.
        let columns: Vec<&str> = row.trim_matches('|').split('|').rev().take(2).collect();
        for column in &columns {
            let names = spans(column);
            assert!(!names.is_empty() || column.trim() == "as over IPv4", "no case in: {row}");
            assert!(names.is_subset(&cases), "no such case: {:?}", names.difference(&cases));
        }
        rows += 1;
    }
    assert!(rows >= 30, "{rows} rows");
    let named = spans(&page);
    let missing: Vec<_> = cases.difference(&named).collect();
    assert!(missing.is_empty(), "no row of docs/packets.md names {missing:?}");
}
