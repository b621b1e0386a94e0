//! Pools change under traffic, and flows stay where they are.

use std::collections::HashMap;
use std::fs;
use std::process::Command;

use crate::lab::{Lab, VIP, is_root, wait_for};
use crate::traffic::{Downloads, RESET, established_flows};

/// Long downloads at a time.
const DOWNLOADS: usize = 40;
/// Client ports of the downloads, one after another: with the lab's fixed hash secret, which of
/// them sit on slots that a change moves is the same in every run.
const FIRST_PORT: u16 = 40_000;
/// Whom they come from.
const CLIENT: &str = "192.0.2.10";
/// Bytes of the file downloaded.
const FILE_BYTES: u64 = 2 << 20;

/// A lab whose downloads take about ten seconds.
fn lab_with_downloads(options: &[&str]) -> Lab {
    let mut options = options.to_vec();
    options.extend(["--port", "net_tap", "--file-mib", "2", "--rate", "200k"]);
    let mut lab = Lab::up(&options);
    let config = with_drain(&lab.config(&["--hugepages", "false"]), 60);
    lab.start_node(&config);
    lab
}

/// The configuration with another drain time.
fn with_drain(config: &str, seconds: u32) -> String {
    config.replace("id = \"web\"\n", &format!("id = \"web\"\ndrain_seconds = {seconds}\n"))
}

/// The configuration with a backend's table changed.
fn with_backend(config: &str, id: &str, change: impl Fn(&str) -> String) -> String {
    let start = config.find(&format!("  [[pool.backend]]\n  id = \"{id}\"")).unwrap();
    let length = config[start..].find("\n\n").unwrap();
    let table = &config[start..start + length];
    config.replacen(table, &change(table), 1)
}

fn start_downloads(lab: &Lab) -> Downloads {
    let downloads = Downloads::start(lab, FIRST_PORT, DOWNLOADS, "");
    wait_for("all downloads to be under way", 10, || {
        (established(lab).len() >= DOWNLOADS).then_some(())
    });
    downloads
}

/// Flows that are established, as client address and port, with the backend of each.
fn established(lab: &Lab) -> HashMap<String, String> {
    let flows = established_flows(lab, "node");
    flows.into_iter().map(|(port, backend)| (format!("{CLIENT}:{port}"), backend)).collect()
}

/// What a node that has just started with the file would choose for a flow.
fn choice_of(config: &str, client: &str) -> String {
    let destination = format!("{VIP}:80");
    let output = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["explain", config, "--src", client, "--dst", &destination])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|line| line.starts_with("backend "));
    line.and_then(|line| line.split_whitespace().nth(1)).unwrap_or_default().to_owned()
}

fn all_arrive(downloads: Downloads) {
    for ending in downloads.endings() {
        assert_eq!(ending.answer, format!("200 {FILE_BYTES}"), "{ending:?}");
    }
}

/// The law: after `change` at least a quarter of the live flows sit on slots that moved, and all of
/// them arrive, over the backends they began on.
fn change_breaks_no_download(options: &[&str], change: impl Fn(&str) -> String) {
    if !is_root() {
        return;
    }
    let lab = lab_with_downloads(options);
    let config = fs::read_to_string(lab.config_path()).unwrap();
    let downloads = start_downloads(&lab);
    let before = established(&lab);
    lab.reload(&change(&config));
    let path = lab.config_path();
    let path = path.to_str().unwrap();
    let moved = before.iter().filter(|(client, backend)| choice_of(path, client) != **backend);
    let moved = moved.count();
    assert!(moved * 4 >= before.len(), "only {moved} of {} flows on moved slots", before.len());
    // While they go on, new connections go where the new table says.
    let answers = lab.requests(100);
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    let after = established(&lab);
    for (client, backend) in &before {
        assert_eq!(after.get(client).unwrap_or(backend), backend, "{client} has moved");
    }
    all_arrive(downloads);
}

#[test]
fn backends_taken_out_of_the_file_keep_their_downloads() {
    change_breaks_no_download(&["--backends", "3"], |config| {
        with_backend(config, "b1", |_| String::new())
    });
}

