//! Bytes to verdicts: the body of the fuzz target, also run by plain tests.
//!
//! The input is a sequence of records, each a frame that arrives at one of two ports after some
//! time; a record may also publish another version of the tables before it. The real worker
//! takes it from there, and what comes of each frame is judged here with arithmetic of its own.
//!
//! ```text
//!  0       1       2       4
//! +-------+-------+-------+----------------
//! | flags | step  |length | frame ...          length is big-endian; a cut frame is a frame
//! +-------+-------+-------+----------------
//! flags: 0x01 port; 0x02 repair the checksums; 0x80 publish version (flags >> 4 & 3) first
//! step: milliseconds, squared
//! ```

use std::sync::Arc;

use conntrack::Table;
use dataplane::buffer::{Buffer, Frame};
use dataplane::counters::WorkerCounters;
use dataplane::link::{Command, FlowFilter, WorkerLink};
use dataplane::port::memory::MemoryPort;
use dataplane::publish::Publisher;
use dataplane::quic::Configuration;
use dataplane::tables::{Affinity, BackendState, Forwarding, MssClamp, Oversize, Tables};
use dataplane::verdict::{DropReason, NO_BACKEND, Verdict};
use dataplane::vip::{VipPorts, VipProtocol};
use dataplane::worker::{Worker, WorkerOptions};

use super::tunnels;
use super::verify::{ip_packet, is_reply, repair};
use super::verify_icmp::{Pieces, is_error};
use super::verify_mss::clamped;
use super::world::{
    GATEWAY_MAC, NODE_MAC, PoolSpec, VLAN, World, backend, backend6, set_affinity, vip, vip6,
};

/// Length of a record's head.
const HEAD: usize = 4;
/// Longest frame that is put in.
const LONGEST: usize = 2_000;
/// Flows of the worker's table: few, so that an input can fill it.
const FLOWS: usize = 64;
/// Versions of the tables.
const VERSIONS: u32 = 4;
/// The one whose VIPs lower the MSS of SYNs, and to what. Every input begins under it.
const CLAMPED: usize = 0;
const MSS: u16 = 600;

/// One record of an input.
pub(crate) fn record(
    port: u8,
    repair: bool,
    version: Option<u8>,
    step: u8,
    frame: &[u8],
) -> Vec<u8> {
    let publish = version.map_or(0, |version| 0x80 | (version & 3) << 4);
    let flags = port & 1 | u8::from(repair) << 1 | publish;
    let [high, low] = (frame.len() as u16).to_be_bytes();
    [&[flags, step, high, low], frame].concat()
}

/// What an input did, for tests that must not be about nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) forwarded: u64,
    pub(crate) replied: u64,
    pub(crate) held: u64,
    pub(crate) resets: u64,
    pub(crate) dropped: u64,
    /// Everything that went out, in order.
    pub(crate) sent: Vec<(usize, Vec<u8>)>,
}

/// Tables, counters and queues, made once: they are large.
pub(crate) struct Pipeline {
    worlds: Vec<(World, Tables)>,
    counters: Arc<WorkerCounters>,
    link: Arc<WorkerLink>,
}

/// A packet that is on its way through.
struct Waiting {
    ip: Vec<u8>,
    backend: u32,
    /// The tables it came under.
    version: usize,
}

/// One input's run.
struct Run<'a> {
    pipeline: &'a Pipeline,
    publisher: Publisher<Tables>,
    worker: Worker<MemoryPort>,
    version: usize,
    now_ms: u64,
    held: Vec<Waiting>,
    before: Totals,
    received: u64,
    sent: Vec<(usize, Vec<u8>)>,
    /// Fragments beyond the first of each outer packet, and ICMP errors.
    extra: u64,
}

impl Pipeline {
    pub(crate) fn new() -> Self {
        let worlds = (0..VERSIONS)
            .map(|version| {
                let world = world(version);
                let mut tables = world.tables(1);
                set_affinity(&mut tables, 1, Affinity::Quic, &quic());
                set_affinity(&mut tables, 3, Affinity::Source, &[]);
                tables.icmp.port_unreachable = version == 1;
                if version == 2 {
                    tables.oversize = Oversize::Drop;
                }
                if version as usize == CLAMPED {
                    let mut vips = tables.vips.to_vec();
                    vips.iter_mut().for_each(|vip| vip.mss_clamp = MssClamp::To(MSS));
                    tables.vips = vips.into();
                    tables.clamps = true;
                }
                (world, tables)
            })
            .collect();
        Self { worlds, counters: Arc::new(WorkerCounters::new()), link: WorkerLink::new() }
    }

