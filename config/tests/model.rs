//! What a good file becomes: every field of the model, every default, every warning.

use config::{
    Affinity, Backend, BackendState, Config, Conntrack, Dpdk, EarlyFragments, Encapsulation,
    ExceptionDriver, FewerQueues, Forwarding, Fragments, HashSecret, Icmp, Idle, Loaded, MssClamp,
    Neighbor, Node, OuterVlan, Oversize, Pool, Port, Protocol, Scheduler, Timeouts, Vip, VipPort,
    VlanProtocol,
};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

/// The least file there is.
const LEAST: &str = "[[port]]\nname = \"p\"\ndevice = \"d\"\naddresses = [\"192.0.2.2/24\"]\n";

fn example() -> Config {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/weir.toml");
    Config::load(&path).unwrap_or_else(|errors| panic!("{errors}")).config
}

#[track_caller]
fn good(text: &str) -> Loaded {
    Config::parse(text, "f").unwrap_or_else(|errors| panic!("{errors}"))
}

#[track_caller]
fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn timeouts([syn_received, established, fin_wait, time_wait, udp_idle]: [u64; 5]) -> Timeouts {
    Timeouts {
        syn_received: Duration::from_secs(syn_received),
        established: Duration::from_secs(established),
        fin_wait: Duration::from_secs(fin_wait),
        time_wait: Duration::from_secs(time_wait),
        udp_idle: Duration::from_secs(udp_idle),
    }
}

#[test]
fn example_becomes_this_model() {
    let expected = Config {
        node: Node {
            name: "lb-a1".into(),
            zone: "az-a".into(),
            admin: "127.0.0.1:9180".parse().unwrap(),
            admin_token_file: None,
            state_dir: "/var/lib/weir".into(),
        },
        dpdk: Dpdk {
            memory_mib: 512,
            hugepages: true,
            main_core: 0,
            worker_cores: vec![1],
            eal_args: vec![],
            idle: Idle::Backoff,
            file_prefix: "weir".into(),
            fewer_queues: FewerQueues::Refuse,
        },
        ports: vec![Port {
            name: "uplink".into(),
            device: "net_tap0,iface=weir0".into(),
            mtu: 1500,
            mac: None,
            vlan: None,
            outer_vlan: None,
            addresses: vec!["192.0.2.2/24".parse().unwrap(), "2001:db8::2/64".parse().unwrap()],
            gateways: vec![ip("192.0.2.1"), ip("2001:db8::1")],
            neighbors: vec![Neighbor {
                address: ip("192.0.2.1"),
                mac: "02:00:00:00:00:01".parse().unwrap(),
            }],
            rx_descriptors: 1024,
            tx_descriptors: 1024,
            mbufs: None,
            checksum_offload: true,
            exception: None,
        }],
        encapsulation: Encapsulation {
            source_v4: Some("192.0.2.2".parse().unwrap()),
            source_v6: Some("2001:db8::2".parse().unwrap()),
            source_entropy_v4: Some("172.16.0.0/16".parse().unwrap()),
            source_entropy_v6: Some("100::/64".parse().unwrap()),
            gue_port: 6080,
            gue_checksum_v6: true,
            dont_fragment: false,
            oversize: Oversize::Fragment,
            outer_ttl: 64,
        },
        icmp: Icmp {
            delivered_per_second: 10_000,
            sent_per_second: 1_000,
            sent_per_prefix: 10,
            port_unreachable: false,
        },
        conntrack: Conntrack { flows: 2_000_000 },
        fragments: Fragments { early: EarlyFragments::Wait, wait_ms: 500, timeout_ms: 2000 },
        pools: vec![Pool {
            id: "web".into(),
            scheduler: Scheduler::Maglev,
            table_size: 65_537,
            forwarding: Forwarding::Ipip,
            gue_variant: 1,
            second_chance: false,
            hash_secret: HashSecret([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]),
            drain: Duration::from_secs(60),
            backends: vec![Backend {
                id: "host-1".into(),
                address: ip("192.0.2.11"),
                weight: 100,
                state: BackendState::Active,
                quic_server_ids: Vec::new(),
            }],
            quic: Vec::new(),
        }],
        vips: vec![Vip {
            address: "203.0.113.1/32".parse().unwrap(),
            port: VipPort::Exact(80),
            protocol: Protocol::Tcp,
            pool: "web".into(),
            timeouts: timeouts([30, 300, 60, 60, 60]),
            affinity: Affinity::Flow,
            mss_clamp: None,
        }],
        controller: None,
    };
    assert_eq!(example(), expected);
}

