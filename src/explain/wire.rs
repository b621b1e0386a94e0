//! What left the node: headers field by field, and the bytes.

use std::fmt::Write;

use dataplane::wire::{EthernetHeader, IpProtocol, Ipv4Header, VlanTag, checksum};

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
    if let Some((outer, inner)) = Ipv4Header::parse(rest) {
        match outer.protocol {
            IpProtocol::IPV4 => {
                ipv4("outer IPv4", outer, rest, story);
                if let Some((header, _)) = Ipv4Header::parse(inner) {
                    ipv4("inner IPv4", header, inner, story);
                }
                story.more(difference(received, inner));
            }
            _ => story.step("IPv4", "the packet as it came, not a byte changed".to_owned()),
        }
    }
    story.step("bytes", format!("on the wire, {}", sent.len()));
    story.more(hex_dump(sent));
}

fn ipv4(label: &'static str, header: &Ipv4Header, bytes: &[u8], story: &mut Story) {
    let right = bytes.get(..header.header_length()).is_some_and(checksum::verify);
    story.step(label, format!("version           {}", header.version()));
    let mut field = |name: &str, value: String| story.more(format!("{name:18}{value}"));
    field("header length", format!("{} bytes", header.header_length()));
    field("DSCP", header.dscp().to_string());
    field("ECN", header.ecn().to_string());
    field("total length", format!("{} bytes", header.total_length));
    field("identification", format!("{:#06x}", header.identification.get()));
    field("don't fragment", if header.dont_fragment() { "set" } else { "clear" }.to_owned());
    field("fragment offset", header.fragment_offset().to_string());
    field("time to live", header.time_to_live.to_string());
    field("protocol", format!("{}{}", header.protocol.0, protocol_name(header.protocol)));
    let verdict = if right { "right" } else { "WRONG" };
    field("header checksum", format!("{:#06x} ({verdict})", header.header_checksum.get()));
    field("source", header.source_address().to_string());
    field("destination", header.destination_address().to_string());
}

fn protocol_name(protocol: IpProtocol) -> &'static str {
    match protocol {
        IpProtocol::IPV4 => " (IPv4 in IPv4)",
        IpProtocol::TCP => " (TCP)",
        IpProtocol::UDP => " (UDP)",
        _ => "",
    }
}

/// What encapsulation changed in the packet that came.
fn difference(received: &[u8], inner: &[u8]) -> String {
    let start = received.len().saturating_sub(inner.len());
    let before = received.get(start..).unwrap_or_default();
    let (Some((old, _)), Some((new, _))) = (Ipv4Header::parse(before), Ipv4Header::parse(inner))
    else {
        return String::new();
    };
    let changed = before.iter().zip(inner).filter(|(old, new)| old != new).count();
    format!(
        "of the packet that came, time to live {} -> {} and its checksum {:#06x} -> {:#06x}: \
         {changed} bytes changed",
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
