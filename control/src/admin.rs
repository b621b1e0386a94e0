//! The admin interface of a node: what it is doing, over HTTP.
//!
//! Health and readiness for whoever routes to the node, metrics for Prometheus, pools and flows
//! for the operator, and one thing that can be changed: a backend can be drained on this node
//! (SPEC section 8). The one idea: everything is read where it already is. The
//! counters are the workers' own, names and states are the [`Node`]'s, and a series exists
//! exactly as long as what it counts.
//!
//! Invariants:
//! - It runs on the control thread, so no handler blocks: the node is locked for a rendering,
//!   never across an `await`, waiting (for a worker's answer) has an end, and tables are built on
//!   another thread.
//! - Requests are bounded: in number, in size, in time ([`serve`]); a dump of flows in how often
//!   and how much.
//! - A pool's hash secret never leaves the node.
//! - With a token ([`Token`]), whoever does not show it learns whether the node is alive and ready,
//!   and nothing else.

mod drain;
mod dump;
mod flows;
mod health;
pub mod metrics;
mod pools;
mod response;
mod router;
mod server;
mod sources;
mod token;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use router::router;
pub use server::serve;
pub use sources::{BufferSource, PortSource};
pub use token::Token;

use crate::node::Node;
use crate::shared::SharedNode;

/// What the admin interface shows, shared with the loop that steps the node.
pub struct AdminState {
    node: SharedNode,
    token: Option<Token>,
    ports: Vec<Box<dyn PortSource>>,
    buffers: Vec<Box<dyn BufferSource>>,
    clock: Box<dyn Fn() -> u64 + Send + Sync>,
    started: u64,
    dumps: dump::Dumps,
    busy: Mutex<metrics::BusyWindows>,
}

impl AdminState {
    /// Takes over a node whose workers have been added.
    ///
    /// `ports` are in the order of the configuration, `buffers` in the order of the workers;
    /// either may be shorter, what is missing is not shown. `clock` gives nanoseconds and is the
    /// clock of the workers.
    pub fn new(
        node: Node,
        ports: Vec<Box<dyn PortSource>>,
        buffers: Vec<Box<dyn BufferSource>>,
        clock: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Arc<Self> {
        Self::guarded(SharedNode::new(node), ports, buffers, clock, None)
    }

    /// As [`AdminState::new`], of a node that others look after too, and for those who show the
    /// token, if there is one.
    pub fn guarded(
        node: SharedNode,
        ports: Vec<Box<dyn PortSource>>,
        buffers: Vec<Box<dyn BufferSource>>,
        clock: impl Fn() -> u64 + Send + Sync + 'static,
        token: Option<Token>,
    ) -> Arc<Self> {
        Arc::new(Self {
            node,
            token,
            ports,
            buffers,
            started: clock(),
            clock: Box::new(clock),
            dumps: dump::Dumps::default(),
            busy: Mutex::default(),
        })
    }

    /// The node. Not to be held across an `await`.
    pub fn lock_node(&self) -> MutexGuard<'_, Node> {
        self.node.lock()
    }

    /// The node, for those who look after it as well.
    pub fn node(&self) -> &SharedNode {
        &self.node
    }

    /// Nanoseconds on the clock of the workers.
    fn now(&self) -> u64 {
        (self.clock)()
    }
}

impl fmt::Debug for AdminState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminState").field("ports", &self.ports.len()).finish_non_exhaustive()
    }
}

/// Locks whatever happened to whoever held the lock before: what is behind it is a set of plain
/// values, each valid by itself, and a node that goes on beats one that does not.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
