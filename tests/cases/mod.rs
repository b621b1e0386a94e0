//! The golden cases: what is sent, and what must come of each packet.
//!
//! A case is written down twice and independently: here, as packets made in code with the
//! outcome that the contract asks for, and in its folder, as the bytes that once came out. The
//! test holds the program to both. One configuration and the frames of one node serve most
//! cases; what differs is in the case.

mod affinity;
mod answers;
mod drops;
mod exception;
mod flows;
mod fragments;
mod icmp;
mod ipv6;
mod ipv6_drops;
mod ipv6_flows;
pub(crate) mod judge;
mod judge_icmp;
mod judge_ipv6;
mod judge_tunnel;
mod links;
mod ndp;
mod neighbours;
mod refused;
mod tags;
mod tunnels;
mod vips;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{IpHeaders, Ipv4Header, PacketBuilder};

use crate::support::{GATEWAY_MAC, NODE_MAC, START};

/// A golden case; its folder is `tests/golden/NAME`.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// The README: what the case shows.
    pub(crate) sentence: &'static str,
    pub(crate) config: String,
    pub(crate) sent: Vec<Sent>,
    /// Other configurations, and the packet before which each takes effect.
    pub(crate) reloads: Vec<(usize, String)>,
    /// What outer headers look like.
    pub(crate) outer: Outer,
}

/// A packet and what must come of it.
#[derive(Clone)]
pub(crate) struct Sent {
    /// Nanoseconds since 1970.
    pub(crate) time: u64,
    pub(crate) frame: Vec<u8>,
    pub(crate) expected: Expected,
}

/// A line of `replay --json`, and the packets that go out.
#[derive(Clone)]
pub(crate) struct Expected {
    pub(crate) verdict: &'static str,
    pub(crate) reason: Option<&'static str>,
    pub(crate) vip: Option<&'static str>,
    pub(crate) pool: Option<&'static str>,
    pub(crate) backend: Option<&'static str>,
    pub(crate) outputs: Vec<Out>,
    /// How many of them, at the front, the node sends of its own accord.
    pub(crate) unasked: usize,
}

