//! `weir-bench generate`: the [`generator`](crate::generator) over any device that DPDK has, in a
//! process of its own.
//!
//! It sends on one device and receives on the same or on another. It asks nobody for addresses and
//! answers nobody: who sends to it has its MAC address configured (`neighbors`, for a Weir node).

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::{Args, ValueEnum};
use dataplane::clock::Clock;
use dataplane::port::dpdk::{
    Device, DeviceOptions, Eal, EalOptions, Mempool, Queue, StartedDevice, is_pci,
};
use serde::Serialize;

use crate::flows::{MOST_FLOWS, VIP_PORT, VIPS};
use crate::generator::pace::FASTEST;
use crate::generator::sizes::{CHECK_SEQUENCE, SizeMix};
use crate::generator::traffic::{Destinations, Families, Mix, Protocols};
use crate::generator::{Figures, Generator, Report, Run};

/// A link that is not there after so long will not be.
const LINK_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes that a balancer may put in front of a packet: IPv6, UDP, and GUE with hops.
const LONGEST_WRAPPING: u16 = 128;

/// What to send, over what, how fast.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// The device: DPDK's device string (`net_memif0,role=client`), or a PCI address.
    #[arg(long)]
    pub device: String,
    /// Receive on this device instead.
    #[arg(long, value_name = "DEVICE")]
    pub receive_device: Option<String>,
    /// The MAC address that frames are sent to: the balancer's, or its router's.
    #[arg(long, value_parser = mac)]
    pub to: [u8; 6],
    /// The MAC address that frames come from [default: the device's]
    #[arg(long, value_parser = mac)]
    pub from: Option<[u8; 6]>,
    /// Packets a second (`14.88M`, `500k`), or `unlimited`.
    #[arg(long, default_value = "1M", value_parser = rate)]
    pub rate: Rate,
    /// How long, in seconds.
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// End after so many packets.
    #[arg(long)]
    pub packets: Option<u64>,
    /// Flows that go on, each with a packet in turn.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_FLOWS)))]
    pub flows: u32,
    /// The share of the packets that open a connection, each another one: 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    pub syn_share: f64,
    /// Frame sizes with the 4 bytes of the check: `64`, `64:7,1518:1` with weights, or `imix`
    /// (64, 594, 1518 as 7 to 4 to 1).
    #[arg(long, default_value = "64", value_parser = SizeMix::parse)]
    pub sizes: SizeMix,
    /// Versions of IP.
    #[arg(long, value_enum, default_value = "v4")]
    pub ip: IpArgument,
    /// Protocols.
    #[arg(long, value_enum, default_value = "tcp")]
    pub protocol: ProtocolArgument,
    /// The first IPv4 destination [default: 198.18.0.1]
    #[arg(long, value_name = "ADDRESS")]
    pub vip: Option<std::net::Ipv4Addr>,
    /// The first IPv6 destination [default: 2001:2::1:0]
    #[arg(long, value_name = "ADDRESS")]
    pub vip6: Option<std::net::Ipv6Addr>,
    /// How many destinations, one address after the other.
    #[arg(long, default_value_t = VIPS, value_parser = clap::value_parser!(u32).range(1..))]
    pub vips: u32,
    /// The destinations' port.
    #[arg(long, default_value_t = VIP_PORT)]
    pub port: u16,
    /// Of packets that are due and could not be sent, catch up with so many; skip the others.
    #[arg(long, default_value_t = 1024)]
    pub catch_up: u64,
    /// Also write the result as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// The core to use.
    #[arg(long, default_value_t = 0)]
    pub core: u32,
    /// Memory of the process in MiB.
    #[arg(long, default_value_t = 256)]
    pub memory_mib: u32,
    /// Ordinary pages instead of hugepages: slower.
    #[arg(long)]
    pub no_huge: bool,
    /// Descriptors of each queue.
    #[arg(long, default_value_t = 1024)]
    pub descriptors: u16,
    /// An argument for DPDK's environment, untouched; may be repeated.
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    pub eal_arg: Vec<String>,
}

/// Packets a second; `None`: as many as the device takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(pub Option<u64>);

/// `--ip`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum IpArgument {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
    /// Every other client over IPv6.
    Both,
}

/// `--protocol`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ProtocolArgument {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// Half of the clients by UDP.
    Both,
}

#[derive(Serialize)]
struct Written {
    seconds: f64,
    sent_gbps: f64,
    received_gbps: f64,
    #[serde(flatten)]
    figures: Figures,
}

