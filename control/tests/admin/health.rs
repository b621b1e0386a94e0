//! `/healthz` and `/readyz`.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::http::StatusCode;

use crate::lab::{CONFIG, Lab, SECOND, config};

#[tokio::test]
async fn healthz_is_ok_while_every_worker_ticks() {
    let mut lab = Lab::new(2);
    for _ in 0..3 {
        let reply = lab.get("/healthz").await;
        assert_eq!((reply.status, reply.body.as_str()), (StatusCode::OK, "ok\n"));
        lab.pass(SECOND);
        lab.poll();
    }
}

#[tokio::test]
async fn healthz_and_readyz_name_the_stalled_worker_and_for_how_long() {
    let mut lab = Lab::new(2);
    lab.pass(3 * SECOND + SECOND / 4);
    let now = lab.now_ms() * 1_000_000;
    lab.workers[0].poll(now);
    for path in ["/healthz", "/readyz"] {
        let reply = lab.get(path).await;
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(reply.body, "worker 1 has not ticked for 3.2 s\n", "{path}");
    }
    lab.poll();
    assert_eq!(lab.get("/healthz").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_tick_is_good_for_a_second_and_no_longer() {
    let lab = Lab::new(1);
    lab.pass(SECOND);
    assert_eq!(lab.get("/healthz").await.status, StatusCode::OK);
    lab.pass(1);
    assert_eq!(lab.get("/healthz").await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_node_without_workers_is_not_healthy() {
    let reply = Lab::new(0).get("/healthz").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(reply.body, "no worker is running\n");
}

#[tokio::test]
async fn readyz_is_ready_once_tables_are_loaded_links_are_up_and_a_backend_is_reached() {
    let reply = Lab::new(2).get("/readyz").await;
    assert_eq!((reply.status, reply.body.as_str()), (StatusCode::OK, "ready\n"));
    assert_eq!(reply.headers["cache-control"], "no-store");
}

#[tokio::test]
async fn readyz_names_the_port_whose_link_is_down() {
    let lab = Lab::new(1);
    lab.port.down.store(true, Relaxed);
    let reply = lab.get("/readyz").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(reply.body, "port \"uplink\": the link is down\n");
}

#[tokio::test]
async fn readyz_gives_one_reason_a_line() {
    let text = CONFIG.replace("neighbors = [", "gateways = [\"192.0.2.1\"]\nneighbors = [");
    let text = text.replace("192.0.2.11\"", "10.0.0.1\"").replace("192.0.2.12\"", "10.0.0.2\"");
    let text = text.replace("address = \"10.0.0.1\", mac", "address = \"192.0.2.98\", mac");
    let text = text.replace("address = \"10.0.0.2\", mac", "address = \"192.0.2.99\", mac");
    let text = text.replace("forwarding = \"l2dsr\"\n", "");
    let lab = Lab::with(&text, 1);
    lab.port.down.store(true, Relaxed);
    let reply = lab.get("/readyz").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    let lines: Vec<&str> = reply.body.lines().collect();
    assert!(lines.contains(&"gateway 192.0.2.1 is incomplete"), "{lines:?}");
    assert!(lines.contains(&"port \"uplink\": the link is down"), "{lines:?}");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_does_not_take_up_new_tables_makes_the_node_unready() {
    let mut lab = Lab::new(2);
    let now_ms = lab.now_ms();
    lab.state.lock_node().reload(config(CONFIG), now_ms).expect("a reload");
    let now = now_ms * 1_000_000;
    lab.workers[1].poll(now);
    let generation = lab.state.lock_node().generation();
    let reply = lab.get("/readyz").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    let old = generation - 1;
    assert_eq!(reply.body, format!("worker 0 uses tables of generation {old}, not {generation}\n"));
}

#[tokio::test(start_paused = true)]
async fn tables_published_just_now_do_not_make_the_node_unready() {
    let mut lab = Lab::new(2);
    let now_ms = lab.now_ms();
    lab.state.lock_node().reload(config(CONFIG), now_ms).expect("a reload");
    let reply = lab.get_at_work("/readyz").await;
    assert_eq!((reply.status, reply.body.as_str()), (StatusCode::OK, "ready\n"));
}

#[tokio::test]
async fn a_refused_reload_leaves_the_node_ready_and_readyz_says_so_until_one_takes_effect() {
    let mut lab = Lab::new(1);
    let restart = config(&CONFIG.replace("lb-a1", "lb-a2"));
    lab.state.lock_node().reload(restart, 0).expect_err("it needs a restart");
    let reply = lab.get("/readyz").await;
    assert_eq!(reply.status, StatusCode::OK);
    let (first, rest) = reply.body.split_once('\n').expect("lines");
    assert_eq!(first, "ready");
    assert!(rest.starts_with("warning: the configuration is stale"), "{rest}");
    assert_eq!(rest.lines().count(), 1);

    lab.state.lock_node().reload_refused("a.toml:1: bad\na.toml:2: worse\n".to_owned());
    let reply = lab.get("/readyz").await;
    assert!(reply.body.ends_with("refused: a.toml:1: bad; a.toml:2: worse\n"), "{}", reply.body);

    lab.state.lock_node().reload(config(CONFIG), 0).expect("a reload");
    lab.poll();
    assert_eq!(lab.get("/readyz").await.body, "ready\n");
}

#[tokio::test]
async fn a_panic_under_the_lock_does_not_end_the_interface() {
    let lab = Lab::new(1);
    let state = Arc::clone(&lab.state);
    let thread = std::thread::spawn(move || {
        let _node = state.lock_node();
        panic!("on purpose, to poison the lock");
    });
    thread.join().expect_err("it panicked");
    assert_eq!(lab.get("/readyz").await.status, StatusCode::OK);
}
