//! Accepts connections, shakes hands, and says who is there: for gRPC and for HTTP.
//!
//! [`Incoming`] is the stream that `tonic`'s `serve_with_incoming` takes. Handshakes run beside
//! each other, each with bounded patience; a connection holds one of a bounded number of places
//! until it is dropped, or has to make way (`seats.rs`); a peer that does not take what is written to it loses its connection.
//! Each handshake uses the certificates that are current then, so a reload needs no new listener.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;
use tonic::transport::server::Connected;

use crate::peer::Peer;
use crate::seats::{Seat, Seats};
use crate::tls::{Protocol, Tls};

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a peer may refuse to take a byte of what is written.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause after an accept that failed for want of file descriptors or memory.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// How long a connection that has to make way is waited for before another has to.
const MAKE_WAY: Duration = Duration::from_millis(100);
/// Connections between their handshake and the server.
const READY: usize = 16;

/// Where to accept, and how.
#[derive(Debug)]
pub struct Listening {
    /// Bound already.
    pub listener: TcpListener,
    /// TLS; without it the address must be loopback ([`crate::Access::build`] sees to that).
    pub tls: Option<Arc<Tls>>,
    /// Connections at a time. When there are as many, strangers make way, and where there is none
    /// left others wait.
    pub max_connections: usize,
}

/// Connections that are ready to be served; the listener is closed when it is dropped.
#[derive(Debug)]
pub struct Incoming {
    ready: mpsc::Receiver<Connection>,
    accepting: AbortHandle,
}

impl Incoming {
    /// Begins to accept, for a server of gRPC.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    #[must_use]
    pub fn grpc(listening: Listening) -> Self {
        Self::new(listening, Protocol::Grpc)
    }

    pub(crate) fn new(listening: Listening, protocol: Protocol) -> Self {
        let (sender, ready) = mpsc::channel(READY);
        let accepting = tokio::spawn(accept(listening, protocol, sender)).abort_handle();
        Self { ready, accepting }
    }
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.ready.poll_recv(cx).map(|connection| connection.map(Ok))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listening: Listening, protocol: Protocol, sender: mpsc::Sender<Connection>) {
    let places = Arc::new(Semaphore::new(listening.max_connections));
    let seats = Seats::new(listening.max_connections);
    let mut handshakes = JoinSet::new();
    loop {
        let (stream, address) = next(&listening.listener).await;
        let place = place(&places, &seats).await;
        let (seat, mut told_to_go) = seats.take();
        let config = listening.tls.as_ref().map(|tls| tls.config(protocol));
        let sender = sender.clone();
        handshakes.spawn(async move {
            let io = match config {
                None => Io::Plain(stream),
                Some(config) => {
                    let shaken = TlsAcceptor::from(config).accept(stream);
                    let shaken = tokio::select! {
                        shaken = timeout(HANDSHAKE_TIMEOUT, shaken) => shaken,
                        _ = &mut told_to_go => return,
                    };
                    match shaken {
                        Ok(Ok(stream)) => Io::Tls(Box::new(stream)),
                        Ok(Err(error)) => {
                            tracing::info!(peer = %address, %error, "TLS handshake failed");
                            return;
                        }
                        Err(_) => {
                            tracing::info!(peer = %address, "TLS handshake took too long");
                            return;
                        }
                    }
                }
            };
            // The server is gone, or takes it.
            let held = (seat, place);
            let _ = sender.send(Connection::new(io, address, held, told_to_go)).await;
        });
        while handshakes.try_join_next().is_some() {}
    }
}

/// A place for one more connection; where there is none, strangers make way, one after the other.
async fn place(places: &Arc<Semaphore>, seats: &Seats) -> OwnedSemaphorePermit {
    loop {
        if let Ok(place) = Arc::clone(places).try_acquire_owned() {
            return place;
        }
        seats.make_way();
        if let Ok(Ok(place)) = timeout(MAKE_WAY, Arc::clone(places).acquire_owned()).await {
            return place;
        }
    }
}

async fn next(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(peer = %address, %error, "no TCP_NODELAY");
                }
                return (stream, address);
            }
            // The peer gave up while it was queued.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// A connection whose peer is known.
#[derive(Debug)]
pub struct Connection {
    io: Io,
    peer: Peer,
    /// Runs while a write waits for the peer.
    stall: Option<Pin<Box<Sleep>>>,
    /// Ends when another needs the place more; `None` from then on.
    told_to_go: Option<oneshot::Receiver<()>>,
    _held: (Seat, OwnedSemaphorePermit),
}

#[derive(Debug)]
enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    fn new(
        io: Io,
        address: SocketAddr,
        held: (Seat, OwnedSemaphorePermit),
        told_to_go: oneshot::Receiver<()>,
    ) -> Self {
        let chain = match &io {
            Io::Plain(_) => None,
            Io::Tls(stream) => stream.get_ref().1.peer_certificates(),
        };
        let peer = Peer { whose: held.0.whose.clone(), ..Peer::new(Some(address), chain) };
        Self { io, peer, stall: None, told_to_go: Some(told_to_go), _held: held }
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Whether the place is another's from now on.
    ///
    /// # Errors
    /// Then, and at each call after it.
    fn stays(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if let Some(told) = &mut self.told_to_go
            && Pin::new(told).poll(cx).is_ready()
        {
            tracing::info!(peer = ?self.peer.address, "connection closed: others need its place");
            self.told_to_go = None;
        }
        match self.told_to_go {
            Some(_) => Ok(()),
            None => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "made way for another")),
        }
    }

    /// Gives a write that waits no more than [`STALL_TIMEOUT`].
    fn patient<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        self.stays(cx)?;
        if poll.is_ready() {
            self.stall = None;
            return poll;
        }
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(STALL_TIMEOUT)));
        ready!(stall.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes nothing")))
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stays(cx)?;
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Io::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Io::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        };
        self.patient(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Io::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        };
        self.patient(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(stream) => stream.is_write_vectored(),
            Io::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Io::Tls(stream) => Pin::new(stream).poll_flush(cx),
        };
        self.patient(cx, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        };
        self.patient(cx, poll)
    }
}
