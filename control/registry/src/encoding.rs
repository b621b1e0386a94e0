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
