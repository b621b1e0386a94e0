//! The promises of the table, one test each, in the words of the manual.

use std::cell::Cell;
use std::collections::HashSet;
use std::net::Ipv4Addr;

use conntrack::{
    Cause, Entry, FlowKey, Inserted, KeyHasher, Lookup, Memory, Packet, Pin, Probe, Reaper,
    Segment, State, Swept, Table, Timeouts,
};

const ACK: Packet = packet(Segment::Ack);
const SYN: Packet = packet(Segment::Syn);
const FIN: Packet = packet(Segment::Fin);

const fn packet(segment: Segment) -> Packet {
    Packet { segment, length: 60 }
}

fn hash(key: &FlowKey) -> u64 {
    KeyHasher::new([11, 22 << 50, 33 << 20, 44]).hash(key)
}

fn tcp(number: u32) -> FlowKey {
    let source = Ipv4Addr::from_bits(number.wrapping_mul(0x9e37_79b1));
    FlowKey::v4(source, Ipv4Addr::new(203, 0, 113, 1), number as u16, 80, 6)
}

fn limit(entry: &Entry) -> u32 {
    Timeouts::default().of(entry.state())
}

fn pin(backend: u32) -> Pin {
    Pin { backend, generation: 0, vip: 0 }
}

/// One packet as a worker handles it. The pin is used if the flow is new or reopened.
#[derive(Debug, PartialEq)]
enum Answer {
    Found(u32, State),
    Reopened(u32),
    Inserted(Inserted),
}

fn send(table: &mut Table, key: &FlowKey, packet: Packet, backend: u32, now: u32) -> Answer {
    let hash = hash(key);
    let probe = table.probe(hash);
    match table.lookup(probe, hash, key, packet, now, &Timeouts::default()) {
        Lookup::Found(hit) | Lookup::Complaint(hit) => Answer::Found(hit.backend(), hit.state()),
        Lookup::Closed(hit) => Answer::Reopened(hit.reopen(pin(backend), packet, now).pin.backend),
        Lookup::Missing => {
            Answer::Inserted(table.insert(hash, key, pin(backend), packet, now, limit))
        }
    }
}

fn confirmed(table: &mut Table, key: &FlowKey, now: u32) {
    assert_eq!(send(table, key, SYN, 1, now), Answer::Inserted(Inserted::New));
    assert_eq!(send(table, key, ACK, 1, now), Answer::Found(1, State::Established));
}

/// A table filled to its last flow with what `fill` makes of each.
fn full(flows: usize, mut fill: impl FnMut(&mut Table, &FlowKey)) -> Table {
    let mut table = Table::new(flows).unwrap();
    for number in 0..flows as u32 {
        fill(&mut table, &tcp(number));
    }
    assert_eq!(table.len(), flows);
    table
}

const SMALL: usize = if cfg!(miri) { 30 } else { 2000 };

#[test]
fn a_table_holds_all_its_flows_at_ninety_percent_load() {
    let flows = if cfg!(miri) { 200 } else { 300_000 };
    let mut table = full(flows, |table, key| confirmed(table, key, 0));
    table.check(hash).unwrap();
    for number in 0..flows as u32 {
        let answer = send(&mut table, &tcp(number), ACK, 2, 1);
        assert_eq!(answer, Answer::Found(1, State::Established));
    }
    let lengths = table.probe_lengths();
    assert_eq!(lengths.iter().sum::<usize>(), flows);
    // The mean of linear probing at 90 % is 4.5 slots away from home.
    let mean = lengths.iter().enumerate().map(|(far, count)| far * count).sum::<usize>() / flows;
    assert!(mean < 6, "mean distance {mean}");
}

#[test]
fn floods_of_syns_and_stray_acks_push_out_no_confirmed_flow_and_every_refusal_is_told() {
    for flood in [SYN, ACK, FIN, packet(Segment::Rst)] {
        let mut table = full(SMALL, |table, key| confirmed(table, key, 0));
        let refused = (0..SMALL as u32 * 2)
            .map(|number| send(&mut table, &tcp(1 << 20 | number), flood, 2, 1000))
            .filter(|answer| *answer == Answer::Inserted(Inserted::Refused))
            .count();
        assert_eq!(refused, SMALL * 2, "a table full of confirmed flows refuses all");
        for number in 0..SMALL as u32 {
            let answer = send(&mut table, &tcp(number), ACK, 2, 1000);
            assert_eq!(answer, Answer::Found(1, State::Established));
        }
    }
}