    /// Runs one input; panics when a promise is broken.
    pub(crate) fn run(&self, input: &[u8]) -> Done {
        while self.link.commands.pop().is_some() {}
        let publisher = Publisher::new(copy(&self.worlds[0].1, 1));
        let worker = Worker::new(WorkerOptions {
            ports: vec![MemoryPort::new(), MemoryPort::new()],
            reader: publisher.reader(),
            conntrack: Table::new(FLOWS).expect("a small table"),
            hash_seed: [1, 2, 3, 4],
            number: 0,
            workers: 1,
            link: Arc::clone(&self.link),
            counters: Arc::clone(&self.counters),
        });
        let before = Totals::of(&self.counters);
        let mut run = Run {
            pipeline: self,
            publisher,
            worker,
            version: 0,
            now_ms: 1_000,
            held: Vec::new(),
            before,
            received: 0,
            sent: Vec::new(),
            extra: 0,
        };
        let mut rest = input;
        while let Some((head, behind)) = rest.split_at_checked(HEAD) {
            let length = usize::from(u16::from_be_bytes([head[2], head[3]])).min(LONGEST);
            let (frame, behind) = behind.split_at(length.min(behind.len()));
            run.record(head[0], head[1], frame);
            rest = behind;
        }
        run.finish()
    }
}

