//! `weir-decap`: takes the outer header off IP-in-IP packets on a backend of the test lab.
//!
//! On real hosts the kernel's tunnel device does this. See the library's page for the way of a
//! packet. Runs until SIGTERM or SIGINT, then prints its counters as one line of JSON.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};
use weir_decap::socket::RawSocket;
use weir_decap::stats::Stats;
use weir_decap::strip::{PROTOCOL_IPV4, Reason, strip};
use weir_decap::tun::Tun;

/// The longest IPv4 packet.
const LONGEST_PACKET: usize = 65_535;

#[derive(Parser)]
#[command(version, about = "Takes the outer header off IP-in-IP packets, for the test lab")]
struct Arguments {
    /// Name of the TUN device to create; inner packets arrive on it
    #[arg(long, default_value = "decap0")]
    tun: String,

    /// MTU of the TUN device, in bytes
    #[arg(long, default_value_t = 1500)]
    mtu: u16,

    /// File to keep the counters in, as JSON
    #[arg(long, value_name = "FILE")]
    stats: Option<PathBuf>,

    /// How often that file is written, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..))]
    interval: u64,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir-decap: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("catching signals")?;
    }
    // The socket first: the device is what a lab waits for, and then nothing may be lost.
    let socket = RawSocket::open(PROTOCOL_IPV4).context("opening a raw socket")?;
    let tun = Tun::create(&arguments.tun, arguments.mtu)?;
    let stats = decapsulate(&socket, &tun, arguments, &stop)?;
    println!("{}", stats.to_json()?);
    Ok(())
}

fn decapsulate(
    socket: &RawSocket,
    tun: &Tun,
    arguments: &Arguments,
    stop: &AtomicBool,
) -> Result<Stats> {
    let interval = Duration::from_millis(arguments.interval);
    let mut stats = Stats::default();
    let mut buffer = vec![0u8; LONGEST_PACKET];
    let mut next_write = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        if let Some(length) = socket.receive(&mut buffer).context("receiving")? {
            pass_on(&buffer[..length], tun, &mut stats);
        }
        if Instant::now() >= next_write {
            keep(&stats, arguments)?;
            next_write = Instant::now() + interval;
        }
    }
    keep(&stats, arguments)?;
    Ok(stats)
}

fn pass_on(packet: &[u8], tun: &Tun, stats: &mut Stats) {
    match strip(packet) {
        Ok(stripped) => match tun.deliver(stripped.inner) {
            Ok(()) => stats.delivered(stripped.outer_source, stripped.inner.len()),
            Err(_) => stats.dropped(Reason::Write),
        },
        Err(reason) => stats.dropped(reason),
    }
}

fn keep(stats: &Stats, arguments: &Arguments) -> Result<()> {
    match &arguments.stats {
        Some(file) => stats.write(file).with_context(|| format!("writing {}", file.display())),
        None => Ok(()),
    }
}
