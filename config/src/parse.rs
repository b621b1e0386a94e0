//! From text to a validated [`Config`], or to every problem in it.
//!
//! Syntax comes first: a file that is no TOML is not judged further, as what is missing may
//! only be misread. Then each section is read on its own, then they are compared.

use crate::cross;
use crate::model::{Config, Dpdk};
use crate::reader::{Reader, TableAt, label};
use crate::report::{Errors, Problem, Report, Reported, quote};
use crate::schema::keys::{self, CONNTRACK, DPDK, ENCAPSULATION, NODE, POOL, PORT, TOP, VIP, top};
use crate::schema::{Key, Section};
use crate::section::pool::PoolEntry;
use crate::section::port::PortEntry;
use crate::section::vip::VipEntry;
use crate::section::{encapsulation, node, pool, port, vip};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use toml::de::DeTable;

/// The longest file that is read, in bytes. A VIP takes about 100.
const LONGEST_FILE: u64 = 64 << 20;
/// The most ports a node can have; DPDK's own limit, RTE_MAX_ETHPORTS.
const MOST_PORTS: usize = 32;

/// A configuration that can be used, and what is doubtful about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Remarks, in the order of the lines.
    pub warnings: Vec<Problem>,
}

impl Config {
    /// Reads and validates the file at `path`.
    ///
    /// # Errors
    ///
    /// All problems of the file, or the one that it cannot be read.
    pub fn load(path: &Path) -> Result<Loaded, Errors> {
        let name = path.display().to_string();
        let unreadable = |line, message: String| Errors {
            problems: vec![Problem { file: name.clone(), line, message }],
        };
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(LONGEST_FILE + 1).read_to_end(&mut bytes))
            .map_err(|error| unreadable(None, format!("cannot be read: {error}")))?;
        if bytes.len() as u64 > LONGEST_FILE {
            let message = format!("is longer than {} MiB", LONGEST_FILE >> 20);
            return Err(unreadable(None, message));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let (good, _) = error.as_bytes().split_at(error.utf8_error().valid_up_to());
            let line = 1 + good.iter().filter(|&&byte| byte == b'\n').count();
            unreadable(Some(line), "holds bytes that are not UTF-8 (expected text)".to_owned())
        })?;
        Self::parse(&text, &name)
    }

    /// Validates `text`; `file_name` is only shown in messages.
    ///
    /// # Errors
    ///
    /// All problems of the text.
    pub fn parse(text: &str, file_name: &str) -> Result<Loaded, Errors> {
        let mut report = Report::new(text, file_name);
        let (document, syntax) = DeTable::parse_recoverable(text);
        report_syntax(&mut report, text, &syntax);
        let empty = DeTable::new();
        let config = match report.problem_count() {
            0 => read(&mut report, document.get_ref(), &empty),
            _ => None,
        };
        let warnings = report.finish()?;
        match config {
            Some(config) => Ok(Loaded { config, warnings }),
            // A section that gives up has said why, so the report was not empty.
            None => Err(Errors {
                problems: vec![Problem {
                    file: file_name.to_owned(),
                    line: Some(1),
                    message: "is not a valid configuration".to_owned(),
                }],
            }),
        }
    }
}

/// One problem for each line: what follows the first on a line is mostly its echo.
fn report_syntax(report: &mut Report<'_>, text: &str, errors: &[toml::de::Error]) {
    let mut seen = HashSet::new();
    let mut errors: Vec<_> =
        errors.iter().map(|error| (error.span().unwrap_or_default(), error)).collect();
    errors.sort_by_key(|(span, _)| span.start);
    for (span, error) in errors {
        let line = report.line_at(span.start);
        if !seen.insert(line) {
            continue;
        }
        let message = match (error.message(), text.get(span)) {
            ("duplicate key", Some(key)) => {
                format!("key {} is there twice (expected each key and table once)", quote(key))
            }
            (message, _) => format!("not TOML: {}", message.replace('\n', ", ")),
        };
        report.problem(line, message);
    }
}

