//! The raw socket that receives encapsulated packets.
//!
//! As long as one is open for a protocol, the kernel does not answer such packets with
//! "protocol unreachable". It hands over reassembled packets, outer header included (raw(7)).

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// Bytes the kernel may queue, so that a busy host loses nothing.
const RECEIVE_BUFFER: usize = 4 << 20;

/// How long one receive waits, so that its caller can look at the clock and at signals.
const TURN: Duration = Duration::from_millis(200);

/// A raw IPv4 socket of one IP protocol.
pub struct RawSocket {
    socket: Socket,
}

impl RawSocket {
    /// Opens it; from now on packets of `protocol` queue here.
    ///
    /// # Errors
    /// No permission (CAP_NET_RAW).
    pub fn open(protocol: u8) -> io::Result<RawSocket> {
        let protocol = Protocol::from(i32::from(protocol));
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(protocol))?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        socket.set_read_timeout(Some(TURN))?;
        Ok(RawSocket { socket })
    }

    /// The next packet's length in `buffer`, outer header first; `None` when none came within a
    /// fifth of a second, or a signal did.
    ///
    /// # Errors
    /// Those of recv(2), time-out and interruption excepted.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match (&self.socket).read(buffer) {
            Ok(length) => Ok(Some(length)),
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
        self.socket.send_to(payload, &SocketAddrV4::new(destination, 0).into())?;
        Ok(())
    }
}
