//! Why there is no way to the controllers.

use std::path::PathBuf;

use crate::address::Address;

/// Why there is no way to the controllers. Names what is wrong and where; holds no secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The list is empty.
    #[error("endpoints: none given, expected the URL of at least one controller")]
    NoEndpoints,
    /// Not a URL of a controller.
    #[error("endpoint {text:?}: {problem}, expected http://HOST:PORT or https://HOST:PORT")]
    Address {
        /// As given.
        text: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Some endpoints are protected, others not.
    #[error("endpoints: {first} and {other} differ in scheme, expected one for all")]
    MixedSchemes {
        /// The first endpoint.
        first: Address,
        /// The first that differs.
        other: Address,
    },
    /// TLS settings that nothing would use.
    #[error("TLS settings are given, and endpoint {0} is http: expected https")]
    TlsUnused(Address),
    /// One half of an identity.
    #[error("{given} is given without {missing}: expected both or none")]
    HalfIdentity {
        /// `certificate` or `key`.
        given: &'static str,
        /// The other one.
        missing: &'static str,
    },
    /// The token would cross the network for all to read.
    #[error("endpoint {0} is http and not loopback: the token is not sent in clear, use https")]
    TokenInClear(Address),
    /// A file cannot be read, or holds something else.
    #[error("{role} {}: {problem}", path.display())]
    File {
        /// `ca`, `certificate`, `key` or `token_file`.
        role: &'static str,
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The TLS settings as a whole.
    #[error("TLS towards {address}: {problem}")]
    Tls {
        /// The controller.
        address: Address,
        /// What is wrong.
        problem: String,
    },
    /// No connection. The next attempt goes elsewhere.
    #[error("controller {address}: {problem}")]
    Connect {
        /// The controller.
        address: Address,
        /// What went wrong, or that time was over.
        problem: String,
    },
}

/// An error and what caused it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Wrappers often repeat what they wrap.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
