//! Capture files as the wire: packets with their times out of one, packets into another.
//!
//! Reads pcap (either byte order, micro- or nanoseconds) and pcapng, Ethernet only; writes pcap
//! in nanoseconds. Together with [`super::memory::MemoryPort`] this is the port of `replay`.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use pcap_file::{DataLink, Endianness, PcapError, TsResolution};
use thiserror::Error;

/// What is wrong with a capture file.
#[derive(Debug, Error)]
pub enum CaptureError {
    /// The file cannot be opened, read or written.
    #[error("{file}")]
    Io {
        /// The file.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no capture, or damaged.
    #[error("{file}: packet {packet}: {problem} (expected a pcap or pcapng file)")]
    Format {
        /// The file.
        file: String,
        /// Packets read before it.
        packet: u64,
        /// What is wrong.
        problem: String,
    },
    /// The capture was not made on Ethernet.
    #[error("{file}: link type {found:?}, expected Ethernet")]
    LinkType {
        /// The file.
        file: String,
        /// The link type found.
        found: DataLink,
    },
    /// A packet was cut when it was captured.
    #[error(
        "{file}: packet {packet}: only {captured} of {original} bytes were captured; capture with \
         a larger snap length"
    )]
    Cut {
        /// The file.
        file: String,
        /// The packet, from 0.
        packet: u64,
        /// Bytes in the file.
        captured: usize,
        /// Bytes the packet had.
        original: u32,
    },
}

/// A captured packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// When, in nanoseconds since 1970.
    pub time: u64,
    /// The frame.
    pub data: Vec<u8>,
}

/// Reads a capture packet by packet.
pub struct CaptureReader {
    file: String,
    packets: u64,
    format: Format,
}

enum Format {
    Pcap(PcapReader<BufReader<File>>),
    PcapNg(PcapNgReader<BufReader<File>>),
}

/// The first four bytes of a pcapng file, a section header block, in either byte order.
const PCAPNG_MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

impl CaptureReader {
    /// Opens a capture.
    ///
    /// # Errors
    /// When the file cannot be read, is no capture, or not of Ethernet.
    pub fn open(path: &Path) -> Result<Self, CaptureError> {
        let file = path.display().to_string();
        let io = |source| CaptureError::Io { file: path.display().to_string(), source };
        let mut handle = File::open(path).map_err(io)?;
        let mut magic = [0; 4];
        let read = handle.read(&mut magic).map_err(io)?;
        handle.rewind().map_err(io)?;
        let handle = BufReader::new(handle);
        let format = |error: PcapError| format_error(&file, 0, &error);
        let format = if read == 4 && magic == PCAPNG_MAGIC {
            Format::PcapNg(PcapNgReader::new(handle).map_err(format)?)
        } else {
            let reader = PcapReader::new(handle).map_err(format)?;
            if reader.header().datalink != DataLink::ETHERNET {
                return Err(CaptureError::LinkType { file, found: reader.header().datalink });
            }
            Format::Pcap(reader)
        };
        Ok(Self { file, packets: 0, format })
    }

    /// The next packet; `None` at the end.
    ///
    /// # Errors
    /// When the file is damaged, or the packet was cut at capture.
    pub fn next_packet(&mut self) -> Result<Option<Captured>, CaptureError> {
        let packet = match &mut self.format {
            Format::Pcap(reader) => match reader.next_packet() {
                None => None,
                Some(Err(error)) => return Err(format_error(&self.file, self.packets, &error)),
                Some(Ok(packet)) => {
                    let data = packet.data.into_owned();
                    Some((nanoseconds(packet.timestamp), packet.orig_len, data))
                }
            },
            Format::PcapNg(reader) => next_block(reader, &self.file, self.packets)?,
        };
        let Some((time, original, data)) = packet else { return Ok(None) };
        if data.len() < original as usize {
            return Err(CaptureError::Cut {
                file: self.file.clone(),
                packet: self.packets,
                captured: data.len(),
                original,
            });
        }
        self.packets += 1;
        Ok(Some(Captured { time, data }))
    }
}

