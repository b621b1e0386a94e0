//! One probe of one backend: does it answer?
//!
//! There are three findings, not two. A probe that could not be made, because this machine has
//! no descriptor, no program or no name server left, says nothing about the backend: it is
//! [`Finding::NotProbed`], and no vote against it. Everything the network or the backend did,
//! or did not do in time, is.

mod command;
mod http;
mod resolve;
mod tcp;
#[cfg(test)]
mod tests;
mod tls;
mod udp;

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::Error;
pub(crate) use http::HttpProbe;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// A connection that is established.
    Tcp(SocketAddr),
    /// GET, and the expected status.
    Http(HttpProbe),
    /// A datagram for a datagram.
    Udp { address: SocketAddr, payload: Arc<[u8]> },
    /// A program that ends with 0: the program and its arguments.
    Command(Vec<String>),
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// Answered as expected, in time.
    Pass,
    /// Refused, or answered something else; why, in words.
    Fail(String),
    /// No answer in time.
    Timeout(Duration),
    /// Says nothing about the backend; why, in words.
    NotProbed(String),
}

/// What all probes share.
pub(crate) struct Prober {
    tls: Arc<rustls::ClientConfig>,
    resolver: resolve::Resolver,
    commands: Semaphore,
}

impl Probe {
    /// Its kind, as metrics call it.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Tcp(_) => Kind::Tcp,
            Self::Http(_) => Kind::Http,
            Self::Udp { .. } => Kind::Udp,
            Self::Command(_) => Kind::Command,
        }
    }

    /// The name that has to be looked up.
    pub(crate) fn host(&self) -> Option<&str> {
        match self {
            Self::Http(http) => Some(http.host()),
            _ => None,
        }
    }
}

/// The kinds of probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Tcp,
    Http,
    Udp,
    Command,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Tcp, Self::Http, Self::Udp, Self::Command];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http => "http",
            Self::Udp => "udp",
            Self::Command => "command",
        }
    }
}

impl Prober {
    /// `probe_ca`: certificates trusted beside the system's; `max_commands`: programs at once.
    ///
    /// # Errors
    /// When the file is not one of certificates.
    pub(crate) fn new(probe_ca: Option<&Path>, max_commands: usize) -> Result<Self, Error> {
        Ok(Self {
            tls: tls::config(probe_ca)?,
            resolver: resolve::Resolver::default(),
            commands: Semaphore::new(max_commands),
        })
    }

    /// Makes the probe. `started` is called when it really starts: a program may have to wait
    /// for its turn before, for at most `limit`.
    pub(crate) async fn probe(
        &self,
        probe: &Probe,
        limit: Duration,
        started: impl FnOnce(),
    ) -> Finding {
        if let Probe::Command(argv) = probe {
            let Ok(Ok(_turn)) = timeout(limit, self.commands.acquire()).await else {
                started();
                return Finding::NotProbed("too many programs are running".to_owned());
            };
            started();
            return command::probe(argv, limit).await;
        }
        started();
        let finding = async {
            match probe {
                Probe::Tcp(address) => tcp::probe(*address).await,
                Probe::Http(http) => http::probe(http, &self.tls, &self.resolver).await,
                Probe::Udp { address, payload } => udp::probe(*address, payload).await,
                Probe::Command(_) => Finding::Pass, // answered above
            }
        };
        timeout(limit, finding).await.unwrap_or(Finding::Timeout(limit))
    }

    /// Forgets names that no probe needs any more.
    pub(crate) fn keep_names(&self, wanted: &HashSet<String>) {
        self.resolver.keep(wanted);
    }
}

impl Finding {
    /// What an error of a socket says: about this machine, or about the way and the backend?
    pub(crate) fn of(error: &io::Error) -> Self {
        use rustix::io::Errno;
        let errno = Errno::from_io_error(error);
        match errno {
            // This machine has run out of something, or forbids it.
            Some(
                Errno::MFILE
                | Errno::NFILE
                | Errno::NOBUFS
                | Errno::NOMEM
                | Errno::ADDRNOTAVAIL
                | Errno::ADDRINUSE
                | Errno::AFNOSUPPORT
                | Errno::PERM
                | Errno::ACCESS,
            ) => Self::NotProbed(error.to_string()),
            Some(Errno::CONNREFUSED) => Self::Fail("connection refused".to_owned()),
            Some(Errno::CONNRESET) => Self::Fail("connection reset".to_owned()),
            Some(Errno::HOSTUNREACH) => Self::Fail("host unreachable".to_owned()),
            Some(Errno::NETUNREACH) => Self::Fail("network unreachable".to_owned()),
            _ => Self::Fail(error.to_string()),
        }
    }

    /// Why, in words; empty for a pass.
    pub(crate) fn detail(&self) -> String {
        match self {
            Self::Pass => String::new(),
            Self::Fail(why) => why.clone(),
            Self::Timeout(limit) => format!("no answer within {limit:?}"),
            Self::NotProbed(why) => format!("not probed: {why}"),
        }
    }

    /// The findings, as metrics call them.
    pub(crate) const NAMES: [&str; 4] = ["pass", "fail", "timeout", "not_probed"];

    /// Index into [`Finding::NAMES`].
    pub(crate) fn index(&self) -> usize {
        match self {
            Self::Pass => 0,
            Self::Fail(_) => 1,
            Self::Timeout(_) => 2,
            Self::NotProbed(_) => 3,
        }
    }
}
