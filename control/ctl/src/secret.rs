//! The 128 bits that key a pool's flow hash: read from files, never shown.

use std::fmt;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::str::FromStr;

/// A pool's hash secret. Who knows it can aim flows, so `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret([u8; 16]);

impl Secret {
    /// From the kernel's random numbers.
    ///
    /// # Errors
    /// They cannot be read.
    pub(crate) fn draw() -> Result<Self, String> {
        let mut bytes = [0; 16];
        fs::File::open("/dev/urandom")
            .and_then(|mut source| source.read_exact(&mut bytes))
            .map_err(|error| format!("/dev/urandom: {error}"))?;
        Ok(Self(bytes))
    }

    /// # Errors
    /// The file cannot be read, or does not hold 32 hex digits.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path)
            .map_err(|error| format!("{}: cannot be read: {error}", path.display()))?;
        text.trim().parse().map_err(|problem| format!("{}: {problem}", path.display()))
    }

    /// `None` for what is not 16 bytes.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.0.to_vec()
    }

    /// The 32 hex digits: only for `export --secrets`.
    pub(crate) fn reveal(&self) -> String {
        hex(&self.0)
    }
}

impl FromStr for Secret {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The text is not repeated: it may be a secret with a typing error.
        let bytes = unhex(text).and_then(|bytes| Self::from_bytes(&bytes));
        bytes.ok_or_else(|| "is no hash secret (expected 32 hex digits)".to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(..)")
    }
}

/// Bytes as lower-case hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes from hex digits; `None` when they are none.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_goes_there_and_back() {
        let digits = "000102030405060708090a0b0c0d0eff";
        let secret: Secret = digits.parse().unwrap();
        assert_eq!(secret.reveal(), digits);
        assert_eq!(Secret::from_bytes(&secret.to_bytes()), Some(secret));
        assert_eq!(unhex("é0"), None);
        assert_eq!(unhex(""), Some(Vec::new()));
    }

    #[test]
    fn neither_debug_nor_an_error_shows_a_secret() {
        let secret = Secret::draw().unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        let error = "0102deadbeef".parse::<Secret>().unwrap_err();
        assert!(!error.contains("deadbeef"), "{error}");
    }
}
