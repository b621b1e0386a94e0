//! Whether the kernel has a socket for a flow: one exact question of `sock_diag(7)`, family `inet`.
//!
//! ```text
//!  nlmsghdr (16) | inet_diag_req_v2 (56): family, protocol, states, ports and addresses, cookie
//!  nlmsghdr (16) | inet_diag_msg: family, state, timer, retransmits, ports and addresses ...
//!                | or, as an error: the negative error number (ENOENT: no such socket)
//! ```
//!
//! The kernel looks the flow up as it would for a packet: its connection first (established, half
//! open, in TIME_WAIT), then a listener. No table is walked. It takes a few microseconds, and asks for
//! no privilege.

use std::io::{self, Read};
use std::net::IpAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::inner::{Flow, Transport};

/// What the kernel has for a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A connection, in whatever state; or for UDP, any socket that takes its packets.
    Connection,
    /// A listener only.
    Listener,
    /// Nothing.
    Nothing,
}

/// Asks the kernel.
#[derive(Debug)]
pub struct Sockets {
    socket: Socket,
    sequence: u32,
}

// linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h, net/tcp_states.h.
const AF_NETLINK: i32 = 16;
const NETLINK_SOCK_DIAG: i32 = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const TCP_LISTEN: u8 = 10;
const ENOENT: i32 = 2;

/// The kernel answers at once; this bounds a wait that should not be.
const PATIENCE: Duration = Duration::from_secs(1);
/// Answers of earlier questions that are skipped at most.
const STALE_ANSWERS: usize = 8;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    length: u32,
    kind: u16,
    flags: u16,
    sequence: u32,
    port: u32,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Request {
    header: Header,
    family: u8,
    protocol: u8,
    extensions: u8,
    padding: u8,
    states: u32,
    /// Network order, like the addresses.
    source_port: [u8; 2],
    destination_port: [u8; 2],
    source: [u8; 16],
    destination: [u8; 16],
    interface: u32,
    cookie: [u32; 2],
}

impl Sockets {
    /// A socket to ask by, of this network namespace.
    ///
    /// # Errors
    /// Those of socket(2).
    pub fn open() -> io::Result<Self> {
        let socket = Socket::new(
            Domain::from(AF_NETLINK),
            Type::RAW,
            Some(Protocol::from(NETLINK_SOCK_DIAG)),
        )?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// What the kernel has for `flow`.
    ///
    /// # Errors
    /// Those of sendmsg(2) and recvmsg(2); an error of the kernel's other than that there is no such
    /// socket; an answer that is none.
    pub fn find(&mut self, flow: &Flow) -> io::Result<Found> {
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.send(request(flow, self.sequence).as_bytes())?;
        let mut answer = [0; 1024];
        for _ in 0..STALE_ANSWERS {
            let length = self.socket.read(&mut answer)?;
            let bytes = answer.get(..length).unwrap_or_default();
            if let Some(found) = read(bytes, flow, self.sequence)? {
                return Ok(found);
            }
        }
        Err(io::Error::other("sock_diag does not answer what it was asked"))
    }
}

fn request(flow: &Flow, sequence: u32) -> Request {
    let family = if flow.local.is_ipv4() { AF_INET } else { AF_INET6 };
    let (local, remote) = ((flow.local, flow.local_port), (flow.remote, flow.remote_port));
    // Of one UDP socket the kernel wants to be asked from the packet's side ("swapped for historical
    // reasons", net/ipv4/udp_diag.c), of a TCP socket from the socket's.
    let (source, destination) = match flow.transport {
        Transport::Tcp => (local, remote),
        Transport::Udp => (remote, local),
    };
    Request {
        header: Header {
            length: size_of::<Request>() as u32,
            kind: SOCK_DIAG_BY_FAMILY,
            flags: NLM_F_REQUEST,
            sequence,
            port: 0,
        },
        family,
        protocol: match flow.transport {
            Transport::Tcp => 6,
            Transport::Udp => 17,
        },
        extensions: 0,
        padding: 0,
        states: u32::MAX,
        source_port: source.1.to_be_bytes(),
        destination_port: destination.1.to_be_bytes(),
        source: octets(source.0),
        destination: octets(destination.0),
        interface: 0,
        // INET_DIAG_NOCOOKIE
        cookie: [u32::MAX; 2],
    }
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(address) => address.octets(),
    }
}

