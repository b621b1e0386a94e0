//! The way to the controllers, for one command.
//!
//! A unary call ends within `--timeout`, whatever happens: the client follows the leader within
//! it, and a controller that asks to back off (RESOURCE_EXHAUSTED), or to do it again (ABORTED), is
//! asked again within it. A
//! stream that is followed goes on across controllers; only its first message has a bound.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use client::{Backoff, Client, Controllers, Next, Settings, Tls};
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Response, Status, Streaming};

use crate::failure::Failure;
use crate::output::Output;

/// Where the controllers are, and who calls.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    /// URL of a controller; may be given several times, any of them will do.
    #[arg(
        long = "endpoint",
        value_name = "URL",
        global = true,
        env = "WEIR_ENDPOINTS",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:9190"
    )]
    endpoints: Vec<String>,
    /// Certificates that sign the controllers' (PEM) [default: those the system trusts].
    #[arg(long, value_name = "FILE", global = true, env = "WEIR_CA")]
    ca: Option<PathBuf>,
    /// Our certificate (PEM).
    #[arg(long, value_name = "FILE", global = true, env = "WEIR_CERT")]
    cert: Option<PathBuf>,
    /// The key of our certificate (PEM).
    #[arg(long, value_name = "FILE", global = true, env = "WEIR_KEY")]
    key: Option<PathBuf>,
    /// The name that the controllers' certificates bear [default: the host of the URL].
    #[arg(long, value_name = "NAME", global = true, env = "WEIR_SERVER_NAME")]
    server_name: Option<String>,
    /// A file that holds our token.
    #[arg(long, value_name = "FILE", global = true, env = "WEIR_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// How long a call may take, the search for the leader included.
    #[arg(
        long,
        value_name = "SECONDS",
        global = true,
        default_value_t = 10,
        value_parser = clap::value_parser!(u64).range(1..=3600)
    )]
    timeout: u64,
}

impl Connection {
    /// The same controllers, called by the one whose token this is.
    pub(crate) fn with_token(&self, token_file: PathBuf) -> Self {
        Self { token_file: Some(token_file), cert: None, key: None, ..self.clone() }
    }
}

/// The controllers as one command sees them.
pub(crate) struct Session {
    controllers: Controllers,
    timeout: Duration,
}

impl Session {
    /// # Errors
    /// The arguments do not fit together, or a file cannot be read. Connects to nothing yet.
    pub(crate) fn new(connection: &Connection) -> Result<Self, Failure> {
        let tls = Tls {
            ca: connection.ca.clone(),
            certificate: connection.cert.clone(),
            key: connection.key.clone(),
            server_name: connection.server_name.clone(),
        };
        let settings = Settings {
            tls: (tls != Tls::default()).then_some(tls),
            token_file: connection.token_file.clone(),
            ..Settings::new(connection.endpoints.iter().map(|url| url.trim()))
        };
        let controllers = Controllers::new(settings).map_err(Failure::usage)?;
        Ok(Self { controllers, timeout: Duration::from_secs(connection.timeout) })
    }

