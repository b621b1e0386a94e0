//! `[[port]]`.

use super::{check, check_file};

#[test]
fn addresses_are_those_of_machines() {
    check(
        "\"192.0.2.2/24\", ",
        "\"192.0.2.0/24\", ",
        "weir.toml:12: port \"uplink\": addresses: \"192.0.2.0/24\" is the address of its \
         network (expected the address of one machine)",
    );
    check(
        "\"192.0.2.2/24\", ",
        "\"192.0.2.255/24\", ",
        "weir.toml:12: port \"uplink\": addresses: \"192.0.2.255/24\" is the broadcast \
         address of its network (expected the address of one machine)",
    );
    check(
        "\"192.0.2.2/24\", ",
        "\"192.0.2.2\", ",
        "weir.toml:12: port \"uplink\": addresses: \"192.0.2.2\" is not an IP address with \
         prefix length (expected one such as \"192.0.2.2/24\")",
    );
    check(
        "\"192.0.2.2/24\", ",
        "\"192.0.2.2/24\", \"192.0.2.2/25\", ",
        "weir.toml:12: port \"uplink\": addresses: \"192.0.2.2/25\" is there twice (expected \
         each address once)",
    );
    check(
        "\"192.0.2.2/24\", ",
        "\"192.0.2.2/24\", \"127.0.0.1/8\", ",
        "weir.toml:12: port \"uplink\": addresses: \"127.0.0.1/8\" is a loopback address \
         (expected the address of one machine)",
    );
}

#[test]
fn a_port_has_an_address() {
    check(
        "name = \"uplink\"\ndevice = \"net_tap0,iface=weir0\"\naddresses = [\"192.0.2.2/24\", \"2001:db8::2/64\"]\ngateways = [\"192.0.2.1\"]\nneighbors = [{ address = \"192.0.2.1\", mac = \"02:00:00:00:00:01\" }]",
        "name = \"uplink\"\ndevice = \"net_tap0\"\naddresses = []",
        "weir.toml:12: port \"uplink\": addresses = [] holds no address (expected at least \
         one)",
    );
}

#[test]
fn gateways_are_on_link() {
    check(
        "gateways = [\"192.0.2.1\"]",
        "gateways = [\"192.0.3.1\"]",
        "weir.toml:13: port \"uplink\": gateways: \"192.0.3.1\" is not on-link: in the \
         prefix of none of the port's addresses (expected the address of a machine on this \
         port's link)",
    );
    check(
        "gateways = [\"192.0.2.1\"]",
        "gateways = [\"192.0.2.1\", \"192.0.2.1\"]",
        "weir.toml:13: port \"uplink\": gateways: \"192.0.2.1\" is there twice (expected \
         each gateway once)",
    );
    check(
        "gateways = [\"192.0.2.1\"]",
        "gateways = [\"192.0.2.2\"]",
        "weir.toml:13: port \"uplink\": gateways: \"192.0.2.2\" is the node's own address \
         (expected the address of a machine on this port's link)",
    );
    check(
        "gateways = [\"192.0.2.1\"]",
        "gateways = [\"192.0.2.255\"]",
        "weir.toml:13: port \"uplink\": gateways: \"192.0.2.255\" is the broadcast address \
         of its network (expected the address of a machine on this port's link)",
    );
    check(
        "gateways = [\"192.0.2.1\"]",
        "gateways = [\"router\"]",
        "weir.toml:13: port \"uplink\": gateways: \"router\" is not an IP address (expected \
         one such as \"192.0.2.1\")",
    );
}

#[test]
fn neighbors_are_on_link_stations() {
    check(
        "{ address = \"192.0.2.1\", mac",
        "{ address = \"192.0.3.1\", mac",
        "weir.toml:14: port \"uplink\": neighbors: address = \"192.0.3.1\" is not on-link: \
         in the prefix of none of the port's addresses (expected the address of a machine on \
         this port's link)",
    );
    check(
        "mac = \"02:00:00:00:00:01\"",
        "mac = \"01:00:00:00:00:01\"",
        "weir.toml:14: port \"uplink\": neighbors: mac = \"01:00:00:00:00:01\" is not a \
         unicast address (expected the address of one station: first byte even, not all \
         zeros)",
    );
    check(
        "mac = \"02:00:00:00:00:01\"",
        "mac = \"02:00:00:00:00\"",
        "weir.toml:14: port \"uplink\": neighbors: mac = \"02:00:00:00:00\" is not a MAC \
         address (expected one such as \"02:00:00:00:00:01\")",
    );
    check(
        "\"02:00:00:00:00:01\" }]",
        "\"02:00:00:00:00:01\" },\n{ address = \"192.0.2.1\", mac = \"02:00:00:00:00:02\" }]",
        "weir.toml:15: port \"uplink\": neighbors: address = \"192.0.2.1\" is there twice \
         (expected each neighbor once)",
    );
}

#[test]
fn descriptors_are_a_power_of_two() {
    check(
        "name = \"uplink\"",
        "name = \"uplink\"\nrx_descriptors = 1000",
        "weir.toml:11: port \"uplink\": rx_descriptors = 1000 is not a power of two \
         (expected a power of two; nearest are 512 and 1024)",
    );
    check(
        "name = \"uplink\"",
        "name = \"uplink\"\ntx_descriptors = 8192",
        "weir.toml:11: port \"uplink\": tx_descriptors = 8192 is out of range (expected 64 \
         to 4096, a power of two)",
    );
}

#[test]
fn mbufs_fill_the_receive_queues() {
    check(
        "name = \"uplink\"",
        "name = \"uplink\"\nmbufs = 2047",
        "weir.toml:11: port \"uplink\": mbufs = 2047 cannot fill the receive queues \
         (expected at least 2048: 1024 rx_descriptors for each of 2 workers)",
    );
}

