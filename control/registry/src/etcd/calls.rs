//! Calls to etcd: one endpoint at a time, another after a failure, all within a deadline.
//!
//! A client per endpoint instead of one balanced client: a balancer hands calls to a dead member
//! as readily as to a live one (its queue is always empty). Here all calls go to one member until
//! one fails, then to the next, with a pause that doubles and jitters. A call that may be tried
//! again must be one that does no harm when it happens twice.
//!
//! Answers are also held against what is known: a linearizable read that shows a revision below
//! one seen before it was asked, or another cluster, is an answer of another store.

use std::future::Future;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use etcd_client::{
    Certificate, Client, ConnectOptions, KvClient, LeaseClient, ResponseHeader, TlsOptions,
    WatchClient,
};
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep, timeout};

use super::identity::Identity;
use super::settings::EtcdSettings;
use super::unsigned;
use crate::Revision;
use crate::error::Error;

/// Bytes of one answer: a snapshot of some 100,000 rows.
const ANSWER: usize = 64 * 1024 * 1024;

/// A silent connection is asked for a sign of life after this long; etcd takes it as an offence
/// when that is more often than every 5 s.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

pub(super) struct Calls {
    endpoints: Vec<Endpoint>,
    /// Counts up; the endpoint in use, modulo their number. Watches follow it.
    current: watch::Sender<usize>,
    options: ConnectOptions,
    timeout: Duration,
    /// The highest revision that an answer has shown.
    highest: AtomicI64,
}

struct Endpoint {
    url: String,
    client: Mutex<Option<Client>>,
}

/// One endpoint, for one attempt.
pub(super) struct Link<'a> {
    pub(super) kv: KvClient,
    pub(super) lease: LeaseClient,
    pub(super) watch: WatchClient,
    calls: &'a Calls,
    /// What was known when the attempt began.
    highest: i64,
}

/// Why an attempt failed.
pub(super) enum Trouble {
    /// Another endpoint, or the same a little later, may do.
    Again(String),
    /// It would fail again.
    Fatal(Error),
}

/// Pauses between attempts: doubling, with half of each random.
pub(super) struct Backoff {
    next: Duration,
}

impl Calls {
    pub(super) fn new(settings: EtcdSettings) -> Result<Self, Error> {
        if settings.endpoints.is_empty() {
            return Err(Error::Invalid("no etcd endpoint given".into()));
        }
        let mut options = ConnectOptions::new()
            .with_connect_timeout(settings.timeout / 3)
            .with_keep_alive(KEEP_ALIVE, settings.timeout)
            .with_keep_alive_while_idle(true)
            .with_require_leader(true);
        if let Some((name, password)) = settings.user {
            options = options.with_user(name, password.0).with_auto_token_refresh(true);
        }
        if let Some(tls) = settings.tls {
            let mut with =
                TlsOptions::new().ca_certificate(Certificate::from_pem(tls.authorities_pem));
            if let Some((certificate, key)) = tls.identity_pem {
                with = with.identity(etcd_client::Identity::from_pem(certificate, key));
            }
            if let Some(domain) = tls.domain {
                with = with.domain_name(domain);
            }
            options = options.with_tls(with);
        }
        let endpoint = |url| Endpoint { url, client: Mutex::new(None) };
        Ok(Self {
            endpoints: settings.endpoints.into_iter().map(endpoint).collect(),
            // Controllers that start together do not all ask the same member.
            current: watch::Sender::new(fastrand::usize(..1024)),
            options,
            timeout: settings.timeout,
            highest: AtomicI64::new(0),
        })
    }

    /// When a call that begins now must have ended.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// What a single endpoint is waited for.
    pub(super) fn patience(&self) -> Duration {
        self.timeout / 3
    }

    /// Attempts `call` until it is done, cannot be done, or `deadline` has come.
    pub(super) async fn until_done<'a, T, F>(
        &'a self,
        what: &'static str,
        deadline: Instant,
        mut call: impl FnMut(Link<'a>) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Trouble>>,
    {
        let mut backoff = Backoff::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let why = match self.once(left.min(self.patience()), &mut call).await {
                Ok(done) => return Ok(done),
                Err(Trouble::Fatal(error)) => return Err(error),
                Err(Trouble::Again(why)) => why,
            };
            tracing::debug!(what, why, "etcd call failed");
            let pause = backoff.pause();
            if Instant::now() + pause >= deadline {
                return Err(self.late(what, &why));
            }
            sleep(pause).await;
        }
    }

