//! Notices that the file is not the one this program closed last: a backup put in its place.
//!
//! A file restored over the old one (`cp backup registry.redb`) holds the same store id with
//! older revisions. So at every opening a random number, the generation, goes into the file and
//! into a small file beside it, together with the inode and birth time of the former. When they
//! do not agree at the next opening, the file was restored, copied or moved, and its store id is
//! drawn anew. A crash between the two writes looks the same, which is harmless: a new id only
//! makes nodes take every snapshot afresh.
//!
//! Not noticed: a backup of the running program's file restored before the next opening together
//! with its neighbour in the same inode. Epochs (and versions made of them) go up even then, as
//! they follow the clock.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::StoreId;

/// What is written beside the file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Lineage {
    store_id: StoreId,
    generation: u64,
    inode: u64,
    /// Nanoseconds since 1970, modulo 2^64; 0 where the file system does not tell.
    born: u64,
}

impl Lineage {
    pub(super) fn of(path: &Path, store_id: StoreId, generation: u64) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        let born = metadata.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let nanoseconds = born.map_or(0, |born| born.as_nanos() & u128::from(u64::MAX));
        let born = u64::try_from(nanoseconds).unwrap_or(0);
        Ok(Self { store_id, generation, inode: metadata.ino(), born })
    }

    /// Whether this is what was written at the last opening.
    pub(super) fn is_known(&self, path: &Path) -> bool {
        fs::read(beside(path))
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok())
            .is_some_and(|written| written == *self)
    }

    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let target = beside(path);
        let draft = target.with_extension("lineage.new");
        let mut file = fs::File::create(&draft)?;
        file.write_all(&serde_json::to_vec(self).map_err(io::Error::other)?)?;
        file.sync_all()?;
        fs::rename(&draft, &target)?;
        sync_folder(path)
    }
}

/// Without this a new name in a folder may be gone after a power cut, whatever was synced in it.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lineage");
    PathBuf::from(name)
}
