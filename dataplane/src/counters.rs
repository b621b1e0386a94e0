//! Counters of one worker: written by it alone, read by the control thread.
//!
//! Each is an atomic only so that reading it from another thread is defined: the worker adds
//! with a plain load and a plain store, never with a locked instruction. Arrays are sized for
//! the most VIPs and backends there can be, 5 MiB a worker. All lie on cache lines of their own,
//! which no other worker writes (see [`crate::lines`]), and what is counted for one VIP or backend
//! lies in one line.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::lines::Lines;
use crate::prefetch;
use crate::verdict::DropReason;

/// The most VIPs a node can have.
pub const MAX_VIPS: usize = 65_536;
/// The most backends, over all pools, a node can have at a time.
pub const MAX_BACKENDS: usize = 65_536;

/// A number that one thread adds to and any thread reads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; to be called by the owning worker only, or additions are lost.
    #[inline(always)]
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    /// Replaces the value (a gauge).
    #[inline(always)]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is counted for each VIP and each backend.
#[derive(Debug, Default)]
#[repr(C, align(32))]
pub struct TrafficCounters {
    /// Packets forwarded.
    pub packets: Counter,
    /// Bytes forwarded, of the IP packets as they came.
    pub bytes: Counter,
    /// Flows that began here.
    pub new_flows: Counter,
    /// Conntrack entries that ended (timed out, were evicted, or moved elsewhere).
    closed: AtomicU32,
    opened: AtomicU32,
}

