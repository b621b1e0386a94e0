//! Options of an IPv4 header (RFC 791, section 3.1).
//!
//! ```text
//!  0       1        2                      length
//! +-------+--------+----------------------+
//! | kind  | length | data                 |     kinds 0 and 1 are a single byte
//! +-------+--------+----------------------+
//! ```
//!
//! A forwarder acts on no option. It reads them only to refuse what would let the sender
//! choose the way (source routes), and headers whose lengths do not add up. The walk takes
//! at least one byte a step of at most 40, so it always ends.

/// Options take at most this many bytes: an IHL of 15 words less the fixed header.
pub const MAX_OPTIONS_LENGTH: usize = 40;

/// One option that takes part in something: no-operations are passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Option<'a> {
    /// Copied flag, class and number in one byte, as the registry lists it.
    pub kind: u8,
    /// The bytes after kind and length.
    pub data: &'a [u8],
}

impl Ipv4Option<'_> {
    /// End of option list
    pub const END_OF_LIST: u8 = 0;
    /// No operation
    pub const NO_OPERATION: u8 = 1;
    /// Loose source and record route
    pub const LOOSE_SOURCE_ROUTE: u8 = 131;
    /// Strict source and record route
    pub const STRICT_SOURCE_ROUTE: u8 = 137;

    /// Does it let the sender choose the packet's way?
    #[inline]
    pub const fn is_source_route(&self) -> bool {
        matches!(self.kind, Self::LOOSE_SOURCE_ROUTE | Self::STRICT_SOURCE_ROUTE)
    }
}

/// An option with a length that is too small, or that leaves the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedOption;

/// The options of one header, in order. Ends at the end of the list, of the bytes, or after
/// the first malformed option.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    remaining: &'a [u8],
}

impl<'a> Options<'a> {
    /// `bytes` is the header from its 21st byte to its length. What exceeds
    /// [`MAX_OPTIONS_LENGTH`] is no option area and is not looked at.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { remaining: bytes.get(..MAX_OPTIONS_LENGTH).unwrap_or(bytes) }
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = Result<Ipv4Option<'a>, MalformedOption>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            // RFC 791, section 3.1: an option is a single kind byte, or a kind byte, a length
            // byte that counts both of them, and the data.
            let (&kind, after_kind) = self.remaining.split_first()?;
            match kind {
                Ipv4Option::END_OF_LIST => {
                    self.remaining = &[];
                    return None;
                }
                Ipv4Option::NO_OPERATION => self.remaining = after_kind,
                _ => {
                    let option = after_kind
                        .first()
                        .and_then(|&length| self.remaining.split_at_checked(usize::from(length)))
                        .and_then(|(option, rest)| Some((option.get(2..)?, rest)));
                    return match option {
                        Some((data, rest)) => {
                            self.remaining = rest;
                            Some(Ok(Ipv4Option { kind, data }))
                        }
                        None => {
                            self.remaining = &[];
                            Some(Err(MalformedOption))
                        }
                    };
                }
            }
        }
    }
}

/// What the options of a packet mean to a forwarder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionsVerdict {
    /// None, or only such as pass through unread.
    Ordinary,
    /// A source route among them: refused (RFC 7126, sections 4.3 and 4.4).
    SourceRoute,
    /// A length that does not fit.
    Malformed,
}

/// Looks at all options: a malformed one outweighs a source route before it, because then
/// the packet is not what it says it is. `bytes` as for [`Options::new`].
pub fn inspect_options(bytes: &[u8]) -> OptionsVerdict {
    let mut verdict = OptionsVerdict::Ordinary;
    for option in Options::new(bytes) {
        match option {
            Err(MalformedOption) => return OptionsVerdict::Malformed,
            Ok(option) if option.is_source_route() => verdict = OptionsVerdict::SourceRoute,
            Ok(_) => {}
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_listed_in_order_and_no_operations_passed_over() {
        let bytes = [1, 7, 4, 0xaa, 0xbb, 1, 148, 2, 0, 99];
        let listed: Vec<_> = Options::new(&bytes).collect();
        assert_eq!(
            listed,
            [
                Ok(Ipv4Option { kind: 7, data: &[0xaa, 0xbb] }),
                Ok(Ipv4Option { kind: 148, data: &[] }),
            ]
        );
        assert_eq!(inspect_options(&bytes), OptionsVerdict::Ordinary);
        assert_eq!(inspect_options(&[]), OptionsVerdict::Ordinary);
    }

    #[test]
    fn a_length_that_is_too_small_missing_or_too_big_is_malformed() {
        for bytes in [&[7, 0][..], &[7, 1], &[7], &[1, 1, 7], &[7, 5, 0, 0], &[7, 255]] {
            assert_eq!(inspect_options(bytes), OptionsVerdict::Malformed, "{bytes:?}");
            assert_eq!(Options::new(bytes).count(), 1, "iteration stops at the first fault");
        }
    }

    #[test]
    fn source_routes_are_found_behind_other_options() {
        for kind in [131, 137] {
            let bytes = [1, 7, 3, 4, kind, 7, 4, 10, 0, 0, 1, 0];
            assert_eq!(inspect_options(&bytes), OptionsVerdict::SourceRoute);
        }
        let behind_the_end = [0, 131, 3, 4];
        assert_eq!(inspect_options(&behind_the_end), OptionsVerdict::Ordinary);
        let then_malformed = [131, 3, 4, 7, 0];
        assert_eq!(inspect_options(&then_malformed), OptionsVerdict::Malformed);
    }

    #[test]
    fn bytes_beyond_the_fortieth_are_no_options() {
        let mut bytes = [1u8; 44];
        bytes[40] = 131;
        assert_eq!(inspect_options(&bytes), OptionsVerdict::Ordinary);
    }
}
