//! `weir replay`: the real data path over a capture file.
//!
//! The same worker and the same control side as in `weir run`, with the capture's time for a
//! clock, packets in memory for ports, and fixed seeds: the same capture gives the same packets,
//! byte for byte, at every run.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use conntrack::Table;
use control::node::{Node, PortFacts};
use dataplane::buffer::{Buffer, Frame};
use dataplane::parse::parse;
use dataplane::port::capture::{CaptureReader, CaptureWriter};
use dataplane::port::memory::MemoryPort;
use dataplane::second_chance::second;
use dataplane::tables::Forwarding;
use dataplane::verdict::{NO_BACKEND, NO_VIP, Outcome, Verdict};
use dataplane::wire::MacAddress;
use dataplane::worker::{Worker, WorkerOptions};
use serde_json::json;

use crate::cli::ReplayArguments;
use crate::failure::{Failure, load_static};

/// Seeds of `replay` and `explain`: fixed, so that results repeat.
pub(crate) const SEED: [u64; 4] = [1, 2, 3, 4];

/// A node without devices: one worker, its ports in memory.
pub(crate) struct Bench {
    pub(crate) node: Node,
    pub(crate) worker: Worker<MemoryPort>,
}

impl Bench {
    /// Builds the node; `now_ms` is the time it starts at.
    pub(crate) fn new(config: config::Config, now_ms: u64) -> Result<Self, Failure> {
        let facts: Vec<PortFacts> = (0u8..)
            .zip(&config.ports)
            .map(|(index, _)| PortFacts {
                // Locally administered, and different for each port.
                mac: MacAddress([0x02, 0, 0, 0, 0, index]),
                any_mac: true,
            })
            .collect();
        let ports = config.ports.iter().map(|_| MemoryPort::new()).collect();
        let exceptions = config.ports.iter().map(|port| port.exception.is_some());
        let exceptions = exceptions.map(|there| there.then(MemoryPort::new)).collect();
        let flows = config.conntrack.flows as usize;
        let mut node = Node::new(config, &facts, now_ms).map_err(Failure::configuration)?;
        let parts = node.add_worker();
        let mut worker = Worker::new(WorkerOptions {
            ports,
            reader: parts.reader,
            conntrack: Table::new(flows)?,
            hash_seed: SEED,
            number: 0,
            workers: 1,
            link: parts.handle.link,
            counters: parts.handle.counters,
        });
        worker.set_exceptions(exceptions);
        Ok(Self { node, worker })
    }

    /// What a verdict was based on, by name: VIP, pool, backend.
    pub(crate) fn names(&self, outcome: Outcome) -> Names {
        let assembler = self.node.assembler();
        let vip = (outcome.vip != NO_VIP).then(|| assembler.vip_name(outcome.vip)).flatten();
        let backend = (outcome.backend != NO_BACKEND)
            .then(|| assembler.backend_name(outcome.backend))
            .flatten();
        let pool = backend.map(|(pool, _)| pool.to_owned()).or_else(|| {
            let bound = |pool: &&control::snapshot::PoolSnapshot| {
                pool.vips.iter().any(|binding| Some(binding.name().as_str()) == vip)
            };
            self.node.pools().find(bound).map(|pool| pool.pool_id.clone())
        });
        Names {
            vip: vip.map(str::to_owned),
            pool,
            backend: backend.map(|(_, id)| id.to_owned()),
            second: None,
        }
    }

    /// The backend that a packet names beside the one that it goes to, by the tables in force.
    fn second(&self, frame: &[u8], outcome: Outcome) -> Option<String> {
        let tables = self.node.tables();
        let backend = tables.backend(outcome.backend)?;
        if outcome.verdict != Verdict::Forward
            || backend.encapsulation.forwarding() != Forwarding::GueWithHeader
        {
            return None;
        }
        let parsed = parse(&Frame::new(frame), tables.ports.first()?);
        let (index, _) = second(tables, outcome.vip, outcome.backend, &parsed)?;
        self.node.assembler().backend_name(index).map(|(_, id)| id.to_owned())
    }
}

/// Names for an [`Outcome`].
pub(crate) struct Names {
    pub(crate) vip: Option<String>,
    pub(crate) pool: Option<String>,
    pub(crate) backend: Option<String>,
    /// Who is named in a GUE header, for a second chance.
    pub(crate) second: Option<String>,
}

