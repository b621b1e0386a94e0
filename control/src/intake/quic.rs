//! QUIC connection ids of a snapshot: configurations, and what backends are called.

use dataplane::quic::{Configuration, Router, ServerId};
use proto::v1;

use super::{Reason, Refusal, refuse};

/// How the servers make connection ids.
pub(super) fn configurations(
    given: &[v1::QuicConfiguration],
) -> Result<Vec<Configuration>, Refusal> {
    let configurations =
        given.iter().map(configuration).collect::<Result<Vec<Configuration>, Refusal>>()?;
    // The data path's own bounds.
    Router::new(&configurations, std::iter::empty())
        .map_err(|error| refuse(Reason::Settings, format!("settings.quic: {error}")))?;
    Ok(configurations)
}

fn configuration(given: &v1::QuicConfiguration) -> Result<Configuration, Refusal> {
    let small = |field: &str, value: u32| {
        u8::try_from(value).map_err(|_| {
            refuse(Reason::Settings, format!("settings.quic.{field}: {value} is too large"))
        })
    };
    let key = match (given.key.as_slice(), given.encrypted) {
        ([], false) => None,
        (bytes, _) => Some(bytes.try_into().map_err(|_| {
            let length = bytes.len();
            refuse(Reason::Settings, format!("settings.quic.key: {length} bytes (expected 16)"))
        })?),
    };
    Ok(Configuration {
        config_id: small("config_id", given.config_id)?,
        server_id_length: small("server_id_length", given.server_id_length)?,
        nonce_length: small("nonce_length", given.nonce_length)?,
        key,
        self_encoded_length: given.self_encoded_length,
    })
}

/// What a backend is called.
pub(super) fn server_ids(backend: &str, given: &[Vec<u8>]) -> Result<Vec<ServerId>, Refusal> {
    let one = |octets: &Vec<u8>| {
        ServerId::new(octets).ok_or_else(|| {
            let text = format!(
                "backend \"{backend}\": quic_server_ids: one of {} bytes (expected 1 to 15)",
                octets.len()
            );
            refuse(Reason::Backend, text)
        })
    };
    given.iter().map(one).collect()
}