#[test]
fn every_key_has_its_way_into_the_model() {
    let text = r#"
        [node]
        name = "n"
        zone = "z"
        admin = "[::1]:1"
        state_dir = "/s"
        [dpdk]
        memory_mib = 64
        hugepages = false
        main_core = 7
        worker_cores = [9, 8]
        eal_args = ["--log-level", "8"]
        idle = "spin"
        file_prefix = "w2"
        fewer_queues = "use"
        [[port]]
        name = "p"
        device = "0000:3b:00.0,rx=1"
        mtu = 9000
        mac = "02-00-00-00-00-0A"
        vlan = 100
        outer_vlan = 200
        outer_vlan_protocol = "802.1q"
        addresses = ["192.0.2.2/31", "2001:db8::2/64"]
        gateways = ["192.0.2.3", "fe80::1"]
        neighbors = [{ address = "fe80::1", mac = "02:00:00:00:00:01" }]
        rx_descriptors = 64
        tx_descriptors = 4096
        mbufs = 1024
        checksum_offload = false
        exception = "weirx0"
        exception_driver = "virtio_user"
        [encapsulation]
        source_entropy_v4 = "172.16.0.0/16"
        dont_fragment = true
        outer_ttl = 255
        gue_port = 1
        oversize = "drop"
        [icmp]
        delivered_per_second = 0
        sent_per_second = 1
        sent_per_prefix = 2
        port_unreachable = true
        [conntrack]
        flows = 1024
        [fragments]
        early = "hash"
        wait_ms = 100
        timeout_ms = 100
        [[pool]]
        id = "a:b"
        scheduler = "ring"
        table_size = 2
        forwarding = "l2dsr"
        hash_secret = "FFffFFffFFffFFffFFffFFffFFffFFff"
        drain_seconds = 0
        backend = [{ id = "x", address = "192.0.2.3", weight = 0, state = "drain" }]
        [[vip]]
        address = "203.0.113.0/28"
        port = "8000-8099"
        protocol = "any"
        pool = "a:b"
        affinity = "source"
        mss_clamp = 1400
        syn_received_seconds = 1
        established_seconds = 2
        fin_wait_seconds = 3
        time_wait_seconds = 4
        udp_idle_seconds = 86_400
    "#;
    let config = good(text).config;
    let port = &config.ports[0];
    assert_eq!((config.node.name.as_str(), config.node.zone.as_str()), ("n", "z"));
    assert_eq!(config.node.admin, "[::1]:1".parse().unwrap());
    assert_eq!(config.node.state_dir, Path::new("/s"));
    assert_eq!(
        config.dpdk,
        Dpdk {
            memory_mib: 64,
            hugepages: false,
            main_core: 7,
            worker_cores: vec![9, 8],
            eal_args: vec!["--log-level".into(), "8".into()],
            idle: Idle::Spin,
            file_prefix: "w2".into(),
            fewer_queues: FewerQueues::Use,
        }
    );
    assert_eq!((port.mtu, port.vlan, port.mbufs), (9000, Some(100), Some(1024)));
    assert_eq!(
        port.outer_vlan,
        Some(OuterVlan { identifier: 200, protocol: VlanProtocol::Ieee8021q })
    );
    assert!(!port.checksum_offload);
    let exception = port.exception.as_ref().unwrap();
    assert_eq!(
        (exception.interface.as_str(), exception.driver),
        ("weirx0", ExceptionDriver::VirtioUser)
    );
    assert_eq!((port.rx_descriptors, port.tx_descriptors), (64, 4096));
    assert_eq!(port.mac.map(|mac| mac.octets()), Some([2, 0, 0, 0, 0, 10]));
    assert_eq!(port.gateways, [ip("192.0.2.3"), ip("fe80::1")]);
    assert_eq!(port.neighbors[0].address, ip("fe80::1"));
    assert!(config.encapsulation.dont_fragment);
    assert_eq!((config.encapsulation.outer_ttl, config.encapsulation.gue_port), (255, 1));
    assert_eq!(config.encapsulation.oversize, Oversize::Drop);
    assert_eq!(
        config.icmp,
        Icmp {
            delivered_per_second: 0,
            sent_per_second: 1,
            sent_per_prefix: 2,
            port_unreachable: true,
        }
    );
    assert_eq!(config.conntrack.flows, 1024);
    let fragments = Fragments { early: EarlyFragments::Hash, wait_ms: 100, timeout_ms: 100 };
    assert_eq!(config.fragments, fragments);
    let pool = &config.pools[0];
    assert_eq!((pool.scheduler, pool.forwarding), (Scheduler::Ring, Forwarding::L2dsr));
    assert_eq!((pool.table_size, pool.drain), (2, Duration::ZERO));
    assert_eq!(pool.hash_secret, HashSecret([0xff; 16]));
    assert_eq!((pool.backends[0].weight, pool.backends[0].state), (0, BackendState::Drain));
    let vip = &config.vips[0];
    assert_eq!(vip.to_string(), "203.0.113.0/28:8000-8099/any");
    assert_eq!(vip.timeouts, timeouts([1, 2, 3, 4, 86_400]));
    assert_eq!(vip.affinity, Affinity::Source);
    assert_eq!(vip.mss_clamp, Some(MssClamp::To(1400)));
    let text = text.replace("mss_clamp = 1400", "mss_clamp = \"auto\"");
    assert_eq!(good(&text).config.vips[0].mss_clamp, Some(MssClamp::Auto));
}

