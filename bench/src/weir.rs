//! One Weir case, in this process: the code path of `weir run`, measured from outside.
//!
//! Environment, device, pool, node and worker are put together as `weir run` does it; the one
//! addition is a port that samples, or measures. The main thread steps the node meanwhile, and reads the worker's
//! counters twice: what lies between is the result.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use config::Config;
use conntrack::{Memory, Table};
use control::node::{Node, PortFacts};
use dataplane::clock::Clock;
use dataplane::counters::WorkerCounters;
use dataplane::port::Port;
use dataplane::port::dpdk::{
    Device, DeviceOptions, Eal, EalOptions, HugeMemory, Mempool, Queue, WorkerRegistration,
};
use dataplane::worker::{Idle, Meter, Unmetered, Worker, WorkerOptions};
use serde::Serialize;

use crate::cpu_time::{self, CpuTime};
use crate::sampled::{DISTANCE, Sampled};
use crate::scenario::{self, Case};
use crate::verify;

/// The worker thread's name.
const WORKER_NAME: &str = "worker-0";
/// How often the control thread looks after the node, as in `weir run`.
const STEP: Duration = Duration::from_millis(10);
/// The warm-up takes at least this long.
const SHORTEST_WARM_UP: Duration = Duration::from_millis(500);
/// A source that has not gone round twice in this time is broken.
const LONGEST_WARM_UP: Duration = Duration::from_secs(60);
/// Key of the flow hash: the same in all runs.
pub(crate) const HASH_SEED: [u64; 4] =
    [0x6b8b_4567_327b_23c6, 0x643c_9869, 0x7454_5daa_1190_cde7, 0x1f16_e9e8];
/// Share of the packets that may have another fate than the case says.
pub(crate) const TOLERANCE: f64 = 0.001;

/// What a run found out.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Packets forwarded in the measured time.
    pub packets: u64,
    /// The measured time.
    pub seconds: f64,
    /// Share of it that the worker had its core: 1 on a quiet machine.
    pub core_share: f64,
    /// Millions of packets for each second on the core.
    pub mpps: f64,
    /// Packets whose flow had an entry.
    pub hits: u64,
    /// Packets whose flow had none.
    pub misses: u64,
    /// Entries made.
    pub inserts: u64,
    /// Entries that had to go for them.
    pub evictions: u64,
    /// Packets dropped, for any reason.
    pub drops: u64,
    /// Packets compared byte by byte, all right.
    pub samples: usize,
    /// Flows that these were of.
    pub sampled_flows: usize,
}

/// Measures `case` over `source` for `seconds`.
///
/// # Errors
/// When DPDK cannot be set up (no hugepages, most likely), when packets did not do what the case
/// is about, or when a sampled packet was wrong.
pub fn run(source: &Path, case: Case, seconds: f64) -> Result<Report> {
    let ((before, after), samples, node) = on_a_node(
        source,
        case,
        |queue, _| Sampled::new(queue, DISTANCE),
        |port, _| port.samples().to_vec(),
        |running| {
            running.warm_up(case)?;
            let before = running.reading();
            running.step_for(Duration::from_secs_f64(seconds));
            Ok((before, running.reading()))
        },
    )?;
    let sampled_flows = verify::check(&samples, source, &node, case)?;
    let report = after.since(&before, samples.len(), sampled_flows);
    check(&report, case)?;
    Ok(report)
}

/// A node at work, and the hand on it.
pub(crate) struct Running<'a> {
    node: &'a mut Node,
    counters: &'a WorkerCounters,
    clock: &'a Clock,
    has_ended: &'a dyn Fn() -> bool,
    account: Option<CpuTime>,
}

impl Running<'_> {
    /// Looks after the node, as its control thread does, until `done`.
    fn step_until(&mut self, done: impl Fn(&WorkerCounters) -> bool) {
        while !done(self.counters) && !(self.has_ended)() {
            self.node.step(self.clock.now() / 1_000_000);
            std::thread::sleep(STEP);
        }
    }

    /// The same for some time.
    pub(crate) fn step_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        self.step_until(|_| Instant::now() >= end);
    }

    /// Until every flow has its entry.
    pub(crate) fn warm_up(&mut self, case: Case) -> Result<()> {
        let start = Instant::now();
        let rounds = 2 * u64::from(case.flows);
        self.step_until(|counters| {
            let warm = counters.forwarded.get() >= rounds && start.elapsed() >= SHORTEST_WARM_UP;
            warm || start.elapsed() >= LONGEST_WARM_UP
        });
        let packets = self.counters.forwarded.get();
        ensure!(packets >= rounds, "only {packets} packets in {:?}", start.elapsed());
        // Late, as the thread's name is set by the thread.
        self.account = CpuTime::of_thread(std::process::id(), |name| name == WORKER_NAME);
        Ok(())
    }

    /// Takes over another configuration.
    pub(crate) fn reload(&mut self, config: Config) -> Result<()> {
        let now_ms = self.clock.now() / 1_000_000;
        self.node.reload(config, now_ms)?;
        self.node.step(now_ms);
        Ok(())
    }

    pub(crate) fn reading(&self) -> Reading {
        Reading::of(self.counters, self.account.as_ref())
    }
}

