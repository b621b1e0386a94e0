//! The control thread of a node: everything that is not per packet.
//!
//! A [`Node`] holds what is (pools, neighbours) and publishes tables when it changes. It is
//! driven from outside: [`Node::step`] at least every few hundred milliseconds, [`Node::reload`]
//! when the operator says so. Time is passed in, so `replay` drives it with a capture's time.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use config::Config;
use dataplane::counters::WorkerCounters;
use dataplane::link::{Command, WorkerLink};
use dataplane::neighbour::{Neighbours, NextHop, Probe};
use dataplane::publish::{Publisher, Reader};
use dataplane::tables::Tables;
use dataplane::wire::MacAddress;
use thiserror::Error;

use crate::ask;
use crate::assemble::{AssembleError, Assembled, Assembler, NodeLinks};
pub use crate::links::PortFacts;
use crate::links::{fragment_options, node_links, outer_options, static_neighbours};
use crate::overrides::Overrides;
use crate::prepare::{InstallError, Preparation, Prepared};
use crate::probe::Probes;
use crate::probe::schedule::Standing;
use crate::snapshot::PoolSnapshot;
use crate::statics::StaticPools;
use crate::watch::Status;

/// One worker, as the control thread knows it.
#[derive(Clone, Debug)]
pub struct WorkerHandle {
    /// The queues to and from it.
    pub link: Arc<WorkerLink>,
    /// What it counts.
    pub counters: Arc<WorkerCounters>,
}

/// What a new worker is given.
pub struct WorkerParts {
    /// The tables.
    pub reader: Reader<Tables>,
    /// Its side of the handle.
    pub handle: WorkerHandle,
}

/// Why a reload changed nothing.
#[derive(Debug, Error)]
pub enum ReloadError {
    /// Keys that are read at the start only have changed.
    #[error("changed keys that need a restart: {}", .0.join(", "))]
    RestartRequired(Vec<String>),
    /// The new tables cannot be built.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
}

/// The control side of a node; see the module.
pub struct Node {
    config: Config,
    statics: StaticPools,
    /// What hears the controller; then its pools are in force, and the file has none.
    feed: Option<Arc<Status>>,
    /// Pools as the file or the controller has them.
    given: Arc<[PoolSnapshot]>,
    overrides: Overrides,
    /// `given` with `overrides`: what is served.
    pools: Vec<PoolSnapshot>,
    /// Counts the changes of `given` and `overrides`.
    revision: u64,
    assembler: Assembler,
    neighbours: Neighbours,
    static_neighbours: BTreeMap<NextHop, MacAddress>,
    publisher: Publisher<Tables>,
    workers: Vec<WorkerHandle>,
    generation: u64,
    reloads: ReloadCounts,
    frames_lost: u64,
    probes: Option<Probes>,
}

/// What became of reloads.
#[derive(Clone, Debug, Default)]
pub struct ReloadCounts {
    /// Reloads that took effect.
    pub applied: u64,
    /// Reloads that changed nothing.
    pub refused: u64,
    /// Why the last one changed nothing, until one takes effect.
    pub last_error: Option<String>,
}

impl Node {
    /// Whether tables can be built from `config`, without any device.
    ///
    /// # Errors
    /// The reason why not.
    pub fn check(config: &Config) -> Result<(), AssembleError> {
        let facts = PortFacts { mac: MacAddress::ZERO, any_mac: true };
        Self::new(config.clone(), &vec![facts; config.ports.len()], 0).map(|_| ())
    }

    /// A node with its first tables published.
    ///
    /// # Errors
    /// When they cannot be built.
    pub fn new(config: Config, facts: &[PortFacts], now_ms: u64) -> Result<Self, AssembleError> {
        let mut statics = StaticPools::new();
        statics.apply(&config, now_ms);
        let mut assembler = Assembler::new(node_links(&config, facts));
        let static_neighbours = static_neighbours(&config);
        let mut neighbours = Neighbours::new();
        want(&mut neighbours, &static_neighbours, &[]);
        let given: Arc<[PoolSnapshot]> = statics.snapshots().cloned().collect();
        let first = assembler.assemble(given.iter(), &neighbours)?;
        want(&mut neighbours, &static_neighbours, &first.next_hops);
        let generation = first.tables.generation;
        Ok(Self {
            config,
            statics,
            feed: None,
            pools: given.to_vec(),
            given,
            overrides: Overrides::default(),
            revision: 0,
            assembler,
            neighbours,
            static_neighbours,
            publisher: Publisher::new(first.tables),
            workers: Vec::new(),
            generation,
            reloads: ReloadCounts::default(),
            frames_lost: 0,
            probes: None,
        })
    }

