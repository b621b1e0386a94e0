//! Where the destination connection id stands in a QUIC packet (RFC 8999 section 5).
//!
//! ```text
//! long:   |1| version-specific | version (32) | length (8) | destination connection id | ...
//! short:  |0| version-specific | destination connection id ...
//! ```
//!
//! A datagram can hold several packets, all of one connection; the first is looked at. A short
//! header does not say how long its id is: whoever made it knows.

/// A destination connection id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionId<'a> {
    /// The whole id, as long as the header says.
    Long(&'a [u8]),
    /// It begins here, and its end is not known.
    Short(&'a [u8]),
}

impl<'a> ConnectionId<'a> {
    /// The octets: the id, or the id and what follows it.
    pub fn octets(self) -> &'a [u8] {
        match self {
            Self::Long(octets) | Self::Short(octets) => octets,
        }
    }

    /// The first three bits, 0 to 7; `None` for an empty id.
    pub fn config_id(self) -> Option<u8> {
        self.octets().first().map(|octet| octet >> 5)
    }
}

/// The id in the payload of a UDP datagram; `None` when it ends before the id does.
pub fn destination_connection_id(payload: &[u8]) -> Option<ConnectionId<'_>> {
    let (first, rest) = payload.split_first()?;
    if first & 0x80 == 0 {
        return Some(ConnectionId::Short(rest));
    }
    let (_version, rest) = rest.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first()?;
    rest.get(..usize::from(*length)).map(ConnectionId::Long)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_id_stands_where_rfc_8999_puts_it() {
        let long = [0xc3, 0, 0, 0, 1, 3, 0xaa, 0xbb, 0xcc, 0, 0x40];
        let id = destination_connection_id(&long).unwrap();
        assert_eq!(id, ConnectionId::Long(&[0xaa, 0xbb, 0xcc]));
        assert_eq!(id.config_id(), Some(5));
        assert_eq!(destination_connection_id(&long[..8]), None);
        assert_eq!(destination_connection_id(&long[..5]), None);
        let empty = destination_connection_id(&[0xc3, 0, 0, 0, 1, 0]).unwrap();
        assert_eq!((empty, empty.config_id()), (ConnectionId::Long(&[]), None));
        let short = destination_connection_id(&[0x40, 0xe1, 2]).unwrap();
        assert_eq!((short, short.config_id()), (ConnectionId::Short(&[0xe1, 2]), Some(7)));
        assert_eq!(destination_connection_id(&[]), None);
    }

    proptest! {
        #[test]
        fn an_id_is_a_piece_of_its_packet(payload in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Some(id) = destination_connection_id(&payload) {
                let at = if payload[0] & 0x80 == 0 { 1 } else { 6 };
                prop_assert!(payload[at..].starts_with(id.octets()));
            }
        }
    }
}
