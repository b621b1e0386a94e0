//! A whole fleet of checkers on one thread: 6 checkers, 750 backends, 3 checkers each, once a
//! second. Prints how many probes a second were made, how late they began, and what it cost.
//!
//! ```text
//! cargo run --release -p checker --example fleet [SECONDS]
//! ```
//!
//! Backends and controller run on threads of their own, and are real: each probe is a TCP
//! connection over loopback, each report goes through gRPC.

#[path = "../tests/checker/controller.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod controller;

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use checker::{Checker, Settings};
use controller::{Controller, Mood};
use proto::v1::{Assignment, ProbeSettings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

const CHECKERS: usize = 6;
const BACKENDS: usize = 750;
const CHECKERS_OF_EACH: usize = 3;

fn main() -> Result<(), Box<dyn Error>> {
    let seconds = std::env::args().nth(1).map_or(Ok(20), |text| text.parse())?;
    let port = accepting()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, measure(port, Duration::from_secs(seconds)))
}

async fn measure(port: u16, time: Duration) -> Result<(), Box<dyn Error>> {
    let mut addresses = Vec::new();
    // A controller each: this one hands the same list to all that ask.
    let mut controllers = Vec::new();
    for number in 0..CHECKERS {
        let controller = Controller::start(Mood::Attentive);
        let mine = (0..BACKENDS).filter(|n| (n + CHECKERS - number) % CHECKERS < CHECKERS_OF_EACH);
        controller.assigns(mine.map(|n| assignment(n, port)).collect());
        let endpoints = client::Settings::new([controller.address.clone()]);
        let mut settings = Settings::new(format!("checker-{number}"), endpoints);
        settings.http = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let checker = Checker::new(settings).await?;
        addresses.extend(checker.http_address());
        tokio::task::spawn_local(checker.run(std::future::pending()));
        controllers.push(controller);
    }
    // The first second is the spreading of the phases, and the first verdicts.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (before, start, cpu) = (all(&addresses).await?, Instant::now(), cpu_time()?);
    tokio::time::sleep(time).await;
    let (after, took, cpu) = (all(&addresses).await?, start.elapsed(), cpu_time()? - cpu);
    let counts: Vec<f64> = after.0.iter().zip(&before.0).map(|(a, b)| a - b).collect();
    let probes = counts.last().copied().unwrap_or(0.0);
    println!("probes_per_s {:.0}", probes / took.as_secs_f64());
    for share in [0.5, 0.99, 0.999, 1.0] {
        let index = counts.iter().position(|count| *count >= probes * share).unwrap_or(0);
        let bound = after.1.get(index).map_or("+Inf", String::as_str);
        println!("probe_late_p{}_s <= {bound}", share * 100.0);
    }
    println!("cpu_percent_of_a_core {:.1}", 100.0 * cpu.as_secs_f64() / took.as_secs_f64());
    println!("failed {:.0}", after.2 - before.2);
    Ok(())
}

fn assignment(number: usize, port: u16) -> Assignment {
    // All of 127.0.0.0/8 is this machine.
    let ip = Ipv4Addr::new(127, 1, (number / 250) as u8, (number % 250 + 1) as u8);
    Assignment {
        backend_id: format!("backend-{number}"),
        ip: ip.to_string(),
        port: port.into(),
        settings: Some(ProbeSettings::default()),
        ..Assignment::default()
    }
}

/// A port on all addresses whose connections are taken and closed.
fn accepting() -> std::io::Result<u16> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    Ok(port)
}

/// Of all checkers: lateness by bucket, the buckets' bounds, and probes that did not pass.
async fn all(addresses: &[SocketAddr]) -> Result<(Vec<f64>, Vec<String>, f64), Box<dyn Error>> {
    let (mut counts, mut bounds, mut failed) = (Vec::new(), Vec::new(), 0.0);
    for address in addresses {
        let mut stream = TcpStream::connect(address).await?;
        let request = "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        let mut index = 0;
        for line in text.lines() {
            let Some((name, value)) = line.rsplit_once(' ') else { continue };
            let bucket = "weir_checker_probe_lateness_seconds_bucket{le=\"";
            if let Some(bound) = name.strip_prefix(bucket) {
                if counts.len() == index {
                    counts.push(0.0);
                    bounds.push(bound.trim_end_matches("\"}").to_owned());
                }
                counts[index] += value.parse::<f64>()?;
                index += 1;
            }
            let probes = name.starts_with("weir_checker_probes_total");
            if probes && !name.contains("result=\"pass\"") {
                failed += value.parse::<f64>()?;
            }
        }
    }
    Ok((counts, bounds, failed))
}

/// What this thread has used: user and system, in ticks of 10 ms (proc(5)).
fn cpu_time() -> Result<Duration, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/thread-self/stat")?;
    let fields = stat.rsplit(") ").next().unwrap_or_default();
    let ticks: u64 = fields.split(' ').skip(11).take(2).flat_map(str::parse::<u64>).sum();
    Ok(Duration::from_millis(10 * ticks))
}
