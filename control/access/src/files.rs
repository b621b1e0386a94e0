//! Reading what an operator put into a file: certificates, keys, tokens.
//!
//! Files are read through one open handle, so that what is checked is what is read, and never more
//! than a bound. A secret's file must not be readable by everybody, nor writable by its group.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Permission bits that a secret's file may not have: anything for others, write for the group.
const TOO_OPEN: u32 = 0o027;

/// Whether a file's content must be kept from others.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A token or a private key.
    Secret,
    /// A certificate.
    Public,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refused.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is there, and is not what it should be.
    #[error("{}: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        problem: String,
    },
}

impl FileError {
    pub(crate) fn content(path: &Path, problem: impl Into<String>) -> Self {
        Self::Content { path: path.to_owned(), problem: problem.into() }
    }
}

/// The whole file, of at most `limit` bytes.
pub(crate) fn read(path: &Path, kind: Kind, limit: u64) -> Result<Vec<u8>, FileError> {
    let failed = |source| FileError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(FileError::content(path, "expected a regular file"));
    }
    if kind == Kind::Secret && metadata.mode() & TOO_OPEN != 0 {
        let mode = metadata.mode() & 0o777;
        return Err(FileError::content(
            path,
            format!("holds a secret and has the mode {mode:04o}: expected 0600, 0640 or less"),
        ));
    }
    let mut content = Vec::new();
    file.take(limit + 1).read_to_end(&mut content).map_err(failed)?;
    if content.len() as u64 > limit {
        return Err(FileError::content(path, format!("expected at most {limit} bytes")));
    }
    Ok(content)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    pub(crate) fn write(path: &Path, content: &str, mode: u32) {
        fs::write(path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_secret_that_others_could_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        for (mode, accepted) in [
            (0o600, true),
            (0o400, true),
            (0o640, true),
            (0o644, false),
            (0o660, false),
            (0o604, false),
        ] {
            write(&path, "content", mode);
            let read_secret = read(&path, Kind::Secret, 100);
            assert_eq!(read_secret.is_ok(), accepted, "{mode:o}");
            if let Err(error) = read_secret {
                assert!(error.to_string().contains(&format!("mode {mode:04o}")), "{error}");
                assert!(!error.to_string().contains("content"), "{error}");
            }
            assert!(read(&path, Kind::Public, 100).is_ok());
        }
    }

    #[test]
    fn no_more_than_the_bound_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write(&path, "12345", 0o600);
        assert_eq!(read(&path, Kind::Secret, 5).unwrap(), b"12345");
        assert!(read(&path, Kind::Secret, 4).unwrap_err().to_string().contains("at most 4 bytes"));
        assert!(read(folder.path(), Kind::Public, 4).is_err());
        let missing = read(&folder.path().join("none"), Kind::Public, 4).unwrap_err();
        assert!(missing.to_string().contains("none: cannot be read"), "{missing}");
    }
}
