//! `weir run`: a node.
//!
//! Starts DPDK, opens the ports, gives each worker its queues, and then is the control thread:
//! it steps the node, serves the admin interface, and obeys signals (SIGHUP re-reads the
//! configuration, SIGINT and SIGTERM end the node).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use config::{Config, FewerQueues};
use conntrack::{Memory, Table};
use control::admin::{self, AdminState, BufferSource, PortSource, Token};
use control::node::{Node, PortFacts};
use control::probe::Probes;
use control::shared::SharedNode;
use dataplane::clock::Clock;
use dataplane::handoff::{self, Handoff};
use dataplane::port::dpdk::{
    Device, DeviceOptions, Eal, EalOptions, HugeMemory, Mbuf, Mempool, Queue, StartedDevice,
    WorkerRegistration, is_pci,
};
use dataplane::rss::Rss;
use dataplane::wire::MacAddress;
use dataplane::worker::{Idle, Worker, WorkerOptions};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use crate::cli::RunArguments;
use crate::exception::Exceptions;
use crate::failure::{Failure, load};
use crate::{logging, memory, watch};

/// How often the control thread looks after the node.
const STEP: Duration = Duration::from_millis(10);
/// Packet buffers kept for bursts, holds, thread caches and what other workers have, per worker and
/// beyond descriptors.
const SPARE_MBUFS: u32 = 2048 + handoff::IN_FLIGHT as u32;

/// Runs a node until it is told to stop.
pub(crate) fn run(arguments: &RunArguments) -> Result<(), Failure> {
    let config = load(&arguments.config)?;
    // A configuration that cannot be served is refused before any device is touched.
    Node::check(&config).map_err(Failure::configuration)?;
    logging::start();
    check_cores(&config)?;
    memory::check(&config)?;
    let admin = bind_admin(&config)?;
    let controllers = watch::controllers(&config).map_err(Failure::configuration)?;
    let signals = Signals::register()?;
    let eal = Eal::start(&eal_options(&config))?;
    info!(version = eal.version(), "started DPDK");

    let devices = open_devices(&eal, &config)?;
    let workers = devices.iter().map(Device::queues).min().unwrap_or(0);
    if usize::from(workers) < config.dpdk.worker_cores.len() {
        warn!(workers, "fewer workers than worker_cores: a device has fewer queues");
    }
    let pools = create_pools(&eal, &config, &devices, workers)?;
    let mut devices = start_devices(devices, &pools)?;
    let facts: Vec<PortFacts> =
        devices.iter().map(|device| PortFacts { mac: device.mac(), any_mac: false }).collect();
    for (port, facts) in config.ports.iter().zip(&facts) {
        info!(port = port.name, device = port.device, mac = %facts.mac, "port is up");
    }

    let mut exceptions = Exceptions::start(&eal, &config, &facts, &pools)?;

    let clock = Clock::new();
    let mut node = Node::new(config.clone(), &facts, now_ms(&clock))?;
    node.start_probes(Probes::new(random_seed()?));
    let queues = WorkerQueues::take(&mut devices, &mut exceptions, workers);
    let threads = start_workers(&eal, &config, &mut node, queues, &clock)?;
    let ports = devices.into_iter().map(|device| Box::new(device) as Box<dyn PortSource>).collect();
    let buffers = pools.into_iter().map(|pool| Box::new(pool) as Box<dyn BufferSource>).collect();
    let node = SharedNode::new(node);
    let watch = controllers
        .map(|controllers| watch::start(&config, controllers, node.clone(), &clock))
        .transpose()?;
    let Admin { listener, token } = admin;
    let worker_clock = clock.clone();
    let state = AdminState::guarded(node, ports, buffers, move || worker_clock.now(), token);
    let result = control(&arguments.config, listener, signals, &state, &clock);
    drop(watch);
    drop(threads);
    info!("stopped");
    result
}

/// The running workers: dropped, they are stopped and waited for, on every way out of [`run`],
/// so that none is left polling a device when the environment ends.
struct WorkerThreads {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Drop for WorkerThreads {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                error!("a worker ended abnormally");
            }
        }
    }
}