impl TrafficCounters {
    /// An entry was made.
    #[inline(always)]
    pub fn open_flow(&self) {
        self.opened.store(self.opened.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// An entry went.
    #[inline(always)]
    pub fn close_flow(&self) {
        self.closed.store(self.closed.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Entries there are now.
    pub fn active_flows(&self) -> u32 {
        // Closed first: a flow that opens in between is missed, never counted below zero.
        let closed = self.closed.load(Ordering::Relaxed);
        let active = self.opened.load(Ordering::Relaxed).wrapping_sub(closed);
        if active > u32::MAX / 2 { 0 } else { active }
    }
}

/// [`TrafficCounters`] of all VIPs and backends, by index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traffic<'a> {
    vips: &'a [TrafficCounters],
    backends: &'a [TrafficCounters],
}

impl Traffic<'_> {
    /// Counts a forwarded packet of `length` bytes.
    #[inline(always)]
    pub(crate) fn count(self, vip: u32, backend: u32, length: u16) {
        let (vip, backend) = (vip as usize, backend as usize);
        if let (Some(vip), Some(backend)) = (self.vips.get(vip), self.backends.get(backend)) {
            for counters in [vip, backend] {
                counters.packets.add(1);
                counters.bytes.add(u64::from(length));
            }
        }
    }
}

/// What clients do when a backend fails them: under Direct Server Return the backend's own half
/// never crosses the node, so this is all that the data path can say about it. Kept apart from
/// [`TrafficCounters`], which every packet writes and which stay two to a cache line.
#[derive(Debug, Default)]
#[repr(align(16))]
pub struct SignalCounters {
    /// Flows in SYN_RECV or ESTABLISHED that the client ended with a RST, each counted once: an
    /// entry in TIME_WAIT has had its RST. A RST after the client's FIN is not counted: it answers
    /// data to a socket that is closed, and says nothing about the backend (RFC 9293 section
    /// 3.10.7.1, CLOSED state).
    pub client_resets: Counter,
    /// SYNs on flows in SYN_RECV: the client repeats itself because no SYN+ACK reached it (RFC 9293
    /// section 3.8.1; first after 1 s, RFC 6298 sections 2 and 5.7). The entry keeps no sequence
    /// number, so a SYN of another attempt from the same port counts as well: the one before it
    /// was not answered either.
    pub syn_retransmits: Counter,
}

/// What became of conntrack lookups and inserts.
#[derive(Debug, Default)]
pub struct ConntrackCounters {
    /// Packets whose flow had an entry.
    pub hits: Counter,
    /// Packets whose flow had none.
    pub misses: Counter,
    /// Entries made.
    pub inserts: Counter,
    /// Entries that had to go for a new one.
    pub evictions: Counter,
    /// Packets whose flow found no room, and which are forwarded statelessly.
    pub refused: Counter,
    /// Entries whose time was over, removed by the reaper or replaced before it came.
    pub expired: Counter,
    /// Entries now.
    pub entries: Counter,
    /// Entries the table can hold.
    pub capacity: Counter,
}

/// What became of probes (see [`crate::probe`]).
#[derive(Debug, Default)]
pub struct ProbeCounters {
    /// Packets of probes sent to backends: SYNs, and RSTs after answers.
    pub sent: Counter,
    /// Those that were not: the backend is gone or its next hop not known, or no buffer.
    pub unsent: Counter,
    /// Answers recognised.
    pub replies: Counter,
    /// Answers that the control thread did not get, because its queue was full.
    pub lost: Counter,
}

/// What crossed the exception path (see [`crate::exception`]).
#[derive(Debug, Default)]
pub struct ExceptionCounters {
    /// Packets the kernel took.
    pub to_kernel: Counter,
    /// Packets the kernel sent that went out of a port.
    pub from_kernel: Counter,
}

/// Packets that went from worker to worker (see [`crate::handoff`]).
#[derive(Debug, Default)]
pub struct HandoffCounters {
    /// Given to another worker.
    pub given: Counter,
    /// Taken from another worker.
    pub taken: Counter,
}

/// ICMP errors, delivered and sent, and what was done for packets too big.
#[derive(Debug, Default)]
pub struct IcmpCounters {
    /// Errors to VIPs handed to the backends of the flows they quote.
    pub delivered: Counter,
    /// Frag-needed and packet-too-big sent to clients.
    pub too_big: Counter,
    /// Time-exceeded sent to clients.
    pub time_exceeded: Counter,
    /// Port-unreachable sent to clients.
    pub port_unreachable: Counter,
    /// Errors that were due, and not sent because of the limits.
    pub limited: Counter,
    /// Packets whose outer packet was fragmented.
    pub fragmented: Counter,
    /// SYNs whose MSS was lowered.
    pub clamped: Counter,
}

/// Fragments (see [`crate::fragment`]), at the worker where those of a datagram meet.
#[derive(Debug, Default)]
pub struct FragmentCounters {
    /// Fragments that came.
    pub received: Counter,
    /// Those that had to wait for the first of their datagram.
    pub waited: Counter,
    /// Fragments that wait now.
    pub waiting: Counter,
    /// Datagrams remembered now.
    pub datagrams: Counter,
}

/// Everything one worker counts.
#[derive(Debug)]
#[repr(align(128))]
pub struct WorkerCounters {
    /// Packets taken from the ports.
    pub received_packets: Counter,
    /// Bytes taken from the ports.
    pub received_bytes: Counter,
    /// Packets handed to the ports, the node's own included.
    pub transmitted_packets: Counter,
    /// Bytes handed to the ports.
    pub transmitted_bytes: Counter,
    /// Packets forwarded to backends.
    pub forwarded: Counter,
    /// Packets answered by the node.
    pub replied: Counter,
    /// Packets for the node itself.
    pub host: Counter,
    /// Packets that had to wait for a next hop.
    pub held: Counter,
    /// Resets sent to clients of evicted backends.
    pub resets: Counter,
    /// See [`IcmpCounters`].
    pub icmp: IcmpCounters,
    /// Loops that found packets.
    pub busy_polls: Counter,
    /// Loops that found none.
    pub idle_polls: Counter,
    /// Nanoseconds spent in loops that found packets.
    pub busy_nanoseconds: Counter,
    /// The worker's clock at its last loop, in nanoseconds: shows that it is alive.
    pub last_tick_nanoseconds: Counter,
    /// Version of the tables in use, as the publisher numbers them.
    pub tables_generation: Counter,
    /// Events for the control thread that found its queue full.
    pub events_lost: Counter,
    /// See [`ConntrackCounters`].
    pub conntrack: ConntrackCounters,
    /// See [`ProbeCounters`].
    pub probes: ProbeCounters,
    /// See [`ExceptionCounters`].
    pub exception: ExceptionCounters,
    /// See [`HandoffCounters`].
    pub handoffs: HandoffCounters,
    /// See [`FragmentCounters`].
    pub fragments: FragmentCounters,
    drops: [Counter; DropReason::COUNT],
    vips: Lines<TrafficCounters>,
    backends: Lines<TrafficCounters>,
    signals: Lines<SignalCounters>,
}

impl Default for WorkerCounters {
    fn default() -> Self {
        Self::new()
    }
}

impl WorkerCounters {
    /// All zero.
    pub fn new() -> Self {
        Self {
            received_packets: Counter::default(),
            received_bytes: Counter::default(),
            transmitted_packets: Counter::default(),
            transmitted_bytes: Counter::default(),
            forwarded: Counter::default(),
            replied: Counter::default(),
            host: Counter::default(),
            held: Counter::default(),
            resets: Counter::default(),
            icmp: IcmpCounters::default(),
            busy_polls: Counter::default(),
            idle_polls: Counter::default(),
            busy_nanoseconds: Counter::default(),
            last_tick_nanoseconds: Counter::default(),
            tables_generation: Counter::default(),
            events_lost: Counter::default(),
            conntrack: ConntrackCounters::default(),
            probes: ProbeCounters::default(),
            exception: ExceptionCounters::default(),
            handoffs: HandoffCounters::default(),
            fragments: FragmentCounters::default(),
            drops: [const { Counter(AtomicU64::new(0)) }; DropReason::COUNT],
            vips: Lines::new(MAX_VIPS, TrafficCounters::default),
            backends: Lines::new(MAX_BACKENDS, TrafficCounters::default),
            signals: Lines::new(MAX_BACKENDS, SignalCounters::default),
        }
    }

    /// Counts a drop.
    #[inline]
    pub fn count_drop(&self, reason: DropReason) {
        self.drops[reason as usize].add(1);
    }

    /// Counts `count` drops.
    pub fn count_drops(&self, reason: DropReason, count: u64) {
        self.drops[reason as usize].add(count);
    }

    /// Drops for one reason.
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize].get()
    }

