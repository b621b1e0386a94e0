//! Second stage: whom is the packet for?

use crate::parse::{Kind, Parsed};
use crate::tables::Tables;
use crate::verdict::DropReason;
use crate::vip::address_bits;
use crate::wire::IpProtocol;

/// Whom a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A flow of the VIP with this index.
    Vip(u32),
    /// A part of a datagram to a VIP's address.
    Fragment,
    /// An ICMP or ICMPv6 message to a VIP's or the node's own address.
    Icmp,
    /// Neighbour discovery.
    Ndp,
    /// ARP.
    Arp,
    /// The node's own kernel.
    Host,
    /// Nobody here.
    Drop(DropReason),
}

/// Finds out whom a parsed packet is for.
#[inline(always)]
pub fn classify(parsed: &Parsed, tables: &Tables) -> Class {
    // First what nearly all packets are, by a comparison; the rest by a jump.
    if parsed.kind == Kind::Flow
        && let Some(vip) = tables.lookup.find_flow(&parsed.key)
    {
        return Class::Vip(vip);
    }
    classify_other(parsed, tables)
}

/// A packet that is of no VIP's flow.
#[cold]
#[inline(never)]
fn classify_other(parsed: &Parsed, tables: &Tables) -> Class {
    match parsed.kind {
        Kind::Flow => classify_unknown(parsed, tables),
        Kind::Fragment => classify_fragment(parsed, tables),
        Kind::Arp => Class::Arp,
        Kind::Ndp => Class::Ndp,
        Kind::Icmp => {
            let destination = parsed.key.destination();
            let ours = tables.lookup.contains_address(address_bits(destination))
                || tables.owns(destination);
            if ours { Class::Icmp } else { Class::Drop(DropReason::NoVip) }
        }
        Kind::Drop(reason) => Class::Drop(reason),
    }
}

/// A part of a datagram, whose ports most probably are not known. What is for the node itself its
/// kernel puts together.
#[cold]
fn classify_fragment(parsed: &Parsed, tables: &Tables) -> Class {
    if !tables.lookup.contains_address(parsed.key.destination_bits()) {
        return classify_unknown(parsed, tables);
    }
    match IpProtocol(parsed.key.protocol()) {
        // A ping is answered from one packet, an error needs what it quotes: neither is built
        // from pieces here.
        IpProtocol::ICMP | IpProtocol::ICMPV6 => Class::Drop(DropReason::IcmpFragment),
        _ => Class::Fragment,
    }
}

/// A packet that no VIP takes.
fn classify_unknown(parsed: &Parsed, tables: &Tables) -> Class {
    if tables.owns(parsed.key.destination()) { Class::Host } else { Class::Drop(DropReason::NoVip) }
}