/// Reads the sections, then compares those that are whole.
fn read<'d>(
    report: &mut Report<'d>,
    document: &'d DeTable<'d>,
    empty: &'d DeTable<'d>,
) -> Option<Config> {
    let at = TableAt { line: 1, table: document };
    let mut top = Reader::new(report, &TOP, String::new(), at);
    let refused = top.refuse(&top::CONTROLLER, "static [[pool]] and [[vip]] tables");
    let absent = TableAt { line: 1, table: empty };
    let mut table = |key| top.table(key).map(|at| at.unwrap_or(absent));
    let node = table(&top::NODE);
    let dpdk = table(&top::DPDK);
    let encapsulation = table(&top::ENCAPSULATION);
    let conntrack = table(&top::CONNTRACK);
    let ports = tables(&mut top, &top::PORT);
    let pools = tables(&mut top, &top::POOL);
    let vips = tables(&mut top, &top::VIP);

    let node = node.and_then(|at| node::read_node(reader(report, &NODE, at)));
    let dpdk = dpdk.and_then(|at| node::read_dpdk(reader(report, &DPDK, at)));
    let encapsulation =
        encapsulation.and_then(|at| encapsulation::read(reader(report, &ENCAPSULATION, at)));
    let conntrack = conntrack.and_then(|at| node::read_conntrack(reader(report, &CONNTRACK, at)));
    let ports = ports.and_then(|ports| read_ports(report, &ports, dpdk.as_ref().ok()));
    let pools = pools.and_then(|pools| read_pools(report, &pools));
    let vips = vips.and_then(|vips| read_vips(report, &vips));

    if let (Ok(pools), Ok(ports)) = (&pools, &ports) {
        cross::check_backends(report, &pools.entries, ports);
    }
    if let (Ok(vips), Ok(ports)) = (&vips, &ports) {
        cross::check_vip_addresses(report, vips, ports);
    }
    if let (Ok(pools), Ok(vips)) = (&pools, &vips) {
        cross::check_pool_names(report, vips, &pools.ids);
        if pools.whole {
            cross::check_backends_outside_vips(report, &pools.entries, vips);
            cross::warn_of_idle_ends(report, &pools.entries, vips);
        }
    }
    refused.ok()?;
    let pools = pools.ok().filter(|pools| pools.whole)?;
    Some(Config {
        node: node.ok()?,
        dpdk: dpdk.ok()?,
        ports: ports.ok()?.into_iter().map(|entry| entry.port).collect(),
        encapsulation: encapsulation.ok()?,
        conntrack: conntrack.ok()?,
        pools: pools.entries.into_iter().map(|entry| entry.pool).collect(),
        vips: vips.ok()?.into_iter().map(|entry| entry.vip).collect(),
    })
}

fn reader<'r, 'd>(
    report: &'r mut Report<'d>,
    section: &'static Section,
    at: TableAt<'d>,
) -> Reader<'r, 'd> {
    Reader::new(report, section, section.title.to_owned(), at)
}

/// The tables under `key`, or that they are not all tables.
fn tables<'d>(top: &mut Reader<'_, 'd>, key: &'static Key) -> Result<Vec<TableAt<'d>>, Reported> {
    let before = top.report.problem_count();
    let tables = top.tables(key);
    if top.report.problem_count() == before { Ok(tables) } else { Err(Reported) }
}

fn read_ports<'d>(
    report: &mut Report<'d>,
    tables: &[TableAt<'d>],
    dpdk: Option<&Dpdk>,
) -> Result<Vec<PortEntry>, Reported> {
    let before = report.problem_count();
    if !(1..=MOST_PORTS).contains(&tables.len()) {
        let line = tables.get(MOST_PORTS).map_or(1, |at| at.line);
        let found = format!("{} [[port]] tables (expected 1 to {MOST_PORTS})", tables.len());
        return Err(report.problem(line, found));
    }
    let mut ports = Vec::with_capacity(tables.len());
    for (index, &at) in tables.iter().enumerate() {
        let label = label("port", at, &keys::port::NAME, index);
        if let Ok(port) = port::read(Reader::new(report, &PORT, label, at)) {
            ports.push(port);
        }
    }
    cross::check_ports(report, &ports, dpdk);
    if report.problem_count() == before { Ok(ports) } else { Err(Reported) }
}

/// The pools that could be read, and the names of all.
struct Pools {
    entries: Vec<PoolEntry>,
    /// Ids of all tables, those with problems too.
    ids: HashSet<String>,
    /// Whether every table could be read.
    whole: bool,
}

fn read_pools<'d>(report: &mut Report<'d>, tables: &[TableAt<'d>]) -> Result<Pools, Reported> {
    let before = report.problem_count();
    let mut entries = Vec::with_capacity(tables.len());
    let mut lines: HashMap<String, usize> = HashMap::new();
    for (index, &at) in tables.iter().enumerate() {
        let label = label("pool", at, &keys::pool::ID, index);
        let mut reader = Reader::new(report, &POOL, label, at);
        // Only the id: whether it is a good one is for the reader to say.
        if let Some(id) = reader.peek_text(&keys::pool::ID) {
            let line = reader.line_of(&keys::pool::ID);
            if let Some(first) = lines.get(id) {
                let what = format!("is already the id of the pool at line {first}");
                reader.fault(&keys::pool::ID, &what, "a unique id");
            } else {
                lines.insert(id.to_owned(), line);
            }
        }
        if let Ok(pool) = pool::read(reader) {
            entries.push(pool);
        }
    }
    let whole = report.problem_count() == before;
    Ok(Pools { entries, ids: lines.into_keys().collect(), whole })
}

fn read_vips<'d>(
    report: &mut Report<'d>,
    tables: &[TableAt<'d>],
) -> Result<Vec<VipEntry>, Reported> {
    let before = report.problem_count();
    let mut vips = Vec::with_capacity(tables.len());
    for (index, &at) in tables.iter().enumerate() {
        let label = label("vip", at, &keys::vip::ADDRESS, index);
        if let Ok(vip) = vip::read(Reader::new(report, &VIP, label, at)) {
            vips.push(vip);
        }
    }
    cross::check_ties(report, &vips);
    if report.problem_count() == before { Ok(vips) } else { Err(Reported) }
}
