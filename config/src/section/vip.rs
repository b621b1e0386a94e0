//! `[[vip]]`: what clients dial.

use super::address::not_unicast;
use crate::model::{Affinity, MssClamp, Protocol, Timeouts, Vip, VipPort};
use crate::reader::{Reader, type_of};
use crate::report::Reported;
use crate::schema::keys::vip as keys;
use ipnet::IpNet;
use std::net::IpAddr;
use toml::de::DeValue;

/// A VIP, with the lines that checks across sections point at.
pub(crate) struct VipEntry {
    pub(crate) vip: Vip,
    pub(crate) address_line: usize,
    pub(crate) port_line: usize,
    pub(crate) pool_line: usize,
    pub(crate) affinity_line: usize,
}

pub(crate) fn read(mut reader: Reader<'_, '_>) -> Result<VipEntry, Reported> {
    let address = read_address(&mut reader);
    let port = read_port(&mut reader);
    let protocol = reader.choice(
        &keys::PROTOCOL,
        &[("tcp", Protocol::Tcp), ("udp", Protocol::Udp), ("any", Protocol::Any)],
    );
    let pool = reader.text(&keys::POOL);
    let affinity = reader.choice(
        &keys::AFFINITY,
        &[("flow", Affinity::Flow), ("source", Affinity::Source), ("quic", Affinity::Quic)],
    );
    let mss_clamp = read_mss_clamp(&mut reader);
    let timeouts = read_timeouts(&mut reader);
    let vip = Vip {
        address: address?,
        port: port?,
        protocol: protocol?,
        pool: pool?,
        timeouts: timeouts?,
        affinity: affinity?,
        mss_clamp: mss_clamp?,
    };
    Ok(VipEntry {
        vip,
        address_line: reader.line_of(&keys::ADDRESS),
        port_line: reader.line_of(&keys::PORT),
        pool_line: reader.line_of(&keys::POOL),
        affinity_line: reader.line_of(&keys::AFFINITY),
    })
}

fn read_address(reader: &mut Reader<'_, '_>) -> Result<IpNet, Reported> {
    let key = &keys::ADDRESS;
    let AddressOrPrefix(net) = reader.notation(key)?;
    if net.addr() != net.network() {
        let expected = format!("\"{}\" or one address", net.trunc());
        return Err(reader.fault(key, "has host bits set", &expected));
    }
    let ends = [net.network(), net.broadcast()];
    if let Some(what) = ends.into_iter().find_map(not_unicast) {
        return Err(reader.fault(key, what, "addresses that clients can dial"));
    }
    Ok(net)
}

/// `203.0.113.1` is `203.0.113.1/32`.
struct AddressOrPrefix(IpNet);

impl std::str::FromStr for AddressOrPrefix {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let address = text.parse::<IpAddr>().map(IpNet::from);
        address.or_else(|_| text.parse()).map(Self).map_err(|_| ())
    }
}

fn read_port(reader: &mut Reader<'_, '_>) -> Result<VipPort, Reported> {
    let key = &keys::PORT;
    let expected = key.kind.expected();
    match reader.raw(key)? {
        DeValue::Integer(digits) => {
            let number = i64::from_str_radix(digits.as_str(), digits.radix());
            match number.ok().and_then(|number| u16::try_from(number).ok()) {
                Some(port @ 1..) => Ok(VipPort::Exact(port)),
                _ => Err(reader.fault(key, "is out of range", "1 to 65535")),
            }
        }
        DeValue::String(text) if text == "any" => Ok(VipPort::Any),
        DeValue::String(text) => match parse_range(text) {
            Some((first, last)) if first == last => Ok(VipPort::Exact(first)),
            Some((first, last)) if first < last => Ok(VipPort::Range { first, last }),
            Some(_) => Err(reader.fault(key, "runs backwards", "the lower port first")),
            None => Err(reader.fault(key, "is not a port range", &expected)),
        },
        other => Err(reader.fault(key, &format!("is {}", type_of(other)), &expected)),
    }
}

fn read_mss_clamp(reader: &mut Reader<'_, '_>) -> Result<Option<MssClamp>, Reported> {
    let key = &keys::MSS_CLAMP;
    if !reader.is_present(key) {
        return Ok(None);
    }
    let expected = key.kind.expected();
    match reader.raw(key)? {
        DeValue::Integer(digits) => {
            let number = i64::from_str_radix(digits.as_str(), digits.radix()).ok();
            let allowed = keys::LEAST_MSS..=keys::LARGEST_MSS;
            match number.and_then(|number| u16::try_from(number).ok()) {
                Some(bytes) if allowed.contains(&bytes) => Ok(Some(MssClamp::To(bytes))),
                _ => Err(reader.fault(key, "is out of range", &key.kind.range())),
            }
        }
        DeValue::String(text) if text == "auto" => Ok(Some(MssClamp::Auto)),
        DeValue::String(_) => Err(reader.fault(key, "is no segment size", &expected)),
        other => Err(reader.fault(key, &format!("is {}", type_of(other)), &expected)),
    }
}

/// `8000-8099`, decimal, without blanks or signs, neither port 0.
fn parse_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-')?;
    let port = |digits: &str| {
        let plain = digits.bytes().all(|digit| digit.is_ascii_digit());
        digits.parse().ok().filter(|&port: &u16| plain && port > 0)
    };
    Some((port(first)?, port(last)?))
}

fn read_timeouts(reader: &mut Reader<'_, '_>) -> Result<Timeouts, Reported> {
    let syn_received = reader.seconds(&keys::SYN_RECEIVED);
    let established = reader.seconds(&keys::ESTABLISHED);
    let fin_wait = reader.seconds(&keys::FIN_WAIT);
    let time_wait = reader.seconds(&keys::TIME_WAIT);
    let udp_idle = reader.seconds(&keys::UDP_IDLE);
    Ok(Timeouts {
        syn_received: syn_received?,
        established: established?,
        fin_wait: fin_wait?,
        time_wait: time_wait?,
        udp_idle: udp_idle?,
    })
}
