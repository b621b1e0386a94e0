//! What a flow costs in memory.

use conntrack::{Entry, FlowKey, Inserted, KeyHasher, Packet, Pin, Segment, Table};

/// Bytes a flow, all in all: what docs/limits.md says.
const A_FLOW: usize = 76;

#[test]
fn a_flow_takes_one_cache_line_and_its_share_of_the_slack() {
    assert_eq!(size_of::<Entry>(), 64);
    for flows in [100_000, 2_000_000, 16_777_216, 268_435_456] {
        let bytes = Table::memory_layout(flows).unwrap().size();
        // The slots behind the last home, and what ends every scan.
        let ends = 16 << 10;
        assert!(bytes <= flows * A_FLOW + ends, "{bytes} bytes for {flows} flows");
    }
    let limits = include_str!("../../docs/limits.md");
    assert!(limits.contains(&format!("{A_FLOW} bytes a flow")), "docs/limits.md says otherwise");
}

/// The figure is of flows that there is room for, not of slots.
#[test]
fn a_table_holds_as_many_flows_as_were_asked_for() {
    const FLOWS: u32 = if cfg!(miri) { 100 } else { 100_000 };
    let hasher = KeyHasher::new([1, 2, 3, 4]);
    let mut table = Table::new(FLOWS as usize).unwrap();
    let (pin, packet) =
        (Pin { backend: 1, generation: 1, vip: 1 }, Packet { segment: Segment::Ack, length: 60 });
    for number in 0..FLOWS {
        let key = FlowKey::v4(number.into(), [203, 0, 113, 1].into(), 40_000, 80, 6);
        let inserted = table.insert(hasher.hash(&key), &key, pin, packet, 1000, |_| u32::MAX / 2);
        assert_eq!(inserted, Inserted::New, "flow {number}");
    }
    assert_eq!(table.len(), FLOWS as usize);
}
