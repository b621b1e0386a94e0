//! `weir-decap`: takes the outer headers off tunnelled packets on a backend of the test lab: IP in
//! IP, GRE and GUE (variant 1), over IPv4 and, with `--ipv6`, over IPv6.
//!
//! On real hosts the kernel's tunnel device does this. See the library's page for the way of a
//! packet; each kind of tunnel has a thread and a socket of its own. Runs until SIGTERM or SIGINT, then prints its counters as one line of JSON.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};
use weir_decap::socket::TunnelSocket;
use weir_decap::stats::Stats;
use weir_decap::strip::{
    PROTOCOL_GRE, PROTOCOL_IPV4, PROTOCOL_IPV6, Reason, inner, inner_of_udp, strip,
};
use weir_decap::tun::Tun;

/// The longest IPv4 packet.
const LONGEST_PACKET: usize = 65_535;

#[derive(Parser)]
#[command(version, about = "Takes the outer headers off tunnelled packets, for the test lab")]
struct Arguments {
    /// Name of the TUN device to create; inner packets arrive on it
    #[arg(long, default_value = "decap0")]
    tun: String,

    /// MTU of the TUN device, in bytes
    #[arg(long, default_value_t = 1500)]
    mtu: u16,

    /// UDP port of GUE
    #[arg(long, default_value_t = 6080)]
    gue_port: u16,

    /// Tunnels over IPv6, too
    #[arg(long)]
    ipv6: bool,

    /// File to keep the counters in, as JSON
    #[arg(long, value_name = "FILE")]
    stats: Option<PathBuf>,

    /// How often that file is written, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..))]
    interval: u64,
}

/// How packets of a socket begin.
#[derive(Clone, Copy)]
enum Form {
    /// With the outer IPv4 header.
    OuterV4,
    /// Behind an IPv6 header, of this protocol.
    Behind(u8),
    /// Behind a UDP header.
    BehindUdp,
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
    // The sockets first: the device is what a lab waits for, and then nothing may be lost.
    let sockets = open(arguments)?;
    let tun = Tun::create(&arguments.tun, arguments.mtu)?;
    let stats = Mutex::new(Stats::default());
    std::thread::scope(|scope| {
        for (socket, form) in &sockets {
            let (tun, stats, stop) = (&tun, &stats, &stop);
            scope.spawn(move || {
                if let Err(error) = decapsulate(socket, *form, tun, stats, stop) {
                    eprintln!("weir-decap: receiving: {error}");
                    stop.store(true, Ordering::Relaxed);
                }
            });
        }
        let result = keep_until(&stats, arguments, &stop);
        stop.store(true, Ordering::Relaxed);
        result
    })?;
    let stats = lock(&stats);
    keep(&stats, arguments)?;
    println!("{}", stats.to_json()?);
    Ok(())
}

fn open(arguments: &Arguments) -> Result<Vec<(TunnelSocket, Form)>> {
    let mut sockets = Vec::new();
    let raw = "opening a raw socket";
    for protocol in [PROTOCOL_IPV4, PROTOCOL_IPV6, PROTOCOL_GRE] {
        sockets.push((TunnelSocket::raw_v4(protocol).context(raw)?, Form::OuterV4));
        if arguments.ipv6 {
            sockets.push((TunnelSocket::raw_v6(protocol).context(raw)?, Form::Behind(protocol)));
        }
    }
    let udp = || format!("opening UDP port {}", arguments.gue_port);
    for v6 in [false, true].into_iter().filter(|v6| !v6 || arguments.ipv6) {
        let socket = TunnelSocket::udp(v6, arguments.gue_port).with_context(udp)?;
        sockets.push((socket, Form::BehindUdp));
    }
    Ok(sockets)
}

fn decapsulate(
    socket: &TunnelSocket,
    form: Form,
    tun: &Tun,
    stats: &Mutex<Stats>,
    stop: &AtomicBool,
) -> std::io::Result<()> {
    let mut buffer = vec![0u8; LONGEST_PACKET];
    while !stop.load(Ordering::Relaxed) {
        if let Some((length, from)) = socket.receive(&mut buffer)? {
            pass_on(&buffer[..length], from, form, tun, stats);
        }
    }
    Ok(())
}

fn pass_on(packet: &[u8], from: IpAddr, form: Form, tun: &Tun, stats: &Mutex<Stats>) {
    let inner = match form {
        Form::OuterV4 => strip(packet).map(|stripped| stripped.inner),
        Form::Behind(protocol) => inner(protocol, packet),
        Form::BehindUdp => inner_of_udp(packet),
    };
    let delivered = inner.and_then(|inner| match tun.deliver(inner) {
        Ok(()) => Ok(inner.len()),
        Err(_) => Err(Reason::Write),
    });
    let mut stats = lock(stats);
    match delivered {
        Ok(length) => stats.delivered(from, length),
        Err(reason) => stats.dropped(reason),
    }
}

/// Writes the counters down every now and then, until it is time to stop.
fn keep_until(stats: &Mutex<Stats>, arguments: &Arguments, stop: &AtomicBool) -> Result<()> {
    let interval = Duration::from_millis(arguments.interval);
    let mut next_write = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        if Instant::now() >= next_write {
            keep(&lock(stats), arguments)?;
            next_write = Instant::now() + interval;
        }
        std::thread::sleep(interval.min(Duration::from_millis(50)));
    }
    Ok(())
}

/// Counters are whole after each packet, whatever became of the thread that held them.
fn lock(stats: &Mutex<Stats>) -> MutexGuard<'_, Stats> {
    stats.lock().unwrap_or_else(PoisonError::into_inner)
}

fn keep(stats: &Stats, arguments: &Arguments) -> Result<()> {
    match &arguments.stats {
        Some(file) => stats.write(file).with_context(|| format!("writing {}", file.display())),
        None => Ok(()),
    }
}
