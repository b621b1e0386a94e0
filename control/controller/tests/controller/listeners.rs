//! The listeners: who is let in, reflection, health, HTTP.

use std::net::SocketAddr;

use controller::{Controller, Error};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::common::{Lab, settings, soon};

async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon("an answer", stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

#[tokio::test]
async fn http_says_alive_ready_and_what_it_counts() {
    let mut lab = Lab::start().await;
    lab.pool("web").await;
    lab.register("web", "a").await.unwrap();
    let http = lab.controller.http_address();
    assert!(get(http, "/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(get(http, "/readyz").await.starts_with("HTTP/1.1 200"));
    let metrics = get(http, "/metrics").await;
    for line in [
        "weir_controller_leader 1",
        "weir_controller_pools 1",
        "weir_controller_backends{state=\"pending\"} 1",
    ] {
        assert!(metrics.contains(&format!("\n{line}\n")), "{line}: {metrics}");
    }
}

#[tokio::test]
async fn calls_are_json_too() {
    let mut lab = Lab::start().await;
    lab.pool("web").await;
    let answer = get(lab.controller.http_address(), "/v1/pools/web").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("\"web\""), "{answer}");
    assert!(get(lab.controller.http_address(), "/v1/pools/none").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn every_metric_is_in_the_docs_and_the_docs_name_no_other() {
    let lab = Lab::start().await;
    let metrics = get(lab.controller.http_address(), "/metrics").await;
    let types = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let names: Vec<&str> = types.filter_map(|line| line.split(' ').next()).collect();
    assert!(names.len() > 15, "{metrics}");
    let page = include_str!("../../../../docs/controller.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `weir_controller_"));
    let rows = rows.filter_map(|row| row.split('`').next());
    let mut listed: Vec<String> = rows.map(|name| format!("weir_controller_{name}")).collect();
    let mut names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    listed.sort();
    names.sort();
    assert_eq!(names, listed);
}

#[tokio::test]
async fn the_standard_health_service_answers() {
    let lab = Lab::start().await;
    let url = format!("http://{}", lab.controller.grpc_address());
    let channel = Channel::from_shared(url).unwrap().connect().await.unwrap();
    let mut client = HealthClient::new(channel);
    let mut check = async |service: &str| {
        let request = HealthCheckRequest { service: service.into() };
        client.check(request).await.unwrap().into_inner().status()
    };
    assert_eq!(check("").await, ServingStatus::Serving);
    while check("weir.v1.LBControlPlane").await != ServingStatus::Serving {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn without_access_entries_only_loopback_is_listened_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(folder.path());
    settings.listen = "0.0.0.0:0".parse().unwrap();
    let error = Controller::start(settings).await.unwrap_err();
    assert!(matches!(error, Error::Access(_)), "{error}");
}

#[tokio::test]
async fn one_controller_per_file() {
    let lab = Lab::start().await;
    let error = Controller::start(settings(lab.folder.path())).await.unwrap_err();
    assert!(error.to_string().contains("in use by another process"), "{error}");
}
