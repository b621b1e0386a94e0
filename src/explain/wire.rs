//! What left the node: headers field by field, and the bytes.

use std::fmt::Write;
use std::net::IpAddr;

use dataplane::wire::{
    EtherType, EthernetHeader, GreHeader, GueHeader, IpProtocol, Ipv4Header, Ipv6Header,
    SecondChanceData, UdpHeader, VlanTag, checksum,
};

use super::Story;

/// Tells one frame that was sent at `port`; `received` is the frame it was made of.
pub(super) fn tell(received: &[u8], sent: &[u8], port: &str, story: &mut Story) {
    story.step("sent", format!("{} bytes at port \"{port}\"", sent.len()));
    let Some((ethernet, mut rest)) = EthernetHeader::parse(sent) else { return };
    story.step("ethernet", format!("destination       {}", ethernet.destination));
    story.more(format!("source            {}", ethernet.source));
    let mut ethertype = ethernet.ethertype;
    while ethertype.is_vlan() {
        let Some((tag, behind)) = VlanTag::parse(rest) else { return };
        story.more(format!("802.1Q tag        {}", tag.identifier()));
        (ethertype, rest) = (tag.ethertype, behind);
    }
    story.more(format!("ethertype         {:#06x}", ethertype.number()));
    let answer = received.get(6..12) == sent.get(..6);
    // What is longer than the packet that came has something in front of it.
    let tunnelled = rest.len() > ip_packet(received).len();
    match outer(ethertype, rest) {
        Some((protocol, behind)) if tunnelled && !answer => {
            ip("outer ", rest, story);
            let inner = shim(protocol, behind, story);
            ip("inner ", inner, story);
            story.more(difference(received, inner));
        }
        Some(_) if answer => ip("", rest, story),
        _ => story.step("IP", "the packet as it came, not a byte changed".to_owned()),
    }
    story.step("bytes", format!("on the wire, {}", sent.len()));
    story.more(hex_dump(sent));
}

/// What the IP header of a packet says it carries, and that.
fn outer(ethertype: EtherType, packet: &[u8]) -> Option<(IpProtocol, &[u8])> {
    match ethertype {
        EtherType::IPV4 => Ipv4Header::parse(packet).map(|(ip, rest)| (ip.protocol, rest)),
        EtherType::IPV6 => Ipv6Header::parse(packet).map(|(ip, rest)| (ip.next_header, rest)),
        _ => None,
    }
}

/// The IP packet of a frame.
fn ip_packet(frame: &[u8]) -> &[u8] {
    let Some((ethernet, mut rest)) = EthernetHeader::parse(frame) else { return &[] };
    let mut ethertype = ethernet.ethertype;
    while ethertype.is_vlan() {
        let Some((tag, behind)) = VlanTag::parse(rest) else { return &[] };
        (ethertype, rest) = (tag.ethertype, behind);
    }
    rest
}

/// What is between the outer IP header and the packet inside; the latter.
fn shim<'a>(protocol: IpProtocol, behind: &'a [u8], story: &mut Story) -> &'a [u8] {
    match protocol {
        IpProtocol::GRE => {
            let Some((gre, inner)) = GreHeader::parse(behind) else { return behind };
            story.step("GRE", format!("protocol type     {:#06x}", gre.protocol_type.number()));
            inner
        }
        IpProtocol::UDP => {
            let Some((udp, inner)) = UdpHeader::parse(behind) else { return behind };
            story.step("UDP", format!("source port       {} (of the flow)", udp.source_port));
            // RFC 791, RFC 8200: the first bits of a packet of IP are not zero.
            let with_header = inner.first().is_some_and(|first| first >> 6 == 0);
            let variant = if with_header { 0 } else { 1 };
            story.more(format!(
                "destination port  {} (GUE, variant {variant})",
                udp.destination_port
            ));
            story.more(format!("length            {} bytes", udp.length));
            let kind = if udp.checksum.get() == 0 { "none" } else { "computed" };
            story.more(format!("checksum          {:#06x} ({kind})", udp.checksum.get()));
            if with_header { gue(inner, story) } else { inner }
        }
        _ => behind,
    }
}

/// A GUE header and its private data; what is behind.
fn gue<'a>(payload: &'a [u8], story: &mut Story) -> &'a [u8] {
    let Some((header, behind)) = GueHeader::parse(payload) else { return payload };
    let words = usize::from(header.words());
    let Some((private, inner)) = behind.split_at_checked(words * 4) else { return payload };
    let name = protocol_name(header.protocol, "");
    story.step("GUE", format!("header length     {words} words behind the first"));
    story.more(format!("protocol          {}{name}", header.protocol.0));
    let Some((data, hops)) = SecondChanceData::parse(private) else { return inner };
    story.more(format!("snapshot version  {} (its low bits)", data.version));
    let named: Vec<String> = match data.kind {
        SecondChanceData::IPV6_HOPS => {
            hops.as_chunks().0.iter().map(|hop: &[u8; 16]| IpAddr::from(*hop).to_string()).collect()
        }
        _ => {
            hops.as_chunks().0.iter().map(|hop: &[u8; 4]| IpAddr::from(*hop).to_string()).collect()
        }
    };
    let named = if named.is_empty() { "nobody".to_owned() } else { named.join(", ") };
    story.more(format!("second chance     {named}"));
    inner
}