impl Run<'_> {
    fn record(&mut self, flags: u8, step: u8, frame: &[u8]) {
        self.now_ms += u64::from(step) * u64::from(step);
        if flags & 0x80 != 0 {
            self.version = usize::from(flags >> 4 & 3);
            let generation = self.publisher.current().generation + 1;
            self.publisher.publish(copy(&self.pipeline.worlds[self.version].1, generation));
            let filter = FlowFilter { limit: 10, ..FlowFilter::default() };
            let _ = self.pipeline.link.commands.push(Command::ShowFlows(filter));
        }
        let mut frame = frame.to_vec();
        if flags & 0x02 != 0 {
            repair(&mut frame);
        }
        let port = usize::from(flags & 1);
        self.worker.port_mut(port).expect("two ports").push(Frame::new(&frame));
        self.received += 1;
        self.worker.poll(self.now_ms * 1_000_000);
        self.judge(port, &frame);
        while self.pipeline.link.flows.pop().is_some() {}
        while self.pipeline.link.seen.pop().is_some() {}
        self.publisher.reclaim();
    }

    /// Judges the frame's outcome and everything that has just gone out.
    fn judge(&mut self, port: usize, frame: &[u8]) {
        let [outcome] = self.worker.last_outcomes() else { panic!("one packet, one outcome") };
        let outcome = *outcome;
        let mut current = None;
        match outcome.verdict {
            Verdict::HandOff => unreachable!("there is one worker"),
            Verdict::Forward | Verdict::Hold => {
                let ip = ip_packet(frame).to_vec();
                let waiting = Waiting { ip, backend: outcome.backend, version: self.version };
                if outcome.verdict == Verdict::Hold {
                    self.held.push(waiting);
                } else {
                    current = Some(waiting);
                }
            }
            Verdict::Reply | Verdict::Host | Verdict::Drop(_) => {}
        }
        let mut replies = usize::from(outcome.verdict == Verdict::Reply);
        let mut errors = usize::from(matches!(outcome.verdict, Verdict::Drop(_)));
        for index in 0..2 {
            let mut pieces = Pieces::default();
            let sent = self.worker.port_mut(index).map(MemoryPort::take_sent).unwrap_or_default();
            for output in sent {
                let output = output.data().to_vec();
                if replies > 0 && index == port && is_reply(&output, frame) {
                    replies -= 1;
                } else if errors > 0 && index == port && is_error(&output, frame) {
                    errors -= 1;
                    self.extra += 1;
                } else if current.as_ref().is_some_and(|p| self.fits(p, index, &output)) {
                    current = None;
                } else {
                    let at = self.held.iter().position(|packet| self.fits(packet, index, &output));
                    if let Some(at) = at {
                        self.held.remove(at);
                        self.sent.push((index, output));
                        continue;
                    }
                    let whole = pieces.take(&output);
                    self.sent.push((index, output));
                    let Some(whole) = whole else { continue };
                    self.extra += pieces.count as u64 - 1;
                    pieces = Pieces::default();
                    if current.as_ref().is_some_and(|p| self.fits(p, index, &whole)) {
                        current = None;
                        continue;
                    }
                    let at = self.held.iter().position(|packet| self.fits(packet, index, &whole));
                    let at = at.unwrap_or_else(|| panic!("nobody's packet: {whole:02x?}"));
                    self.held.remove(at);
                    continue;
                }
                self.sent.push((index, output));
            }
        }
        assert!(current.is_none(), "forwarded, and not sent as it must be");
        assert_eq!(replies, 0, "answered, and not sent as it must be");
        self.check_counters();
    }

    /// Is `output` this packet, on its way to its backend?
    fn fits(&self, packet: &Waiting, port: usize, output: &[u8]) -> bool {
        let clamped = match [self.version, packet.version].contains(&CLAMPED) {
            true => clamped(&packet.ip, output, MSS),
            false => None,
        };
        self.fits_as(&packet.ip, packet, port, output)
            || clamped.is_some_and(|ip| self.fits_as(&ip, packet, port, output))
    }

    /// The same with the bytes `came`.
    fn fits_as(&self, came: &[u8], packet: &Waiting, port: usize, output: &[u8]) -> bool {
        let world = &self.pipeline.worlds[self.version].0;
        // A fragment that waited for its first: to wherever that went (fragments.rs asks where).
        if packet.backend == NO_BACKEND {
            return (0u32..).zip(&world.backends).any(|(backend, _)| {
                let version = packet.version;
                self.fits_as(came, &Waiting { ip: Vec::new(), backend, version }, port, output)
            });
        }
        let Some(backend) = world.backends.get(packet.backend as usize) else { return false };
        let pool = &world.pools[backend.pool as usize];
        let mut link = [backend.mac.unwrap_or_default().0, NODE_MAC.0].concat();
        if backend.port == 1 {
            link.extend([0x81, 0x00, (VLAN >> 8) as u8, VLAN as u8]);
        }
        let tunnel = pool.forwarding != Forwarding::L2dsr;
        let v6 = match tunnel {
            true => backend.address.is_ipv6(),
            false => came[0] >> 4 == 6,
        };
        link.extend(if v6 { [0x86, 0xdd] } else { [0x08, 0x00] });
        let Some(ip) = output.strip_prefix(&link[..]) else { return false };
        if port != usize::from(backend.port) {
            return false;
        }
        match tunnel {
            true => tunnels::fits(came, pool, backend, ip),
            false => ip == came,
        }
    }

    /// Every packet is counted once, and nothing is counted that was not there.
    fn check_counters(&self) {
        let now = Totals::of(&self.pipeline.counters);
        let before = &self.before;
        let since = |now: u64, before: u64| now - before;
        assert_eq!(since(now.received, before.received), self.received);
        let ended = since(now.forwarded, before.forwarded)
            + since(now.replied, before.replied)
            + since(now.host, before.host)
            + since(now.dropped, before.dropped);
        assert_eq!(ended + self.worker.held() as u64, self.received, "each packet has one end");
        let sent = since(now.forwarded, before.forwarded)
            + since(now.replied, before.replied)
            + self.extra;
        assert_eq!(sent, self.sent.len() as u64);
        assert_eq!(since(now.transmitted, before.transmitted), self.sent.len() as u64);
        assert!(self.held.len() >= self.worker.held());
        let conntrack = self.worker.conntrack();
        assert!(conntrack.len() <= conntrack.capacity());
    }

    fn finish(self) -> Done {
        let now = Totals::of(&self.pipeline.counters);
        Done {
            forwarded: now.forwarded - self.before.forwarded,
            replied: now.replied - self.before.replied,
            held: now.held - self.before.held,
            resets: now.resets - self.before.resets,
            dropped: now.dropped - self.before.dropped,
            sent: self.sent,
        }
    }
}

/// The counters that add up.
#[derive(Clone, Copy)]
struct Totals {
    received: u64,
    transmitted: u64,
    forwarded: u64,
    replied: u64,
    host: u64,
    held: u64,
    resets: u64,
    dropped: u64,
}

impl Totals {
    fn of(counters: &WorkerCounters) -> Self {
        // These two are of packets that had another end before.
        let late = counters.drops(DropReason::TransmitFull) + counters.drops(DropReason::NoBuffer);
        Self {
            received: counters.received_packets.get(),
            transmitted: counters.transmitted_packets.get(),
            forwarded: counters.forwarded.get(),
            replied: counters.replied.get(),
            host: counters.host.get(),
            held: counters.held.get(),
            resets: counters.resets.get(),
            dropped: counters.total_drops() - late,
        }
    }
}

/// The same tables as another version; the large parts are shared.
fn copy(tables: &Tables, generation: u64) -> Tables {
    Tables {
        generation,
        lookup: Arc::clone(&tables.lookup),
        vips: Arc::clone(&tables.vips),
        pools: Arc::clone(&tables.pools),
        backends: tables.backends.clone(),
        ports: Arc::clone(&tables.ports),
        steered: tables.steered,
        shortest_idle_ms: tables.shortest_idle_ms,
        fragments: tables.fragments,
        clamps: tables.clamps,
        oversize: tables.oversize,
        icmp: tables.icmp,
    }
}

