//! The table against a HashMap that knows nothing of slots: any sequence of packets, pauses,
//! reaping and backend changes gets the answers the map predicts, under kind hashes and
//! under hashes where everything collides, and every robin hood invariant holds after each
//! step.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use conntrack::{
    Cause, FlowKey, Inserted, KeyHasher, Lookup, Packet, Pin, Probe, Removed, Segment, State,
    Table, Timeouts, V6AsSent,
};
use proptest::prelude::*;

const CASES: u32 = if cfg!(miri) { 2 } else { 200 };
const STEPS: usize = if cfg!(miri) { 60 } else { 400 };

/// No timeout is shorter: see [`timeouts`].
const SHORTEST_IDLE: u32 = 5_000;

/// VIP 1 has timeouts of its own.
fn timeouts(vip: u32) -> Timeouts {
    let defaults = Timeouts::default();
    if vip == 1 {
        defaults.with(State::Udp, 5_000).with(State::Established, 20_000)
    } else {
        defaults
    }
}

fn key(number: u16) -> FlowKey {
    let protocol = [6, 6, 17, 47][number as usize % 4];
    if number.is_multiple_of(5) {
        let source = Ipv6Addr::from_bits(0x2001_0db8 << 96 | number as u128);
        FlowKey::v6(source, Ipv6Addr::LOCALHOST, 40000, 80, protocol)
    } else {
        let source = Ipv4Addr::new(198, 51, (number >> 8) as u8, number as u8);
        FlowKey::v4(source, Ipv4Addr::new(203, 0, 113, 1), 40000, 80, protocol)
    }
}

/// How unkind the hash is.
#[derive(Clone, Copy, Debug)]
enum Hashing {
    Keyed,
    /// Every flow at one home, fingerprints differ.
    OneHome,
    /// Four homes in a row at the very end of the table, one fingerprint.
    LastHomes,
    /// A few homes with dense runs between them, few fingerprints.
    Clumps,
    /// One home with most flows, the others within the run that it makes and beyond.
    Hot,
}

