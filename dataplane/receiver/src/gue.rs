//! Generic UDP Encapsulation: what is in a datagram to port 6080.
//!
//! ```text
//!  variant 1 (first bits 01):  | packet of IPv4 or IPv6 |
//!  variant 0 (first bits 00):  | ver C hlen | protocol | flags | private data: hlen words | packet |
//!  private data of the second chance, network order:
//!      | kind | hop count | next hop | 0 | version, 4 bytes | hops, 4 or 16 bytes each |
//! ```
//!
//! Pure: bytes in, slices of the same bytes or a [`Malformed`] out. Written apart from the sender in
//! `dataplane`, from the draft and the contract; a test holds the two against each other.

use std::net::IpAddr;

/// What a datagram holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// The packet inside, and what follows it.
    pub inner: &'a [u8],
    /// The version of IP inside, where a header says it: 4 or 6.
    pub announced: Option<u8>,
    /// Who may know the flow; `None`: the datagram has no private data.
    pub chance: Option<Chance<'a>>,
}

/// The private data of the second chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chance<'a> {
    /// Low bits of the version of the snapshot that the sender forwards by.
    pub version: u32,
    /// Which hop is next, from 0; at most the number of hops.
    next: u8,
    hops: Hops<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hops<'a> {
    V4(&'a [[u8; 4]]),
    V6(&'a [[u8; 16]]),
}

/// Why a datagram is not one of GUE that is understood here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Empty, or shorter than its header.
    Short,
    /// Neither variant 0 nor variant 1.
    Version,
    /// A control message.
    Control,
    /// A flag is set: an optional field that is not known here would follow.
    Flags,
    /// Neither IPv4 nor IPv6 inside.
    Protocol,
    /// Private data that is not of the second chance.
    PrivateData,
}

/// Where in a datagram of variant 0 the index of the next hop is.
const NEXT_HOP: usize = 6;

/// Reads a datagram's payload.
///
/// # Errors
/// The first thing found wrong.
pub fn parse(payload: &[u8]) -> Result<Datagram<'_>, Malformed> {
    match payload.first().ok_or(Malformed::Short)? >> 6 {
        0 => with_header(payload),
        // IPv4 and IPv6 both begin with these bits.
        1 => Ok(Datagram { inner: payload, announced: None, chance: None }),
        _ => Err(Malformed::Version),
    }
}

fn with_header(payload: &[u8]) -> Result<Datagram<'_>, Malformed> {
    let (header, behind) = payload.split_first_chunk::<4>().ok_or(Malformed::Short)?;
    let [first, protocol, flags @ ..] = *header;
    if first & 0x20 != 0 {
        return Err(Malformed::Control);
    }
    if flags != [0, 0] {
        return Err(Malformed::Flags);
    }
    let announced = match protocol {
        4 => 4,
        41 => 6,
        _ => return Err(Malformed::Protocol),
    };
    let length = usize::from(first & 0x1f) * 4;
    let (private, inner) = behind.split_at_checked(length).ok_or(Malformed::Short)?;
    let chance = if private.is_empty() { None } else { Some(chance(private)?) };
    Ok(Datagram { inner, announced: Some(announced), chance })
}

fn chance(private: &[u8]) -> Result<Chance<'_>, Malformed> {
    let (fixed, hops) = private.split_first_chunk::<8>().ok_or(Malformed::PrivateData)?;
    let [kind, count, next, _, version @ ..] = *fixed;
    let hops = match kind {
        1 => match hops.as_chunks() {
            (hops, []) => Hops::V4(hops),
            _ => return Err(Malformed::PrivateData),
        },
        2 => match hops.as_chunks() {
            (hops, []) => Hops::V6(hops),
            _ => return Err(Malformed::PrivateData),
        },
        _ => return Err(Malformed::PrivateData),
    };
    if hops.len() != usize::from(count) || next > count {
        return Err(Malformed::PrivateData);
    }
    Ok(Chance { version: u32::from_be_bytes(version), next, hops })
}

/// The same datagram for its next hop: the index in its header is one more. `payload` is one that
/// [`parse`] found a hop in; another stays as it is.
pub fn advance(payload: &mut [u8]) {
    if let Some(next) = payload.get_mut(NEXT_HOP) {
        *next = next.saturating_add(1);
    }
}

