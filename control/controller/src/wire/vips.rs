//! VIPs: what clients dial.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use proto::v1::{Affinity, Protocol, Vip};
use registry::VipKey;
use registry::rows::{self, IdleSeconds, MssClamp, Unknown, VipBinding};
use tonic::Status;

use crate::office::invalid;

/// An idle time of more than a day is a mistyped unit.
const MAX_IDLE: u32 = 86_400;
/// Bytes of a segment that a SYN may be clamped to, as nodes hold them.
const MSS: RangeInclusive<u16> = 88..=9_176;

/// What a VIP is found under.
///
/// # Errors
/// INVALID_ARGUMENT, naming the field.
pub(crate) fn vip_key(vip: &Vip) -> Result<VipKey, Status> {
    let address = prefix(&vip.address)?;
    let ports = ports(vip.first_port, vip.last_port)?;
    let protocol = match Protocol::try_from(vip.protocol) {
        Ok(Protocol::Tcp) => rows::Protocol::Tcp,
        Ok(Protocol::Udp) => rows::Protocol::Udp,
        Ok(Protocol::Any) => rows::Protocol::Any,
        Ok(Protocol::Unspecified) => return Err(invalid("vip.protocol", "is missing")),
        Err(_) => return Err(invalid("vip.protocol", format!("no protocol {}", vip.protocol))),
    };
    Ok(VipKey { address, ports, protocol })
}

/// The row of a VIP that is bound to `pool`, with defaults filled in.
///
/// # Errors
/// INVALID_ARGUMENT, naming the field.
pub(crate) fn vip_row(pool: &str, vip: &Vip) -> Result<VipBinding, Status> {
    let VipKey { address, ports, protocol } = vip_key(vip)?;
    let idle = IdleSeconds {
        syn_received: idle("vip.syn_received_seconds", vip.syn_received_seconds, 30)?,
        established: idle("vip.established_seconds", vip.established_seconds, 300)?,
        fin_wait: idle("vip.fin_wait_seconds", vip.fin_wait_seconds, 60)?,
        time_wait: idle("vip.time_wait_seconds", vip.time_wait_seconds, 60)?,
        udp: idle("vip.udp_idle_seconds", vip.udp_idle_seconds, 60)?,
        unknown: Unknown::default(),
    };
    let affinity = match Affinity::try_from(vip.affinity) {
        Ok(Affinity::Unspecified | Affinity::Flow) => rows::Affinity::Flow,
        Ok(Affinity::Source) => rows::Affinity::Source,
        Ok(Affinity::Quic) if protocol == rows::Protocol::Udp => rows::Affinity::Quic,
        Ok(Affinity::Quic) => return Err(invalid("vip.affinity", "QUIC is for UDP only")),
        Err(_) => return Err(invalid("vip.affinity", format!("no affinity {}", vip.affinity))),
    };
    Ok(VipBinding {
        pool_id: pool.to_owned(),
        address,
        first_port: ports.0,
        last_port: ports.1,
        protocol,
        idle,
        affinity,
        mss_clamp: mss_clamp(vip)?,
        unknown: Unknown::default(),
    })
}

/// A VIP as callers see it.
pub(crate) fn proto_vip(row: &VipBinding) -> Vip {
    let protocol = match row.protocol {
        rows::Protocol::Tcp => Protocol::Tcp,
        rows::Protocol::Udp => Protocol::Udp,
        rows::Protocol::Any => Protocol::Any,
    };
    let whole = row.address.prefix_len() == row.address.max_prefix_len();
    Vip {
        address: if whole { row.address.addr().to_string() } else { row.address.to_string() },
        first_port: u32::from(row.first_port),
        last_port: u32::from(row.last_port),
        protocol: protocol.into(),
        syn_received_seconds: row.idle.syn_received,
        established_seconds: row.idle.established,
        fin_wait_seconds: row.idle.fin_wait,
        time_wait_seconds: row.idle.time_wait,
        udp_idle_seconds: row.idle.udp,
        affinity: match row.affinity {
            rows::Affinity::Flow => Affinity::Flow.into(),
            rows::Affinity::Source => Affinity::Source.into(),
            rows::Affinity::Quic => Affinity::Quic.into(),
        },
        mss_clamp: match row.mss_clamp {
            MssClamp::To(bytes) => bytes.into(),
            MssClamp::Off | MssClamp::Auto => 0,
        },
        mss_clamp_auto: row.mss_clamp == MssClamp::Auto,
    }
}

/// Why an address is not that of one machine.
pub(super) fn not_unicast(address: IpAddr) -> Option<&'static str> {
    if address.is_unspecified() {
        return Some("is the unspecified address");
    }
    if address.is_loopback() {
        return Some("is a loopback address");
    }
    if address.is_multicast() {
        return Some("is a multicast address");
    }
    match address {
        IpAddr::V4(address) if address.octets()[0] == 0 => Some("is in 0.0.0.0/8"),
        IpAddr::V4(address) if address.octets()[0] >= 240 => Some("is reserved, or broadcast"),
        IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => Some("is IPv4-mapped"),
        _ => None,
    }
}

fn prefix(text: &str) -> Result<IpNet, Status> {
    const FIELD: &str = "vip.address";
    if text.is_empty() {
        return Err(invalid(FIELD, "is missing"));
    }
    let net: IpNet = text
        .parse::<IpAddr>()
        .map(IpNet::from)
        .or_else(|_| text.parse())
        .map_err(|_| invalid(FIELD, format!("\"{text}\" is no address and no prefix")))?;
    if net.addr() != net.network() {
        let expected = net.trunc();
        return Err(invalid(FIELD, format!("{net} has host bits set (expected {expected})")));
    }
    match [net.network(), net.broadcast()].into_iter().find_map(not_unicast) {
        Some(what) => Err(invalid(FIELD, format!("{net} {what}"))),
        None => Ok(net),
    }
}

fn ports(first: u32, last: u32) -> Result<(u16, u16), Status> {
    let port = |field: &str, port: u32| {
        u16::try_from(port).map_err(|_| invalid(field, format!("{port} is above 65535")))
    };
    let (first, last) = (port("vip.first_port", first)?, port("vip.last_port", last)?);
    match (first, last) {
        (0, 0) => Ok((0, 0)),
        (0, _) => Err(invalid("vip.first_port", "is 0 though vip.last_port is not")),
        // One port may be said once.
        (first, 0) => Ok((first, first)),
        (first, last) if first <= last => Ok((first, last)),
        _ => Err(invalid("vip.last_port", format!("{last} is below vip.first_port, {first}"))),
    }
}

fn mss_clamp(vip: &Vip) -> Result<MssClamp, Status> {
    const FIELD: &str = "vip.mss_clamp";
    match (vip.mss_clamp, vip.mss_clamp_auto) {
        (0, false) => Ok(MssClamp::Off),
        (0, true) => Ok(MssClamp::Auto),
        (_, true) => Err(invalid("vip.mss_clamp_auto", "is there with vip.mss_clamp")),
        (bytes, false) => match u16::try_from(bytes) {
            Ok(bytes) if MSS.contains(&bytes) => Ok(MssClamp::To(bytes)),
            _ => {
                let (least, most) = (MSS.start(), MSS.end());
                Err(invalid(FIELD, format!("{bytes} is not from {least} to {most}, nor 0")))
            }
        },
    }
}

fn idle(field: &str, seconds: u32, default: u32) -> Result<u32, Status> {
    match seconds {
        0 => Ok(default),
        1..=MAX_IDLE => Ok(seconds),
        _ => Err(invalid(field, format!("{seconds} is above {MAX_IDLE} (a day)"))),
    }
}
