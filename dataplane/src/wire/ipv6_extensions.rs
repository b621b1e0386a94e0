//! Extension headers of an IPv6 packet (RFC 8200, section 4): the chain between the fixed header
//! and the transport.
//!
//! ```text
//!  0             8               16                              32
//! +-------------+---------------+--------------------------------+
//! | next header | length        | hop-by-hop, destination: options
//! +-------------+---------------+--------------------------------+
//! | next header | length        | routing type  | segments left  |  routing
//! +-------------+---------------+--------------------------------+
//! | next header | reserved      | fragment offset, 0, 0, M       |  fragment, 8 bytes, the rest
//! +-------------+---------------+--------------------------------+    is the identification
//! ```
//!
//! "Length" counts units of eight bytes beyond the first eight. A forwarder acts on none of
//! these; it walks past them to find the ports, and refuses chains that do not add up, that are
//! longer than any honest one, or that let the sender choose the way. The walk takes at least
//! eight bytes a step and at most [`MAX_HEADERS`] steps.

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::protocol::IpProtocol;

/// Extension headers a packet may have: each kind as often as RFC 8200 section 4.1 lists it
/// (five, without the two of IPsec), and some room.
pub const MAX_HEADERS: usize = 8;
/// Bytes they may take together.
pub const MAX_LENGTH: usize = 512;

/// The fragment header.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct FragmentHeader {
    /// What the first fragment's payload begins with.
    pub next_header: IpProtocol,
    /// Ignored on reception.
    pub reserved: u8,
    /// Offset in units of eight bytes (13 bits), two reserved bits, and "more fragments".
    pub offset_and_more: U16,
    /// Shared by the fragments of one packet.
    pub identification: U32,
}

impl FragmentHeader {
    /// Bytes of the header.
    pub const LENGTH: usize = size_of::<Self>();

    /// A view of the header and the bytes after it; `None` if fewer than [`Self::LENGTH`] are there.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Option<(&Self, &[u8])> {
        Self::ref_from_prefix(bytes).ok()
    }

    /// Where this fragment starts in the fragmentable part, in units of eight bytes, 0 to 8191.
    #[inline]
    pub fn fragment_offset(&self) -> u16 {
        self.offset_and_more.get() >> 3
    }

    /// M
    #[inline]
    pub fn more_fragments(&self) -> bool {
        self.offset_and_more.get() & 1 != 0
    }

    /// A whole packet in one fragment (RFC 6946): treated as if the header were not there.
    #[inline]
    pub fn is_atomic(&self) -> bool {
        self.fragment_offset() == 0 && !self.more_fragments()
    }
}

/// Where a chain ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainEnd {
    /// What comes after the last header that was walked past.
    pub protocol: IpProtocol,
    /// Bytes of the headers walked past.
    pub length: usize,
    /// Where the fragment header of a fragment is, from the first byte after the fixed header;
    /// atomic fragments have none. The walk ends behind it when the fragment is not the first.
    pub fragment: Option<usize>,
}

/// Why a chain is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainFault {
    /// A header is cut off, its length or that of an option in it does not fit, or a hop-by-hop
    /// header is not the first.
    Malformed,
    /// More than [`MAX_HEADERS`] headers or [`MAX_LENGTH`] bytes.
    TooLong,
    /// A routing header with segments left.
    SourceRoute,
}

