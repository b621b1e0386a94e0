//! Instructions a packet: the companion of the rates that no neighbour disturbs.
//!
//! The real path over `net_pcap` runs under valgrind's callgrind, once for a number of bursts and
//! once for more: what the second did more is what packets cost, without any of the setting up. The
//! time is passed in, keys are fixed, and nothing runs beside the worker, so that two runs of the
//! same program count the same. Ordinary pages do: an instruction counts the same wherever its
//! memory lies, which is also why the cases have fewer flows than those that measure time.
//!
//! Valgrind's CPU has no AVX-512: what the path and DPDK choose at run time is their AVX2 form.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;
use config::Config;
use conntrack::Table;
use control::node::{Node, PortFacts};
use dataplane::port::dpdk::{Device, Eal, EalOptions};
use dataplane::port::{BURST, Port};
use dataplane::worker::{Worker, WorkerOptions};
use serde::{Deserialize, Serialize};

use crate::callgrind::{Costs, Function, UNNAMED};
use crate::capture;
use crate::figures::round;
use crate::inlined::{self, Chain};
use crate::machine::Machine;
use crate::scenario::{self, Case};
use crate::weir;

/// Cases whose instructions are counted.
pub const CASES: [&str; 5] = ["hit_4k", "hit_64k", "new_64k", "v6_hit_64k", "gue_hit_64k"];

/// The widest vectors that DPDK may use: those that valgrind knows.
const WIDEST: &str = "--force-max-simd-bitwidth=256";
/// From one burst to the next, as at some 20 Mpps.
const BURST_NS: u64 = 3_000;
/// The same where flows are new: who makes room is a matter of age, in units of 32 milliseconds, and
/// the flows are to go round in as many of them as they do in the case with 16 times as many.
const NEW_BURST_NS: u64 = 200_000;
/// Instructions a packet below which a line of the table is left out.
const SMALLEST: f64 = 1.0;
/// Of a function's source files.
const SMALLEST_FILE: f64 = 4.0;

/// The case of this name, one of [`CASES`]: as [`Case::named`] without `_64k`, with 65,536 flows
/// and a table that is as full as there.
///
/// # Errors
/// When there is none.
pub fn named(name: &str) -> Result<Case> {
    let like = CASES.contains(&name).then(|| match name.strip_suffix("_64k") {
        None => Case::named(name),
        Some(like) => {
            let like = Case::named(like).or_else(|| Case::named(&format!("{like}_1m")))?;
            Some(Case { flows: like.flows >> 4, table: like.table >> 4, ..like })
        }
    });
    let names = CASES.join(", ");
    like.flatten().ok_or_else(|| anyhow!("no case \"{name}\" (expected one of {names})"))
}

/// What one run did in its measured part.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// Packets forwarded.
    pub packets: u64,
    /// Whose flow had an entry.
    pub hits: u64,
    /// Entries made.
    pub inserts: u64,
}

/// Runs `case` over `source` until every flow has its entry, and for `bursts` more, on this thread
/// and without hugepages.
///
/// # Errors
/// When DPDK does not start, or packets did not do what the case is about.
pub fn run(source: &Path, case: Case, bursts: u32) -> Result<Done> {
    let text = scenario::configuration(source, case);
    let config = Config::parse(&text, "the benchmark's configuration")?.config;
    let eal = Eal::start(&EalOptions {
        hugepages: false,
        // A buffer does not cross pages of 4 KiB: each takes one.
        memory_mib: 2 * config.dpdk.memory_mib,
        extra: vec![WIDEST.to_owned()],
        ..weir::eal_options(&config)
    })
    .context("DPDK did not start")?;
    let (device, pools): (Device, _) = weir::open(&eal, &config, case, 1)?;
    let mut device = device.start(&pools)?;
    let queue = device.take_queues().pop().ok_or_else(|| anyhow!("the device has no queue"))?;
    let facts = PortFacts { mac: device.mac(), any_mac: false };
    let mut now = 1_000_000_000;
    let mut node = Node::new(config, &[facts], now / 1_000_000)?;
    let parts = node.add_worker();
    let counters = Arc::clone(&parts.handle.counters);
    let mut worker = Worker::new(WorkerOptions {
        ports: vec![queue],
        reader: parts.reader,
        conntrack: Table::new(case.table as usize)?,
        hash_seed: weir::HASH_SEED,
        number: 0,
        workers: 1,
        link: parts.handle.link,
        counters: parts.handle.counters,
    })
    .unrecorded();
    let burst_ns = if case.new_flows { NEW_BURST_NS } else { BURST_NS };
    let mut poll = |bursts: u32| {
        rounds(&mut worker, &mut now, bursts, burst_ns);
        let conntrack = &counters.conntrack;
        let (hits, inserts) = (conntrack.hits.get(), conntrack.inserts.get());
        Done { packets: counters.forwarded.get(), hits, inserts }
    };
    let before = poll(2 * case.flows / BURST as u32);
    let after = poll(bursts);
    let done = Done {
        packets: after.packets - before.packets,
        hits: after.hits - before.hits,
        inserts: after.inserts - before.inserts,
    };
    let (what, count) =
        if case.new_flows { ("inserts", done.inserts) } else { ("hits", done.hits) };
    let expected = u64::from(bursts) * BURST as u64;
    let near = |count: u64| count.abs_diff(expected) as f64 <= expected as f64 * weir::TOLERANCE;
    ensure!(done.packets == expected, "{} packets, not {expected}", done.packets);
    ensure!(near(count), "{count} {what} of {expected} packets");
    Ok(done)
}

