//! ICMP errors about a backend's packets, which are delivered to it.

use etherparse::Icmpv4Type;

use super::answers::icmp as icmp4;
use super::ipv6::{icmp as icmp6, options};
use super::{
    CLIENT, CLIENT6, Case, Expected, NODE6, Out, PORT, PORT6, Sent, VIP, VIP6, WEB, WEB_VIP,
    config, header, padded, web_of_one, web6, with_ip,
};
use crate::support::{finish, tcp};

/// A router somewhere between a backend and a client.
const ROUTER: [u8; 4] = [198, 18, 7, 1];
const ROUTER6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// The first bytes of a packet from the VIP to the client: its header, and `behind`.
pub(super) fn quote4(protocol: u8, behind: &[u8]) -> Vec<u8> {
    let mut header = header(protocol);
    (header.source, header.destination) = (VIP.0, CLIENT.0);
    // The packet was longer than what is quoted of it.
    header.set_payload_len(1480).unwrap();
    header.header_checksum = header.calc_header_checksum();
    [&header.to_bytes()[..], behind].concat()
}

fn quote6(next: u8, behind: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x60, 0, 0, 0, 0x05, 0xb4, next, 60];
    bytes.extend(VIP6.0);
    bytes.extend(CLIENT6.0);
    bytes.extend(behind);
    bytes
}

/// The eight bytes that RFC 792 asks for: ports, and a sequence number.
pub(super) fn ports(from: u16, to: u16) -> Vec<u8> {
    [&from.to_be_bytes()[..], &to.to_be_bytes(), &[1, 2, 3, 4]].concat()
}

pub(super) fn of_flow() -> Vec<u8> {
    ports(VIP.1, CLIENT.1)
}

/// An ICMP error to an address.
pub(super) fn error4_to(
    destination: [u8; 4],
    kind: u8,
    code: u8,
    rest: [u8; 4],
    quoted: &[u8],
) -> Vec<u8> {
    let kind = Icmpv4Type::Unknown { type_u8: kind, code_u8: code, bytes5to8: rest };
    let frame = icmp4(kind, quoted);
    with_ip(frame, |ip| {
        ip[12..16].copy_from_slice(&ROUTER);
        ip[16..20].copy_from_slice(&destination);
    })
}

pub(super) fn error4(kind: u8, code: u8, quoted: &[u8]) -> Vec<u8> {
    error4_to(VIP.0, kind, code, [0, 0, 0x05, 0x14], quoted)
}

fn error6(kind: u8, code: u8, quoted: &[u8]) -> Vec<u8> {
    let message = icmp6(ROUTER6, VIP6.0, kind, code, [0, 0, 5, 0x14], quoted);
    super::ipv6::from_to(ROUTER6, VIP6.0, 58, &message)
}

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;

pub(super) fn cases() -> Vec<Case> {
    vec![
        delivered(),
        delivered_v6(),
        by_entry(),
        dropped(),
        dropped_v6(),
        modes("icmp-error-in-ipip", "", |backend| Out::Ipip { of: None, backend }),
        modes("icmp-error-in-gre", "forwarding = \"gre\"\n", |backend| Out::Gre { backend }),
        modes("icmp-error-in-gue", "forwarding = \"gue\"\n", |backend| Out::Gue { backend }),
        l2dsr(),
        limited(),
    ]
}

fn delivered() -> Case {
    let web = |frame| Sent::web(frame);
    let options = {
        let mut quoted = quote4(TCP, &[&[7, 3, 4, 0][..], &of_flow()].concat());
        quoted[0] = 0x46;
        quoted
    };
    let odd = |change: fn(&mut Vec<u8>)| {
        let mut quoted = quote4(TCP, &of_flow());
        change(&mut quoted);
        web(error4(3, 4, &quoted))
    };
    let mut sent: Vec<Sent> =
        (0..=15).map(|code| web(error4(3, code, &quote4(TCP, &of_flow())))).collect();
    sent.extend([
        web(error4(11, 0, &quote4(TCP, &of_flow()))),
        web(error4(11, 1, &quote4(TCP, &of_flow()))),
        web(error4(12, 0, &quote4(TCP, &of_flow()))),
        web(padded(error4(3, 4, &quote4(TCP, &of_flow())))),
        // As much as routers quote today, and options inside.
        web(error4(3, 4, &quote4(TCP, &[of_flow(), vec![0x55; 520]].concat()))),
        web(error4(3, 4, &options)),
        // A first fragment has ports.
        odd(|quoted| quoted[6..8].copy_from_slice(&[0x20, 0])),
        // What routers do to the header that they quote: the time to live taken down, the
        // checksum as it was before that, the length changed.
        odd(|quoted| quoted[8] = 1),
        odd(|quoted| quoted[10..12].fill(0)),
        odd(|quoted| quoted[2..4].fill(0)),
    ]);
    Case::web(
        "icmp-error",
        "ICMP errors to a VIP about a backend's packet go to the backend of the flow that they \
         quote: unreachable of every code, time exceeded, parameter problem; eight bytes of TCP are \
         enough.",
        sent,
    )
}

