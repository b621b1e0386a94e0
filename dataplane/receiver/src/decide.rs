//! What becomes of a datagram.
//!
//! | packet | goes |
//! |---|---|
//! | without a hop left, or of no flow that can be read (fragments, other protocols) | to the kernel |
//! | a TCP SYN | to the kernel: a new connection is this backend's, and so are its next packets |
//! | of a flow with a socket here | to the kernel |
//! | of any other flow | to the next hop |
//!
//! A SYN is not asked about, so a flood of them costs no questions; and it is remembered, so that
//! a kernel which answers with SYN cookies, and has no socket yet when the client's ACK comes, gets
//! that ACK. A question that fails is answered with yes: the packet is where the table sent it.

use std::net::IpAddr;

use crate::counters::{Counter, Counters};
use crate::gue::{self, Malformed};
use crate::inner::{self, About, Flow, NotIp, Transport};
use crate::prefixes::Prefixes;
use crate::recent::Recent;
use crate::sockets::Found;
use crate::versions::Versions;

/// Seconds for which a flow that began with a SYN is this backend's without a question: longer than
/// a kernel retransmits its SYN+ACK (63 s by default).
const OPENING_SECONDS: u16 = 75;
/// Seconds for which the kernel is not asked again about a flow that it knows.
const KNOWN_SECONDS: u16 = 2;

/// What is allowed, and what is remembered between packets.
#[derive(Debug)]
pub struct Desk {
    /// Who may send, and who may be a next hop.
    pub peers: Prefixes,
    /// Whom packets may be for.
    pub vips: Prefixes,
    /// Packets by tables two versions old, or older, are dropped.
    pub drop_old_versions: bool,
    /// Flows that are this host's own.
    pub recent: Recent,
    /// The newest versions; asked only for datagrams that tell one.
    pub versions: std::sync::Mutex<Versions>,
    /// What became of all.
    pub counters: Counters,
}

/// What becomes of one datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision<'a> {
    /// This packet is for the kernel here.
    Local(&'a [u8]),
    /// The datagram goes on to this hop, after [`gue::advance`].
    Next(IpAddr),
    /// Nothing; it is counted.
    Dropped,
}

impl Desk {
    /// Decides about the datagram that came from `source` with this payload. `find` asks the kernel
    /// for a flow; `now` is a count of seconds.
    pub fn decide<'a>(
        &self,
        payload: &'a [u8],
        source: IpAddr,
        now: u64,
        find: impl FnOnce(&Flow) -> std::io::Result<Found>,
    ) -> Decision<'a> {
        self.counters.add(Counter::Received);
        match self.judge(payload, source, now, find) {
            Ok(decision) => decision,
            Err(reason) => {
                self.counters.add(reason);
                Decision::Dropped
            }
        }
    }

    fn judge<'a>(
        &self,
        payload: &'a [u8],
        source: IpAddr,
        now: u64,
        find: impl FnOnce(&Flow) -> std::io::Result<Found>,
    ) -> Result<Decision<'a>, Counter> {
        if !self.peers.contain(source) {
            return Err(Counter::Stranger);
        }
        let datagram = gue::parse(payload)?;
        let packet = inner::parse(datagram.inner, datagram.announced)?;
        if !self.vips.contain(packet.destination) {
            return Err(Counter::NoVip);
        }
        let local = Ok(Decision::Local(packet.bytes));
        let Some(chance) = datagram.chance else { return local };
        let port = match packet.about {
            About::Opening(flow) | About::Flow(flow) => Some((flow.transport, flow.local_port)),
            About::Nothing => None,
        };
        self.note_version((packet.destination, port), chance.version, now)?;
        let Some(hop) = chance.next_hop() else { return local };
        match packet.about {
            About::Opening(flow) => self.recent.remember(&flow, now, OPENING_SECONDS),
            About::Flow(flow) if !self.is_known(&flow, now, find) => {
                if !self.peers.contain(hop) {
                    return Err(Counter::HopRefused);
                }
                return Ok(Decision::Next(hop));
            }
            About::Flow(_) | About::Nothing => {}
        }
        local
    }

    fn note_version(
        &self,
        vip: (IpAddr, Option<(Transport, u16)>),
        version: u32,
        now: u64,
    ) -> Result<(), Counter> {
        let mut versions = self.versions.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match versions.behind(vip, version, now) {
            0 => Ok(()),
            1 => {
                self.counters.add(Counter::OneVersionBehind);
                Ok(())
            }
            _ if self.drop_old_versions => Err(Counter::OldVersion),
            _ => {
                self.counters.add(Counter::MoreVersionsBehind);
                Ok(())
            }
        }
    }

    fn is_known(
        &self,
        flow: &Flow,
        now: u64,
        find: impl FnOnce(&Flow) -> std::io::Result<Found>,
    ) -> bool {
        if self.recent.contains(flow, now) {
            return true;
        }
        self.counters.add(Counter::Asked);
        match find(flow) {
            Ok(Found::Connection) => {
                self.recent.remember(flow, now, KNOWN_SECONDS);
                true
            }
            Ok(Found::Listener | Found::Nothing) => false,
            Err(_) => {
                self.counters.add(Counter::AskingFailed);
                true
            }
        }
    }
}

