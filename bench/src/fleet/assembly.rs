//! Puts a fleet up: listeners, a controller, checkers, registered backends, nodes.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use client::{Controllers, Settings};
use control::portless::NodeWithoutPorts;
use control::watch::WatchOptions;
use proto::v1;
use tokio::time::sleep;

use super::backends::Backends;
use super::observer::Observer;
use super::operator::{Member, Operator};
use super::processes::Process;

/// How long everybody may take to be there.
const PATIENCE: Duration = Duration::from_secs(60);
/// Calls at a time while backends are registered.
const REGISTER_AT_ONCE: usize = 8;
const ZONES: usize = 3;
/// Of all backends. Below the ports that probes come from: a probe of a backend that has closed
/// its port could otherwise meet itself.
const PORT: u16 = 8080;
/// Nodes, and what else this process has open, besides two descriptors a backend.
const OTHER_FILES: u64 = 1024;

/// How big a fleet.
#[derive(Clone, Debug)]
pub struct Size {
    /// Backends of the pool `web`.
    pub backends: usize,
    /// Nodes without ports.
    pub nodes: usize,
    /// Checker processes, each backend being probed by three of them.
    pub checkers: usize,
}

/// Where things are.
#[derive(Clone, Debug)]
pub struct Places {
    /// The program `weir`.
    pub weir: PathBuf,
    /// An empty folder for configurations, logs, and the registry.
    pub work: PathBuf,
}

/// A pool to be made.
#[derive(Clone, Debug)]
pub(super) struct PoolPlan {
    pub(super) id: &'static str,
    pub(super) vip: Ipv4Addr,
    pub(super) members: Vec<Member>,
}

/// Everything that runs. Dropped, it ends.
#[derive(Debug)]
pub(super) struct Fleet {
    // In the order in which they end.
    pub(super) observer: Observer,
    pub(super) processes: Processes,
    pub(super) backends: Backends,
    pub(super) operator: Operator,
}

/// The controller and the checkers.
#[derive(Debug)]
pub(super) struct Processes {
    pub(super) controller: Process,
    pub(super) checkers: Vec<Process>,
    /// Where checkers are asked for their metrics.
    pub(super) addresses: Vec<String>,
}

impl Drop for Processes {
    fn drop(&mut self) {
        // All at once: each is waited for then.
        let all = self.checkers.iter().chain([&self.controller]);
        all.for_each(Process::tell_to_end);
    }
}

/// Addresses of backends, in the network for benchmarks (RFC 2544): group 0 or 1. A controller
/// takes no loopback addresses for backends, so who runs this makes these addresses the machine's
/// own, in a network namespace (`bench/fleet.sh`).
pub(super) fn address(group: u8, number: usize) -> Result<Ipv4Addr> {
    let (high, low) = (u8::try_from(number / 250)?, u8::try_from(number % 250 + 1)?);
    Ok(Ipv4Addr::new(198, 18 + group, high, low))
}

impl Fleet {
    /// Starts everybody; `listening` are addresses of backends that are not registered yet, beside
    /// those of `pools`. Ends when all backends are HEALTHY, and every node has all of them in
    /// force.
    pub(super) async fn start(
        places: &Places,
        size: &Size,
        pools: impl FnOnce(u16) -> Result<Vec<PoolPlan>>,
        addresses: &[Ipv4Addr],
    ) -> Result<Self> {
        open_files(2 * addresses.len() as u64 + OTHER_FILES)?;
        let backends = Backends::start(addresses, PORT)
            .context("no backends (bench/fleet.sh makes a network namespace for them)")?;
        let pools = pools(backends.port())?;
        say(&format!("starting a controller and {} checkers", size.checkers));
        let (processes, endpoint) = start_processes(places, size)?;
        let operator = Operator::new(controllers(&endpoint)?);
        let all = pools.iter().map(|pool| pool.members.len()).sum::<usize>();
        say(&format!("registering {all} backends"));
        for pool in &pools {
            operator.create_pool(pool.id).await?;
            operator.bind(pool.id, pool.vip).await?;
            register(&operator, pool).await?;
        }
        for pool in &pools {
            let what = format!("{} HEALTHY backends in {}", pool.members.len(), pool.id);
            until(
                &what,
                async || Ok(healthy(&operator.pool(pool.id).await?) >= pool.members.len()),
            )
            .await?;
        }
        say(&format!("starting {} nodes", size.nodes));
        let nodes = (1..=size.nodes).map(|number| node(places, &endpoint, number));
        let observer = Observer::start(nodes.collect::<Result<_>>()?)?;
        for pool in &pools {
            let what = format!("{} on all nodes", pool.id);
            let all = |eligible: Vec<usize>| eligible.iter().all(|n| *n >= pool.members.len());
            until(&what, async || Ok(all(observer.eligible(pool.id)))).await?;
        }
        Ok(Self { observer, processes, backends, operator })
    }