/// The worker's loop, with the time passed in.
#[inline(never)]
fn rounds<P: Port>(worker: &mut Worker<P>, now: &mut u64, rounds: u32, burst_ns: u64) {
    for _ in 0..rounds {
        worker.poll(*now);
        *now += burst_ns;
    }
}

/// What is asked for.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Only this case (hit_4k, hit_64k, new_64k, v6_hit_64k or gue_hit_64k); may be repeated.
    #[arg(long = "case", value_name = "CASE", value_parser = CASES)]
    pub cases: Vec<String>,
    /// Also write the result as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// A folder for packet sources and callgrind's files.
    #[arg(long, value_name = "FOLDER")]
    pub work: PathBuf,
}

/// What the JSON holds.
#[derive(Clone, Debug, Serialize)]
pub struct Counts {
    /// What it was measured on.
    pub machine: Machine,
    /// By case.
    pub cases: BTreeMap<String, CaseCounts>,
}

/// Instructions of one case, each for one packet.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CaseCounts {
    /// All: with those of the driver that plays the source, and of DPDK's other libraries.
    pub instructions: f64,
    /// Those of the program itself.
    pub own_instructions: f64,
    /// Packets that they are the mean of.
    pub packets: u64,
    /// Weir's own by the part of the path that they belong to, whatever function it is in.
    pub parts: BTreeMap<&'static str, f64>,
    /// By function, most first; those with less than one are left out.
    pub functions: Vec<FunctionCount>,
}

/// Instructions of one function itself, without those that it calls and that were not inlined.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FunctionCount {
    /// The program or library that it is in.
    pub object: String,
    /// Its name.
    pub function: String,
    /// Instructions.
    pub instructions: f64,
    /// By the source file that they were inlined from: the innermost that is Weir's.
    pub files: BTreeMap<String, f64>,
}

/// Counts and prints.
///
/// # Errors
/// At the first case that fails, or when valgrind is not there.
pub fn count(options: &Options) -> Result<()> {
    std::fs::create_dir_all(&options.work)
        .with_context(|| format!("{}: cannot be made", options.work.display()))?;
    let machine = Machine::here();
    println!("{machine}\n");
    let mut cases = BTreeMap::new();
    let names = match options.cases.is_empty() {
        true => CASES.map(str::to_owned).to_vec(),
        false => options.cases.clone(),
    };
    for name in &names {
        eprintln!("{name} ...");
        let counts = count_case(name, options).with_context(|| name.clone())?;
        print(name, &counts);
        cases.insert(name.clone(), counts);
    }
    if let Some(path) = &options.json {
        let mut text = serde_json::to_string_pretty(&Counts { machine, cases })?;
        text.push('\n');
        std::fs::write(path, text)
            .with_context(|| format!("{}: cannot be written", path.display()))?;
    }
    Ok(())
}

fn count_case(name: &str, options: &Options) -> Result<CaseCounts> {
    let case = named(name)?;
    let source = options.work.join(case.source_name());
    capture::write(&source, case.flows, case.ip, case.kind())?;
    // The source goes round once, at least, and twice more.
    let bursts = (case.flows / BURST as u32).max(1024);
    let file = options.work.join(format!("callgrind.{name}"));
    let (few, less) = under_callgrind(name, &source, bursts, &file)?;
    let (many, more) = under_callgrind(name, &source, 3 * bursts, &file)?;
    let program = std::env::current_exe()?;
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let costs = more.beyond(&less);
    let functions = costs.functions();
    let own = functions.iter().filter(|function| function.object == name);
    let addresses: Vec<u64> =
        own.flat_map(|function| function.addresses.iter().map(|(address, _)| *address)).collect();
    let chains = inlined::chains(&program, &addresses)?;
    Ok(counts(&functions, &chains, many.packets - few.packets, &name))
}

