//! Flows that were found to be this host's own a moment ago, so that not every packet costs a
//! question to the kernel.
//!
//! A fixed number of places, by a keyed hash of the flow; who comes later takes the place. An entry
//! is one word, so that threads share the table without locks:
//!
//! ```text
//!  | 40 bits of the hash | 24 bits: the second at which it ends |
//! ```
//!
//! Being forgotten costs a question. Being remembered for too long costs nothing, either: a packet
//! of a connection that has ended here is answered here. Two flows are taken for one with a chance of
//! 2^-40 each time, and less in a larger table, which chooses places by the other bits.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::inner::Flow;

/// The table; see the module.
#[derive(Debug)]
pub struct Recent {
    key: RandomState,
    places: Box<[AtomicU64]>,
}

impl Recent {
    /// Room for so many flows, rounded up to a power of two; nothing is remembered.
    pub fn new(flows: usize) -> Self {
        let places = (0..flows.next_power_of_two()).map(|_| AtomicU64::new(0)).collect();
        Self { key: RandomState::new(), places }
    }

    /// Remembers `flow` for `seconds` from `now`, a count of seconds.
    pub fn remember(&self, flow: &Flow, now: u64, seconds: u16) {
        let hash = self.key.hash_one(flow);
        let Some(place) = self.place(hash) else { return };
        let end = now.wrapping_add(u64::from(seconds)) & !TAG;
        let entry = place.load(Ordering::Relaxed);
        // What lasts longer stays: a SYN, and then the packets behind it.
        if entry & TAG == hash & TAG && left(entry, now) > u64::from(seconds) {
            return;
        }
        place.store(hash & TAG | end, Ordering::Relaxed);
    }

    /// Whether `flow` is remembered at `now`.
    pub fn contains(&self, flow: &Flow, now: u64) -> bool {
        let hash = self.key.hash_one(flow);
        let entry = self.place(hash).map_or(0, |place| place.load(Ordering::Relaxed));
        entry & TAG == hash & TAG && left(entry, now) > 0
    }

    fn place(&self, hash: u64) -> Option<&AtomicU64> {
        self.places.get(hash as usize & (self.places.len() - 1))
    }
}

/// The bits of an entry that tell flows apart; those that choose its place need not.
const TAG: u64 = !0x00ff_ffff;

/// Seconds until an entry ends; 0 when it has. More than can be asked for is the past, which comes
/// round in half a year.
fn left(entry: u64, now: u64) -> u64 {
    let left = entry.wrapping_sub(now) & !TAG;
    if left > u64::from(u16::MAX) { 0 } else { left }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inner::Transport;

    fn flow(port: u16) -> Flow {
        Flow {
            transport: Transport::Tcp,
            local: "203.0.113.1".parse().unwrap(),
            local_port: 80,
            remote: "198.51.100.7".parse().unwrap(),
            remote_port: port,
        }
    }

    #[test]
    fn a_flow_is_remembered_for_its_time() {
        for now in [1, 65_500, (1 << 24) - 7, 1 << 40] {
            let recent = Recent::new(1024);
            assert!(!recent.contains(&flow(1), now));
            recent.remember(&flow(1), now, 60);
            assert!(recent.contains(&flow(1), now) && recent.contains(&flow(1), now + 59));
            assert!(!recent.contains(&flow(1), now + 60));
            assert!(!recent.contains(&flow(2), now));
        }
    }

    #[test]
    fn a_shorter_time_does_not_cut_a_longer_one() {
        let recent = Recent::new(1);
        recent.remember(&flow(1), 100, 60);
        recent.remember(&flow(1), 110, 2);
        assert!(recent.contains(&flow(1), 159));
        recent.remember(&flow(1), 159, 2);
        assert!(recent.contains(&flow(1), 160));
        // Another flow takes the place.
        recent.remember(&flow(2), 160, 2);
        assert!(!recent.contains(&flow(1), 160));
    }
}
