//! One name for a finished table or ring.
//!
//! SHA-256 (FIPS 180-4) over this encoding, integers big-endian:
//!
//! ```text
//! table:  "weir maglev 1" 0x00 | u32 size | holders | u32 holder, for each slot
//! ring:   "weir ring 1" 0x00              | holders | u64 point, u32 holder, for each point
//! holders: u32 count | u32 length, id bytes, for each holder
//! ```
//!
//! Holders are the members that have a slot or a point, in the order of their ids' bytes, and a
//! slot says which of them, from 0. So the digest names what happens to flows and nothing else:
//! indices, weights and members without a slot are not in it, nor is the secret, except by its
//! effect.

use core::fmt;
use core::str::FromStr;

use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::member::Member;

/// SHA-256 over ids and slots; shown and read as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The 32 bytes, as a snapshot carries them.
    pub const fn from_bytes(bytes: [u8; 32]) -> Digest {
        Digest(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// `owners` are positions in `members`, which are in the order of their ids; `counts` is how
    /// often each of them is an owner.
    pub(crate) fn of_table(
        members: &[Member<'_>],
        counts: &[u32],
        size: u32,
        owners: &[u32],
    ) -> Digest {
        let mut encoder = Encoder::new(b"weir maglev 1\0");
        encoder.put(&size.to_be_bytes());
        let holders = encoder.put_holders(members, counts);
        for &owner in owners {
            encoder.put(&holders[owner as usize].to_be_bytes());
        }
        encoder.finish()
    }

    /// As [`Digest::of_table`], with points and their owners.
    pub(crate) fn of_ring(members: &[Member<'_>], counts: &[u32], ring: &[(u64, u32)]) -> Digest {
        let mut encoder = Encoder::new(b"weir ring 1\0");
        let holders = encoder.put_holders(members, counts);
        for &(point, owner) in ring {
            encoder.put(&point.to_be_bytes());
            encoder.put(&holders[owner as usize].to_be_bytes());
        }
        encoder.finish()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// The text is not a digest.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a digest has 64 hex digits")]
pub struct ParseDigestError;

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Digest, ParseDigestError> {
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let mut bytes = [0; 32];
        if pairs.len() != bytes.len() || !rest.is_empty() {
            return Err(ParseDigestError);
        }
        for (byte, &[high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = nibble(high)? << 4 | nibble(low)?;
        }
        Ok(Digest(bytes))
    }
}

fn nibble(digit: u8) -> Result<u8, ParseDigestError> {
    let value = char::from(digit).to_digit(16).ok_or(ParseDigestError)?;
    Ok(value as u8)
}

/// Collects small pieces, as hashing them one by one would be slow.
struct Encoder {
    hash: Sha256,
    buffer: Vec<u8>,
}

impl Encoder {
    const FULL: usize = 4096;

    fn new(domain: &[u8]) -> Encoder {
        let mut buffer = Vec::with_capacity(2 * Encoder::FULL);
        buffer.extend_from_slice(domain);
        Encoder { hash: Sha256::new(), buffer }
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= Encoder::FULL {
            self.hash.update(&self.buffer);
            self.buffer.clear();
        }
    }

    /// Writes the holders; answers each member's number among them.
    fn put_holders(&mut self, members: &[Member<'_>], counts: &[u32]) -> Vec<u32> {
        let count = counts.iter().filter(|&&count| count > 0).count();
        self.put(&(count as u32).to_be_bytes());
        let mut next = 0;
        let mut numbers = Vec::with_capacity(members.len());
        for (member, &count) in members.iter().zip(counts) {
            numbers.push(next);
            if count > 0 {
                next += 1;
                self.put(&(member.id.len() as u32).to_be_bytes());
                self.put(member.id.as_bytes());
            }
        }
        numbers
    }

    fn finish(mut self) -> Digest {
        self.hash.update(&self.buffer);
        Digest(self.hash.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_bad_text_is_refused() {
        let digest = Digest::from_bytes(core::array::from_fn(|i| i as u8 * 7));
        let text = digest.to_string();
        assert_eq!(text.len(), 64);
        assert_eq!(text.parse(), Ok(digest));
        assert_eq!(text.to_uppercase().parse(), Ok(digest));
        for bad in ["", "00", &text[..63], &format!("{text}0"), &text.replace('0', "g")] {
            assert_eq!(bad.parse::<Digest>(), Err(ParseDigestError), "{bad:?}");
        }
    }

    #[test]
    fn the_encoding_is_the_documented_one() {
        let member = |id, index| Member { id, index, weight: 1 };
        let members = [member("a", 9), member("b", 8), member("cc", 7)];
        let digest = Digest::of_table(&members, &[1, 0, 2], 3, &[2, 0, 2]);
        let plain = b"weir maglev 1\0\0\0\0\x03\0\0\0\x02\0\0\0\x01a\0\0\0\x02cc\
                      \0\0\0\x01\0\0\0\0\0\0\0\x01";
        assert_eq!(digest, Digest(Sha256::digest(plain).into()));
        let digest = Digest::of_ring(&members, &[1, 0, 1], &[(258, 2), (1 << 56, 0)]);
        let plain = b"weir ring 1\0\0\0\0\x02\0\0\0\x01a\0\0\0\x02cc\
                      \0\0\0\0\0\0\x01\x02\0\0\0\x01\x01\0\0\0\0\0\0\0\0\0\0\0";
        assert_eq!(digest, Digest(Sha256::digest(plain).into()));
    }
}
