//! The run-to-completion loop: a burst in, through the stages, a burst out.
//!
//! A worker owns its queues, its conntrack table and its counters, and shares nothing that is
//! written but the rings to and from other workers. It pins the published tables once a burst, reads
//! the clock once a burst, and does not allocate, lock, call the system or log per packet.

mod burst;
mod exception;
mod fragment;
mod handoff;
mod icmp;
mod idle;
mod missed;
mod notes;
mod probe;
mod ready;
mod show;
mod stage;
mod stages;
// Miri has addresses of its own, and takes minutes for the counters' arrays.
#[cfg(all(test, not(miri)))]
mod written;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use conntrack::{KeyHasher, Reaper, Table};

pub use idle::Idle;
pub use stage::{Meter, Stage, Unmetered};

use crate::answer::AnswerLimits;
use crate::clock::Clock;
use crate::counters::WorkerCounters;
use crate::exception::Exception;
use crate::forward::OuterHeaders;
use crate::fragment::Datagrams;
use crate::handoff::Handoff;
use crate::hold::HoldQueue;
use crate::icmp::limits::IcmpLimits;
use crate::lines::OnLines;
use crate::link::{Command, WorkerLink};
use crate::port::{Burst, Port};
use crate::publish::Reader;
use crate::rss::Rss;
use crate::select;
use crate::tables::Tables;
use crate::verdict::Outcome;

use notes::{Flights, Works};
use show::Show;

/// Slots the reaper visits at most between two bursts.
const REAPER_SLICE: usize = 64;
/// Commands taken between two bursts.
const COMMANDS_PER_POLL: usize = 32;

/// What a worker is made of.
pub struct WorkerOptions<P> {
    /// Its queue of each port, by port index.
    pub ports: Vec<P>,
    /// The published tables.
    pub reader: Reader<Tables>,
    /// Its flows.
    pub conntrack: Table,
    /// Key of its flow hash, the same for all workers: random in production, fixed in `replay`.
    pub hash_seed: [u64; 4],
    /// Its number and how many there are: for disjoint identifications.
    pub number: u16,
    /// How many workers there are.
    pub workers: u16,
    /// The queues to and from the control thread.
    pub link: Arc<WorkerLink>,
    /// What it counts.
    pub counters: Arc<WorkerCounters>,
}

/// One worker; see the module. Its meter is told when each stage of a round is over. On cache lines
/// of its own, wherever its thread keeps it.
#[repr(align(128))]
pub struct Worker<P: Port, M: Meter = Unmetered> {
    reader: Reader<Tables>,
    received: Burst<P::Buffer>,
    core: Core<P, M>,
}

/// Everything of a worker but the tables and the burst, which it borrows. What is written for each
/// packet is in it, or on cache lines of its own; the rest is written for what is rare.
struct Core<P: Port, M: Meter> {
    // Before the ports: the last of those frees the pool that these packets return to.
    transmit: Vec<OnLines<Burst<P::Buffer>>>,
    hold: HoldQueue<P::Buffer>,
    /// By port index; empty where no port has one.
    exceptions: Vec<Option<Exception<P>>>,
    handoff: Handoff<P::Buffer>,
    datagrams: Datagrams<P::Buffer>,
    ports: Vec<OnLines<P>>,
    /// By port index: what its device's choice of queue can be computed with.
    rss: Arc<[Option<Rss>]>,
    flights: Flights,
    works: Box<Works>,
    outcomes: arrayvec::ArrayVec<Outcome, { crate::port::BURST }>,
    recording: bool,
    conntrack: Table,
    hasher: KeyHasher,
    reaper: Option<Reaper>,
    outer: OuterHeaders,
    limits: AnswerLimits,
    icmp_limits: IcmpLimits,
    link: Arc<WorkerLink>,
    counters: Arc<WorkerCounters>,
    generation: u64,
    show: Option<Show>,
    meter: M,
}

impl<P: Port> Worker<P> {
    /// A worker that has done nothing yet.
    pub fn new(options: WorkerOptions<P>) -> Self {
        Self::metered(options, Unmetered)
    }
}

impl<P: Port, M: Meter> Worker<P, M> {
    /// The same, with a meter.
    pub fn metered(options: WorkerOptions<P>, meter: M) -> Self {
        let counters = options.counters;
        counters.conntrack.capacity.set(options.conntrack.capacity() as u64);
        let core = Core {
            transmit: options.ports.iter().map(|_| OnLines(Burst::new())).collect(),
            exceptions: Vec::new(),
            ports: options.ports.into_iter().map(OnLines).collect(),
            handoff: Handoff::alone(),
            datagrams: Datagrams::default(),
            rss: Arc::new([]),
            flights: notes::flights(),
            works: notes::works(),
            outcomes: arrayvec::ArrayVec::new(),
            recording: true,
            conntrack: options.conntrack,
            hasher: KeyHasher::new(options.hash_seed),
            reaper: None,
            outer: OuterHeaders::new(options.number, options.workers),
            limits: AnswerLimits::default(),
            icmp_limits: IcmpLimits::new(options.hash_seed),
            hold: HoldQueue::default(),
            link: options.link,
            counters,
            generation: 0,
            show: None,
            meter,
        };
        Self { reader: options.reader, received: Burst::new(), core }
    }

    /// From now on packets for the node's own kernel go there: over `devices`, by port index,
    /// each one queue pair of a device whose other side is the kernel's interface.
    pub fn set_exceptions(&mut self, devices: Vec<Option<P>>) {
        self.core.exceptions = match devices.iter().any(Option::is_some) {
            true => devices.into_iter().map(|device| device.map(Exception::new)).collect(),
            false => Vec::new(),
        };
    }

