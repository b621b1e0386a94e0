//! The schedule against a network told in a table.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use control::probe::schedule::{
    Found, Key, MAX_A_STEP, MAX_UNDER_WAY, Order, Schedule, Sources, Standing, Target,
};
use dataplane::probe::{Answer, Ends, PORTS, ProbeReply};
use health::thresholds::ProbeSettings;
use health::thresholds::Verdict::{Down, Unknown, Up};

use super::{STEP_MS, vip};

fn key(index: u32) -> Key {
    Key { index, generation: 0 }
}

fn target(index: u32, vips: &[u8]) -> Target {
    let vips = vips.iter().copied().map(vip).collect();
    let node = Sources { v4: Some(Ipv4Addr::new(192, 0, 2, 2)), v6: None };
    Target { key: key(index), node, vips, reachable: true }
}

/// Backends that answer as `says` says, 5 ms later.
struct World {
    schedule: Schedule,
    now: u64,
    /// By backend and VIP; who is not in it is silent.
    says: BTreeMap<(u32, SocketAddr), Answer>,
    sent: Vec<(u64, u32, Ends)>,
    resets: usize,
}

impl World {
    fn new(targets: Vec<Target>) -> Self {
        let mut schedule = Schedule::new(ProbeSettings::default(), 1);
        let mut says = BTreeMap::new();
        for target in &targets {
            says.extend(target.vips.iter().map(|v| ((target.key.index, *v), Answer::Accepts)));
        }
        schedule.want(targets, 0);
        Self { schedule, now: 0, says, sent: Vec::new(), resets: 0 }
    }

    fn step(&mut self) {
        let mut sent = Vec::new();
        self.schedule.poll(self.now, |order| {
            let Order::Probe(key, ends) = order else { panic!("{order:?}") };
            sent.push((self.now, key.index, ends));
            true
        });
        for &(_, index, ends) in &sent {
            if let Some(answer) = self.says.get(&(index, ends.vip())) {
                let order = self.schedule.heard(&ProbeReply { ends, answer: *answer });
                let expected = Order::Reset(key(index), ends);
                assert_eq!(order, (*answer == Answer::Accepts).then_some(expected));
                self.resets += usize::from(order.is_some());
            }
        }
        self.sent.extend(sent);
        self.now += STEP_MS;
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms / STEP_MS {
            self.step();
        }
    }

    fn standing(&self, index: u32) -> Standing {
        self.schedule.standing(key(index)).expect("wanted")
    }

    /// Steps until the verdict is `up`; returns the milliseconds that took.
    fn until(&mut self, index: u32, verdict: health::thresholds::Verdict) -> u64 {
        let began = self.now;
        while self.standing(index).verdict != verdict {
            self.step();
            assert!(self.now - began < 20_000, "{:?}", self.standing(index));
        }
        self.now - began
    }
}

#[test]
fn every_backend_is_asked_once_a_second_spread_over_it_and_from_ports_in_turn() {
    let mut world = World::new((0..750).map(|index| target(index, &[1])).collect());
    world.run(11_000);
    for index in 0..750 {
        let times: Vec<u64> =
            world.sent.iter().filter(|(_, i, _)| *i == index).map(|(at, ..)| *at).collect();
        assert!(times[0] < 1_010, "{times:?}");
        let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(gaps.clone().all(|gap| (1_000..=1_200 + STEP_MS).contains(&gap)), "{times:?}");
        assert_eq!(world.standing(index).verdict, Up);
    }
    let mut a_step: BTreeMap<u64, usize> = BTreeMap::new();
    for (at, ..) in &world.sent {
        *a_step.entry(*at).or_default() += 1;
    }
    assert!(a_step.values().all(|count| *count < 30), "{a_step:?}");
    assert_eq!(world.resets, world.sent.len());
    let ports = world.sent.iter().map(|(_, _, ends)| ends.node().port());
    assert!(ports.clone().all(|port| PORTS.contains(&port)));
    assert_eq!(ports.collect::<BTreeSet<_>>().len(), world.sent.len().min(PORTS.len()));
    let counts = world.schedule.counts();
    assert_eq!(counts.accepted, world.sent.len() as u64);
    assert_eq!((counts.silent, counts.late, counts.put_off), (0, 0, 0));
}