/// The admin interface's listener, and who may use it.
struct Admin {
    listener: std::net::TcpListener,
    token: Option<Token>,
}

/// Binds the admin interface before any device is touched: it is the likeliest to be taken.
fn bind_admin(config: &Config) -> anyhow::Result<Admin> {
    let address = config.node.admin;
    let token = match &config.node.admin_token_file {
        Some(path) => Some(
            Token::read(path)
                .with_context(|| format!("[node]: admin_token_file = \"{}\"", path.display()))?,
        ),
        None => None,
    };
    // The configuration says so too; this is where it counts.
    anyhow::ensure!(
        token.is_some() || address.ip().is_loopback(),
        "[node]: admin = \"{address}\" needs admin_token_file (expected a loopback address without)"
    );
    let listener = std::net::TcpListener::bind(address)
        .with_context(|| format!("[node]: admin = \"{address}\""))?;
    listener.set_nonblocking(true)?;
    info!(%address, "admin interface");
    Ok(Admin { listener, token })
}

/// Cores that do not exist are named before DPDK fails over them in its own words.
fn check_cores(config: &Config) -> Result<(), Failure> {
    let cores: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    if cores.is_empty() {
        return Ok(());
    }
    let wanted = std::iter::once(&config.dpdk.main_core).chain(&config.dpdk.worker_cores);
    for core in wanted {
        if !cores.contains(&usize::from(*core)) {
            return Err(Failure::configuration(format!(
                "[dpdk]: core {core} is not there or not ours to use (expected one of {cores:?})"
            )));
        }
    }
    Ok(())
}

fn eal_options(config: &Config) -> EalOptions {
    EalOptions {
        memory_mib: config.dpdk.memory_mib,
        hugepages: config.dpdk.hugepages,
        main_core: u32::from(config.dpdk.main_core),
        file_prefix: config.dpdk.file_prefix.clone(),
        pci_devices: config
            .ports
            .iter()
            .map(|port| port.device.clone())
            .filter(|device| is_pci(device.split(',').next().unwrap_or_default()))
            .collect(),
        extra: config.dpdk.eal_args.clone(),
    }
}

fn open_devices(eal: &Eal, config: &Config) -> anyhow::Result<Vec<Device>> {
    let workers = u16::try_from(config.dpdk.worker_cores.len()).unwrap_or(u16::MAX);
    let mut devices = Vec::new();
    for port in &config.ports {
        check_interface(port)?;
        let options = DeviceOptions {
            device: port.device.clone(),
            queues: workers,
            fewer_queues: config.dpdk.fewer_queues == FewerQueues::Use,
            mtu: port.mtu,
            smaller_mtu: false,
            mac: port.mac.map(|mac| MacAddress(mac.octets())),
            all_multicast: port.speaks_ipv6(),
            checksum_offload: port.checksum_offload,
            rx_descriptors: port.rx_descriptors,
            tx_descriptors: port.tx_descriptors,
        };
        let device =
            Device::open(eal, options).with_context(|| format!("port \"{}\"", port.name))?;
        devices.push(device);
    }
    Ok(devices)
}

/// `net_af_packet` works on an interface of the kernel, whose MTU it sets up to 1500 bytes; with
/// less than the port's the kernel would drop what the node sends.
fn check_interface(port: &config::Port) -> anyhow::Result<()> {
    const SET_BY_THE_DRIVER: u16 = 1500;
    let mut arguments = port.device.split(',');
    let driver = arguments.next().unwrap_or_default();
    let interface = arguments.find_map(|argument| argument.strip_prefix("iface="));
    let Some(interface) = interface.filter(|_| driver.starts_with("net_af_packet")) else {
        return Ok(());
    };
    // An interface that is not there is the driver's to report.
    let Ok(mtu) = std::fs::read_to_string(format!("/sys/class/net/{interface}/mtu")) else {
        return Ok(());
    };
    let has: u32 = mtu.trim().parse().unwrap_or(u32::MAX);
    let (name, wanted) = (&port.name, port.mtu);
    anyhow::ensure!(
        wanted <= SET_BY_THE_DRIVER || has >= u32::from(wanted),
        "port \"{name}\": mtu = {wanted}, but its interface {interface} has {has}: expected at \
         least as much (ip link set dev {interface} mtu {wanted})"
    );
    Ok(())
}

