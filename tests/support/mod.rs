//! What the tests of the program share: packets made in code, captures, and `weir` itself.
//!
//! Packets are made, and what comes out is read, with `etherparse` and `pcap-file`: nothing in
//! here uses the data plane's own header types, so that a mistake in them cannot hide.

#![allow(dead_code, reason = "each test program uses a part of this")]

pub(crate) mod running;

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use etherparse::{ArpHardwareId, ArpOperation, ArpPacket, EtherType, PacketBuilder};
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};
use pcap_file::{DataLink, Endianness, TsResolution};
use serde_json::Value;

/// The node's port: its configuration sets no `mac`, so any unicast address does.
pub(crate) const NODE_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];
/// The gateway, through which clients and backends are reached.
pub(crate) const GATEWAY_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
/// When captures begin: 2025-06-15, in nanoseconds.
pub(crate) const START: u64 = 1_750_000_000_000_000_000;
/// Nanoseconds.
pub(crate) const SECOND: u64 = 1_000_000_000;

/// A packet and its time, nanoseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) time: u64,
    pub(crate) bytes: Vec<u8>,
}

/// An empty folder for one test.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Runs `weir`; whatever happens, it must not panic.
pub(crate) fn weir(arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_weir")).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!errors.contains("panicked"), "weir {arguments:?}\n{errors}");
    assert!(output.status.code().is_some(), "weir {arguments:?} ended by a signal");
    output
}

pub(crate) fn write_capture(path: &Path, packets: &[Packet]) {
    let header = PcapHeader {
        datalink: DataLink::ETHERNET,
        ts_resolution: TsResolution::NanoSecond,
        endianness: Endianness::Little,
        ..PcapHeader::default()
    };
    let file = BufWriter::new(File::create(path).unwrap());
    let mut writer = PcapWriter::with_header(file, header).unwrap();
    for packet in packets {
        let time = Duration::from_nanos(packet.time);
        let length = packet.bytes.len() as u32;
        writer.write_packet(&PcapPacket::new(time, length, &packet.bytes)).unwrap();
    }
}

pub(crate) fn read_capture(path: &Path) -> Vec<Packet> {
    let mut reader = PcapReader::new(File::open(path).unwrap()).unwrap();
    let mut packets = Vec::new();
    while let Some(packet) = reader.next_packet() {
        let packet = packet.unwrap();
        let time = packet.timestamp.as_nanos() as u64;
        packets.push(Packet { time, bytes: packet.data.into_owned() });
    }
    packets
}

/// EtherType, and what an ARP request over Ethernet for IPv4 begins with.
const ARP_REQUEST: [u8; 10] = [0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1];

/// One line of `replay --json`, and the packets that came out for it.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) verdict: String,
    pub(crate) reason: Option<String>,
    pub(crate) vip: Option<String>,
    pub(crate) pool: Option<String>,
    pub(crate) backend: Option<String>,
    pub(crate) outputs: Vec<Packet>,
}

/// Runs `weir replay --json` over `packets`; a reload takes effect before the packet of its
/// number.
pub(crate) fn replay(
    folder: &Path,
    config: &Path,
    packets: &[Packet],
    reloads: &[(usize, &Path)],
) -> Vec<Line> {
    let (sent, received) = (folder.join("sent.pcap"), folder.join("received.pcap"));
    write_capture(&sent, packets);
    let mut arguments = vec![
        "replay".to_owned(),
        config.display().to_string(),
        format!("--in={}", sent.display()),
        format!("--out={}", received.display()),
        "--json".to_owned(),
    ];
    for (packet, config) in reloads {
        arguments.push(format!("--reload={packet}:{}", config.display()));
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = weir(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // What the node asks for its own sake belongs to no packet.
    let asks = |packet: &Packet| packet.bytes.get(12..22) == Some(&ARP_REQUEST[..]);
    let mut outputs = read_capture(&received).into_iter().filter(|packet| !asks(packet));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Line> = text.lines().map(|line| parse_line(line, &mut outputs)).collect();
    assert_eq!(lines.len(), packets.len(), "one line for each packet");
    assert_eq!(outputs.next(), None, "outputs are those that the lines count");
    lines
}

fn parse_line(line: &str, outputs: &mut impl Iterator<Item = Packet>) -> Line {
    let value: Value = serde_json::from_str(line).unwrap();
    let text = |key: &str| value[key].as_str().map(str::to_owned);
    let count = value["outputs"].as_u64().unwrap() as usize;
    Line {
        verdict: text("verdict").unwrap(),
        reason: text("reason"),
        vip: text("vip"),
        pool: text("pool"),
        backend: text("backend"),
        outputs: (0..count).map(|_| outputs.next().unwrap()).collect(),
    }
}

/// A TCP packet on its way; flags are set on the builder that `tcp` gives.
pub(crate) fn tcp(
    source: ([u8; 4], u16),
    destination: ([u8; 4], u16),
    sequence: u32,
) -> etherparse::PacketBuilderStep<etherparse::TcpHeader> {
    PacketBuilder::ethernet2(GATEWAY_MAC, NODE_MAC).ipv4(source.0, destination.0, 64).tcp(
        source.1,
        destination.1,
        sequence,
        64_240,
    )
}

/// A UDP datagram.
pub(crate) fn udp(source: ([u8; 4], u16), destination: ([u8; 4], u16), payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(GATEWAY_MAC, NODE_MAC)
        .ipv4(source.0, destination.0, 64)
        .udp(source.1, destination.1);
    let mut bytes = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut bytes, payload).unwrap();
    bytes
}

/// The finished frame of a TCP packet.
pub(crate) fn finish(
    builder: etherparse::PacketBuilderStep<etherparse::TcpHeader>,
    payload: &[u8],
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut bytes, payload).unwrap();
    bytes
}

/// An ARP packet (operation 1: request, 2: reply) from the gateway's station.
pub(crate) fn arp(operation: u16, sender: [u8; 4], target: [u8; 4], to: [u8; 6]) -> Vec<u8> {
    let asked = if operation == 1 { [0; 6] } else { to };
    let packet = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        ArpOperation(operation),
        &GATEWAY_MAC,
        &sender,
        &asked,
        &target,
    )
    .unwrap();
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(GATEWAY_MAC, to).arp(packet).write(&mut bytes).unwrap();
    bytes
}
