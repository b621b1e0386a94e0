//! One VIP of a snapshot.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use conntrack::{State, Timeouts};
use dataplane::tables::{Affinity, MssClamp};
use dataplane::vip::{VipMatch, VipPorts, VipProtocol};
use proto::v1;

use super::{Reason, Refusal, refuse, seconds, shown};
use crate::snapshot::VipBinding;

/// Segment sizes that a VIP of a file may be clamped to, too.
const MSS: RangeInclusive<u16> = 88..=9_176;

/// Checks a VIP and its idle times.
pub(super) fn binding(vip: &v1::Vip) -> Result<VipBinding, Refusal> {
    let (address, prefix_length) = prefix(vip)?;
    let matches = VipMatch { address, prefix_length, ports: ports(vip)?, protocol: protocol(vip)? };
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
    let (affinity, mss_clamp) = (affinity(vip)?, mss_clamp(vip)?);
    Ok(VipBinding { matches, timeouts, affinity, mss_clamp })
}

fn affinity(vip: &v1::Vip) -> Result<Affinity, Refusal> {
    match v1::Affinity::try_from(vip.affinity) {
        Ok(v1::Affinity::Unspecified | v1::Affinity::Flow) => Ok(Affinity::Flow),
        Ok(v1::Affinity::Source) => Ok(Affinity::Source),
        Ok(v1::Affinity::Quic) => Ok(Affinity::Quic),
        Err(_) => {
            let (vip, found) = (shown(&vip.address), vip.affinity);
            Err(refuse(Reason::Vip, format!("vip {vip}: affinity {found} is unknown here")))
        }
    }
}

fn mss_clamp(vip: &v1::Vip) -> Result<MssClamp, Refusal> {
    match (vip.mss_clamp, vip.mss_clamp_auto) {
        (0, false) => Ok(MssClamp::Off),
        (0, true) => Ok(MssClamp::Auto),
        (bytes, auto) => match u16::try_from(bytes) {
            Ok(bytes) if !auto && MSS.contains(&bytes) => Ok(MssClamp::To(bytes)),
            _ => {
                let (vip, least, most) = (shown(&vip.address), MSS.start(), MSS.end());
                let expected =
                    format!("(expected {least} to {most}, or 0, or mss_clamp_auto alone)");
                Err(refuse(Reason::Vip, format!("vip {vip}: mss_clamp {bytes} {expected}")))
            }
        },
    }
}

/// `203.0.113.1`, `2001:db8::1`, or a prefix without host bits: `203.0.113.0/28`.
fn prefix(vip: &v1::Vip) -> Result<(IpAddr, u8), Refusal> {
    let refused =
        |what: &str| refuse(Reason::Vip, format!("vip address \"{}\" {what}", shown(&vip.address)));
    let (address, length) = match vip.address.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (vip.address.as_str(), None),
    };
    let address: IpAddr = address.parse().map_err(|_| refused("is not an address or a prefix"))?;
    let (longest, bits) = match address {
        IpAddr::V4(v4) => (32, u128::from(u32::from(v4)) << 96),
        IpAddr::V6(v6) => (128, u128::from(v6)),
    };
    let length = match length {
        None => Some(longest),
        Some(text) => text
            .parse::<u8>()
            .ok()
            .filter(|length| text.bytes().all(|byte| byte.is_ascii_digit()) && *length <= longest),
    };
    let length =
        length.ok_or_else(|| refused(&format!("has no prefix length of 0 to {longest}")))?;
    if bits & u128::MAX.checked_shr(u32::from(length)).unwrap_or(0) != 0 {
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