/// One pool for each worker: buffers of all ports come from it, so that a queue frees to one
/// pool only.
fn create_pools(
    eal: &Eal,
    config: &Config,
    devices: &[Device],
    workers: u16,
) -> anyhow::Result<Vec<Mempool>> {
    let frame_bytes = devices.iter().map(Device::frame_bytes).max().unwrap_or(0);
    let descriptors: u32 = config
        .ports
        .iter()
        .map(|port| {
            let needed = u32::from(port.rx_descriptors) + u32::from(port.tx_descriptors);
            port.mbufs.map_or(needed, |mbufs| (mbufs / u32::from(workers.max(1))).max(needed))
        })
        .sum();
    (0..workers)
        .zip(&config.dpdk.worker_cores)
        .map(|(worker, core)| {
            let name = format!("weir{worker}");
            let count = descriptors + Exceptions::buffers(config) + SPARE_MBUFS;
            Ok(Mempool::new(eal, &name, count, frame_bytes, memory::numa_node(*core))?)
        })
        .collect()
}

fn start_devices(devices: Vec<Device>, pools: &[Mempool]) -> anyhow::Result<Vec<StartedDevice>> {
    devices.into_iter().map(|device| Ok(device.start(pools)?)).collect()
}

/// What one worker polls, by port index, and how it reaches the others.
struct WorkerQueues {
    ports: Vec<Queue>,
    exceptions: Vec<Option<Queue>>,
    handoff: Handoff<Mbuf>,
    rss: Arc<[Option<Rss>]>,
}

impl WorkerQueues {
    /// Queue `w` of every port goes to worker `w`, and one of every exception interface.
    fn take(devices: &mut [StartedDevice], exceptions: &mut Exceptions, workers: u16) -> Vec<Self> {
        let rss: Arc<[_]> = devices.iter().map(StartedDevice::rss).collect();
        let mut queues: Vec<Self> = exceptions
            .take_queues(workers)
            .into_iter()
            .zip(handoff::connect(usize::from(workers)))
            .map(|(exceptions, handoff)| Self {
                ports: Vec::new(),
                exceptions,
                handoff,
                rss: Arc::clone(&rss),
            })
            .collect();
        for device in devices {
            for (worker, queue) in queues.iter_mut().zip(device.take_queues()) {
                worker.ports.push(queue);
            }
        }
        queues
    }
}