#[test]
fn absent_sections_are_all_defaults() {
    let config = good(LEAST).config;
    let example = example();
    assert_eq!(config.dpdk, example.dpdk);
    assert_eq!(config.conntrack, example.conntrack);
    assert_eq!(config.fragments, example.fragments);
    assert_eq!(config.node.name, "weir");
    assert_eq!(config.node.zone, "default");
    assert_eq!(config.node.admin, example.node.admin);
    assert_eq!(config.encapsulation.source_v4, None);
    assert!(config.encapsulation.dont_fragment, "without an entropy prefix, DF is set");
    assert_eq!((config.pools, config.vips), (vec![], vec![]));
}

#[test]
fn vips_print_as_in_metrics_and_replay() {
    let vip = |address: &str, port, protocol| {
        let address = address.parse().unwrap();
        let (pool, timeouts, affinity) = (String::new(), timeouts([1; 5]), Affinity::Flow);
        Vip { address, port, protocol, pool, timeouts, affinity, mss_clamp: None }.to_string()
    };
    let range = VipPort::Range { first: 1, last: 2 };
    assert_eq!(vip("203.0.113.1/32", VipPort::Exact(80), Protocol::Tcp), "203.0.113.1:80/tcp");
    assert_eq!(vip("203.0.113.0/28", VipPort::Any, Protocol::Udp), "203.0.113.0/28:any/udp");
    assert_eq!(vip("2001:db8::1/128", range, Protocol::Any), "[2001:db8::1]:1-2/any");
    assert_eq!(vip("2001:db8::/64", range, Protocol::Any), "[2001:db8::/64]:1-2/any");
}

