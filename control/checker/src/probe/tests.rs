//! Each kind of probe against real servers on loopback: those that answer, and all the others.

mod command;
mod http;
mod sockets;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;

/// More than any machine needs.
const LONG: Duration = Duration::from_secs(20);
/// Enough to be sure that nothing comes.
const SHORT: Duration = Duration::from_millis(300);

/// A task that ends with the test.
struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn finding(probe: &Probe, limit: Duration) -> Finding {
    let prober = Prober::new(None, 4).expect("a prober");
    let mut started = 0;
    let finding = prober.probe(probe, limit, || started += 1).await;
    assert_eq!(started, 1, "every probe starts once");
    finding
}

fn failed(finding: Finding) -> String {
    match finding {
        Finding::Fail(why) => why,
        other => panic!("expected a failure, got {other:?}"),
    }
}

fn not_probed(finding: Finding) -> String {
    match finding {
        Finding::NotProbed(why) => why,
        other => panic!("expected no probe, got {other:?}"),
    }
}

/// An address on which nobody listens.
async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    listener.local_addr().expect("an address")
}
