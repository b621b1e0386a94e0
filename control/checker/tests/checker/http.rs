//! What the checker shows: health, readiness, metrics.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use proto::v1::Health;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::backend::Backend;
use crate::controller::{Controller, LONG, Mood};
use crate::{Running, assignment, is, slowly};

const PAGE: &str = include_str!("../../../../docs/checker.md");

/// Status and body.
pub(crate) async fn get(checker: &Running, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(checker.http).await.expect("a connection");
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, body.to_owned())
}

/// One sample.
pub(crate) async fn metric(checker: &Running, sample: &str) -> f64 {
    let (_, body) = get(checker, "/metrics").await;
    let line = body.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{sample} in:\n{body}"))
}

pub(crate) async fn until(checker: &Running, sample: &str, wanted: impl Fn(f64) -> bool) {
    let start = Instant::now();
    loop {
        let value = metric(checker, sample).await;
        if wanted(value) {
            return;
        }
        assert!(start.elapsed() < LONG, "{sample} is {value}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn readiness_says_whether_the_controller_is_heard() {
    let mut controller = Controller::start(Mood::Attentive);
    let backend = Backend::start();
    let checker = Running::start(&[&controller]).await;
    controller.assigns(vec![slowly("b", backend.address)]);
    controller.hears("b", is(Health::Healthy)).await;
    assert_eq!(get(&checker, "/healthz").await, (200, "ok\n".to_owned()));
    let (status, body) = get(&checker, "/readyz").await;
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("1 up, 0 down, 0 unknown"), "{body}");
    assert!(body.contains(&controller.address), "{body}");

    controller.dies();
    let start = Instant::now();
    loop {
        let (status, body) = get(&checker, "/readyz").await;
        if status == 503 && body.matches("not connected").count() == 2 {
            assert!(body.contains("probing 1 backends"), "{body}");
            break;
        }
        assert!(start.elapsed() < LONG, "{status} {body}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(get(&checker, "/healthz").await.0, 200);
    assert_eq!(get(&checker, "/other").await.0, 404);
}

#[tokio::test]
async fn metrics_count_what_is_done() {
    let controller = Controller::start(Mood::Attentive);
    let (alive, dead) = (Backend::start(), Backend::start().stop());
    controller.assigns(vec![assignment("a", alive.address), assignment("d", dead)]);
    let checker = Running::start(&[&controller]).await;
    controller.hears("a", is(Health::Healthy)).await;
    controller.hears("d", is(Health::Unhealthy)).await;
    let count = "weir_checker_probes_total{kind=\"tcp\",role=\"liveness\",result=";
    assert!(metric(&checker, &format!("{count}\"pass\"}}")).await >= 2.0);
    assert!(metric(&checker, &format!("{count}\"fail\"}}")).await >= 3.0);
    assert_eq!(metric(&checker, &format!("{count}\"not_probed\"}}")).await, 0.0);
    assert_eq!(metric(&checker, "weir_checker_assignments").await, 2.0);
    assert_eq!(metric(&checker, "weir_checker_verdicts{verdict=\"down\"}").await, 1.0);
    for stream in ["assignments", "reports"] {
        let sample = format!("weir_checker_controller_connected{{stream=\"{stream}\"}}");
        assert_eq!(metric(&checker, &sample).await, 1.0);
    }
    until(&checker, "weir_checker_reports_total{event=\"acknowledged\"}", |n| n >= 2.0).await;
    let late = metric(&checker, "weir_checker_probe_lateness_seconds_count").await;
    let all = metric(&checker, "weir_checker_probe_lateness_seconds_bucket{le=\"+Inf\"}").await;
    assert!(late >= 5.0 && all >= late, "{late} {all}");

    // Prometheus' rules: one HELP and TYPE for each name, and samples under their own.
    let (_, body) = get(&checker, "/metrics").await;
    let mut name = "";
    let mut seen = HashSet::new();
    for line in body.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            name = help.split(' ').next().expect("a name");
            assert!(seen.insert(name), "{name} twice");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            assert_eq!(kind.split(' ').next(), Some(name));
            let row = format!("| `{name}` | {} |", kind.rsplit(' ').next().expect("a type"));
            assert!(PAGE.contains(&row), "docs/checker.md has no row that begins with {row}");
        } else {
            assert!(line.starts_with(name), "{line} under {name}");
            let value = line.rsplit(' ').next().expect("a value");
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }
    let documented = PAGE.lines().filter(|line| line.starts_with("| `weir_checker_")).count();
    assert_eq!(documented, seen.len());
}