    /// A reader, queues and counters for one more worker.
    pub fn add_worker(&mut self) -> WorkerParts {
        let handle =
            WorkerHandle { link: WorkerLink::new(), counters: Arc::new(WorkerCounters::new()) };
        self.workers.push(handle.clone());
        WorkerParts { reader: self.publisher.reader(), handle }
    }

    /// Takes over a new configuration.
    ///
    /// # Errors
    /// When it needs a restart or cannot be built; nothing has changed then.
    pub fn reload(&mut self, config: Config, now_ms: u64) -> Result<(), ReloadError> {
        let result = self.try_reload(config, now_ms);
        match &result {
            Ok(()) => {
                self.reloads.applied += 1;
                self.reloads.last_error = None;
            }
            Err(error) => self.reload_refused(error.to_string()),
        }
        result
    }

    /// Counts a reload that failed before it got here, such as a file that does not parse.
    pub fn reload_refused(&mut self, why: String) {
        self.reloads.refused += 1;
        self.reloads.last_error = Some(why);
    }

    fn try_reload(&mut self, config: Config, now_ms: u64) -> Result<(), ReloadError> {
        let restart = self.config.restart_required(&config);
        if !restart.is_empty() {
            return Err(ReloadError::RestartRequired(restart));
        }
        let mut statics = self.statics.clone();
        let mut given = Arc::clone(&self.given);
        if self.feed.is_none() {
            statics.apply(&config, now_ms);
            given = statics.snapshots().cloned().collect();
        }
        let pools = self.overrides.apply(&given);
        let NodeLinks { outer, fragments, .. } = *self.assembler.links();
        self.assembler.set_outer(outer_options(&config));
        self.assembler.set_fragments(fragment_options(&config));
        match self.assembler.assemble(&pools, &self.neighbours) {
            Ok(assembled) => {
                self.statics = statics;
                self.config = config;
                self.take_pools(given, pools);
                self.publish(assembled);
                Ok(())
            }
            Err(error) => {
                self.assembler.set_outer(outer);
                self.assembler.set_fragments(fragments);
                Err(error.into())
            }
        }
    }

    /// Does what is due: hears what workers saw, asks for neighbours, moves drains, publishes,
    /// and takes back what workers no longer use.
    pub fn step(&mut self, now_ms: u64) {
        let mut changed = false;
        if self.feed.is_none() && self.statics.poll(now_ms) {
            let given: Arc<[PoolSnapshot]> = self.statics.snapshots().cloned().collect();
            let pools = self.overrides.apply(&given);
            self.take_pools(given, pools);
            changed = true;
        }
        for worker in &self.workers {
            // Bounded: at most what fitted the queue when we came.
            for _ in 0..worker.link.seen.len() {
                let Some(seen) = worker.link.seen.pop() else { break };
                changed |= self.neighbours.observe(seen.hop, seen.heard, now_ms);
            }
        }
        let mut probes: Vec<Probe> = Vec::new();
        changed |= self.neighbours.poll(now_ms, |probe| probes.push(probe));
        for probe in probes {
            self.send(probe);
        }
        if changed && let Err(error) = self.rebuild() {
            // Cannot happen: the same snapshots were built before. Keep the old tables.
            tracing::error!(%error, "tables not rebuilt");
        }
        if let Some(probes) = &mut self.probes {
            let (pools, tables) = (self.pools.iter(), self.publisher.current());
            probes.step(&self.workers, &self.assembler, tables, pools, now_ms);
        }
        self.publisher.reclaim();
    }

    /// From now on backends are asked at their VIP, through the tunnel.
    pub fn start_probes(&mut self, probes: Probes) {
        self.probes = Some(probes);
    }

    /// The probes through the tunnel, where they have been started.
    pub fn probes(&self) -> Option<&Probes> {
        self.probes.as_ref()
    }

    /// How a backend stands by them.
    pub fn tunnel(&self, pool: &str, backend: &str) -> Option<Standing> {
        let index = self.assembler.backend_index(pool, backend)?;
        self.probes.as_ref()?.standing(self.publisher.current(), index)
    }

    fn rebuild(&mut self) -> Result<(), AssembleError> {
        let assembled = self.assembler.assemble(&self.pools, &self.neighbours)?;
        self.publish(assembled);
        Ok(())
    }

    fn take_pools(&mut self, given: Arc<[PoolSnapshot]>, pools: Vec<PoolSnapshot>) {
        self.given = given;
        self.pools = pools;
        self.revision += 1;
    }

    /// From now on pools come from a controller, through [`Node::install`]; `status` says how
    /// that goes.
    pub fn set_feed(&mut self, status: Arc<Status>) {
        self.feed = Some(status);
    }

    /// How it goes with the controller; `None` for a node whose pools are in its file.
    pub fn feed(&self) -> Option<&Arc<Status>> {
        self.feed.as_ref()
    }

