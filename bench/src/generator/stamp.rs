//! The mark by which a packet is known again: who sent it, as which, and when.
//!
//! It is where balancers change nothing and the shortest frame has room for it. All fields are in
//! network order:
//!
//! ```text
//!            TCP header                        UDP payload
//!  sequence  Sequence Number                   bytes 4-7
//!  time      Acknowledgment Number             bytes 8-11
//!  tag       Window                            bytes 2-3
//!  MAGIC     Urgent Pointer (without URG)      bytes 0-1
//! ```
//!
//! Time is in nanoseconds and wraps after 4.3 s, the sequence after 2^32 packets: differences are
//! what counts. The receiver finds the mark behind any of the headers that a balancer puts around a
//! packet: IP in IP (RFC 2003, RFC 2473), GRE (RFC 2784), GUE of both variants
//! (draft-ietf-intarea-gue), tags of VLANs.

/// Tells marked packets from others.
pub const MAGIC: u16 = 0x5e1f;
/// Bytes of a mark in a UDP payload.
pub const UDP_BYTES: usize = 12;
/// The port of GUE.
const GUE_PORT: [u8; 2] = 6080u16.to_be_bytes();
/// IP headers around one another that are looked through.
const MOST_HEADERS: usize = 3;

/// A mark, read from a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Which run of which generator.
    pub tag: u16,
    /// Which of its packets.
    pub sequence: u32,
    /// When it was sent: the low 32 bits of its sender's nanoseconds.
    pub time: u32,
    /// Bytes that were put before the packet on its way.
    pub wrapped: usize,
}

/// Where a frame has its mark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Where its first byte is that is looked at: of the TCP header, or of the UDP payload.
    pub start: usize,
    /// In a UDP payload.
    is_udp: bool,
    /// Bytes that were put before the packet on its way.
    wrapped: usize,
}

/// The mark of a frame; `None` where it has none.
#[inline]
pub fn find(frame: &[u8]) -> Option<Stamp> {
    read(frame, place(frame)?)
}

/// The mark at a place, which is that of another frame: most frames are like the one before, and
/// then no header in front of it has to be fetched from wherever it was written. `None` where there
/// is none at this place.
#[inline]
pub fn read(frame: &[u8], place: Place) -> Option<Stamp> {
    let Place { start, is_udp, wrapped } = place;
    if is_udp {
        let payload: &[u8; UDP_BYTES] = frame.get(start..)?.first_chunk()?;
        let is_marked = [payload[0], payload[1]] == MAGIC.to_be_bytes();
        return is_marked.then(|| Stamp {
            tag: u16::from_be_bytes([payload[2], payload[3]]),
            sequence: word(payload, 4),
            time: word(payload, 8),
            wrapped,
        });
    }
    let segment: &[u8; 20] = frame.get(start..)?.first_chunk()?;
    let is_marked = [segment[18], segment[19]] == MAGIC.to_be_bytes();
    is_marked.then(|| Stamp {
        tag: u16::from_be_bytes([segment[14], segment[15]]),
        sequence: word(segment, 4),
        time: word(segment, 8),
        wrapped,
    })
}

/// Where a frame would have its mark; `None` where it carries neither TCP nor UDP.
#[inline]
pub fn place(frame: &[u8]) -> Option<Place> {
    const LINK_BYTES: usize = 14;
    let mut at = LINK_BYTES;
    // 802.1Q and 802.1ad.
    while let [0x81, 0x00] | [0x88, 0xa8] = two(frame, at - 2)? {
        at += 4;
    }
    for _ in 0..MOST_HEADERS {
        let first = *frame.get(at)?;
        let (protocol, next) = match first >> 4 {
            4 => (*frame.get(at + 9)?, at + usize::from(first & 0x0f) * 4),
            6 => (*frame.get(at + 6)?, at + 40),
            _ => return None,
        };
        let wrapped = at - LINK_BYTES;
        match protocol {
            6 => return Some(Place { start: next, is_udp: false, wrapped }),
            17 if two(frame, next + 2)? != GUE_PORT => {
                return Some(Place { start: next + 8, is_udp: true, wrapped });
            }
            4 | 41 => at = next,
            47 if two(frame, next)? == [0, 0] => at = next + 4,
            17 => {
                let first = *frame.get(next + 8)?;
                // Variant 1 has no header: an IP packet follows, whose version begins with 01.
                // Variant 0 has 4 bytes, and as many words behind them as it says.
                let header = match first >> 6 {
                    1 => 0,
                    0 => 4 + usize::from(first & 0x1f) * 4,
                    _ => return None,
                };
                at = next + 8 + header;
            }
            _ => return None,
        }
    }
    None
}

#[inline]
fn two(frame: &[u8], at: usize) -> Option<[u8; 2]> {
    frame.get(at..)?.first_chunk().copied()
}

#[inline]
fn word<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk().copied());
    u32::from_be_bytes(word.unwrap_or_default())
}
