//! QUIC connection ids: how a pool's servers make them, and what backends are called in them. The
//! bounds are those of draft-ietf-quic-load-balancers, as nodes hold them.

use std::collections::BTreeSet;

use proto::v1::QuicConfiguration;
use registry::rows::{self, QuicKey, ServerId, Unknown};
use tonic::Status;

use crate::office::invalid;

/// The eighth number says that an id names nobody.
const MAX_CONFIGURATIONS: usize = 7;
const MAX_SERVER_ID: u32 = 15;
const MIN_NONCE: u32 = 4;
/// Octets of server id and nonce together.
const MAX_ENCODED: u32 = 19;
/// Server ids of one backend.
const MAX_IDS: usize = 64;

/// The rows of what is given; a key that is not given is the one that `before` has.
///
/// # Errors
/// INVALID_ARGUMENT, naming the field.
pub(crate) fn quic_rows(
    given: &[QuicConfiguration],
    before: &[rows::QuicConfiguration],
) -> Result<Vec<rows::QuicConfiguration>, Status> {
    if given.len() > MAX_CONFIGURATIONS {
        let what = format!("{} of them, at most {MAX_CONFIGURATIONS}", given.len());
        return Err(invalid("settings.quic", what));
    }
    let mut ids = BTreeSet::new();
    for configuration in given {
        let id = configuration.config_id;
        if !ids.insert(id) {
            return Err(invalid("settings.quic.config_id", format!("{id} is there twice")));
        }
    }
    given
        .iter()
        .map(|configuration| {
            let id = configuration.config_id;
            row(configuration, before.iter().find(|row| u32::from(row.config_id) == id))
        })
        .collect()
}

fn row(
    given: &QuicConfiguration,
    before: Option<&rows::QuicConfiguration>,
) -> Result<rows::QuicConfiguration, Status> {
    let bounded = |field: &str, value: u32, least: u32, most: u32| match u8::try_from(value) {
        Ok(small) if (least..=most).contains(&value) => Ok(small),
        _ => Err(invalid(field, format!("{value} is not from {least} to {most}"))),
    };
    let server_id = given.server_id_length;
    let length = bounded("settings.quic.server_id_length", server_id, 1, MAX_SERVER_ID)?;
    let most = MAX_ENCODED.saturating_sub(server_id);
    Ok(rows::QuicConfiguration {
        config_id: bounded("settings.quic.config_id", given.config_id, 0, 6)?,
        server_id_length: length,
        nonce_length: bounded("settings.quic.nonce_length", given.nonce_length, MIN_NONCE, most)?,
        key: key(given, before)?,
        self_encoded_length: given.self_encoded_length,
        unknown: before.map_or_else(Unknown::default, |before| before.unknown.clone()),
    })
}

fn key(
    given: &QuicConfiguration,
    before: Option<&rows::QuicConfiguration>,
) -> Result<Option<QuicKey>, Status> {
    const FIELD: &str = "settings.quic.key";
    match (given.key.as_slice(), given.encrypted) {
        ([], false) => Ok(None),
        ([], true) => match before.and_then(|before| before.key.clone()) {
            Some(key) => Ok(Some(key)),
            None => Err(invalid(FIELD, "is missing, and there is none that could stay")),
        },
        (bytes, _) => match bytes.try_into() {
            Ok(key) => Ok(Some(QuicKey(key))),
            Err(_) => Err(invalid(FIELD, format!("{} bytes (expected 16)", bytes.len()))),
        },
    }
}

/// As nodes see them; keys included.
pub(crate) fn proto_quic(rows: &[rows::QuicConfiguration]) -> Vec<QuicConfiguration> {
    rows.iter()
        .map(|row| QuicConfiguration {
            config_id: row.config_id.into(),
            server_id_length: row.server_id_length.into(),
            nonce_length: row.nonce_length.into(),
            key: row.key.as_ref().map(|key| key.0.to_vec()).unwrap_or_default(),
            self_encoded_length: row.self_encoded_length,
            encrypted: row.key.is_some(),
        })
        .collect()
}

/// What a backend is to be called.
///
/// # Errors
/// INVALID_ARGUMENT for too many, for one that is there twice, and for a bad length.
pub(crate) fn server_ids(given: Vec<Vec<u8>>) -> Result<Vec<ServerId>, Status> {
    const FIELD: &str = "quic_server_ids";
    if given.len() > MAX_IDS {
        return Err(invalid(FIELD, format!("{} of them, at most {MAX_IDS}", given.len())));
    }
    let mut seen = BTreeSet::new();
    for id in &given {
        if id.is_empty() || id.len() > MAX_SERVER_ID as usize {
            let what = format!("one of {} bytes (expected 1 to {MAX_SERVER_ID})", id.len());
            return Err(invalid(FIELD, what));
        }
        if !seen.insert(id) {
            return Err(invalid(FIELD, "one is there twice"));
        }
    }
    Ok(given.into_iter().map(ServerId).collect())
}

/// As callers see them.
pub(crate) fn proto_server_ids(row: &rows::Backend) -> Vec<Vec<u8>> {
    row.quic_server_ids.iter().map(|id| id.0.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given() -> QuicConfiguration {
        QuicConfiguration {
            config_id: 2,
            server_id_length: 8,
            nonce_length: 8,
            key: vec![9; 16],
            ..QuicConfiguration::default()
        }
    }

    #[test]
    fn configurations_come_back_as_they_were_given() {
        let rows = quic_rows(&[given()], &[]).unwrap();
        let shown = proto_quic(&rows);
        assert_eq!(shown, [QuicConfiguration { encrypted: true, ..given() }]);
        assert_eq!(quic_rows(&shown, &[]).unwrap(), rows);
    }

    #[test]
    fn a_key_that_is_not_given_stays_and_is_dropped_when_that_is_said() {
        let rows = quic_rows(&[given()], &[]).unwrap();
        let hidden = QuicConfiguration { key: Vec::new(), encrypted: true, ..given() };
        assert_eq!(quic_rows(std::slice::from_ref(&hidden), &rows).unwrap(), rows);
        assert!(quic_rows(std::slice::from_ref(&hidden), &[]).is_err(), "there is none");
        let plain = QuicConfiguration { encrypted: false, ..hidden };
        assert_eq!(quic_rows(&[plain], &rows).unwrap()[0].key, None);
    }

    #[test]
    fn what_is_out_of_bounds_is_named() {
        for (wrong, field) in [
            (QuicConfiguration { config_id: 7, ..given() }, "settings.quic.config_id"),
            (
                QuicConfiguration { server_id_length: 0, ..given() },
                "settings.quic.server_id_length",
            ),
            (QuicConfiguration { nonce_length: 3, ..given() }, "settings.quic.nonce_length"),
            (QuicConfiguration { nonce_length: 12, ..given() }, "settings.quic.nonce_length"),
            (QuicConfiguration { key: vec![1; 15], ..given() }, "settings.quic.key"),
        ] {
            let status = quic_rows(&[wrong], &[]).unwrap_err();
            assert!(status.message().contains(field), "{status}");
        }
        assert!(quic_rows(&[given(), given()], &[]).is_err(), "one number twice");
        assert_eq!(server_ids(vec![vec![1], vec![2, 3]]).unwrap().len(), 2);
        for wrong in [vec![vec![]], vec![vec![1; 16]], vec![vec![1], vec![1]], vec![vec![1]; 65]] {
            assert!(server_ids(wrong).is_err());
        }
    }
}
