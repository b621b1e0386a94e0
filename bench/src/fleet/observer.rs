//! Looks at what every node has in force, each millisecond, and tells when all have what is
//! waited for.
//!
//! Content counts, not versions: a change is applied on a node once the tables it has published
//! were built from a pool that holds it. So a coalesced version holds all the changes of a burst,
//! and nothing is assumed of how versions are drawn. What is measured is late by the pause between
//! two looks, never early.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use control::portless::NodeWithoutPorts;
use control::snapshot::BackendEntry;
use dataplane::tables::BackendState;
use tokio::sync::oneshot;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(1);

/// What a backend is to be on every node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Known to the node, in whatever state.
    Known,
    /// New flows, with this weight.
    Weight(u32),
    /// New flows.
    Eligible,
    /// No new flows.
    Out,
    /// Its flows are reset.
    Evicted,
}

/// When the last node had it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Applied {
    /// In the tables that it published.
    pub(super) published: Instant,
    /// And its report of that was acknowledged.
    pub(super) acknowledged: Instant,
}

/// See the module. Dropped, it ends.
#[derive(Debug)]
pub(super) struct Observer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    nodes: Vec<NodeWithoutPorts>,
    stop: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Waiting>,
    /// Backends that live, and whether any was seen without new flows.
    alive: HashSet<String>,
    wronged: BTreeSet<String>,
    /// The fewest backends with new flows that a pool had on a node.
    fewest: BTreeMap<String, usize>,
}

#[derive(Debug)]
struct Waiting {
    backend: String,
    wanted: Wanted,
    nodes: Vec<Standing>,
    tell: Option<oneshot::Sender<Applied>>,
}

/// How far one node is with one change.
#[derive(Clone, Copy, Debug)]
enum Standing {
    Waits,
    /// Published then; the report of this number says so.
    Published(Instant, u64),
    Acknowledged(Instant, Instant),
}

/// What was seen of a node the last time.
#[derive(Clone, Debug, Default)]
struct Last {
    pools: BTreeMap<String, u64>,
    reports: u64,
}

impl Observer {
    /// Looks at these nodes from now on.
    pub(super) fn start(nodes: Vec<NodeWithoutPorts>) -> std::io::Result<Self> {
        let state = Mutex::new(State::default());
        let shared = Arc::new(Shared { nodes, stop: AtomicBool::new(false), state });
        let own = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("observer".to_owned()).spawn(move || {
            let mut last = vec![Last::default(); own.nodes.len()];
            while !own.stop.load(Ordering::Relaxed) {
                own.look(&mut last);
                std::thread::sleep(PAUSE);
            }
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// The nodes.
    pub(super) fn nodes(&self) -> &[NodeWithoutPorts] {
        &self.shared.nodes
    }

    /// To be called before what leads to it is done.
    pub(super) fn expect(&self, backend: &str, wanted: Wanted) -> oneshot::Receiver<Applied> {
        let (tell, told) = oneshot::channel();
        let nodes = vec![Standing::Waits; self.shared.nodes.len()];
        let backend = backend.to_owned();
        self.shared.lock().waiting.push(Waiting { backend, wanted, nodes, tell: Some(tell) });
        told
    }

    /// The backend is alive: should any node give it no new flows, that is wrong.
    pub(super) fn lives(&self, backend: &str, alive: bool) {
        let mut state = self.shared.lock();
        match alive {
            true => state.alive.insert(backend.to_owned()),
            false => state.alive.remove(backend),
        };
    }

    /// Backends that lived and got no new flows somewhere, since this was asked last.
    pub(super) fn take_wronged(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.shared.lock().wronged)
    }

    /// The fewest backends with new flows that any node had in any version of a pool since this
    /// was asked last; `None`: there was no version since.
    pub(super) fn take_fewest(&self, pool: &str) -> Option<usize> {
        self.shared.lock().fewest.remove(pool)
    }

    /// Backends with new flows of a pool, for each node.
    pub(super) fn eligible(&self, pool: &str) -> Vec<usize> {
        let count = |node: &NodeWithoutPorts| {
            let node = node.node().lock();
            let own = node.pools().filter(|snapshot| snapshot.pool_id == pool);
            own.flat_map(|snapshot| &snapshot.backends).filter(|b| b.is_eligible()).count()
        };
        self.shared.nodes.iter().map(count).collect()
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to say that is not known.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, last: &mut [Last]) {
        for (number, (node, last)) in self.nodes.iter().zip(last).enumerate() {
            let view = node.status().view();
            let now = Instant::now();
            let mut state = self.lock();
            if view.pools != last.pools {
                // The report of these tables is the next one, if none was sent since the last
                // look; else most likely the one that was.
                let report = last.reports.saturating_add(1);
                state.published(number, node, now, report);
                last.pools = view.pools;
            }
            last.reports = view.reports;
            state.acknowledged(number, view.acknowledged, now);
        }
    }
}

impl State {
    fn published(&mut self, number: usize, node: &NodeWithoutPorts, now: Instant, report: u64) {
        let node = node.node().lock();
        for pool in node.pools() {
            let mut eligible = 0;
            for backend in &pool.backends {
                eligible += usize::from(backend.is_eligible());
                if !backend.is_eligible() && self.alive.contains(&backend.id) {
                    self.wronged.insert(backend.id.clone());
                }
                let wait = self.waiting.iter_mut().filter(|wait| wait.backend == backend.id);
                for wait in wait {
                    if let Some(standing @ Standing::Waits) = wait.nodes.get_mut(number)
                        && wait.wanted.holds(backend)
                    {
                        *standing = Standing::Published(now, report);
                    }
                }
            }
            let fewest = self.fewest.entry(pool.pool_id.clone()).or_insert(eligible);
            *fewest = eligible.min(*fewest);
        }
    }

    fn acknowledged(&mut self, number: usize, acknowledged: u64, now: Instant) {
        for wait in &mut self.waiting {
            if let Some(standing) = wait.nodes.get_mut(number)
                && let Standing::Published(published, report) = *standing
                && report <= acknowledged
            {
                *standing = Standing::Acknowledged(published, now);
            }
        }
        self.waiting.retain_mut(|wait| match wait.applied() {
            None => true,
            Some(applied) => {
                // Who asked may have given up.
                let _ = wait.tell.take().map(|tell| tell.send(applied));
                false
            }
        });
    }
}

impl Waiting {
    /// Once all nodes have it.
    fn applied(&self) -> Option<Applied> {
        let each = self.nodes.iter().map(|standing| match standing {
            Standing::Acknowledged(published, acknowledged) => Some((*published, *acknowledged)),
            _ => None,
        });
        let each: Vec<(Instant, Instant)> = each.collect::<Option<_>>()?;
        Some(Applied {
            published: each.iter().map(|(published, _)| *published).max()?,
            acknowledged: each.iter().map(|(_, acknowledged)| *acknowledged).max()?,
        })
    }
}

impl Wanted {
    fn holds(self, backend: &BackendEntry) -> bool {
        match self {
            Self::Known => true,
            Self::Weight(weight) => backend.is_eligible() && backend.weight == weight,
            Self::Eligible => backend.is_eligible(),
            Self::Out => !backend.is_eligible(),
            Self::Evicted => backend.state == BackendState::Evicted,
        }
    }
}
