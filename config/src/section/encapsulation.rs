//! `[encapsulation]`: the outer header; and `[icmp]`, the errors that come of it.

use super::address::not_unicast;
use crate::model::{Encapsulation, Icmp, Oversize};
use crate::reader::Reader;
use crate::report::Reported;
use crate::schema::Key;
use crate::schema::keys::{encapsulation as keys, icmp};
use ipnet::IpNet;
use std::net::IpAddr;
use std::str::FromStr;

pub(crate) fn read(mut reader: Reader<'_, '_>) -> Result<Encapsulation, Reported> {
    let source_v4 = read_source(&mut reader, &keys::SOURCE_V4);
    let source_v6 = read_source(&mut reader, &keys::SOURCE_V6);
    let entropy_v4 = read_entropy(&mut reader, &keys::SOURCE_ENTROPY_V4, 8..=30);
    let entropy_v6 = read_entropy(&mut reader, &keys::SOURCE_ENTROPY_V6, 16..=112);
    let dont_fragment = if reader.is_present(&keys::DONT_FRAGMENT) {
        reader.boolean(&keys::DONT_FRAGMENT)
    } else {
        // A router on the way answers a packet that is too big for its next link, and has DF
        // set, to the outer source. Addresses of an entropy prefix do not lead back here, so
        // the answer would be lost and the flow would hang.
        Ok(!reader.is_present(&keys::SOURCE_ENTROPY_V4))
    };
    let oversize = reader
        .choice(&keys::OVERSIZE, &[("fragment", Oversize::Fragment), ("drop", Oversize::Drop)]);
    let outer_ttl = reader.integer(&keys::OUTER_TTL);
    let gue_port = reader.integer(&keys::GUE_PORT);
    let gue_checksum_v6 = reader.boolean(&keys::GUE_CHECKSUM_V6);
    Ok(Encapsulation {
        source_v4: source_v4?,
        source_v6: source_v6?,
        source_entropy_v4: entropy_v4?,
        source_entropy_v6: entropy_v6?,
        gue_port: gue_port?,
        gue_checksum_v6: gue_checksum_v6?,
        dont_fragment: dont_fragment?,
        oversize: oversize?,
        outer_ttl: outer_ttl?,
    })
}

/// `[icmp]`
pub(crate) fn read_icmp(mut reader: Reader<'_, '_>) -> Result<Icmp, Reported> {
    let delivered_per_second = reader.integer(&icmp::DELIVERED_PER_SECOND);
    let sent_per_second = reader.integer(&icmp::SENT_PER_SECOND);
    let sent_per_prefix = reader.integer(&icmp::SENT_PER_PREFIX);
    let port_unreachable = reader.boolean(&icmp::PORT_UNREACHABLE);
    Ok(Icmp {
        delivered_per_second: delivered_per_second?,
        sent_per_second: sent_per_second?,
        sent_per_prefix: sent_per_prefix?,
        port_unreachable: port_unreachable?,
    })
}

fn read_source<A>(reader: &mut Reader<'_, '_>, key: &Key) -> Result<Option<A>, Reported>
where
    A: FromStr + Copy + Into<IpAddr>,
{
    let source: Option<A> = reader.optional_notation(key)?;
    match source.and_then(|address| not_unicast(address.into())) {
        Some(what) => Err(reader.fault(key, what, "a unicast address")),
        None => Ok(source),
    }
}

fn read_entropy<N>(
    reader: &mut Reader<'_, '_>,
    key: &Key,
    lengths: std::ops::RangeInclusive<u8>,
) -> Result<Option<N>, Reported>
where
    N: FromStr + Copy + Into<IpNet>,
{
    let Some(prefix) = reader.optional_notation::<N>(key)? else { return Ok(None) };
    let net: IpNet = prefix.into();
    if !lengths.contains(&net.prefix_len()) {
        let what = format!("has a prefix length of {}", net.prefix_len());
        let expected = format!("a length from {} to {}", lengths.start(), lengths.end());
        return Err(reader.fault(key, &what, &expected));
    }
    if net.addr() != net.network() {
        let expected = format!("\"{}\"", net.trunc());
        return Err(reader.fault(key, "has host bits set", &expected));
    }
    // The discard prefix 100::/64 of RFC 6666 is a customary choice and passes.
    if let Some(what) = not_unicast(net.addr()) {
        return Err(reader.fault(key, what, "a unicast prefix"));
    }
    Ok(Some(prefix))
}