#[test]
fn a_flood_over_a_partly_confirmed_table_eats_its_own() {
    let mut table = Table::new(SMALL).unwrap();
    let half = SMALL as u32 / 2;
    (0..half).for_each(|number| confirmed(&mut table, &tcp(number), 0));
    let mut counts = [0; 3];
    for number in 0..SMALL as u32 * 4 {
        match send(&mut table, &tcp(1 << 20 | number), SYN, 2, 1000 + number / 100) {
            Answer::Inserted(Inserted::New) => counts[0] += 1,
            Answer::Inserted(Inserted::Replaced(removed)) => {
                assert_eq!((removed.cause, removed.pin.backend), (Cause::Unconfirmed, 2));
                counts[1] += 1;
            }
            Answer::Inserted(Inserted::Refused) => counts[2] += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(counts.iter().sum::<usize>(), SMALL * 4);
    assert_eq!(counts[0], SMALL - half as usize);
    assert!(counts[1] > counts[2] * 20, "room is found nearly always: {counts:?}");
    table.check(hash).unwrap();
    for number in 0..half {
        let answer = send(&mut table, &tcp(number), ACK, 3, 2000);
        assert_eq!(answer, Answer::Found(1, State::Established));
    }
}

/// Free slots stay spread over a full table, however long a flood goes on: newcomers find somebody.
#[test]
fn a_flood_that_goes_on_finds_room_to_the_end() {
    let mut table = full(SMALL, |table, key| {
        send(table, key, SYN, 1, 0);
    });
    let turns = if cfg!(miri) { 3 } else { 100 };
    let refused = (0..SMALL as u32 * turns)
        .map(|number| send(&mut table, &tcp(1 << 20 | number), SYN, 2, 1000 + number / 1000))
        .filter(|answer| *answer == Answer::Inserted(Inserted::Refused))
        .count();
    assert!(refused <= SMALL / 100, "{refused} refused");
    table.check(hash).unwrap();
}

/// Eviction among five neighbours, all with the same home, in a table of five.
#[test]
fn timed_out_goes_before_closing_before_unconfirmed_and_the_longest_idle_first() {
    const HOME: u64 = 1 << 62;
    let timeouts = Timeouts::default();
    let now = 100_000;
    // Unconfirmed old and young, closing old and young, timed out; and one to keep.
    let flows: [(&[Packet], u32); 6] = [
        (&[SYN], now - 2000),
        (&[SYN], now - 1000),
        (&[SYN, ACK, FIN], now - 900),
        (&[SYN, ACK, FIN], now - 800),
        (&[SYN], now - 30_000),
        (&[SYN, ACK], now - 90_000),
    ];
    let order = [(4, Cause::Expired), (2, Cause::Closing), (3, Cause::Closing)];
    let order = order.into_iter().chain([(0, Cause::Unconfirmed), (1, Cause::Unconfirmed)]);
    for rotation in 0..flows.len() {
        let mut table = Table::new(flows.len()).unwrap();
        for index in (0..flows.len()).map(|index| (index + rotation) % flows.len()) {
            let (packets, seen) = flows[index];
            let (key, pin) = (tcp(index as u32), pin(index as u32));
            let hash = HOME + index as u64;
            let Inserted::New = table.insert(hash, &key, pin, packets[0], seen, limit) else {
                panic!("there is room");
            };
            for &packet in &packets[1..] {
                let found = table.lookup(Probe::NONE, hash, &key, packet, seen, &timeouts);
                assert!(matches!(found, Lookup::Found(_)));
            }
        }
        // The newcomers confirm themselves at once, so that none is the next to go.
        for (newcomer, (victim, cause)) in order.clone().enumerate() {
            let newcomer = 100 + newcomer as u32;
            let (key, hash) = (tcp(newcomer), HOME + newcomer as u64);
            match table.insert(hash, &key, pin(newcomer), SYN, now, limit) {
                Inserted::Replaced(removed) => {
                    assert_eq!((removed.pin.backend, removed.cause), (victim, cause));
                }
                other => panic!("{other:?}"),
            }
            table.lookup(Probe::NONE, hash, &key, ACK, now, &timeouts);
        }
        let last = tcp(999);
        assert_eq!(table.insert(HOME, &last, pin(999), SYN, now, limit), Inserted::Refused);
        assert!(table.peek(HOME + 5, &tcp(5), now, &timeouts).is_some(), "the live one stays");
    }
}

#[test]
fn a_tombstone_is_evicted_like_a_closing_flow() {
    let mut table = Table::new(1).unwrap();
    confirmed(&mut table, &tcp(1), 0);
    let hash = hash(&tcp(1));
    match table.lookup(Probe::NONE, hash, &tcp(1), ACK, 0, &Timeouts::default()) {
        Lookup::Found(mut hit) => hit.bury(),
        other => panic!("{other:?}"),
    }
    // A straggler still meets it ...
    assert_eq!(send(&mut table, &tcp(1), ACK, 2, 10), Answer::Found(1, State::Established));
    // ... a neighbour of the same home takes its place.
    match table.insert(hash ^ 1, &tcp(2), pin(2), SYN, 20, limit) {
        Inserted::Replaced(removed) => {
            assert!(removed.tombstone);
            assert_eq!(removed.cause, Cause::Closing);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_syn_for_a_tombstone_is_a_new_connection() {
    let mut table = Table::new(4).unwrap();
    confirmed(&mut table, &tcp(1), 0);
    match table.lookup(Probe::NONE, hash(&tcp(1)), &tcp(1), ACK, 0, &Timeouts::default()) {
        Lookup::Found(mut hit) => hit.bury(),
        other => panic!("{other:?}"),
    }
    assert_eq!(send(&mut table, &tcp(1), SYN, 2, 10), Answer::Reopened(1));
    assert_eq!(send(&mut table, &tcp(1), ACK, 3, 20), Answer::Found(2, State::Established));
}

#[test]
fn a_syn_follows_a_live_flow_and_starts_a_closed_one_afresh() {
    let mut table = Table::new(10).unwrap();
    assert_eq!(send(&mut table, &tcp(1), SYN, 1, 0), Answer::Inserted(Inserted::New));
    assert_eq!(send(&mut table, &tcp(1), SYN, 2, 10), Answer::Found(1, State::SynReceived));
    assert_eq!(send(&mut table, &tcp(1), ACK, 2, 20), Answer::Found(1, State::Established));
    assert_eq!(send(&mut table, &tcp(1), SYN, 2, 30), Answer::Found(1, State::Established));
    assert_eq!(send(&mut table, &tcp(1), FIN, 2, 40), Answer::Found(1, State::FinWait));
    assert_eq!(send(&mut table, &tcp(1), ACK, 2, 50), Answer::Found(1, State::FinWait));
    assert_eq!(send(&mut table, &tcp(1), SYN, 2, 60), Answer::Reopened(1));
    assert_eq!(send(&mut table, &tcp(1), SYN, 3, 70), Answer::Found(2, State::SynReceived));
    let rst = packet(Segment::Rst);
    assert_eq!(send(&mut table, &tcp(1), rst, 3, 80), Answer::Found(2, State::TimeWait));
    assert_eq!(send(&mut table, &tcp(1), SYN, 3, 90), Answer::Reopened(2));
    assert_eq!(table.len(), 1);
}

#[test]
fn retransmitted_syns_confirm_nothing() {
    let mut table = full(SMALL, |table, key| {
        for now in 0..3 {
            send(table, key, SYN, 1, now);
        }
    });
    for number in 0..SMALL as u32 {
        let peeked =
            table.peek(hash(&tcp(number)), &tcp(number), 10, &Timeouts::default()).unwrap();
        assert!(!peeked.confirmed());
        assert_eq!(peeked.packets(), 3);
    }
    let answer = send(&mut table, &tcp(1 << 20), SYN, 2, 10);
    assert!(matches!(answer, Answer::Inserted(Inserted::Replaced(_) | Inserted::Refused)));
}

#[test]
fn flows_live_across_the_wrap_of_the_clock() {
    let start = u32::MAX - 10_000;
    let mut table = full(SMALL, |table, key| confirmed(table, key, start));
    let span = table.span();
    // 299.999 s later, on the other side of the wrap, all live; at 300 s none does.
    let late = start.wrapping_add(299_999);
    assert_eq!(table.reap(late, span, limit, |_| panic!("too early")).removed, 0);
    assert!(table.peek(hash(&tcp(0)), &tcp(0), late, &Timeouts::default()).is_some());
    let end = start.wrapping_add(300_000);
    assert!(table.peek(hash(&tcp(0)), &tcp(0), end, &Timeouts::default()).is_none());
    assert_eq!(table.reap(end, span, limit, |_| {}).removed, SMALL);
    assert!(table.is_empty());
}

#[test]
fn one_turn_of_the_reaper_finds_everything_that_is_over() {
    let mut table = Table::new(SMALL).unwrap();
    for number in 0..SMALL as u32 {
        send(&mut table, &tcp(number), if number % 3 == 0 { ACK } else { SYN }, 1, 0);
    }
    // 256 ticks of 4 ms; meanwhile the table fills and evicts under the cursor.
    let mut reaper = Reaper::new(4, 16, 40_000);
    let gone = Cell::new(0);
    for now in 40_000..=41_024 {
        for _ in 0..8 {
            reaper.run(&mut table, now, limit, |removed| {
                assert_eq!(removed.cause, Cause::Expired);
                gone.set(gone.get() + 1);
            });
        }
        if let Answer::Inserted(Inserted::Replaced(removed)) =
            send(&mut table, &tcp(1 << 20 | now), SYN, 2, now)
        {
            gone.set(gone.get() + (removed.cause == Cause::Expired) as usize);
            assert!(removed.cause != Cause::Expired || removed.pin.backend == 1);
        }
    }
    let old = |entry: &Entry| entry.pin().backend == 1 && entry.state() == State::SynReceived;
    let mut left = 0;
    table.walk(0, usize::MAX, |entry| left += old(entry) as usize);
    assert_eq!(left, 0, "all SYN_RECV of 40 s ago are gone");
    assert!(gone.get() >= SMALL / 3 * 2 - 1);
}

/// A whole run shares home 0; its first entry is evicted after the cursor has passed it, so
/// the entry that the cursor was about to meet moves behind it.
#[test]
fn an_entry_that_moves_behind_the_reaper_is_met_in_the_same_turn() {
    let mut table = Table::new(10).unwrap();
    for number in 0..10 {
        let seen = if number == 5 { 0 } else { 20_000 + 100 * number as u32 };
        let inserted =
            table.insert(number, &tcp(number as u32), pin(number as u32), ACK, seen, limit);
        assert_eq!(inserted, Inserted::New);
    }
    let timeouts = Timeouts::default();
    table.lookup(Probe::NONE, 5, &tcp(5), ACK, 0, &timeouts);
    assert_eq!(table.reap(30_000, 5, limit, |_| {}), Swept { visited: 5, removed: 0 });
    match table.insert(99, &tcp(99), pin(99), SYN, 30_000, limit) {
        Inserted::Replaced(removed) => assert_eq!(removed.pin, pin(0)),
        other => panic!("{other:?}"),
    }
    let mut met = false;
    let rest = table.span() - 5;
    table.reap(300_000, rest, limit, |removed| met |= removed.pin == pin(5));
    assert!(met);
}

#[test]
fn lent_memory_needs_no_clearing_and_zeroed_memory_is_an_empty_table() {
    for filler in [0x00, 0xa5, 0xff] {
        let layout = Table::memory_layout(50).unwrap();
        let bytes = vec![filler; layout.size() + layout.align()].leak();
        let skip = bytes.as_ptr().align_offset(layout.align());
        let memory = Memory::from_region(50, &mut bytes[skip..]).unwrap();
        let mut table = Table::in_memory(memory);
        assert!(table.is_empty());
        table.check(hash).unwrap();
        table.walk(0, usize::MAX, |entry| panic!("{entry:?}"));
        assert_eq!(table.probe(hash(&tcp(1))), Probe::NONE);
        confirmed(&mut table, &tcp(1), 0);
        for number in 2..=50 {
            send(&mut table, &tcp(number), SYN, 1, 0);
        }
        assert_eq!(table.len(), 50);
        table.check(hash).unwrap();
    }
}

#[test]
fn a_probe_that_went_stale_within_a_burst_still_finds_its_flow_and_no_other() {
    let mut table = Table::new(8).unwrap();
    let keys: Vec<FlowKey> = (0..9).map(tcp).collect();
    let hash = |_: &FlowKey| 1u64 << 63;
    let timeouts = Timeouts::default();
    for key in &keys[..8] {
        table.insert(hash(key), key, pin(1), SYN, 0, limit);
    }
    let probe = table.probe(1 << 63);
    // The candidate and its neighbours go; stale bytes of theirs stay in the slots.
    assert_eq!(table.reap(30_000, table.span(), limit, |_| {}).removed, 8);
    for key in &keys[..8] {
        let answer = table.lookup(probe, 1 << 63, key, ACK, 10, &timeouts);
        assert!(matches!(answer, Lookup::Missing), "{answer:?}");
    }
    table.insert(1 << 63, &keys[8], pin(9), SYN, 30_000, limit);
    match table.lookup(probe, 1 << 63, &keys[8], ACK, 30_001, &timeouts) {
        Lookup::Found(hit) => assert_eq!(hit.backend(), 9),
        other => panic!("{other:?}"),
    };
}

#[test]
fn a_walk_in_pieces_shows_every_entry_once() {
    let table = full(SMALL, |table, key| confirmed(table, key, 0));
    let mut seen = HashSet::new();
    let mut cursor = Some(0);
    while let Some(from) = cursor {
        cursor = table.walk(from, 7, |entry| assert!(seen.insert(*entry.key())));
    }
    assert_eq!(seen.len(), SMALL);
}

#[test]
fn a_table_of_one_flow_works() {
    let mut table = Table::new(1).unwrap();
    confirmed(&mut table, &tcp(1), 0);
    for number in 2..40 {
        assert_eq!(send(&mut table, &tcp(number), SYN, 1, 0), Answer::Inserted(Inserted::Refused));
    }
    assert_eq!(send(&mut table, &tcp(1), ACK, 2, 0), Answer::Found(1, State::Established));
}