/// Runs a node of `case` over `source` with one worker, whose port `wrap` makes of the device's
/// queue, has `drive` do what it wants with it, and ends it: what `drive` gives, what `harvest`
/// finds in the port then, and the node.
///
/// # Errors
/// When DPDK cannot be set up, and those of `drive`.
pub(crate) fn on_a_node<P, R, T>(
    source: &Path,
    case: Case,
    wrap: impl FnOnce(Queue, Clock) -> P,
    harvest: fn(&mut P, &WorkerCounters) -> R,
    drive: impl FnOnce(&mut Running<'_>) -> Result<T>,
) -> Result<(T, R, Node)>
where
    P: Port + Send + 'static,
    P::Buffer: Send,
    R: Send + 'static,
{
    on_a_metered_node(source, case, wrap, |_| Unmetered, harvest, drive)
}

/// The same with a worker that tells the meter that `meter` makes when a stage is over.
///
/// # Errors
/// As [`on_a_node`].
pub(crate) fn on_a_metered_node<P, M, R, T>(
    source: &Path,
    case: Case,
    wrap: impl FnOnce(Queue, Clock) -> P,
    meter: impl FnOnce(Clock) -> M,
    harvest: fn(&mut P, &WorkerCounters) -> R,
    drive: impl FnOnce(&mut Running<'_>) -> Result<T>,
) -> Result<(T, R, Node)>
where
    P: Port + Send + 'static,
    P::Buffer: Send,
    M: Meter + Send + 'static,
    R: Send + 'static,
{
    let text = scenario::configuration(source, case);
    let config = Config::parse(&text, "the benchmark's configuration")?.config;
    let eal = Eal::start(&eal_options(&config)).context("DPDK did not start")?;
    let (device, pools) = open(&eal, &config, case, 1)?;
    let mut device = device.start(&pools)?;
    let queue = device.take_queues().pop().ok_or_else(|| anyhow!("the device has no queue"))?;

    let clock = Clock::new();
    let facts = PortFacts { mac: device.mac(), any_mac: false };
    let mut node = Node::new(config, &[facts], clock.now() / 1_000_000)?;
    let stop = Arc::new(AtomicBool::new(false));
    let ends = (wrap(queue, clock.clone()), meter(clock.clone()));
    let stopped = Arc::clone(&stop);
    let work = move |worker: &mut Worker<P, M>, clock: &Clock, counters: &WorkerCounters| {
        worker.run(clock, Idle::Spin, &stopped);
        let port = worker.port_mut(0).ok_or_else(|| anyhow!("the worker has no port"))?;
        Ok(harvest(port, counters))
    };
    let core = Some(usize::from(scenario::WORKER_CORE));
    let (thread, counters) =
        start_worker(&eal, &mut node, ends, case.table, core, clock.clone(), work)?;
    let driven = drive(&mut Running {
        node: &mut node,
        counters: &counters,
        clock: &clock,
        has_ended: &|| thread.is_finished(),
        account: None,
    });
    stop.store(true, Ordering::Relaxed);
    let harvest = thread.join().map_err(|_| anyhow!("the worker panicked"))??;
    Ok((driven?, harvest, node))
}

/// Are the packets what the case is about?
pub(crate) fn check(report: &Report, case: Case) -> Result<()> {
    let (what, count) =
        if case.new_flows { ("inserts", report.inserts) } else { ("hits", report.hits) };
    let packets = report.packets as f64;
    let near = |count: u64| (count as f64 - packets).abs() <= packets * TOLERANCE;
    ensure!(report.samples > 0, "no packet was sampled: measure for longer");
    ensure!(near(count), "{count} {what} of {} packets", report.packets);
    ensure!(
        report.drops as f64 <= packets * TOLERANCE,
        "{} drops of {} packets",
        report.drops,
        report.packets
    );
    Ok(())
}

pub(crate) fn eal_options(config: &Config) -> EalOptions {
    EalOptions {
        memory_mib: config.dpdk.memory_mib,
        hugepages: config.dpdk.hugepages,
        main_core: u32::from(config.dpdk.main_core),
        file_prefix: config.dpdk.file_prefix.clone(),
        pci_devices: Vec::new(),
        extra: Vec::new(),
    }
}

/// Opens the device of `config`, with a pool for the packets of `case` for each of `workers` queues.
pub(crate) fn open(
    eal: &Eal,
    config: &Config,
    case: Case,
    workers: u16,
) -> Result<(Device, Vec<Mempool>)> {
    let port = config.ports.first().ok_or_else(|| anyhow!("no port"))?;
    let options = DeviceOptions {
        device: port.device.clone(),
        queues: workers,
        fewer_queues: false,
        mtu: port.mtu,
        smaller_mtu: false,
        // `net_pcap` cannot change its own address; the tables have the configured one.
        mac: None,
        all_multicast: false,
        checksum_offload: true,
        rx_descriptors: port.rx_descriptors,
        tx_descriptors: port.tx_descriptors,
    };
    let device = Device::open(eal, options)?;
    let count = scenario::mbufs(case.flows);
    let pools = (0..workers)
        .map(|worker| Mempool::new(eal, &format!("bench{worker}"), count, device.frame_bytes(), -1))
        .collect::<Result<_, _>>()?;
    Ok((device, pools))
}

/// A worker of `node` over `port`, which tells `meter` about stages, with a table of `flows`, on a thread of its own, bound to `core`,
/// that does `work` with it and ends.
pub(crate) fn start_worker<P, M, R>(
    eal: &Eal,
    node: &mut Node,
    (port, meter): (P, M),
    flows: u32,
    core: Option<usize>,
    clock: Clock,
    work: impl FnOnce(&mut Worker<P, M>, &Clock, &WorkerCounters) -> Result<R> + Send + 'static,
) -> Result<(JoinHandle<Result<R>>, Arc<WorkerCounters>)>
where
    P: Port + Send + 'static,
    P::Buffer: Send,
    M: Meter + Send + 'static,
    R: Send + 'static,
{
    let parts = node.add_worker();
    let counters = Arc::clone(&parts.handle.counters);
    let flows = flows as usize;
    let layout = Memory::layout(flows)?;
    let memory = HugeMemory::zeroed(eal, "the conntrack table", layout.size(), 64, -1)?;
    let options = WorkerOptions {
        ports: vec![port],
        reader: parts.reader,
        conntrack: Table::in_memory(Memory::from_region(flows, memory.leak())?),
        hash_seed: HASH_SEED,
        number: 0,
        workers: 1,
        link: parts.handle.link,
        counters: Arc::clone(&counters),
    };
    let body = move || -> Result<R> {
        if let Some(core) = core {
            ensure!(
                core_affinity::set_for_current(core_affinity::CoreId { id: core }),
                "core {core} is not there, or not ours to use"
            );
        }
        let _registration = WorkerRegistration::new()?;
        let counters = Arc::clone(&options.counters);
        let mut worker = Worker::metered(options, meter).unrecorded();
        work(&mut worker, &clock, &counters)
    };
    let thread = std::thread::Builder::new().name(WORKER_NAME.to_owned()).spawn(body)?;
    Ok((thread, counters))
}

/// The counters at one moment. They are read while the worker goes on, so that they may be a
/// burst apart.
pub(crate) struct Reading {
    pub(crate) at: Instant,
    on_core: Option<u64>,
    pub(crate) packets: u64,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    inserts: u64,
    evictions: u64,
    drops: u64,
}

impl Reading {
    pub(crate) fn of(counters: &WorkerCounters, account: Option<&CpuTime>) -> Self {
        let conntrack = &counters.conntrack;
        Self {
            at: Instant::now(),
            on_core: account.and_then(CpuTime::nanoseconds),
            packets: counters.forwarded.get(),
            hits: conntrack.hits.get(),
            misses: conntrack.misses.get(),
            inserts: conntrack.inserts.get(),
            evictions: conntrack.evictions.get(),
            drops: counters.total_drops(),
        }
    }

    /// The share of the time since another that the worker had its core.
    pub(crate) fn core_share_since(&self, before: &Self) -> f64 {
        let seconds = (self.at - before.at).as_secs_f64();
        cpu_time::share(before.on_core, self.on_core, seconds)
    }

    pub(crate) fn since(&self, before: &Self, samples: usize, sampled_flows: usize) -> Report {
        let seconds = (self.at - before.at).as_secs_f64();
        let packets = self.packets - before.packets;
        let core_share = self.core_share_since(before);
        Report {
            packets,
            seconds,
            core_share,
            mpps: packets as f64 / (seconds * core_share) / 1e6,
            hits: self.hits - before.hits,
            misses: self.misses - before.misses,
            inserts: self.inserts - before.inserts,
            evictions: self.evictions - before.evictions,
            drops: self.drops - before.drops,
            samples,
            sampled_flows,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(hits: u64, inserts: u64, drops: u64) -> Report {
        Report {
            packets: 100_000,
            seconds: 1.0,
            core_share: 1.0,
            mpps: 0.1,
            hits,
            misses: 0,
            inserts,
            evictions: 0,
            drops,
            samples: 1,
            sampled_flows: 1,
        }
    }

    #[test]
    fn a_case_is_refused_when_one_packet_in_a_thousand_did_something_else() {
        let hit = Case::named("hit_4k").unwrap();
        assert!(check(&report(99_900, 0, 0), hit).is_ok());
        assert!(check(&report(99_800, 200, 0), hit).is_err());
        assert!(check(&report(100_000, 0, 101), hit).is_err());
        let new = Case::named("new").unwrap();
        assert!(check(&report(0, 100_000, 0), new).is_ok());
        assert!(check(&report(100_000, 0, 0), new).is_err());
        assert!(check(&Report { samples: 0, ..report(0, 100_000, 0) }, new).is_err());
    }
}
