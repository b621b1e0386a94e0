//! Keys that name files and folders.
//!
//! Paths are absolute: a service has no folder of its own that a relative one could start from.

use crate::reader::Reader;
use crate::report::Reported;
use crate::schema::Key;
use std::path::{Path, PathBuf};

/// The path under `key`, or its default.
pub(crate) fn required(reader: &mut Reader<'_, '_>, key: &Key) -> Result<PathBuf, Reported> {
    let text = reader.text(key)?;
    if text.contains(char::is_control) {
        return Err(reader.fault(key, "holds a control character", "a path"));
    }
    if !Path::new(&text).is_absolute() {
        let expected = "a path that starts with \"/\"";
        return Err(reader.fault(key, "is not an absolute path", expected));
    }
    Ok(PathBuf::from(text))
}

/// The path under `key`, if it is there.
pub(crate) fn optional(
    reader: &mut Reader<'_, '_>,
    key: &Key,
) -> Result<Option<PathBuf>, Reported> {
    if reader.is_present(key) { required(reader, key).map(Some) } else { Ok(None) }
}
