//! Where a server is: `http://` or `https://`, a host, and a port. Nothing else of a URL.
//!
//! The host is an IP address or a DNS name by the rules of RFC 1123 section 2.1, with the
//! underscore that some zones use. It is kept in lower case, so that equal endpoints compare
//! equal (RFC 3986 section 6.2.2.1).

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// `https://controller.example.net:9190`. `Display` gives the form that it is read from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    is_https: bool,
    /// Without the brackets of an IPv6 address.
    host: Host,
    port: u16,
}

/// The text is no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointError;

/// A DNS name in lower case, or an IP address in its usual form.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Host(pub(crate) String);

impl Endpoint {
    /// The endpoint of a listener.
    pub fn of(address: SocketAddr, is_https: bool) -> Self {
        Self { is_https, host: Host(address.ip().to_string()), port: address.port() }
    }

    /// Whether TLS is spoken there.
    pub fn is_https(&self) -> bool {
        self.is_https
    }

    /// A DNS name, or an IP address without brackets.
    pub fn host(&self) -> &str {
        &self.host.0
    }

    /// Never 0, except in [`Endpoint::of`] a listener of port 0.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether what is sent there stays on this machine.
    pub fn is_loopback(&self) -> bool {
        match self.host().parse::<IpAddr>() {
            Ok(address) => address.to_canonical().is_loopback(),
            // RFC 6761 section 6.3: the name, and all below it.
            Err(_) => self.host() == "localhost" || self.host().ends_with(".localhost"),
        }
    }

    /// Whether the host is an address at which one can listen and that nobody can call.
    pub fn is_unspecified(&self) -> bool {
        let address = self.host().parse::<IpAddr>();
        address.is_ok_and(|address| address.to_canonical().is_unspecified())
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let (is_https, authority) =
            match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
                (Some(authority), _) => (false, authority),
                (_, Some(authority)) => (true, authority),
                _ => return Err(EndpointError),
            };
        let (host, port) = authority.rsplit_once(':').ok_or(EndpointError)?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => {
                let address: Ipv6Addr = address.parse().map_err(|_| EndpointError)?;
                Host(address.to_string())
            }
            None if host.contains(':') => return Err(EndpointError),
            None => host.parse()?,
        };
        // The standard library's parser takes a plus sign, and zeros in front.
        if port.starts_with('0') || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(EndpointError);
        }
        let port = port.parse().map_err(|_| EndpointError)?;
        Ok(Self { is_https, host, port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_https { "https" } else { "http" };
        let (open, close) = if self.host().contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{scheme}://{open}{}{close}:{}", self.host(), self.port)
    }
}

impl FromStr for Host {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(address.to_string()));
        }
        let is_label = |label: &str| {
            let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            matches!(label.len(), 1..=63)
                && label.bytes().all(inner)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let labels = || text.split('.');
        // A last label of digits is an IPv4 address gone wrong.
        let is_number =
            labels().next_back().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
        if text.len() > 253 || is_number || !labels().all(is_label) {
            return Err(EndpointError);
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not http:// or https://, a host, a colon and a port")
    }
}

impl std::error::Error for EndpointError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_print_as_they_are_read() {
        for text in [
            "http://127.0.0.1:9190",
            "https://[2001:db8::1]:1",
            "https://controller-1.example.net:65535",
            "http://_etcd.local:2379",
            "http://1password.com:80",
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        let endpoint: Endpoint = "https://C.Example.Net:9190".parse().unwrap();
        assert_eq!((endpoint.host(), endpoint.port()), ("c.example.net", 9190));
        assert!(endpoint.is_https());
        let listener = Endpoint::of("[::1]:9190".parse().unwrap(), false);
        assert_eq!(listener.to_string(), "http://[::1]:9190");
        assert_eq!(listener, "http://[::1]:9190".parse().unwrap());
    }

    #[test]
    fn what_is_no_endpoint_is_refused() {
        let long = format!("http://{}:1", "a.".repeat(127));
        for text in [
            "",
            "http://",
            "http://:1",
            "http://a",
            "http://a:",
            "http://a:0",
            "http://a:080",
            "http://a:+80",
            "http://a:65536",
            "http://a:80/",
            "http://a:80/path",
            "http://user@a:80",
            "http://a b:80",
            "http://-a:80",
            "http://a..b:80",
            "http://a.:80",
            "http://256.0.0.1:80",
            "http://1.2.3:80",
            "http://::1:80",
            "http://[::1:80",
            "http://[127.0.0.1]:80",
            "http://[fe80::1%eth0]:80",
            "ftp://a:80",
            "HTTP://a:80",
            "a:80",
            &long,
        ] {
            assert_eq!(text.parse::<Endpoint>(), Err(EndpointError), "{text}");
        }
    }

    #[test]
    fn loopback_is_what_stays_on_the_machine() {
        let endpoint = |text: &str| text.parse::<Endpoint>().unwrap();
        for text in [
            "http://127.0.0.9:1",
            "http://[::1]:1",
            "http://[::ffff:127.0.0.1]:1",
            "http://LOCALHOST:1",
        ] {
            assert!(endpoint(text).is_loopback(), "{text}");
        }
        for text in ["http://192.0.2.1:1", "http://0.0.0.0:1", "http://localhost.example.net:1"] {
            assert!(!endpoint(text).is_loopback(), "{text}");
        }
        assert!(endpoint("http://0.0.0.0:1").is_unspecified());
        assert!(endpoint("http://[::]:1").is_unspecified());
        assert!(!endpoint("http://a:1").is_unspecified());
    }
}