impl Chance<'_> {
    /// Who is to be tried after this backend; `None`: nobody is left.
    pub fn next_hop(&self) -> Option<IpAddr> {
        let index = usize::from(self.next);
        match self.hops {
            Hops::V4(hops) => hops.get(index).map(|hop| IpAddr::from(*hop)),
            Hops::V6(hops) => hops.get(index).map(|hop| IpAddr::from(*hop)),
        }
    }
}

impl Hops<'_> {
    fn len(&self) -> usize {
        match self {
            Self::V4(hops) => hops.len(),
            Self::V6(hops) => hops.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IPV4: [u8; 3] = [0x45, 0, 0];

    fn with(header: &[u8]) -> Vec<u8> {
        [header, &IPV4].concat()
    }

    #[test]
    fn both_variants_are_read() {
        let bare = parse(&IPV4).unwrap();
        assert_eq!(bare, Datagram { inner: &IPV4, announced: None, chance: None });
        let bytes = with(&[0, 41, 0, 0]);
        assert_eq!(
            parse(&bytes).unwrap(),
            Datagram { inner: &IPV4, announced: Some(6), chance: None }
        );
        let bytes = with(&[3, 4, 0, 0, 1, 1, 0, 0, 0, 0, 1, 2, 10, 0, 0, 9]);
        let chance = parse(&bytes).unwrap().chance.unwrap();
        assert_eq!((chance.version, chance.next_hop()), (258, "10.0.0.9".parse().ok()));
        let hop: [u8; 16] = std::array::from_fn(|byte| byte as u8);
        let bytes = with(&[&[6, 4, 0, 0, 2, 1, 0, 0, 0, 0, 0, 1][..], &hop].concat());
        let chance = parse(&bytes).unwrap().chance.unwrap();
        assert_eq!(chance.next_hop(), Some(IpAddr::from(hop)));
        let bytes = with(&[2, 4, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(parse(&bytes).unwrap().chance.unwrap().next_hop(), None);
    }

    #[test]
    fn a_list_is_walked_once_and_to_its_end() {
        let mut bytes = with(&[4, 4, 0, 0, 1, 2, 0, 0, 0, 0, 0, 1, 10, 0, 0, 1, 10, 0, 0, 2]);
        let mut walked = Vec::new();
        while let Some(hop) = parse(&bytes).unwrap().chance.and_then(|chance| chance.next_hop()) {
            walked.push(hop.to_string());
            advance(&mut bytes);
        }
        assert_eq!(walked, ["10.0.0.1", "10.0.0.2"]);
    }

    #[test]
    fn every_fault_has_a_name() {
        for (bytes, fault) in [
            (&[][..], Malformed::Short),
            (&[0, 4, 0], Malformed::Short),
            (&[1, 4, 0, 0, 1, 0, 0], Malformed::Short),
            (&[0x80, 0, 0, 0], Malformed::Version),
            (&[0xc0, 0, 0, 0], Malformed::Version),
            (&[0x20, 4, 0, 0], Malformed::Control),
            (&[0, 4, 0, 1], Malformed::Flags),
            (&[0, 4, 0x80, 0], Malformed::Flags),
            (&[0, 6, 0, 0], Malformed::Protocol),
            (&[1, 4, 0, 0, 1, 0, 0, 0], Malformed::PrivateData),
            (&[2, 4, 0, 0, 3, 0, 0, 0, 0, 0, 0, 1], Malformed::PrivateData),
            // One hop too few, one too many, half of one, an index past the end.
            (&[2, 4, 0, 0, 1, 1, 0, 0, 0, 0, 0, 1], Malformed::PrivateData),
            (&[3, 4, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4], Malformed::PrivateData),
            (&[3, 4, 0, 0, 2, 1, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4], Malformed::PrivateData),
            (&[2, 4, 0, 0, 1, 0, 1, 0, 0, 0, 0, 1], Malformed::PrivateData),
        ] {
            assert_eq!(parse(bytes), Err(fault), "{bytes:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn nothing_panics_and_nothing_is_walked_for_ever(
            mut bytes in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            for _ in 0..=usize::from(u8::MAX) {
                let Ok(Datagram { chance: Some(chance), .. }) = parse(&bytes) else { return Ok(()) };
                if chance.next_hop().is_none() {
                    return Ok(());
                }
                advance(&mut bytes);
            }
            prop_assert!(false, "a list longer than its index");
        }
    }
}