    /// Drops for any reason.
    pub fn total_drops(&self) -> u64 {
        self.drops.iter().map(Counter::get).sum()
    }

    /// The counters of a VIP; `None` for [`crate::verdict::NO_VIP`].
    #[inline(always)]
    pub fn vip(&self, index: u32) -> Option<&TrafficCounters> {
        self.vips.get(index as usize)
    }

    /// The counters of all VIPs and backends, to count many packets with.
    #[inline(always)]
    pub(crate) fn traffic(&self) -> Traffic<'_> {
        Traffic { vips: &self.vips, backends: &self.backends }
    }

    /// Starts loading the counters of a VIP. Any index is allowed.
    #[inline(always)]
    pub(crate) fn prefetch_vip(&self, index: u32) {
        prefetch::read(self.vips.address(index as usize));
    }

    /// The counters of a backend; `None` for [`crate::verdict::NO_BACKEND`].
    #[inline(always)]
    pub fn backend(&self, index: u32) -> Option<&TrafficCounters> {
        self.backends.get(index as usize)
    }

    /// Where its arrays are.
    #[cfg(test)]
    pub(crate) fn arrays(&self) -> [(&'static str, std::ops::Range<usize>); 3] {
        fn place<T>(array: &Lines<T>) -> std::ops::Range<usize> {
            let range = array.as_ptr_range();
            range.start as usize..range.end as usize
        }
        [
            ("counters of VIPs", place(&self.vips)),
            ("counters of backends", place(&self.backends)),
            ("signals of backends", place(&self.signals)),
        ]
    }

    /// What the clients of a backend have to say about it; `None` for
    /// [`crate::verdict::NO_BACKEND`].
    #[inline]
    pub fn signals(&self, index: u32) -> Option<&SignalCounters> {
        self.signals.get(index as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn active_flows_follow_opens_and_closes_past_the_wrap() {
        let traffic = TrafficCounters {
            opened: AtomicU32::new(u32::MAX),
            closed: AtomicU32::new(u32::MAX),
            ..TrafficCounters::default()
        };
        traffic.open_flow();
        traffic.open_flow();
        assert_eq!(traffic.active_flows(), 2);
        traffic.close_flow();
        assert_eq!(traffic.active_flows(), 1);
    }

    #[test]
    fn an_index_beyond_the_arrays_counts_nowhere() {
        let counters = WorkerCounters::new();
        assert!(counters.vip(crate::verdict::NO_VIP).is_none());
        assert!(counters.backend(crate::verdict::NO_BACKEND).is_none());
        assert!(counters.signals(crate::verdict::NO_BACKEND).is_none());
    }
}
