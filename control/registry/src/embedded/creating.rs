//! Making a redb file that was not there before.
//!
//! redb writes a new file in several steps; one that was left in the middle of them is no
//! database, and nobody could tell it from one whose beginning was lost. So the file is made
//! under another name beside the real one (`registry.redb.new`) and gets its own when it is
//! whole: under its own name there is a database or nothing. (Where a link leads to no file redb makes it
//! in its place, as nobody can say where a draft of it would belong.)
//!
//! The invariant: who makes a draft, names it or takes it away holds the lock of the very file
//! that has the draft's name at that moment. So two programs that start together never write into
//! one draft, and none is given the name of a file that is there.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use redb::{Builder, Database};

use super::failure::Failure;
use super::lineage;
use crate::error::Error;

/// Makes the file at `path` unless there is one: `None`. [`Error::Locked`] while another process
/// makes it.
pub(super) fn create(builder: &Builder, path: &Path) -> Result<Option<Database>, Failure> {
    if is_begun(path)? {
        return Ok(None);
    }
    let draft = draft_of(path);
    let file = lock(&draft, path)?;
    // Another process may have finished it since.
    if is_begun(path)? {
        fs::remove_file(&draft)?;
        return Ok(None);
    }
    // What a process that was killed has left of it.
    file.set_len(0)?;
    // redb takes the lock of the same open file: it is held without a gap.
    let database = builder.create_file(file)?;
    fs::rename(&draft, path)?;
    lineage::sync_folder(path)?;
    Ok(Some(database))
}

/// Opens the draft, new or left over, with its lock.
fn lock(draft: &Path, path: &Path) -> Result<File, Failure> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        // Secrets of pools will be in it.
        .mode(0o600)
        .open(draft)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(Error::Locked(path.to_owned()).into()),
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    // It may have got its own name, or been taken away, between the two.
    let opened = file.metadata()?;
    match fs::symlink_metadata(draft) {
        Ok(named) if (named.dev(), named.ino()) == (opened.dev(), opened.ino()) => Ok(file),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Err(Error::Locked(path.to_owned()).into()),
    }
}

/// An empty file is none yet: somebody made its name only. A link counts, also one that leads nowhere:
/// it must not be written over.
fn is_begun(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        found => found.map(|found| !found.is_file() || found.len() != 0),
    }
}

fn draft_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}