/// The next packet block of a pcapng file: time, original length, bytes.
fn next_block(
    reader: &mut PcapNgReader<BufReader<File>>,
    file: &str,
    packets: u64,
) -> Result<Option<(u64, u32, Vec<u8>)>, CaptureError> {
    loop {
        let (interface, ticks, original, data) = match reader.next_block() {
            None => return Ok(None),
            Some(Err(error)) => return Err(format_error(file, packets, &error)),
            Some(Ok(Block::EnhancedPacket(block))) => {
                // This library hands the file's ticks over as if they were nanoseconds.
                let ticks = nanoseconds(block.timestamp);
                (block.interface_id, ticks, block.original_len, block.data.into_owned())
            }
            Some(Ok(_)) => continue,
        };
        let Some(interface) = reader.interfaces().get(interface as usize) else {
            let problem = format!("interface {interface} is not described");
            return Err(CaptureError::Format { file: file.to_owned(), packet: packets, problem });
        };
        if interface.linktype != DataLink::ETHERNET {
            return Err(CaptureError::LinkType {
                file: file.to_owned(),
                found: interface.linktype,
            });
        }
        let resolution = interface.options.iter().find_map(|option| match option {
            InterfaceDescriptionOption::IfTsResol(resolution) => Some(*resolution),
            _ => None,
        });
        return Ok(Some((scale(ticks, resolution.unwrap_or(6)), original, data)));
    }
}

/// Ticks to nanoseconds. pcapng, if_tsresol: powers of ten, or of two with the high bit set.
fn scale(ticks: u64, resolution: u8) -> u64 {
    let exponent = u32::from(resolution & 0x7f);
    let per_second = if resolution & 0x80 == 0 {
        10u128.checked_pow(exponent)
    } else {
        2u128.checked_pow(exponent)
    };
    match per_second {
        Some(per_second) => (u128::from(ticks) * 1_000_000_000 / per_second) as u64,
        None => 0,
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn format_error(file: &str, packet: u64, error: &PcapError) -> CaptureError {
    CaptureError::Format { file: file.to_owned(), packet, problem: error.to_string() }
}

/// Writes a capture.
pub struct CaptureWriter {
    file: String,
    writer: PcapWriter<BufWriter<File>>,
}

impl CaptureWriter {
    /// Creates, or overwrites, a capture.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn create(path: &Path) -> Result<Self, CaptureError> {
        let file = path.display().to_string();
        let io = |source| CaptureError::Io { file: path.display().to_string(), source };
        let handle = BufWriter::new(File::create(path).map_err(io)?);
        let header = PcapHeader {
            datalink: DataLink::ETHERNET,
            ts_resolution: TsResolution::NanoSecond,
            endianness: Endianness::Little,
            ..PcapHeader::default()
        };
        let writer = PcapWriter::with_header(handle, header)
            .map_err(|error| format_error(&file, 0, &error))?;
        Ok(Self { file, writer })
    }

    /// Appends a packet; `time` in nanoseconds since 1970.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&mut self, time: u64, data: &[u8]) -> Result<(), CaptureError> {
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let packet = PcapPacket::new(Duration::from_nanos(time), length, data);
        self.writer
            .write_packet(&packet)
            .map(|_| ())
            .map_err(|error| format_error(&self.file, 0, &error))
    }

    /// Writes out what is buffered.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(self) -> Result<(), CaptureError> {
        let file = self.file;
        self.writer.into_writer().flush().map_err(|source| CaptureError::Io { file, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let path = std::env::temp_dir().join(format!("weir-capture-{}.pcap", std::process::id()));
        let mut writer = CaptureWriter::create(&path).unwrap();
        writer.write(1_700_000_000_123_456_789, &[1, 2, 3]).unwrap();
        writer.write(1_700_000_001_000_000_000, &[]).unwrap();
        writer.finish().unwrap();
        let mut reader = CaptureReader::open(&path).unwrap();
        let first = reader.next_packet().unwrap().unwrap();
        assert_eq!(first, Captured { time: 1_700_000_000_123_456_789, data: vec![1, 2, 3] });
        assert_eq!(reader.next_packet().unwrap().unwrap().data, []);
        assert_eq!(reader.next_packet().unwrap(), None);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_file_that_is_no_capture_is_named() {
        let path = std::env::temp_dir().join(format!("weir-no-capture-{}", std::process::id()));
        std::fs::write(&path, "not a capture, only text of some length").unwrap();
        let error = CaptureReader::open(&path).err().unwrap().to_string();
        assert!(error.contains("weir-no-capture"), "{error}");
        std::fs::remove_file(path).unwrap();
        assert!(CaptureReader::open(Path::new("/nonexistent")).is_err());
    }

    #[test]
    fn pcapng_ticks_scale_by_their_resolution() {
        assert_eq!(scale(5, 6), 5_000);
        assert_eq!(scale(5, 9), 5);
        assert_eq!(scale(1 << 10, 0x80 | 10), 1_000_000_000);
        assert_eq!(scale(1, 127), 0);
    }
}
