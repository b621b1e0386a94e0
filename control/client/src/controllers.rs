//! The controllers as one: where the leader is, and the connection to it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::v1::lb_control_plane_client::LbControlPlaneClient;
use tokio::time::{Instant, sleep, timeout};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

use crate::credentials::{Bearer, Credentials};
use crate::error::chain;
use crate::leading::{Leading, Next};
use crate::{Address, Backoff, Error, Settings};

/// The metadata key under which a follower names the leader's address.
pub const LEADER_METADATA: &str = "weir-leader";

/// An attempt gets half of the time that is left, so that another controller can still be asked,
/// but not less than this.
const SHORTEST_ATTEMPT: Duration = Duration::from_secs(2);

/// The generated client of `weir.v1`, over a connection that several users share.
pub type Client = LbControlPlaneClient<InterceptedService<Channel, Bearer>>;

/// The controllers as one. Cheap to clone; clones share what they know.
#[derive(Clone)]
pub struct Controllers {
    shared: Arc<Shared>,
}

/// The controller at the other end of a [`Client`], and the connection to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    address: Address,
    connection: u64,
}

struct Shared {
    settings: Settings,
    /// Whether the endpoints are `https`.
    secure: bool,
    credentials: Mutex<Credentials>,
    state: Mutex<State>,
}

/// Which controller comes next, and the connection to it.
struct State {
    leading: Leading,
    connection: Option<Connection>,
    /// Connections made so far.
    made: u64,
}

struct Connection {
    peer: Peer,
    client: Client,
}