/// An IP header of either version, field by field.
fn ip(place: &str, packet: &[u8], story: &mut Story) {
    match packet.first().map(|first| first >> 4) {
        Some(4) => ipv4(place, packet, story),
        Some(6) => ipv6(place, packet, story),
        _ => {}
    }
}

/// What the two versions' headers are called at a place.
fn labels(place: &str) -> (&'static str, &'static str) {
    match place {
        "outer " => ("outer IPv4", "outer IPv6"),
        "inner " => ("inner IPv4", "inner IPv6"),
        _ => ("IPv4", "IPv6"),
    }
}

fn ipv4(place: &str, packet: &[u8], story: &mut Story) {
    let Some((header, _)) = Ipv4Header::parse(packet) else { return };
    let right = packet.get(..header.header_length()).is_some_and(checksum::verify);
    story.step(labels(place).0, format!("version           {}", header.version()));
    let mut field = |name: &str, value: String| story.more(format!("{name:18}{value}"));
    field("header length", format!("{} bytes", header.header_length()));
    field("DSCP", header.dscp().to_string());
    field("ECN", header.ecn().to_string());
    field("total length", format!("{} bytes", header.total_length));
    field("identification", format!("{:#06x}", header.identification.get()));
    field("don't fragment", if header.dont_fragment() { "set" } else { "clear" }.to_owned());
    field("fragment offset", header.fragment_offset().to_string());
    field("time to live", header.time_to_live.to_string());
    let outside = if place == "outer " { " in IPv4" } else { "" };
    field("protocol", format!("{}{}", header.protocol.0, protocol_name(header.protocol, outside)));
    let verdict = if right { "right" } else { "WRONG" };
    field("header checksum", format!("{:#06x} ({verdict})", header.header_checksum.get()));
    field("source", header.source_address().to_string());
    field("destination", header.destination_address().to_string());
}

fn ipv6(place: &str, packet: &[u8], story: &mut Story) {
    let Some((header, _)) = Ipv6Header::parse(packet) else { return };
    story.step(labels(place).1, format!("version           {}", header.version()));
    let mut field = |name: &str, value: String| story.more(format!("{name:18}{value}"));
    field("DSCP", header.dscp().to_string());
    field("ECN", header.ecn().to_string());
    field("flow label", format!("{:#07x}", header.flow_label()));
    field("payload length", format!("{} bytes", header.payload_length));
    let outside = if place == "outer " { " in IPv6" } else { "" };
    let next = header.next_header;
    field("next header", format!("{}{}", next.0, protocol_name(next, outside)));
    field("hop limit", header.hop_limit.to_string());
    field("source", header.source_address().to_string());
    field("destination", header.destination_address().to_string());
}

fn protocol_name(protocol: IpProtocol, outside: &str) -> String {
    let name = match protocol {
        IpProtocol::IPV4 => "IPv4",
        IpProtocol::IPV6 => "IPv6",
        IpProtocol::TCP => return " (TCP)".to_owned(),
        IpProtocol::UDP => return " (UDP)".to_owned(),
        IpProtocol::GRE => return " (GRE)".to_owned(),
        IpProtocol::ICMPV6 => return " (ICMPv6)".to_owned(),
        _ => return String::new(),
    };
    format!(" ({name}{outside})")
}

/// What encapsulation changed in the packet that came.
fn difference(received: &[u8], inner: &[u8]) -> String {
    let start = received.len().saturating_sub(inner.len());
    let before = received.get(start..).unwrap_or_default();
    let changed = before.iter().zip(inner).filter(|(old, new)| old != new).count();
    let bytes = if changed == 1 { "1 byte".to_owned() } else { format!("{changed} bytes") };
    if inner.first().is_some_and(|first| first >> 4 == 6) {
        return match (Ipv6Header::parse(before), Ipv6Header::parse(inner)) {
            (Some((old, _)), Some((new, _))) => format!(
                "of the packet that came, hop limit {} -> {}: {bytes} changed",
                old.hop_limit, new.hop_limit,
            ),
            _ => String::new(),
        };
    }
    let (Some((old, _)), Some((new, _))) = (Ipv4Header::parse(before), Ipv4Header::parse(inner))
    else {
        return String::new();
    };
    format!(
        "of the packet that came, time to live {} -> {} and its checksum {:#06x} -> {:#06x}: \
         {bytes} changed",
        old.time_to_live,
        new.time_to_live,
        old.header_checksum.get(),
        new.header_checksum.get(),
    )
}

/// Sixteen bytes a line: offset, hexadecimal, text.
pub(super) fn hex_dump(bytes: &[u8]) -> String {
    let mut dump = String::new();
    for (row, chunk) in bytes.chunks(16).enumerate() {
        let mut hex = String::new();
        let mut text = String::new();
        for (column, byte) in chunk.iter().enumerate() {
            let gap = if column == 8 { "  " } else { " " };
            // Writing to a string cannot fail.
            let _ = write!(hex, "{}{byte:02x}", if column == 0 { "" } else { gap });
            text.push(if byte.is_ascii_graphic() { char::from(*byte) } else { '.' });
        }
        let _ = writeln!(dump, "{:04x}  {hex:48}  {text}", row * 16);
    }
    dump
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_has_sixteen_bytes_a_line() {
        let bytes: Vec<u8> = (0x3e..0x50).collect();
        assert_eq!(
            hex_dump(&bytes),
            "0000  3e 3f 40 41 42 43 44 45  46 47 48 49 4a 4b 4c 4d  >?@ABCDEFGHIJKLM\n\
             0010  4e 4f                                             NO\n"
        );
    }
}