impl From<Malformed> for Counter {
    fn from(fault: Malformed) -> Self {
        match fault {
            Malformed::Short => Self::GueShort,
            Malformed::Version => Self::GueVersion,
            Malformed::Control => Self::GueControl,
            Malformed::Flags => Self::GueFlags,
            Malformed::Protocol => Self::GueProtocol,
            Malformed::PrivateData => Self::GuePrivateData,
        }
    }
}

impl From<NotIp> for Counter {
    fn from(fault: NotIp) -> Self {
        match fault {
            NotIp::Length => Self::InnerLength,
            NotIp::Version => Self::InnerVersion,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use etherparse::PacketBuilder;

    use super::*;

    const CLIENT: [u8; 4] = [198, 51, 100, 7];
    const VIP: [u8; 4] = [203, 0, 113, 1];
    const NODE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn desk() -> Desk {
        let prefixes = |text: &str| Prefixes::new(vec![text.parse().unwrap()]);
        Desk {
            peers: prefixes("192.0.2.0/24"),
            vips: prefixes("203.0.113.0/24"),
            drop_old_versions: false,
            recent: Recent::new(64),
            versions: Default::default(),
            counters: Counters::default(),
        }
    }

    fn packet(syn: bool) -> Vec<u8> {
        let builder = PacketBuilder::ipv4(CLIENT, VIP, 64).tcp(40_000, 80, 1, 1000);
        let builder = if syn { builder.syn() } else { builder.ack(1) };
        let mut bytes = Vec::new();
        builder.write(&mut bytes, &[]).unwrap();
        bytes
    }

    /// A datagram of snapshot `version` that names `hop`.
    fn datagram(packet: &[u8], version: u8, hop: Option<[u8; 4]>) -> Vec<u8> {
        let hop = hop.as_ref().map_or(&[][..], |hop| &hop[..]);
        let words = 2 + hop.len() as u8 / 4;
        let count = hop.len() as u8 / 4;
        [&[words, 4, 0, 0, 1, count, 0, 0, 0, 0, 0, version], hop, packet].concat()
    }

    fn unasked(_: &Flow) -> std::io::Result<Found> {
        panic!("the kernel is not asked")
    }

    const OTHER: [u8; 4] = [192, 0, 2, 12];

    #[test]
    fn a_known_flow_stays_and_an_unknown_one_goes_on() {
        let desk = desk();
        let ack = packet(false);
        let bytes = datagram(&ack, 1, Some(OTHER));
        for found in [Found::Nothing, Found::Listener] {
            let decision = desk.decide(&bytes, NODE, 0, |_| Ok(found));
            assert_eq!(decision, Decision::Next(OTHER.into()), "{found:?}");
        }
        let asked = Cell::new(0);
        for now in [10, 11] {
            let decision = desk.decide(&bytes, NODE, now, |flow| {
                asked.set(asked.get() + 1);
                assert_eq!((flow.local_port, flow.remote_port), (80, 40_000));
                Ok(Found::Connection)
            });
            assert_eq!(decision, Decision::Local(&ack));
        }
        assert_eq!(asked.get(), 1, "an answer is good for a moment");
        // And no longer.
        assert_eq!(
            desk.decide(&bytes, NODE, 13, |_| Ok(Found::Nothing)),
            Decision::Next(OTHER.into())
        );
    }

    #[test]
    fn a_new_connection_stays_with_all_its_packets() {
        let desk = desk();
        let syn = packet(true);
        let bytes = datagram(&syn, 1, Some(OTHER));
        assert_eq!(desk.decide(&bytes, NODE, 0, unasked), Decision::Local(&syn));
        // With SYN cookies there is a listener only.
        let ack = packet(false);
        let bytes = datagram(&ack, 1, Some(OTHER));
        assert_eq!(desk.decide(&bytes, NODE, 60, unasked), Decision::Local(&ack));
    }

    #[test]
    fn at_the_end_of_the_list_packets_stay() {
        let desk = desk();
        let ack = packet(false);
        for bytes in [ack.clone(), datagram(&ack, 1, None), [&[0, 4, 0, 0], &ack[..]].concat()] {
            assert_eq!(desk.decide(&bytes, NODE, 0, unasked), Decision::Local(&ack));
        }
        let mut tried = datagram(&ack, 1, Some(OTHER));
        gue::advance(&mut tried);
        assert_eq!(desk.decide(&tried, NODE, 0, unasked), Decision::Local(&ack));
    }

    #[test]
    fn a_kernel_that_does_not_answer_keeps_the_packet() {
        let desk = desk();
        let ack = packet(false);
        let bytes = datagram(&ack, 1, Some(OTHER));
        let failing = |_: &Flow| Err(std::io::Error::other("no"));
        assert_eq!(desk.decide(&bytes, NODE, 0, failing), Decision::Local(&ack));
        assert_eq!(desk.counters.get(Counter::AskingFailed), 1);
    }

    #[test]
    fn strangers_and_strange_hops_and_other_destinations_are_refused() {
        let desk = desk();
        let ack = packet(false);
        let bytes = datagram(&ack, 1, Some([10, 0, 0, 1]));
        let nothing = |_: &Flow| Ok(Found::Nothing);
        assert_eq!(desk.decide(&bytes, NODE, 0, nothing), Decision::Dropped);
        assert_eq!(desk.counters.get(Counter::HopRefused), 1);
        let stranger = IpAddr::from([198, 18, 0, 1]);
        assert_eq!(desk.decide(&bytes, stranger, 0, unasked), Decision::Dropped);
        assert_eq!(desk.counters.get(Counter::Stranger), 1);
        let mut elsewhere = ack;
        elsewhere[16..20].copy_from_slice(&[192, 0, 2, 1]);
        assert_eq!(desk.decide(&elsewhere, NODE, 0, unasked), Decision::Dropped);
        assert_eq!(desk.counters.get(Counter::NoVip), 1);
    }

    #[test]
    fn old_versions_are_counted_and_dropped_if_that_is_asked_for() {
        let mut desk = desk();
        let ack = packet(false);
        for (version, decision) in
            [(9, Decision::Local(&ack[..])), (8, Decision::Local(&ack)), (7, Decision::Local(&ack))]
        {
            let bytes = datagram(&ack, version, None);
            assert_eq!(desk.decide(&bytes, NODE, 0, unasked), decision);
        }
        assert_eq!(desk.counters.get(Counter::OneVersionBehind), 1);
        assert_eq!(desk.counters.get(Counter::MoreVersionsBehind), 1);
        desk.drop_old_versions = true;
        let bytes = datagram(&ack, 8, None);
        assert_eq!(desk.decide(&bytes, NODE, 0, unasked), Decision::Local(&ack));
        let bytes = datagram(&ack, 7, None);
        assert_eq!(desk.decide(&bytes, NODE, 0, unasked), Decision::Dropped);
        assert_eq!(desk.counters.get(Counter::OldVersion), 1);
    }
}
