//! What the decapsulator has seen: each packet counted once, and written as JSON for the tests.
//!
//! The file is replaced by renaming, so a reader never sees half of it.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use serde::{Serialize, Serializer};

use crate::strip::Reason;

/// Distinct outer sources remembered; a whole /16 of entropy fits.
const MOST_SOURCES: usize = 65_536;

/// The counters. `Serialize` gives
/// `{"packets":2,"bytes":120,"dropped":{"inner_checksum":1},"outer_sources":1}`.
#[derive(Debug, Default, Serialize)]
pub struct Stats {
    /// Inner packets delivered.
    pub packets: u64,
    /// Their bytes, without the outer header.
    pub bytes: u64,
    /// Packets not delivered; a reason that never occurred is absent.
    pub dropped: BTreeMap<Reason, u64>,
    /// How many different outer source addresses the delivered packets had, up to 65,536.
    #[serde(serialize_with = "count")]
    pub outer_sources: HashSet<IpAddr>,
}

impl Stats {
    /// Counts one delivered packet of `bytes` inner bytes.
    pub fn delivered(&mut self, outer_source: IpAddr, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
        if self.outer_sources.len() < MOST_SOURCES {
            self.outer_sources.insert(outer_source);
        }
    }

    /// Counts one packet that was not delivered.
    pub fn dropped(&mut self, reason: Reason) {
        *self.dropped.entry(reason).or_default() += 1;
    }

    /// One line of JSON, without a line end.
    ///
    /// # Errors
    /// None in practice; serializing to memory is fallible by type only.
    pub fn to_json(&self) -> io::Result<String> {
        Ok(serde_json::to_string(self)?)
    }

    /// Replaces `file` by the counters as they stand.
    ///
    /// # Errors
    /// Those of writing `FILE.new` beside it and of renaming that.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        let mut new = file.as_os_str().to_owned();
        new.push(".new");
        fs::write(&new, self.to_json()? + "\n")?;
        fs::rename(&new, file)
    }
}

fn count<S: Serializer>(sources: &HashSet<IpAddr>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(sources.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_is_the_documented_one() -> io::Result<()> {
        let mut stats = Stats::default();
        stats.delivered(IpAddr::from([172, 16, 0, 1]), 60);
        stats.delivered(IpAddr::from([172, 16, 0, 1]), 60);
        stats.dropped(Reason::InnerChecksum);
        assert_eq!(
            stats.to_json()?,
            r#"{"packets":2,"bytes":120,"dropped":{"inner_checksum":1},"outer_sources":1}"#
        );
        Ok(())
    }

    #[test]
    fn the_file_is_replaced_whole() -> io::Result<()> {
        let file = std::env::temp_dir().join(format!("weir-decap-{}.json", std::process::id()));
        let mut stats = Stats::default();
        stats.write(&file)?;
        stats.delivered(IpAddr::from([127, 0, 0, 1]), 20);
        stats.write(&file)?;
        let text = fs::read_to_string(&file)?;
        fs::remove_file(&file)?;
        assert_eq!(text, stats.to_json()? + "\n");
        Ok(())
    }

    #[test]
    fn distinct_sources_are_bounded() {
        let mut stats = Stats::default();
        for source in 0..=MOST_SOURCES as u32 {
            stats.delivered(IpAddr::from(source.to_be_bytes()), 20);
        }
        assert_eq!(stats.outer_sources.len(), MOST_SOURCES);
        assert_eq!(stats.packets, MOST_SOURCES as u64 + 1);
    }
}
