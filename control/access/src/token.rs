//! Bearer tokens (RFC 6750): the file of the server's side, and the header of the caller's.
//!
//! A token file holds one token a line; all of them are accepted, which is how a token is changed
//! without a gap: add the new one, hand it out, remove the old one. Only SHA-256 sums are kept,
//! and sums are compared without an early end, so that neither memory nor time tells a token.

use std::fmt;
use std::path::Path;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};
use tonic::Status;

use crate::files::{self, FileError, Kind};

/// Fewest characters of a token: a shorter one can be guessed.
pub(crate) const MIN_LENGTH: usize = 16;
/// Most characters of a token.
pub(crate) const MAX_LENGTH: usize = 512;
/// Most tokens of one file.
pub(crate) const MAX_TOKENS: usize = 8;
/// Bytes of a token file.
const FILE_LIMIT: u64 = 8 * 1024;

/// The SHA-256 of a token; all that is kept of it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct TokenHash([u8; 32]);

impl TokenHash {
    pub(crate) fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// Equality that looks at every byte.
    pub(crate) fn matches(&self, other: &Self) -> bool {
        let different = self.0.iter().zip(&other.0).fold(0, |sum, (a, b)| sum | (a ^ b));
        std::hint::black_box(different) == 0
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TokenHash(..)")
    }
}

/// The tokens of a file.
///
/// # Errors
/// For a file that cannot be read, that others can read, or that holds no token, too many, or one
/// that is too short, too long or not of RFC 6750's characters; the line is named, never its text.
pub(crate) fn read(path: &Path) -> Result<Vec<TokenHash>, FileError> {
    let content = files::read(path, Kind::Secret, FILE_LIMIT)?;
    let text = str::from_utf8(&content)
        .map_err(|_| FileError::content(path, "expected text, one token a line"))?;
    let mut tokens = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let token = line.trim();
        if token.is_empty() {
            continue;
        }
        let problem = if token.len() < MIN_LENGTH {
            format!("the token has fewer than {MIN_LENGTH} characters")
        } else if token.len() > MAX_LENGTH {
            format!("the token has more than {MAX_LENGTH} characters")
        } else if !token.bytes().all(allowed) {
            "a token is made of letters, digits and - . _ ~ + / =".to_owned()
        } else {
            tokens.push(TokenHash::of(token));
            continue;
        };
        return Err(FileError::content(path, format!("line {}: {problem}", index + 1)));
    }
    if tokens.is_empty() {
        return Err(FileError::content(path, "is empty: expected a token"));
    }
    if tokens.len() > MAX_TOKENS {
        return Err(FileError::content(path, format!("expected at most {MAX_TOKENS} tokens")));
    }
    Ok(tokens)
}

/// RFC 6750, section 2.1: `b64token`.
fn allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte)
}

/// The token that a request shows; none without an `authorization` header.
///
/// # Errors
/// `UNAUTHENTICATED` for more than one header, or another scheme than `Bearer`: who shows
/// something unusable is told so, and not taken for somebody who shows nothing.
pub(crate) fn shown(headers: &HeaderMap) -> Result<Option<TokenHash>, Status> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Status::unauthenticated("authorization: expected one header"));
    }
    let token = value.to_str().ok().and_then(|text| text.split_once(' ')).filter(|(scheme, _)| {
        // RFC 9110, section 11.1: the scheme is case-insensitive.
        scheme.eq_ignore_ascii_case("bearer")
    });
    match token {
        Some((_, token)) => Ok(Some(TokenHash::of(token.trim()))),
        None => Err(Status::unauthenticated("authorization: expected \"Bearer\" and a token")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tests::write;
    use http::HeaderValue;

    const LONG: &str = "0123456789abcdef";

    fn file(content: &str) -> Result<Vec<TokenHash>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        write(&path, content, 0o600);
        read(&path).map_err(|error| error.to_string())
    }

    fn header(value: &str) -> Result<Option<TokenHash>, Status> {
        let value = HeaderValue::from_str(value).unwrap();
        shown(&[(AUTHORIZATION, value)].into_iter().collect())
    }

    #[test]
    fn a_file_holds_one_token_a_line() {
        assert_eq!(file(&format!("{LONG}\n")).unwrap(), [TokenHash::of(LONG)]);
        let two = file(&format!("\n  {LONG} \r\n{LONG}b")).unwrap();
        assert_eq!(two, [TokenHash::of(LONG), TokenHash::of(&format!("{LONG}b"))]);
    }

    #[test]
    fn a_bad_file_is_refused_without_showing_its_text() {
        for (content, expected) in [
            ("", "is empty"),
            ("\n \n", "is empty"),
            ("hunter2", "line 1: the token has fewer than 16 characters"),
            ("\nhunter2 hunter2 hunter2", "line 2: a token is made of"),
            (&"h".repeat(513), "more than 512"),
            (&format!("{LONG}\n").repeat(9), "at most 8 tokens"),
        ] {
            let error = file(content).unwrap_err();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("hunter2") && !error.contains(LONG), "{error}");
        }
    }

    #[test]
    fn the_header_is_a_scheme_and_a_token() {
        for value in [format!("Bearer {LONG}"), format!("bearer   {LONG} ")] {
            assert_eq!(header(&value).unwrap(), Some(TokenHash::of(LONG)), "{value}");
        }
        assert_eq!(shown(&HeaderMap::new()).unwrap(), None);
        for value in ["Basic dTpw", "Bearer", LONG, ""] {
            let refused = header(value).unwrap_err();
            assert_eq!(refused.code(), tonic::Code::Unauthenticated);
            assert!(!refused.message().contains(LONG), "{refused}");
        }
        let twice = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static("Bearer a"))]);
        let mut twice = twice;
        twice.append(AUTHORIZATION, HeaderValue::from_static("Bearer b"));
        assert!(shown(&twice).is_err());
    }

    #[test]
    fn a_hash_matches_itself_alone_and_is_not_shown() {
        assert!(TokenHash::of(LONG).matches(&TokenHash::of(LONG)));
        assert!(!TokenHash::of(LONG).matches(&TokenHash::of("x")));
        assert_eq!(format!("{:?}", TokenHash::of(LONG)), "TokenHash(..)");
    }
}
