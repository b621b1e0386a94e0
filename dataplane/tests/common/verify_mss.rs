//! Is a SYN with another MSS the SYN that came? Judged by sums, and by a walk of its own.

use super::verify::sum;

/// What `came` is with its MSS lowered to `limit`: with the checksum that `output`, which ends with
/// it, has, if that fits the change. `None` for what has no greater MSS.
pub(super) fn clamped(came: &[u8], output: &[u8], limit: u16) -> Option<Vec<u8>> {
    let tcp = tcp_at(came)?;
    if came.get(tcp + 13)? & 0x02 == 0 {
        return None;
    }
    let end = tcp + usize::from(came.get(tcp + 12)? >> 4) * 4;
    let mut at = tcp + 20;
    let place = loop {
        match came.get(at..end)? {
            [1, ..] => at += 1,
            [2, 4, _, _, ..] => break at + 2,
            [kind, length, ..] if *kind > 2 && *length >= 2 => at += usize::from(*length),
            _ => return None,
        }
    };
    if u16::from_be_bytes([came[place], came[place + 1]]) <= limit {
        return None;
    }
    let mut packet = came.to_vec();
    packet[place..place + 2].copy_from_slice(&limit.to_be_bytes());
    let before = output.len().checked_sub(came.len())?;
    packet[tcp + 16..tcp + 18].copy_from_slice(&output[before + tcp + 16..before + tcp + 18]);
    // Right sums stay right, and wrong ones as wrong as they were. Zero has two forms.
    let (old, new) = (sum(&came[tcp..]), sum(&packet[tcp..]));
    (old % 0xffff == new % 0xffff).then_some(packet)
}

/// Where the TCP header of an IP packet begins.
fn tcp_at(ip: &[u8]) -> Option<usize> {
    if ip.first()? >> 4 == 4 {
        return (ip.get(9)? == &6).then_some(usize::from(ip[0] & 0x0f) * 4);
    }
    let (mut next, mut at) = (*ip.get(6)?, 40);
    while next != 6 {
        let units = usize::from(*ip.get(at + 1)?);
        let length = match next {
            44 => 8,
            0 | 43 | 60 => 8 + units * 8,
            _ => return None,
        };
        (next, at) = (*ip.get(at)?, at + length);
    }
    Some(at)
}
