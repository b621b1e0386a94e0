//! What QUIC connection ids are made with: the key, and the names of servers.

use crate::HashSecret;
use std::fmt;
use std::str::FromStr;

/// Most octets of a server id.
const LONGEST: usize = 15;

/// An AES-128 key, written as 32 hexadecimal digits. `Debug` hides it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct QuicKey(pub [u8; 16]);

/// The id of a server in connection ids: 1 to 15 octets, written as twice as many hexadecimal
/// digits, which is also how it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QuicServerId(Vec<u8>);

/// The text is not hexadecimal digits, or not as many as there must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuicError;

impl QuicServerId {
    /// The octets, 1 to 15.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }
}

impl FromStr for QuicKey {
    type Err = QuicError;

    fn from_str(text: &str) -> Result<Self, QuicError> {
        text.parse::<HashSecret>().map(|key| Self(key.0)).map_err(|_| QuicError)
    }
}

impl FromStr for QuicServerId {
    type Err = QuicError;

    fn from_str(text: &str) -> Result<Self, QuicError> {
        let digits = text.as_bytes();
        if !digits.len().is_multiple_of(2) || !(1..=LONGEST).contains(&(digits.len() / 2)) {
            return Err(QuicError);
        }
        let digit = |digit: u8| (digit as char).to_digit(16).map(|value| value as u8);
        let octet = |pair: &[u8]| Some(digit(pair[0])? << 4 | digit(pair[1])?);
        digits.chunks_exact(2).map(octet).collect::<Option<_>>().map(Self).ok_or(QuicError)
    }
}

impl fmt::Display for QuicServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for QuicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QuicKey(hidden)")
    }
}

impl fmt::Display for QuicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not hexadecimal digits, or not as many as expected")
    }
}

impl std::error::Error for QuicError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_ids_are_pairs_of_digits() {
        let id: QuicServerId = "0aFf".parse().unwrap();
        assert_eq!((id.octets(), id.to_string().as_str()), (&[0x0a, 0xff][..], "0aff"));
        assert!("00".repeat(15).parse::<QuicServerId>().is_ok());
        let longer = "00".repeat(16);
        for text in ["", "0", "0g", "+1", "é0", longer.as_str()] {
            assert_eq!(text.parse::<QuicServerId>(), Err(QuicError), "{text}");
        }
    }

    #[test]
    fn debug_output_hides_the_key() {
        assert_eq!(format!("{:?}", QuicKey([0xaa; 16])), "QuicKey(hidden)");
    }
}