/// Sends, receives, and prints what came of it.
///
/// # Errors
/// When DPDK or a device cannot be set up, or the mix cannot be made.
pub fn run(options: &Options) -> Result<()> {
    ensure!(options.seconds > 0.0, "{} seconds (expected more than 0)", options.seconds);
    // Before any device is touched.
    let mut mix = options.mix();
    crate::generator::traffic::Traffic::new(&mix)?;
    let eal = Eal::start(&options.eal()).context("DPDK did not start")?;
    let device = Device::open(&eal, options.device(&options.device))?;
    let other = match &options.receive_device {
        Some(name) => Some(Device::open(&eal, options.device(name))?),
        None => None,
    };
    // One pool: what comes in on one device goes out on the other.
    let frame_bytes = other.iter().map(Device::frame_bytes).fold(device.frame_bytes(), u32::max);
    let buffers = u32::from(options.descriptors) * 4 + 8192;
    let pool = Mempool::new(&eal, "generator", buffers, frame_bytes, -1)?;
    let mut device = device.start(std::slice::from_ref(&pool))?;
    let mut other = match other {
        Some(other) => Some(other.start(std::slice::from_ref(&pool))?),
        None => None,
    };
    // What comes back is addressed to backends.
    device.receive_all();
    wait_for_link(&options.device, &device)?;
    let mut port = take_queue(&mut device)?;
    if let (Some(other), Some(name)) = (&mut other, &options.receive_device) {
        other.receive_all();
        wait_for_link(name, other)?;
        (port, _) = Queue::cross(port, take_queue(other)?);
    }
    if options.from.is_none() {
        mix.from = device.mac().0;
    }
    let mut generator = Generator::new(port, &mix, Clock::new())?;
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
    }
    let run = Run {
        rate: options.rate.0,
        time: Duration::from_secs_f64(options.seconds),
        most_owed: options.catch_up,
        most_packets: options.packets.unwrap_or(u64::MAX),
        patience: Run::PATIENCE,
    };
    let report = generator.run(&run, |_, _| !interrupted.load(Ordering::Relaxed));
    print!("{}", text(&report));
    if let Some(path) = &options.json {
        let written = Written {
            seconds: report.seconds,
            sent_gbps: gbps(report.sent_bytes, report.sent, report.seconds),
            received_gbps: gbps(report.received_bytes, report.received, report.seconds),
            figures: report.figures(),
        };
        let text = serde_json::to_string_pretty(&written)? + "\n";
        std::fs::write(path, text)
            .with_context(|| format!("{}: cannot be written", path.display()))?;
    }
    Ok(())
}

impl Options {
    fn mix(&self) -> Mix {
        let standard = Destinations::vips(self.vips, self.port);
        Mix {
            families: match self.ip {
                IpArgument::V4 => Families::V4,
                IpArgument::V6 => Families::V6,
                IpArgument::Both => Families::Both,
            },
            protocols: match self.protocol {
                ProtocolArgument::Tcp => Protocols::Tcp,
                ProtocolArgument::Udp => Protocols::Udp,
                ProtocolArgument::Both => Protocols::Both,
            },
            flows: self.flows,
            syn_share: self.syn_share,
            sizes: self.sizes.clone(),
            destinations: Destinations {
                v4: self.vip.unwrap_or(standard.v4),
                v6: self.vip6.unwrap_or(standard.v6),
                ..standard
            },
            to: self.to,
            from: self.from.unwrap_or_default(),
        }
    }

    fn eal(&self) -> EalOptions {
        let names = std::iter::once(&self.device).chain(&self.receive_device);
        let first = |name: &String| name.split(',').next().unwrap_or_default().to_owned();
        EalOptions {
            memory_mib: self.memory_mib,
            hugepages: !self.no_huge,
            main_core: self.core,
            file_prefix: format!("weir-generate-{}", std::process::id()),
            pci_devices: names.filter(|name| is_pci(&first(name))).cloned().collect(),
            extra: self.eal_arg.clone(),
        }
    }

    fn device(&self, name: &str) -> DeviceOptions {
        // Its packets, and what they are when headers have been put in front.
        let longest = self.sizes.sizes().iter().copied().max().unwrap_or_default();
        let packet = longest.saturating_sub(CHECK_SEQUENCE + 14);
        DeviceOptions {
            device: name.to_owned(),
            queues: 1,
            fewer_queues: false,
            mtu: (packet + LONGEST_WRAPPING).max(1500),
            smaller_mtu: true,
            mac: None,
            all_multicast: false,
            checksum_offload: false,
            rx_descriptors: self.descriptors,
            tx_descriptors: self.descriptors,
        }
    }
}

