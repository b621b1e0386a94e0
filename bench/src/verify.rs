//! Sampled packets against what should have come out, byte by byte.
//!
//! The expectation is computed from the capture file and the scenario by [`crate::frame`], which
//! shares no code with the data plane. Only the choice of the backend is asked of the pool's
//! Maglev table, whose contents have tests of their own; the key it is asked with (SPEC section 3:
//! addresses, ports and protocol in network order) is put together here. Of the sample itself two
//! bytes are believed: the outer identification, which is a counter.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Result, bail};
use control::node::Node;
use dataplane::tables::Pool;

use crate::capture;
use crate::frame::{self, Ends, FRAME_BYTES, IP_HEADER_BYTES, LINK_BYTES};
use crate::sampled::Sample;
use crate::scenario;

/// Addresses and ports of a frame, 12 bytes as they lie.
type Tuple = [u8; 12];

/// Where source and destination address and the ports behind them lie in a frame.
const TUPLE_OFFSET: usize = LINK_BYTES + 12;

/// Checks `samples` against the capture at `source` and the tables of `node`. Returns how many
/// different flows were among them.
///
/// # Errors
/// The first sample that is not as it should be, in hexadecimal, with the reason.
pub fn check(samples: &[Sample], source: &Path, node: &Node) -> Result<usize> {
    let Some(pool) = node.assembler().pool(scenario::POOL) else {
        bail!("the node has no pool \"{}\"", scenario::POOL);
    };
    let mut flows: HashMap<Tuple, [u8; FRAME_BYTES]> = HashMap::new();
    for sample in samples {
        match tuple(sample.bytes(), TUPLE_OFFSET + IP_HEADER_BYTES) {
            Some(tuple) => flows.insert(tuple, [0; FRAME_BYTES]),
            None => bail!("a packet too short came out: {}", hex(sample.bytes())),
        };
    }
    let mut found = 0;
    capture::read(source, |frame| {
        if let Some(tuple) = tuple(frame, TUPLE_OFFSET)
            && let Some(place) = flows.get_mut(&tuple)
            && let Ok(frame) = frame.try_into()
        {
            *place = frame;
            found += 1;
        }
    })?;
    if found != flows.len() {
        bail!("{} flows came out that never went in", flows.len() - found);
    }
    for sample in samples {
        let sent = sample.bytes();
        let Some(original) =
            tuple(sent, TUPLE_OFFSET + IP_HEADER_BYTES).and_then(|tuple| flows.get(&tuple))
        else {
            continue;
        };
        let backend = backend_of(original, pool, node)?;
        let ends = Ends {
            node_mac: scenario::NODE_MAC,
            next_hop_mac: scenario::backend_mac(backend),
            source: scenario::NODE_ADDRESS,
            backend: scenario::backend_address(backend),
        };
        let identification = u16::from_be_bytes([sent[18], sent[19]]);
        let expected = frame::encapsulated(original, &ends, identification);
        if sent != expected {
            bail!("wrong packet came out\n  sent     {}\n  expected {}", hex(sent), hex(&expected));
        }
    }
    Ok(flows.len())
}

/// The number of the backend that Maglev gives the flow of `frame`.
fn backend_of(frame: &[u8; FRAME_BYTES], pool: &Pool, node: &Node) -> Result<u8> {
    let mut key = frame[TUPLE_OFFSET..TUPLE_OFFSET + 12].to_vec();
    key.push(frame[LINK_BYTES + 9]);
    let Some(index) = pool.selector.pick(pool.hasher.hash(&key)) else {
        bail!("the pool has no backend for a flow");
    };
    let name = node.assembler().backend_name(index).map(|(_, id)| id.to_owned());
    (0..scenario::BACKENDS)
        .find(|number| name.as_ref() == Some(&scenario::backend_id(*number)))
        .ok_or_else(|| anyhow::anyhow!("backend {index} ({name:?}) is not of the scenario"))
}

fn tuple(bytes: &[u8], offset: usize) -> Option<Tuple> {
    bytes.get(offset..)?.first_chunk().copied()
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
    use crate::frame::Kind;
    use crate::sampled::Sampled;
    use crate::scenario::Case;

    const FLOWS: u32 = 256;
    const DISTANCE: u64 = 61;

    fn source(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("weir-{name}-{}.pcap", std::process::id()));
        capture::write(&path, FLOWS, Kind::Ack).unwrap();
        path
    }

    fn node(source: &Path) -> Node {
        let text = scenario::configuration(source, Case::named("hit_4k").unwrap());
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
        let source = source("right");
        let mut node = node(&source);
        let samples = samples(&source, &mut node);
        assert_eq!(samples.len() as u64, u64::from(FLOWS - 1) / DISTANCE);
        assert_eq!(check(&samples, &source, &node).unwrap(), samples.len());
        std::fs::remove_file(source).unwrap();
    }

    #[test]
    fn one_wrong_bit_is_found_wherever_it_is() {
        let source = source("wrong");
        let mut node = node(&source);
        let samples = samples(&source, &mut node);
        let good = samples[0].bytes();
        let identification = 18..20;
        for at in (0..good.len()).filter(|at| !identification.contains(at)) {
            let mut bad = good.to_vec();
            bad[at] ^= 0x10;
            assert!(check(&[Sample::of(&bad)], &source, &node).is_err(), "byte {at}");
        }
        assert!(check(&[Sample::of(good)], &source, &node).is_ok());
        assert!(check(&[Sample::of(&good[..good.len() - 1])], &source, &node).is_err());
        assert!(check(&[Sample::of(&[0; 20])], &source, &node).is_err());
        std::fs::remove_file(source).unwrap();
    }
}
