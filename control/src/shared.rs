//! A node that several threads look after: the one that steps and serves it, and the one that
//! hears the controller.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::node::Node;

/// A [`Node`] behind a lock. Cheap to clone.
#[derive(Clone)]
pub struct SharedNode(Arc<Mutex<Node>>);

impl SharedNode {
    /// Takes over a node.
    pub fn new(node: Node) -> Self {
        Self(Arc::new(Mutex::new(node)))
    }

    /// The node: for a moment, never across an `await`, never for a table build.
    ///
    /// Whatever happened to whoever held the lock before: what is behind it is a set of plain
    /// values, each valid by itself, and a node that goes on beats one that does not.
    pub fn lock(&self) -> MutexGuard<'_, Node> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for SharedNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedNode").finish_non_exhaustive()
    }
}
