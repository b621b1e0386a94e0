//! The list of who is let in: from `[[access]]` entries to the identity behind a request.
//!
//! A request that shows a token is that token's entry, and nothing else: a wrong token is refused
//! even on a connection with a good certificate, so that a mistake is seen. Without a token the
//! names in the certificate decide, in the order of the list.
//!
//! The list is replaced whole ([`Access::reload`], [`Access::replace`]): a call sees one version,
//! and a bad file changes nothing. What was decided when a stream began holds until it ends.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use http::{Extensions, HeaderMap};
use tonic::{Request, Status};

use crate::files::FileError;
use crate::identity::{Identity, Role};
use crate::peer::Peer;
use crate::tls::{ClientCertificates, TlsSettings};
use crate::token::{self, TokenHash};

/// Somebody who is let in: one `[[access]]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name that logs, events and `checker_id` know.
    pub name: String,
    /// What it may.
    pub role: Role,
    /// How it is recognised.
    pub proof: Proof,
}

/// How a caller shows who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A DNS name of its certificate, or the common name of one that has none.
    Certificate(String),
    /// One of the tokens in this file.
    TokenFile(PathBuf),
}

/// Why a list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A listener that strangers could reach.
    #[error(
        "{listener} is no loopback address: expected {missing}, or a listener on 127.0.0.1 or [::1]"
    )]
    Exposed {
        /// The listener.
        listener: SocketAddr,
        /// What is needed to listen there.
        missing: &'static str,
    },
    /// An entry that contradicts itself, another one, or the rest of the configuration.
    #[error("access entry {name:?}: {problem}")]
    Entry {
        /// The entry.
        name: String,
        /// What was found and what was expected.
        problem: String,
    },
    /// A token file that cannot be used.
    #[error("access entry {name:?}: token_file {source}")]
    Token {
        /// The entry.
        name: String,
        /// Why.
        source: FileError,
    },
}

/// Who may call, and as whom.
#[derive(Debug)]
pub struct Access {
    list: RwLock<Arc<Vec<Known>>>,
}

/// An entry with its secret read; no entries at all: access is open.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    entry: Entry,
    tokens: Vec<TokenHash>,
    identity: Identity,
}

impl Access {
    /// Lets everybody do everything, for a listener that only this machine reaches.
    ///
    /// # Errors
    /// [`AccessError::Exposed`] if `listener` is not a loopback address.
    pub fn open(listener: SocketAddr) -> Result<Self, AccessError> {
        Self::build(Vec::new(), None, &[listener])
    }

    /// Lets in who is in the list. Says nothing about listeners: see [`Access::build`].
    ///
    /// # Errors
    /// [`AccessError::Token`] for a token file that is missing, empty, readable by others or holds
    /// what is no token; [`AccessError::Entry`] for an empty list, and for entries of one name with
    /// two roles, of one certificate or of one token.
    pub fn new(entries: Vec<Entry>) -> Result<Self, AccessError> {
        if entries.is_empty() {
            return Err(refuse("", "expected at least one entry"));
        }
        Ok(Self { list: RwLock::new(Arc::new(read(entries)?)) })
    }

    /// Checks the whole of it, as a configuration has it: the list, TLS, and all listeners.
    ///
    /// # Errors
    /// As [`Access::new`], but an empty list is open access; [`AccessError::Exposed`] for a
    /// listener beyond loopback without entries or without TLS; [`AccessError::Entry`] for an
    /// entry with a certificate where no client CA could verify it.
    pub fn build(
        entries: Vec<Entry>,
        tls: Option<&TlsSettings>,
        listeners: &[SocketAddr],
    ) -> Result<Self, AccessError> {
        let missing = match (entries.is_empty(), tls) {
            (true, None) => Some("TLS and access entries"),
            (true, Some(_)) => Some("access entries"),
            (false, None) => Some("TLS"),
            (false, Some(_)) => None,
        };
        let exposed = listeners.iter().find(|listener| !is_loopback(listener));
        if let (Some(missing), Some(&listener)) = (missing, exposed) {
            return Err(AccessError::Exposed { listener, missing });
        }
        let verified = tls.is_some_and(|tls| tls.client_ca.is_some());
        let unverified = entries.iter().find(|e| matches!(e.proof, Proof::Certificate(_)));
        if let (false, Some(entry)) = (verified, unverified) {
            let problem = "a certificate can only be verified with TLS and its client_ca";
            return Err(refuse(&entry.name, problem));
        }
        Ok(Self { list: RwLock::new(Arc::new(read(entries)?)) })
    }

    /// Reads the token files again. True if anything changed.
    ///
    /// # Errors
    /// As [`Access::new`]; the list is then what it was.
    pub fn reload(&self) -> Result<bool, AccessError> {
        let current = self.list();
        let entries = current.iter().map(|known| known.entry.clone()).collect();
        let fresh = read(entries)?;
        if fresh == *current {
            return Ok(false);
        }
        // A list that took its place meanwhile stays: whoever it lets in no more must not return.
        let mut list = self.list.write().unwrap_or_else(PoisonError::into_inner);
        let unchanged = Arc::ptr_eq(&list, &current);
        if unchanged {
            *list = Arc::new(fresh);
        }
        Ok(unchanged)
    }

    /// Takes over the list of `other`, built from a configuration that was read again.
    pub fn replace(&self, other: &Self) {
        self.set(other.list().to_vec());
    }

