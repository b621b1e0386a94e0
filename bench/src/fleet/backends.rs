//! Backends: a listener for each, on addresses of its own, and the two ways to die.
//!
//! One that **refuses** has closed its listener: the kernel answers with RST. One that
//! **swallows** keeps it with an accept queue of one, which is full: the kernel drops every SYN
//! (`tcp_abort_on_overflow` is 0), so that a connection runs into its timeout, as with a machine
//! that has lost its power. No packet filter is touched.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Connections that wait to be taken, of a backend that lives.
const BACKLOG: i32 = 1024;
/// Connections that at most fill the queue of one that swallows.
const FILLERS: usize = 8;
/// A handshake over loopback is over when `connect` returns; a dropped SYN takes a second.
const FILLED: Duration = Duration::from_millis(50);
/// How long a request may take to come.
const REQUEST: Duration = Duration::from_secs(2);

/// How a backend dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Death {
    /// Connections are refused.
    Refusing,
    /// Nothing comes back.
    Swallowing,
}

/// All backends, on a thread of their own.
#[derive(Debug)]
pub(super) struct Backends {
    /// Gone only when all this is.
    runtime: Option<Runtime>,
    spawner: Handle,
    port: u16,
    ready: Arc<AtomicBool>,
    living: HashMap<Ipv4Addr, Living>,
    dead: HashMap<Ipv4Addr, Dead>,
}

#[derive(Debug)]
struct Living {
    listener: Arc<TcpListener>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
enum Dead {
    Refusing,
    Swallowing { listener: Arc<TcpListener>, _fillers: Vec<std::net::TcpStream> },
}

impl Backends {
    /// A backend at each address, all on one port.
    pub(super) fn start(addresses: &[Ipv4Addr], port: u16) -> Result<Self> {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).thread_name("backends").enable_all().build()?;
        let mut backends = Self {
            spawner: runtime.handle().clone(),
            runtime: Some(runtime),
            port,
            ready: Arc::new(AtomicBool::new(true)),
            living: HashMap::new(),
            dead: HashMap::new(),
        };
        for address in addresses {
            backends.listen(*address)?;
        }
        Ok(backends)
    }

    /// The port of all.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// What all say from now on when they are asked over HTTP: 200, or 503.
    pub(super) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// From now on the backend is dead. Blocks for some ten milliseconds.
    pub(super) async fn kill(&mut self, address: Ipv4Addr, death: Death) -> Result<()> {
        let living = self.living.remove(&address);
        let Living { listener, accepting } =
            living.with_context(|| format!("{address} is not alive"))?;
        accepting.abort();
        // Cancelled, which is what was asked for.
        let _ = accepting.await;
        let dead = match death {
            Death::Refusing => Dead::Refusing,
            Death::Swallowing => {
                SockRef::from(&*listener).listen(0)?;
                let target = SocketAddr::from((address, self.port));
                let filled = tokio::task::spawn_blocking(move || fill(target)).await??;
                Dead::Swallowing { listener, _fillers: filled }
            }
        };
        self.dead.insert(address, dead);
        Ok(())
    }

    /// From now on the backend is alive.
    pub(super) fn revive(&mut self, address: Ipv4Addr) -> Result<()> {
        match self.dead.remove(&address).with_context(|| format!("{address} is not dead"))? {
            Dead::Refusing => self.listen(address)?,
            Dead::Swallowing { listener, .. } => {
                SockRef::from(&*listener).listen(BACKLOG)?;
                self.accept(address, listener);
            }
        }
        Ok(())
    }

    fn listen(&mut self, address: Ipv4Addr) -> Result<()> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        let target = SocketAddrV4::new(address, self.port);
        socket.bind(&target.into()).with_context(|| target.to_string())?;
        socket.listen(BACKLOG)?;
        let listener = {
            let _entered = self.spawner.enter();
            TcpListener::from_std(socket.into())?
        };
        self.accept(address, Arc::new(listener));
        Ok(())
    }

    fn accept(&mut self, address: Ipv4Addr, listener: Arc<TcpListener>) {
        let (own, ready) = (Arc::clone(&listener), Arc::clone(&self.ready));
        let accepting = self.spawner.spawn(async move {
            loop {
                if let Ok((stream, _)) = own.accept().await {
                    tokio::spawn(answer(stream, Arc::clone(&ready)));
                }
            }
        });
        self.living.insert(address, Living { listener, accepting });
    }
}

impl Drop for Backends {
    fn drop(&mut self) {
        // Not waited for: this may be called where nobody may wait.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Fills a listener's accept queue; the connections keep it full.
fn fill(target: SocketAddr) -> Result<Vec<std::net::TcpStream>> {
    let mut fillers = Vec::new();
    while fillers.len() < FILLERS {
        match std::net::TcpStream::connect_timeout(&target, FILLED) {
            Ok(stream) => fillers.push(stream),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return Ok(fillers),
            Err(error) => return Err(error).with_context(|| target.to_string()),
        }
    }
    bail!("{target} takes connections though nobody accepts them")
}

/// Answers the request, if one comes.
async fn answer(mut stream: TcpStream, ready: Arc<AtomicBool>) {
    let mut request = [0; 1024];
    let Ok(Ok(length)) = timeout(REQUEST, stream.read(&mut request)).await else { return };
    if length == 0 {
        return;
    }
    let status = match ready.load(Ordering::Relaxed) {
        true => "200 OK",
        false => "503 Service Unavailable",
    };
    let text = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    // Who asked may have gone.
    let _ = stream.write_all(text.as_bytes()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connects(backends: &Backends, address: Ipv4Addr) -> io::Result<()> {
        let target = SocketAddr::from((address, backends.port()));
        std::net::TcpStream::connect_timeout(&target, Duration::from_millis(300)).map(drop)
    }

    #[test]
    fn a_backend_dies_either_way_and_comes_back() {
        let addresses = [Ipv4Addr::new(127, 77, 0, 1), Ipv4Addr::new(127, 77, 0, 2)];
        let free = std::net::TcpListener::bind((addresses[0], 0)).unwrap().local_addr().unwrap();
        let mut backends = Backends::start(&addresses, free.port()).unwrap();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let [refusing, swallowing] = addresses;
        runtime.block_on(backends.kill(refusing, Death::Refusing)).unwrap();
        runtime.block_on(backends.kill(swallowing, Death::Swallowing)).unwrap();
        let error = connects(&backends, refusing).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let error = connects(&backends, swallowing).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        for address in addresses {
            backends.revive(address).unwrap();
            connects(&backends, address).unwrap();
        }
    }
}