fn take_queue(device: &mut StartedDevice) -> Result<Queue> {
    device.take_queues().pop().ok_or_else(|| anyhow!("the device has no queue"))
}

fn wait_for_link(name: &str, device: &StartedDevice) -> Result<()> {
    let start = Instant::now();
    while !device.link_up() {
        ensure!(
            start.elapsed() < LINK_TIMEOUT,
            "{name}: no link after {} s (is the other end up?)",
            LINK_TIMEOUT.as_secs()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Gigabits a second on a wire: with check sequence, preamble and the gap between frames.
fn gbps(bytes: u64, packets: u64, seconds: f64) -> f64 {
    (bytes + packets * 24) as f64 * 8.0 / seconds.max(1e-9) / 1e9
}

fn text(report: &Report) -> String {
    let figures = report.figures();
    let us = |ns: u64| ns as f64 / 1e3;
    let row = |what: &str, packets: u64, bytes: u64| {
        let mpps = packets as f64 / report.seconds.max(1e-9) / 1e6;
        let gbps = gbps(bytes, packets, report.seconds);
        format!("{what:<10} {packets:>14} packets {mpps:>10.3} Mpps {gbps:>9.3} Gbit/s\n")
    };
    let mut text = row("sent", report.sent, report.sent_bytes);
    text += &row("received", report.received, report.received_bytes);
    text += &format!("lost       {:>14}\n", figures.lost);
    text += &format!("refused    {:>14}  by the device, which had no room\n", figures.refused);
    text += &format!("skipped    {:>14}  due, and too late to send\n", figures.skipped);
    text += &format!("reordered  {:>14}\n", figures.reordered);
    text += &format!("others     {:>14}  received, and not of this run\n", figures.others);
    if report.no_buffer > 0 {
        text += &format!("no buffer  {:>14}  times\n", report.no_buffer);
    }
    text += &format!(
        "latency    p50 {:.2}  p90 {:.2}  p99 {:.2}  p99.9 {:.2}  max {:.2} us\n",
        us(figures.p50_ns),
        us(figures.p90_ns),
        us(figures.p99_ns),
        us(figures.p999_ns),
        us(figures.max_ns)
    );
    text + &format!(
        "away       {:>14} times for more than 10 us, {:.1} us at the longest\n",
        figures.away,
        us(figures.longest_away_ns)
    )
}

fn mac(text: &str) -> Result<[u8; 6]> {
    let parse = || -> Option<[u8; 6]> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2)?;
            *byte = u8::from_str_radix(part, 16).ok()?;
        }
        parts.next().is_none().then_some(bytes)
    };
    parse().ok_or_else(|| anyhow!("no MAC address (expected such as 02:00:00:00:00:01)"))
}

fn rate(text: &str) -> Result<Rate> {
    if text == "unlimited" {
        return Ok(Rate(None));
    }
    let (number, unit) = match text.as_bytes() {
        [.., b'k'] => (&text[..text.len() - 1], 1e3),
        [.., b'M'] => (&text[..text.len() - 1], 1e6),
        _ => (text, 1.0),
    };
    let rate = number.parse::<f64>().map_or(f64::NAN, |number| (number * unit).round());
    if !(1.0..=FASTEST as f64).contains(&rate) {
        bail!(
            "no rate (expected 1 to {}M packets a second, or \"unlimited\")",
            FASTEST / 1_000_000
        );
    }
    Ok(Rate(Some(rate as u64)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_units() {
        for (text, expected) in [
            ("1", Some(1)),
            ("500k", Some(500_000)),
            ("14.88M", Some(14_880_000)),
            ("500M", Some(500_000_000)),
            ("unlimited", None),
        ] {
            assert_eq!(rate(text).unwrap(), Rate(expected));
        }
        for text in ["", "0", "k", "-1M", "501M", "nan", "inf", "1G", "M1"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn mac_addresses_have_six_bytes() {
        assert_eq!(mac("02:00:00:00:00:fe").unwrap(), [2, 0, 0, 0, 0, 0xfe]);
        for text in
            ["", "02:00:00:00:00", "02:00:00:00:00:01:02", "2:0:0:0:0:1", "0g:00:00:00:00:00"]
        {
            assert!(mac(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_wire_carries_84_bytes_for_the_shortest_frame() {
        // 14.88 million packets a second fill 10 Gbit/s.
        assert!((gbps(60 * 14_880_952, 14_880_952, 1.0) - 10.0).abs() < 0.001);
    }
}
