//! The exception path: packets for the node's own kernel, to an interface of the kernel and back.
//!
//! Each port may have one such interface. What arrives at the port for the node's own addresses
//! and is not the node's to answer goes there; what the kernel sends there leaves by the port. A
//! routing daemon, SSH and whatever else runs on the host so share the NIC with the data path.
//! The node itself goes on answering ARP and neighbour discovery for its addresses and echo
//! requests to them, so nobody is answered twice; answers that others give to the kernel's own
//! questions (ARP replies, neighbour advertisements, every other ICMP message) are passed on.
//!
//! Invariants: no packet to or from a VIP's address crosses in either direction, so that a flood
//! at a VIP finds nothing here to use up. Each kind of packet has a budget of its own, and what
//! keeps the host reachable (BGP, BFD, ARP, neighbour discovery) is sent before all else. Queues
//! are bounded: towards the kernel two bursts, towards the port one, which must be gone before
//! the kernel is asked for more.

use std::net::IpAddr;

use crate::answer::RateLimit;
use crate::buffer::Buffer;
use crate::parse::{Kind, MAX_TAGS, Parsed};
use crate::port::{Burst, Port};
use crate::tables::{PortTable, Tables};
use crate::tags;
use crate::verdict::DropReason;
use crate::vip::address_bits;
use crate::wire::{EtherType, EthernetHeader, IpProtocol, Ipv4Header, Ipv6Header, VlanTag};

/// BGP packets a worker hands to the kernel in a second.
pub const BGP_PER_SECOND: u32 = 10_000;
/// BFD packets a worker hands to the kernel in a second.
pub const BFD_PER_SECOND: u32 = 5_000;
/// Packets of ARP and neighbour discovery a worker hands to the kernel in a second.
pub const NEIGHBOUR_PER_SECOND: u32 = 1_000;
/// Other packets a worker hands to the kernel in a second.
pub const REST_PER_SECOND: u32 = 5_000;

/// RFC 4271 section 1: BGP listens here; either end may have opened the connection.
const BGP_PORT: u16 = 179;
/// RFC 5881 section 4 (single hop) and RFC 5883 section 5 (multihop).
const BFD_PORTS: [u16; 2] = [3784, 4784];

/// What a packet for the kernel is, as far as its budget goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// TCP from or to port 179.
    Bgp,
    /// UDP to port 3784 or 4784.
    Bfd,
    /// ARP and neighbour discovery.
    Neighbour,
    /// Everything else.
    Rest,
}

impl Traffic {
    /// What a parsed packet is.
    pub fn of(parsed: &Parsed) -> Self {
        let key = &parsed.key;
        match parsed.kind {
            Kind::Arp | Kind::Ndp => Self::Neighbour,
            Kind::Flow if key.protocol() == IpProtocol::TCP.0 => {
                match [key.source_port(), key.destination_port()].contains(&BGP_PORT) {
                    true => Self::Bgp,
                    false => Self::Rest,
                }
            }
            Kind::Flow
                if key.protocol() == IpProtocol::UDP.0
                    && BFD_PORTS.contains(&key.destination_port()) =>
            {
                Self::Bfd
            }
            _ => Self::Rest,
        }
    }
}

/// The budgets of one interface, for one worker.
#[derive(Debug)]
struct Budgets {
    bgp: RateLimit,
    bfd: RateLimit,
    neighbour: RateLimit,
    rest: RateLimit,
}

/// A port's interface to the kernel: one queue pair of it, owned by one worker.
#[derive(Debug)]
pub struct Exception<P: Port> {
    // Before the device, which frees the pool that these packets return to.
    first: Burst<P::Buffer>,
    rest: Burst<P::Buffer>,
    outgoing: Burst<P::Buffer>,
    budgets: Budgets,
    device: P,
}

/// What one look at the kernel's packets gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FromKernel {
    /// Packets the kernel sent.
    pub received: usize,
    /// Those with a VIP's address, which are not sent.
    pub of_vips: usize,
    /// Those longer than the port takes.
    pub too_big: usize,
    /// Those that the port's tags do not fit into.
    pub no_headroom: usize,
}

impl<P: Port> Exception<P> {
    /// Over one queue pair of the device whose other side is the kernel's interface.
    pub fn new(device: P) -> Self {
        let budgets = Budgets {
            bgp: RateLimit::new(BGP_PER_SECOND),
            bfd: RateLimit::new(BFD_PER_SECOND),
            neighbour: RateLimit::new(NEIGHBOUR_PER_SECOND),
            rest: RateLimit::new(REST_PER_SECOND),
        };
        let (first, rest, outgoing) = (Burst::new(), Burst::new(), Burst::new());
        Self { first, rest, outgoing, budgets, device }
    }

