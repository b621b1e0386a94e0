//! A node without ports: everything of a fed node but the packets.
//!
//! For measuring and testing the way of a change through a fleet: the watch, the check, the table
//! build, the publication to a worker and the report are the shipped ones; the worker has no port
//! to poll, so it needs no DPDK. Many of them fit one process.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use config::Config;
use conntrack::Table;
use dataplane::clock::Clock;
use dataplane::port::memory::MemoryPort;
use dataplane::worker::{Idle, Worker, WorkerOptions};
use thiserror::Error;

use crate::assemble::AssembleError;
use crate::node::Node;
use crate::shared::SharedNode;
use crate::watch::{Status, Watch, WatchOptions};

/// How often the node is stepped.
const STEP: Duration = Duration::from_millis(10);
/// Flows of a table that nobody fills.
const FLOWS: usize = 64;

/// See the module. Dropped, it ends, with all its threads.
#[derive(Debug)]
pub struct NodeWithoutPorts {
    // In the order in which they end.
    watch: Watch,
    _threads: Threads,
    node: SharedNode,
}

#[derive(Debug)]
struct Threads {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// Why there is no such node.
#[derive(Debug, Error)]
pub enum StartError {
    /// A thread, or memory for the worker's table.
    #[error("cannot start: {0}")]
    Io(#[from] io::Error),
    /// The configuration cannot be served.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// The built-in configuration is refused.
    #[error("{0}")]
    Config(String),
}

impl NodeWithoutPorts {
    /// Starts the node: it watches until it is dropped.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(options: WatchOptions) -> Result<Self, StartError> {
        let clock = Clock::new();
        let mut node = Node::new(config()?, &[], now_ms(&clock))?;
        let parts = node.add_worker();
        let mut worker = Worker::new(WorkerOptions {
            ports: Vec::<MemoryPort>::new(),
            reader: parts.reader,
            conntrack: Table::new(FLOWS).map_err(io::Error::other)?,
            hash_seed: [0; 4],
            number: 0,
            workers: 1,
            link: parts.handle.link,
            counters: parts.handle.counters,
        });
        let node = SharedNode::new(node);
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Threads { stop: Arc::clone(&stop), threads: Vec::new() };
        let (worker_clock, worker_stop) = (clock.clone(), Arc::clone(&stop));
        threads
            .spawn("worker-0", move || worker.run(&worker_clock, Idle::Backoff, &worker_stop))?;
        let (stepped, step_clock) = (node.clone(), clock.clone());
        threads.spawn("control", move || {
            while !stop.load(Ordering::Relaxed) {
                stepped.lock().step(now_ms(&step_clock));
                std::thread::sleep(STEP);
            }
        })?;
        let status = Arc::new(Status::new(move || clock.now()));
        let watch = Watch::start(node.clone(), status, options)?;
        Ok(Self { watch, _threads: threads, node })
    }

    /// How it goes with the controller, versions in force included.
    pub fn status(&self) -> &Arc<Status> {
        self.watch.status()
    }

    /// The node.
    pub fn node(&self) -> &SharedNode {
        &self.node
    }
}

impl Threads {
    fn spawn(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let builder = std::thread::Builder::new().name(name.to_owned());
        self.threads.push(builder.spawn(run)?);
        Ok(())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of a node without ports ended abnormally");
            }
        }
    }
}

fn now_ms(clock: &Clock) -> u64 {
    clock.now() / 1_000_000
}

/// A node's configuration; a file must have a port, a value need not.
fn config() -> Result<Config, StartError> {
    let text = "[node]\nname = \"portless\"\nzone = \"none\"\n\
                [[port]]\nname = \"none\"\ndevice = \"net_null0\"\naddresses = [\"192.0.2.2/24\"]\n\
                [controller]\nendpoints = [\"http://127.0.0.1:9190\"]\n";
    let loaded = Config::parse(text, "built in").map_err(|e| StartError::Config(e.to_string()))?;
    let mut config = loaded.config;
    config.ports.clear();
    Ok(config)
}
