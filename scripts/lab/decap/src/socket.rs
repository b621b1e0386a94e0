//! The sockets that receive encapsulated packets: raw ones for protocols in IP, and UDP.
//!
//! As long as one is open for a protocol, the kernel does not answer such packets with
//! "protocol unreachable". It hands over reassembled packets: with the outer header over IPv4
//! (raw(7)), without it over IPv6 (RFC 3542) and for UDP.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// Bytes the kernel may queue, so that a busy host loses nothing.
const RECEIVE_BUFFER: usize = 4 << 20;

/// How long one receive waits, so that its caller can look at the clock and at signals.
const TURN: Duration = Duration::from_millis(200);

/// A socket of one kind of tunnel. The standard library's type for UDP sends and receives packets
/// with addresses, which is what a raw socket does, too.
pub struct TunnelSocket {
    socket: UdpSocket,
}

impl TunnelSocket {
    /// A raw IPv4 socket; from now on packets of `protocol` queue here.
    ///
    /// # Errors
    /// No permission (CAP_NET_RAW).
    pub fn raw_v4(protocol: u8) -> io::Result<Self> {
        Self::raw(Domain::IPV4, protocol)
    }

    /// As above, over IPv6.
    ///
    /// # Errors
    /// No permission, or no IPv6.
    pub fn raw_v6(protocol: u8) -> io::Result<Self> {
        Self::raw(Domain::IPV6, protocol)
    }

    /// A UDP socket of one family, at all its addresses and `port`.
    ///
    /// # Errors
    /// A port in use, or no IPv6.
    pub fn udp(v6: bool, port: u16) -> io::Result<Self> {
        let (domain, any): (_, IpAddr) = match v6 {
            false => (Domain::IPV4, Ipv4Addr::UNSPECIFIED.into()),
            true => (Domain::IPV6, Ipv6Addr::UNSPECIFIED.into()),
        };
        let socket = Socket::new(domain, Type::DGRAM, None)?;
        if v6 {
            socket.set_only_v6(true)?;
        }
        socket.bind(&SocketAddr::new(any, port).into())?;
        Self::with(socket)
    }

    fn raw(domain: Domain, protocol: u8) -> io::Result<Self> {
        Self::with(Socket::new(domain, Type::RAW, Some(Protocol::from(i32::from(protocol))))?)
    }

    fn with(socket: Socket) -> io::Result<Self> {
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        socket.set_read_timeout(Some(TURN))?;
        Ok(Self { socket: socket.into() })
    }

    /// The next packet's length in `buffer`, and who sent it; `None` when none came within a fifth
    /// of a second, or a signal did. Over IPv4 a raw socket's packet begins with its outer header.
    ///
    /// # Errors
    /// Those of recvfrom(2), time-out and interruption excepted.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, IpAddr)>> {
        match self.socket.recv_from(buffer) {
            Ok((length, from)) => Ok(Some((length, from.ip()))),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// Sends `payload` to `destination`; the kernel writes the outer header.
    ///
    /// # Errors
    /// Those of sendto(2).
    pub fn send(&self, payload: &[u8], destination: Ipv4Addr) -> io::Result<()> {
        self.socket.send_to(payload, SocketAddrV4::new(destination, 0))?;
        Ok(())
    }
}
