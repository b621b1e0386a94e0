//! Rows as bytes: JSON in an envelope that names its format.
//!
//! ```json
//! {"format":1,"backend":{"pool_id":"web","id":"host-1", ...}}
//! ```
//!
//! JSON, because a row must be readable by the release before and the release after it, by name
//! and not by position (bincode, postcard), with fields it does not know kept (prost drops them);
//! and because at three in the morning `etcdctl get` shows it to the operator. The size does not
//! matter: rows are a few hundred bytes, and change when people or machines change.
//!
//! The invariant: what a release does not understand it either keeps as it is (fields) or refuses
//! ([`Error::NewerFormat`], unknown states and kinds); it never reads it as something else.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::key::Key;
use crate::rows::Row;

/// The newest format of rows and of the file, and the one written.
pub const FORMAT: u32 = 1;

/// Read alone first: the rest of a newer format need not even parse.
#[derive(Deserialize)]
struct Head {
    format: u32,
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(flatten)]
    row: Row,
}

#[derive(Serialize)]
struct EnvelopeOf<'a> {
    format: u32,
    #[serde(flatten)]
    row: &'a Row,
}

/// # Errors
/// Never for rows of this crate's types; serde's signature.
pub(crate) fn encode(row: &Row) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(&EnvelopeOf { format: FORMAT, row })
        .map_err(|error| Error::Invalid(format!("{}: {error}", row.key())))
}

/// The row stored as `bytes` under `key`.
pub(crate) fn decode(key: &str, bytes: &[u8]) -> Result<Row, Error> {
    let damaged = |error: serde_json::Error| Error::corrupt(key, error);
    let Head { format } = serde_json::from_slice(bytes).map_err(damaged)?;
    if format > FORMAT {
        return Err(Error::NewerFormat { what: key.to_owned(), found: format, known: FORMAT });
    }
    let Envelope { row } = serde_json::from_slice(bytes).map_err(damaged)?;
    if row.key().to_string() != key {
        return Err(Error::corrupt(key, format!("it holds {}", row.key())));
    }
    Ok(row)
}

/// The key of which `bytes` are the text form.
pub(crate) fn decode_key(bytes: &[u8]) -> Result<Key, Error> {
    let text = String::from_utf8_lossy(bytes);
    Key::parse(&text).ok_or_else(|| Error::corrupt(&text, "no key of this release"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIP: &str = r#"{"pool_id":"web","address":"203.0.113.1/32","first_port":80,
        "last_port":80,"protocol":"tcp","affinity":"source","mss_clamp":{"to":1400},
        "colour":{"hue":[1,2]},"idle":{"syn_received":30,
        "established":300,"fin_wait":60,"time_wait":60,"udp":60,"sctp":18446744073709551615}}"#;
    const KEY: &str = "vip/203.0.113.1/32/80-80/tcp";

    fn stored(format: &str, kind: &str, row: &str) -> Vec<u8> {
        format!(r#"{{"format":{format},"{kind}":{row}}}"#).into_bytes()
    }

    #[test]
    fn fields_of_a_newer_release_survive_being_written_back() {
        let row = decode(KEY, &stored("1", "vip", VIP)).unwrap();
        let written = encode(&row).unwrap();
        let before: serde_json::Value = serde_json::from_str(VIP).unwrap();
        let after: serde_json::Value = serde_json::from_slice(&written).unwrap();
        assert_eq!(after["vip"], before);
        assert_eq!(after["format"], 1);
        assert_eq!(decode(KEY, &written).unwrap(), row);
    }

    #[test]
    fn a_newer_format_is_refused_by_name_even_where_it_does_not_parse() {
        for row in [VIP, r#"{"all":"different"}"#] {
            let error = decode(KEY, &stored("2", "vip", row)).unwrap_err();
            assert!(matches!(error, Error::NewerFormat { found: 2, known: 1, .. }), "{error}");
            assert!(error.to_string().contains(KEY), "{error}");
        }
    }

    #[test]
    fn what_this_release_would_misread_is_refused() {
        let cases = [
            stored("1", "gateway", VIP),
            stored("1", "vip", &VIP.replace("tcp", "sctp")),
            stored("1", "vip", &VIP.replace("\"first_port\":80", "\"first_port\":70000")),
            stored("1", "vip", &VIP.replace("first_port", "port_first")),
            stored("1", "vip", &VIP.replace("203.0.113.1", "203.0.113.2")),
            b"{\"vip\":{}}".to_vec(),
            b"\0\0".to_vec(),
            Vec::new(),
        ];
        for bytes in cases {
            let error = decode(KEY, &bytes).unwrap_err();
            assert!(matches!(error, Error::Corrupt { .. }), "{error}");
            assert!(error.to_string().contains(KEY), "{error}");
        }
    }
}
