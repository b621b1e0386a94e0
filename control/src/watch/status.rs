//! How it goes with the controller: what `/readyz`, the metrics and the reports to it read.
//!
//! Written by the thread that hears the controller, read by the others, behind a lock that is held
//! for a copy. Shows no snapshot, so no secret.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::cache::CacheState;
use crate::intake::{Reason, Refusal};

/// Without a connection for so long, what is served is called stale.
pub const STALE_AFTER: Duration = Duration::from_secs(15);
/// Pools that have counters of their own; refusals of others are counted as `other`.
const MAX_POOLS: usize = 1024;

/// See the module.
pub struct Status {
    clock: Box<dyn Fn() -> u64 + Send + Sync>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    started: u64,
    connected_to: Option<String>,
    last_error: Option<String>,
    /// When the controller was last heard, and when the connection ended.
    heard: Option<u64>,
    disconnected: Option<u64>,
    /// Unix nanoseconds of the cache that was started from.
    cache_saved_at_ns: Option<u64>,
    store_id: String,
    complete: bool,
    pools: BTreeMap<String, u64>,
    refusals: BTreeMap<String, Refusal>,
    refused: BTreeMap<(String, Reason), u64>,
    applied: u64,
    apply_last: u64,
    apply_total: u64,
    reports: u64,
    acknowledged: u64,
    cache: CacheState,
    cache_problem: Option<String>,
}

/// A copy of all that there is to show.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The controller that is connected.
    pub connected_to: Option<String>,
    /// Why there is none, or the last one was lost.
    pub last_error: Option<String>,
    /// Since when there is none, in nanoseconds; 0 while there is one.
    pub disconnected: u64,
    /// Time since the controller was last heard, nanoseconds. Before it was ever heard: the age of
    /// the cache, else the time since the start.
    pub age: u64,
    /// Not connected for [`STALE_AFTER`], or started from the cache and not connected yet.
    pub stale: bool,
    /// Any whole set has been in force, of the controller or of the cache.
    pub loaded: bool,
    /// The set in force came from the cache, and no controller has confirmed it yet.
    pub from_cache: bool,
    /// The store of the set in force.
    pub store_id: String,
    /// Versions in force.
    pub pools: BTreeMap<String, u64>,
    /// Pools whose last snapshot was refused, and why.
    pub refusals: BTreeMap<String, Refusal>,
    /// Refusals so far.
    pub refused: BTreeMap<(String, Reason), u64>,
    /// Changes that came into force.
    pub applied: u64,
    /// Nanoseconds from a message to its tables, of the last change.
    pub apply_last: u64,
    /// The same, of all together.
    pub apply_total: u64,
    /// Reports sent.
    pub reports: u64,
    /// Reports acknowledged.
    pub acknowledged: u64,
    /// How it goes with the cache.
    pub cache: CacheState,
    /// What was wrong with the cache at the start.
    pub cache_problem: Option<String>,
}

impl Status {
    /// Nothing heard yet. `clock` gives nanoseconds.
    pub fn new(clock: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        let inner = Inner { started: clock(), ..Inner::default() };
        Self { clock: Box::new(clock), inner: Mutex::new(inner) }
    }

    /// Nanoseconds on the clock.
    pub fn now(&self) -> u64 {
        (self.clock)()
    }

    /// All that there is to show.
    pub fn view(&self) -> View {
        let now = self.now();
        let inner = self.lock();
        let since = |then: u64| now.saturating_sub(then);
        let disconnected = match inner.connected_to {
            Some(_) => 0,
            None => since(inner.disconnected.unwrap_or(inner.started)),
        };
        let age = match (inner.heard, inner.cache_saved_at_ns) {
            (Some(heard), _) => since(heard),
            (None, Some(saved_at)) => unix_now_ns().saturating_sub(saved_at),
            (None, None) => since(inner.started),
        };
        let from_cache = inner.cache_saved_at_ns.is_some() && !inner.complete;
        let never = inner.connected_to.is_none() && inner.heard.is_none() && from_cache;
        View {
            connected_to: inner.connected_to.clone(),
            last_error: inner.last_error.clone(),
            disconnected,
            age,
            stale: never || Duration::from_nanos(disconnected) >= STALE_AFTER,
            loaded: inner.complete || inner.cache_saved_at_ns.is_some(),
            from_cache,
            store_id: inner.store_id.clone(),
            pools: inner.pools.clone(),
            refusals: inner.refusals.clone(),
            refused: inner.refused.clone(),
            applied: inner.applied,
            apply_last: inner.apply_last,
            apply_total: inner.apply_total,
            reports: inner.reports,
            acknowledged: inner.acknowledged,
            cache: inner.cache.clone(),
            cache_problem: inner.cache_problem.clone(),
        }
    }

    pub(super) fn connected(&self, controller: String) {
        let now = self.now();
        let mut inner = self.lock();
        inner.connected_to = Some(controller);
        inner.heard = Some(now);
    }

    pub(super) fn is_connected_elsewhere(&self, controller: &str) -> bool {
        self.lock().connected_to.as_deref().is_some_and(|connected| connected != controller)
    }

    pub(super) fn heard(&self) {
        let now = self.now();
        self.lock().heard = Some(now);
    }

    pub(super) fn lost(&self, error: String) {
        let now = self.now();
        let mut inner = self.lock();
        if inner.connected_to.take().is_some() {
            inner.disconnected = Some(now);
        }
        inner.last_error = Some(error);
    }

    /// The initial set is there; of the refusals, those of this stream are left.
    pub(super) fn completed(&self, refused: &BTreeSet<String>) {
        let mut inner = self.lock();
        inner.refusals.retain(|pool, _| refused.contains(pool));
        inner.complete = true;
        inner.last_error = None;
    }

    pub(super) fn loaded_from_cache(&self, saved_at_ns: u64) {
        self.lock().cache_saved_at_ns = Some(saved_at_ns);
    }

    pub(super) fn cache_unusable(&self, problem: String) {
        self.lock().cache_problem = Some(problem);
    }

    pub(super) fn cache_is(&self, state: CacheState) {
        self.lock().cache = state;
    }

    pub(super) fn refused(&self, pool: &str, refusal: Refusal) {
        let mut inner = self.lock();
        let known = inner.refused.keys().any(|(id, _)| id == pool);
        let room = known || inner.refused.len() < MAX_POOLS;
        let pool = if room { pool } else { "other" }.to_owned();
        *inner.refused.entry((pool.clone(), refusal.reason)).or_default() += 1;
        inner.refusals.insert(pool, refusal);
    }

    /// The last snapshot of a pool was not refused.
    pub(super) fn accepted(&self, pool: &str) {
        self.lock().refusals.remove(pool);
    }

    pub(super) fn in_force(&self, store_id: &str, pools: BTreeMap<String, u64>) {
        let mut inner = self.lock();
        inner.store_id = store_id.to_owned();
        inner.pools = pools;
    }

    pub(super) fn applied(&self, nanoseconds: u64) {
        let mut inner = self.lock();
        inner.applied += 1;
        inner.apply_last = nanoseconds;
        inner.apply_total += nanoseconds;
    }

    pub(super) fn reported(&self) {
        self.lock().reports += 1;
    }

    pub(super) fn acknowledged(&self) {
        let now = self.now();
        let mut inner = self.lock();
        inner.acknowledged += 1;
        inner.heard = Some(now);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Status").field("inner", &*self.lock()).finish_non_exhaustive()
    }
}

/// Nanoseconds since 1970, for what is shown and sent; nothing is decided by it.
pub(crate) fn unix_now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}