#[test]
fn doubtful_files_load_with_a_warning_for_each_doubt() {
    let text = r#"[dpdk]
worker_cores = [0, 1]
[[port]]
name = "p"
device = "d"
mtu = 1279
addresses = ["192.0.2.2/24", "2001:db8::2/64"]
[[port]]
name = "q"
device = "e"
addresses = ["192.0.2.3/25"]
[[pool]]
id = "unused"
hash_secret = "000102030405060708090a0b0c0d0e0f"
[[pool]]
id = "small"
table_size = 251
[[pool.backend]]
id = "a"
address = "10.0.0.1"
[[pool.backend]]
id = "b"
address = "192.0.2.9"
weight = 0
[[pool.backend]]
id = "c"
address = "192.0.2.9"
[[pool.backend]]
id = "d"
address = "192.0.2.8"
[[pool]]
id = "idle"
hash_secret = "000102030405060708090a0b0c0d0e0f"
backend = [
  { id = "a", address = "192.0.2.7", state = "drain" },
  { id = "b", address = "192.0.2.6", weight = 0 },
]
[[vip]]
address = "203.0.113.1"
port = 80
protocol = "tcp"
pool = "small"
[[vip]]
address = "203.0.113.1"
port = 81
protocol = "tcp"
pool = "idle"
"#;
    let warnings: Vec<_> = good(text).warnings.iter().map(ToString::to_string).collect();
    let expected = [
        "f:2: [dpdk]: core 0 is main_core and in worker_cores: the worker shares it",
        "f:6: port \"p\": mtu = 1279 is below IPv6's minimum of 1280 bytes",
        "f:11: port \"q\": addresses: \"192.0.2.3/25\" overlaps a prefix of port \"p\" at line 3: \
         which port leads there is ambiguous",
        "f:12: pool \"unused\": no vip uses it",
        "f:15: pool \"small\": hash_secret is missing and is derived from the pool's id, which an \
         attacker can do too (expected 32 random hex digits, the same on every node)",
        "f:17: pool \"small\": table_size = 251 is less than 100 slots for each backend, so shares \
         will be uneven (recommended is a prime of at least 300)",
        "f:20: pool \"small\": backend \"a\": address = \"10.0.0.1\" cannot be reached: it is not \
         on-link, and no port has an IPv4 gateway",
        "f:27: pool \"small\": backend \"c\": address = \"192.0.2.9\" is also the address of the \
         backend at line 23",
        "f:31: pool \"idle\": has vips, and no backend that takes new flows (one active with a \
         weight above 0)",
    ];
    assert_eq!(warnings, expected);
    let nothing: Vec<_> = good(LEAST).warnings.iter().map(ToString::to_string).collect();
    assert_eq!(nothing, ["f:1: no [[vip]]: the node forwards nothing"]);
}

#[test]
fn pools_without_a_secret_get_the_same_one_on_every_node() {
    let text = format!("{LEAST}[[pool]]\nid = \"web\"\n");
    assert_eq!(good(&text).config.pools[0].hash_secret, HashSecret::derived_from("web"));
}

#[test]
fn an_mtu_that_a_virtual_device_is_known_not_to_carry_is_warned_of() {
    let warnings = |device: &str, mtu: u16| -> Vec<String> {
        let text = format!(
            "[[port]]\nname = \"p\"\nmtu = {mtu}\ndevice = \"{device}\"\naddresses = [\"192.0.2.2/24\"]\n"
        );
        good(&text).warnings.iter().map(ToString::to_string).collect()
    };
    let said = warnings("net_tap0,iface=weir0", 9000);
    let expected = "f:3: port \"p\": mtu = 9000 is more than device = \"net_tap0,iface=weir0\" \
                    carries (DPDK 22.11: 1504 bytes), and weir run would refuse it";
    assert_eq!(said.last().map(String::as_str), Some(expected), "{said:?}");
    let ring = "net_af_packet0,iface=eth1";
    assert!(warnings(ring, 9000).iter().any(|said| said.contains("1946 bytes")));
    let warns = |device: &str, mtu| warnings(device, mtu).iter().any(|said| said.contains("mtu ="));
    assert!(!warns(&format!("{ring},framesz=12288,blocksz=12288"), 9000));
    assert!(!warns(ring, 1946) && !warns("net_tap0", 1504) && !warns("0000:3b:00.0", 9000));
}
