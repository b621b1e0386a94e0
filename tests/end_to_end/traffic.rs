//! Clients: long downloads, whose flows must not break, and a steady trickle of requests, each on a
//! connection of its own, of which none must fail.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::process::Child;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::lab::{Lab, VIP, text, wait_for};

/// curl's exit code for "failure in receiving network data", which a reset is.
pub(crate) const RESET: i32 = 56;

/// Downloads of the lab's file, each from a client port that is known.
pub(crate) struct Downloads(Vec<(u16, Child)>);

/// How a download ended.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) port: u16,
    /// curl's exit code.
    pub(crate) code: Option<i32>,
    /// Status and bytes.
    pub(crate) answer: String,
}

impl Downloads {
    /// `count` of them from ports `first` and up; `query` such as `rate=100k`.
    pub(crate) fn start(lab: &Lab, first: u16, count: usize, query: &str) -> Self {
        let url = format!("http://{VIP}/slow?{query}");
        let downloads = (first..).take(count).map(|port| {
            let from = port.to_string();
            let write = "%{http_code} %{size_download}";
            let command = ["curl", "-s", "--max-time", "90", "-o", "/dev/null", "-w", write];
            let command = [&command[..], &["--local-port", &from, &url]];
            (port, lab.start("client", &command.concat()))
        });
        Self(downloads.collect())
    }

    /// Waits for all of them.
    pub(crate) fn endings(self) -> Vec<Ending> {
        let endings = self.0.into_iter().map(|(port, download)| {
            let output = download.wait_with_output().unwrap();
            Ending { port, code: output.status.code(), answer: text(&output.stdout) }
        });
        endings.collect()
    }

    /// Gives up those from some ports; the others go on.
    pub(crate) fn abandon(self, abandoned: impl Fn(u16) -> bool) -> Self {
        let (gone, kept): (Vec<_>, Vec<_>) =
            self.0.into_iter().partition(|(port, _)| abandoned(*port));
        for (_, mut download) in gone {
            let _ = download.kill();
            let _ = download.wait();
        }
        Self(kept)
    }
}

/// All flows that a node has, as its admin interface shows them.
pub(crate) fn all_flows(lab: &Lab, host: &str) -> Vec<Value> {
    // Dumps are rate-limited: ask again when told to.
    let body = wait_for("a dump of the flows", 10, || {
        let (status, body) = lab.get_status_on(host, "/admin/flows?limit=10000");
        assert!(status == "200" || status == "429", "{status}: {body}");
        (status == "200").then_some(body)
    });
    let mut answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(answer["complete"], true);
    match answer["flows"].take() {
        Value::Array(flows) => flows,
        other => panic!("no list of flows: {other}"),
    }
}

/// The client's port of a flow, and the backend it is on.
pub(crate) fn place_of(flow: &Value) -> (u16, String) {
    let port = u16::try_from(flow["source_port"].as_u64().unwrap()).unwrap();
    (port, flow["backend"].as_str().unwrap_or("gone").to_owned())
}

/// Established flows that a node has, by client port: the backend of each.
pub(crate) fn established_flows(lab: &Lab, host: &str) -> HashMap<u16, String> {
    let flows = all_flows(lab, host);
    flows.iter().filter(|flow| flow["state"] == "established").map(place_of).collect()
}

/// Now, as requests of a trickle are dated: milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_millis()).unwrap()
}

/// A few clients that ask again and again until told to stop.
pub(crate) struct Trickle {
    clients: Child,
    stop: PathBuf,
}

/// One request of a trickle.
#[derive(Debug)]
pub(crate) struct Request {
    /// When it began; its connection is never older.
    pub(crate) began_ms: u64,
    /// How long it took.
    pub(crate) seconds: f64,
    /// The backend that answered, or what curl says.
    pub(crate) answer: Result<String, String>,
}

/// A line a request: when it began, how long it took, status, backend, curl's words.
const CLIENTS: &str = r#"
LC_ALL=C
client() {
    local port=$4
    while [[ ! -e $2 ]]; do
        port=$((port + 1))
        began=${EPOCHREALTIME/./}
        printf '%s %s\n' "${began:0:13}" "$(curl -s -o /dev/null --connect-timeout "$3" \
            --max-time 15 --local-port "$port" -H 'Connection: close' \
            -w '%{time_total} %{http_code} %header{x-backend} %{errormsg}' "$1")"
        sleep 0.08
    done
}
for ((i = 0; i < 3; i++)); do client "$1" "$2" "$3" $(($4 + i * 3000)) & done
wait
"#;

impl Trickle {
    /// Starts it. Nobody answers a SYN for longer than `connect_seconds`: a failure. No port of the
    /// client is used twice; 9000 from `first_port` on are the trickle's.
    pub(crate) fn start(lab: &Lab, first_port: u16, connect_seconds: u32) -> Self {
        let stop = lab.folder().join(format!("stop-{}", now_ms()));
        let url = format!("http://{VIP}/");
        let (seconds, port) = (connect_seconds.to_string(), first_port.to_string());
        let stop_file = stop.to_str().unwrap();
        let command = ["bash", "-c", CLIENTS, "trickle", &url, stop_file, &seconds, &port];
        Self { clients: lab.start("client", &command), stop }
    }

    /// Stops it, and waits until requests that are under way have ended.
    pub(crate) fn stop(self) -> Vec<Request> {
        fs::write(&self.stop, "").unwrap();
        let output = self.clients.wait_with_output().unwrap();
        let requests = text(&output.stdout);
        let requests = requests.lines().map(|line| {
            let (began, rest) = line.split_once(' ').unwrap_or((line, ""));
            let (seconds, answer) = rest.split_once(' ').unwrap_or((rest, ""));
            let answer = match answer.split_whitespace().collect::<Vec<_>>()[..] {
                ["200", backend] => Ok(backend.to_owned()),
                _ => Err(answer.to_owned()),
            };
            let seconds = seconds.parse().unwrap();
            Request { began_ms: began.parse().unwrap(), seconds, answer }
        });
        requests.collect()
    }

    /// The law of most tests: it was a trickle, and nothing of it failed. Prints how many there
    /// were and how long the slowest took.
    pub(crate) fn stop_without_failures(self, meanwhile: &str) {
        let requests = self.stop();
        let failed: Vec<_> = requests.iter().filter(|request| request.answer.is_err()).collect();
        assert!(failed.is_empty(), "{} of {}: {failed:?}", failed.len(), requests.len());
        assert!(requests.len() >= 10, "only {} requests", requests.len());
        let slowest = requests.iter().map(|request| request.seconds).fold(0.0, f64::max);
        let slow = requests.iter().filter(|request| request.seconds > 0.9).count();
        println!(
            "{meanwhile}: {} requests, none failed, the slowest took {slowest:.2} s ({slow} over 0.9)",
            requests.len()
        );
    }
}