/// Runs the capture through the node.
pub(crate) fn replay(arguments: &ReplayArguments) -> Result<(), Failure> {
    let config = load_static(&arguments.config)?;
    let mut reloads = arguments.reloads.clone();
    reloads.sort_by_key(|reload| reload.packet);
    let mut reloads = reloads.into_iter().peekable();
    let ports = config.ports.len();
    check_different_files(arguments)?;
    let mut reader = CaptureReader::open(&arguments.input)?;
    let mut writer = CaptureWriter::create(&arguments.output)?;
    let mut output = BufWriter::new(std::io::stdout().lock());
    let mut bench: Option<Bench> = None;
    let mut config = Some(config);
    let mut counts = Counts::default();
    // The worker's clock must not go backwards, whatever the capture's times do.
    let mut now = 0;
    while let Some(captured) = reader.next_packet()? {
        now = captured.time.max(now);
        let now_ms = now / 1_000_000;
        if let Some(config) = config.take() {
            bench = Some(Bench::new(config, now_ms)?);
        }
        let Some(bench) = &mut bench else { break };
        while let Some(reload) = reloads.next_if(|reload| reload.packet <= counts.packets) {
            let config = load_static(&reload.config)?;
            bench.node.reload(config, now_ms).map_err(Failure::configuration)?;
        }
        // What was due before this packet: drains that end, neighbours to ask for. What goes out
        // for that is not counted as an output of the packet.
        bench.node.step(now_ms);
        bench.worker.poll(now);
        counts.outputs += write_sent(bench, ports, now, &mut writer)?;
        if let Some(port) = bench.worker.port_mut(0) {
            port.push(Frame::new(&captured.data));
        }
        bench.worker.poll(now);
        let outcome = bench.worker.last_outcomes().first().copied();
        let second = outcome.and_then(|outcome| bench.second(&captured.data, outcome));
        // An ARP reply in this packet may let held packets go.
        bench.node.step(now_ms);
        bench.worker.poll(now);
        let outputs = write_sent(bench, ports, now, &mut writer)?;
        let Some(outcome) = outcome else { continue };
        if arguments.json {
            let names = Names { second, ..bench.names(outcome) };
            let line = line(counts.packets, outcome, &names, outputs);
            writeln!(output, "{line}")?;
        }
        counts.add(outcome, outputs);
    }
    writer.finish()?;
    if !arguments.json {
        counts.print(&mut output)?;
    }
    output.flush()?;
    Ok(())
}

/// Writes what has been sent since the last call, in the order of the ports; how many it was.
fn write_sent(
    bench: &mut Bench,
    ports: usize,
    now: u64,
    writer: &mut CaptureWriter,
) -> Result<u64, Failure> {
    let mut written = 0;
    for port in 0..ports {
        // What went to the kernel is no output, and must not pile up.
        bench.worker.exception_mut(port).map(MemoryPort::take_sent);
        let sent = bench.worker.port_mut(port).map(MemoryPort::take_sent).unwrap_or_default();
        for frame in sent {
            writer.write(now, frame.data())?;
            written += 1;
        }
    }
    Ok(written)
}

/// Refuses to write over what is being read, under whatever name.
fn check_different_files(arguments: &ReplayArguments) -> Result<(), Failure> {
    let identity =
        |path: &Path| std::fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
    let input = identity(&arguments.input);
    if input.is_some() && input == identity(&arguments.output) {
        return Err(Failure::configuration(format!(
            "--out {} is the file that --in reads: expected another one",
            arguments.output.display()
        )));
    }
    Ok(())
}

/// One line of `--json`, as SPEC section 17 gives it; with `second`, too, where a GUE header names
/// somebody.
fn line(packet: u64, outcome: Outcome, names: &Names, outputs: u64) -> String {
    let reason = match outcome.verdict {
        Verdict::Drop(reason) => Some(reason.name()),
        _ => None,
    };
    let second =
        names.second.as_ref().map_or(String::new(), |id| format!(",\"second\":{}", json!(id)));
    // Written by hand for the order of the keys.
    format!(
        "{{\"packet\":{packet},\"verdict\":{},\"reason\":{},\"vip\":{},\"pool\":{},\"backend\":{},\
         \"outputs\":{outputs}{second}}}",
        json!(outcome.verdict.name()),
        json!(reason),
        json!(names.vip),
        json!(names.pool),
        json!(names.backend),
    )
}

/// What came of the capture as a whole.
#[derive(Default)]
struct Counts {
    packets: u64,
    outputs: u64,
    verdicts: BTreeMap<String, u64>,
}

impl Counts {
    fn add(&mut self, outcome: Outcome, outputs: u64) {
        self.packets += 1;
        self.outputs += outputs;
        let name = match outcome.verdict {
            Verdict::Drop(reason) => format!("drop {}", reason.name()),
            verdict => verdict.name().to_owned(),
        };
        *self.verdicts.entry(name).or_default() += 1;
    }

    fn print(&self, output: &mut impl Write) -> std::io::Result<()> {
        writeln!(output, "{} packets read, {} written", self.packets, self.outputs)?;
        for (name, count) in &self.verdicts {
            writeln!(output, "{:>10}  {name}", count)?;
        }
        Ok(())
    }
}
