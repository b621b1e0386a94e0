//! A whole checker: real backends, a real controller (as far as checkers see one), and everything
//! that goes wrong between them. In each case: every verdict arrives in the end.

mod backend;
mod controller;
mod http;

use std::net::SocketAddr;
use std::time::Duration;

use backend::Backend;
use checker::{Checker, Settings};
pub(crate) use controller::LONG;
use controller::{Controller, Mood};
use proto::v1::{Assignment, Health, HealthReport, ProbeKind, ProbeSettings};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A checker that ends with the test.
pub(crate) struct Running {
    pub(crate) http: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Running {
    pub(crate) async fn start(controllers: &[&Controller]) -> Self {
        Self::start_with(controllers, |_| {}).await
    }

    pub(crate) async fn start_with(
        controllers: &[&Controller],
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let endpoints = controllers.iter().map(|controller| controller.address.clone());
        let mut settings = Settings::new("checker-1", client::Settings::new(endpoints));
        settings.zone = "zone-a".to_owned();
        settings.http = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        change(&mut settings);
        let checker = Checker::new(settings).await.expect("a checker");
        let http = checker.http_address().expect("a listener");
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(checker.run(async {
            let _dropped = stopped.await;
        }));
        Self { http, stop: Some(stop), task }
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        let ended = tokio::time::timeout(LONG, &mut self.task).await;
        ended.expect("in time").expect("without a panic");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Probed four times a second, so that verdicts come soon.
pub(crate) fn assignment(id: &str, address: SocketAddr) -> Assignment {
    Assignment {
        backend_id: id.to_owned(),
        pool_id: "web".to_owned(),
        ip: address.ip().to_string(),
        port: address.port().into(),
        readiness_probe_url: String::new(),
        settings: Some(ProbeSettings {
            interval_ms: 250,
            timeout_ms: 250,
            ..ProbeSettings::default()
        }),
    }
}

/// Probed as is usual, for backends that must not fail on a machine that is slow.
pub(crate) fn slowly(id: &str, address: SocketAddr) -> Assignment {
    Assignment { settings: Some(ProbeSettings::default()), ..assignment(id, address) }
}

pub(crate) fn with_readiness(mut assignment: Assignment, address: SocketAddr) -> Assignment {
    assignment.readiness_probe_url = format!("http://{address}/ready");
    assignment
}

pub(crate) fn is(state: Health) -> impl Fn(&HealthReport) -> bool {
    move |report| report.state() == state
}

#[tokio::test]
async fn backends_are_probed_and_verdicts_arrive() {
    let controller = Controller::start(Mood::Attentive);
    let (alive, dead) = (Backend::start(), Backend::start());
    let dead_address = dead.stop();
    controller.assigns(vec![
        assignment("alive", alive.address),
        with_readiness(assignment("ready", alive.address), alive.address),
        assignment("dead", dead_address),
    ]);
    let checker = Running::start(&[&controller]).await;

    let report = controller.hears("alive", is(Health::Healthy)).await;
    assert_eq!(report.checker_id, "checker-1");
    assert_eq!(report.readiness(), Health::Unknown);
    assert!(report.checked_at_ns > 1_600_000_000_000_000_000, "a wall clock");
    assert!(report.probe_latency_us.parse::<u64>().is_ok());
    assert!(report.consecutive_pass >= 2 && report.consecutive_fail == 0);
    let report = controller.hears("dead", is(Health::Unhealthy)).await;
    assert_eq!(report.detail, "liveness: connection refused");
    assert!(report.consecutive_fail >= 3);
    controller
        .hears("ready", |report| {
            report.state() == Health::Healthy && report.readiness() == Health::Healthy
        })
        .await;
    alive.becomes("503 Overloaded");
    let report = controller.hears("ready", |report| report.readiness() == Health::Unhealthy).await;
    assert_eq!(
        (report.state(), report.detail.as_str()),
        (Health::Healthy, "readiness: status 503, expected 200")
    );
    alive.becomes("200 OK");
    controller.hears("ready", |report| report.readiness() == Health::Healthy).await;

    let watcher = controller.state().watchers[0].clone();
    assert_eq!((watcher.checker_id.as_str(), watcher.zone.as_str()), ("checker-1", "zone-a"));
    checker.stop().await;
}

#[tokio::test]
async fn a_backend_that_dies_and_comes_back_is_reported_each_time() {
    let controller = Controller::start(Mood::Attentive);
    let backend = Backend::start();
    controller.assigns(vec![assignment("b", backend.address)]);
    let _checker = Running::start(&[&controller]).await;
    controller.hears("b", is(Health::Healthy)).await;
    let address = backend.stop();
    controller.hears("b", is(Health::Unhealthy)).await;
    let _again = Backend::start_at(address.port());
    controller.hears("b", is(Health::Healthy)).await;
}

#[tokio::test]
async fn assignments_change_while_it_runs() {
    let controller = Controller::start(Mood::Attentive);
    let (first, second) = (Backend::start(), Backend::start());
    controller.assigns(vec![assignment("a", first.address)]);
    let _checker = Running::start(&[&controller]).await;
    controller.hears("a", is(Health::Healthy)).await;
    controller.assigns(vec![assignment("b", second.address)]);
    controller.hears("b", is(Health::Healthy)).await;
    // Nothing more is heard of the first: its last connection was before the second list.
    let before = first.connections();
    let reports = controller.state().reports["b"].len();
    controller.until("repeated reports", |state| state.reports["b"].len() > reports).await;
    assert!(first.connections() <= before + 1, "{before} then {}", first.connections());
}

#[tokio::test]
async fn verdicts_are_repeated_though_nothing_changes() {
    let controller = Controller::start(Mood::Attentive);
    let backend = Backend::start();
    controller.assigns(vec![slowly("b", backend.address)]);
    let _checker = Running::start(&[&controller]).await;
    controller.until("three reports", |s| s.reports.get("b").is_some_and(|r| r.len() >= 3)).await;
    let state = controller.state();
    let times: Vec<u64> = state.reports["b"].iter().map(|report| report.checked_at_ns).collect();
    // Of newer probes each time.
    assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
    assert!(state.reports["b"].iter().all(is(Health::Healthy)));
}

#[tokio::test]
async fn after_a_broken_stream_everything_is_said_again() {
    let controller = Controller::start(Mood::Attentive);
    let backend = Backend::start();
    let ids = ["a", "b", "c"];
    controller.assigns(ids.iter().map(|id| assignment(id, backend.address)).collect());
    let _checker = Running::start(&[&controller]).await;
    for id in ids {
        controller.hears(id, is(Health::Healthy)).await;
    }
    for round in 2..5 {
        controller.state().reports.clear();
        controller.breaks_streams();
        controller.until("a new stream", |state| state.report_streams.len() >= round).await;
        for id in ids {
            controller.hears(id, is(Health::Healthy)).await;
        }
    }
}

#[tokio::test]
async fn it_goes_on_probing_without_a_controller_and_says_what_is_true_when_it_is_back() {
    let mut controller = Controller::start(Mood::Attentive);
    let backend = Backend::start();
    let lists = vec![assignment("b", backend.address)];
    controller.assigns(lists.clone());
    let _checker = Running::start(&[&controller]).await;
    controller.hears("b", is(Health::Healthy)).await;
    let port = controller.port();
    controller.dies();

    let before = backend.connections();
    backend.until_connections(before + 5).await;
    backend.stop();
    let again = Controller::start_at(Mood::Attentive, port);
    again.assigns(lists);
    again.hears("b", is(Health::Unhealthy)).await;
}

#[tokio::test]
async fn it_follows_the_leader() {
    let first = Controller::start(Mood::Attentive);
    let second = Controller::start(Mood::Follows(first.address.clone()));
    let backend = Backend::start();
    let lists = vec![assignment("b", backend.address)];
    first.assigns(lists.clone());
    second.assigns(lists);
    let _checker = Running::start(&[&second, &first]).await;
    first.hears("b", is(Health::Healthy)).await;
    assert!(second.state().report_streams.is_empty());

    first.state().mood = Mood::Follows(second.address.clone());
    second.state().mood = Mood::Attentive;
    first.breaks_streams();
    second.hears("b", is(Health::Healthy)).await;
    backend.stop();
    second.hears("b", is(Health::Unhealthy)).await;
}

#[tokio::test]
async fn an_overwhelmed_controller_is_left_in_peace_and_told_in_the_end() {
    let controller = Controller::start(Mood::Overwhelmed(5));
    let backend = Backend::start();
    let ids: Vec<String> = (0..20).map(|n| format!("b{n}")).collect();
    controller.assigns(ids.iter().map(|id| assignment(id, backend.address)).collect());
    let _checker = Running::start(&[&controller]).await;
    controller.until("four attempts", |state| state.report_streams.len() >= 4).await;
    let times = controller.state().report_streams.clone();
    let pauses: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.iter().all(|pause| *pause >= Duration::from_millis(450)), "{pauses:?}");
    controller.state().mood = Mood::Attentive;
    for id in &ids {
        controller.hears(id, is(Health::Healthy)).await;
    }
}

#[tokio::test]
async fn while_acknowledgements_lag_newer_reports_replace_older_ones() {
    let controller = Controller::start(Mood::Silent);
    let backend = Backend::start();
    let ids: Vec<String> = (0..400).map(|n| format!("b{n}")).collect();
    controller.assigns(ids.iter().map(|id| slowly(id, backend.address)).collect());
    let checker = Running::start(&[&controller]).await;
    // The window fills; after that nothing more comes, whatever happens to the backends.
    controller.until("a full window", |state| state.most_unacknowledged >= 256).await;
    backend.stop();
    let superseded = "weir_checker_reports_total{event=\"superseded\"}";
    http::until(&checker, superseded, |count| count >= 100.0).await;
    assert_eq!(controller.state().most_unacknowledged, 256);
    assert!(http::metric(&checker, "weir_checker_reports{state=\"waiting\"}").await <= 400.0);

    // It awakes; the checker has given it up by then, or does soon, and says all again.
    controller.state().mood = Mood::Attentive;
    controller.breaks_streams();
    for id in &ids {
        controller.hears(id, is(Health::Unhealthy)).await;
    }
}

#[tokio::test]
async fn commands_udp_and_what_cannot_be_probed_are_reported_too() {
    let controller = Controller::start(Mood::Attentive);
    let udp = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let address = udp.local_addr().expect("an address");
    let echo = tokio::spawn(async move {
        let mut buffer = [0; 64];
        while let Ok((length, from)) = udp.recv_from(&mut buffer).await {
            let _gone = udp.send_to(&buffer[..length], from).await;
        }
    });
    let with = |id: &str, liveness: ProbeKind, command: &str| {
        let mut assignment = assignment(id, address);
        let settings = assignment.settings.as_mut().expect("settings");
        settings.liveness = liveness.into();
        settings.command = command.to_owned();
        settings.udp_payload = b"ping".to_vec();
        settings.interval_ms = 500;
        settings.timeout_ms = 500;
        assignment
    };
    controller.assigns(vec![
        with("udp", ProbeKind::Udp, ""),
        with("good", ProbeKind::Command, "is-good"),
        with("bad", ProbeKind::Command, "is-good"),
        with("unknown", ProbeKind::Command, "nobody-knows"),
        with("missing", ProbeKind::Command, "missing"),
    ]);
    let argv = ["/bin/sh", "-c", "test \"$1\" = good", "sh", "{backend_id}"];
    let _checker = Running::start_with(&[&controller], |settings| {
        let commands = &mut settings.commands;
        commands.insert("is-good".to_owned(), argv.map(str::to_owned).to_vec());
        commands.insert("missing".to_owned(), vec!["/no/such/program".to_owned()]);
    })
    .await;
    controller.hears("udp", is(Health::Healthy)).await;
    controller.hears("good", is(Health::Healthy)).await;
    controller.hears("bad", is(Health::Unhealthy)).await;
    let report = controller.hears("unknown", is(Health::Unknown)).await;
    assert!(report.detail.contains("\"nobody-knows\""), "{}", report.detail);
    let report = controller.hears("missing", is(Health::Unknown)).await;
    assert!(report.detail.contains("/no/such/program"), "{}", report.detail);
    echo.abort();
    let _ended = echo.await;
    controller.hears("udp", is(Health::Unhealthy)).await;
}

#[tokio::test]
async fn a_program_under_way_is_killed_with_the_checker() {
    let controller = Controller::start(Mood::Attentive);
    let folder = tempfile::TempDir::new().expect("a folder");
    let file = folder.path().join("pid");
    let mut assignment = slowly("b", SocketAddr::from(([127, 0, 0, 1], 1)));
    let settings = assignment.settings.as_mut().expect("settings");
    settings.liveness = ProbeKind::Command.into();
    settings.command = "hang".to_owned();
    settings.interval_ms = 3_600_000;
    settings.timeout_ms = 3_600_000;
    // Its phase is somewhere within the hour: many of them, and one is soon.
    controller.assigns(
        (0..20_000)
            .map(|n| Assignment { backend_id: format!("b{n}"), ..assignment.clone() })
            .collect(),
    );
    let script = format!("echo $$ >> {}; sleep 600", file.display());
    let checker = Running::start_with(&[&controller], |settings| {
        settings.commands.insert("hang".to_owned(), vec!["/bin/sh".into(), "-c".into(), script]);
    })
    .await;
    let start = std::time::Instant::now();
    let pid = loop {
        let pids = std::fs::read_to_string(&file).unwrap_or_default();
        if let Some((first, _)) = pids.split_once('\n') {
            break first.to_owned();
        }
        assert!(start.elapsed() < LONG, "it never ran");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    checker.stop().await;
    // A zombie has no command line.
    let gone =
        || std::fs::read(format!("/proc/{pid}/cmdline")).map_or(true, |text| text.is_empty());
    while !gone() {
        assert!(start.elapsed() < LONG, "{pid} is still there");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused() {
    let refused = async |change: fn(&mut Settings)| {
        let mut settings = Settings::new("c", client::Settings::default());
        settings.http = None;
        change(&mut settings);
        match Checker::new(settings).await {
            Ok(_) => panic!("accepted"),
            Err(error) => error.to_string(),
        }
    };
    assert!(refused(|s| s.id.clear()).await.starts_with("id: "));
    assert!(refused(|s| s.max_in_flight = 0).await.starts_with("max_in_flight: "));
    let open = refused(|s| s.http = Some(SocketAddr::from(([0, 0, 0, 0], 0)))).await;
    assert!(open.starts_with("http: expected a loopback address"), "{open}");
    let empty = refused(|s| drop(s.commands.insert("x".to_owned(), Vec::new()))).await;
    assert!(empty.starts_with("commands: \"x\""), "{empty}");
    let nobody = refused(|s| s.controllers.endpoints.clear()).await;
    assert!(nobody.starts_with("endpoints: "), "{nobody}");
    let ca = refused(|s| s.probe_ca = Some("/no/such/ca.pem".into())).await;
    assert!(ca.starts_with("probe_ca /no/such/ca.pem"), "{ca}");
}
