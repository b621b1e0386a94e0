//! A stand-in for the balancer, by which the lab itself is tested: it reads what the kernel routes
//! to a TUN device and sends each packet, as IP in IP, to the backend that its source port names.
//!
//! `scripts/lab/selftest.sh` runs it in the node's namespace. It keeps flows apart and nothing
//! more: no table, no checks, no counters.
//!
//! ```sh
//! cargo run -p weir-decap --example encap -- 192.0.2.11 192.0.2.12
//! ip route add 203.0.113.0/24 dev encap0
//! ```

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use weir_decap::socket::TunnelSocket;
use weir_decap::strip::PROTOCOL_IPV4;
use weir_decap::tun::Tun;

fn main() -> Result<()> {
    let backends: Vec<Ipv4Addr> = std::env::args()
        .skip(1)
        .map(|address| address.parse().with_context(|| format!("not an IPv4 address: {address}")))
        .collect::<Result<_>>()?;
    ensure!(!backends.is_empty(), "usage: encap BACKEND...");
    let socket = TunnelSocket::raw_v4(PROTOCOL_IPV4).context("opening a raw socket")?;
    let tun = Tun::create("encap0", 1500)?;
    let mut buffer = vec![0u8; 65_535];
    loop {
        let length = tun.receive(&mut buffer).context("reading from encap0")?;
        let packet = &buffer[..length];
        let flow = source_port(packet).unwrap_or_default();
        let backend = backends[usize::from(flow) % backends.len()];
        socket.send(packet, backend).with_context(|| format!("sending to {backend}"))?;
    }
}

/// The port behind an IPv4 header; `None` for what has none.
fn source_port(packet: &[u8]) -> Option<u16> {
    let header_length = usize::from(packet.first()? & 0x0f) * 4;
    let port: [u8; 2] = packet.get(header_length..header_length + 2)?.try_into().ok()?;
    Some(u16::from_be_bytes(port))
}
