//! Sampled packets against what should have come out, byte by byte.
//!
//! The expectation is computed from the capture file and the scenario by [`crate::frame`], which
//! shares no code with the data plane. Only the choice of the backend is asked of the pool's
//! Maglev table, whose contents have tests of their own; the key it is asked with (SPEC section 3:
//! addresses, ports and protocol in network order) is put together here. Of the sample itself is
//! believed what a node is free to choose: see [`frame::encapsulated`].

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use control::node::Node;
use dataplane::tables::Pool;

use crate::capture;
use crate::frame::{self, Ends, LINK_BYTES};
use crate::sampled::Sample;
use crate::scenario::{self, Case};

/// Addresses and ports of a frame, as they lie one behind the other.
type Tuple = Vec<u8>;

/// Checks `samples` against the capture at `source` and the tables of `node`, which runs `case`.
/// Returns how many different flows were among them.
///
/// # Errors
/// The first sample that is not as it should be, in hexadecimal, with the reason.
pub fn check(samples: &[Sample], source: &Path, node: &Node, case: Case) -> Result<usize> {
    let Some(pool) = node.assembler().pool(scenario::POOL) else {
        bail!("the node has no pool \"{}\"", scenario::POOL);
    };
    let backends: HashMap<String, u16> =
        (0..case.backends).map(|number| (scenario::backend_id(number), number)).collect();
    let outer = frame::outer_bytes(case.node_address(), case.mode);
    let mut flows: HashMap<Tuple, Vec<u8>> = HashMap::new();
    for sample in samples {
        match tuple(sample.bytes(), outer, case) {
            Some(tuple) => flows.insert(tuple, Vec::new()),
            None => bail!("a packet too short came out: {}", hex(sample.bytes())),
        };
    }
    let mut found = 0;
    capture::read(source, |frame| {
        if let Some(tuple) = tuple(frame, 0, case)
            && let Some(place) = flows.get_mut(&tuple)
        {
            *place = frame.to_vec();
            found += 1;
        }
    })?;
    if found != flows.len() {
        bail!("{} flows came out that never went in", flows.len() - found);
    }
    for sample in samples {
        let sent = sample.bytes();
        let Some((tuple, original)) =
            tuple(sent, outer, case).and_then(|tuple| flows.get_key_value(&tuple))
        else {
            continue;
        };
        let name = backend_of(tuple, pool, node)?;
        let backend = *backends
            .get(&name)
            .with_context(|| format!("backend \"{name}\" is not of the scenario"))?;
        let ends = Ends {
            node_mac: scenario::NODE_MAC,
            next_hop_mac: case.backend_mac(backend),
            source: case.node_address(),
            backend: case.backend_address(backend),
            mode: case.mode,
        };
        let expected = frame::encapsulated(original, &ends, sent).unwrap_or_default();
        if sent != expected {
            bail!("wrong packet came out\n  sent     {}\n  expected {}", hex(sent), hex(&expected));
        }
    }
    Ok(flows.len())
}

/// The name of the backend that Maglev gives a TCP flow.
fn backend_of(tuple: &Tuple, pool: &Pool, node: &Node) -> Result<String> {
    let key = [&tuple[..], &[6]].concat();
    let Some(index) = pool.selector.pick(pool.hasher.hash(&key)) else {
        bail!("the pool has no backend for a flow");
    };
    let name = node.assembler().backend_name(index).map(|(_, id)| id.to_owned());
    name.with_context(|| format!("backend {index} has no name"))
}

