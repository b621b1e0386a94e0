//! Stage 3, the short way: a packet that changes nothing of its flow's entry but the counters.
//!
//! Three forms of one question, by what is known of the flow: its key, the words of IPv4, or where it
//! lies in a packet over IPv6. `None` says nothing at all in each of them: ask [`Table::lookup`],
//! which answers the same at greater length.

use crate::entry::{Entry, Pin};
use crate::key::{FlowKey, Service, V4Words};
use crate::sent_v6::V6AsSent;
use crate::state::Packet;
use crate::table::{Probe, Table};

/// A live entry whose flow goes on as it did, found by [`Table::steady`]; not yet counted.
#[derive(Debug)]
pub struct Steady<'t> {
    entry: &'t mut Entry,
}

impl Steady<'_> {
    /// The backend of the flow, the generation of its index, and the VIP.
    #[inline(always)]
    pub fn pin(&self) -> Pin {
        self.entry.pin()
    }

    /// What the client dialled.
    #[inline(always)]
    pub fn service(&self) -> &Service {
        self.entry.key().service()
    }

    /// Takes the packet that [`Table::steady`] was asked for, at the same time.
    #[inline(always)]
    pub fn count(self, packet: Packet, now: u32) {
        self.entry.count(packet, now);
    }
}

impl Table {
    /// The flow's entry, if the probe is right, the entry was not idle for `shortest_idle`
    /// milliseconds and is no tombstone, and the packet changes nothing but its counters.
    /// `shortest_idle` is no longer than any timeout of any VIP, so the entry is live.
    #[inline(always)]
    pub fn steady(
        &mut self,
        probe: Probe,
        key: &FlowKey,
        packet: Packet,
        now: u32,
        shortest_idle: u32,
    ) -> Option<Steady<'_>> {
        let slot = self.verified(probe, key)?;
        let entry = self.entries.get_mut(slot)?;
        entry.is_steady(packet, now, shortest_idle).then_some(Steady { entry })
    }

    /// The entries alone, for those who look at many.
    #[inline(always)]
    pub fn entries(&mut self) -> Entries<'_> {
        Entries { entries: &mut self.entries }
    }
}

/// All entries of a table, for as long as nothing else is done with it.
#[derive(Debug)]
pub struct Entries<'t> {
    entries: &'t mut [Entry],
}

