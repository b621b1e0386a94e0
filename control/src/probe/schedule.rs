//! Which backend is asked when, and what its answers come to. Pure: time comes in, orders go out.
//!
//! Each backend is asked once an interval (1 s, and up to 20 % longer by chance), from a start of
//! its own within the first interval, so that a pool's probes are spread over the second. A probe
//! has a source port of its own until it is answered or a second old; the port is taken again
//! only after all others, so an answer that comes late still finds whom it is about.
//!
//! Of several VIPs one after the other is asked, but one that did not answer is asked again until
//! the verdict is clear: a single VIP that is missing is found as fast as if it were the only one,
//! and a backend that is down comes up by the VIP it failed at.
//!
//! Bounds: [`MAX_A_STEP`] probes a step and [`MAX_UNDER_WAY`] at a time, whatever the number of
//! backends; beyond, intervals grow, in turn.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use dataplane::probe::{Answer, Ends, PORTS, ProbeReply};
use health::thresholds::{Outcome, ProbeSettings, Run, Verdict};

/// Probes started in one step.
pub const MAX_A_STEP: usize = 64;
/// Probes that wait for their answers at a time: half of the ports.
pub const MAX_UNDER_WAY: usize = 8_192;
/// After so long a probe that a worker had no room for is tried again, in milliseconds.
const RETRY_MS: u64 = 100;

/// A backend to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its index and the generation of that.
    pub key: Key,
    /// The node's own addresses that it is asked from.
    pub node: Sources,
    /// The VIPs to ask at, of families that the node has an address of; without any it is not asked.
    pub vips: Arc<[SocketAddr]>,
    /// Its next hop is known; otherwise a probe fails without being sent.
    pub reachable: bool,
}

/// The node's own addresses to ask from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// For IPv4 VIPs.
    pub v4: Option<Ipv4Addr>,
    /// For IPv6 VIPs.
    pub v6: Option<Ipv6Addr>,
}

/// A backend's index in the tables, and which of its owners is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The index.
    pub index: u32,
    /// The generation.
    pub generation: u16,
}

/// What a worker is to send to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The SYN between these ends.
    Probe(Key, Ends),
    /// The RST that ends what came of it.
    Reset(Key, Ends),
}

/// What became of probes, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answered with a SYN+ACK.
    pub accepted: u64,
    /// Answered with a RST.
    pub refused: u64,
    /// Not answered in time.
    pub silent: u64,
    /// Failed at once: the next hop is not known.
    pub unreachable: u64,
    /// Answers too late, or a second time.
    pub late: u64,
    /// Put off, because no worker had room for it or too many are under way.
    pub put_off: u64,
}

/// What the last probe of a backend found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing yet.
    Nothing,
    /// An answer: tunnel and VIP are there.
    Answer(SocketAddr),
    /// No answer in time.
    Silence(SocketAddr),
    /// No next hop to send to.
    NoNextHop,
}

/// A backend's standing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What the probes come to. [`Verdict::Up`] means tunnel and VIP, whether or not a service
    /// listens.
    pub verdict: Verdict,
    /// What the last one found.
    pub found: Found,
    /// Failures in a row.
    pub failures: u32,
    /// A VIP whose port the backend refuses; forgotten when it accepts there.
    pub refused: Option<SocketAddr>,
    /// It is asked at all.
    pub probed: bool,
}

/// The schedule; see the module.
#[derive(Debug)]
pub struct Schedule {
    settings: ProbeSettings,
    chance: u64,
    backends: HashMap<Key, Asked>,
    due: BTreeSet<(u64, Key)>,
    /// By port, from the first of [`PORTS`].
    ports: Vec<Option<Sent>>,
    next_port: usize,
    /// Deadline and port of those under way, the oldest first.
    under_way: VecDeque<(u64, usize)>,
    counts: Counts,
}

#[derive(Debug)]
struct Asked {
    target: Target,
    run: Run,
    due_ms: u64,
    /// Which VIP is next.
    vip: usize,
    found: Found,
    refused: Option<SocketAddr>,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    key: Key,
    ends: Ends,
    /// Until it is answered or too old.
    open: bool,
}

impl Sources {
    /// The one of an address's family.
    pub fn toward(&self, address: IpAddr) -> Option<IpAddr> {
        match address {
            IpAddr::V4(_) => self.v4.map(IpAddr::V4),
            IpAddr::V6(_) => self.v6.map(IpAddr::V6),
        }
    }
}

