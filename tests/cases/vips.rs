//! Which VIP a packet is for, and how flows spread over a pool.

use etherparse::Ipv4Header;

use super::flows::{of_protocol, web_of};
use super::{CLIENT, Case, Expected, PORT, Sent, config};
use crate::support::{finish, tcp, udp};

/// A pool of one backend and its VIPs: (address, port, protocol).
fn pool(id: &str, backend: &str, vips: &[(&str, &str, &str)]) -> String {
    let address = super::place(backend).address;
    let mut text = format!(
        "[[pool]]\nid = \"{id}\"\nhash_secret = \"000102030405060708090a0b0c0d0e0f\"\n\n  \
         [[pool.backend]]\n  id = \"{backend}\"\n  address = \"{address}\"\n"
    );
    for (address, port, protocol) in vips {
        text += &format!(
            "\n[[vip]]\naddress = \"{address}\"\nport = {port}\nprotocol = \"{protocol}\"\n\
             pool = \"{id}\"\n"
        );
    }
    text
}

fn syn(address: [u8; 4], port: u16) -> Vec<u8> {
    finish(tcp(CLIENT, (address, port), 1000).syn(), &[])
}

fn to(frame: Vec<u8>, vip: &'static str, pool: &'static str, backend: &'static str) -> Sent {
    Sent::new(frame, Expected::ipip(vip, pool, backend))
}

pub(super) fn cases() -> Vec<Case> {
    vec![ports(), prefixes(), protocols(), no_backend(), spread(), ring()]
}

fn ports() -> Case {
    let vip = "203.0.113.1";
    let at = |port| syn([203, 0, 113, 1], port);
    Case::new(
        "vip-ports",
        "The exact port wins over a range, a range over \"any\"; each of a range's ends belongs to \
         it.",
        config(&[
            PORT,
            &pool("one", "host-1", &[(vip, "8080", "tcp")]),
            &pool("range", "host-2", &[(vip, "\"8000-8099\"", "tcp")]),
            &pool("rest", "host-3", &[(vip, "\"any\"", "tcp")]),
        ]),
        vec![
            to(at(8080), "203.0.113.1:8080/tcp", "one", "host-1"),
            to(at(8000), "203.0.113.1:8000-8099/tcp", "range", "host-2"),
            to(at(8099), "203.0.113.1:8000-8099/tcp", "range", "host-2"),
            to(at(7999), "203.0.113.1:any/tcp", "rest", "host-3"),
            to(at(8100), "203.0.113.1:any/tcp", "rest", "host-3"),
            to(at(1), "203.0.113.1:any/tcp", "rest", "host-3"),
            to(at(65535), "203.0.113.1:any/tcp", "rest", "host-3"),
            Sent::dropped(udp(CLIENT, ([203, 0, 113, 1], 8080), b"x"), "no_vip"),
        ],
    )
}

fn prefixes() -> Case {
    let at = |last| syn([203, 0, 113, last], 80);
    Case::new(
        "vip-prefixes",
        "The longest prefix wins, before ports are looked at.",
        config(&[
            PORT,
            &pool("wide", "host-1", &[("203.0.113.0/24", "80", "tcp")]),
            &pool("narrow", "host-2", &[("203.0.113.16/28", "\"any\"", "tcp")]),
            &pool("single", "host-3", &[("203.0.113.17", "443", "tcp")]),
        ]),
        vec![
            to(at(0), "203.0.113.0/24:80/tcp", "wide", "host-1"),
            to(at(255), "203.0.113.0/24:80/tcp", "wide", "host-1"),
            to(at(16), "203.0.113.16/28:any/tcp", "narrow", "host-2"),
            to(at(31), "203.0.113.16/28:any/tcp", "narrow", "host-2"),
            to(at(32), "203.0.113.0/24:80/tcp", "wide", "host-1"),
            to(syn([203, 0, 113, 17], 443), "203.0.113.17:443/tcp", "single", "host-3"),
            // The single address has no port 80; the prefix around it has.
            to(at(17), "203.0.113.16/28:any/tcp", "narrow", "host-2"),
            Sent::dropped(syn([203, 0, 114, 0], 80), "no_vip"),
            Sent::dropped(syn([203, 0, 113, 1], 81), "no_vip"),
        ],
    )
}