    /// What a change of pools starts from; see [`crate::prepare`].
    pub fn prepare(&self) -> Preparation {
        Preparation {
            builder: self.assembler.pool_builder(),
            given: Arc::clone(&self.given),
            overrides: self.overrides.clone(),
            revision: self.revision,
        }
    }

    /// Puts prepared pools in force.
    ///
    /// # Errors
    /// When the pools have changed since they were prepared; nothing has changed now.
    pub fn install(&mut self, prepared: Prepared) -> Result<(), InstallError> {
        if prepared.revision != self.revision {
            return Err(InstallError::Overtaken);
        }
        let Prepared { given, overrides, pools, built, .. } = prepared;
        let list: Vec<&PoolSnapshot> = pools.iter().collect();
        let assembled = self.assembler.assemble_built(&list, built, &self.neighbours);
        self.overrides = overrides;
        self.take_pools(given, pools);
        self.publish(assembled);
        Ok(())
    }

    /// Backends drained by this node's operator.
    pub fn overrides(&self) -> &Overrides {
        &self.overrides
    }

    fn publish(&mut self, assembled: Assembled) {
        want(&mut self.neighbours, &self.static_neighbours, &assembled.next_hops);
        self.generation = assembled.tables.generation;
        self.publisher.publish(assembled.tables);
    }

    /// Has the first worker ask for a next hop.
    fn send(&mut self, probe: Probe) {
        let port = self.assembler.links().ports.get(usize::from(probe.hop.port));
        let Some(frame) = port.and_then(|port| ask::frame(port, probe)) else { return };
        let Some(worker) = self.workers.first() else { return };
        let command = Command::Transmit { port: probe.hop.port, frame };
        if worker.link.commands.push(command).is_err() {
            self.frames_lost += 1;
        }
    }

    /// Why the node should not get traffic; empty when it should.
    pub fn not_ready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.workers.is_empty() {
            reasons.push("no worker is running".to_owned());
        }
        for (number, worker) in self.workers.iter().enumerate() {
            if worker.counters.tables_generation.get() == 0 {
                reasons.push(format!("worker {number} has not loaded its tables"));
            }
        }
        // A backend that does not answer is that backend's problem, unless all are silent; a
        // gateway that backends are behind is the node's.
        let hops: Vec<(IpAddr, NextHop)> = self.backend_hops();
        let known = |hop: &NextHop| self.neighbours.mac(*hop).is_some();
        for (hop, state, _) in self.neighbours.iter().filter(|(hop, _, _)| !known(hop)) {
            if hops.iter().any(|(backend, used)| *used == hop && *backend != hop.address) {
                reasons.push(format!("gateway {} is {}", hop.address, state.name()));
            }
        }
        if !hops.is_empty() && !hops.iter().any(|(_, hop)| known(hop)) {
            reasons.push("no backend's next hop is resolved".to_owned());
        }
        reasons
    }

    /// Addresses of all backends, each with the next hop it is reached through.
    fn backend_hops(&self) -> Vec<(IpAddr, NextHop)> {
        let links = self.assembler.links();
        self.pools
            .iter()
            .flat_map(|pool| &pool.backends)
            .filter_map(|backend| {
                Some((backend.address, links.next_hop(backend.address, &self.neighbours)?))
            })
            .collect()
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// All pools as they are served now.
    pub fn pools(&self) -> impl Iterator<Item = &PoolSnapshot> {
        self.pools.iter()
    }

    /// Names and indices of VIPs and backends, and built pools.
    pub fn assembler(&self) -> &Assembler {
        &self.assembler
    }

    /// Next hops and what is known of them.
    pub fn neighbours(&self) -> &Neighbours {
        &self.neighbours
    }

    /// The workers.
    pub fn workers(&self) -> &[WorkerHandle] {
        &self.workers
    }

    /// The tables last published.
    pub fn tables(&self) -> &Tables {
        self.publisher.current()
    }

    /// Version of the tables last published.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Frames of the node's own that were lost because a worker did not take them.
    pub fn frames_lost(&self) -> u64 {
        self.frames_lost
    }

    /// What became of reloads.
    pub fn reloads(&self) -> &ReloadCounts {
        &self.reloads
    }

    /// Old tables that workers may still hold.
    pub fn outstanding_tables(&self) -> usize {
        self.publisher.outstanding()
    }
}

/// Sets the wanted next hops: the needed ones, and those with a static address.
fn want(neighbours: &mut Neighbours, fixed: &BTreeMap<NextHop, MacAddress>, needed: &[NextHop]) {
    let mut wanted: BTreeMap<NextHop, Option<MacAddress>> =
        needed.iter().map(|hop| (*hop, None)).collect();
    wanted.extend(fixed.iter().map(|(hop, mac)| (*hop, Some(*mac))));
    neighbours.want(&wanted);
}