    /// Whether everybody may do everything.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.list().is_empty()
    }

    /// Whether the TLS of these callers must ask for certificates: of all, unless some show tokens.
    #[must_use]
    pub fn client_certificates(&self) -> ClientCertificates {
        if self.list().iter().all(|known| known.tokens.is_empty()) && !self.is_open() {
            ClientCertificates::Required
        } else {
            ClientCertificates::Optional
        }
    }

    /// Who makes a gRPC call.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` if nobody of the list, saying what was expected, never what was shown.
    pub fn caller<T>(&self, request: &Request<T>) -> Result<Identity, Status> {
        self.identify(request.metadata().as_ref(), request.extensions())
    }

    /// Who makes an HTTP request: its `authorization` header, and the [`Peer`] among its
    /// extensions.
    ///
    /// # Errors
    /// As [`Access::caller`].
    pub fn http_caller(&self, head: &http::request::Parts) -> Result<Identity, Status> {
        self.identify(&head.headers, &head.extensions)
    }

    fn identify(&self, headers: &HeaderMap, extensions: &Extensions) -> Result<Identity, Status> {
        let identity = self.recognise(headers, extensions)?;
        if let Some(peer) = extensions.get::<Peer>() {
            peer.whose.is(&identity);
        }
        Ok(identity)
    }

    fn recognise(&self, headers: &HeaderMap, extensions: &Extensions) -> Result<Identity, Status> {
        let list = self.list();
        if list.is_empty() {
            return Ok(Identity::anybody());
        }
        if let Some(shown) = token::shown(headers)? {
            return by_token(&list, &shown);
        }
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        by_certificate(&list, &Peer::of(extensions), i64::try_from(seconds).unwrap_or(i64::MAX))
    }

    fn list(&self) -> Arc<Vec<Known>> {
        Arc::clone(&self.list.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, list: Vec<Known>) {
        *self.list.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(list);
    }
}

/// Looks at every token, found or not.
fn by_token(list: &[Known], shown: &TokenHash) -> Result<Identity, Status> {
    let mut found = None;
    for known in list {
        for token in &known.tokens {
            if token.matches(shown) {
                found = Some(&known.identity);
            }
        }
    }
    found.cloned().ok_or_else(|| Status::unauthenticated("authorization: the token is not known"))
}

/// The first entry that a name of the certificate belongs to, at `now` seconds since 1970.
fn by_certificate(list: &[Known], peer: &Peer, now: i64) -> Result<Identity, Status> {
    let Some(proven) = &peer.certificate else {
        return Err(Status::unauthenticated(
            "nobody is known to call: expected a client certificate, or \"authorization: Bearer\" \
             and a token",
        ));
    };
    if now > proven.valid_until {
        return Err(Status::unauthenticated(
            "the client certificate has expired since the connection began",
        ));
    }
    let known = list
        .iter()
        .find(|known| matches!(&known.entry.proof, Proof::Certificate(name) if proven.has(name)));
    known.map(|known| known.identity.clone()).ok_or_else(|| {
        Status::unauthenticated(format!(
            "the client certificate is for {}: no access entry names it",
            proven.names.join(", ")
        ))
    })
}

fn read(entries: Vec<Entry>) -> Result<Vec<Known>, AccessError> {
    let mut list: Vec<Known> = Vec::with_capacity(entries.len());
    for entry in entries {
        let name = entry.name.as_str();
        if name.is_empty() {
            return Err(refuse(name, "expected a name"));
        }
        let tokens = match &entry.proof {
            Proof::Certificate(subject) if subject.is_empty() => {
                return Err(refuse(name, "certificate: expected a DNS name or a common name"));
            }
            Proof::Certificate(_) => Vec::new(),
            Proof::TokenFile(path) => token::read(path)
                .map_err(|source| AccessError::Token { name: name.to_owned(), source })?,
        };
        for other in &list {
            contradiction(&entry, &tokens, other)?;
        }
        let identity = Identity::new(name, entry.role);
        list.push(Known { entry, tokens, identity });
    }
    Ok(list)
}

/// Two entries that would make it a matter of luck who a caller is.
fn contradiction(entry: &Entry, tokens: &[TokenHash], other: &Known) -> Result<(), AccessError> {
    let (name, theirs) = (&entry.name, &other.entry);
    if *name == theirs.name && entry.role != theirs.role {
        let problem = format!("has the roles {} and {}: expected one", theirs.role, entry.role);
        return Err(refuse(name, problem));
    }
    if let (Proof::Certificate(own), Proof::Certificate(their)) = (&entry.proof, &theirs.proof)
        && own.eq_ignore_ascii_case(their)
    {
        return Err(refuse(name, format!("the certificate {own:?} is {:?}'s too", theirs.name)));
    }
    if tokens.iter().any(|token| other.tokens.contains(token)) {
        return Err(refuse(name, format!("shares a token with {:?}", theirs.name)));
    }
    Ok(())
}

fn refuse(name: &str, problem: impl Into<String>) -> AccessError {
    AccessError::Entry { name: name.to_owned(), problem: problem.into() }
}

/// Only this machine reaches it; IPv4 in IPv6 is seen through.
fn is_loopback(listener: &SocketAddr) -> bool {
    listener.ip().to_canonical().is_loopback()
}

#[cfg(test)]
#[path = "list/tests.rs"]
mod tests;