/// What an answer says; `None` for the answer to another question.
fn read(answer: &[u8], flow: &Flow, sequence: u32) -> io::Result<Option<Found>> {
    let not_one = || io::Error::other("sock_diag gives an answer that is none");
    let (header, body) = Header::read_from_prefix(answer).map_err(|_| not_one())?;
    if header.sequence != sequence {
        return Ok(None);
    }
    match (header.kind, body) {
        (NLMSG_ERROR, [a, b, c, d, ..]) => match i32::from_ne_bytes([*a, *b, *c, *d]) {
            error if error == -ENOENT => Ok(Some(Found::Nothing)),
            error => Err(io::Error::from_raw_os_error(error.saturating_neg())),
        },
        (SOCK_DIAG_BY_FAMILY, [_, state, _, _, port @ ..]) => Ok(Some(match flow.transport {
            Transport::Tcp if *state == TCP_LISTEN => Found::Listener,
            Transport::Tcp => Found::Connection,
            // Should a kernel look the other way round, it may find a socket of another port.
            Transport::Udp if port.first_chunk() == Some(&flow.local_port.to_be_bytes()) => {
                Found::Connection
            }
            Transport::Udp => Found::Nothing,
        })),
        _ => Err(not_one()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

    use super::*;

    fn flow(transport: Transport, local: SocketAddr, remote: SocketAddr) -> Flow {
        Flow {
            transport,
            local: local.ip(),
            local_port: local.port(),
            remote: remote.ip(),
            remote_port: remote.port(),
        }
    }

    #[test]
    fn connections_listeners_and_nothing_are_told_apart() {
        let mut sockets = Sockets::open().unwrap();
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (server, _) = listener.accept().unwrap();
            let (local, remote) = (server.local_addr().unwrap(), client.local_addr().unwrap());
            let known = flow(Transport::Tcp, local, remote);
            assert_eq!(sockets.find(&known).unwrap(), Found::Connection);
            let other = SocketAddr::new("198.51.100.7".parse().unwrap(), 1);
            let other = if local.is_ipv4() { other } else { "[2001:db8::7]:1".parse().unwrap() };
            let unknown = flow(Transport::Tcp, local, other);
            assert_eq!(sockets.find(&unknown).unwrap(), Found::Listener);
            // Nobody listens, and nobody is connected: the port is the client's own.
            let nobody = flow(Transport::Tcp, remote, other);
            assert_eq!(sockets.find(&nobody).unwrap(), Found::Nothing);
        }
    }

    #[test]
    fn a_socket_of_both_families_is_found_by_either() {
        let Ok(listener) = TcpListener::bind("[::]:0") else { return };
        let port = listener.local_addr().unwrap().port();
        let Ok(client) = TcpStream::connect(("127.0.0.1", port)) else { return };
        let (server, _) = listener.accept().unwrap();
        let local = SocketAddr::new("127.0.0.1".parse().unwrap(), port);
        let known = flow(Transport::Tcp, local, client.local_addr().unwrap());
        assert_eq!(Sockets::open().unwrap().find(&known).unwrap(), Found::Connection);
        drop(server);
    }

    #[test]
    fn udp_sockets_are_found_by_their_own_port() {
        let mut sockets = Sockets::open().unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let local = socket.local_addr().unwrap();
        let remote = "198.51.100.7:9".parse().unwrap();
        let found = sockets.find(&flow(Transport::Udp, local, remote)).unwrap();
        assert_eq!(found, Found::Connection);
        // As long as that one is there, nobody has this port at all addresses.
        let beside = SocketAddr::new("127.0.0.2".parse().unwrap(), local.port());
        let found = sockets.find(&flow(Transport::Udp, beside, remote)).unwrap();
        assert_eq!(found, Found::Nothing);
    }

    #[test]
    fn answers_that_are_none_are_errors() {
        let flow =
            flow(Transport::Tcp, "192.0.2.1:1".parse().unwrap(), "192.0.2.2:2".parse().unwrap());
        let header = |kind, sequence| Header { length: 20, kind, flags: 0, sequence, port: 0 };
        assert!(read(&[0; 7], &flow, 1).is_err());
        let stale = [header(NLMSG_ERROR, 7).as_bytes(), &[0; 4]].concat();
        assert_eq!(read(&stale, &flow, 1).unwrap(), None);
        let cut = [header(SOCK_DIAG_BY_FAMILY, 1).as_bytes(), &[2]].concat();
        assert!(read(&cut, &flow, 1).is_err());
        let denied = [header(NLMSG_ERROR, 1).as_bytes(), &(-1i32).to_ne_bytes()].concat();
        assert_eq!(read(&denied, &flow, 1).unwrap_err().raw_os_error(), Some(1));
    }
}
