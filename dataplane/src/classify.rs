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
#[inline]
pub fn classify(parsed: &Parsed, tables: &Tables) -> Class {
    match parsed.kind {
        Kind::Flow => {
            let key = &parsed.key;
            let destination = key.destination_bits();
            match tables.lookup.find(destination, key.destination_port(), key.protocol()) {
                Some(vip) => Class::Vip(vip),
                None => classify_other(parsed, tables),
            }
        }
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
        return classify_other(parsed, tables);
    }
    match IpProtocol(parsed.key.protocol()) {
        // A ping is answered from one packet, an error needs what it quotes: neither is built
        // from pieces here.
        IpProtocol::ICMP | IpProtocol::ICMPV6 => Class::Drop(DropReason::IcmpFragment),
        _ => Class::Fragment,
    }
}

/// A flow packet that no VIP takes.
#[cold]
fn classify_other(parsed: &Parsed, tables: &Tables) -> Class {
    if tables.owns(parsed.key.destination()) { Class::Host } else { Class::Drop(DropReason::NoVip) }
}