fn delivered_v6() -> Case {
    let to = |frame| super::ipv6::to("host6-1", frame);
    let chain = [&options(60)[..], &options(TCP), &of_flow()].concat();
    let first = [&[TCP, 0, 0, 1, 0, 0, 0, 9][..], &of_flow()].concat();
    let mut sent = Vec::new();
    for (kind, code) in [(1, 0), (1, 1), (1, 3), (1, 4), (1, 6), (2, 0), (3, 0), (3, 1), (4, 0)] {
        sent.push(to(error6(kind, code, &quote6(TCP, &of_flow()))));
    }
    sent.extend([
        to(error6(2, 0, &quote6(TCP, &[of_flow(), vec![0x55; 1000]].concat()))),
        to(error6(2, 0, &quote6(60, &chain))),
        to(error6(2, 0, &quote6(44, &first))),
    ]);
    Case::new(
        "icmpv6-error",
        "ICMPv6 errors to a VIP go to the backend of the flow that they quote, past extension \
         headers inside the quote.",
        config(&[PORT6, &web6("host6-1", "")]),
        sent,
    )
}

/// Two backends, of which the flow has the one that new flows do not get any more.
fn by_entry() -> Case {
    let two = |state: &str| {
        let pool = WEB.replace(
            "address = \"10.0.0.1\"\n",
            &format!(
                "address = \"10.0.0.1\"\n  {state}\n\n  [[pool.backend]]\n  id = \"host-2\"\n  \
                 address = \"10.0.0.2\"\n  weight = 0\n"
            ),
        );
        config(&[PORT, &pool])
    };
    let moved =
        two("weight = 0").replace("\"10.0.0.2\"\n  weight = 0", "\"10.0.0.2\"\n  weight = 1");
    let to = |backend, frame| Sent::new(frame, Expected::ipip(WEB_VIP, "web", backend));
    let other = quote4(TCP, &ports(VIP.1, CLIENT.1 + 1));
    let mut case = Case::new(
        "icmp-error-by-entry",
        "An ICMP error goes where the flow's entry says, though the table says otherwise by now; an \
         error about a flow without an entry goes by the table, makes no entry, and does not keep \
         one alive.",
        two("weight = 1"),
        vec![
            to("host-1", finish(tcp(CLIENT, VIP, 1).syn(), &[])),
            to("host-1", finish(tcp(CLIENT, VIP, 2).ack(3), &[])).at(10),
            to("host-1", error4(3, 4, &quote4(TCP, &of_flow()))).at(20),
            to("host-2", error4(3, 4, &other)).at(30),
            // Shortly before the entry's five minutes are over, and after.
            to("host-1", error4(3, 4, &quote4(TCP, &of_flow()))).at(299_000),
            to("host-2", error4(3, 4, &quote4(TCP, &of_flow()))).at(311_000),
        ],
    );
    case.reloads.push((2, moved));
    case
}