/// A packet that goes out.
#[derive(Clone, Debug)]
pub(crate) enum Out {
    /// The packet sent as number `of` (`None`: this one) in an outer header to a backend.
    Ipip { of: Option<usize>, backend: &'static str },
    /// This packet in GRE to a backend.
    Gre { backend: &'static str },
    /// This packet in GUE, variant 1, to a backend.
    Gue { backend: &'static str },
    /// This packet in GUE, variant 0, to a backend; with private data where a snapshot's version is
    /// given, which name this hop.
    GueHeader { backend: &'static str, version: Option<u32>, hop: Option<&'static str> },
    /// As above, the IP packet as it was.
    L2dsr { backend: &'static str },
    /// The answer to this ping.
    Echo,
    /// The answer to this ARP request, from the address that was asked for.
    Arp,
    /// The answer to this straggler.
    Reset,
    /// The ICMP error about this packet.
    Error(Error),
    /// One more fragment of this packet's outer packet, by `ipip` to a backend.
    Fragment { backend: &'static str, last: bool },
    /// An ARP request of the node's, for this address.
    ArpRequest { target: [u8; 4], to: [u8; 6] },
    /// The answer to this neighbour solicitation; `overriding`: it replaces what the asker knows.
    Advertisement { overriding: bool },
    /// A neighbour solicitation of the node's, for this address: to all who could have it, or to
    /// the station that had it.
    Solicitation { target: [u8; 16], to: Option<[u8; 6]> },
}

/// An ICMP error of the node's own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Error {
    pub(crate) kind: u8,
    pub(crate) code: u8,
    /// In the last bytes of the header.
    pub(crate) mtu: u32,
    /// Who speaks.
    pub(crate) source: IpAddr,
}

/// What outer headers of a case look like.
#[derive(Clone, Copy)]
pub(crate) struct Outer {
    /// The prefix of the source, and its length.
    pub(crate) source: ([u8; 4], u8),
    /// The same of IPv6.
    pub(crate) source_v6: ([u8; 16], u8),
    pub(crate) dont_fragment: bool,
    pub(crate) time_to_live: u8,
    /// GUE over IPv6 has a checksum.
    pub(crate) udp_checksum: bool,
    /// The tags of the port's own, where it has some.
    pub(crate) port_tags: Option<&'static [u8]>,
}

/// Where a backend is, for all cases.
pub(crate) struct Place {
    pub(crate) address: IpAddr,
    /// Link address of the way there.
    pub(crate) mac: [u8; 6],
    /// Of its link.
    pub(crate) tags: &'static [u8],
}

/// `vlan = 100`.
pub(crate) const SINGLE_TAG: &[u8] = &[0x81, 0, 0, 100];
/// The same in `outer_vlan = 200`.
pub(crate) const DOUBLE_TAG: &[u8] = &[0x88, 0xa8, 0, 200, 0x81, 0, 0, 100];
/// The same with `outer_vlan_protocol = "802.1q"`.
pub(crate) const DOUBLED_TAG: &[u8] = &[0x81, 0, 0, 200, 0x81, 0, 0, 100];

/// The place of a backend by its name.
pub(crate) fn place(backend: &str) -> Place {
    let number: u8 = backend.rsplit('-').next().unwrap().parse().unwrap();
    let v4 = |a, b, c| IpAddr::V4(Ipv4Addr::new(a, b, c, number));
    let v6 = |c, d| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, c, d, 0, 0, 0, u16::from(number)));
    match backend.split('-').next().unwrap() {
        // Behind the gateway.
        "host" => Place { address: v4(10, 0, 0), mac: GATEWAY_MAC, tags: &[] },
        "host6" => Place { address: v6(0xb, 0), mac: GATEWAY_MAC, tags: &[] },
        // On the link, each with a link address of its own.
        "near" => Place { address: v4(192, 0, 2), mac: [0x02, 0, 0, 0, 0x10, number], tags: &[] },
        "near6" => Place { address: v6(0, 1), mac: [0x02, 0, 0, 0, 0x11, number], tags: &[] },
        // On the tagged link.
        "tagged" => {
            Place { address: v4(198, 18, 0), mac: [0x02, 0, 0, 0, 0x20, number], tags: SINGLE_TAG }
        }
        // As near ones, on ports with tags.
        "tagged6" => Place { tags: SINGLE_TAG, ..place(&format!("near6-{number}")) },
        "double" => Place { tags: DOUBLE_TAG, ..place(&format!("near-{number}")) },
        "double6" => Place { tags: DOUBLE_TAG, ..place(&format!("near6-{number}")) },
        "doubled" => Place { tags: DOUBLED_TAG, ..place(&format!("near-{number}")) },
        other => panic!("no place for {other}"),
    }
}

/// All of them.
pub(crate) fn all() -> Vec<Case> {
    [
        flows::cases(),
        affinity::cases(),
        answers::cases(),
        vips::cases(),
        links::cases(),
        tags::cases(),
        neighbours::cases(),
        drops::cases(),
        ipv6::cases(),
        ipv6_drops::cases(),
        ipv6_flows::cases(),
        ndp::cases(),
        tunnels::cases(),
        exception::cases(),
        icmp::cases(),
        refused::cases(),
        fragments::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The port of most cases: untagged, its gateway known.
pub(crate) const PORT: &str = r#"[[port]]
name = "uplink"
device = "net_tap0,iface=weir0"
mac = "02:00:00:00:00:02"
addresses = ["192.0.2.2/24"]
gateways = ["192.0.2.1"]
neighbors = [{ address = "192.0.2.1", mac = "02:00:00:00:00:01" }]
"#;

/// One pool of one backend, and one VIP: what becomes of a packet does not hang on a hash.
pub(crate) const WEB: &str = r#"[[pool]]
id = "web"
hash_secret = "000102030405060708090a0b0c0d0e0f"

  [[pool.backend]]
  id = "host-1"
  address = "10.0.0.1"

[[vip]]
address = "203.0.113.1"
port = 80
protocol = "tcp"
pool = "web"
"#;

/// The name of that VIP.
pub(crate) const WEB_VIP: &str = "203.0.113.1:80/tcp";
/// Its address and port.
pub(crate) const VIP: ([u8; 4], u16) = ([203, 0, 113, 1], 80);
/// A client.
pub(crate) const CLIENT: ([u8; 4], u16) = ([198, 51, 100, 7], 40_000);

/// The port of cases that speak IPv6, too.
pub(crate) const PORT6: &str = r#"[[port]]
name = "uplink"
device = "net_tap0,iface=weir0"
mac = "02:00:00:00:00:02"
addresses = ["192.0.2.2/24", "2001:db8:0:1::2/64"]
gateways = ["192.0.2.1", "2001:db8:0:1::1"]

  [[port.neighbors]]
  address = "192.0.2.1"
  mac = "02:00:00:00:00:01"

  [[port.neighbors]]
  address = "2001:db8:0:1::1"
  mac = "02:00:00:00:00:01"
"#;

/// The node's address on it.
pub(crate) const NODE6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2];
/// The name of the VIP of [`web6`].
pub(crate) const WEB6_VIP: &str = "[2001:db8:cafe::1]:80/tcp";
/// Its address and port.
pub(crate) const VIP6: ([u8; 16], u16) =
    ([0x20, 1, 0xd, 0xb8, 0xca, 0xfe, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], 80);
/// A client.
pub(crate) const CLIENT6: ([u8; 16], u16) =
    ([0x20, 1, 0xd, 0xb8, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7], 40_000);

/// One pool of one backend, with further keys, and one VIP over IPv6.
pub(crate) fn web6(backend: &str, keys: &str) -> String {
    web_of_one(backend, keys).replace("\"203.0.113.1\"", "\"2001:db8:cafe::1\"")
}

/// [`WEB`] with another backend and further keys of the pool.
pub(crate) fn web_of_one(backend: &str, keys: &str) -> String {
    let address = format!("\"{}\"", place(backend).address);
    WEB.replace("host-1", backend).replace("\"10.0.0.1\"", &address).replacen(
        "id = \"web\"\n",
        &format!("id = \"web\"\n{keys}"),
        1,
    )
}

/// A configuration of these parts. Few flows: the table is allocated at each run.
pub(crate) fn config(parts: &[&str]) -> String {
    let mut text = String::from("[conntrack]\nflows = 1000\n");
    for part in parts {
        text.push('\n');
        text.push_str(part);
    }
    text
}

impl Case {
    /// A case over [`PORT`] and [`WEB`].
    fn web(name: &'static str, sentence: &'static str, sent: Vec<Sent>) -> Self {
        Self::new(name, sentence, config(&[PORT, WEB]), sent)
    }

    fn new(name: &'static str, sentence: &'static str, config: String, sent: Vec<Sent>) -> Self {
        let outer = Outer {
            source: ([192, 0, 2, 2], 32),
            source_v6: (NODE6, 128),
            dont_fragment: true,
            time_to_live: 64,
            udp_checksum: true,
            port_tags: None,
        };
        Self { name, sentence, config, sent, reloads: Vec::new(), outer }
    }

    fn reload(mut self, packet: usize, parts: &[&str]) -> Self {
        self.reloads.push((packet, config(parts)));
        self
    }
}

impl Sent {
    fn new(frame: Vec<u8>, expected: Expected) -> Self {
        Self { time: START, frame, expected }
    }

    /// Forwarded to `host-1` of pool `web`.
    fn web(frame: Vec<u8>) -> Self {
        Self::new(frame, Expected::ipip(WEB_VIP, "web", "host-1"))
    }

    fn dropped(frame: Vec<u8>, reason: &'static str) -> Self {
        Self::new(frame, Expected::drop(reason))
    }

    /// Dropped by what comes after the VIP was found.
    fn dropped_at(
        frame: Vec<u8>,
        reason: &'static str,
        vip: &'static str,
        pool: &'static str,
        backend: Option<&'static str>,
    ) -> Self {
        let expected =
            Expected { vip: Some(vip), pool: Some(pool), backend, ..Expected::drop(reason) };
        Self::new(frame, expected)
    }

    /// Answered, whatever its verdict.
    fn told(mut self, kind: u8, code: u8, mtu: u32, source: &str) -> Self {
        let source = source.parse().unwrap();
        self.expected.outputs.push(Out::Error(Error { kind, code, mtu, source }));
        self
    }

    /// The same, `milliseconds` after the start of the capture.
    fn at(mut self, milliseconds: u64) -> Self {
        self.time = START + milliseconds * 1_000_000;
        self
    }

    /// With another packet that goes out before.
    fn after(mut self, out: Out) -> Self {
        self.expected.outputs.insert(0, out);
        self.expected.unasked += 1;
        self
    }
}

impl Expected {
    fn of(verdict: &'static str, outputs: Vec<Out>) -> Self {
        Self { verdict, reason: None, vip: None, pool: None, backend: None, outputs, unasked: 0 }
    }

    fn drop(reason: &'static str) -> Self {
        Self { reason: Some(reason), ..Self::of("drop", Vec::new()) }
    }

    fn at_backend(
        verdict: &'static str,
        names: (&'static str, &'static str, &'static str),
        outputs: Vec<Out>,
    ) -> Self {
        let (vip, pool, backend) = names;
        Self {
            vip: Some(vip),
            pool: Some(pool),
            backend: Some(backend),
            ..Self::of(verdict, outputs)
        }
    }

    fn ipip(vip: &'static str, pool: &'static str, backend: &'static str) -> Self {
        let out = vec![Out::Ipip { of: None, backend }];
        Self::at_backend("forward", (vip, pool, backend), out)
    }

    fn l2dsr(vip: &'static str, pool: &'static str, backend: &'static str) -> Self {
        Self::at_backend("forward", (vip, pool, backend), vec![Out::L2dsr { backend }])
    }

    /// The line as SPEC section 17 gives it.
    pub(crate) fn line(&self, packet: usize) -> String {
        let text =
            |value: Option<&str>| value.map_or("null".to_owned(), |text| format!("\"{text}\""));
        let second = match self.outputs.last() {
            Some(Out::GueHeader { hop: Some(hop), .. }) => format!(",\"second\":\"{hop}\""),
            _ => String::new(),
        };
        format!(
            "{{\"packet\":{packet},\"verdict\":\"{}\",\"reason\":{},\"vip\":{},\"pool\":{},\
             \"backend\":{},\"outputs\":{}{second}}}",
            self.verdict,
            text(self.reason),
            text(self.vip),
            text(self.pool),
            text(self.backend),
            self.outputs.len() - self.unasked,
        )
    }
}

/// A frame of any IPv4 payload; lengths, checksum and protocol come from `header` and `payload`.
fn ipv4(header: &Ipv4Header, payload: &[u8]) -> Vec<u8> {
    let mut header = header.clone();
    header.set_payload_len(payload.len()).unwrap();
    header.header_checksum = header.calc_header_checksum();
    let mut frame = [NODE_MAC, GATEWAY_MAC].concat();
    frame.extend([0x08, 0x00]);
    frame.extend(header.to_bytes());
    frame.extend(payload);
    frame
}

/// An IPv4 header to [`VIP`], to be changed.
fn header(protocol: u8) -> Ipv4Header {
    Ipv4Header::new(0, 64, etherparse::IpNumber(protocol), CLIENT.0, VIP.0).unwrap()
}

/// A TCP SYN under any header.
fn syn_under(header: Ipv4Header) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(GATEWAY_MAC, NODE_MAC)
        .ip(IpHeaders::Ipv4(header, Default::default()))
        .tcp(CLIENT.1, VIP.1, 1000, 64_240)
        .syn();
    let mut frame = Vec::new();
    builder.write(&mut frame, &[]).unwrap();
    frame
}

/// Changes an IP packet in its untagged frame and makes its header checksum right again.
fn with_ip(mut frame: Vec<u8>, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let ip = &mut frame[14..];
    change(ip);
    let length = (usize::from(ip[0] & 0x0f) * 4).clamp(20, ip.len());
    ip[10..12].fill(0);
    let mut sum: u32 =
        ip[..length].chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    ip[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    frame
}

/// Puts tags between addresses and ethertype: protocol identifier and VLAN identifier of each.
fn tagged(frame: &[u8], tags: &[(u16, u16)]) -> Vec<u8> {
    let mut bytes = frame[..12].to_vec();
    for (protocol, identifier) in tags {
        bytes.extend(protocol.to_be_bytes());
        bytes.extend(identifier.to_be_bytes());
    }
    bytes.extend(&frame[12..]);
    bytes
}

/// Fills up to the 60 bytes that Ethernet asks for, with bytes that must not get through.
fn padded(mut frame: Vec<u8>) -> Vec<u8> {
    let length = frame.len().max(60);
    frame.resize(length, 0xee);
    frame
}