#[test]
fn backends_drained_by_state_keep_their_downloads() {
    change_breaks_no_download(&["--backends", "3"], |config| {
        with_backend(config, "b3", |table| format!("{table}\n  state = \"drain\""))
    });
}

#[test]
fn other_weights_move_no_download() {
    change_breaks_no_download(&["--backends", "2"], |config| {
        with_backend(config, "b1", |table| format!("{table}\n  weight = 5"))
    });
}

#[test]
fn backends_that_are_added_take_over_no_download() {
    if !is_root() {
        return;
    }
    // Begin with one of three, then add the others: two thirds of the slots move.
    let mut lab = Lab::up(&["--port", "net_tap", "--file-mib", "2", "--rate", "200k"]);
    let all = lab.config(&["--hugepages", "false"]);
    let one = with_backend(&with_backend(&all, "b1", |_| String::new()), "b2", |_| String::new());
    lab.start_node(&one);
    let downloads = start_downloads(&lab);
    lab.reload(&all);
    let answers = lab.requests(90);
    let elsewhere = answers.iter().filter(|answer| answer.as_deref() != Ok("b3")).count();
    assert!(elsewhere >= 30, "{elsewhere} of 90 new connections went to the new backends");
    assert!(established(&lab).values().all(|backend| backend == "b3"));
    all_arrive(downloads);
}

#[test]
fn when_the_drain_is_over_stragglers_are_reset() {
    if !is_root() {
        return;
    }
    let lab = lab_with_downloads(&["--backends", "2"]);
    let config = with_drain(
        &fs::read_to_string(lab.config_path()).unwrap().replace("drain_seconds = 60\n", ""),
        2,
    );
    lab.reload(&config);
    let downloads = start_downloads(&lab);
    let on_b1 = established(&lab).values().filter(|backend| *backend == "b1").count();
    assert!(on_b1 > 0);
    lab.reload(&with_backend(&config, "b1", |_| String::new()));
    let mut reset = 0;
    for ending in downloads.endings() {
        match ending.code {
            Some(0) => {}
            Some(RESET) => reset += 1,
            _ => panic!("{ending:?}"),
        }
    }
    assert_eq!(reset, on_b1, "the flows of b1, and no others, are reset");
    assert!(lab.metric("weir_worker_resets_total") >= on_b1 as u64);
}

#[test]
fn a_node_killed_and_started_again_breaks_no_download() {
    if !is_root() {
        return;
    }
    // Nothing of the flows survives in the node: the unchanged table sends each on to its backend.
    let options = ["--port", "net_af_packet", "--file-mib", "2", "--rate", "200k"];
    let mut lab = Lab::up(&options);
    let config = lab.config(&["--hugepages", "false"]);
    lab.start_node(&config);
    let downloads = start_downloads(&lab);
    let before = established(&lab);
    lab.stop_node("-KILL");
    lab.start_node(&config);
    let after = wait_for("the flows to be seen again", 10, || {
        let flows = established(&lab);
        (flows.len() >= before.len()).then_some(flows)
    });
    assert_eq!(after, before);
    all_arrive(downloads);
}

#[test]
fn a_bad_reload_changes_nothing_and_says_why() {
    if !is_root() {
        return;
    }
    let lab = lab_with_downloads(&["--backends", "2"]);
    let good = fs::read_to_string(lab.config_path()).unwrap();
    let bad = good.replace("drain_seconds = 60", "drian_seconds = 60");
    for (config, expected) in
        [(bad, "drian_seconds"), (good.replace("flows = 200000", "flows = 100000"), "flows")]
    {
        fs::write(lab.config_path(), config).unwrap();
        let before = lab.metric("weir_reloads_total{result=\"refused\"}");
        lab.signal("-HUP");
        wait_for("the refusal", 5, || {
            (lab.metric("weir_reloads_total{result=\"refused\"}") > before).then_some(())
        });
        let (status, body) = lab.get_status("/readyz");
        assert_eq!(status, "200", "the old configuration is as good as before");
        assert!(body.contains(expected), "{body}");
        assert!(lab.log().contains(expected), "{}", lab.log());
        assert!(lab.requests(20).iter().all(Result::is_ok));
    }
}