impl Hashing {
    fn hash(self, key: &FlowKey) -> u64 {
        let hash = KeyHasher::new([1, 2, 3, 4]).hash(key);
        match self {
            Hashing::Keyed => hash,
            Hashing::OneHome => hash & 0xff,
            Hashing::LastHomes => u64::MAX - ((hash & 3) << 56),
            Hashing::Clumps => (hash & 7) << 61 | ((hash >> 8) & 3) << 57 | (hash >> 20 & 3),
            Hashing::Hot if hash & 7 == 0 => hash >> 1,
            Hashing::Hot => hash & 0xff,
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    /// A packet; the flag says whether an old probe of the flow is used.
    Packet(u16, Segment, bool),
    Probe(u16),
    Pause(u32),
    Reap(usize),
    Repin(u16),
    Bury(u16),
}

fn segment() -> impl Strategy<Value = Segment> {
    prop_oneof![
        4 => Just(Segment::Syn),
        6 => Just(Segment::Ack),
        2 => Just(Segment::Fin),
        1 => Just(Segment::Rst),
    ]
}

fn op(keys: u16) -> impl Strategy<Value = Op> {
    prop_oneof![
        20 => (0..keys, segment(), any::<bool>()).prop_map(|(k, s, o)| Op::Packet(k, s, o)),
        2 => (0..keys).prop_map(Op::Probe),
        2 => prop_oneof![0u32..50, 0u32..40_000, Just(30_000u32), Just(60_000u32)].prop_map(Op::Pause),
        2 => (0usize..400).prop_map(Op::Reap),
        1 => (0..keys).prop_map(Op::Repin),
        1 => (0..keys).prop_map(Op::Bury),
    ]
}

#[derive(Clone, Copy, Debug)]
struct Flow {
    pin: Pin,
    state: State,
    confirmed: bool,
    tombstone: bool,
    seen: u64,
    packets: u32,
    bytes: u64,
}

impl Flow {
    fn expired(&self, now: u64) -> bool {
        now - self.seen >= timeouts(self.pin.vip).of(self.state) as u64
    }

    /// The state machine in its plainest words; `None` is a new connection.
    fn next(&self, segment: Segment) -> Option<State> {
        use Segment::*;
        match self.state {
            State::Udp | State::Other => Some(self.state),
            closing if closing.is_closing() && segment == Syn => None,
            _ if self.tombstone && segment == Syn => None,
            State::TimeWait => Some(State::TimeWait),
            _ if segment == Rst => Some(State::TimeWait),
            State::FinWait => Some(State::FinWait),
            _ if segment == Fin => Some(State::FinWait),
            state if segment == Syn => Some(state),
            _ => Some(State::Established),
        }
    }
}

struct World {
    table: Table,
    flows: HashMap<u16, Flow>,
    probes: HashMap<u16, Probe>,
    hashing: Hashing,
    now: u64,
    backends: u32,
    short: bool,
}

impl World {
    fn new(flows: usize, hashing: Hashing, start: u64) -> World {
        World {
            table: Table::new(flows).unwrap(),
            flows: HashMap::new(),
            probes: HashMap::new(),
            hashing,
            now: start,
            backends: 0,
            short: false,
        }
    }

    /// Every pin is unique, so that a removed entry can be told by it.
    fn pin(&mut self, number: u16) -> Pin {
        self.backends += 1;
        Pin { backend: self.backends, generation: number, vip: number as u32 % 2 }
    }

    fn forget(&mut self, removed: Removed) -> Flow {
        let number = removed.pin.generation;
        let flow = self.flows.remove(&number).expect("only what was there can be removed");
        assert_eq!((removed.pin, removed.state), (flow.pin, flow.state));
        assert_eq!(removed.tombstone, flow.tombstone);
        let expired = flow.expired(self.now);
        match removed.cause {
            Cause::Expired => assert!(expired, "{flow:?}"),
            Cause::Closing => assert!(!expired && (flow.state.is_closing() || flow.tombstone)),
            Cause::Unconfirmed => assert!(!expired && !flow.confirmed),
            Cause::Superseded => assert!(!expired),
        }
        flow
    }

    fn remember(&mut self, number: u16, pin: Pin, packet: Packet) {
        let state = State::opening(key(number).protocol(), packet.segment);
        let (packets, bytes) = (1, packet.length as u64);
        let (confirmed, tombstone, seen) = (false, false, self.now);
        let flow = Flow { pin, state, confirmed, tombstone, seen, packets, bytes };
        self.flows.insert(number, flow);
    }

    fn packet(&mut self, number: u16, segment: Segment, old_probe: bool) {
        let key = key(number);
        let tcp = key.protocol() == 6;
        let segment = if tcp { segment } else { Segment::Datagram };
        let packet = Packet { segment, length: 60 + number };
        let hash = self.hashing.hash(&key);
        let now = self.now as u32;
        let probe = match self.probes.get(&number) {
            Some(&probe) if old_probe => probe,
            _ => self.table.probe(hash),
        };
        let pin = self.pin(number);
        let known = self.flows.get(&number).copied().filter(|flow| !flow.expired(self.now));
        let limits = timeouts(number as u32 % 2);
        // Every other packet goes the short way first, as all do in a worker.
        self.short = !self.short;
        assert_eq!(
            self.is_steady_in_short(probe, &key, packet),
            self.is_steady(probe, &key, packet)
        );
        if self.short
            && let Some(steady) = self.table.steady(probe, &key, packet, now, SHORTEST_IDLE)
        {
            let flow = known.expect("steady is what is there");
            assert_eq!((steady.pin(), flow.next(segment)), (flow.pin, Some(flow.state)));
            assert!(flow.confirmed && !flow.tombstone);
            steady.count(packet, now);
            let entry = self.table.peek(hash, &key, now, &limits).expect("it was there");
            let bytes = flow.bytes + u64::from(packet.length);
            let flow = Flow { seen: self.now, packets: flow.packets + 1, bytes, ..flow };
            assert_eq!((entry.packets(), entry.bytes()), (flow.packets, flow.bytes));
            assert_eq!((entry.state(), entry.confirmed()), (flow.state, true));
            self.flows.insert(number, flow);
            return;
        }
        match self.table.lookup(probe, hash, &key, packet, now, &limits) {
            Lookup::Found(hit) | Lookup::Complaint(hit) => {
                let flow = known.expect("found what is there");
                let next = flow.next(segment).expect("found what goes on");
                assert_eq!((hit.pin(), hit.before(), hit.state()), (flow.pin, flow.state, next));
                let continues = !tcp
                    || segment == Segment::Ack
                        && matches!(flow.state, State::SynReceived | State::Established);
                let flow = Flow {
                    state: next,
                    confirmed: flow.confirmed || continues,
                    seen: self.now,
                    packets: flow.packets + 1,
                    bytes: flow.bytes + packet.length as u64,
                    ..flow
                };
                assert_eq!(hit.confirmed(), flow.confirmed);
                assert_eq!(hit.tombstone(), flow.tombstone);
                assert_eq!((hit.packets(), hit.bytes()), (flow.packets, flow.bytes));
                self.flows.insert(number, flow);
            }
            Lookup::Closed(hit) => {
                let flow = known.expect("closed what is there");
                assert_eq!(flow.next(segment), None);
                let removed = hit.reopen(pin, packet, now);
                assert_eq!(removed.cause, Cause::Superseded);
                self.forget(removed);
                self.remember(number, pin, packet);
            }
            Lookup::Missing => {
                assert!(known.is_none(), "missing {known:?}");
                let limit = |entry: &conntrack::Entry| timeouts(entry.vip()).of(entry.state());
                match self.table.insert(hash, &key, pin, packet, now, limit) {
                    Inserted::New => {
                        assert!(!self.flows.contains_key(&number));
                        self.remember(number, pin, packet);
                    }
                    Inserted::Replaced(removed) => {
                        self.forget(removed);
                        self.remember(number, pin, packet);
                    }
                    Inserted::Refused => {
                        assert!(!self.flows.contains_key(&number));
                        let crowded = !matches!(self.hashing, Hashing::Keyed);
                        assert!(crowded || self.table.len() == self.table.capacity());
                    }
                }
            }
        }
    }

    fn is_steady(&mut self, probe: Probe, key: &FlowKey, packet: Packet) -> bool {
        self.table.steady(probe, key, packet, self.now as u32, SHORTEST_IDLE).is_some()
    }

    /// The same, asked without the key.
    fn is_steady_in_short(&mut self, probe: Probe, key: &FlowKey, packet: Packet) -> bool {
        let (now, mut entries) = (self.now as u32, self.table.entries());
        let steady = match key.canonical_v6() {
            None => entries.steady_v4(probe, key.v4_words(), packet, now, SHORTEST_IDLE),
            Some(bytes) => {
                let sent = V6AsSent {
                    source: bytes[..16].try_into().unwrap(),
                    destination: bytes[16..32].try_into().unwrap(),
                    source_port: bytes[32..34].try_into().unwrap(),
                    destination_port: bytes[34..36].try_into().unwrap(),
                    protocol: bytes[36],
                };
                entries.steady_v6(probe, sent, packet, now, SHORTEST_IDLE)
            }
        };
        steady.is_some()
    }

    fn reap(&mut self, budget: usize) {
        let mut gone = Vec::new();
        let limit = |entry: &conntrack::Entry| timeouts(entry.vip()).of(entry.state());
        let swept = self.table.reap(self.now as u32, budget, limit, |removed| gone.push(removed));
        assert_eq!(swept.removed, gone.len());
        assert!(swept.visited <= budget && swept.removed <= budget);
        for removed in gone {
            assert_eq!(removed.cause, Cause::Expired);
            self.forget(removed);
        }
    }

    fn change(&mut self, number: u16, bury: bool) {
        let key = key(number);
        let hash = self.hashing.hash(&key);
        let segment = if key.protocol() == 6 { Segment::Ack } else { Segment::Datagram };
        if self.flows.get(&number).is_none_or(|flow| flow.expired(self.now)) {
            return;
        }
        self.packet(number, segment, false);
        let pin = self.pin(number);
        let limits = timeouts(number as u32 % 2);
        let packet = Packet { segment, length: 0 };
        let probe = self.table.probe(hash);
        let now = self.now as u32;
        let (Lookup::Found(mut hit) | Lookup::Complaint(mut hit)) =
            self.table.lookup(probe, hash, &key, packet, now, &limits)
        else {
            panic!("{key} was there a moment ago");
        };
        let flow = self.flows.get_mut(&number).unwrap();
        flow.packets += 1;
        flow.confirmed = hit.confirmed();
        if bury {
            hit.bury();
            flow.tombstone = true;
        } else {
            hit.repin(pin.backend, pin.generation);
            (flow.pin, flow.tombstone) = (pin, false);
        }
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Packet(number, segment, old_probe) => self.packet(number, segment, old_probe),
            Op::Probe(number) => {
                let probe = self.table.probe(self.hashing.hash(&key(number)));
                self.probes.insert(number, probe);
            }
            Op::Pause(milliseconds) => self.now += milliseconds as u64,
            Op::Reap(budget) => self.reap(budget),
            Op::Repin(number) => self.change(number, false),
            Op::Bury(number) => self.change(number, true),
        }
        self.table.check(|key| self.hashing.hash(key)).unwrap();
        assert_eq!(self.table.len(), self.flows.len());
    }

    fn finish(&mut self) {
        let mut dumped = HashMap::new();
        let mut cursor = Some(0);
        while let Some(from) = cursor {
            cursor = self.table.walk(from, 17, |entry| {
                assert!(dumped.insert(entry.generation(), *entry).is_none());
            });
        }
        assert_eq!(dumped.len(), self.flows.len());
        for (number, flow) in &self.flows {
            let entry = dumped[number];
            assert_eq!((*entry.key(), entry.pin()), (key(*number), flow.pin));
            assert_eq!((entry.state(), entry.packets()), (flow.state, flow.packets));
            let limits = timeouts(flow.pin.vip);
            let hash = self.hashing.hash(&key(*number));
            let live = self.table.peek(hash, &key(*number), self.now as u32, &limits).is_some();
            assert_eq!(live, !flow.expired(self.now));
        }
        self.reap(self.table.span());
        assert!(self.flows.values().all(|flow| !flow.expired(self.now)), "a turn reaps all");
    }
}

fn hashing() -> impl Strategy<Value = Hashing> {
    prop_oneof![
        Just(Hashing::Keyed),
        Just(Hashing::OneHome),
        Just(Hashing::LastHomes),
        Just(Hashing::Clumps),
        Just(Hashing::Hot),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: CASES, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn a_small_table_answers_as_the_map_does(
        flows in 1usize..40,
        hashing in hashing(),
        start in prop_oneof![Just(0u64), Just(u32::MAX as u64 - 100_000)],
        ops in prop::collection::vec(op(60), 1..STEPS),
    ) {
        let mut world = World::new(flows, hashing, start);
        ops.iter().for_each(|op| world.step(op));
        world.finish();
    }

    // More flows than a home can hold, so that the probe bound is met before the load limit.
    #[test]
    fn runs_at_the_probe_bound_answer_as_the_map_does(
        flows in 150usize..400,
        hashing in hashing(),
        ops in prop::collection::vec(op(500), 1..STEPS * 2),
        confirmed in 0u16..200,
    ) {
        let mut world = World::new(flows, hashing, 7);
        if !cfg!(miri) {
            for number in 0..300 {
                world.packet(number, Segment::Syn, false);
                if number < confirmed {
                    world.packet(number, Segment::Ack, false);
                }
            }
        }
        ops.iter().for_each(|op| world.step(op));
        world.finish();
    }

    /// The same packets to a table that is reaped and to one that never is: the same answers,
    /// as long as neither is full.
    #[test]
    fn the_reaper_is_invisible(
        hashing in Just(Hashing::Keyed),
        ops in prop::collection::vec((op(60), 0usize..300), 1..STEPS),
    ) {
        let mut reaped = World::new(100, hashing, 0);
        let mut left = World::new(100, hashing, 0);
        for (op, budget) in &ops {
            if matches!(op, Op::Reap(_)) {
                continue;
            }
            reaped.reap(*budget);
            reaped.step(op);
            left.step(op);
            for number in 0..60 {
                let key = key(number);
                let (hash, limits) = (hashing.hash(&key), timeouts(number as u32 % 2));
                let now = reaped.now as u32;
                let with = reaped.table.peek(hash, &key, now, &limits).map(describe);
                let without = left.table.peek(hash, &key, now, &limits).map(describe);
                prop_assert_eq!(with, without);
            }
        }
    }
}

fn describe(entry: &conntrack::Entry) -> (Pin, State, bool, bool, u32, u64) {
    let (confirmed, tombstone) = (entry.confirmed(), entry.tombstone());
    (entry.pin(), entry.state(), confirmed, tombstone, entry.packets(), entry.bytes())
}
