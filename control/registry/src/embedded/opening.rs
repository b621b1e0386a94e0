//! Opening the redb file: its tables, its lock, its identity.
//!
//! ```text
//! rows     key text ──▶ (version, encoded row)
//! numbers  "format", "revision", "epoch", "generation"
//! texts    "store_id"
//! ```

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use redb::{Builder, Database, DatabaseError, ReadableTable, StorageBackend, TableDefinition};

use super::creating;
use super::failure::Failure;
use super::lineage::{self, Lineage};
use crate::encoding::FORMAT;
use crate::error::Error;
use crate::{Revision, StoreId};

pub(super) const ROWS: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("rows");
pub(super) const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
pub(super) const TEXTS: TableDefinition<'_, &str, &str> = TableDefinition::new("texts");

/// Bytes of pages that redb keeps in memory; the whole registry fits.
const CACHE: usize = 16 * 1024 * 1024;

/// What the database is in.
pub(super) enum Medium {
    Path(PathBuf),
    Backend(OpenBackend),
}

type OpenBackend = Box<dyn FnMut(&Builder) -> Result<Database, DatabaseError> + Send>;

/// Opens the tables of a database, new or old. Returns the store's id and revision.
///
/// redb checks checksums only after a crash, and panics on damage that it meets later, so they
/// are all checked here; the file is small. A file that could only be repaired may have lost its
/// newest commit, so it is another store.
pub(super) fn begin(
    database: &mut Database,
    medium: &Medium,
) -> Result<(StoreId, Revision), Failure> {
    let intact = database.check_integrity()?;
    if !intact {
        tracing::error!(file = medium.name(), "registry was damaged and repaired: rows may be old");
    }
    let write = database.begin_write()?;
    let generation = fastrand::u64(..);
    let (store_id, revision) = {
        let mut numbers = write.open_table(NUMBERS)?;
        let mut texts = write.open_table(TEXTS)?;
        write.open_table(ROWS)?;
        let format = numbers.get("format")?.map(|format| format.value());
        if let Some(found) = format.filter(|format| *format > u64::from(FORMAT)) {
            let found = u32::try_from(found).unwrap_or(u32::MAX);
            let what = medium.name();
            return Err(Error::NewerFormat { what, found, known: FORMAT }.into());
        }
        numbers.insert("format", u64::from(FORMAT))?;
        let id = texts.get("store_id")?.map(|id| id.value().to_owned());
        let id = match (id, format) {
            (Some(id), _) => Some(StoreId::parse(&id).ok_or_else(|| damaged(medium, "store_id"))?),
            (None, None) => None,
            (None, Some(_)) => return Err(damaged(medium, "store_id").into()),
        };
        let id = match (id, medium) {
            (Some(_), _) if !intact => StoreId::draw(),
            (Some(id), Medium::Path(path)) => {
                let last = Lineage::of(path, id, number(&numbers, "generation")?)?;
                if last.is_known(path) {
                    id
                } else {
                    tracing::warn!(path = %path.display(), "registry restored or moved: new id");
                    StoreId::draw()
                }
            }
            (id, _) => id.unwrap_or_else(StoreId::draw),
        };
        texts.insert("store_id", id.to_string().as_str())?;
        numbers.insert("generation", generation)?;
        (id, number(&numbers, "revision")?)
    };
    write.commit()?;
    if let Medium::Path(path) = medium {
        Lineage::of(path, store_id, generation)?.write(path)?;
    }
    Ok((store_id, revision))
}

pub(super) fn open_database(medium: &mut Medium) -> Result<Database, Error> {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE);
    let opened = match medium {
        Medium::Path(path) => open_path(&builder, path),
        Medium::Backend(open) => open(&builder).map_err(Failure::from),
    };
    opened.map_err(|failure| failure.explain(&medium.name()))
}

fn open_path(builder: &Builder, path: &Path) -> Result<Database, Failure> {
    if let Some(database) = creating::create(builder, path)? {
        return Ok(database);
    }
    let mut options = OpenOptions::new();
    // Made here only where a link leads to no file. Secrets of pools are in it.
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    forget_cached(&options.open(path)?)?;
    lineage::sync_folder(path)?;
    Ok(builder.create(path)?)
}

/// What is read next comes from the disk. After an fsync that failed, the cache may hold pages that
/// the disk has not got and that no later fsync writes; commits built on them would be lost with
/// them. Pages that wait to be written are kept.
fn forget_cached(file: &File) -> io::Result<()> {
    Ok(rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed)?)
}

/// A number of the file; 0 where there is none yet.
pub(super) fn number(
    numbers: &impl ReadableTable<&'static str, u64>,
    name: &str,
) -> Result<u64, Failure> {
    Ok(numbers.get(name)?.map_or(0, |number| number.value()))
}

fn damaged(medium: &Medium, what: &str) -> Error {
    Error::corrupt(medium.name(), format!("{what} is missing or unreadable"))
}

impl Medium {
    pub(super) fn backend<B: StorageBackend>(mut open: impl FnMut() -> B + Send + 'static) -> Self {
        Self::Backend(Box::new(move |builder| builder.create_with_backend(open())))
    }

    pub(super) fn name(&self) -> String {
        match self {
            Self::Path(path) => path.display().to_string(),
            Self::Backend(_) => "the registry".to_owned(),
        }
    }
}
