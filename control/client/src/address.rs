//! The URL of a controller, in one form, so that two can be compared.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use tonic::transport::Uri;

use crate::Error;

/// The URL of a controller: `http://HOST:PORT` or `https://HOST:PORT`, in lower case.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Address {
    text: Arc<str>,
    secure: bool,
    loopback: bool,
}

impl Address {
    /// # Errors
    /// When it is no such URL, or has more than scheme, host and port.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |problem| Error::Address { text: shown(text), problem };
        let uri: Uri = text.trim().parse().map_err(|_| wrong("not a URL"))?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) => return Err(wrong("unknown scheme")),
            None => return Err(wrong("no scheme")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("a user in the URL"));
        }
        if authority.host().is_empty() || authority.host() == "[]" {
            return Err(wrong("no host"));
        }
        if uri.path_and_query().is_some_and(|path| path.as_str() != "/") {
            return Err(wrong("a path in the URL"));
        }
        if authority.port_u16().is_none_or(|port| port == 0) {
            return Err(wrong("no port"));
        }
        let host = authority.host().to_ascii_lowercase();
        let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let loopback = match ip {
            Ok(ip) => ip.is_loopback(),
            Err(_) => host == "localhost",
        };
        let scheme = if secure { "https" } else { "http" };
        let text = format!("{scheme}://{}", authority.as_str().to_ascii_lowercase()).into();
        Ok(Self { text, secure, loopback })
    }

    /// The URL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is `https`.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Whether it is this machine: a loopback address, or `localhost`.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.loopback
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What may be shown of a refused URL: no password, and not endlessly much.
fn shown(text: &str) -> String {
    let text = match text.rsplit_once('@') {
        Some((_, rest)) => format!("...@{rest}"),
        None => text.to_owned(),
    };
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_controllers_have_equal_addresses() {
        let plain = Address::parse("http://Host-1:9190").expect("an address");
        assert_eq!(plain, Address::parse(" HTTP://host-1:9190/ ").expect("an address"));
        assert_eq!(plain.as_str(), "http://host-1:9190");
        assert_ne!(plain, Address::parse("https://host-1:9190").expect("an address"));
    }

    #[test]
    fn loopback_is_known_by_its_address_or_its_name() {
        for (text, loopback) in [
            ("http://127.0.0.1:1", true),
            ("http://127.9.9.9:1", true),
            ("http://[::1]:1", true),
            ("http://localhost:1", true),
            ("http://localhost.example:1", false),
            ("http://192.0.2.1:1", false),
            ("http://[2001:db8::1]:1", false),
        ] {
            assert_eq!(Address::parse(text).expect(text).is_loopback(), loopback, "{text}");
        }
    }

    #[test]
    fn what_is_no_controllers_url_is_refused_with_its_problem() {
        for (text, problem) in [
            ("", "not a URL"),
            ("ho st", "not a URL"),
            ("host:9190", "no scheme"),
            ("ftp://host:9190", "unknown scheme"),
            ("http://:9190", "no"),
            ("http://host", "no port"),
            ("http://host:0", "no port"),
            ("http://host:9190/weir", "a path in the URL"),
            ("http://host:9190/?a=b", "a path in the URL"),
            ("http://user:secret@host:9190", "a user in the URL"),
        ] {
            let error = Address::parse(text).expect_err(text).to_string();
            assert!(error.contains(problem), "{text:?}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
