//! Next hops whose link address is not known: packets wait, a bounded few for a bounded time.

use super::{CLIENT, Case, Expected, Out, PORT, Sent, VIP, WEB, WEB_VIP, config};
use crate::support::{GATEWAY_MAC, NODE_MAC, arp, finish, tcp};

const GATEWAY: [u8; 4] = [192, 0, 2, 1];
const NODE: [u8; 4] = [192, 0, 2, 2];
const NAMES: (&str, &str, &str) = (WEB_VIP, "web", "host-1");
/// The node asks everyone.
const ASKED: Out = Out::ArpRequest { target: GATEWAY, to: [0xff; 6] };

/// The port without its static neighbour.
fn port() -> String {
    let (head, _) = PORT.split_once("neighbors").unwrap();
    head.to_owned()
}

fn segment(sequence: u32) -> Vec<u8> {
    let builder = tcp(CLIENT, VIP, sequence);
    match sequence {
        0 => finish(builder.syn(), &[]),
        _ => finish(builder.ack(9), b"x"),
    }
}

fn held(sequence: u32) -> Sent {
    Sent::new(segment(sequence), Expected::at_backend("hold", NAMES, Vec::new()))
}

/// The gateway's answer; `releases` are the packets that were waiting for it.
fn answer(releases: impl IntoIterator<Item = usize>) -> Sent {
    let out = releases.into_iter().map(|of| Out::Ipip { of: Some(of), backend: "host-1" });
    Sent::new(arp(2, GATEWAY, NODE, NODE_MAC), Expected::of("host", out.collect()))
}

pub(super) fn cases() -> Vec<Case> {
    let case = |name, sentence, sent| Case::new(name, sentence, config(&[&port(), WEB]), sent);
    vec![
        case(
            "held-for-a-neighbour",
            "Packets wait while the gateway's link address is asked for, and leave in their order \
             when it answers; later ones do not wait, and the answer is refreshed before it \
             expires.",
            vec![
                held(0).after(ASKED),
                held(1).at(1),
                answer([0, 1]).at(2),
                Sent::web(segment(2)).at(3),
                // 20 s later the gateway itself is asked.
                Sent::web(segment(3))
                    .after(Out::ArpRequest { target: GATEWAY, to: GATEWAY_MAC })
                    .at(20_100),
                answer([]).at(20_101),
                Sent::web(segment(4)).at(35_000),
            ],
        ),
        case(
            "learned-from-a-request",
            "A request from the gateway says where it is as well as a reply would (RFC 826), and is \
             answered.",
            vec![
                held(0).after(ASKED),
                Sent::new(
                    arp(1, GATEWAY, NODE, [0xff; 6]),
                    Expected::of(
                        "reply",
                        vec![Out::Arp, Out::Ipip { of: Some(0), backend: "host-1" }],
                    ),
                )
                .at(10),
            ],
        ),
        case(
            "unresolved-neighbour",
            "A packet waits for three seconds at most: an answer after that finds only the younger \
             one. The question is repeated every second.",
            vec![
                held(0).after(ASKED),
                held(1).after(ASKED).at(2_000),
                answer([1]).after(ASKED).at(3_100),
            ],
        ),
        case(
            "neighbour-queue-full",
            "Thirty-two packets wait for one next hop; the next is dropped.",
            (0..32)
                .map(|sequence| match sequence {
                    0 => held(0).after(ASKED),
                    _ => held(sequence).at(u64::from(sequence)),
                })
                .chain([
                    Sent::dropped_at(
                        segment(32),
                        "neighbour_queue_full",
                        WEB_VIP,
                        "web",
                        Some("host-1"),
                    )
                    .at(40),
                    answer(0..32).at(41),
                ])
                .collect(),
        ),
        case(
            "strangers-answer",
            "Only next hops that are wanted are learned: an answer about somebody else lets nothing \
             go.",
            vec![
                held(0).after(ASKED),
                Sent::new(arp(2, [192, 0, 2, 9], NODE, NODE_MAC), Expected::of("host", Vec::new()))
                    .at(1),
            ],
        ),
    ]
}