    /// The device.
    pub fn device_mut(&mut self) -> &mut P {
        &mut self.device
    }

    /// Queues a packet that arrived at `port` for the kernel. Where the port has tags of its
    /// own, the kernel sees none; on other ports tags stay as they are.
    ///
    /// # Errors
    /// When the packet comes from a VIP's address or is longer than the interface takes, its budget
    /// is used up, or the queue is full.
    pub fn offer(
        &mut self,
        mut packet: P::Buffer,
        parsed: &Parsed,
        port: &PortTable,
        tables: &Tables,
        now_ms: u32,
    ) -> Result<(), DropReason> {
        let traffic = Traffic::of(parsed);
        if traffic != Traffic::Neighbour && is_vip(parsed.key.source(), tables) {
            return Err(DropReason::ExceptionVip);
        }
        if packet.data().len() > self.device.longest_frame() {
            return Err(DropReason::ExceptionTooBig);
        }
        let budgets = &mut self.budgets;
        let (budget, queue) = match traffic {
            Traffic::Bgp => (&mut budgets.bgp, &mut self.first),
            Traffic::Bfd => (&mut budgets.bfd, &mut self.first),
            Traffic::Neighbour => (&mut budgets.neighbour, &mut self.first),
            Traffic::Rest => (&mut budgets.rest, &mut self.rest),
        };
        if !budget.allow(now_ms) {
            return Err(DropReason::ExceptionRateLimited);
        }
        if port.vlan.is_some() && !tags::replace(&mut packet, usize::from(parsed.link_length), None)
        {
            return Err(DropReason::NoHeadroom);
        }
        queue.try_push(packet).map_err(|_| DropReason::ExceptionFull)
    }

    /// Hands what is queued to the kernel; what its side has no room for stays queued. Returns how
    /// many packets it took.
    pub fn flush(&mut self) -> usize {
        let before = self.first.len() + self.rest.len();
        if !self.first.is_empty() {
            self.device.transmit(&mut self.first);
        }
        if !self.rest.is_empty() && self.first.is_empty() {
            self.device.transmit(&mut self.rest);
        }
        before - self.first.len() - self.rest.len()
    }

    /// Takes what the kernel has sent, up to a burst, with the port's tags put in; nothing while
    /// earlier packets wait for the port, so that the kernel's own queue fills up instead.
    pub fn receive(&mut self, port: &PortTable, tables: &Tables) -> FromKernel {
        let mut result = FromKernel::default();
        let longest = LONGEST_LINK_HEADER + usize::from(port.mtu);
        if !self.outgoing.is_empty() {
            return result;
        }
        self.device.receive(&mut self.outgoing);
        result.received = self.outgoing.len();
        self.outgoing.retain(|packet| {
            if has_vip(packet.data(), tables) {
                result.of_vips += 1;
                return false;
            }
            if packet.data().len() > longest {
                result.too_big += 1;
                return false;
            }
            let fits =
                port.vlan.is_none() || tags::replace(packet, EthernetHeader::LENGTH, port.vlan);
            result.no_headroom += usize::from(!fits);
            fits
        });
        result
    }

    /// What waits for the port.
    pub fn outgoing(&mut self) -> &mut Burst<P::Buffer> {
        &mut self.outgoing
    }
}

fn is_vip(address: IpAddr, tables: &Tables) -> bool {
    tables.lookup.contains_address(address_bits(address))
}

/// Bytes of an Ethernet header with as many tags as there may be.
const LONGEST_LINK_HEADER: usize = EthernetHeader::LENGTH + MAX_TAGS * VlanTag::LENGTH;

/// Whether an IP packet comes from a VIP's address or goes to one.
fn has_vip(frame: &[u8], tables: &Tables) -> bool {
    let Some((ethernet, mut rest)) = EthernetHeader::parse(frame) else { return false };
    let mut ethertype = ethernet.ethertype;
    for _ in 0..MAX_TAGS {
        if !ethertype.is_vlan() {
            break;
        }
        let Some((tag, behind)) = VlanTag::parse(rest) else { return false };
        (ethertype, rest) = (tag.ethertype, behind);
    }
    let addresses: Option<[IpAddr; 2]> = match ethertype {
        EtherType::IPV4 => Ipv4Header::parse(rest)
            .map(|(ip, _)| [ip.source_address().into(), ip.destination_address().into()]),
        EtherType::IPV6 => Ipv6Header::parse(rest)
            .map(|(ip, _)| [ip.source_address().into(), ip.destination_address().into()]),
        _ => None,
    };
    addresses.is_some_and(|both| both.into_iter().any(|address| is_vip(address, tables)))
}
