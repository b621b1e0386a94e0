//! Links: modes that rewrite the link header, several ports.

use super::{CLIENT, Case, Expected, PORT, Sent, VIP, WEB, WEB_VIP, config, padded};
use crate::support::{finish, tcp};

fn syn() -> Vec<u8> {
    finish(tcp(CLIENT, VIP, 1000).syn(), &[])
}

/// The second link, tagged; its only neighbour is a backend.
pub(super) const TAGGED_PORT: &str = r#"[[port]]
name = "backends"
device = "net_tap1,iface=weir1"
mac = "02:00:00:00:00:02"
vlan = 100
mtu = 1400
addresses = ["198.18.0.2/24"]
neighbors = [{ address = "198.18.0.5", mac = "02:00:00:00:20:05" }]
"#;

/// Pool `web` of one backend on a link.
pub(super) fn web_at(id: &str, address: &str, keys: &str) -> String {
    WEB.replace("host-1", id).replace("10.0.0.1", address).replacen(
        "id = \"web\"\n",
        &format!("id = \"web\"\n{keys}\n"),
        1,
    )
}

pub(super) fn cases() -> Vec<Case> {
    let near = PORT.replace(
        "neighbors = [",
        "neighbors = [{ address = \"192.0.2.21\", mac = \"02:00:00:00:10:15\" }, ",
    );
    let direct = |frame| Sent::new(frame, Expected::l2dsr(WEB_VIP, "web", "near-21"));
    vec![
        Case::new(
            "l2dsr",
            "The frame goes to the backend's own link address, and the IP packet is left as it is, \
             its time to live too; only padding goes.",
            config(&[&near, &web_at("near-21", "192.0.2.21", "forwarding = \"l2dsr\"")]),
            vec![
                direct(syn()),
                direct(padded(syn())),
                // 1500 bytes: the whole link is the packet's.
                direct(finish(tcp(CLIENT, VIP, 2).ack(3), &[0x55; 1460])),
                Sent::dropped_at(
                    finish(tcp(CLIENT, VIP, 2).ack(3), &[0x55; 1461]),
                    "too_big",
                    WEB_VIP,
                    "web",
                    Some("near-21"),
                )
                .told(3, 4, 1500, "203.0.113.1"),
            ],
        ),
        Case::new(
            "on-link-backend",
            "A backend on the node's own link is reached directly, not by the gateway.",
            config(&[&near, &web_at("near-21", "192.0.2.21", "")]),
            vec![Sent::new(syn(), Expected::ipip(WEB_VIP, "web", "near-21"))],
        ),
        Case::new(
            "no-route",
            "A backend that is neither on-link nor behind a gateway has its packets dropped at once.",
            config(&[&near, &web_at("far-5", "198.18.0.5", "")]).replace("gateways", "# gateways"),
            vec![Sent::dropped_at(syn(), "no_route", WEB_VIP, "web", Some("far-5"))],
        ),
        second_port(),
        any_mac(),
    ]
}

fn second_port() -> Case {
    let web = web_at("tagged-5", "198.18.0.5", "");
    let mut case = Case::new(
        "second-port",
        "A backend on another port's link is reached there, with that link's tag and its MTU.",
        config(&[PORT, TAGGED_PORT, &web]),
        vec![
            Sent::new(syn(), Expected::ipip(WEB_VIP, "web", "tagged-5")),
            Sent::new(
                finish(tcp(CLIENT, VIP, 2).ack(3), &[0x55; 1340]),
                Expected::ipip(WEB_VIP, "web", "tagged-5"),
            ),
            Sent::dropped_at(
                finish(tcp(CLIENT, VIP, 2).ack(3), &[0x55; 1341]),
                "too_big",
                WEB_VIP,
                "web",
                Some("tagged-5"),
            )
            .told(3, 4, 1380, "203.0.113.1"),
        ],
    );
    case.outer.source = ([198, 18, 0, 2], 32);
    case
}

/// Without a `mac` replay takes frames for any station; the node answers from a fixed address.
fn any_mac() -> Case {
    let port = PORT.replace("mac = \"02:00:00:00:00:02\"\naddresses", "addresses");
    let mut frame = syn();
    frame[..6].copy_from_slice(&[0x9c, 0xdc, 0x71, 1, 2, 3]);
    Case::new(
        "any-mac",
        "In a replay a port without a configured address takes frames for any station, so that a \
         capture from elsewhere can be replayed.",
        config(&[&port, WEB]),
        vec![Sent::web(frame), Sent::web(syn())],
    )
}