    /// One call, answered by the leader within the timeout.
    ///
    /// # Errors
    /// The status of the controller, in words.
    pub(crate) async fn call<Q, T, F>(
        &self,
        name: &str,
        request: Q,
        send: impl Fn(Client, Q) -> F,
    ) -> Result<T, Failure>
    where
        Q: Clone,
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.ask(request, send).await.map_err(|status| self.failure(name, &status))
    }

    /// [`Session::call`] with the status as it is, for those who know what to do about it.
    ///
    /// # Errors
    /// The status of the controller.
    pub(crate) async fn ask<Q, T, F>(
        &self,
        request: Q,
        send: impl Fn(Client, Q) -> F,
    ) -> Result<T, Status>
    where
        Q: Clone,
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let end = Instant::now() + self.timeout;
        let mut backoff = Backoff::default();
        let mut left = self.timeout;
        loop {
            let answer = self.controllers.call(left, |client| send(client, request.clone())).await;
            let pause = backoff.pause();
            match answer {
                Err(status)
                    if matches!(status.code(), Code::ResourceExhausted | Code::Aborted)
                        && Instant::now() + pause < end =>
                {
                    sleep(pause).await;
                    left = end.saturating_duration_since(Instant::now());
                }
                answer => return answer,
            }
        }
    }

    /// Follows a stream: `open` starts it, `each` sees its messages and says whether to go on.
    /// Loses a controller, finds another, and says so on the notes.
    ///
    /// # Errors
    /// No message or end within the timeout at first; a refusal that no other controller would
    /// take back; what `each` returns.
    pub(crate) async fn follow<M, F>(
        &self,
        name: &str,
        out: &mut Output<'_>,
        mut open: impl FnMut(Client) -> F,
        mut each: impl FnMut(&mut Output<'_>, M) -> Result<Follow, Failure>,
    ) -> Result<(), Failure>
    where
        F: Future<Output = Result<Response<Streaming<M>>, Status>>,
    {
        let end = Instant::now() + self.timeout;
        let mut backoff = Backoff::default();
        let mut opened = false;
        let mut lost = false;
        loop {
            let (status, next) = match timeout(self.timeout, self.controllers.connect()).await {
                Err(_) => (Status::unavailable("no connection in time"), Next::AfterPause),
                Ok(Err(error)) => (Status::unavailable(error.to_string()), Next::AfterPause),
                Ok(Ok((client, peer))) => {
                    let status = match timeout(self.timeout, open(client)).await {
                        Err(_) => Status::unavailable(format!("controller {peer}: no answer")),
                        Ok(Err(status)) => status,
                        Ok(Ok(stream)) => {
                            self.controllers.worked(&peer);
                            backoff.reset();
                            opened = true;
                            if std::mem::take(&mut lost) {
                                out.note(format_args!("connected to {peer}"))?;
                            }
                            match drive(stream.into_inner(), out, &mut each).await? {
                                None => return Ok(()),
                                Some(status) => status,
                            }
                        }
                    };
                    (status.clone(), self.controllers.failed(&peer, &status))
                }
            };
            let final_word = matches!(
                status.code(),
                Code::InvalidArgument
                    | Code::NotFound
                    | Code::PermissionDenied
                    | Code::Unauthenticated
                    | Code::Unimplemented
            );
            if final_word || (!opened && Instant::now() >= end) {
                return Err(self.failure(name, &status));
            }
            if opened && !lost {
                lost = true;
                let reason = crate::words::clean(status.message());
                out.note(format_args!("connection lost ({reason}), looking for the leader"))?;
            }
            if next == Next::AfterPause {
                sleep(backoff.pause()).await;
            }
        }
    }

    /// Where the last answer came from.
    pub(crate) fn leader(&self) -> String {
        self.controllers.address().to_string()
    }

    pub(crate) fn failure(&self, call: &str, status: &Status) -> Failure {
        match Failure::status(call, status) {
            Failure::Failed(message) if status.code() == Code::Unavailable => {
                let tried = self.controllers.settings().endpoints.join(", ");
                Failure::Failed(format!("{message}; endpoints: {tried}"))
            }
            failure => failure,
        }
    }
}

/// What a reader of a stream wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follow {
    On,
    Enough,
}

/// Shows messages until the stream ends, with its status, or the reader has enough: `None`.
async fn drive<M>(
    mut stream: Streaming<M>,
    out: &mut Output<'_>,
    each: &mut impl FnMut(&mut Output<'_>, M) -> Result<Follow, Failure>,
) -> Result<Option<Status>, Failure> {
    loop {
        match stream.message().await {
            Ok(Some(message)) => {
                if each(out, message)? == Follow::Enough {
                    return Ok(None);
                }
            }
            Ok(None) => return Ok(Some(Status::unavailable("the controller ended the stream"))),
            Err(status) => return Ok(Some(status)),
        }
    }
}