fn under_callgrind(name: &str, source: &Path, bursts: u32, file: &Path) -> Result<(Done, Costs)> {
    let output = Command::new("valgrind")
        .args(["--quiet", "--tool=callgrind", "--dump-instr=yes", "--dump-line=no"])
        .arg("--compress-pos=no")
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(std::env::current_exe()?)
        .args(["instruction-run", "--case", name, "--bursts", &bursts.to_string(), "--source"])
        .arg(source)
        .stdin(Stdio::null())
        .output()
        .context("valgrind did not start: apt-get install valgrind")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("the run under valgrind failed ({}); it said:\n{}", output.status, said.trim());
    }
    let done = serde_json::from_slice(&output.stdout).context("the run's report")?;
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("{}: cannot be read", file.display()))?;
    Ok((done, Costs::parse(&text)?))
}

fn counts(
    functions: &[Function<'_>],
    chains: &HashMap<u64, Chain>,
    packets: u64,
    program: &str,
) -> CaseCounts {
    let of_a_packet = |cost: u64| cost as f64 / packets.max(1) as f64;
    let rounded = |cost: u64| round(of_a_packet(cost), 2);
    let (mut all, mut own) = (0, 0);
    let mut parts: BTreeMap<&str, u64> = BTreeMap::new();
    let mut counted = Vec::new();
    for function in functions {
        all += function.cost;
        let mut files: BTreeMap<&str, u64> = BTreeMap::new();
        if function.object == program {
            own += function.cost;
            for (address, cost) in &function.addresses {
                let chain = chains.get(address).map_or(&[][..], Vec::as_slice);
                *parts.entry(inlined::part(chain)).or_default() += cost;
                *files.entry(inlined::file(chain)).or_default() += cost;
            }
        }
        let files = files.into_iter().map(|(file, cost)| (file.to_owned(), rounded(cost)));
        counted.push(FunctionCount {
            object: function.object.to_owned(),
            function: function.name.to_owned(),
            instructions: rounded(function.cost),
            files: files.filter(|(_, cost)| *cost > 0.0).collect(),
        });
    }
    counted.retain(|function| function.instructions >= SMALLEST);
    CaseCounts {
        instructions: rounded(all),
        own_instructions: rounded(own),
        packets,
        parts: parts.into_iter().map(|(part, cost)| (part, rounded(cost))).collect(),
        functions: counted,
    }
}

fn print(name: &str, counts: &CaseCounts) {
    println!(
        "{name}: {:.1} instructions a packet, {:.1} of them Weir's own",
        counts.instructions, counts.own_instructions
    );
    for part in inlined::PARTS {
        let cost = counts.parts.get(part).copied().unwrap_or(0.0);
        println!("{cost:>10.1}  {part}");
    }
    println!("by function, and by the source that went into it:");
    for FunctionCount { object, function, instructions, files } in &counts.functions {
        let object = if function == UNNAMED { object } else { "" };
        println!("{instructions:>10.1}  {function} {object}");
        let mut files: Vec<(&String, &f64)> =
            files.iter().filter(|(_, cost)| **cost >= SMALLEST_FILE).collect();
        files.sort_by(|one, other| other.1.total_cmp(one.1));
        if files.len() > 1 {
            for (file, cost) in files {
                println!("{cost:>18.1}  {file}");
            }
        }
    }
    println!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_those_that_measure_time_with_a_table_as_full() {
        for name in CASES {
            let small = named(name).unwrap();
            let like = name.strip_suffix("_64k").unwrap_or(name);
            let like = Case::named(like).or(Case::named(&format!("{like}_1m"))).unwrap();
            let full = |case: Case| f64::from(case.flows) / f64::from(case.table);
            assert!((full(small) - full(like)).abs() < 0.01, "{name}");
            assert!(small.flows <= 1 << 16 && (small.mode, small.ip) == (like.mode, like.ip));
        }
        assert!(named("hit_1m").is_err());
    }

    #[test]
    fn counts_are_of_a_packet() {
        let text = "\
positions: instr
ob=/r/target/release/weir-bench
fn=one
0x10 600
0x14 400
fn=two
0x20 50
ob=/usr/lib/lib.so
fn=three
0x10 20
";
        let costs = Costs::parse(text).unwrap();
        let chain =
            |file: &str| vec!["/rustc/1/library/core/src/num.rs".to_owned(), file.to_owned()];
        let hash = chain("conntrack/src/hash.rs");
        let chains = HashMap::from([(0x10, hash), (0x14, chain("dataplane/src/parse/common.rs"))]);
        let counts = counts(&costs.functions(), &chains, 100, "weir-bench");
        assert_eq!((counts.instructions, counts.own_instructions), (10.7, 10.5));
        assert_eq!(counts.packets, 100);
        assert_eq!(counts.parts, BTreeMap::from([("hash", 6.0), ("parse", 4.0), ("rest", 0.5)]));
        let [one] = &counts.functions[..] else { panic!("{counts:?}") };
        assert_eq!((one.function.as_str(), one.instructions), ("one", 10.0));
        assert_eq!(one.object, "weir-bench");
        assert_eq!(one.files["conntrack/src/hash.rs"], 6.0);
    }
}
