//! QUIC by connection id: clients that change their address keep their backend, whatever their
//! new 5-tuple says; where the 5-tuple decides, the same move breaks them.

mod peers;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use dataplane::quic::Configuration;
use peers::{Client, Naming, Secrets, Server};
use tokio::runtime::Runtime;

use crate::lab::{Lab, VIP, VIP6, WEIR, is_root, text};
use crate::traffic::{all_flows, place_of};

/// Backends of the lab.
const BACKENDS: usize = 3;
/// Clients of each VIP.
const CLIENTS: u16 = 8;
/// A client's ports: the lab's hash secret is fixed, so which of them sit on which slots is, too.
const FIRST_PORT: u16 = 10_000;
/// Clients have another address, too.
const SECOND: (&str, &str) = ("192.0.2.9", "2001:db8:0:1::9");
/// A key that node and servers share.
const KEY: [u8; 16] = *b"sixteen octets..";
/// A silence that ends connections: long, as machines that run tests may stop for a while.
const SILENCE: Duration = Duration::from_secs(60);

/// How the connection ids of a pool are made.
fn configuration(config_id: u8, server_id: u8, nonce: u8, encrypted: bool) -> Configuration {
    Configuration {
        config_id,
        server_id_length: server_id,
        nonce_length: nonce,
        key: encrypted.then_some(KEY),
        self_encoded_length: encrypted,
    }
}

/// One VIP with a pool of its own.
struct Service {
    vip: &'static str,
    port: u16,
    affinity: &'static str,
    configurations: Vec<Configuration>,
}

impl Service {
    fn at(&self) -> SocketAddr {
        SocketAddr::new(self.vip.parse().unwrap(), self.port)
    }

    /// The server id of a backend, from 1.
    fn server_id(&self, backend: usize) -> Vec<u8> {
        let mut octets = vec![0; self.configurations[0].server_id_length.into()];
        octets[0] = 0x50 + backend as u8;
        octets
    }

    /// Its part of a node's configuration.
    fn toml(&self) -> String {
        let id = format!("quic-{}", self.port);
        let mut text = format!(
            "\n[[pool]]\nid = \"{id}\"\ntable_size = 1021\nhash_secret = \"{}\"\n",
            "0f".repeat(16)
        );
        for configuration in self.configurations.iter().filter(|_| self.affinity == "quic") {
            let Configuration { config_id, server_id_length, nonce_length, .. } = configuration;
            text += &format!(
                "\n  [[pool.quic]]\n  config_id = {config_id}\n  \
                 server_id_length = {server_id_length}\n  nonce_length = {nonce_length}\n  \
                 self_encoded_length = {}\n",
                configuration.self_encoded_length
            );
            if let Some(key) = configuration.key {
                text += &format!("  key = \"{}\"\n", hexadecimal(&key));
            }
        }
        for backend in 1..=BACKENDS {
            text += &format!(
                "\n  [[pool.backend]]\n  id = \"b{backend}\"\n  address = \"192.0.2.{}\"\n",
                10 + backend
            );
            if self.affinity == "quic" {
                let server_id = hexadecimal(&self.server_id(backend));
                text += &format!("  quic_server_ids = [\"{server_id}\"]\n");
            }
        }
        text + &format!(
            "\n[[vip]]\naddress = \"{}\"\nport = {}\nprotocol = \"udp\"\npool = \"{id}\"\n\
             affinity = \"{}\"\n",
            self.vip, self.port, self.affinity
        )
    }

    /// One server on each backend.
    fn servers(&self, lab: &Lab, secrets: &Secrets) -> Vec<Server> {
        let servers = (1..=BACKENDS).map(|backend| {
            let naming = Naming::new(&self.server_id(backend), self.configurations[0].clone());
            Server::start(lab, &format!("b{backend}"), self.at(), naming, secrets)
        });
        servers.collect()
    }

