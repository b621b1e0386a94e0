//! `[controller]` of a node or a checker, and what it shares with `[registry]`: endpoints, and
//! the TLS of a client.

use super::path;
use crate::Endpoint;
use crate::endpoint::Host;
use crate::model::{ClientTls, ControllerClient, Identity};
use crate::reader::Reader;
use crate::report::{Reported, quote};
use crate::schema::Key;
use crate::schema::client as keys;

const MOST_ENDPOINTS: usize = 16;

pub(crate) fn read(mut reader: Reader<'_, '_>) -> Result<ControllerClient, Reported> {
    let endpoints = read_endpoints(&mut reader, &keys::ENDPOINTS);
    let tls = TlsKeys {
        ca: &keys::CA,
        certificate: &keys::CERTIFICATE,
        key: &keys::KEY,
        server_name: &keys::SERVER_NAME,
    };
    let tls = read_tls(&mut reader, &tls, endpoints.as_deref().ok());
    let token_file = path::optional(&mut reader, &keys::TOKEN_FILE);
    let (endpoints, token_file) = (endpoints?, token_file?);
    let in_clear = endpoints.iter().find(|at| !at.is_https() && !at.is_loopback());
    if let (Some(endpoint), Some(_)) = (in_clear, &token_file) {
        let what = format!("would be sent to {endpoint} in the clear");
        return Err(reader.fault(&keys::TOKEN_FILE, &what, "https endpoints, or loopback ones"));
    }
    Ok(ControllerClient { endpoints, tls: tls?, token_file })
}

/// One scheme for all: a token or a write must not depend on which server answers first.
pub(crate) fn read_endpoints(
    reader: &mut Reader<'_, '_>,
    key: &Key,
) -> Result<Vec<Endpoint>, Reported> {
    let endpoints: Vec<Endpoint> = reader.notations(key)?;
    if !(1..=MOST_ENDPOINTS).contains(&endpoints.len()) {
        let what = format!("names {} servers", endpoints.len());
        return Err(reader.fault(key, &what, &format!("1 to {MOST_ENDPOINTS}")));
    }
    let mut reported = None;
    for (index, endpoint) in endpoints.iter().enumerate() {
        let (earlier, _) = endpoints.split_at(index);
        let fault = if endpoint.is_unspecified() {
            Some(("is an address to listen at, not to call", "the address of one machine"))
        } else if earlier.contains(endpoint) {
            Some(("is there twice", "each once"))
        } else if earlier.first().is_some_and(|first| first.is_https() != endpoint.is_https()) {
            Some(("has another scheme than the first", "all http or all https"))
        } else {
            None
        };
        if let Some((what, expected)) = fault {
            reported = Some(reader.item_fault(key, index, what, expected));
        }
    }
    reported.map_or(Ok(endpoints), Err)
}

/// The keys of a client's TLS in one section.
pub(crate) struct TlsKeys {
    pub(crate) ca: &'static Key,
    pub(crate) certificate: &'static Key,
    pub(crate) key: &'static Key,
    pub(crate) server_name: &'static Key,
}

/// TLS for `https` endpoints, and none for others; `endpoints` is absent when they are wrong.
pub(crate) fn read_tls(
    reader: &mut Reader<'_, '_>,
    keys: &TlsKeys,
    endpoints: Option<&[Endpoint]>,
) -> Result<Option<ClientTls>, Reported> {
    let ca = path::optional(reader, keys.ca);
    let identity = read_identity(reader, keys.certificate, keys.key);
    let server_name: Result<Option<Host>, _> = reader.optional_notation(keys.server_name);
    let (ca, identity, server_name) = (ca?, identity?, server_name?);
    match endpoints.map(|all| all.iter().any(Endpoint::is_https)) {
        None => Ok(None),
        Some(false) => {
            let of_tls = [keys.ca, keys.certificate, keys.key, keys.server_name];
            match of_tls.into_iter().find(|key| reader.is_present(key)) {
                Some(key) => {
                    let what = "has no use, as endpoints are http";
                    Err(reader.fault(key, what, "https endpoints, or the key to be left out"))
                }
                None => Ok(None),
            }
        }
        Some(true) => match ca {
            Some(ca) => {
                Ok(Some(ClientTls { ca, identity, server_name: server_name.map(|host| host.0) }))
            }
            None => {
                let expected = "the authority that signs the certificates of https endpoints";
                Err(reader.fault(keys.ca, "is missing", expected))
            }
        },
    }
}

/// A certificate and its key, which are nothing without each other.
pub(crate) fn read_identity(
    reader: &mut Reader<'_, '_>,
    certificate_key: &'static Key,
    key_key: &'static Key,
) -> Result<Option<Identity>, Reported> {
    let certificate = path::optional(reader, certificate_key);
    let key = path::optional(reader, key_key);
    match (certificate?, key?) {
        (Some(certificate), Some(key)) => Ok(Some(Identity { certificate, key })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(alone(reader, certificate_key, key_key)),
        (None, Some(_)) => Err(alone(reader, key_key, certificate_key)),
    }
}

/// That `key` stands without `other`.
pub(crate) fn alone(reader: &mut Reader<'_, '_>, key: &Key, other: &Key) -> Reported {
    let expected = format!("{} beside it", quote(other.name));
    reader.fault(key, "stands alone", &expected)
}
