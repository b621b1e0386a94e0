//! The table's invariants, spelled out for tests and fuzzers; never on the packet path.

use std::collections::HashSet;

use crate::key::FlowKey;
use crate::marks::mark;
use crate::table::Table;
use crate::tags::{self, MAX_PROBE};

impl Table {
    /// Says which invariant is broken, if one is. `hash` is the hash the table is used with.
    #[doc(hidden)]
    pub fn check(&self, hash: impl Fn(&FlowKey) -> u64) -> Result<(), String> {
        let mut keys = HashSet::new();
        let mut previous = 0;
        for (slot, &tag) in self.tags.iter().enumerate() {
            let reach = tag >> 8;
            if reach > previous + 1 {
                return Err(format!("slot {slot}: a gap or a poorer flow lies before it"));
            }
            previous = reach;
            let expected = if tag == 0 { 0 } else { mark(&self.entries[slot]) };
            if self.marks[slot] != expected {
                return Err(format!(
                    "slot {slot}: mark {:#06x}, not {expected:#06x}",
                    self.marks[slot]
                ));
            }
            if tag == 0 {
                if self.entries.get(slot).is_some_and(|entry| !entry.is_clear()) {
                    return Err(format!("slot {slot}: empty, with an entry"));
                }
                continue;
            }
            if slot >= self.span() || !(1..=MAX_PROBE).contains(&(reach as usize)) {
                return Err(format!("slot {slot}: tag {tag:#06x} out of range"));
            }
            let key = self.entries[slot].key();
            let hash = hash(key);
            let home = self.home(hash);
            if home > slot || tag != tags::tag(slot - home, hash as u8) {
                return Err(format!("slot {slot}: tag {tag:#06x}, home {home}, {key}"));
            }
            if !keys.insert(*key) {
                return Err(format!("slot {slot}: {key} is here twice"));
            }
        }
        if keys.len() != self.len() || self.len() > self.capacity() {
            return Err(format!("{} entries, len {}", keys.len(), self.len()));
        }
        if self.cursor > self.span() {
            return Err(format!("cursor {} beyond {}", self.cursor, self.span()));
        }
        Ok(())
    }
}
