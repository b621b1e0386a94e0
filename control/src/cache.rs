//! The last good snapshots on disk, for a start without a controller (SPEC section 6).
//!
//! One file, `state_dir/snapshots`, all integers big-endian:
//!
//! ```text
//! "WEIRSNAP" | u32 format | u64 saved at, unix ns | u64 length | length bytes | SHA-256 of all before
//! ```
//!
//! The bytes are `weir.v1.PoolSnapshot` messages, each with its length before it. The file holds
//! hash secrets, so nobody but its owner may read it (mode 0600).
//!
//! It is replaced whole: a new file is written and synced, renamed over the old one, and the
//! folder synced. At any instant the name leads to one complete set. A file that is not as it
//! should be is set aside under another name, for whoever looks into it, and the node starts as
//! if there were none; it never starts from half a set.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use prost::Message as _;
use proto::v1;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

mod writer;

pub use writer::{CacheState, Writer};

/// The file's name in the node's state folder.
pub const FILE: &str = "snapshots";
/// What a file that cannot be used is renamed to.
pub const SET_ASIDE: &str = "snapshots.bad";
const TEMPORARY: &str = "snapshots.new";
const MAGIC: &[u8; 8] = b"WEIRSNAP";
/// The format of this release.
pub const FORMAT: u32 = 1;
const HEADER: usize = 8 + 4 + 8 + 8;
const CHECKSUM: usize = 32;
/// No cache is larger: 65,536 backends are a twentieth of it.
const MAX_BYTES: u64 = 256 << 20;

/// What a cache holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Cached {
    /// As [`crate::fed::Fed::messages`] gave them.
    pub messages: Vec<v1::PoolSnapshot>,
    /// When it was written, unix nanoseconds.
    pub saved_at_ns: u64,
}

/// What there was to read.
#[derive(Debug)]
pub enum Loaded {
    /// A whole set.
    Found(Cached),
    /// No file.
    Missing,
    /// A file that cannot be used, and what is wrong; it was set aside where that was possible.
    SetAside(CacheError),
}

/// Why a cache cannot be used.
#[derive(Debug, Error)]
pub enum CacheError {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is no cache of Weir's.
    #[error("is not a snapshot cache")]
    Foreign,
    /// A later release wrote it.
    #[error("has format {found}, written by another release (expected {FORMAT})")]
    Format {
        /// The format it has.
        found: u32,
    },
    /// It is shorter or longer than it says.
    #[error("has {found} bytes (expected {expected})")]
    Length {
        /// How long it is.
        found: u64,
        /// How long it says it is.
        expected: u64,
    },
    /// The checksum is another.
    #[error("is damaged: its checksum does not match")]
    Checksum,
    /// The messages cannot be decoded, though the checksum is right.
    #[error("holds a snapshot that cannot be decoded")]
    Message,
}

/// Reads the cache of a state folder; one that cannot be used is set aside.
pub fn load(folder: &Path) -> Loaded {
    let path = folder.join(FILE);
    let error = match read(&path) {
        Ok(cached) => return Loaded::Found(cached),
        Err(CacheError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
            return Loaded::Missing;
        }
        Err(error) => error,
    };
    if let Err(error) = fs::rename(&path, folder.join(SET_ASIDE)) {
        tracing::warn!(path = %path.display(), %error, "snapshot cache: cannot be set aside");
    }
    Loaded::SetAside(error)
}

fn read(path: &Path) -> Result<Cached, CacheError> {
    let file = File::open(path)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    decode(&bytes)
}

/// The file's bytes.
pub fn encode(messages: &[v1::PoolSnapshot], saved_at_ns: u64) -> Vec<u8> {
    let body = messages.iter().map(|message| message.encoded_len() + 10).sum::<usize>();
    let mut bytes = Vec::with_capacity(HEADER + body + CHECKSUM);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&FORMAT.to_be_bytes());
    bytes.extend_from_slice(&saved_at_ns.to_be_bytes());
    bytes.extend_from_slice(&[0; 8]);
    for message in messages {
        bytes.extend_from_slice(&message.encode_length_delimited_to_vec());
    }
    let length = (bytes.len() - HEADER) as u64;
    bytes[HEADER - 8..HEADER].copy_from_slice(&length.to_be_bytes());
    let checksum = Sha256::digest(&bytes);
    bytes.extend_from_slice(&checksum);
    bytes
}

/// The inverse of [`encode`]; total.
///
/// # Errors
/// What is wrong with the bytes.
pub fn decode(bytes: &[u8]) -> Result<Cached, CacheError> {
    let (magic, rest) = bytes.split_first_chunk::<8>().ok_or(CacheError::Foreign)?;
    if magic != MAGIC {
        return Err(CacheError::Foreign);
    }
    let short =
        || CacheError::Length { found: bytes.len() as u64, expected: (HEADER + CHECKSUM) as u64 };
    let (format, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
    let found = u32::from_be_bytes(*format);
    if found != FORMAT {
        return Err(CacheError::Format { found });
    }
    let (saved_at, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
    let (length, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
    let length = u64::from_be_bytes(*length);
    let expected = length.saturating_add((HEADER + CHECKSUM) as u64);
    if bytes.len() as u64 != expected {
        return Err(CacheError::Length { found: bytes.len() as u64, expected });
    }
    let (mut body, checksum) = rest.split_last_chunk::<CHECKSUM>().ok_or_else(short)?;
    let covered = bytes.get(..bytes.len() - CHECKSUM).ok_or_else(short)?;
    if Sha256::digest(covered).as_slice() != checksum {
        return Err(CacheError::Checksum);
    }
    let mut messages = Vec::new();
    while !body.is_empty() {
        let message = v1::PoolSnapshot::decode_length_delimited(&mut body);
        messages.push(message.map_err(|_| CacheError::Message)?);
    }
    Ok(Cached { messages, saved_at_ns: u64::from_be_bytes(*saved_at) })
}

/// Replaces the cache; see the module.
///
/// # Errors
/// When the disk does not take it; the old cache is still there then.
pub fn store(folder: &Path, bytes: &[u8]) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let temporary = folder.join(TEMPORARY);
    let written = write_synced(&temporary, bytes)
        .and_then(|()| fs::rename(&temporary, folder.join(FILE)))
        .and_then(|()| File::open(folder)?.sync_all());
    if written.is_err() {
        // On a full disk, what was written of it is better not there.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_synced(path: &PathBuf, bytes: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // New, so that the mode is ours, and a link that somebody left there is not followed.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
