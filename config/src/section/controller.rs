//! `[controller]` of a controller, `[tls]`, `[[access]]`, `[limits]` and `[fleet]`.

use super::path;
use crate::Endpoint;
use crate::model::{Access, Controller, Credential, Fleet, Identity, Limits, Role, ServerTls};
use crate::reader::Reader;
use crate::report::Reported;
use crate::schema::Key;
use crate::schema::controller::{access, fleet, limits, own as keys, tls};
use std::net::SocketAddr;

/// What of a controller's file decides who may reach it.
#[derive(Clone, Copy)]
pub(crate) struct Protection {
    /// Whether there is a `[tls]`, right or wrong.
    pub(crate) has_tls: bool,
    /// Whether there is an `[[access]]`, right or wrong.
    pub(crate) has_access: bool,
}

pub(crate) fn read(
    mut reader: Reader<'_, '_>,
    protection: Protection,
) -> Result<Controller, Reported> {
    let name = reader.name(&keys::NAME);
    let listen = read_listener(&mut reader, &keys::LISTEN, protection);
    let http = read_listener(&mut reader, &keys::HTTP, protection);
    let advertise = read_advertise(&mut reader, listen.as_ref().ok(), protection.has_tls);
    let state_dir = path::required(&mut reader, &keys::STATE_DIR);
    let (listen, http) = (listen?, http?);
    if listen == http && listen.port() != 0 {
        return Err(reader.fault(&keys::HTTP, "is also listen", "another port"));
    }
    Ok(Controller { name: name?, listen, http, advertise: advertise?, state_dir: state_dir? })
}

/// Without TLS and a list of callers, whoever can connect is an operator.
fn read_listener(
    reader: &mut Reader<'_, '_>,
    key: &Key,
    protection: Protection,
) -> Result<SocketAddr, Reported> {
    let address: SocketAddr = reader.notation(key)?;
    let missing = match (protection.has_tls, protection.has_access) {
        (true, true) => return Ok(address),
        (true, false) => "[[access]]",
        (false, true) => "[tls]",
        (false, false) => "[tls] and no [[access]]",
    };
    if address.ip().to_canonical().is_loopback() {
        return Ok(address);
    }
    let what = format!("is reachable from the network, and there is no {missing}");
    let expected =
        format!("both, or a loopback address such as {}", key.default_cell().trim_matches('`'));
    Err(reader.fault(key, &what, &expected))
}

fn read_advertise(
    reader: &mut Reader<'_, '_>,
    listen: Option<&SocketAddr>,
    has_tls: bool,
) -> Result<Option<Endpoint>, Reported> {
    let key = &keys::ADVERTISE;
    let advertise: Option<Endpoint> = reader.optional_notation(key)?;
    let Some(endpoint) = advertise else {
        if listen.is_some_and(|listen| listen.ip().to_canonical().is_unspecified()) {
            let what = "is missing, and listen is every address of the machine";
            return Err(reader.fault(key, what, "the URL that clients call"));
        }
        return Ok(None);
    };
    if endpoint.is_unspecified() {
        let what = "is an address to listen at, not to call";
        return Err(reader.fault(key, what, "the URL that clients call"));
    }
    if endpoint.is_https() != has_tls {
        let (what, expected) = if has_tls {
            ("is http, and there is [tls]", "https")
        } else {
            ("is https, and there is no [tls]", "http, or [tls]")
        };
        return Err(reader.fault(key, what, expected));
    }
    Ok(Some(endpoint))
}

pub(crate) fn read_tls(mut reader: Reader<'_, '_>) -> Result<ServerTls, Reported> {
    let certificate = path::required(&mut reader, &tls::CERTIFICATE);
    let key = path::required(&mut reader, &tls::KEY);
    let client_ca = path::optional(&mut reader, &tls::CLIENT_CA);
    let identity = Identity { certificate: certificate?, key: key? };
    Ok(ServerTls { identity, client_ca: client_ca? })
}

/// `has_client_ca` says whether a certificate could be verified.
pub(crate) fn read_access(
    reader: &mut Reader<'_, '_>,
    has_client_ca: bool,
) -> Result<Access, Reported> {
    let name = reader.name(&access::NAME);
    let roles = [
        ("operator", Role::Operator),
        ("checker", Role::Checker),
        ("node", Role::Node),
        ("viewer", Role::Viewer),
    ];
    let role = reader.choice(&access::ROLE, &roles);
    let credential = read_credential(reader);
    let (name, role, credential) = (name?, role?, credential?);
    if matches!(credential, Credential::Certificate(_)) && !has_client_ca {
        let what = "can never be shown, as there is no [tls] with client_ca";
        return Err(reader.fault(&access::CERTIFICATE, what, "client_ca, or a token_file"));
    }
    Ok(Access { name, role, credential })
}

fn read_credential(reader: &mut Reader<'_, '_>) -> Result<Credential, Reported> {
    let token_file = path::optional(reader, &access::TOKEN_FILE)?;
    if !reader.is_present(&access::CERTIFICATE) {
        return match token_file {
            Some(token_file) => Ok(Credential::TokenFile(token_file)),
            None => {
                let expected = "a certificate's name, or a token_file";
                Err(reader.fault(&access::CERTIFICATE, "is missing", expected))
            }
        };
    }
    let certificate = reader.text(&access::CERTIFICATE)?;
    if token_file.is_some() {
        let what = "stands beside token_file";
        return Err(reader.fault(&access::CERTIFICATE, what, "one of them; make two entries"));
    }
    let count = certificate.chars().count();
    if !(1..=253).contains(&count) || certificate.contains(char::is_control) {
        let what = "is empty, too long or holds a control character";
        return Err(reader.fault(&access::CERTIFICATE, what, "a DNS name or common name"));
    }
    Ok(Credential::Certificate(certificate))
}

pub(crate) fn read_limits(mut reader: Reader<'_, '_>) -> Result<Limits, Reported> {
    let streams = reader.integer(&limits::STREAMS);
    let request_bytes = reader.integer(&limits::REQUEST_BYTES);
    let requests_per_second = reader.integer(&limits::REQUESTS_PER_SECOND);
    let health_window = reader.integer(&limits::HEALTH_WINDOW);
    Ok(Limits {
        streams: streams?,
        request_bytes: request_bytes?,
        requests_per_second: requests_per_second?,
        health_window: health_window?,
    })
}

pub(crate) fn read_fleet(mut reader: Reader<'_, '_>) -> Result<Fleet, Reported> {
    let checkers_silent = reader.seconds(&fleet::CHECKERS_SILENT);
    let evicted_shown = reader.seconds(&fleet::EVICTED_SHOWN);
    Ok(Fleet { checkers_silent: checkers_silent?, evicted_shown: evicted_shown? })
}