/// Connection ids in plain text, of one block, and of two halves.
fn quic() -> [Configuration; 3] {
    [(0, 4, None), (1, 15, Some([7; 16])), (2, 5, Some([8; 16]))].map(
        |(config_id, nonce_length, key)| Configuration {
            config_id,
            server_id_length: 1,
            nonce_length,
            key,
            self_encoded_length: config_id == 2,
        },
    )
}

/// Four versions of one configuration: backends drain, are evicted, come back as others, and
/// lose their next hop.
fn world(version: u32) -> World {
    let pool =
        |forwarding, entropy| PoolSpec { forwarding, entropy, reselect: false, table_size: 251 };
    let mut world = World {
        pools: vec![
            pool(Forwarding::Ipip, 0xffff),
            pool(Forwarding::L2dsr, 0),
            pool(Forwarding::Ipip, 0),
            pool(Forwarding::Ipip, 0),
            pool(Forwarding::Ipip, 0xffff_ffff),
            pool(Forwarding::Gre, 0),
            pool(Forwarding::Gue, 0),
            pool(Forwarding::GueWithHeader, 0),
        ],
        backends: vec![
            backend(0, "a", [10, 0, 0, 1], 0),
            backend(0, "b", [10, 0, 0, 2], 1),
            backend(0, "c", [10, 0, 0, 3], 0),
            backend(1, "d", [192, 0, 2, 21], 0),
            backend(1, "e", [198, 18, 0, 21], 1),
            backend(2, "f", [10, 0, 0, 6], 0),
            backend6(4, "g", "2001:db8:b::7"),
            backend(5, "h", [10, 0, 0, 8], 0),
            backend6(5, "i", "2001:db8:b::9"),
            backend(6, "j", [10, 0, 0, 10], 1),
            backend6(6, "k", "2001:db8:b::11"),
            backend(7, "l", [10, 0, 0, 12], 0),
            backend6(7, "m", "2001:db8:b::13"),
            backend(7, "n", [10, 0, 0, 14], 1),
        ],
        vips: vec![
            vip([203, 0, 113, 1], VipPorts::One(80), VipProtocol::Tcp, 0),
            vip([203, 0, 113, 1], VipPorts::Any, VipProtocol::Udp, 1),
            vip([203, 0, 113, 2], VipPorts::Range(80..=8080), VipProtocol::Any, 1),
            vip([203, 0, 113, 3], VipPorts::Any, VipProtocol::Any, 2),
            vip([203, 0, 113, 4], VipPorts::Any, VipProtocol::Any, 3),
            vip([192, 0, 2, 100], VipPorts::Any, VipProtocol::Any, 0),
            vip([203, 0, 113, 5], VipPorts::Any, VipProtocol::Any, 5),
            vip([203, 0, 113, 6], VipPorts::Any, VipProtocol::Any, 6),
            // What the golden cases dial.
            vip6("2001:db8:cafe::1", VipPorts::One(80), VipProtocol::Tcp, 4),
            vip6("2001:db8:cafe::1", VipPorts::Any, VipProtocol::Any, 0),
            vip6("2001:db8:cafe::2", VipPorts::Any, VipProtocol::Any, 5),
            vip6("2001:db8:cafe::3", VipPorts::Any, VipProtocol::Any, 6),
            vip6("2001:db8:cafe::4", VipPorts::Any, VipProtocol::Any, 1),
            vip6("2001:db8:0:1::cafe", VipPorts::Any, VipProtocol::Any, 2),
            vip([203, 0, 113, 7], VipPorts::Any, VipProtocol::Any, 7),
            vip6("2001:db8:cafe::5", VipPorts::Any, VipProtocol::Any, 7),
        ],
    };
    world.vips[3].matches.prefix_length = 32;
    // The next hop of "f" is known in every other version.
    world.backends[5].mac = (version % 2 == 1).then_some(GATEWAY_MAC);
    match version {
        1 => world.backends[0].state = BackendState::Draining,
        2 => {
            world.backends[0].state = BackendState::Evicted;
            world.backends[3].state = BackendState::Unhealthy;
            world.backends[1].state = BackendState::Unhealthy;
        }
        3 => {
            world.backends[0].generation = 1;
            world.backends[2].weight = 0;
            world.backends[4].state = BackendState::Gone;
        }
        _ => {}
    }
    world
}
