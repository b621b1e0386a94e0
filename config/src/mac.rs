//! Ethernet addresses, as the configuration writes them.
//!
//! Six groups of two hexadecimal digits, parted by colons (`02:00:00:00:00:01`) or by
//! hyphens, the two notations of IEEE Std 802. Always shown with colons, in lower case.

use std::fmt;
use std::str::FromStr;

/// A 48-bit Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddress(pub [u8; 6]);

/// The text is not a MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MacAddressError;

impl MacAddress {
    /// The six bytes, in the order they have on the wire.
    pub fn octets(self) -> [u8; 6] {
        self.0
    }

    /// Whether one station can have this address: not a group address, not all zeros.
    pub fn is_unicast(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

impl FromStr for MacAddress {
    type Err = MacAddressError;

    fn from_str(text: &str) -> Result<Self, MacAddressError> {
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut octets = [0; 6];
        let mut groups = text.split(separator);
        for octet in &mut octets {
            let group = groups.next().ok_or(MacAddressError)?;
            // from_str_radix alone would also take "+1".
            if group.len() != 2 || !group.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(MacAddressError);
            }
            *octet = u8::from_str_radix(group, 16).map_err(|_| MacAddressError)?;
        }
        if groups.next().is_some() { Err(MacAddressError) } else { Ok(Self(octets)) }
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for MacAddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a MAC address such as 02:00:00:00:00:01")
    }
}

impl std::error::Error for MacAddressError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_notations_give_the_same_address() {
        let address = MacAddress([0x02, 0, 0xab, 0, 0, 0x01]);
        assert_eq!("02:00:AB:00:00:01".parse(), Ok(address));
        assert_eq!("02-00-ab-00-00-01".parse(), Ok(address));
        assert_eq!(address.to_string(), "02:00:ab:00:00:01");
    }

    #[test]
    fn anything_but_six_groups_of_two_digits_is_refused() {
        for text in [
            "",
            ":::::",
            "02:00:00:00:00",
            "02:00:00:00:00:01:02",
            "02:00:00:00:00:1",
            "02:00:00:00:00:+1",
            "02:00:00-00:00:01",
            "02:00:00:00:00:0g",
            "020000000001",
            "02:00:00:00:00:é",
        ] {
            assert_eq!(text.parse::<MacAddress>(), Err(MacAddressError), "{text}");
        }
    }

    #[test]
    fn group_addresses_and_zero_are_not_unicast() {
        assert!(MacAddress([2, 0, 0, 0, 0, 1]).is_unicast());
        assert!(!MacAddress([1, 0, 0x5e, 0, 0, 1]).is_unicast());
        assert!(!MacAddress([0xff; 6]).is_unicast());
        assert!(!MacAddress([0; 6]).is_unicast());
    }
}
