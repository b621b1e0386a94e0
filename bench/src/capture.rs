//! Packet sources: capture files that `net_pcap` plays round and round, and reading them back.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pcap_file::pcap::{PcapPacket, PcapReader, PcapWriter};

use crate::flows::{self, Ip, MOST_FLOWS};
use crate::frame::{self, Kind};
use crate::scenario;

/// Writes one frame of each of `flows` flows over `ip` to `path`, in shuffled order.
///
/// # Errors
/// When the file cannot be written, or there are not so many flows.
pub fn write(path: &Path, flows: u32, ip: Ip, kind: Kind) -> Result<()> {
    ensure!((1..=MOST_FLOWS).contains(&flows), "flows: {flows} is not in 1..={MOST_FLOWS}");
    let name = path.display();
    let file = File::create(path).with_context(|| format!("{name}: cannot be written"))?;
    let mut writer = PcapWriter::new(BufWriter::new(file))?;
    for number in flows::shuffled(flows) {
        let flow = flows::flow(ip, number);
        let frame = frame::frame(&flow, number, kind, scenario::NODE_MAC, scenario::ROUTER_MAC);
        writer
            .write_packet(&PcapPacket::new(Duration::ZERO, frame.len() as u32, &frame))
            .with_context(|| format!("{name}: cannot be written"))?;
    }
    // Dropping a BufWriter would swallow a full disk.
    writer.into_writer().into_inner().with_context(|| format!("{name}: cannot be written"))?;
    Ok(())
}

/// Hands each frame of the capture at `path` to `visit`, in order.
///
/// # Errors
/// When the file cannot be read.
pub fn read(path: &Path, mut visit: impl FnMut(&[u8])) -> Result<()> {
    let name = path.display();
    let file = File::open(path).with_context(|| format!("{name}: cannot be read"))?;
    let mut reader = PcapReader::new(BufReader::new(file))
        .with_context(|| format!("{name}: not a capture file"))?;
    while let Some(packet) = reader.next_packet() {
        visit(&packet.with_context(|| format!("{name}: cannot be read"))?.data);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_holds_one_minimum_frame_of_each_flow() {
        let path = std::env::temp_dir().join(format!("weir-bench-{}.pcap", std::process::id()));
        write(&path, 500, Ip::V4, Kind::Ack).unwrap();
        let mut seen = std::collections::HashSet::new();
        read(&path, |frame| {
            assert_eq!(frame.len(), 60);
            assert_eq!(frame[..6], scenario::NODE_MAC);
            seen.insert(frame[26..38].to_vec());
        })
        .unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(seen.len(), 500);
    }

    #[test]
    fn no_flows_are_refused() {
        assert!(write(Path::new("/nonexistent"), 0, Ip::V6, Kind::Ack).is_err());
    }
}
