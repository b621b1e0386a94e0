//! Three checkers in three zones, the real controller, and backends that die.
//!
//! A controller takes no loopback address for a backend, so liveness is asked by a command: a
//! backend lives while its file is there. Readiness is asked over HTTP, on loopback.

#[path = "../checker/backend.rs"]
#[expect(dead_code, reason = "the other tests use more of it")]
mod backend;

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use backend::Backend;
use checker::{Checker, Settings};
use client::Controllers;
use controller::{Controller, Store};
use proto::v1::{
    Backend as Row, BackendState, CreatePoolReq, GetBackendReq, PoolSettings, ProbeKind,
    ProbeSettings, RegisterBackendReq,
};
use registry::RedbSettings;
use tempfile::TempDir;
use tokio::task::JoinSet;

const LONG: Duration = Duration::from_secs(60);

async fn controller_at(folder: &Path, address: SocketAddr) -> Controller {
    let store = Store::Embedded(RedbSettings::new(folder.join("registry.redb")));
    let mut settings = controller::Settings::new("controller", store);
    settings.listen = address;
    settings.http = SocketAddr::from(([127, 0, 0, 1], 0));
    let controller = Controller::start(settings).await.expect("a controller");
    tokio::time::timeout(LONG, controller.leads()).await.expect("it leads");
    controller
}

/// Checkers that end with the set.
async fn checkers(address: SocketAddr, folder: &Path) -> JoinSet<()> {
    let mut running = JoinSet::new();
    for zone in ["a", "b", "c"] {
        let endpoint = client::Settings::new([format!("http://{address}")]);
        let mut settings = Settings::new(format!("checker-{zone}"), endpoint);
        settings.zone = format!("zone-{zone}");
        settings.http = None;
        let script = format!("test -e {}/$1", folder.display());
        let argv = ["/bin/sh", "-c", &script, "sh", "{backend_id}"].map(str::to_owned).to_vec();
        settings.commands.insert("lives".to_owned(), argv);
        let checker = Checker::new(settings).await.expect("a checker");
        running.spawn(checker.run(std::future::pending()));
    }
    running
}

async fn row(controllers: &Controllers, id: &str) -> Row {
    let request = GetBackendReq { backend_id: id.to_owned() };
    let answer = controllers.call(LONG, |mut client| {
        let request = request.clone();
        async move { client.get_backend(request).await }
    });
    answer.await.expect("a backend")
}

async fn until(controllers: &Controllers, id: &str, wanted: impl Fn(&Row) -> bool) {
    let start = Instant::now();
    loop {
        let row = row(controllers, id).await;
        if wanted(&row) {
            return;
        }
        assert!(start.elapsed() < LONG, "{row:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn is(state: BackendState, eligible: bool) -> impl Fn(&Row) -> bool {
    move |row| row.state() == state && row.eligible == eligible
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dead_are_ejected_the_unready_wait_and_a_restart_forgets_nothing() {
    let folder = TempDir::new().expect("a folder");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let controller = controller_at(folder.path(), any).await;
    let address = controller.grpc_address();
    let _checkers = checkers(address, folder.path()).await;
    let lives = |id: &str| std::fs::write(folder.path().join(id), "").expect("written");
    let dies = |id: &str| std::fs::remove_file(folder.path().join(id)).expect("removed");
    let settings = client::Settings::new([format!("http://{address}")]);
    let controllers = Controllers::new(settings).expect("settings");

    let probe = ProbeSettings {
        liveness: ProbeKind::Command.into(),
        command: "lives".to_owned(),
        ..ProbeSettings::default()
    };
    let settings = PoolSettings { probe: Some(probe), ..PoolSettings::default() };
    let pool = CreatePoolReq { pool_id: "web".to_owned(), settings: Some(settings) };
    let created = controllers.call(LONG, |mut client| {
        let pool = pool.clone();
        async move { client.create_pool(pool).await }
    });
    created.await.expect("a pool");
    // Five, so that two bad ones are not most of them.
    let service = Backend::start();
    let unready = Backend::start();
    for number in 0..5 {
        let id = format!("b{number}");
        lives(&id);
        let answers = if number == 1 { unready.address } else { service.address };
        let request = RegisterBackendReq {
            pool_id: "web".to_owned(),
            backend_id: id,
            ip: format!("192.0.2.{}", number + 1),
            port: 80,
            readiness_probe_url: format!("http://{answers}/ready"),
            ..RegisterBackendReq::default()
        };
        let registered = controllers.call(LONG, |mut client| {
            let request = request.clone();
            async move { client.register_backend(request).await }
        });
        registered.await.expect("a backend");
    }
    for number in 0..5 {
        until(&controllers, &format!("b{number}"), is(BackendState::Healthy, true)).await;
    }

    dies("b0");
    until(&controllers, "b0", is(BackendState::Unhealthy, false)).await;
    unready.becomes("503 Overloaded");
    until(&controllers, "b1", is(BackendState::Healthy, false)).await;
    unready.becomes("200 OK");
    until(&controllers, "b1", is(BackendState::Healthy, true)).await;

    // While nobody leads, one comes back and another dies.
    controller.stop().await.expect("stopped");
    lives("b0");
    dies("b1");
    let _again = controller_at(folder.path(), address).await;
    assert_eq!(row(&controllers, "b2").await.state(), BackendState::Healthy);
    until(&controllers, "b0", is(BackendState::Healthy, true)).await;
    until(&controllers, "b1", is(BackendState::Unhealthy, false)).await;
    for id in ["b2", "b3", "b4"] {
        assert_eq!(row(&controllers, id).await.state(), BackendState::Healthy);
    }
}
