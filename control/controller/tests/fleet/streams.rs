//! Who may open which stream, and how much it may hold.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use access::{Access, Entry, Proof, Role};
use proto::v1::{Health, HealthReport, ListNodesReq, NodeReport, WatchAssignmentsReq};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request};

use crate::checker::{Checker, World};
use crate::lab::{Lab, within};

fn report(checker: &str, backend: &str) -> HealthReport {
    HealthReport {
        backend_id: backend.into(),
        state: Health::Healthy.into(),
        checker_id: checker.into(),
        checked_at_ns: 7,
        ..HealthReport::default()
    }
}

/// What the controller answers to a stream of these reports, in order, up to the end.
async fn answers(lab: &Lab, reports: Vec<HealthReport>) -> (Vec<(bool, String)>, Option<Code>) {
    let mut client = lab.client.clone();
    let stream = client.report_health(tokio_stream::iter(reports)).await;
    let mut stream = stream.expect("a stream").into_inner();
    let mut acks = Vec::new();
    loop {
        match within("an answer", stream.next()).await {
            Some(Ok(ack)) => acks.push((ack.accepted, ack.reason)),
            Some(Err(status)) => return (acks, Some(status.code())),
            None => return (acks, None),
        }
    }
}

#[tokio::test]
async fn reports_that_do_not_count_are_answered_with_a_reason() {
    let lab = Lab::start().await;
    lab.pool("web", &["b0"]).await;
    let (acks, end) = answers(&lab, vec![report("stranger", "b0"), report("stranger", "b9")]).await;
    assert_eq!(end, None);
    let expected = [
        (false, "this checker is not assigned to the backend".to_owned()),
        (false, "no such backend".to_owned()),
    ];
    assert_eq!(acks, expected);
    let refused = lab.metric("weir_controller_health_reports_total{accepted=\"false\"}").await;
    assert_eq!(refused, 2.0);
}