    /// Makes the worker one of several, with its ends of the rings between them; `rss` says, by
    /// port index, how the devices spread flows over workers, where that can be computed.
    #[must_use]
    pub fn join(mut self, handoff: Handoff<P::Buffer>, rss: Arc<[Option<Rss>]>) -> Self {
        self.core.handoff = handoff;
        self.core.rss = rss;
        self
    }

    /// One round: a burst from each port, what other workers gave, what the control thread wants,
    /// a slice of the reaper. `now` is in nanoseconds. Returns how many packets came in.
    #[inline]
    pub fn poll(&mut self, now: u64) -> usize {
        let now_ms = (now / 1_000_000) as u32;
        let tables = self.reader.pin();
        self.core.poll(tables, &mut self.received, now, now_ms)
    }

    /// Works until `stop` is set, then sends what is left and returns.
    pub fn run(&mut self, clock: &Clock, idle: Idle, stop: &AtomicBool) {
        idle::sleep_precisely();
        let mut idle = idle::Backoff::new(idle);
        let mut before = clock.now();
        while !stop.load(Ordering::Relaxed) {
            let received = self.poll(before);
            if received == 0 {
                self.core.counters.idle_polls.add(1);
                if idle.is_about_to_sleep() {
                    // Nobody waits for a sleeper to give memory back.
                    self.reader.unpin();
                }
                idle.wait();
                before = clock.now();
            } else {
                idle.reset();
                let now = clock.now();
                self.core.counters.busy_polls.add(1);
                self.core.counters.busy_nanoseconds.add(now.saturating_sub(before));
                before = now;
            }
        }
        self.core.flush_all();
    }

    /// The worker without [`Worker::last_outcomes`]: one that nobody asks for them need not write
    /// them down.
    #[must_use]
    pub fn unrecorded(mut self) -> Self {
        self.core.recording = false;
        self
    }

    /// What became of the packets of the last burst of the last port that had one, in order.
    pub fn last_outcomes(&self) -> &[Outcome] {
        &self.core.outcomes
    }

    /// The worker's flows.
    pub fn conntrack(&self) -> &Table {
        &self.core.conntrack
    }

    /// The worker's port with this index.
    pub fn port_mut(&mut self, index: usize) -> Option<&mut P> {
        self.core.ports.get_mut(index).map(|port| &mut port.0)
    }

    /// The device to the kernel of the port with this index.
    pub fn exception_mut(&mut self, index: usize) -> Option<&mut P> {
        self.core.exceptions.get_mut(index)?.as_mut().map(Exception::device_mut)
    }

    /// Packets that wait: for a next hop, or for the first fragment of their datagram.
    pub fn held(&self) -> usize {
        self.core.hold.len() + self.core.datagrams.waiting()
    }
}

impl<P: Port, M: Meter> Core<P, M> {
    #[inline]
    fn poll(
        &mut self,
        tables: &Tables,
        burst: &mut Burst<P::Buffer>,
        now: u64,
        now_ms: u32,
    ) -> usize {
        self.counters.last_tick_nanoseconds.set(now);
        if tables.generation != self.generation {
            self.generation = tables.generation;
            self.counters.tables_generation.set(tables.generation);
            if let Some(reaper) = &mut self.reaper {
                reaper.set_tick(Reaper::tick_for(tables.shortest_idle_ms));
            }
        }
        let mut received = 0;
        if !self.exceptions.is_empty() {
            received += self.send_for_kernel(tables);
        }
        for index in 0..self.ports.len() {
            self.meter.passed(Stage::Rest);
            let Some(port) = self.ports.get_mut(index) else { break };
            port.receive(burst);
            self.meter.passed(Stage::Receive);
            if !burst.is_empty() {
                received += burst.len();
                self.process(burst, index as u8, tables, now_ms);
            }
        }
        if self.handoff.is_called() {
            received += self.take_handed(tables, now_ms);
        }
        // Once more after the last is gone, so that the gauges say so.
        if !self.datagrams.is_empty() || self.counters.fragments.datagrams.get() != 0 {
            self.expire_fragments(tables, now_ms);
        }
        if !self.hold.is_empty() {
            self.release_held(tables, now_ms);
        }
        if !self.link.commands.is_empty() {
            self.obey(tables);
        }
        if self.show.is_some() {
            self.show_flows(now_ms);
        }
        self.meter.passed(Stage::Rest);
        self.flush_all();
        if !self.exceptions.is_empty() {
            self.flush_to_kernel();
        }
        self.meter.passed(Stage::Transmit);
        self.reap(tables, now_ms);
        self.meter.passed(Stage::Reap);
        received
    }

    fn reap(&mut self, tables: &Tables, now_ms: u32) {
        let reaper = self.reaper.get_or_insert_with(|| {
            Reaper::new(Reaper::tick_for(tables.shortest_idle_ms), REAPER_SLICE, now_ms)
        });
        let counters = &self.counters;
        let limit = |entry: &conntrack::Entry| select::idle_limit(tables, entry);
        let reaped = reaper.run(&mut self.conntrack, now_ms, limit, |removed| {
            select::close(counters, &removed);
        });
        counters.conntrack.expired.add(reaped as u64);
        counters.conntrack.entries.set(self.conntrack.len() as u64);
    }

    /// Does what the control thread asked for.
    #[cold]
    fn obey(&mut self, tables: &Tables) {
        for _ in 0..COMMANDS_PER_POLL {
            match self.link.commands.pop() {
                Some(Command::Transmit { port, frame }) => self.send_own(port, &frame),
                Some(Command::Probe { backend, generation, packet }) => {
                    self.send_probe(backend, generation, &packet, tables);
                }
                Some(Command::ShowFlows(filter)) => self.show = Some(Show::new(filter)),
                None => return,
            }
        }
    }
}
