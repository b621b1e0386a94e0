//! One VIP of a snapshot.

use std::net::{IpAddr, Ipv4Addr};

use conntrack::{State, Timeouts};
use dataplane::vip::{VipMatch, VipPorts, VipProtocol};
use proto::v1;

use super::{Reason, Refusal, refuse, seconds, shown};
use crate::snapshot::VipBinding;

/// Checks a VIP and its idle times.
pub(super) fn binding(vip: &v1::Vip) -> Result<VipBinding, Refusal> {
    let (address, prefix_length) = prefix(vip)?;
    let matches = VipMatch {
        address: IpAddr::V4(address),
        prefix_length,
        ports: ports(vip)?,
        protocol: protocol(vip)?,
    };
    let mut timeouts = Timeouts::default();
    let times = [
        ("syn_received_seconds", vip.syn_received_seconds, State::SynReceived),
        ("established_seconds", vip.established_seconds, State::Established),
        ("fin_wait_seconds", vip.fin_wait_seconds, State::FinWait),
        ("time_wait_seconds", vip.time_wait_seconds, State::TimeWait),
        ("udp_idle_seconds", vip.udp_idle_seconds, State::Udp),
        ("udp_idle_seconds", vip.udp_idle_seconds, State::Other),
    ];
    for (field, given, state) in times {
        let default = timeouts.of(state) / 1000;
        let field = format!("vip {}: {field}", shown(&vip.address));
        timeouts = timeouts.with(state, seconds(&field, given, default)? * 1000);
    }
    Ok(VipBinding { matches, timeouts })
}

/// `203.0.113.1`, or `203.0.113.0/28` without host bits.
fn prefix(vip: &v1::Vip) -> Result<(Ipv4Addr, u8), Refusal> {
    let refused =
        |what: &str| refuse(Reason::Vip, format!("vip address \"{}\" {what}", shown(&vip.address)));
    let (address, length) = vip.address.split_once('/').unwrap_or((&vip.address, "32"));
    let plain = length.bytes().all(|byte| byte.is_ascii_digit());
    let length = length.parse::<u8>().ok().filter(|length| plain && *length <= 32);
    let length = length.ok_or_else(|| refused("has no prefix length of 0 to 32"))?;
    let address = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => address,
        Ok(IpAddr::V6(_)) => return Err(refused("is IPv6, which is not in this release")),
        Err(_) => return Err(refused("is not an address or a prefix")),
    };
    let host_bits = u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
    if u32::from(address) & host_bits != 0 {
        return Err(refused("has host bits set"));
    }
    Ok((address, length))
}

fn ports(vip: &v1::Vip) -> Result<VipPorts, Refusal> {
    let port = |number: u32| u16::try_from(number).ok().filter(|port| *port != 0);
    match (vip.first_port, vip.last_port) {
        (0, 0) => Ok(VipPorts::Any),
        (first, last) => match (port(first), port(last)) {
            (Some(first), Some(last)) if first == last => Ok(VipPorts::One(first)),
            (Some(first), Some(last)) if first < last => Ok(VipPorts::Range(first..=last)),
            _ => Err(refuse(
                Reason::Vip,
                format!(
                    "vip {}: ports {first} to {last} (expected 1 to 65535, the first not above the \
                     last, or both 0)",
                    shown(&vip.address)
                ),
            )),
        },
    }
}

fn protocol(vip: &v1::Vip) -> Result<VipProtocol, Refusal> {
    match v1::Protocol::try_from(vip.protocol) {
        Ok(v1::Protocol::Tcp) => Ok(VipProtocol::Tcp),
        Ok(v1::Protocol::Udp) => Ok(VipProtocol::Udp),
        Ok(v1::Protocol::Any) => Ok(VipProtocol::Any),
        Ok(v1::Protocol::Unspecified) | Err(_) => Err(refuse(
            Reason::Vip,
            format!("vip {}: protocol {} is unknown here", shown(&vip.address), vip.protocol),
        )),
    }
}
