//! TCP: a connection that is established.
//!
//! It is closed with a reset (SO_LINGER 0), not with FIN: the side that closes first keeps the
//! connection in TIME_WAIT for a minute, and at hundreds of probes a second ports would run out.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpSocket, TcpStream};

use super::Finding;

pub(super) async fn probe(address: SocketAddr) -> Finding {
    match connect(address).await {
        Ok(_connection) => Finding::Pass,
        Err(error) => Finding::of(&error),
    }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_zero_linger()?;
    socket.connect(address).await
}
