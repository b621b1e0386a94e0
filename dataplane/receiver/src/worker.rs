//! One thread at one UDP socket: datagrams in, packets to the kernel or datagrams to the next hop out.
//!
//! The socket that a datagram came by is not the one it leaves by: a next hop is reached from ports of
//! the kernel's choice, a few of them, chosen by the packet's bytes, so that the next hop's receive
//! queues are spread. The packet inside is not touched; the kernel here takes a hop off none of them.

use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::counters::Counter;
use crate::decide::{Decision, Desk};
use crate::gue;
use crate::sockets::Sockets;

/// The longest payload of a UDP datagram.
const LONGEST: usize = 65_535;
/// Bytes the kernel may queue.
const RECEIVE_BUFFER: usize = 8 << 20;
/// How long one receive waits before it is asked whether to stop.
const TURN: Duration = Duration::from_millis(200);
/// Ports that datagrams are passed on from, for each thread and version of IP.
const SENDERS: usize = 8;

/// One thread's part.
pub struct Worker {
    receiver: UdpSocket,
    senders: [Vec<UdpSocket>; 2],
    sockets: Sockets,
    port: u16,
}

impl Worker {
    /// A worker at `port`, over IPv4 or IPv6. Several may be at one port: the kernel spreads
    /// datagrams over them by addresses and ports.
    ///
    /// # Errors
    /// A port in use, or a version of IP that this host does not have.
    pub fn new(v6: bool, port: u16) -> io::Result<Self> {
        let receiver = socket(v6, port)?;
        receiver.set_read_timeout(Some(TURN))?;
        let senders = |v6| (0..SENDERS).map(|_| socket(v6, 0)).collect::<io::Result<Vec<_>>>();
        Ok(Self {
            receiver,
            // A host without one version reaches no next hop by it: counted when it comes up.
            senders: [senders(false).unwrap_or_default(), senders(true).unwrap_or_default()],
            sockets: Sockets::open()?,
            port,
        })
    }

    /// Works until `stop` is set. `deliver` hands a packet to the kernel.
    ///
    /// # Errors
    /// When datagrams cannot be received any more.
    pub fn run(
        mut self,
        desk: &Desk,
        start: Instant,
        stop: &AtomicBool,
        deliver: impl Fn(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut buffer = vec![0; LONGEST];
        while !stop.load(Ordering::Relaxed) {
            match self.receiver.recv_from(&mut buffer) {
                Ok((length, from)) => {
                    let now = start.elapsed().as_secs();
                    if let Some(payload) = buffer.get_mut(..length) {
                        self.handle(desk, payload, from.ip(), now, &deliver);
                    }
                }
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn handle(
        &mut self,
        desk: &Desk,
        payload: &mut [u8],
        source: IpAddr,
        now: u64,
        deliver: impl Fn(&[u8]) -> io::Result<()>,
    ) {
        let sockets = &mut self.sockets;
        let counters = &desk.counters;
        match desk.decide(payload, source, now, |flow| sockets.find(flow)) {
            Decision::Local(packet) => counters.add(match deliver(packet) {
                Ok(()) => Counter::Delivered,
                Err(_) => Counter::DeliveryFailed,
            }),
            Decision::Next(hop) => {
                gue::advance(payload);
                counters.add(match self.pass_on(payload, hop) {
                    Ok(()) => Counter::PassedOn,
                    Err(_) => Counter::PassingOnFailed,
                });
            }
            Decision::Dropped => {}
        }
    }

    fn pass_on(&self, payload: &[u8], hop: IpAddr) -> io::Result<()> {
        // Header, hops and the first bytes inside, ports included: the same for a flow's packets but
        // for what differs from packet to packet, which is left out.
        let mut hasher = DefaultHasher::new();
        hasher.write(ends(payload));
        let [v4, v6] = &self.senders;
        let senders = if hop.is_ipv4() { v4 } else { v6 };
        let chosen = hasher.finish() as usize % senders.len().max(1);
        let sender = senders.get(chosen).ok_or_else(|| io::Error::other("no socket"))?;
        sender.send_to(payload, SocketAddr::new(hop, self.port)).map(|_| ())
    }
}

/// The inner packet's addresses and ports, where it has neither options nor extension headers: what
/// tells flows apart well enough to choose a port by.
fn ends(payload: &[u8]) -> &[u8] {
    let ends = gue::parse(payload).ok().and_then(|datagram| match datagram.inner.first()? >> 4 {
        4 => datagram.inner.get(12..24),
        _ => datagram.inner.get(8..44),
    });
    ends.unwrap_or_default()
}

fn socket(v6: bool, port: u16) -> io::Result<UdpSocket> {
    let (domain, any): (_, IpAddr) = match v6 {
        false => (Domain::IPV4, Ipv4Addr::UNSPECIFIED.into()),
        true => (Domain::IPV6, Ipv6Addr::UNSPECIFIED.into()),
    };
    let socket = Socket::new(domain, Type::DGRAM, None)?;
    if v6 {
        socket.set_only_v6(true)?;
    }
    if port != 0 {
        socket.set_reuse_port(true)?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    }
    socket.bind(&SocketAddr::new(any, port).into())?;
    Ok(socket.into())
}

/// Nothing came, a signal did, or an ICMP error for something that was sent earlier.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock
            | io::ErrorKind::TimedOut
            | io::ErrorKind::Interrupted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
    )
}
