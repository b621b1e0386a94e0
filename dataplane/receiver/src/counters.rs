//! What became of all datagrams: one counter for each end, and a few on the way.

use std::sync::atomic::{AtomicU64, Ordering};

/// What is counted. The order is that of [`NAMES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Counter {
    /// Datagrams that came in.
    Received,
    /// Packets handed to the kernel here.
    Delivered,
    /// Packets the TUN device did not take.
    DeliveryFailed,
    /// Datagrams sent on to the next hop.
    PassedOn,
    /// Datagrams for the next hop that could not be sent.
    PassingOnFailed,
    /// Questions to the kernel about a flow.
    Asked,
    /// Questions that it did not answer.
    AskingFailed,
    /// Forwarded by tables one version old.
    OneVersionBehind,
    /// Forwarded by tables two versions old or older.
    MoreVersionsBehind,
    /// The same, dropped.
    OldVersion,
    /// From nobody's address that may send.
    Stranger,
    /// The next hop is nobody's address that may be one.
    HopRefused,
    /// The packet inside is for no VIP.
    NoVip,
    /// Shorter than its GUE header.
    GueShort,
    /// Neither variant of GUE.
    GueVersion,
    /// A control message.
    GueControl,
    /// A flag that is not known.
    GueFlags,
    /// Neither IPv4 nor IPv6 inside.
    GueProtocol,
    /// Private data that is not known.
    GuePrivateData,
    /// The packet inside is shorter than it says.
    InnerLength,
    /// The packet inside is not the version of IP that was announced.
    InnerVersion,
}

/// The names of all counters.
pub const NAMES: [&str; 21] = [
    "received",
    "delivered",
    "delivery_failed",
    "passed_on",
    "passing_on_failed",
    "asked",
    "asking_failed",
    "one_version_behind",
    "more_versions_behind",
    "old_version",
    "stranger",
    "hop_refused",
    "no_vip",
    "gue_short",
    "gue_version",
    "gue_control",
    "gue_flags",
    "gue_protocol",
    "gue_private_data",
    "inner_length",
    "inner_version",
];

const _: () = assert!(Counter::InnerVersion as usize + 1 == NAMES.len());

/// All counters, from 0.
#[derive(Debug, Default)]
pub struct Counters([AtomicU64; NAMES.len()]);

impl Counters {
    /// Counts one.
    pub fn add(&self, counter: Counter) {
        if let Some(place) = self.0.get(counter as usize) {
            place.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many were counted.
    pub fn get(&self, counter: Counter) -> u64 {
        self.0.get(counter as usize).map_or(0, |place| place.load(Ordering::Relaxed))
    }

    /// All of them, as one line of JSON.
    pub fn line(&self) -> String {
        let fields: Vec<String> = NAMES
            .iter()
            .zip(&self.0)
            .map(|(name, count)| format!("\"{name}\":{}", count.load(Ordering::Relaxed)))
            .collect();
        format!("{{{}}}", fields.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_every_counter_under_its_name() {
        let counters = Counters::default();
        counters.add(Counter::InnerVersion);
        counters.add(Counter::InnerVersion);
        counters.add(Counter::Received);
        let line = counters.line();
        assert!(line.starts_with("{\"received\":1,\"delivered\":0,"), "{line}");
        assert!(line.ends_with(",\"inner_version\":2}"), "{line}");
        assert_eq!(line.matches(':').count(), NAMES.len());
    }
}