fn dropped() -> Case {
    let no_entry = |reason, frame| Sent::dropped(frame, reason);
    let quoted = |change: fn(&mut Vec<u8>)| {
        let mut quoted = quote4(TCP, &of_flow());
        change(&mut quoted);
        error4(3, 4, &quoted)
    };
    let bad = "icmp_bad_quote";
    let mut damaged = error4(3, 4, &quote4(TCP, &of_flow()));
    *damaged.last_mut().unwrap() ^= 1;
    let from = |source: [u8; 4]| {
        with_ip(error4(3, 4, &quote4(TCP, &of_flow())), |ip| ip[12..16].copy_from_slice(&source))
    };
    let own = |quoted: &[u8]| error4_to([192, 0, 2, 2], 3, 4, [0, 0, 5, 0x14], quoted);
    let outer = |protocol: u8, behind: &[u8]| {
        let mut quoted = quote4(protocol, behind);
        quoted[12..16].copy_from_slice(&[192, 0, 2, 2]);
        quoted[16..20].copy_from_slice(&[10, 0, 0, 1]);
        quoted
    };
    Case::web(
        "drop-icmp-error",
        "ICMP errors whose quote is cut short, malformed, from another address than the error went \
         to, about ICMP, about a later fragment, or of no VIP's flow; errors that hosts do not act \
         on; and errors about the node's own tunnels, which are counted apart.",
        vec![
            no_entry(bad, error4(3, 4, &[])),
            no_entry(bad, error4(3, 4, &quote4(TCP, &[])[..19])),
            no_entry(bad, error4(3, 4, &quote4(TCP, &of_flow()[..7]))),
            no_entry(bad, quoted(|quoted| quoted[0] = 0x65)),
            no_entry(bad, quoted(|quoted| quoted[0] = 0x44)),
            no_entry(bad, quoted(|quoted| quoted[0] = 0x4f)),
            // Another VIP's packet, and one that the client sent.
            no_entry(bad, quoted(|quoted| quoted[15] = 2)),
            no_entry(bad, quoted(|quoted| quoted[12..16].copy_from_slice(&CLIENT.0))),
            // To a client that is a VIP: nobody's flow.
            Sent::dropped_at(
                quoted(|quoted| quoted[16..20].copy_from_slice(&VIP.0)),
                bad,
                WEB_VIP,
                "web",
                None,
            ),
            no_entry(
                "icmp_quoted_fragment",
                quoted(|quoted| quoted[6..8].copy_from_slice(&[0, 1])),
            ),
            no_entry("icmp_about_icmp", error4(3, 1, &quote4(1, &[0, 0, 1, 2, 3, 4, 5, 6]))),
            no_entry("icmp_about_icmp", error4(3, 1, &quote4(1, &[3, 4, 1, 2, 3, 4, 5, 6]))),
            no_entry("icmp_no_flow", error4(3, 3, &quote4(TCP, &ports(81, CLIENT.1)))),
            no_entry("icmp_no_flow", error4(3, 3, &quote4(UDP, &of_flow()))),
            no_entry("icmp_unsupported", error4(4, 0, &quote4(TCP, &of_flow()))),
            no_entry("icmp_unsupported", error4(5, 1, &quote4(TCP, &of_flow()))),
            no_entry("bad_icmp", damaged),
            no_entry("martian_source", from([127, 0, 0, 1])),
            no_entry("martian_source", from([224, 0, 0, 1])),
            no_entry("land", from(VIP.0)),
            no_entry("no_vip", error4_to([203, 0, 113, 9], 3, 4, [0; 4], &quote4(TCP, &of_flow()))),
            no_entry("icmp_tunnel_error", own(&outer(4, &[]))),
            no_entry("icmp_tunnel_error", own(&outer(41, &[0; 8]))),
            no_entry("icmp_tunnel_error", own(&outer(47, &[0, 0, 8, 0]))),
            no_entry("icmp_tunnel_error", own(&outer(UDP, &ports(50_000, 6080)))),
            // About what the node's kernel sent: for the kernel.
            no_entry("no_exception_path", own(&outer(TCP, &ports(179, 40_000)))),
        ],
    )
}

fn dropped_v6() -> Case {
    let no_entry = |reason, frame| Sent::dropped(frame, reason);
    let bad = "icmp_bad_quote";
    let later = [&[TCP, 0, 0, 9, 0, 0, 0, 9][..], &of_flow()].concat();
    let own = |quoted: &[u8]| {
        let message = icmp6(ROUTER6, NODE6, 2, 0, [0, 0, 5, 0], quoted);
        super::ipv6::from_to(ROUTER6, NODE6, 58, &message)
    };
    let outer = |next: u8, behind: &[u8]| {
        let mut quoted = quote6(next, behind);
        quoted[8..24].copy_from_slice(&NODE6);
        quoted
    };
    let mut stranger = quote6(TCP, &of_flow());
    stranger[23] = 2;
    Case::new(
        "drop-icmpv6-error",
        "ICMPv6 errors that cannot be delivered, each for its reason; errors about the node's own \
         tunnels are counted apart.",
        config(&[PORT6, &web6("host6-1", "")]),
        vec![
            no_entry(bad, error6(2, 0, &[])),
            no_entry(bad, error6(2, 0, &quote6(TCP, &[])[..39])),
            no_entry(bad, error6(2, 0, &quote6(TCP, &of_flow()[..7]))),
            no_entry(bad, error6(2, 0, &quote6(60, &options(TCP)[..6]))),
            no_entry(bad, error6(2, 0, &stranger)),
            no_entry("icmp_quoted_fragment", error6(2, 0, &quote6(44, &later))),
            no_entry("icmp_about_icmp", error6(1, 4, &quote6(58, &[129, 0, 1, 2, 3, 4, 5, 6]))),
            no_entry("icmp_about_icmp", error6(1, 4, &quote6(58, &[1, 4, 1, 2, 3, 4, 5, 6]))),
            no_entry("icmp_no_flow", error6(1, 4, &quote6(TCP, &ports(81, 40_000)))),
            // Types that nobody has defined, and one for experiments.
            no_entry("icmp_unsupported", error6(5, 0, &quote6(TCP, &of_flow()))),
            no_entry("icmp_unsupported", error6(100, 0, &quote6(TCP, &of_flow()))),
            no_entry("icmp_tunnel_error", own(&outer(41, &[0x60]))),
            no_entry("icmp_tunnel_error", own(&outer(4, &[0x45]))),
            no_entry("icmp_tunnel_error", own(&outer(47, &[0, 0, 0x86, 0xdd]))),
            no_entry("icmp_tunnel_error", own(&outer(UDP, &ports(50_000, 6080)))),
            no_entry("no_exception_path", own(&outer(TCP, &ports(179, 40_000)))),
        ],
    )
}

