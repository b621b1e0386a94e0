//! ICMP errors of the node's own, and outer packets in fragments, judged byte by byte.

use super::verify::{header_is_sound, ip_packet, sums_to_zero};
use super::world::NODE_MAC;

/// Is `output` an ICMP error about `question`, back to the station and the host it came from?
pub(super) fn is_error(output: &[u8], question: &[u8]) -> bool {
    let back = output.get(..6) == question.get(6..12);
    if !back || output.get(6..12) != Some(&NODE_MAC.0[..]) {
        return false;
    }
    let (error, asked) = (ip_packet(output), ip_packet(question));
    if !output.ends_with(error) || error.is_empty() {
        return false;
    }
    if error[0] >> 4 == 4 {
        let message = &error[20..];
        let known = matches!(message[..2], [3, 3 | 4] | [11, 0]);
        return header_is_sound(error)
            && error[9] == 1
            && error[16..20] == asked[12..16]
            && asked[9] != 1
            && known
            && sums_to_zero(message)
            && message[8..] == asked[..asked.len().min(576 - 28)];
    }
    let message = &error[40..];
    let length = (message.len() as u32).to_be_bytes();
    let summed = [&error[8..40], &length, &[0, 0, 0, 58], message].concat();
    let known = matches!(message[..2], [1, 4] | [2 | 3, 0]);
    error[6] == 58
        && error[24..40] == asked[8..24]
        && known
        && sums_to_zero(&summed)
        && message[8..] == asked[..asked.len().min(1280 - 48)]
}

/// Fragments of one outer packet, in the order they went out.
#[derive(Default)]
pub(super) struct Pieces {
    /// How many there were.
    pub(super) count: usize,
    payload: Vec<u8>,
}

impl Pieces {
    /// Takes the next one: the whole frame, if it was the last. Panics when it does not follow.
    pub(super) fn take(&mut self, output: &[u8]) -> Option<Vec<u8>> {
        let ip = ip_packet(output);
        let (link, _) = output.split_at(output.len() - ip.len());
        let (mut header, payload, offset, more) = if ip[0] >> 4 == 4 {
            assert!(header_is_sound(ip));
            let field = u16::from_be_bytes([ip[6], ip[7]]);
            assert_eq!(field & 0xc000, 0, "without DF");
            let (mut header, payload) = (ip[..20].to_vec(), &ip[20..]);
            header[6..8].copy_from_slice(&[0x40, 0]);
            (header, payload, usize::from(field & 0x1fff) * 8, field & 0x2000 != 0)
        } else {
            assert_eq!(ip[6], 44, "nobody's packet: {output:02x?}");
            let field = u16::from_be_bytes([ip[42], ip[43]]);
            let mut header = ip[..40].to_vec();
            header[6] = ip[40];
            (header, &ip[48..], usize::from(field & !7), field & 1 != 0)
        };
        assert_eq!(offset, self.payload.len(), "nobody's packet: {output:02x?}");
        self.count += 1;
        self.payload.extend(payload);
        if more {
            return None;
        }
        if header.len() == 20 {
            header[2..4].copy_from_slice(&(20 + self.payload.len() as u16).to_be_bytes());
            header[10..12].fill(0);
            let sum = !super::verify::sum(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
        } else {
            header[4..6].copy_from_slice(&(self.payload.len() as u16).to_be_bytes());
        }
        Some([link, &header, &self.payload].concat())
    }
}
