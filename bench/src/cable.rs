//! A node with one worker at the far end of a cable, in this process.
//!
//! A cable is two devices of DPDK's `net_ring`, each of which gives back what it is given, with
//! their receive sides exchanged: what the near end transmits is in the far end's receive ring at
//! once, 1,023 packets deep, without a copy. A third one, alone, is the same ring without anything
//! behind it. Node, device, pool and worker are put together as `weir run` does it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow};
use config::Config;
use control::node::{Node, PortFacts};
use dataplane::clock::Clock;
use dataplane::counters::WorkerCounters;
use dataplane::port::dpdk::{Device, DeviceOptions, Eal, Mempool, Queue, StartedDevice};
use dataplane::wire::MacAddress;
use dataplane::worker::{Idle, Unmetered};

use crate::scenario::{self, Case, DESCRIPTORS, Link, NODE_MAC, WEIGHT};
use crate::weir;

/// Buffers: two rings, bursts, spares and caches, several times over.
const MBUFS: u32 = 16_384;
/// How often a cache line is sent, both ways together.
const BOUNCES: u64 = 20_000;
/// How often a node is looked after, as in `weir run`: nanoseconds.
const STEP: u64 = 10_000_000;

/// What is at the far end.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Table, pool and mode; its flows are not used.
    pub case: Case,
    /// The link: its device is replaced.
    pub link: Link,
    /// The core of the worker; `None`: any.
    pub core: Option<usize>,
}

/// Memory for a cable and a table of `flows`, in MiB.
pub fn memory_mib(flows: u32) -> u32 {
    scenario::memory_mib(0, flows) + (MBUFS >> 10) * 12
}

/// The hand on the node, and the near ends.
pub struct Cable {
    /// The end of the cable.
    pub near: Option<Queue>,
    /// The ring that leads back.
    pub loopback: Option<Queue>,
    /// The clock of both ends.
    pub clock: Clock,
    /// What the worker counts.
    pub counters: Arc<WorkerCounters>,
    node: Node,
    worker: Far,
    next_step: u64,
}

/// What the worker's thread is told to do.
enum Order {
    /// To work, until it is told to stop.
    Work(Idle),
    /// To answer each odd number in a cache line with the next, up to [`BOUNCES`].
    Bounce(Arc<AtomicU64>),
}

/// The worker's thread, which runs while it is told to.
struct Far {
    orders: Option<Sender<Order>>,
    answers: Receiver<()>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Cable {
    /// Looks after the node, when it is time to.
    #[inline]
    pub fn step(&mut self, now: u64) {
        if now >= self.next_step {
            self.next_step = now + STEP;
            self.node.step(now / 1_000_000);
        }
    }

    /// Has the worker work, and do what `idle` says when nothing comes, while `drive` does something.
    ///
    /// # Errors
    /// When the worker's thread has ended.
    pub fn while_working<T>(
        &mut self,
        idle: Idle,
        drive: impl FnOnce(&mut Self) -> T,
    ) -> Result<T> {
        self.worker.stop.store(false, Ordering::Relaxed);
        self.worker.order(Order::Work(idle))?;
        let driven = drive(self);
        self.worker.stop.store(true, Ordering::Relaxed);
        self.worker.answers.recv().context("the worker ended while it worked")?;
        Ok(driven)
    }

    /// Nanoseconds that a cache line takes to the worker's core and back, on average: what each
    /// line of a packet costs on a cable, where a NIC would have put it into the cache.
    ///
    /// # Errors
    /// When the worker's thread has ended.
    pub fn round_trip(&mut self) -> Result<u64> {
        let line = Arc::new(AtomicU64::new(0));
        self.worker.order(Order::Bounce(Arc::clone(&line)))?;
        let mut start = 0;
        for number in (1..BOUNCES).step_by(2) {
            line.store(number, Ordering::Release);
            while line.load(Ordering::Acquire) == number {
                std::hint::spin_loop();
            }
            // It has to be there first.
            if number == 1 {
                start = self.clock.now();
            }
        }
        let taken = self.clock.now() - start;
        self.worker.answers.recv().context("the worker ended")?;
        Ok(taken * 2 / (BOUNCES - 2))
    }
}

impl Far {
    fn order(&mut self, order: Order) -> Result<()> {
        match self.orders.as_ref().is_some_and(|orders| orders.send(order).is_ok()) {
            true => Ok(()),
            false => Err(self.end().err().unwrap_or_else(|| anyhow!("the worker has ended"))),
        }
    }