impl Controllers {
    /// Checks the settings and reads the files they name. Connects to nothing yet.
    ///
    /// # Errors
    /// When an endpoint is not a controller's URL, the endpoints differ in scheme, a file cannot
    /// be read or does not hold what it should (the error names it), or a token would cross the
    /// network in clear.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let endpoints: Vec<Address> =
            settings.endpoints.iter().map(|text| Address::parse(text)).collect::<Result<_, _>>()?;
        let first = endpoints.first().ok_or(Error::NoEndpoints)?;
        if let Some(other) = endpoints.iter().find(|other| other.is_secure() != first.is_secure()) {
            return Err(Error::MixedSchemes { first: first.clone(), other: other.clone() });
        }
        if settings.tls.is_some() && !first.is_secure() {
            return Err(Error::TlsUnused(first.clone()));
        }
        if settings.token_file.is_some() {
            let in_clear = |address: &&Address| !address.is_secure() && !address.is_loopback();
            if let Some(address) = endpoints.iter().find(in_clear) {
                return Err(Error::TokenInClear(address.clone()));
            }
        }
        let credentials = Credentials::read(&settings, first.is_secure())?;
        // Finds out now whether certificate and key belong together.
        endpoint(&settings, first, &credentials)?;
        let secure = first.is_secure();
        let state = State { leading: Leading::new(endpoints), connection: None, made: 0 };
        let shared = Shared {
            settings,
            secure,
            credentials: Mutex::new(credentials),
            state: Mutex::new(state),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// A unary call to the leader, wherever it is: follows hints, tries the other controllers,
    /// and pauses between rounds, until `within` is over. `request` makes one attempt with the
    /// client it is given, and is called again for the next.
    ///
    /// # Errors
    /// The leader's own status, as it is. Else UNAVAILABLE when no leader was reached in time,
    /// and DEADLINE_EXCEEDED when one was and did not answer: then the request may have been
    /// carried out.
    pub async fn call<T, F>(
        &self,
        within: Duration,
        mut request: impl FnMut(Client) -> F,
    ) -> Result<T, Status>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let end = Instant::now() + within;
        let mut backoff = Backoff::default();
        let mut last = "no attempt was made".to_owned();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let next = match timeout(left, self.connect()).await {
                Err(_) => return Err(no_leader(within, &last)),
                Ok(Err(error)) => {
                    last = error.to_string();
                    Next::AfterPause
                }
                Ok(Ok((client, peer))) => {
                    let left = end.saturating_duration_since(Instant::now());
                    let limit = match self.shared.settings.endpoints.len() {
                        1 => left,
                        _ => (left / 2).max(SHORTEST_ATTEMPT).min(left),
                    };
                    match timeout(limit, request(client)).await {
                        Ok(Ok(answer)) => {
                            self.worked(&peer);
                            return Ok(answer.into_inner());
                        }
                        Ok(Err(status)) if is_final(&status) => {
                            if status.code() == Code::Unauthenticated {
                                self.failed(&peer, &status);
                            }
                            return Err(status);
                        }
                        Ok(Err(status)) => {
                            last = format!("controller {peer}: {}", status.message());
                            self.failed(&peer, &status)
                        }
                        Err(_) => {
                            last = format!("controller {peer}: no answer within {limit:?}");
                            let status = Status::deadline_exceeded(&last);
                            let next = self.failed(&peer, &status);
                            if Instant::now() >= end {
                                return Err(status);
                            }
                            next
                        }
                    }
                }
            };
            if next == Next::AfterPause {
                let left = end.saturating_duration_since(Instant::now());
                sleep(backoff.pause().min(left)).await;
            }
            if Instant::now() >= end {
                return Err(no_leader(within, &last));
            }
        }
    }

    /// A client for a long stream, at the leader as far as it is known. Tries each endpoint at
    /// most once, each within the connect timeout.
    ///
    /// A connection is not an answer: bound the wait for the stream to open.
    ///
    /// # Errors
    /// The last attempt's error when no controller could be connected to: pause, and try again.
    pub async fn connect(&self) -> Result<(Client, Peer), Error> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let address = {
                let state = self.lock();
                let address = state.leading.target().clone();
                if let Some(made) = state.connection.as_ref().filter(|c| c.peer.address == address)
                {
                    return Ok((made.client.clone(), made.peer.clone()));
                }
                address
            };
            match self.establish(&address).await {
                Ok(client) => return Ok(self.keep(address, client)),
                Err(error) => {
                    tracing::debug!(%error, "no connection");
                    // The others may move on meanwhile: attempts are counted here, too.
                    let next = self.leave(&address, None);
                    if next == Next::AfterPause || attempts > self.shared.settings.endpoints.len() {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Says that a stream or call through `peer` failed, so that the next connection goes to the
    /// leader that `status` names, else to another endpoint. A stream that ended without an error
    /// is told as UNAVAILABLE. What is no sign of a wrong or lost controller (such as
    /// RESOURCE_EXHAUSTED) changes nothing.
    pub fn failed(&self, peer: &Peer, status: &Status) -> Next {
        let lost = std::error::Error::source(status).is_some();
        match status.code() {
            Code::Unavailable
            | Code::Unknown
            | Code::Internal
            | Code::Cancelled
            | Code::DeadlineExceeded => {}
            // The token may have been renewed: the next connection reads it again.
            Code::Unauthenticated => {
                self.forget(peer);
                return Next::AfterPause;
            }
            _ if lost => {}
            _ => return Next::AfterPause,
        }
        self.forget(peer);
        self.leave(&peer.address, self.hint(status, &peer.address))
    }

    /// Says that `peer` answers: it is the leader. Without this, the next failure may cost a
    /// pause that was not needed.
    pub fn worked(&self, peer: &Peer) {
        self.lock().leading.worked(&peer.address);
    }

    /// The controller that is asked next, to be shown.
    #[must_use]
    pub fn address(&self) -> Address {
        self.lock().leading.target().clone()
    }

    /// The settings as given. They name files, and hold no secrets.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The leader that `status` names, if it may be followed there.
    fn hint(&self, status: &Status, from: &Address) -> Option<Address> {
        let text = status.metadata().get(LEADER_METADATA)?.to_str().ok()?;
        if text.is_empty() {
            return None;
        }
        let refused = |why: &str| {
            tracing::warn!(%from, leader = text.get(..200).unwrap_or(text), why, "hint not followed");
        };
        let leader = Address::parse(text).map_err(|error| refused(&error.to_string())).ok()?;
        let secure = self.shared.secure;
        if leader.is_secure() != secure {
            refused("the endpoints have another scheme");
            return None;
        }
        if self.shared.settings.token_file.is_some() && !secure && !leader.is_loopback() {
            refused("the token is not sent in clear");
            return None;
        }
        (leader != *from).then_some(leader)
    }

    /// Leaves `address` for the leader or the next endpoint, unless somebody else has.
    fn leave(&self, address: &Address, hint: Option<Address>) -> Next {
        let mut state = self.lock();
        let next = state.leading.leave(address, hint);
        let State { leading, connection, .. } = &mut *state;
        // One connection is kept, to where all go.
        if connection.as_ref().is_some_and(|made| made.peer.address != *leading.target()) {
            *connection = None;
        }
        next
    }

    /// Drops the connection of `peer`, unless there is a newer one.
    fn forget(&self, peer: &Peer) {
        let mut state = self.lock();
        if state.connection.as_ref().is_some_and(|made| made.peer == *peer) {
            state.connection = None;
        }
    }

    /// Keeps a new connection for the other users.
    fn keep(&self, address: Address, client: Client) -> (Client, Peer) {
        let mut state = self.lock();
        state.made += 1;
        let peer = Peer { address, connection: state.made };
        if *state.leading.target() == peer.address {
            match &state.connection {
                // Two users connected at the same time: both use the first connection.
                Some(made) if made.peer.address == peer.address => {
                    return (made.client.clone(), made.peer.clone());
                }
                _ => {
                    state.connection =
                        Some(Connection { peer: peer.clone(), client: client.clone() });
                }
            }
        }
        (client, peer)
    }

    async fn establish(&self, address: &Address) -> Result<Client, Error> {
        let settings = &self.shared.settings;
        let credentials = self.credentials(address);
        let failed = |problem| Error::Connect { address: address.clone(), problem };
        let endpoint = endpoint(settings, address, &credentials)?;
        let channel = match timeout(settings.connect_timeout, endpoint.connect()).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return Err(failed(chain(&error))),
            Err(_) => {
                let limit = settings.connect_timeout;
                return Err(failed(format!("not connected within {limit:?}")));
            }
        };
        Ok(LbControlPlaneClient::with_interceptor(channel, credentials.bearer)
            .max_decoding_message_size(settings.largest_message))
    }

    /// What the files say now; what they said before when they cannot be read now.
    fn credentials(&self, address: &Address) -> Credentials {
        let mut known = self.shared.credentials.lock().unwrap_or_else(PoisonError::into_inner);
        match Credentials::read(&self.shared.settings, address.is_secure()) {
            Ok(read) => *known = read,
            Err(error) => tracing::warn!(%error, "going on with what was read before"),
        }
        known.clone()
    }
}

impl fmt::Debug for Controllers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Controllers")
            .field("endpoints", &self.shared.settings.endpoints)
            .field("address", &self.address())
            .finish_non_exhaustive()
    }
}

impl Peer {
    /// The controller's address.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

/// The leader's own word: not from the transport (that has a source), and not a follower's.
fn is_final(status: &Status) -> bool {
    status.code() != Code::Unavailable && std::error::Error::source(status).is_none()
}

fn no_leader(within: Duration, last: &str) -> Status {
    Status::unavailable(format!("no leader answered within {within:?}; last: {last}"))
}

fn endpoint(
    settings: &Settings,
    address: &Address,
    credentials: &Credentials,
) -> Result<Endpoint, Error> {
    let wrong = |error: tonic::transport::Error| Error::Tls {
        address: address.clone(),
        problem: chain(&error),
    };
    let endpoint = Endpoint::from_shared(address.as_str().to_owned())
        .and_then(|endpoint| endpoint.user_agent(concat!("weir/", env!("CARGO_PKG_VERSION"))))
        .map_err(wrong)?
        .connect_timeout(settings.connect_timeout)
        .http2_keep_alive_interval(settings.keep_alive_interval)
        .keep_alive_timeout(settings.keep_alive_timeout)
        .keep_alive_while_idle(true);
    match &credentials.tls {
        Some(tls) => endpoint.tls_config(tls.clone()).map_err(wrong),
        None => Ok(endpoint),
    }
}