#[test]
fn three_silences_are_down_within_five_seconds_and_two_answers_are_up() {
    let mut world = World::new(vec![target(0, &[1]), target(1, &[1])]);
    assert_eq!(world.standing(0).verdict, Unknown);
    assert_eq!(world.standing(0).to_string(), "not asked yet");
    world.run(5_000);
    assert_eq!(world.standing(0).to_string(), "answers");
    world.says.remove(&(0, vip(1)));
    let took = world.until(0, Down);
    assert!((3_000 - 200..=4_600 + STEP_MS).contains(&took), "{took}");
    assert_eq!(
        world.standing(0).to_string(),
        "no answer from 203.0.113.1:80 through the tunnel, 3 in a row"
    );
    assert_eq!(world.standing(1).verdict, Up, "the other one is not concerned");
    world.says.insert((0, vip(1)), Answer::Accepts);
    assert!(world.until(0, Up) <= 2_400 + STEP_MS);
}

#[test]
fn a_closed_port_is_told_apart_from_a_missing_tunnel() {
    let mut world = World::new(vec![target(0, &[1])]);
    world.says.insert((0, vip(1)), Answer::Refuses);
    world.run(5_000);
    let standing = world.standing(0);
    assert_eq!((standing.verdict, standing.refused), (Up, Some(vip(1))));
    assert_eq!(
        standing.to_string(),
        "203.0.113.1:80 refuses connections: tunnel and VIP are there, no service is"
    );
    assert_eq!(world.resets, 0, "a RST is not answered");
    world.says.insert((0, vip(1)), Answer::Accepts);
    world.run(2_000);
    assert_eq!(world.standing(0).to_string(), "answers");
}

#[test]
fn one_missing_vip_of_several_is_found_as_fast_as_an_only_one_and_watched_until_it_is_back() {
    let mut world = World::new(vec![target(0, &[1, 2, 3])]);
    world.run(8_000);
    let asked: BTreeSet<SocketAddr> = world.sent.iter().map(|(_, _, ends)| ends.vip()).collect();
    assert_eq!(asked, [1, 2, 3].map(vip).into());
    world.says.remove(&(0, vip(2)));
    // Up to two turns until it is its turn, then three.
    assert!(world.until(0, Down) <= 2_400 + 4_600 + STEP_MS);
    let from = world.sent.len();
    world.run(5_000);
    assert!(world.sent[from..].iter().all(|(_, _, ends)| ends.vip() == vip(2)));
    world.says.insert((0, vip(2)), Answer::Accepts);
    world.until(0, Up);
    // The operator takes it out of the pool: the others count.
    world.says.remove(&(0, vip(3)));
    world.until(0, Down);
    world.schedule.want([target(0, &[1, 2])], world.now);
    world.until(0, Up);
}

#[test]
fn an_answer_counts_in_time_and_once() {
    let mut world = World::new(vec![target(0, &[1])]);
    world.says.clear();
    while world.sent.is_empty() {
        world.step();
    }
    let (at, _, ends) = world.sent[0];
    let reply = ProbeReply { ends, answer: Answer::Accepts };
    // Not ours: another port, another VIP, a port that no probe ever had.
    let port = |port| SocketAddr::new(ends.node().ip(), port);
    for ends in [
        Ends::new(port(ends.node().port() + 1), ends.vip()).expect("one family"),
        Ends::new(port(1), ends.vip()).expect("one family"),
        Ends::new(ends.node(), vip(2)).expect("one family"),
    ] {
        assert_eq!(world.schedule.heard(&ProbeReply { ends, ..reply }), None);
    }
    assert_eq!(world.schedule.counts().accepted, 0);
    world.run(1_000);
    assert_eq!((world.schedule.counts().silent, world.standing(0).failures), (1, 1));
    assert!(world.now - at >= 1_000);
    // Too late to count, and still ended at the backend.
    assert_eq!(world.schedule.heard(&reply), Some(Order::Reset(key(0), ends)));
    assert_eq!(world.standing(0).found, Found::Silence(vip(1)));
    assert_eq!(world.standing(0).failures, 1);
    // In time, and a second time.
    let counts = world.schedule.counts();
    while world.sent.len() == 1 {
        world.step();
    }
    let ends = world.sent[1].2;
    let reply = ProbeReply { ends, answer: Answer::Accepts };
    for _ in 0..2 {
        assert_eq!(world.schedule.heard(&reply), Some(Order::Reset(key(0), ends)));
    }
    let now = world.schedule.counts();
    assert_eq!((now.accepted - counts.accepted, now.late - counts.late), (1, 1));
}