fn start_workers(
    eal: &Eal,
    config: &Config,
    node: &mut Node,
    queues: Vec<WorkerQueues>,
    clock: &Clock,
) -> anyhow::Result<WorkerThreads> {
    let workers = u16::try_from(queues.len()).unwrap_or(u16::MAX);
    if let [first, _, ..] = &queues[..] {
        for (port, rss) in config.ports.iter().zip(first.rss.iter()) {
            let owners = if rss.is_some() { "computed" } else { "asked for" };
            info!(port = port.name, owners, "workers of flows, for fragments and ICMP errors");
        }
    }
    let flows = (config.conntrack.flows as usize).div_ceil(usize::from(workers.max(1)));
    let hash_seed = random_seed()?;
    let idle = match config.dpdk.idle {
        config::Idle::Spin => Idle::Spin,
        config::Idle::Backoff => Idle::Backoff,
    };
    let stop = Arc::new(AtomicBool::new(false));
    let mut workers_running = WorkerThreads { stop: Arc::clone(&stop), threads: Vec::new() };
    for ((number, queues), core) in (0u16..).zip(queues).zip(&config.dpdk.worker_cores) {
        let parts = node.add_worker();
        let layout = Memory::layout(flows)?;
        let region = HugeMemory::zeroed(
            eal,
            "the conntrack table",
            layout.size(),
            // As two cache lines, so that no worker's flows share one with what is another's.
            128,
            memory::numa_node(*core),
        )?;
        memory::tell_place(number, *core, layout.size(), region.place());
        let mut worker = Worker::new(WorkerOptions {
            ports: queues.ports,
            reader: parts.reader,
            conntrack: Table::in_memory(Memory::from_region(flows, region.leak())?),
            hash_seed,
            number,
            workers,
            link: parts.handle.link,
            counters: parts.handle.counters,
        })
        .join(queues.handoff, queues.rss)
        .unrecorded();
        worker.set_exceptions(queues.exceptions);
        let (clock, stop, core) = (clock.clone(), Arc::clone(&stop), usize::from(*core));
        let (started, start) = std::sync::mpsc::channel();
        let thread =
            std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                if !core_affinity::set_for_current(core_affinity::CoreId { id: core }) {
                    warn!(core, "worker is not bound to its core");
                }
                match WorkerRegistration::new() {
                    Ok(_registration) => {
                        let _ = started.send(Ok(()));
                        worker.run(&clock, idle, &stop);
                    }
                    Err(error) => {
                        let _ = started.send(Err(error));
                    }
                }
            })?;
        workers_running.threads.push(thread);
        start.recv().with_context(|| format!("worker {number} ended while it started"))??;
    }
    Ok(workers_running)
}

/// The key of the conntrack hash, or of the probes' cookies, from the system: an attacker must
/// not know it.
fn random_seed() -> anyhow::Result<[u64; 4]> {
    let mut bytes = [0u8; 32];
    let mut file = std::fs::File::open("/dev/urandom").context("/dev/urandom")?;
    std::io::Read::read_exact(&mut file, &mut bytes).context("/dev/urandom")?;
    let (words, _) = bytes.as_chunks::<8>();
    let mut seed = [0; 4];
    for (word, bytes) in seed.iter_mut().zip(words) {
        *word = u64::from_ne_bytes(*bytes);
    }
    Ok(seed)
}

fn now_ms(clock: &Clock) -> u64 {
    clock.now() / 1_000_000
}

/// The signals the node obeys, heard from before DPDK starts: one that comes early is obeyed once
/// the node is up, instead of ending the process half way.
struct Signals {
    runtime: tokio::runtime::Runtime,
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn register() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let hangup = signal(SignalKind::hangup())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let terminate = signal(SignalKind::terminate())?;
        drop(entered);
        Ok(Self { runtime, hangup, interrupt, terminate })
    }
}

/// The control thread's life.
fn control(
    path: &Path,
    listener: std::net::TcpListener,
    mut signals: Signals,
    state: &Arc<AdminState>,
    clock: &Clock,
) -> Result<(), Failure> {
    signals.runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let server = admin::serve(listener, Arc::clone(state));
        tokio::pin!(server);
        let mut steps = tokio::time::interval(STEP);
        steps.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = steps.tick() => state.lock_node().step(now_ms(clock)),
                _ = signals.hangup.recv() => reload(path, state, clock),
                _ = signals.interrupt.recv() => return Ok(()),
                _ = signals.terminate.recv() => return Ok(()),
                result = &mut server => return result.map_err(Failure::from),
            }
        }
    })
}

/// SIGHUP: a new configuration takes effect as a whole, or not at all.
fn reload(path: &Path, state: &AdminState, clock: &Clock) {
    let mut node = state.lock_node();
    match Config::load(path) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                warn!("{warning}");
            }
            match node.reload(loaded.config, now_ms(clock)) {
                Ok(()) => info!(generation = node.generation(), "configuration reloaded"),
                Err(error) => error!(%error, "reload refused, nothing has changed"),
            }
        }
        Err(errors) => {
            error!("reload refused, nothing has changed:\n{errors}");
            node.reload_refused(errors.to_string());
        }
    }
}
