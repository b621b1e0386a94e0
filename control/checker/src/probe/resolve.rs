//! Names in readiness URLs: looked up at most every 10 s, and a few at a time.
//!
//! The system's resolver blocks a thread for as long as it likes. So hundreds of probes a second
//! must not each ask it, and when it hangs, it may hold a few threads but not all. A name that
//! does not resolve says nothing about the backend, and the last known addresses are used on.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::lookup_host;
use tokio::sync::Semaphore;

/// So long an answer is used before it is asked for again.
const FRESH: Duration = Duration::from_secs(10);
/// Lookups at a time; each holds a thread.
const AT_ONCE: usize = 8;

pub(super) struct Resolver {
    known: Mutex<HashMap<String, Known>>,
    turns: Arc<Semaphore>,
}

struct Known {
    addresses: Vec<IpAddr>,
    at: Instant,
}

impl Resolver {
    /// The addresses of `host`, which may be an address itself.
    pub(super) async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        if let Ok(ip) = host.parse() {
            return Ok(vec![ip]);
        }
        if let Some(fresh) = self.known(host, Some(FRESH)) {
            return Ok(fresh);
        }
        let Ok(turn) = Arc::clone(&self.turns).try_acquire_owned() else {
            let why = "the name server is slow".to_owned();
            return self.known(host, None).ok_or(why);
        };
        let name = host.to_owned();
        // A task of its own: it keeps its turn until the system's resolver is done, also when
        // this probe is over by then.
        let lookup = tokio::spawn(async move {
            let found: std::io::Result<Vec<IpAddr>> =
                lookup_host((name.as_str(), 0)).await.map(|all| all.map(|a| a.ip()).collect());
            drop(turn);
            found
        });
        let why = match lookup.await {
            Ok(Ok(addresses)) if !addresses.is_empty() => {
                let known = Known { addresses: addresses.clone(), at: Instant::now() };
                self.lock().insert(host.to_owned(), known);
                return Ok(addresses);
            }
            Ok(Ok(_)) => "it has no address".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        self.known(host, None).ok_or_else(|| format!("{host} does not resolve: {why}"))
    }

    /// Forgets the others.
    pub(super) fn keep(&self, wanted: &HashSet<String>) {
        self.lock().retain(|host, _| wanted.contains(host));
    }

    fn known(&self, host: &str, younger_than: Option<Duration>) -> Option<Vec<IpAddr>> {
        let known = self.lock();
        let found = known.get(host)?;
        let fresh = younger_than.is_none_or(|age| found.at.elapsed() < age);
        fresh.then(|| found.addresses.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Resolver {
    fn default() -> Self {
        Self { known: Mutex::default(), turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}