    /// One attempt on the endpoint in use; after a failure the next is in use.
    pub(super) async fn once<'a, T, F>(
        &'a self,
        limit: Duration,
        call: impl FnOnce(Link<'a>) -> F,
    ) -> Result<T, Trouble>
    where
        F: Future<Output = Result<T, Trouble>>,
    {
        let current = *self.current.borrow();
        let endpoint = &self.endpoints[current % self.endpoints.len()];
        let attempt = async { call(self.link(endpoint).await?).await };
        let done = match timeout(limit, attempt).await {
            Ok(done) => done,
            Err(_) => Err(Trouble::Again(format!("no answer within {limit:?}"))),
        };
        match done {
            Err(Trouble::Again(why)) => {
                self.leave(current);
                Err(Trouble::Again(format!("{}: {why}", endpoint.url)))
            }
            done => done,
        }
    }

    pub(super) fn late(&self, what: &'static str, last: &str) -> Error {
        Error::Timeout { what, after: self.timeout, last: format!("; {last}") }
    }

    /// The store is another now: its revisions say nothing about those seen before.
    pub(super) fn forget_revision(&self) {
        self.highest.store(0, Ordering::SeqCst);
    }

    async fn link<'a>(&'a self, endpoint: &Endpoint) -> Result<Link<'a>, Trouble> {
        let mut held = endpoint.client.lock().await;
        let client = match &mut *held {
            Some(client) => client,
            // Lazy, unless a password has to be exchanged for a token first.
            none => {
                let options = Some(self.options.clone());
                none.insert(Client::connect([endpoint.url.as_str()], options).await?)
            }
        };
        Ok(Link {
            kv: client.kv_client().max_decoding_message_size(ANSWER),
            lease: client.lease_client(),
            watch: client.watch_client().max_decoding_message_size(ANSWER),
            calls: self,
            highest: self.highest.load(Ordering::SeqCst),
        })
    }

    /// Only the first of several calls that failed on one endpoint moves on.
    fn leave(&self, current: usize) {
        self.current.send_if_modified(|now| {
            let first = *now == current;
            *now = now.wrapping_add(usize::from(first));
            first
        });
    }

    /// Tells when the endpoint in use, as of now, is left.
    pub(super) fn endpoint_left(&self) -> watch::Receiver<usize> {
        self.current.subscribe()
    }
}

impl Link<'_> {
    /// The revision of a linearizable answer, if it is one of the store `expected`.
    pub(super) fn check(
        &self,
        header: Option<&ResponseHeader>,
        expected: Option<&Identity>,
    ) -> Result<Revision, Trouble> {
        let header = header.ok_or_else(|| Trouble::Again("an answer without a header".into()))?;
        let other = expected.is_some_and(|known| known.cluster_id != header.cluster_id());
        if other || header.revision() < self.highest {
            return Err(Trouble::Fatal(Error::StoreReplaced));
        }
        self.calls.highest.fetch_max(header.revision(), Ordering::SeqCst);
        Ok(unsigned(header.revision()))
    }
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { next: Duration::from_millis(20) }
    }

    pub(super) fn pause(&mut self) -> Duration {
        let pause = self.next.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.next = (self.next * 2).min(Duration::from_secs(1));
        pause
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Fatal(error)
    }
}

impl From<etcd_client::Error> for Trouble {
    /// What the network or an election in etcd may have caused is worth another attempt.
    fn from(error: etcd_client::Error) -> Self {
        use etcd_client::Error as Etcd;
        let status = match error {
            Etcd::GRpcStatus(status) => status,
            Etcd::InvalidArgs(why) => return Self::Fatal(Error::Invalid(why)),
            Etcd::InvalidUri(why) => {
                return Self::Fatal(Error::Invalid(format!("etcd endpoint: {why}")));
            }
            other => return Self::Again(other.to_string()),
        };
        // tonic's codes, compared by their number: tonic itself is etcd-client's business.
        match (status.code() as i32, status.message()) {
            (3, why) => Self::Fatal(Error::Invalid(why.to_owned())),
            (8, why) if why.contains("space exceeded") => Self::Fatal(Error::storage("etcd", why)),
            (1 | 2 | 4 | 8 | 13 | 14, why) => Self::Again(format!("{}: {why}", status.code())),
            (_, why) => Self::Fatal(Error::storage("etcd", format!("{}: {why}", status.code()))),
        }
    }
}