/// What the flow hash is computed over, but the protocol: the addresses and the ports behind them,
/// of the packet behind `outer` bytes of headers.
fn tuple(bytes: &[u8], outer: usize, case: Case) -> Option<Tuple> {
    let start = LINK_BYTES + outer + case.ip.addresses_at();
    let end = LINK_BYTES + outer + case.ip.header_bytes() + 4;
    bytes.get(start..end).map(<[u8]>::to_vec)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use config::Config;
    use conntrack::Table;
    use control::node::PortFacts;
    use dataplane::buffer::Frame;
    use dataplane::port::memory::MemoryPort;
    use dataplane::wire::MacAddress;
    use dataplane::worker::{Worker, WorkerOptions};

    use super::*;
    use crate::flows::Ip;
    use crate::sampled::Sampled;
    use crate::scenario::Mode;

    const FLOWS: u32 = 256;
    const DISTANCE: u64 = 61;

    fn source(name: &str, case: Case) -> PathBuf {
        let path = std::env::temp_dir().join(format!("weir-{name}-{}.pcap", std::process::id()));
        capture::write(&path, FLOWS, case.ip, case.kind()).unwrap();
        path
    }

    fn node(source: &Path, case: Case) -> Node {
        let text = scenario::configuration(source, case);
        let config = Config::parse(&text, "bench").unwrap().config;
        let facts = PortFacts { mac: MacAddress(scenario::NODE_MAC), any_mac: false };
        Node::new(config, &[facts], 0).unwrap()
    }

    /// What the real path makes of the source, sampled.
    fn samples(source: &Path, node: &mut Node) -> Vec<Sample> {
        let mut port = Sampled::new(MemoryPort::new(), DISTANCE);
        capture::read(source, |frame| port.inner_mut().push(Frame::new(frame))).unwrap();
        let parts = node.add_worker();
        let mut worker = Worker::new(WorkerOptions {
            ports: vec![port],
            reader: parts.reader,
            conntrack: Table::new(1024).unwrap(),
            hash_seed: [1, 2, 3, 4],
            number: 0,
            workers: 1,
            link: parts.handle.link,
            counters: parts.handle.counters,
        });
        while worker.poll(1_000_000) > 0 {}
        worker.port_mut(0).unwrap().samples().to_vec()
    }

    #[test]
    fn what_the_path_sends_is_what_was_expected() {
        for name in Case::NAMES {
            let case = Case::named(name).unwrap();
            let source = source(name, case);
            let mut node = node(&source, case);
            let samples = samples(&source, &mut node);
            assert_eq!(samples.len() as u64, u64::from(FLOWS - 1) / DISTANCE, "{name}");
            assert_eq!(check(&samples, &source, &node, case).unwrap(), samples.len(), "{name}");
            std::fs::remove_file(source).unwrap();
        }
    }

    /// Bits of a sent packet that a node may choose: of each byte those set here.
    fn free(case: Case, at: usize) -> u8 {
        match (at, case.ip, case.mode) {
            (18..20, Ip::V4, _) => 0xff,
            (15, Ip::V6, _) => 0x0f,
            (16..18, Ip::V6, _) => 0xff,
            (34, Ip::V4, Mode::Gue) => 0x3f,
            (35, Ip::V4, Mode::Gue) => 0xff,
            _ => 0,
        }
    }

    #[test]
    fn one_wrong_bit_is_found_wherever_it_is() {
        for name in ["hit_4k", "v6_hit_1m", "gue_hit_1m"] {
            let case = Case::named(name).unwrap();
            let source = source(&format!("wrong-{name}"), case);
            let mut node = node(&source, case);
            let samples = samples(&source, &mut node);
            let good = samples[0].bytes();
            for at in 0..good.len() {
                for bit in [0x80u8, 0x10, 0x01] {
                    // A free bit changes a checksum that covers it.
                    let harmless = free(case, at) & bit != 0 && case.ip == Ip::V6;
                    let port = (34..36).contains(&at) && free(case, at) & bit != 0;
                    let mut bad = good.to_vec();
                    bad[at] ^= bit;
                    let checked = check(&[Sample::of(&bad)], &source, &node, case);
                    assert_eq!(checked.is_ok(), harmless || port, "{name}: byte {at}, {bit:02x}");
                }
            }
            assert!(check(&[Sample::of(good)], &source, &node, case).is_ok());
            let short = Sample::of(&good[..good.len() - 1]);
            assert!(check(&[short], &source, &node, case).is_err());
            assert!(check(&[Sample::of(&[0; 20])], &source, &node, case).is_err());
            std::fs::remove_file(source).unwrap();
        }
    }
}
