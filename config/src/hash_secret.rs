//! The secret that keys a pool's flow hash.
//!
//! Whoever knows it can choose flows that all land on one backend, so it is never shown: not
//! by `Debug`, not in an error message. It must be the same on every node, or a flow that
//! ECMP moves to another node would also move to another backend. A pool without one
//! therefore gets a value that every node derives alike from the pool's id (and a warning,
//! because an attacker can derive it too).
//!
//! The derivation is part of the contract between releases: SipHash-2-4 with 128-bit output
//! (Aumasson and Bernstein, "SipHash: a fast short-input PRF") over the id's UTF-8 bytes,
//! under the 16-byte key `weir.hash_secret`, output as the reference code orders its bytes.

use siphasher::sip128::SipHasher24;
use std::fmt;
use std::str::FromStr;

const DERIVATION_KEY: &[u8; 16] = b"weir.hash_secret";

/// A 128-bit SipHash key. `Debug` hides it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HashSecret(pub [u8; 16]);

/// The text is not 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashSecretError;

impl HashSecret {
    /// The 16 bytes; the first pair of digits in the file is byte 0.
    pub fn bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The secret of a pool whose section names none.
    pub fn derived_from(pool_id: &str) -> Self {
        Self(SipHasher24::new_with_key(DERIVATION_KEY).hash(pool_id.as_bytes()).as_bytes())
    }
}

impl FromStr for HashSecret {
    type Err = HashSecretError;

    fn from_str(text: &str) -> Result<Self, HashSecretError> {
        let digits = text.as_bytes();
        if digits.len() != 32 {
            return Err(HashSecretError);
        }
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = (nibble(pair[0])? << 4) | nibble(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

fn nibble(digit: u8) -> Result<u8, HashSecretError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(HashSecretError),
    }
}

impl fmt::Debug for HashSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashSecret(hidden)")
    }
}

impl fmt::Display for HashSecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not 32 hexadecimal digits")
    }
}

impl std::error::Error for HashSecretError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_fill_the_bytes_from_the_left() {
        let secret: HashSecret = "000102030405060708090A0b0c0d0e0f".parse().unwrap();
        assert_eq!(secret.bytes(), &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        for text in ["", "0", "000102030405060708090a0b0c0d0e0g", "é00102030405060708090a0b0c0d0e0"]
        {
            assert_eq!(text.parse::<HashSecret>(), Err(HashSecretError), "{text}");
        }
    }

    #[test]
    fn derived_secret_never_changes_between_releases() {
        let hex = |id| -> String {
            HashSecret::derived_from(id).bytes().iter().map(|byte| format!("{byte:02x}")).collect()
        };
        assert_eq!(hex("web"), "04601f9d65b1eebf353492443876f81f");
        assert_ne!(hex("web"), hex("web2"));
    }

    #[test]
    fn debug_output_hides_the_secret() {
        assert_eq!(format!("{:?}", HashSecret([0xaa; 16])), "HashSecret(hidden)");
    }
}
