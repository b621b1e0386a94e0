//! A node on a tagged cable: a program in the switch's kernel takes tags off and puts them on, and
//! drops every frame of the node that has not exactly the configured ones.

use crate::lab::{Lab, VIP, VIP6, is_root, text};

/// What is asked of the node in both families, and by its kernel where that has an interface.
fn a_tagged_node_serves(options: &[&str], exception: bool) {
    if !is_root() {
        return;
    }
    let mut lab = Lab::up(&[options, &["--backends", "2", "--families", "46"]].concat());
    let mut config = lab.config(&["--hugepages", "false"]);
    assert!(config.contains("vlan = 100"), "{config}");
    if exception {
        config = config.replace("[conntrack]", "exception = \"weirx0\"\n\n[conntrack]");
        // The node's kernel answers ARP for the address of weirx0 on no other interface.
        let sysctl = lab.on("node", &["sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=1"]);
        assert!(sysctl.status.success(), "{}", text(&sysctl.stderr));
    }
    lab.start_node(&config);
    for (vip, url) in [
        (VIP, format!("http://{VIP}")),
        // Brackets without a backslash are a range to curl.
        (VIP6, format!("http://\\[{VIP6}\\]")),
    ] {
        let ping = lab.on("client", &["ping", "-q", "-c", "3", "-i", "0.2", "-W", "10", vip]);
        assert!(ping.status.success(), "{}", text(&ping.stdout));
        let answers = lab.requests_to(&url, 100);
        let failed: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
        assert!(failed.is_empty(), "{vip}: {} failed, such as {:?}", failed.len(), failed.first());
    }
    if exception {
        let address = lab.on("node", &["ip", "address", "add", "192.0.2.2/24", "dev", "weirx0"]);
        assert!(address.status.success(), "{}", text(&address.stderr));
        // An echo request of the kernel's own, its ARP before it, and the answers to both.
        let ping =
            lab.on("node", &["ping", "-q", "-c", "3", "-i", "0.2", "-W", "10", "192.0.2.10"]);
        assert!(ping.status.success(), "{}", text(&ping.stdout));
    }
    for reason in ["other_vlan", "unknown_ethertype", "frame_too_short", "no_headroom"] {
        assert_eq!(lab.metric(&format!("weir_drops_total{{reason=\"{reason}\"}}")), 0, "{reason}");
    }
    assert_eq!(lab.stop_node("-TERM"), Some(0), "{}", lab.log());
}

#[test]
fn a_tagged_cable() {
    a_tagged_node_serves(&["--port", "net_tap", "--vlan", "100"], true);
}

#[test]
fn a_doubly_tagged_cable() {
    let options = ["--port", "net_tap", "--vlan", "100", "--outer-vlan", "200"];
    a_tagged_node_serves(&options, true);
}

/// The driver puts back as 802.1Q what the kernel took off as 802.1ad.
#[test]
fn a_doubly_tagged_cable_whose_driver_does_not_keep_the_kind_of_tag() {
    let options = ["--port", "net_af_packet", "--vlan", "100", "--outer-vlan", "200"];
    a_tagged_node_serves(&options, false);
}
