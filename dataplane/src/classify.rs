//! Second stage: whom is the packet for?

use crate::parse::{Kind, Parsed};
use crate::tables::Tables;
use crate::verdict::DropReason;
use crate::vip::address_bits;

/// Whom a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A flow of the VIP with this index.
    Vip(u32),
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

/// A flow packet that no VIP takes.
#[cold]
fn classify_other(parsed: &Parsed, tables: &Tables) -> Class {
    if tables.owns(parsed.key.destination()) { Class::Host } else { Class::Drop(DropReason::NoVip) }
}
