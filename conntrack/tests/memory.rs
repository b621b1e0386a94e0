//! What a flow costs in memory, and that finding it takes no more steps in a large table.

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
    let flows = if cfg!(miri) { 100 } else { 100_000 };
    assert_eq!(full(flows).len(), flows as usize);
}

/// So what grows with the table is what memory takes.
#[test]
fn the_search_is_as_long_in_a_full_table_of_any_size() {
    if cfg!(miri) {
        return;
    }
    // Slots from home to flow: at nine slots of ten 4.5 in the mean (Knuth, The Art of Computer
    // Programming, section 6.4, theorem K: (1 / (1 - 0.9) - 1) / 2).
    for flows in [30_000, 100_000, 300_000] {
        let lengths = full(flows).probe_lengths();
        let sum: usize = lengths.iter().enumerate().map(|(away, count)| away * count).sum();
        let mean = sum as f64 / f64::from(flows);
        assert!((3.5..5.5).contains(&mean), "{mean} slots away in a table of {flows}");
    }
}

/// Vigna's SplitMix64.
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A table of `flows` flows with so many in it.
fn full(flows: u32) -> Table {
    let hasher = KeyHasher::new([0x9e37_79b9_7f4a_7c15, 0x1234_5678, 0x0fed_cba9 << 24, 0x5eed]);
    let mut table = Table::new(flows as usize).unwrap();
    let pin = Pin { backend: 1, generation: 1, vip: 1 };
    let packet = Packet { segment: Segment::Ack, length: 60 };
    for number in 0..flows {
        // Numbers in a row would be spread more evenly than chance does.
        let mixed = mixed(u64::from(number));
        let (source, port) = ((mixed >> 32) as u32, mixed as u16);
        let key = FlowKey::v4(source.into(), [203, 0, 113, 1].into(), port, 80, 6);
        let inserted = table.insert(hasher.hash(&key), &key, pin, packet, 1000, |_| u32::MAX / 2);
        assert_eq!(inserted, Inserted::New, "flow {number}");
    }
    table
}