#[test]
fn mtu_vlan_and_mac_stay_in_their_ranges() {
    check(
        "name = \"uplink\"",
        "name = \"uplink\"\nmtu = 575",
        "weir.toml:11: port \"uplink\": mtu = 575 is out of range (expected 576 to 9216)",
    );
    check(
        "name = \"uplink\"",
        "name = \"uplink\"\nvlan = 4095",
        "weir.toml:11: port \"uplink\": vlan = 4095 is out of range (expected 1 to 4094)",
    );
    check(
        "name = \"uplink\"",
        "name = \"uplink\"\nouter_vlan = 200",
        "weir.toml:11: port \"uplink\": outer_vlan = 200 has no tag to go around (expected vlan, \
         too: the tag inside; a port with one tag has it in vlan)",
    );
    check(
        "name = \"uplink\"",
        "name = \"uplink\"\nvlan = 100\nouter_vlan = 200\nouter_vlan_protocol = \"802.1x\"",
        "weir.toml:13: port \"uplink\": outer_vlan_protocol = \"802.1x\" is not known (expected \
         \"802.1ad\" or \"802.1q\")",
    );
    check(
        "name = \"uplink\"",
        "name = \"uplink\"\nmac = \"ff:ff:ff:ff:ff:ff\"",
        "weir.toml:11: port \"uplink\": mac = \"ff:ff:ff:ff:ff:ff\" is not a unicast address \
         (expected the address of one station: first byte even, not all zeros)",
    );
}

#[test]
fn devices_are_names_without_blanks() {
    check(
        "\"net_tap0,iface=weir0\"",
        "\"\"",
        "weir.toml:11: port \"uplink\": device = \"\" is empty (expected a DPDK device such \
         as \"net_tap0,iface=weir0\", or a PCI address such as \"0000:3b:00.0\")",
    );
    check(
        "\"net_tap0,iface=weir0\"",
        "\"net_tap0, iface=weir0\"",
        "weir.toml:11: port \"uplink\": device = \"net_tap0, iface=weir0\" holds a blank \
         (expected a DPDK device such as \"net_tap0,iface=weir0\", or a PCI address such as \
         \"0000:3b:00.0\")",
    );
}

#[test]
fn ports_are_unique_in_name_device_and_address() {
    check(
        "[encapsulation]\n",
        "[[port]]\nname = \"uplink\"\ndevice = \"net_tap1\"\naddresses = [\"198.51.100.2/24\"]\n\n[encapsulation]\n",
        "weir.toml:16: port \"uplink\": name = \"uplink\" is already the name of the port at \
         line 9 (expected a unique name)",
    );
    check(
        "[encapsulation]\n",
        "[[port]]\nname = \"second\"\ndevice = \"net_tap0\"\naddresses = [\"198.51.100.2/24\"]\n\n[encapsulation]\n",
        "weir.toml:18: port \"second\": device = \"net_tap0\" is already used at line 11 \
         (expected another device)",
    );
    check(
        "[encapsulation]\n",
        "[[port]]\nname = \"second\"\ndevice = \"net_tap1\"\naddresses = [\"192.0.2.2/25\"]\n\n[encapsulation]\n",
        "weir.toml:19: port \"second\": addresses: \"192.0.2.2/25\" is already an address at \
         line 12 (expected each address once)",
    );
}

#[test]
fn a_node_has_a_port() {
    check_file(
        "[node]\nname = \"a\"\n",
        "weir.toml:1: port is missing (expected tables, each written [[port]])",
    );
    check_file("port = []\n", "weir.toml:1: 0 [[port]] tables (expected 1 to 32)");
    check_file(
        "[port]\nname = \"a\"\n",
        "weir.toml:1: port is a table (expected tables, each written [[port]])",
    );
}

#[test]
fn lists_of_a_port_stay_short() {
    let addresses: Vec<_> = (0..65).map(|n| format!("\"192.0.2.{}/24\"", n + 2)).collect();
    let text =
        format!("[[port]]\nname = \"p\"\ndevice = \"d\"\naddresses = [{}]\n", addresses.join(", "));
    check_file(
        &text,
        "weir.toml:4: port \"p\": addresses = [\"192.0.2.2/24\", \"192.0.2.3/24\", \"192.0.2.4/24\", \
         \"192.0.2.5/... has 65 elements (expected at most 64)",
    );
}

#[test]
fn an_exception_interface_has_a_name_that_linux_takes_and_no_other_port_has() {
    for wrong in ["", "weirx0,mac=1", "an-interface-of-16", "-x", "a/b"] {
        check(
            "name = \"uplink\"",
            &format!("name = \"uplink\"\nexception = \"{wrong}\""),
            &format!(
                "weir.toml:11: port \"uplink\": exception = \"{wrong}\" is not one (expected a name \
                 for a new interface of the kernel, 1 to 15 letters, digits and _ - ., a letter or \
                 digit first, such as \"weirx0\")"
            ),
        );
    }
    check(
        "name = \"uplink\"",
        "name = \"uplink\"\nexception = \"weirx0\"\nexception_driver = \"veth\"",
        "weir.toml:12: port \"uplink\": exception_driver = \"veth\" is not known (expected \
         \"tap\" or \"virtio_user\")",
    );
    check(
        "name = \"uplink\"",
        "name = \"second\"\ndevice = \"net_tap1\"\naddresses = [\"198.18.0.2/24\"]\n\
         exception = \"weirx0\"\n[[port]]\nname = \"uplink\"\nexception = \"weirx0\"",
        "weir.toml:16: port \"uplink\": exception = \"weirx0\" is already used at line 13 \
         (expected another interface)",
    );
}