    /// Where client `n` is before and after its move: half of them keep their address and have
    /// another port, the others have another address. No two clients of a lab share a port.
    fn way(&self, n: u16) -> (SocketAddr, SocketAddr) {
        let port = FIRST_PORT + 20 * self.port + n;
        let (first, second) = match self.vip {
            VIP => ("192.0.2.10", SECOND.0),
            _ => ("2001:db8:0:1::10", SECOND.1),
        };
        let then = if n.is_multiple_of(2) { (first, port + 20_000) } else { (second, port) };
        let address = |(ip, port): (&str, u16)| SocketAddr::new(ip.parse().unwrap(), port);
        (address((first, port)), address(then))
    }

    async fn clients(
        &self,
        lab: &Lab,
        numbers: impl Iterator<Item = u16>,
        secrets: &Secrets,
    ) -> Vec<Client> {
        let mut clients = Vec::new();
        for n in numbers {
            clients.push(Client::connect(lab, self.way(n).0, self.at(), secrets).await.unwrap());
        }
        clients
    }

    /// The backend that the 5-tuple of a client chooses, on a node without entries.
    fn choice(&self, lab: &Lab, client: SocketAddr) -> String {
        let output = Command::new(WEIR)
            .arg("explain")
            .arg(lab.config_path())
            .args(["--src", &client.to_string(), "--dst", &self.at().to_string()])
            .args(["--proto", "udp"])
            .output()
            .unwrap();
        let words = text(&output.stdout);
        let line = words.lines().find(|line| line.starts_with("backend ")).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    }
}

