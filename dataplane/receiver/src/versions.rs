//! How old the tables are that senders forward by.
//!
//! A header tells the low bits of the version of a pool's snapshot. Which pool that is, it does not
//! tell; but a VIP belongs to one pool, so versions are compared among the packets of one VIP. The
//! newest that was seen is what the others are measured against (with wrapping arithmetic, RFC 1982);
//! a newest that nobody has sent for [`FORGET_SECONDS`] is forgotten, so that a controller whose
//! registry was restored, and which counts from lower numbers, is not held against its nodes for
//! longer.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::inner::Transport;

/// A newest version that was not seen for so long is forgotten.
pub const FORGET_SECONDS: u64 = 60;

/// VIPs that are told apart at most; packets of further ones are taken for new.
pub const MAX_VIPS: usize = 4096;

/// A VIP, as packets tell it: its address, and transport and port where they have one.
pub type Vip = (IpAddr, Option<(Transport, u16)>);

/// The newest version of each VIP.
#[derive(Debug, Default)]
pub struct Versions {
    newest: HashMap<Vip, (u32, u64)>,
    /// When it was last gone through for what to forget.
    swept: u64,
}

impl Versions {
    /// How many versions behind the newest one a packet is that has `version`; 0 if it is the newest,
    /// or newer. `now` is a count of seconds.
    pub fn behind(&mut self, vip: Vip, version: u32, now: u64) -> u32 {
        if !self.newest.contains_key(&vip) && self.newest.len() >= MAX_VIPS {
            self.sweep(now);
            if self.newest.len() >= MAX_VIPS {
                return 0;
            }
        }
        let (newest, seen) = self.newest.entry(vip).or_insert((version, now));
        let behind = newest.wrapping_sub(version);
        // In the first half of the circle: older than the newest.
        if behind != 0 && behind < 1 << 31 && now.saturating_sub(*seen) < FORGET_SECONDS {
            return behind;
        }
        (*newest, *seen) = (version, now);
        0
    }

    /// Makes room, once a second at most: which VIPs there are to be told apart is, with one of all
    /// ports, for clients to say, and none of their packets may cost a walk over them all.
    fn sweep(&mut self, now: u64) {
        if self.swept != now {
            self.swept = now;
            self.newest.retain(|_, (_, seen)| now.saturating_sub(*seen) < FORGET_SECONDS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vip(number: u8) -> Vip {
        (IpAddr::from([203, 0, 113, number]), None)
    }

    #[test]
    fn packets_are_measured_against_the_newest_of_their_vip() {
        let mut versions = Versions::default();
        assert_eq!(versions.behind(vip(1), 7, 0), 0);
        assert_eq!(versions.behind(vip(1), 9, 1), 0);
        assert_eq!(versions.behind(vip(1), 8, 2), 1);
        assert_eq!(versions.behind(vip(1), 7, 3), 2);
        assert_eq!(versions.behind(vip(2), 3, 3), 0, "another VIP");
        assert_eq!(versions.behind(vip(1), 9, 4), 0);
    }

    #[test]
    fn low_bits_wrap() {
        let mut versions = Versions::default();
        versions.behind(vip(1), u32::MAX, 0);
        assert_eq!(versions.behind(vip(1), 1, 0), 0);
        assert_eq!(versions.behind(vip(1), u32::MAX, 0), 2);
    }

    #[test]
    fn a_newest_that_nobody_sends_is_forgotten() {
        let mut versions = Versions::default();
        versions.behind(vip(1), 500, 0);
        assert_eq!(versions.behind(vip(1), 3, FORGET_SECONDS - 1), 497);
        assert_eq!(versions.behind(vip(1), 3, FORGET_SECONDS), 0);
        assert_eq!(versions.behind(vip(1), 2, FORGET_SECONDS), 1);
    }

    #[test]
    fn vips_are_bounded() {
        let mut versions = Versions::default();
        let vip = |number: u32| (IpAddr::from(number.to_be_bytes()), None);
        for number in 0..2 * MAX_VIPS as u32 {
            assert_eq!(versions.behind(vip(number), 9, 0), 0);
        }
        assert_eq!(versions.newest.len(), MAX_VIPS);
        assert_eq!(versions.behind(vip(0), 8, 1), 1);
        versions.behind(vip(u32::MAX), 9, FORGET_SECONDS - 1);
        assert_eq!((versions.newest.len(), versions.swept), (MAX_VIPS, FORGET_SECONDS - 1));
        versions.behind(vip(u32::MAX), 9, FORGET_SECONDS);
        assert_eq!(versions.newest.len(), 1, "those of long ago make room");
    }
}
