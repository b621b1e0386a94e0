//! UDP: a datagram for a datagram.
//!
//! Any reply will do; what it says is the service's business. The socket is connected, so that
//! only the backend can reply, and so that an ICMP port unreachable comes back as an error.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::UdpSocket;

use super::Finding;

pub(super) async fn probe(address: SocketAddr, payload: &[u8]) -> Finding {
    match ask(address, payload).await {
        Ok(()) => Finding::Pass,
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Finding::Fail("port unreachable".to_owned())
        }
        Err(error) => Finding::of(&error),
    }
}

async fn ask(address: SocketAddr, payload: &[u8]) -> io::Result<()> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    socket.send(payload).await?;
    // One byte is enough to know: the rest of the datagram is cut off.
    socket.recv(&mut [0; 1]).await?;
    Ok(())
}
