//! The same for IPv6: what an answer is, and what makes a message sound.

use super::verify::{ip_packet, sum, sums_to_zero};
use super::world::NODE_MAC;

/// What is behind the extension headers, and its protocol; `None` for chains that are cut.
fn upper(ip: &[u8]) -> Option<(u8, usize)> {
    let (mut next, mut at) = (*ip.get(6)?, 40);
    while matches!(next, 0 | 43 | 44 | 60) {
        let units = if next == 44 { 0 } else { usize::from(*ip.get(at + 1)?) };
        next = *ip.get(at)?;
        at += (units + 1) * 8;
    }
    (at <= ip.len()).then_some((next, at))
}

/// Pseudo-header and upper-layer packet (RFC 8200 section 8.1).
fn summed(ip: &[u8], protocol: u8, at: usize) -> Vec<u8> {
    let upper = &ip[at..];
    [&ip[8..40], &(upper.len() as u32).to_be_bytes(), &[0, 0, 0, protocol], upper].concat()
}

/// Is `output` an answer to `question`: from whom it was sent to, sound, without extension headers?
pub(super) fn is_reply(output: &[u8], question: &[u8]) -> bool {
    let (answer, asked) = (ip_packet(output), ip_packet(question));
    if output.get(6..12) != Some(&NODE_MAC.0[..]) || answer.len() < 48 || !output.ends_with(answer)
    {
        return false;
    }
    let protocol = answer[6];
    if !matches!(protocol, 6 | 58) || !sums_to_zero(&summed(answer, protocol, 40)) {
        return false;
    }
    let Some((_, at)) = upper(asked) else { return false };
    let back = output.get(..6) == question.get(6..12);
    let message = &answer[40..];
    if protocol == 58 && message[0] == 136 {
        // RFC 4861 section 7.2.4: from the target, hop limit 255, with its link-layer address.
        let detects = asked[8..24] == [0; 16];
        let all_nodes = output[..6] == [0x33, 0x33, 0, 0, 0, 1] && message[4] & 0x40 == 0;
        return (if detects { all_nodes } else { back && message[4] & 0x40 != 0 })
            && answer[7] == 255
            && message.len() == 32
            && message[8..24] == asked[at + 8..at + 24]
            && answer[8..24] == message[8..24]
            && (detects || answer[24..40] == asked[8..24])
            && message[24..26] == [2, 1]
            && message[26..] == NODE_MAC.0;
    }
    let addresses = answer[8..24] == asked[24..40] && answer[24..40] == asked[8..24];
    back && addresses
        && answer[7] == 64
        && match protocol {
            58 => message[0] == 129 && message[4..] == asked[at + 4..],
            _ => message.len() == 20 && message[13] & 0x04 != 0,
        }
}

/// Makes the checksum of an ICMPv6 message right, so that what lies behind it is reached.
pub(super) fn repair(ip: &mut [u8]) {
    let Some(length) = ip.get(4..6).map(|l| 40 + usize::from(u16::from_be_bytes([l[0], l[1]])))
    else {
        return;
    };
    let Some(ip) = ip.get_mut(..length) else { return };
    let Some((58, at)) = upper(ip) else { return };
    if ip.len() < at + 8 {
        return;
    }
    ip[at + 2..at + 4].fill(0);
    let right = !sum(&summed(ip, 58, at));
    ip[at + 2..at + 4].copy_from_slice(&right.to_be_bytes());
}