/// Both versions of IP, to a backend of either, in the tunnel of the pool.
fn modes(name: &'static str, keys: &str, out: fn(&'static str) -> Out) -> Case {
    let pools = |id: &str, vip: &str, backend: &'static str| {
        web_of_one(backend, keys)
            .replace("\"web\"", &format!("\"{id}\""))
            .replace("\"203.0.113.1\"", &format!("\"{vip}\""))
    };
    let all = [
        pools("a", "203.0.113.1", "host-1"),
        pools("b", "203.0.113.2", "host6-2"),
        pools("c", "2001:db8:cafe::1", "host6-3"),
        pools("d", "2001:db8:cafe::2", "host-4"),
    ];
    let four = |last: u8| {
        let mut quoted = quote4(TCP, &of_flow());
        quoted[15] = last;
        error4_to([203, 0, 113, last], 3, 4, [0, 0, 5, 0x14], &quoted)
    };
    let six = |last: u8| {
        let mut quoted = quote6(TCP, &of_flow());
        quoted[23] = last;
        let mut vip = VIP6.0;
        vip[15] = last;
        let message = icmp6(ROUTER6, vip, 2, 0, [0, 0, 5, 0x14], &quoted);
        super::ipv6::from_to(ROUTER6, vip, 58, &message)
    };
    let sent = |names, frame, backend| {
        Sent::new(frame, Expected::at_backend("forward", names, vec![out(backend)]))
    };
    Case::new(
        name,
        "ICMP errors are encapsulated like the flow that they quote, of either family in either.",
        config(&[PORT6, &all.join("\n")]),
        vec![
            sent(("203.0.113.1:80/tcp", "a", "host-1"), four(1), "host-1"),
            sent(("203.0.113.2:80/tcp", "b", "host6-2"), four(2), "host6-2"),
            sent(("[2001:db8:cafe::1]:80/tcp", "c", "host6-3"), six(1), "host6-3"),
            sent(("[2001:db8:cafe::2]:80/tcp", "d", "host-4"), six(2), "host-4"),
        ],
    )
}

fn l2dsr() -> Case {
    let near = PORT.replace(
        "neighbors = [",
        "neighbors = [{ address = \"192.0.2.21\", mac = \"02:00:00:00:10:15\" }, ",
    );
    Case::new(
        "icmp-error-in-l2dsr",
        "Without a tunnel an ICMP error goes to the backend's link address as it is.",
        config(&[&near, &web_of_one("near-21", "forwarding = \"l2dsr\"\n")]),
        vec![Sent::new(
            error4(3, 4, &quote4(TCP, &of_flow())),
            Expected::l2dsr(WEB_VIP, "web", "near-21"),
        )],
    )
}

fn limited() -> Case {
    let error = || error4(3, 4, &quote4(TCP, &of_flow()));
    let over = || Sent::dropped_at(error(), "icmp_error_limited", WEB_VIP, "web", None);
    Case::new(
        "icmp-error-limit",
        "No more ICMP errors are handed to backends than the configuration allows in a second.",
        config(&["[icmp]\ndelivered_per_second = 2\n", PORT, WEB]),
        vec![
            Sent::web(error()),
            Sent::web(error()),
            over(),
            over().at(400),
            Sent::web(error()).at(500),
            over().at(501),
        ],
    )
}