    /// Has the thread end: what it says.
    fn end(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.orders = None;
        match self.thread.take() {
            Some(thread) => thread.join().map_err(|_| anyhow!("the worker panicked"))?,
            None => Ok(()),
        }
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        // Its ports have to be gone before the environment is.
        let _ = self.end();
    }
}

/// Builds the node, and has `drive` use it; what that gives.
///
/// # Errors
/// When DPDK cannot be set up (no hugepages, most likely), and those of `drive`.
pub fn with_a_node<T>(setup: &Setup, drive: impl FnOnce(Cable) -> Result<T>) -> Result<T> {
    let link = Link { device: "net_ring0".to_owned(), ..setup.link.clone() };
    let text = scenario::configuration_over(&link, setup.case, WEIGHT);
    let config = Config::parse(&text, "the benchmark's configuration")?.config;
    let eal = Eal::start(&weir::eal_options(&config)).context("DPDK did not start")?;
    let pool = Mempool::new(&eal, "cable", MBUFS, u32::from(link.mtu) + 64, -1)?;
    let mut devices = Vec::new();
    let mut ring = |name: &str| -> Result<Queue> {
        let mut device = open(&eal, name, link.mtu)?.start(std::slice::from_ref(&pool))?;
        let queue = take_queue(&mut device);
        devices.push(device);
        queue
    };
    let (near, far) = Queue::cross(ring("net_ring0")?, ring("net_ring1")?);
    let loopback = ring("net_ring2")?;

    let clock = Clock::new();
    let facts = PortFacts { mac: MacAddress(NODE_MAC), any_mac: false };
    let mut node = Node::new(config, &[facts], clock.now() / 1_000_000)?;
    let (orders, ordered) = channel::<Order>();
    let (answer, answers) = channel();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let (thread, counters) = weir::start_worker(
        &eal,
        &mut node,
        (far, Unmetered),
        setup.case.table,
        setup.core,
        clock.clone(),
        move |worker, clock, _| {
            let _ = answer.send(());
            for order in ordered {
                match order {
                    Order::Work(idle) => worker.run(clock, idle, &stopped),
                    Order::Bounce(line) => bounce(&line),
                }
                let _ = answer.send(());
            }
            Ok(())
        },
    )?;
    let mut worker = Far { orders: Some(orders), answers, stop, thread: Some(thread) };
    // It starts on this thread's core, and could not leave it while a generator spins there.
    if worker.answers.recv().is_err() {
        worker.end()?;
    }
    let cable = Cable {
        near: Some(near),
        loopback: Some(loopback),
        clock,
        counters,
        node,
        worker,
        next_step: 0,
    };
    drive(cable)
}

fn bounce(line: &AtomicU64) {
    for number in (1..BOUNCES).step_by(2) {
        while line.load(Ordering::Acquire) != number {
            std::hint::spin_loop();
        }
        line.store(number + 1, Ordering::Release);
    }
}

fn open(eal: &Eal, name: &str, mtu: u16) -> Result<Device> {
    let options = DeviceOptions {
        device: name.to_owned(),
        queues: 1,
        fewer_queues: false,
        mtu,
        smaller_mtu: false,
        mac: None,
        all_multicast: false,
        checksum_offload: true,
        rx_descriptors: DESCRIPTORS,
        tx_descriptors: DESCRIPTORS,
    };
    Ok(Device::open(eal, options)?)
}

fn take_queue(device: &mut StartedDevice) -> Result<Queue> {
    device.take_queues().pop().ok_or_else(|| anyhow!("the device has no queue"))
}