    /// Ids of the controller, and of all checkers.
    pub(super) fn ids(&self) -> Vec<u32> {
        let Processes { controller, checkers, .. } = &self.processes;
        std::iter::once(controller).chain(checkers).map(Process::id).collect()
    }

    /// That all nodes have reported, for each of `pools`, one and the same version and digest, and
    /// that it is what they have in force.
    pub(super) async fn agrees(&self, pools: &[&str]) -> Result<()> {
        let nodes = self.observer.nodes().len();
        let what = format!("{nodes} nodes with the same digests");
        until(&what, async || {
            let list = self.operator.nodes().await?;
            Ok(pools.iter().all(|pool| self.agreed(&list, pool)) && list.disagreements.is_empty())
        })
        .await
    }

    fn agreed(&self, list: &v1::ListNodesResp, pool: &str) -> bool {
        let nodes = list.nodes.iter().filter(|node| node.connected);
        let reports = nodes.flat_map(|node| &node.pools).filter(|applied| applied.pool_id == pool);
        let reported: Vec<(u64, &[u8])> = reports
            .filter(|applied| applied.refused.is_empty())
            .map(|applied| (applied.version, applied.digest.as_slice()))
            .collect();
        let in_force: Vec<Option<(u64, Vec<u8>)>> = self
            .observer
            .nodes()
            .iter()
            .map(|node| {
                use maglev::Scheduler as _;
                let version = *node.status().view().pools.get(pool)?;
                let node = node.node().lock();
                let digest = node.assembler().pool(pool)?.selector.digest().as_bytes().to_vec();
                Some((version, digest))
            })
            .collect();
        let Some(Some((version, digest))) = in_force.first() else { return false };
        reported.len() == in_force.len()
            && reported.iter().all(|found| *found == (*version, digest.as_slice()))
            && in_force.iter().flatten().all(|found| *found == (*version, digest.clone()))
    }
}

/// Backends of a pool that are HEALTHY and get new flows.
pub(super) fn healthy(pool: &v1::Pool) -> usize {
    let healthy = i32::from(v1::BackendState::Healthy);
    pool.backends.iter().filter(|backend| backend.state == healthy && backend.eligible).count()
}

/// Waits for a condition, for a bounded time.
pub(super) async fn until(what: &str, mut holds: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !holds().await? {
        if Instant::now() >= end {
            bail!("waited {PATIENCE:?} for {what}");
        }
        sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// To whoever waits.
pub(super) fn say(text: &str) {
    eprintln!("{text} ...");
}

fn start_processes(places: &Places, size: &Size) -> Result<(Processes, String)> {
    let Places { weir, work } = places;
    let state = work.join("controller");
    let configuration = format!(
        "[controller]\nlisten = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\nstate_dir = \"{}\"\n\
         [registry]\nkind = \"embedded\"\n",
        state.display()
    );
    let mut controller = Process::start(weir, "controller", "controller", &configuration, work)?;
    let endpoint = format!("http://{}", controller.says("controller listens", "grpc")?);
    let mut checkers = Vec::new();
    for number in 1..=size.checkers {
        let name = format!("checker-{number}");
        let configuration = format!(
            "[checker]\nid = \"{name}\"\nzone = \"zone-{}\"\nhttp = \"127.0.0.1:0\"\n\
             [controller]\nendpoints = [\"{endpoint}\"]\n",
            number % ZONES + 1
        );
        checkers.push(Process::start(weir, "checker", &name, &configuration, work)?);
    }
    let addresses = checkers.iter_mut().map(|checker| checker.says("checker listens", "http"));
    let addresses = addresses.collect::<Result<_>>()?;
    Ok((Processes { controller, checkers, addresses }, endpoint))
}

fn controllers(endpoint: &str) -> Result<Controllers> {
    Ok(Controllers::new(Settings::new([endpoint]))?)
}

async fn register(operator: &Operator, pool: &PoolPlan) -> Result<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for member in pool.members.clone() {
        if tasks.len() >= REGISTER_AT_ONCE
            && let Some(done) = tasks.join_next().await
        {
            done??;
        }
        let (operator, pool) = (operator.clone(), pool.id);
        tasks.spawn(async move { operator.register(pool, &member).await });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

fn node(places: &Places, endpoint: &str, number: usize) -> Result<NodeWithoutPorts> {
    let node_id = format!("node-{number}");
    let options = WatchOptions {
        // A connection of its own, as a machine of its own has.
        controllers: controllers(endpoint)?,
        state_dir: Some(places.work.join(&node_id)),
        zone: format!("zone-{}", number % ZONES + 1),
        node_id,
        core: None,
    };
    NodeWithoutPorts::start(options).with_context(|| format!("node {number}"))
}

/// Raises this process's limit of open files.
fn open_files(needed: u64) -> Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if limit.maximum.is_some_and(|maximum| maximum < needed) {
        bail!("the limit of open files is {:?} (expected {needed}; see ulimit -n)", limit.maximum);
    }
    limit.current = Some(needed);
    setrlimit(Resource::Nofile, limit).context("raising the limit of open files")
}
