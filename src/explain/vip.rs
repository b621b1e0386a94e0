//! Which VIP the packet is for, which others match too, and why this one wins.

use std::net::IpAddr;

use control::snapshot::VipBinding;
use dataplane::classify::Class;
use dataplane::parse::Parsed;
use dataplane::vip::{VipMatch, VipPorts, VipProtocol};
use dataplane::wire::IpProtocol;

use super::Story;
use crate::replay::Bench;

/// Tells what the second stage found.
pub(super) fn tell(parsed: &Parsed, class: Class, bench: &Bench, story: &mut Story) {
    let destination = parsed.key.destination();
    match class {
        Class::Vip(index) => found(parsed, index, bench, story),
        Class::Host => story.step(
            "VIP",
            format!("none; {destination} is the node's own, so the packet is for its kernel"),
        ),
        _ => missing(parsed, bench, story),
    }
}

fn found(parsed: &Parsed, index: u32, bench: &Bench, story: &mut Story) {
    let name = bench.node.assembler().vip_name(index).unwrap_or_default();
    let Some((pool, binding)) = bindings(bench).find(|(_, binding)| binding.name() == name) else {
        return;
    };
    story.step("VIP", format!("{name}, of pool \"{pool}\": {}", why(&binding.matches)));
    let others: Vec<String> = bindings(bench)
        .filter(|(_, other)| other.name() != name && takes(&other.matches, parsed))
        .map(|(_, other)| format!("{} ({})", other.name(), loses(&other.matches, &binding.matches)))
        .collect();
    if !others.is_empty() {
        story.more(format!("it wins over {}", others.join(", ")));
    }
}

/// No VIP: is it the address, the port or the protocol?
fn missing(parsed: &Parsed, bench: &Bench, story: &mut Story) {
    let destination = parsed.key.destination();
    let there: Vec<String> = bindings(bench)
        .filter(|(_, binding)| covers(&binding.matches, destination))
        .map(|(_, binding)| binding.name())
        .collect();
    story.step(
        "VIP",
        match there.is_empty() {
            true => format!("none: {destination} is no VIP's address, and not the node's"),
            false => format!(
                "none: {destination} is a VIP's address, but not with port {}/{}: there is {}",
                parsed.key.destination_port(),
                if parsed.key.protocol() == IpProtocol::TCP.0 { "tcp" } else { "udp" },
                there.join(", ")
            ),
        },
    );
}

fn bindings(bench: &Bench) -> impl Iterator<Item = (&str, &VipBinding)> {
    bench
        .node
        .pools()
        .flat_map(|pool| pool.vips.iter().map(|binding| (pool.pool_id.as_str(), binding)))
}

/// In what way the VIP fits.
fn why(matches: &VipMatch) -> String {
    let whole = if matches.address.is_ipv4() { 32 } else { 128 };
    let address = match matches.prefix_length == whole {
        true => "exact address".to_owned(),
        false => format!("address in its /{}", matches.prefix_length),
    };
    let port = match matches.ports {
        VipPorts::One(_) => "exact port",
        VipPorts::Range(_) => "port in its range",
        VipPorts::Any => "any port",
    };
    let protocol = match matches.protocol {
        VipProtocol::Tcp | VipProtocol::Udp => "exact protocol",
        VipProtocol::Any => "any protocol",
    };
    format!("{address}, {port}, {protocol}")
}

/// By which rule of the lookup a VIP that matches as well comes second.
fn loses(other: &VipMatch, winner: &VipMatch) -> &'static str {
    let rank = |ports: &VipPorts| match ports {
        VipPorts::One(_) => 0,
        VipPorts::Range(_) => 1,
        VipPorts::Any => 2,
    };
    if other.prefix_length < winner.prefix_length {
        "shorter prefix"
    } else if rank(&other.ports) > rank(&winner.ports) {
        "less exact port"
    } else {
        "less exact protocol"
    }
}

fn takes(matches: &VipMatch, parsed: &Parsed) -> bool {
    let port = parsed.key.destination_port();
    let ports = match &matches.ports {
        VipPorts::One(one) => *one == port,
        VipPorts::Range(range) => range.contains(&port),
        VipPorts::Any => true,
    };
    let protocol = match matches.protocol {
        VipProtocol::Tcp => parsed.key.protocol() == IpProtocol::TCP.0,
        VipProtocol::Udp => parsed.key.protocol() == IpProtocol::UDP.0,
        VipProtocol::Any => true,
    };
    ports && protocol && covers(matches, parsed.key.destination())
}

fn covers(matches: &VipMatch, address: IpAddr) -> bool {
    let bits = |address| match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)) << 96,
        IpAddr::V6(v6) => u128::from(v6),
    };
    let kept = u32::from(matches.prefix_length);
    let difference = bits(matches.address) ^ bits(address);
    matches.address.is_ipv4() == address.is_ipv4()
        && difference.checked_shr(128u32.saturating_sub(kept)).unwrap_or(0) == 0
}