#[test]
fn a_backend_without_a_next_hop_fails_unsent() {
    let mut world = World::new(vec![Target { reachable: false, ..target(0, &[1]) }]);
    world.run(5_000);
    assert!(world.sent.is_empty());
    assert_eq!(world.standing(0).verdict, Down);
    assert_eq!(world.standing(0).to_string(), "the next hop is not resolved");
    world.schedule.want([target(0, &[1])], world.now);
    world.says.insert((0, vip(1)), Answer::Accepts);
    world.until(0, Up);
}

#[test]
fn a_pool_without_a_vip_to_ask_at_is_not_probed() {
    let mut world = World::new(vec![target(0, &[])]);
    world.run(5_000);
    assert!(world.sent.is_empty());
    let standing = world.standing(0);
    assert_eq!((standing.verdict, standing.probed), (Unknown, false));
    assert!(standing.to_string().starts_with("not probed: "));
}

#[test]
fn vips_of_both_families_are_asked_in_turn_each_from_an_address_of_its_own() {
    let vips = [vip(1), "[2001:db8:cafe::1]:80".parse().expect("an address")];
    let node = Sources {
        v4: Some(Ipv4Addr::new(192, 0, 2, 2)),
        v6: Some(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 2)),
    };
    let mut world = World::new(vec![Target { node, vips: vips.into(), ..target(0, &[]) }]);
    world.run(8_000);
    let asked: BTreeSet<SocketAddr> = world.sent.iter().map(|(_, _, ends)| ends.vip()).collect();
    assert_eq!(asked, vips.into());
    for (_, _, ends) in &world.sent {
        assert_eq!(Some(ends.node().ip()), node.toward(ends.vip().ip()));
    }
    world.says.remove(&(0, vips[1]));
    assert!(world.until(0, Down) <= 1_200 + 4_600 + STEP_MS);
    assert_eq!(
        world.standing(0).to_string(),
        "no answer from [2001:db8:cafe::1]:80 through the tunnel, 3 in a row"
    );
}

#[test]
fn another_owner_of_an_index_begins_anew() {
    let mut world = World::new(vec![target(0, &[1])]);
    world.run(4_000);
    let next = Key { index: 0, generation: 1 };
    world.schedule.want([Target { key: next, ..target(0, &[1]) }], world.now);
    assert_eq!(world.schedule.standing(key(0)), None);
    assert_eq!(world.schedule.standing(next).expect("wanted").verdict, Unknown);
}

#[test]
fn however_many_backends_probes_a_step_and_under_way_are_bounded() {
    let vips: Arc<[SocketAddr]> = [vip(1)].into();
    let targets = (0..65_536).map(|index| Target { vips: Arc::clone(&vips), ..target(index, &[]) });
    let mut world = World::new(Vec::new());
    world.schedule.want(targets, 0);
    let mut most = 0;
    for _ in 0..300 {
        let before = world.sent.len();
        world.step();
        most = most.max(world.sent.len() - before);
        let since = world.now.saturating_sub(1_000);
        let under_way = world.sent.iter().filter(|(at, ..)| *at >= since).count();
        assert!(under_way <= MAX_UNDER_WAY);
    }
    assert_eq!(most, MAX_A_STEP);
    let asked: BTreeSet<u32> = world.sent.iter().map(|(_, index, _)| *index).collect();
    assert_eq!(asked.len(), world.sent.len(), "all are asked once before any is asked again");
}

#[test]
fn a_probe_that_no_worker_takes_is_tried_again_and_fails_nobody() {
    let mut world = World::new(vec![target(0, &[1])]);
    for now in (0..3_000).step_by(10) {
        world.schedule.poll(now, |_| false);
    }
    assert_eq!(world.schedule.counts().silent, 0);
    assert!((20..=30).contains(&world.schedule.counts().put_off));
    assert_eq!(world.standing(0).verdict, Unknown);
}
