//! What callgrind wrote: instructions by function and, within it, by address.
//!
//! The format is that of valgrind's manual, "Callgrind Format Specification", as far as callgrind
//! itself writes it with one event (instructions) and positions that are whole addresses
//! (`--dump-instr=yes --dump-line=no --compress-pos=no`). Only what a function does itself is counted;
//! the inclusive cost of a call, which stands in the line behind `calls=`, is not.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, anyhow, ensure};

/// Instructions, by function and address.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Costs {
    costs: BTreeMap<Place, u64>,
}

/// Where instructions are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    object: String,
    function: String,
    address: u64,
}

/// A function without a name in its library's symbols.
pub const UNNAMED: &str = "(without a name)";

/// Names are written out once, as `(number) name`, and are a number from then on.
#[derive(Default)]
struct Names<'a> {
    known: HashMap<&'a str, &'a str>,
}

impl<'a> Names<'a> {
    fn read(&mut self, text: &'a str) -> Result<&'a str> {
        let Some(rest) = text.strip_prefix('(') else { return Ok(text) };
        let (number, name) = rest.split_once(')').ok_or_else(|| anyhow!("a name \"{text}\""))?;
        match name.trim_start() {
            "" => self.known.get(number).copied().with_context(|| format!("no name ({number})")),
            name => {
                self.known.insert(number, name);
                Ok(name)
            }
        }
    }
}

impl Costs {
    /// Reads the text of a `callgrind.out` file.
    ///
    /// # Errors
    /// The number of the first line that is not as callgrind writes it.
    pub fn parse(text: &str) -> Result<Self> {
        let mut found = Self::default();
        let mut names: [Names<'_>; 2] = Default::default();
        let [objects, functions] = &mut names;
        let (mut object, mut function) = ("", "");
        let mut is_call = false;
        for (number, line) in (1..).zip(text.lines()) {
            let at = || format!("line {number} of callgrind's file");
            if let Some((key, value)) = line.split_once('=').filter(|(key, _)| is_key(key)) {
                match key {
                    "ob" => object = objects.read(value).with_context(at)?,
                    "fn" => function = functions.read(value).with_context(at)?,
                    // The callee's: only to know the names.
                    "cob" => _ = objects.read(value).with_context(at)?,
                    "cfn" => _ = functions.read(value).with_context(at)?,
                    _ => is_call = true,
                }
            } else if let Some(digits) = line.strip_prefix("0x") {
                if std::mem::take(&mut is_call) {
                    continue;
                }
                // A line without a cost costs nothing.
                let Some((digits, cost)) = digits.split_once(' ') else { continue };
                let address = u64::from_str_radix(digits, 16).with_context(at)?;
                let cost: u64 = cost.trim().parse().with_context(at)?;
                let (object, function) = (last_part(object).to_owned(), name(function).to_owned());
                *found.costs.entry(Place { object, function, address }).or_default() += cost;
            } else if let Some(positions) = line.strip_prefix("positions:") {
                ensure!(positions.trim() == "instr", "positions \"{positions}\", not \"instr\"");
            }
        }
        ensure!(!found.costs.is_empty(), "callgrind's file holds no cost");
        Ok(found)
    }

    /// What there is more than in `less`; a function that has less counts nothing.
    pub fn beyond(&self, less: &Self) -> Self {
        let costs = self.costs.iter().filter_map(|(key, cost)| {
            let more = cost.saturating_sub(less.costs.get(key).copied().unwrap_or(0));
            (more > 0).then(|| (key.clone(), more))
        });
        Self { costs: costs.collect() }
    }

    /// All instructions.
    pub fn total(&self) -> u64 {
        self.costs.values().sum()
    }

    /// By function, most first.
    pub fn functions(&self) -> Vec<Function<'_>> {
        let mut functions: Vec<Function<'_>> = Vec::new();
        // Those of one function lie one behind the other.
        for (Place { object, function, address }, cost) in &self.costs {
            let is_same = |last: &Function<'_>| (last.object, last.name) == (object, function);
            if !functions.last().is_some_and(is_same) {
                let (name, addresses) = (function, Vec::new());
                functions.push(Function { object, name, cost: 0, addresses });
            }
            if let Some(function) = functions.last_mut() {
                function.cost += cost;
                function.addresses.push((*address, *cost));
            }
        }
        functions.sort_by_key(|function| std::cmp::Reverse(function.cost));
        functions
    }
}

/// One function's instructions.
#[derive(Clone, Debug, PartialEq)]
pub struct Function<'a> {
    /// The program or library that it is in.
    pub object: &'a str,
    /// Its name, [`UNNAMED`] of all that their library does not name.
    pub name: &'a str,
    /// What it does itself.
    pub cost: u64,
    /// The same by address, in order.
    pub addresses: Vec<(u64, u64)>,
}

fn is_key(key: &str) -> bool {
    matches!(key, "ob" | "fn" | "cob" | "cfn" | "calls")
}

/// A function's name.
fn name(function: &str) -> &str {
    // A recursive call's has its depth behind it.
    let name = function.split('\'').next().unwrap_or(function);
    if name.starts_with("0x") { UNNAMED } else { name }
}

fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# callgrind format
version: 1
cmd:  weir-bench instruction-run --case=x
positions: instr
events: Ir
summary: 1000

ob=(1) /repository/target/release/weir-bench
fl=(1) /repository/dataplane/src/worker/stages.rs
fn=(1) dataplane::worker::stages::parse_burst
0x10 5
0x12 7
0x14 23
cob=(2) /usr/lib/librte_net_pcap.so.23.0
cfi=(3) ???
cfn=(2) 0x0000000000001234
calls=4 0x1234
0x18 4000
0x1a 1

fn=(3) dataplane::worker::stages::walk'2
0x40 6

ob=(2)
fl=(3)
fn=(2)
0x1234 50
fn=(4) eth_dev_start
0x2000
0x2004 8
";

    #[test]
    fn own_instructions_are_counted_by_function_and_address() {
        let costs = Costs::parse(TEXT).unwrap();
        assert_eq!(costs.total(), 100);
        let functions = costs.functions();
        let names: Vec<(&str, u64)> =
            functions.iter().map(|function| (function.name, function.cost)).collect();
        assert_eq!(
            names,
            [
                ("(without a name)", 50),
                ("dataplane::worker::stages::parse_burst", 36),
                ("eth_dev_start", 8),
                ("dataplane::worker::stages::walk", 6),
            ]
        );
        assert_eq!(functions[1].addresses, [(0x10, 5), (0x12, 7), (0x14, 23), (0x1a, 1)]);
    }

    #[test]
    fn the_difference_of_two_runs_is_without_what_both_did() {
        let short = Costs::parse(TEXT).unwrap();
        let long =
            Costs::parse(&TEXT.replace("0x12 7", "0x12 17").replace("1234 50", "1234 90")).unwrap();
        let more = long.beyond(&short);
        assert_eq!(more.total(), 50);
        assert_eq!(more.functions().len(), 2);
        assert_eq!(short.beyond(&long).total(), 0);
    }

    #[test]
    fn other_texts_are_refused_with_their_line() {
        let error = |text: &str| format!("{:#}", Costs::parse(text).unwrap_err());
        assert!(error("").contains("no cost"));
        assert!(error("positions: line\n").contains("positions"));
        assert!(error("fn=(7)\n0x1 2\n").contains("line 1 of"));
        assert!(error("fn=(7) name\n0x1 many\n").contains("line 2 of"));
    }
}
