//! Which changes a reload can apply.

use config::{
    Config, Exception, ExceptionDriver, FewerQueues, Idle, Neighbor, OuterVlan, VlanProtocol,
};
use std::path::Path;

fn example(name: &str) -> Config {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples").join(name);
    Config::load(&path).unwrap_or_else(|errors| panic!("{errors}")).config
}

#[test]
fn pools_vips_and_encapsulation_can_all_change_while_packets_flow() {
    let (running, mut other) = (example("hardware.toml"), example("hardware.toml"));
    assert_eq!(running.restart_required(&other), [""; 0]);
    let donor = example("weir.toml");
    other.pools = donor.pools;
    other.vips = donor.vips;
    other.encapsulation = donor.encapsulation;
    assert_eq!(running.restart_required(&other), [""; 0]);
}

#[test]
fn every_restart_key_is_named_when_it_differs() {
    let (running, mut other) = (example("weir.toml"), example("weir.toml"));
    other.node.name.push('x');
    other.node.zone.push('x');
    other.node.admin.set_port(1);
    other.node.admin_token_file = Some("/t".into());
    other.node.state_dir.push("x");
    other.dpdk.memory_mib += 1;
    other.dpdk.hugepages = false;
    other.dpdk.main_core += 1;
    other.dpdk.worker_cores.push(2);
    other.dpdk.idle = Idle::Spin;
    other.dpdk.fewer_queues = FewerQueues::Use;
    other.dpdk.file_prefix.push('x');
    other.dpdk.eal_args.push("x".into());
    other.conntrack.flows += 1;
    let port = &mut other.ports[0];
    port.device.push('x');
    port.addresses.pop();
    port.gateways.pop();
    let mac = "02:00:00:00:00:09".parse().unwrap();
    port.neighbors.push(Neighbor { address: "192.0.2.9".parse().unwrap(), mac });
    port.mtu += 1;
    port.mac = Some(mac);
    port.vlan = Some(1);
    port.outer_vlan = Some(OuterVlan { identifier: 1, protocol: VlanProtocol::Ieee8021ad });
    port.rx_descriptors *= 2;
    port.tx_descriptors *= 2;
    port.mbufs = Some(65_536);
    port.checksum_offload = false;
    port.exception = Some(Exception { interface: "weirx0".into(), driver: ExceptionDriver::Tap });

    let expected = [
        "[node] name",
        "[node] zone",
        "[node] admin",
        "[node] admin_token_file",
        "[node] state_dir",
        "[dpdk] memory_mib",
        "[dpdk] hugepages",
        "[dpdk] main_core",
        "[dpdk] worker_cores",
        "[dpdk] idle",
        "[dpdk] fewer_queues",
        "[dpdk] file_prefix",
        "[dpdk] eal_args",
        "port \"uplink\": device",
        "port \"uplink\": addresses",
        "port \"uplink\": gateways",
        "port \"uplink\": neighbors",
        "port \"uplink\": mtu",
        "port \"uplink\": mac",
        "port \"uplink\": vlan",
        "port \"uplink\": outer_vlan",
        "port \"uplink\": rx_descriptors",
        "port \"uplink\": tx_descriptors",
        "port \"uplink\": mbufs",
        "port \"uplink\": checksum_offload",
        "port \"uplink\": exception",
        "[conntrack] flows",
    ];
    assert_eq!(running.restart_required(&other), expected);
}

#[test]
fn ports_that_come_go_or_change_places_need_a_restart() {
    let running = example("hardware.toml");
    let mut swapped = running.clone();
    swapped.ports.swap(0, 1);
    assert_eq!(running.restart_required(&swapped), ["[[port]]: order"]);

    let mut renamed = running.clone();
    renamed.ports[1].name = "racks".into();
    let expected = ["port \"servers\": removed", "port \"racks\": added"];
    assert_eq!(running.restart_required(&renamed), expected);
}
