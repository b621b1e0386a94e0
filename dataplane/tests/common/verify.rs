//! Headers and checksums, read and summed the slow way: the judge's own arithmetic, which shares
//! no code with the path.

use super::verify_ipv6 as ipv6;
use super::world::NODE_MAC;

/// The IP packet of a frame, without tags and padding; empty when there is none.
pub(super) fn ip_packet(frame: &[u8]) -> &[u8] {
    let mut at = 12;
    while let Some([0x81, 0x00] | [0x88, 0xa8]) = frame.get(at..at + 2) {
        at += 4;
    }
    let ip = frame.get(at + 2..).unwrap_or_default();
    if frame.get(at..at + 2) == Some(&[0x86, 0xdd]) {
        let length = ip.get(4..6).map_or(0, |l| 40 + usize::from(u16::from_be_bytes([l[0], l[1]])));
        return ip.get(..length).unwrap_or_default();
    }
    let length = ip.get(2..4).map_or(0, |l| usize::from(u16::from_be_bytes([l[0], l[1]])));
    ip.get(..length).unwrap_or_default()
}

/// Is `output` an answer to `question`: back to its sender, sound, from whom it was sent to?
pub(super) fn is_reply(output: &[u8], question: &[u8]) -> bool {
    if ip_packet(question).first().is_some_and(|first| first >> 4 == 6) {
        return ipv6::is_reply(output, question);
    }
    if output.get(..6) != question.get(6..12) || output.get(6..12) != Some(&NODE_MAC.0[..]) {
        return false;
    }
    let (answer, asked) = (ip_packet(output), ip_packet(question));
    if answer.is_empty() {
        // ARP: the operation is a reply, and the sender is the node.
        let at = output.len() - 28;
        return output[at - 2..at] == [0x08, 0x06]
            && output[at + 6..at + 8] == [0, 2]
            && output[at + 8..at + 14] == NODE_MAC.0;
    }
    let header = usize::from(answer[0] & 0x0f) * 4;
    let (addresses, message) = (&answer[12..20], &answer[header..]);
    let sound = header_is_sound(answer)
        && output.ends_with(answer)
        && addresses[..4] == asked[16..20]
        && addresses[4..] == asked[12..16];
    sound
        && match answer[9] {
            1 => message[0] == 0 && sums_to_zero(message),
            6 => message[13] & 0x04 != 0 && message.len() == 20 && tcp_sum_is_right(answer),
            _ => false,
        }
}

fn tcp_sum_is_right(ip: &[u8]) -> bool {
    let segment = &ip[20..];
    let pseudo = [&ip[12..20], &[0, 6], &(segment.len() as u16).to_be_bytes()].concat();
    sums_to_zero(&[&pseudo[..], segment].concat())
}

pub(super) fn header_is_sound(ip: &[u8]) -> bool {
    let Some(first) = ip.first() else { return false };
    let header = usize::from(first & 0x0f) * 4;
    let length = ip.get(2..4).map(|l| usize::from(u16::from_be_bytes([l[0], l[1]])));
    first >> 4 == 4 && length == Some(ip.len()) && ip.get(..header).is_some_and(sums_to_zero)
}

/// RFC 1071, the slow way.
pub(super) fn sum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

pub(super) fn sums_to_zero(bytes: &[u8]) -> bool {
    sum(bytes) == 0xffff
}

/// Makes the checksums of an IPv4 header and of an ICMP message right, so that what lies behind
/// them is reached.
pub(super) fn repair(frame: &mut [u8]) {
    let mut at = 12;
    while let Some([0x81, 0x00] | [0x88, 0xa8]) = frame.get(at..at + 2) {
        at += 4;
    }
    let is_v6 = frame.get(at..at + 2) == Some(&[0x86, 0xdd]);
    let Some(ip) = frame.get_mut(at + 2..) else { return };
    if is_v6 {
        return ipv6::repair(ip);
    }
    let Some(first) = ip.first() else { return };
    let header = usize::from(first & 0x0f) * 4;
    if header < 20 || ip.len() < header {
        return;
    }
    ip[10..12].fill(0);
    let right = !sum(&ip[..header]);
    ip[10..12].copy_from_slice(&right.to_be_bytes());
    let length = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    let protocol = ip[9];
    if let Some(message) = ip.get_mut(header..length)
        && protocol == 1
        && message.len() >= 8
    {
        message[2..4].fill(0);
        let right = !sum(message);
        message[2..4].copy_from_slice(&right.to_be_bytes());
    }
}