/// Walks the chain that begins at `bytes`, the packet behind its fixed header, which says that
/// `next` comes first.
///
/// # Errors
/// See [`ChainFault`].
pub fn walk(next: IpProtocol, bytes: &[u8]) -> Result<ChainEnd, ChainFault> {
    let mut end = ChainEnd { protocol: next, length: 0, fragment: None };
    let mut headers = 0;
    while is_extension(end.protocol) {
        if headers == MAX_HEADERS {
            return Err(ChainFault::TooLong);
        }
        let rest = bytes.get(end.length..).ok_or(ChainFault::Malformed)?;
        let mut later = false;
        let length = match end.protocol {
            IpProtocol::HOP_BY_HOP_OPTIONS if headers > 0 => return Err(ChainFault::Malformed),
            IpProtocol::IPV6_FRAGMENT => {
                let (header, _) = FragmentHeader::parse(rest).ok_or(ChainFault::Malformed)?;
                // A second one is nothing a sender makes (section 4.1: each at most once).
                if end.fragment.is_some() {
                    return Err(ChainFault::Malformed);
                }
                if !header.is_atomic() {
                    end.fragment = Some(end.length);
                }
                later = header.fragment_offset() != 0;
                FragmentHeader::LENGTH
            }
            IpProtocol::IPV6_ROUTING => {
                let header = sized(rest)?;
                // RFC 8200 section 4.4. With none left it is at its last segment: here.
                if header.get(3).is_none_or(|segments_left| *segments_left != 0) {
                    return Err(ChainFault::SourceRoute);
                }
                header.len()
            }
            _ => {
                let header = sized(rest)?;
                check_options(header.get(2..).unwrap_or_default())?;
                header.len()
            }
        };
        headers += 1;
        end.protocol = rest.first().map_or(end.protocol, |next| IpProtocol(*next));
        end.length += length;
        if end.length > MAX_LENGTH {
            return Err(ChainFault::TooLong);
        }
        // Behind the header of a later fragment is a piece of payload, not a header.
        if later {
            break;
        }
    }
    Ok(end)
}

/// Is it a header that the walk goes past?
fn is_extension(protocol: IpProtocol) -> bool {
    matches!(
        protocol,
        IpProtocol::HOP_BY_HOP_OPTIONS
            | IpProtocol::IPV6_DESTINATION_OPTIONS
            | IpProtocol::IPV6_ROUTING
            | IpProtocol::IPV6_FRAGMENT
    )
}

/// The header at the front, whose second byte says how long it is.
fn sized(bytes: &[u8]) -> Result<&[u8], ChainFault> {
    let units = bytes.get(1).ok_or(ChainFault::Malformed)?;
    bytes.get(..(usize::from(*units) + 1) * 8).ok_or(ChainFault::Malformed)
}