fn protocols() -> Case {
    let all = "203.0.113.1:any/any";
    Case::new(
        "vip-of-any-protocol",
        "A VIP of any port and protocol takes what has no ports (GRE, ESP, IPIP as it comes); other \
         VIPs do not, and tunnelled packets are never unpacked.",
        config(&[
            PORT,
            &pool("all", "host-1", &[("203.0.113.1", "\"any\"", "any")]),
            &pool("dns", "host-2", &[("203.0.113.2", "53", "any")]),
        ]),
        vec![
            to(of_protocol(47), all, "all", "host-1"),
            to(of_protocol(50), all, "all", "host-1"),
            to(of_protocol(4), all, "all", "host-1"),
            to(of_protocol(0), all, "all", "host-1"),
            to(syn([203, 0, 113, 1], 1), all, "all", "host-1"),
            to(udp(CLIENT, ([203, 0, 113, 2], 53), b"x"), "203.0.113.2:53/any", "dns", "host-2"),
            to(syn([203, 0, 113, 2], 53), "203.0.113.2:53/any", "dns", "host-2"),
            Sent::dropped(gre_to([203, 0, 113, 2]), "no_vip"),
        ],
    )
}

fn gre_to(address: [u8; 4]) -> Vec<u8> {
    let header = Ipv4Header::new(0, 64, etherparse::IpNumber(47), CLIENT.0, address).unwrap();
    super::ipv4(&header, &[0, 0, 8, 0])
}

fn no_backend() -> Case {
    let drained = web_of(&[("host-1", "state = \"drain\""), ("host-2", "weight = 0")]);
    let empty = pool("empty", "host-3", &[("203.0.113.3", "80", "tcp")]);
    let (empty, vip) = empty.split_once("\n  [[pool.backend]]").unwrap();
    let vip = &vip[vip.find("[[vip]]").unwrap()..];
    Case::new(
        "no-backend",
        "A pool without backends, or of which none may have new flows, drops and says so.",
        config(&[PORT, &drained, empty, vip]),
        vec![
            Sent::dropped_at(
                syn([203, 0, 113, 1], 80),
                "no_backend",
                "203.0.113.1:80/tcp",
                "web",
                None,
            ),
            Sent::dropped_at(
                syn([203, 0, 113, 3], 80),
                "no_backend",
                "203.0.113.3:80/tcp",
                "empty",
                None,
            ),
        ],
    )
}

/// Which of three backends a flow is given is the hash's business; these were computed once, and
/// every node and every release must come to the same.
fn spread_over(name: &'static str, sentence: &'static str, keys: &str, chosen: &str) -> Case {
    let web = web_of(&[("host-1", ""), ("host-2", "weight = 200"), ("host-3", "")]);
    let web = web.replacen("id = \"web\"\n", &format!("id = \"web\"\n{keys}\n"), 1);
    let backends = ["host-1", "host-2", "host-3"];
    let sent = chosen.chars().zip(50_000u16..).map(|(digit, port)| {
        let backend = backends[digit.to_digit(10).unwrap() as usize - 1];
        let frame = finish(tcp((CLIENT.0, port), super::VIP, 1).syn(), &[]);
        to(frame, super::WEB_VIP, "web", backend)
    });
    Case::new(name, sentence, config(&[PORT, &web]), sent.collect())
}

fn spread() -> Case {
    spread_over(
        "maglev-spread",
        "Flows spread over three backends by Maglev's table, in proportion to the weights: the \
         choice of each is part of the contract between nodes.",
        "table_size = 1009",
        "32121233231123213232322332222323",
    )
}

fn ring() -> Case {
    spread_over(
        "ring-spread",
        "The same flows by the consistent hash ring.",
        "scheduler = \"ring\"",
        "22211223322231333232322233313131",
    )
}