fn hexadecimal(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// A lab whose client has a second address, with a node for these services.
fn lab_with(services: &[Service]) -> Lab {
    let mut lab = Lab::up(&["--families", "46", "--backends", &BACKENDS.to_string()]);
    for (address, length) in [(SECOND.0, "24"), (SECOND.1, "64")] {
        let address = format!("{address}/{length}");
        let added = lab.on("client", &["ip", "address", "add", &address, "dev", "eth0", "nodad"]);
        assert!(added.status.success(), "{}", text(&added.stderr));
    }
    let config = config_with(&lab, services);
    lab.start_node(&config);
    lab
}

fn config_with(lab: &Lab, services: &[Service]) -> String {
    let base = lab.config(&["--hugepages", "false"]);
    services.iter().fold(base, |config, service| config + &service.toml())
}

/// The backend of each UDP flow that the node has, by the client's address and port.
fn flows(lab: &Lab) -> HashMap<SocketAddr, String> {
    let all = all_flows(lab, "node");
    let flows = all.iter().filter(|flow| flow["protocol"] == "udp").map(|flow| {
        let (port, backend) = place_of(flow);
        (SocketAddr::new(flow["source"].as_str().unwrap().parse().unwrap(), port), backend)
    });
    flows.collect()
}

fn runtime() -> Runtime {
    // The test waits for the lab, too, in threads of the runtime.
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// All of `clients` move, and their downloads come to their end at the server they began on.
async fn all_move_and_arrive(
    lab: &Lab,
    service: &Service,
    servers: &[Server],
    clients: &mut [Client],
) {
    let mut elsewhere = 0;
    for (n, client) in (0..).zip(&mut *clients) {
        let then = service.way(n).1;
        elsewhere += usize::from(service.choice(lab, then) != client.backend);
        client.move_to(lab, then);
    }
    assert!(elsewhere * 4 >= clients.len(), "only {elsewhere} of {} 5-tuples", clients.len());
    for client in &mut *clients {
        let (backend, address) = (&client.backend, client.address);
        let context = format!("{} from {backend} to {address}", service.at());
        client.finish().await.unwrap_or_else(|error| panic!("{context}: {error}"));
    }
    let flows = flows(lab);
    for client in &*clients {
        assert_eq!(flows.get(&client.address), Some(&client.backend), "{}", client.address);
    }
    // Nobody has connected again, and each server knows where its clients are now.
    for server in servers {
        let mut known = server.clients();
        known.sort();
        let of_this = clients.iter().filter(|client| client.backend == server.backend);
        let mut moved: Vec<_> = of_this.map(|client| client.address).collect();
        moved.sort();
        assert_eq!(known, moved, "{}", server.backend);
    }
}

#[test]
fn a_client_that_moves_keeps_its_backend() {
    if !is_root() {
        return;
    }
    let service = |vip, port, configuration| Service {
        vip,
        port,
        affinity: "quic",
        configurations: vec![configuration],
    };
    let services = [
        // In plain text; one pass of AES; four passes.
        service(VIP, 443, configuration(0, 3, 5, false)),
        service(VIP, 444, configuration(3, 4, 12, true)),
        service(VIP, 445, configuration(6, 2, 6, true)),
        service(VIP6, 446, configuration(1, 2, 7, true)),
    ];
    let lab = lab_with(&services);
    let secrets = Secrets::new(SILENCE);
    runtime().block_on(async {
        for service in &services {
            let servers = service.servers(&lab, &secrets);
            let mut clients = service.clients(&lab, 0..CLIENTS, &secrets).await;
            all_move_and_arrive(&lab, service, &servers, &mut clients).await;
        }
    });
    assert_eq!(lab.metric("weir_drops_total{reason=\"no_backend\"}"), 0);
}

#[test]
fn without_connection_ids_a_client_that_moves_breaks_where_its_5_tuple_goes_elsewhere() {
    if !is_root() {
        return;
    }
    // The same servers and clients: what differs is one word of the node's configuration.
    let configurations = vec![configuration(0, 3, 5, false)];
    let services = [Service { vip: VIP, port: 443, affinity: "flow", configurations }];
    let lab = lab_with(&services);
    let service = &services[0];
    let secrets = Secrets::new(Duration::from_secs(15));
    runtime().block_on(async {
        let _servers = service.servers(&lab, &secrets);
        let mut clients = service.clients(&lab, 0..CLIENTS, &secrets).await;
        let mut broken = 0;
        for (n, client) in (0..).zip(&mut clients) {
            let then = service.way(n).1;
            let stays = service.choice(&lab, then) == client.backend;
            client.move_to(&lab, then);
            if !stays {
                let ending = client.finish().await;
                assert!(ending.is_err(), "{then} was with {} before", client.backend);
                broken += 1;
                let flows = flows(&lab);
                assert!(flows.get(&then).is_some_and(|backend| *backend != client.backend));
                // One is enough to know what the others would wait for.
                break;
            }
        }
        assert!(broken > 0, "every new 5-tuple went to the client's backend");
    });
}

#[test]
fn while_keys_are_rotated_old_and_new_connection_ids_are_read() {
    if !is_root() {
        return;
    }
    let (old, new) = (configuration(0, 2, 6, false), configuration(1, 2, 6, true));
    let service =
        |configurations| [Service { vip: VIP, port: 443, affinity: "quic", configurations }];
    let before = service(vec![old.clone()]);
    let lab = lab_with(&before);
    let secrets = Secrets::new(SILENCE);
    runtime().block_on(async {
        let servers = before[0].servers(&lab, &secrets);
        let mut clients = before[0].clients(&lab, 0..CLIENTS, &secrets).await;
        assert!(servers.iter().all(|server| server.naming.made(1) == 0));
        // First the node, then the servers.
        let after = service(vec![old, new.clone()]);
        lab.reload(&config_with(&lab, &after));
        for server in &servers {
            server.naming.change(new.clone());
        }
        clients.extend(after[0].clients(&lab, CLIENTS..2 * CLIENTS, &secrets).await);
        let made = |config_id| servers.iter().map(|server| server.naming.made(config_id)).sum();
        assert!(u64::min(made(0), made(1)) >= u64::from(CLIENTS));
        all_move_and_arrive(&lab, &after[0], &servers, &mut clients).await;
    });
}