/// RFC 8200 section 4.2: type, length, data, one after the other; type 0 is a single byte.
fn check_options(mut options: &[u8]) -> Result<(), ChainFault> {
    while let Some((kind, rest)) = options.split_first() {
        options = match kind {
            0 => rest,
            _ => {
                let (length, data) = rest.split_first().ok_or(ChainFault::Malformed)?;
                data.get(usize::from(*length)..).ok_or(ChainFault::Malformed)?
            }
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::tests::proptest_config;

    const HOP: IpProtocol = IpProtocol::HOP_BY_HOP_OPTIONS;
    const ROUTING: IpProtocol = IpProtocol::IPV6_ROUTING;
    const FRAGMENT: IpProtocol = IpProtocol::IPV6_FRAGMENT;
    const DESTINATION: IpProtocol = IpProtocol::IPV6_DESTINATION_OPTIONS;

    /// A header of eight bytes that says `next`; its rest is padding of one option.
    fn options(next: IpProtocol) -> Vec<u8> {
        vec![next.0, 0, 1, 4, 0, 0, 0, 0]
    }

    fn fragment(next: IpProtocol, offset: u16, more: bool) -> Vec<u8> {
        let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
        vec![next.0, 0, high, low, 0, 0, 0, 9]
    }

    fn end(protocol: IpProtocol, length: usize, fragment: Option<usize>) -> ChainEnd {
        ChainEnd { protocol, length, fragment }
    }

    #[test]
    fn without_extension_headers_the_transport_is_at_once() {
        assert_eq!(walk(IpProtocol::TCP, &[]), Ok(end(IpProtocol::TCP, 0, None)));
        // IPsec and "no next header" end the chain, too: nothing behind them can be read.
        for last in [IpProtocol::AUTHENTICATION, IpProtocol::IPV6_NO_NEXT_HEADER, IpProtocol(50)] {
            assert_eq!(walk(last, &[0; 40]), Ok(end(last, 0, None)));
        }
    }

    #[test]
    fn a_chain_of_every_kind_is_walked_past() {
        let chain = [
            options(DESTINATION),
            options(ROUTING),
            vec![FRAGMENT.0, 0, 4, 0, 0, 0, 0, 0],
            fragment(DESTINATION, 0, false),
            options(IpProtocol::UDP),
            vec![7; 8],
        ]
        .concat();
        assert_eq!(walk(HOP, &chain), Ok(end(IpProtocol::UDP, 40, None)));
    }

    #[test]
    fn segments_left_are_a_source_route() {
        for left in [1, 255] {
            let chain = vec![IpProtocol::TCP.0, 0, 0, left, 0, 0, 0, 0];
            assert_eq!(walk(ROUTING, &chain), Err(ChainFault::SourceRoute));
        }
    }

    #[test]
    fn a_first_fragment_shows_its_transport_and_a_later_one_does_not() {
        let first = [fragment(DESTINATION, 0, true), options(IpProtocol::UDP)].concat();
        assert_eq!(walk(FRAGMENT, &first), Ok(end(IpProtocol::UDP, 16, Some(0))));
        let later = [options(FRAGMENT), fragment(DESTINATION, 1, false), vec![0xff; 8]].concat();
        assert_eq!(walk(HOP, &later), Ok(end(DESTINATION, 16, Some(8))));
        let twice = [fragment(FRAGMENT, 0, true), fragment(IpProtocol::UDP, 0, true)].concat();
        assert_eq!(walk(FRAGMENT, &twice), Err(ChainFault::Malformed));
    }

    #[test]
    fn what_does_not_add_up_is_malformed() {
        // Cut off, length beyond the packet, hop-by-hop in second place.
        assert_eq!(walk(HOP, &[6]), Err(ChainFault::Malformed));
        assert_eq!(walk(HOP, &options(IpProtocol::TCP)[..7]), Err(ChainFault::Malformed));
        assert_eq!(walk(DESTINATION, &[6, 1, 0, 0, 0, 0, 0, 0]), Err(ChainFault::Malformed));
        assert_eq!(walk(FRAGMENT, &[6; 7]), Err(ChainFault::Malformed));
        let second = [options(HOP), options(IpProtocol::TCP)].concat();
        assert_eq!(walk(DESTINATION, &second), Err(ChainFault::Malformed));
        // An option that leaves its header, and one without a length.
        assert_eq!(walk(HOP, &[6, 0, 1, 5, 0, 0, 0, 0]), Err(ChainFault::Malformed));
        assert_eq!(walk(HOP, &[6, 0, 0, 0, 0, 0, 0, 1]), Err(ChainFault::Malformed));
    }

    #[test]
    fn a_chain_has_an_end() {
        let chain = |count: usize| [options(DESTINATION).repeat(count), options(HOP)].concat();
        let mut longest = options(DESTINATION).repeat(MAX_HEADERS - 1);
        longest.extend(options(IpProtocol::TCP));
        assert_eq!(walk(DESTINATION, &longest).map(|end| end.length), Ok(64));
        assert_eq!(walk(DESTINATION, &chain(MAX_HEADERS)), Err(ChainFault::TooLong));
        let mut large = vec![0; MAX_LENGTH + 8];
        large[..2].copy_from_slice(&[IpProtocol::TCP.0, (MAX_LENGTH / 8) as u8]);
        assert_eq!(walk(DESTINATION, &large), Err(ChainFault::TooLong));
        large[1] -= 1;
        assert_eq!(walk(DESTINATION, &large).map(|end| end.length), Ok(MAX_LENGTH));
    }

    proptest! {
        #![proptest_config(proptest_config())]

        #[test]
        fn no_bytes_make_the_walk_panic_or_leave_the_packet(
            first in prop_oneof![Just(0u8), Just(43), Just(44), Just(60), any::<u8>()],
            bytes in proptest::collection::vec(
                prop_oneof![Just(0u8), Just(43), Just(44), Just(60), any::<u8>()], 0..90),
        ) {
            if let Ok(end) = walk(IpProtocol(first), &bytes) {
                prop_assert!(end.length <= bytes.len());
                prop_assert!(end.fragment.is_none_or(|at| at + FragmentHeader::LENGTH <= end.length));
            }
        }
    }
}
