//! `weir-gue`: see the library's page for the way of a packet, and `docs/gue-receiver.md` for how it
//! is run.
#![forbid(unsafe_code)]

use std::fs;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use tun::AbstractDevice as _;
use weir_gue::arguments::Arguments;
use weir_gue::counters::Counters;
use weir_gue::decide::Desk;
use weir_gue::prefixes::Prefixes;
use weir_gue::recent::Recent;
use weir_gue::versions::Versions;
use weir_gue::worker::Worker;

/// Flows that are remembered as this host's own.
const REMEMBERED_FLOWS: usize = 1 << 18;
/// How often signals are looked at.
const TURN: Duration = Duration::from_millis(100);
/// MTU of the device. It bounds what the kernel sends out on it, which is nothing.
const MTU: u16 = 1500;

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir-gue: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let flag = |signals: &[i32]| -> Result<Arc<AtomicBool>> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in signals {
            signal_hook::flag::register(*signal, Arc::clone(&flag)).context("catching signals")?;
        }
        Ok(flag)
    };
    let (stop, show) = (flag(&[SIGTERM, SIGINT])?, flag(&[SIGUSR1])?);
    let desk = Desk {
        peers: Prefixes::new(arguments.peers.clone()),
        vips: Prefixes::new(arguments.vips.clone()),
        drop_old_versions: arguments.drop_old_versions,
        recent: Recent::new(REMEMBERED_FLOWS),
        versions: Mutex::new(Versions::default()),
        counters: Counters::default(),
    };
    // The sockets first: the device is what others wait for, and then nothing may be lost.
    let workers = workers(arguments, desk.peers.has_ipv6())?;
    let device = open_tun(&arguments.tun)?;
    let start = Instant::now();
    println!("weir-gue: receiving on UDP port {} for {}", arguments.port, arguments.tun);
    std::thread::scope(|scope| {
        for worker in workers {
            let (desk, stop, device) = (&desk, &stop, &device);
            scope.spawn(move || {
                let deliver = |packet: &[u8]| device.send(packet).map(|_| ());
                if let Err(error) = worker.run(desk, start, stop, deliver) {
                    eprintln!("weir-gue: receiving: {error}");
                    stop.store(true, Ordering::Relaxed);
                }
            });
        }
        let mut due = arguments.stats.map(|seconds| start + Duration::from_secs(seconds));
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(TURN);
            let is_due = due.is_some_and(|due| due <= Instant::now());
            if show.swap(false, Ordering::Relaxed) || is_due {
                println!("{}", desk.counters.line());
            }
            if is_due {
                due = arguments.stats.map(|seconds| Instant::now() + Duration::from_secs(seconds));
            }
        }
    });
    println!("{}", desk.counters.line());
    Ok(())
}

/// All workers: over IPv4, and over IPv6 where a peer has such an address.
fn workers(arguments: &Arguments, v6: bool) -> Result<Vec<Worker>> {
    let mut workers = Vec::new();
    for v6 in [false, true].into_iter().filter(|wanted| v6 || !wanted) {
        for _ in 0..arguments.threads {
            let version = if v6 { "IPv6" } else { "IPv4" };
            workers.push(
                Worker::new(v6, arguments.port).with_context(|| {
                    format!("opening UDP port {} over {version}", arguments.port)
                })?,
            );
        }
    }
    Ok(workers)
}

/// Creates the device. It has no address, and packets that arrive on it come from clients, whom the
/// routes lead elsewhere: its reverse path filter (RFC 3704) must be off, as even a loose one drops
/// what comes by a device without an address.
fn open_tun(name: &str) -> Result<tun::Device> {
    let mut configuration = tun::Configuration::default();
    configuration.tun_name(name).mtu(MTU).up();
    let device = tun::create(&configuration).with_context(|| {
        format!("creating TUN device {name} (expected /dev/net/tun, and CAP_NET_ADMIN)")
    })?;
    let name = device.tun_name().context("asking for the device's name")?;
    // The stricter of the two is in force.
    let filter = |of: &str| format!("/proc/sys/net/ipv4/conf/{of}/rp_filter");
    let own = fs::write(filter(&name), "0").and_then(|()| fs::read_to_string(filter(&name)));
    for (of, value) in [(&*name, own), ("all", fs::read_to_string(filter("all")))] {
        let value = value.unwrap_or_else(|error| error.to_string());
        if value.trim() != "0" {
            eprintln!(
                "weir-gue: {} is {} (expected 0, or the kernel drops IPv4 packets that arrive on \
                 {name})",
                filter(of),
                value.trim()
            );
        }
    }
    Ok(device)
}