impl Entries<'_> {
    /// As [`Table::steady`], for a flow over IPv4.
    #[inline(always)]
    pub fn steady_v4(
        &mut self,
        probe: Probe,
        words: V4Words,
        packet: Packet,
        now: u32,
        shortest_idle: u32,
    ) -> Option<Steady<'_>> {
        // An empty slot holds no entry that is steady, so its tag need not be asked.
        let entry = self.entries.get_mut(probe.slot as usize)?;
        let found = entry.key().v4_words();
        (found.client == words.client
            && found.service == words.service
            && entry.is_steady(packet, now, shortest_idle))
        .then_some(Steady { entry })
    }

    /// As [`Table::steady`], for the flow of a packet over IPv6.
    #[inline(always)]
    pub fn steady_v6(
        &mut self,
        probe: Probe,
        sent: V6AsSent<'_>,
        packet: Packet,
        now: u32,
        shortest_idle: u32,
    ) -> Option<Steady<'_>> {
        // As for IPv4: the tag need not be asked.
        let entry = self.entries.get_mut(probe.slot as usize)?;
        (entry.key().is_v6_as_sent(sent) && entry.is_steady(packet, now, shortest_idle))
            .then_some(Steady { entry })
    }
}

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::sent_v6::tests::sent;
    use crate::{Segment, Timeouts};

    const ACK: Packet = Packet { segment: Segment::Ack, length: 60 };
    const PIN: Pin = Pin { backend: 7, generation: 3, vip: 9 };
    /// Every flow's: all share one home and one fingerprint.
    const HASH: u64 = 5 << 56;

    fn octets(text: &str) -> [u8; 16] {
        text.parse::<Ipv6Addr>().unwrap().octets()
    }

    /// A table with one confirmed flow, last seen at 1,000 ms.
    fn table_of(key: &FlowKey) -> Table {
        let mut table = Table::new(8).unwrap();
        table.insert(HASH, key, PIN, ACK, 1_000, |_| 60_000);
        table.lookup(table.probe(HASH), HASH, key, ACK, 1_000, &Timeouts::default());
        table
    }

    /// What each form says of a packet of `key`: all that apply say the same.
    fn is_steady(table: &mut Table, key: &FlowKey, packet: Packet, now: u32) -> bool {
        let probe = table.probe(HASH);
        let by_key = table.steady(probe, key, packet, now, 500).map(|steady| {
            assert_eq!(steady.service(), key.service());
            steady.pin()
        });
        let mut entries = table.entries();
        let in_short = match key.canonical_v6() {
            None => entries.steady_v4(probe, key.v4_words(), packet, now, 500),
            Some(bytes) => entries.steady_v6(probe, sent(&bytes), packet, now, 500),
        };
        assert_eq!(in_short.map(|steady| steady.pin()), by_key, "{key}");
        by_key.is_some()
    }

    #[test]
    fn a_flow_is_steady_for_its_own_packets_and_for_no_other_s() {
        let (client, vip) = ("2001:db8::a:7", "2001:db8:1::b:1");
        let v6 = |client: &str, vip: &str, ports: (u16, u16), protocol| {
            FlowKey::v6(octets(client).into(), octets(vip).into(), ports.0, ports.1, protocol)
        };
        let key = v6(client, vip, (40000, 443), 6);
        let mut table = table_of(&key);
        assert!(is_steady(&mut table, &key, ACK, 1_499));
        assert!(!is_steady(&mut table, &key, ACK, 1_500), "idle for too long");
        for segment in [Segment::Syn, Segment::Fin, Segment::Rst, Segment::Datagram] {
            assert!(!is_steady(&mut table, &key, Packet { segment, length: 60 }, 1_000));
        }
        let [.., a, b, c, d] = octets(client);
        let [.., e, f, g, h] = octets(vip);
        for other in [
            // The same to the last 32 bits of both addresses.
            v6("2001:db9::a:7", vip, (40000, 443), 6),
            v6("2001:db8:0:0:1::a:7", vip, (40000, 443), 6),
            v6(client, "2001:db8:2::b:1", (40000, 443), 6),
            v6(client, "2001:db8:1::1:b:1", (40000, 443), 6),
            v6(client, vip, (40001, 443), 6),
            v6(client, vip, (40000, 444), 6),
            v6(client, vip, (443, 40000), 6),
            v6(client, vip, (40000, 443), 17),
            v6(vip, client, (40000, 443), 6),
            FlowKey::v4(Ipv4Addr::new(a, b, c, d), Ipv4Addr::new(e, f, g, h), 40000, 443, 6),
        ] {
            assert!(!is_steady(&mut table, &other, ACK, 1_000), "{other}");
            let mut its = table_of(&other);
            assert!(!is_steady(&mut its, &key, ACK, 1_000), "{other}");
        }
    }

    #[test]
    fn a_slot_that_was_vacated_is_steady_for_nobody_though_it_keeps_its_key() {
        let v4 = FlowKey::v4([192, 0, 2, 7].into(), [203, 0, 113, 1].into(), 40000, 443, 6);
        let v6 = FlowKey::v6(octets("2001:db8::7").into(), octets("::1").into(), 40000, 443, 6);
        for key in [v4, v6] {
            let mut table = table_of(&key);
            let probe = table.probe(HASH);
            assert_eq!(table.reap(61_000, table.span(), |_| 60_000, |_| {}).removed, 1);
            let bytes = key.canonical_v6().unwrap_or([0; 37]);
            assert!(table.steady(probe, &key, ACK, 1_000, 500).is_none());
            assert!(table.entries().steady_v4(probe, key.v4_words(), ACK, 1_000, 500).is_none());
            assert!(table.entries().steady_v6(probe, sent(&bytes), ACK, 1_000, 500).is_none());
        }
    }

    #[test]
    fn nothing_is_steady_where_the_probe_found_nothing() {
        let key = FlowKey::v6(octets("2001:db8::7").into(), octets("::1").into(), 1, 2, 6);
        let mut table = Table::new(8).unwrap();
        assert_eq!(table.probe(HASH), Probe::NONE);
        assert!(!is_steady(&mut table, &key, ACK, 0));
        // Zeroed memory is the flow from :: to ::, if it is asked so.
        let (source, destination) = (&[0; 16], &[0; 16]);
        let (source_port, destination_port, protocol) = ([0; 2], [0; 2], 0);
        let sent = V6AsSent { source, destination, source_port, destination_port, protocol };
        for slot in 0..table.span() as u32 {
            assert!(table.entries().steady_v6(Probe { slot }, sent, ACK, 0, u32::MAX).is_none());
        }
    }
}