#[tokio::test]
async fn a_stream_is_one_checkers() {
    let lab = Lab::start().await;
    lab.pool("web", &["b0"]).await;
    let (_, end) = answers(&lab, vec![report("a", "b0"), report("b", "b0")]).await;
    assert_eq!(end, Some(Code::InvalidArgument));
    // Who names no checker speaks for the caller.
    let (acks, end) = answers(&lab, vec![report("", "b0"), report("", "b0")]).await;
    assert_eq!((acks.len(), end), (2, None));
    let (_, end) = answers(&lab, vec![report("", "b0"), report("a", "b0")]).await;
    assert_eq!(end, Some(Code::InvalidArgument));
    let nameless = WatchAssignmentsReq::default();
    let refused = lab.client.clone().watch_assignments(nameless).await;
    assert_eq!(refused.expect_err("nameless").code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_checker_that_goes_on_beyond_the_window_is_told_to_back_off() {
    let lab = Lab::with(|settings| settings.limits.health_window = 64).await;
    lab.pool("web", &["b0"]).await;
    let (reports, queue) = mpsc::channel(1);
    // Its connection takes few acknowledgements that it does not read.
    let mut client = lab.narrow_client(1024).await;
    let acks = client.report_health(ReceiverStream::new(queue)).await.expect("a stream");
    // It sends far more than the window and reads nothing meanwhile.
    let sending = async {
        for _ in 0..2_000 {
            reports.send(report("greedy", "b0")).await.expect("what comes too late is read too");
        }
    };
    within("all is sent", sending).await;
    let mut acks = acks.into_inner();
    let mut read = 0;
    let end = loop {
        match within("an answer", acks.next()).await {
            Some(Ok(_)) => read += 1,
            Some(Err(status)) => break status,
            None => panic!("ended without a status after {read}"),
        }
    };
    assert_eq!(end.code(), Code::ResourceExhausted, "{end}");
    assert!(end.message().starts_with("64 reports"), "{end}");
    lab.until("it is counted", async || {
        lab.metric("weir_controller_health_windows_full_total").await == 1.0
    })
    .await;
    // Others are served as ever, and so is this one when it comes again.
    let (acks, end) = answers(&lab, vec![report("greedy", "b0")]).await;
    assert_eq!((acks.len(), end), (1, None));
    let checker = Checker::start(&lab.client, "patient", "z", World::default()).await;
    lab.until("another one has work", async || checker.assigned() == ["b0"]).await;
    checker.reports(5).await;
}

#[tokio::test]
async fn a_node_has_a_name_and_keeps_it() {
    let lab = Lab::start().await;
    for (names, expected) in
        [(vec![""], Some(Code::InvalidArgument)), (vec!["n1", "n2"], Some(Code::InvalidArgument))]
    {
        let reports: Vec<NodeReport> = names
            .iter()
            .map(|&id| NodeReport { node_id: id.into(), ..NodeReport::default() })
            .collect();
        let mut client = lab.client.clone();
        let acks = client.report_node(tokio_stream::iter(reports)).await.expect("a stream");
        let mut acks = acks.into_inner();
        let mut end = None;
        while let Some(ack) = within("an answer", acks.next()).await {
            end = ack.err().map(|status| status.code());
        }
        assert_eq!(end, expected, "{names:?}");
    }
}

/// A request with the bearer token of `name`.
fn by<T>(name: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let bearer = MetadataValue::try_from(format!("Bearer {}", token(name))).expect("ASCII");
    request.metadata_mut().insert("authorization", bearer);
    request
}

fn token(name: &str) -> String {
    format!("token-of-{name}-{}", "0123456789abcdef".repeat(2))
}

#[tokio::test]
async fn nobody_speaks_for_another_checker_or_node() {
    let files = tempfile::tempdir().expect("a directory");
    let entry = |name: &str, role| {
        let path = files.path().join(name);
        std::fs::write(&path, token(name)).expect("written");
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("set");
        Entry { name: name.into(), role, proof: Proof::TokenFile(path) }
    };
    let entries = vec![entry("c1", Role::Checker), entry("n1", Role::Node)];
    let access = Arc::new(Access::new(entries).expect("access"));
    let lab = Lab::with(|settings| settings.access = Some(access)).await;
    let mut client = lab.client.clone();

    for (caller, name, expected) in [
        ("c1", "c1", None),
        ("c1", "c2", Some(Code::PermissionDenied)),
        ("n1", "n1", Some(Code::PermissionDenied)),
    ] {
        let reports = tokio_stream::iter([report(name, "b0")]);
        let code = match client.report_health(by(caller, reports)).await {
            Ok(acks) => {
                let first = within("an answer", acks.into_inner().next()).await;
                first.expect("an answer").err().map(|status| status.code())
            }
            Err(status) => Some(status.code()),
        };
        assert_eq!(code, expected, "{caller} as {name} reports");
        let watch = WatchAssignmentsReq { checker_id: name.into(), zone: String::new() };
        let watched = client.watch_assignments(by(caller, watch)).await;
        assert_eq!(watched.err().map(|s| s.code()), expected, "{caller} as {name} watches");
    }
    for (caller, name, expected) in [
        ("n1", "n1", None),
        ("n1", "n2", Some(Code::PermissionDenied)),
        ("c1", "c1", Some(Code::PermissionDenied)),
    ] {
        let report = NodeReport { node_id: name.into(), ..NodeReport::default() };
        let code = match client.report_node(by(caller, tokio_stream::iter([report]))).await {
            Ok(acks) => {
                let first = within("an answer", acks.into_inner().next()).await;
                first.expect("an answer").err().map(|status| status.code())
            }
            Err(status) => Some(status.code()),
        };
        assert_eq!(code, expected, "{caller} as {name}");
    }
    let nameless = client.list_nodes(ListNodesReq {}).await.expect_err("no token");
    assert_eq!(nameless.code(), Code::Unauthenticated);
}
