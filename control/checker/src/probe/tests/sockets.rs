//! TCP and UDP: accepted, refused, swallowed.

use std::time::Instant;

use socket2::{Domain, Socket, Type};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpStream, UdpSocket};

use super::*;

/// A listener whose queue is full: the kernel drops further SYNs, as a black hole would.
struct BlackHole {
    address: SocketAddr,
    _listener: Socket,
    _waiting: Vec<Socket>,
}

fn black_hole() -> BlackHole {
    let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let listener = socket();
    listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port");
    listener.listen(0).expect("listening");
    let address = listener.local_addr().expect("an address");
    let mut waiting = Vec::new();
    // The first ones fill the queue; one that does not get through within a while proves it.
    for _ in 0..16 {
        let client = socket();
        match client.connect_timeout(&address, SHORT) {
            Ok(()) => waiting.push(client),
            Err(_) => break,
        }
    }
    let address = address.as_socket().expect("an address");
    BlackHole { address, _listener: listener, _waiting: waiting }
}

#[tokio::test]
async fn tcp_passes_where_connections_are_accepted_and_leaves_no_time_wait() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    assert_eq!(finding(&Probe::Tcp(address), LONG).await, Finding::Pass);
    let (mut stream, _) = listener.accept().await.expect("the probe's connection");
    let error = stream.read(&mut [0]).await.expect_err("a reset");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn tcp_fails_where_they_are_refused() {
    let why = failed(finding(&Probe::Tcp(nobody().await), LONG).await);
    assert_eq!(why, "connection refused");
}

#[tokio::test]
async fn tcp_into_a_black_hole_ends_at_the_timeout() {
    let hole = black_hole();
    let start = Instant::now();
    assert_eq!(finding(&Probe::Tcp(hole.address), SHORT).await, Finding::Timeout(SHORT));
    assert!(start.elapsed() >= SHORT);
}

#[tokio::test]
async fn udp_passes_with_a_reply_and_carries_the_payload() {
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = server.local_addr().expect("an address");
    let payload: Arc<[u8]> = b"are you there?".as_slice().into();
    let probe = Probe::Udp { address, payload };
    let (found, asked) = tokio::join!(finding(&probe, LONG), async {
        let mut asked = [0; 64];
        let (length, from) = server.recv_from(&mut asked).await.expect("a datagram");
        // From elsewhere: not a reply.
        let other = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        other.send_to(b"me", from).await.expect("sent");
        server.send_to(&[b'y'; 1000], from).await.expect("sent");
        asked[..length].to_vec()
    });
    assert_eq!(found, Finding::Pass);
    assert_eq!(asked, b"are you there?");
}

#[tokio::test]
async fn udp_fails_where_the_port_is_closed_and_where_nothing_comes() {
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = silent.local_addr().expect("an address");
    let probe = |address| Probe::Udp { address, payload: [].as_slice().into() };
    assert_eq!(finding(&probe(address), SHORT).await, Finding::Timeout(SHORT));
    drop(silent);
    assert_eq!(failed(finding(&probe(address), LONG).await), "port unreachable");
}

#[test]
fn want_of_descriptors_is_not_the_backends_fault() {
    for (errno, ours) in [
        (rustix::io::Errno::MFILE, true),
        (rustix::io::Errno::NFILE, true),
        (rustix::io::Errno::NOBUFS, true),
        (rustix::io::Errno::ADDRNOTAVAIL, true),
        (rustix::io::Errno::CONNREFUSED, false),
        (rustix::io::Errno::HOSTUNREACH, false),
        (rustix::io::Errno::NETUNREACH, false),
        (rustix::io::Errno::TIMEDOUT, false),
    ] {
        let finding = Finding::of(&io::Error::from(errno));
        assert_eq!(matches!(finding, Finding::NotProbed(_)), ours, "{finding:?}");
    }
}

#[tokio::test]
async fn ipv6_is_probed_like_ipv4() {
    let Ok(listener) = TcpListener::bind("[::1]:0").await else { return };
    let address = listener.local_addr().expect("an address");
    assert_eq!(finding(&Probe::Tcp(address), LONG).await, Finding::Pass);
    drop(TcpStream::connect(address).await.expect("connected"));
    let url = format!("http://{address}/");
    let probe = HttpProbe::parse(&url, 0).expect("a URL");
    assert_eq!(probe.host(), "::1");
}
