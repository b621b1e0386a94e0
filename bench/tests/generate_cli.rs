//! What `weir-bench generate` refuses, and how, before any device is touched; and one run of it.

use std::process::{Command, Output};

fn generate(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir-bench"));
    command.arg("generate").args(arguments).output().unwrap()
}

#[test]
fn usage_errors_say_what_was_expected() {
    let good = ["--device", "net_ring0", "--to", "02:00:00:00:00:01"];
    for (arguments, said) in [
        (&["--to", "02:00:00:00:00:01"][..], "--device <DEVICE>"),
        (&["--device", "net_ring0"], "--to <TO>"),
        (&["--to", "router"], "no MAC address (expected such as 02:00:00:00:00:01)"),
        (&["--rate", "fast"], "no rate (expected 1 to 500M packets a second, or \"unlimited\")"),
        (&["--sizes", "63"], "a size of 63 (expected 64 to 9018"),
        (&["--sizes", "64:0"], "a weight of 0"),
        (&["--flows", "0"], "0 is not in 1..=67108864"),
        (&["--vips", "0"], "0 is not in 1.."),
        (&["--ip", "v5"], "[possible values: v4, v6, both]"),
        (&["--protocol", "icmp"], "[possible values: tcp, udp, both]"),
    ] {
        let mut all = arguments.to_vec();
        for pair in good.chunks(2) {
            // What is missing on purpose stays missing.
            if arguments.len() == 2 && arguments[0] != pair[0] && !said.contains(pair[0]) {
                all.extend(pair);
            }
        }
        let output = generate(&all);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{all:?}: {text}");
        assert!(text.contains(said), "{all:?}: {text}");
    }
}

#[test]
fn a_mix_that_cannot_be_made_fails_before_dpdk_starts() {
    let good = ["--device", "net_ring0", "--to", "02:00:00:00:00:01"];
    for (arguments, said) in [
        (&["--syn-share", "2"][..], "a SYN share of 2 (expected 0 to 1)"),
        (&["--syn-share", "0.1", "--protocol", "udp"], "over UDP"),
        (&["--seconds", "0"], "0 seconds (expected more than 0)"),
        (&["--vip", "255.255.255.255"], "1000 destinations from 255.255.255.255"),
    ] {
        let output = generate(&[&good[..], arguments].concat());
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {text}");
        assert!(text.contains(said) && !text.contains("EAL"), "{arguments:?}: {text}");
    }
}

/// Over a ring that gives back what it is given.
#[test]
fn a_run_over_a_ring_loses_nothing_and_says_so() {
    let json = std::env::temp_dir().join(format!("weir-generate-{}.json", std::process::id()));
    let path = json.to_str().unwrap();
    let arguments = "--device net_ring0 --to 02:00:00:00:00:01 --rate unlimited --packets 900 \
                     --sizes imix --ip both --protocol both --syn-share 0.5 --no-huge";
    let mut arguments: Vec<&str> = arguments.split_whitespace().collect();
    arguments.extend(["--memory-mib", "64", "--seconds", "60", "--json", path]);
    let output = generate(&arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let text = String::from_utf8(output.stdout).unwrap();
    for line in ["sent                  900 packets", "received              900 packets"] {
        assert!(text.contains(line), "{text}");
    }
    let written = std::fs::read_to_string(&json).unwrap();
    std::fs::remove_file(&json).unwrap();
    let written: serde_json::Value = serde_json::from_str(&written).unwrap();
    for (key, value) in [("sent", 900), ("received", 900), ("lost", 0), ("refused", 0)] {
        assert_eq!(written[key], value, "{key}");
    }
    assert!(written["p50_ns"].as_u64().unwrap() <= written["max_ns"].as_u64().unwrap());
}