impl Schedule {
    /// Nobody to ask. `seed` is for spreading only.
    pub fn new(settings: ProbeSettings, seed: u64) -> Self {
        Self {
            settings,
            chance: seed,
            backends: HashMap::new(),
            due: BTreeSet::new(),
            ports: vec![None; PORTS.len()],
            next_port: 0,
            under_way: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    /// From now on exactly `targets` are asked; those that stay keep their standing.
    pub fn want(&mut self, targets: impl IntoIterator<Item = Target>, now_ms: u64) {
        let mut wanted = HashSet::new();
        for target in targets {
            let key = target.key;
            wanted.insert(key);
            if let Some(asked) = self.backends.get_mut(&key) {
                if asked.refused.is_some_and(|vip| !target.vips.contains(&vip)) {
                    asked.refused = None;
                }
                asked.target = target;
                continue;
            }
            let due_ms = now_ms + self.random_below(self.settings.interval_ms);
            let (run, found) = (Run::new(), Found::Nothing);
            self.backends.insert(key, Asked { target, run, due_ms, vip: 0, found, refused: None });
            self.due.insert((due_ms, key));
        }
        self.backends.retain(|key, _| wanted.contains(key));
        self.due.retain(|(_, key)| wanted.contains(key));
    }

    /// Gives up probes that are too old, and starts those that are due. `send` says whether a
    /// worker took the order.
    pub fn poll(&mut self, now_ms: u64, mut send: impl FnMut(Order) -> bool) {
        self.give_up(now_ms);
        for _ in 0..MAX_A_STEP {
            let Some(&(due_ms, key)) = self.due.first() else { return };
            if due_ms > now_ms {
                return;
            }
            self.due.pop_first();
            let next_ms = self.start(key, now_ms, &mut send);
            if let Some(asked) = self.backends.get_mut(&key) {
                asked.due_ms = next_ms;
                self.due.insert((next_ms, key));
            }
        }
    }

    /// Probes one backend; returns when it is due again.
    fn start(&mut self, key: Key, now_ms: u64, send: &mut impl FnMut(Order) -> bool) -> u64 {
        let jitter = self.settings.interval_ms * u64::from(self.settings.jitter_percent) / 100;
        let next_ms = now_ms + self.settings.interval_ms + self.random_below(jitter + 1);
        let Some(asked) = self.backends.get_mut(&key) else { return next_ms };
        let vips = &asked.target.vips;
        let Some(vip) = vips.get(asked.vip % vips.len().max(1)).copied() else {
            return next_ms;
        };
        if !asked.target.reachable {
            self.counts.unreachable += 1;
            asked.found = Found::NoNextHop;
            asked.run.probe(&self.settings, Outcome::Fail);
            return next_ms;
        }
        // Targets have no other VIPs.
        let Some(node) = asked.target.node.toward(vip.ip()) else { return next_ms };
        let Some(place) = self.free_port() else {
            self.counts.put_off += 1;
            return now_ms + RETRY_MS;
        };
        let node = SocketAddr::new(node, PORTS.start() + place as u16);
        let Some(ends) = Ends::new(node, vip) else { return next_ms };
        if !send(Order::Probe(key, ends)) {
            self.counts.put_off += 1;
            return now_ms + RETRY_MS;
        }
        if let Some(slot) = self.ports.get_mut(place) {
            *slot = Some(Sent { key, ends, open: true });
        }
        self.under_way.push_back((now_ms + self.settings.timeout_ms, place));
        next_ms
    }

    /// The port that was used the longest time ago, unless its probe still waits.
    fn free_port(&mut self) -> Option<usize> {
        if self.under_way.len() >= MAX_UNDER_WAY {
            return None;
        }
        let place = self.next_port;
        self.next_port = (place + 1) % self.ports.len();
        Some(place)
    }

    fn give_up(&mut self, now_ms: u64) {
        while let Some(&(deadline_ms, place)) = self.under_way.front() {
            if deadline_ms > now_ms {
                return;
            }
            self.under_way.pop_front();
            let Some(Some(sent)) = self.ports.get_mut(place) else { continue };
            if !std::mem::replace(&mut sent.open, false) {
                continue;
            }
            let Sent { key, ends, .. } = *sent;
            self.counts.silent += 1;
            if let Some(asked) = self.backends.get_mut(&key) {
                asked.found = Found::Silence(ends.vip());
                asked.run.probe(&self.settings, Outcome::Fail);
            }
        }
    }

    /// Takes an answer whose cookie a worker has checked. What was accepted is ended again, in
    /// time or not.
    pub fn heard(&mut self, reply: &ProbeReply) -> Option<Order> {
        let place = reply.ends.node().port().checked_sub(*PORTS.start())?;
        let sent = self.ports.get_mut(usize::from(place))?.as_mut()?;
        // Of a probe before this one from the same port, long ago.
        if sent.ends != reply.ends {
            self.counts.late += 1;
            return None;
        }
        let Sent { key, ends, .. } = *sent;
        if std::mem::replace(&mut sent.open, false) {
            match reply.answer {
                Answer::Accepts => self.counts.accepted += 1,
                Answer::Refuses => self.counts.refused += 1,
            }
            if let Some(asked) = self.backends.get_mut(&key) {
                asked.answered(&self.settings, ends.vip(), reply.answer);
            }
        } else {
            self.counts.late += 1;
        }
        (reply.answer == Answer::Accepts).then_some(Order::Reset(key, ends))
    }

    /// How a backend stands; `None` for one that is not wanted.
    pub fn standing(&self, key: Key) -> Option<Standing> {
        let asked = self.backends.get(&key)?;
        Some(Standing {
            verdict: asked.run.verdict(),
            found: asked.found,
            failures: asked.run.consecutive_failures(),
            refused: asked.refused,
            probed: !asked.target.vips.is_empty(),
        })
    }

    /// What became of probes.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// A number from 0 to `below` - 1 (SplitMix64: Steele, Lea, Flood 2014); 0 for 0.
    fn random_below(&mut self, below: u64) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.chance;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)).checked_rem(below).unwrap_or(0)
    }
}

impl Asked {
    fn answered(&mut self, settings: &ProbeSettings, vip: SocketAddr, answer: Answer) {
        self.found = Found::Answer(vip);
        match answer {
            Answer::Refuses => self.refused = Some(vip),
            Answer::Accepts if self.refused == Some(vip) => self.refused = None,
            Answer::Accepts => {}
        }
        self.run.probe(settings, Outcome::Pass);
        if self.run.verdict() == Verdict::Up {
            self.vip = self.vip.wrapping_add(1);
        }
    }
}
