//! Do the nodes agree?
//!
//! Nodes that run one version of one pool of one store must have one digest: else one flow goes
//! to two backends, depending on the node it meets. A disagreement is a bug, broken memory, or a
//! backend drained by the operator of one node, never a matter of time: nodes at different
//! versions are not compared. Only connected nodes count, as of the others nobody knows what they
//! run now.

use std::collections::BTreeMap;
use std::fmt;

use health::Id;

use super::nodes::Nodes;

/// One pool, one version, several digests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Disagreement {
    /// Of which pool.
    pub(crate) pool: Id,
    /// At which version.
    pub(crate) version: u64,
    /// Who runs what: by digest, the nodes.
    pub(crate) digests: BTreeMap<Vec<u8>, Vec<Id>>,
}

/// What is compared: one version of one pool of one store.
type Of<'a> = (&'a Id, &'a str, u64);

/// All disagreements there are, in the order of pools and versions.
pub(crate) fn disagreements(nodes: &Nodes) -> Vec<Disagreement> {
    let mut run: BTreeMap<Of<'_>, BTreeMap<&[u8], Vec<Id>>> = BTreeMap::new();
    for (node, known) in nodes.known().filter(|(_, known)| known.streams > 0) {
        for (pool, applied) in known.pools.iter().filter(|(_, a)| !a.digest.is_empty()) {
            let digests = run.entry((pool, &known.store_id, applied.version)).or_default();
            digests.entry(&applied.digest).or_default().push(node.clone());
        }
    }
    run.into_iter()
        .filter(|(_, digests)| digests.len() > 1)
        .map(|((pool, _, version), digests)| Disagreement {
            pool: pool.clone(),
            version,
            digests: digests.into_iter().map(|(digest, nodes)| (digest.to_vec(), nodes)).collect(),
        })
        .collect()
}

/// A sentence that names the fewest nodes: those outside the greatest group.
impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMED: usize = 8;
        let Self { pool, version, digests } = self;
        let most = digests.iter().max_by_key(|(_, nodes)| nodes.len()).map(|(digest, _)| digest);
        write!(f, "pool {pool}: nodes at version {version} run different tables")?;
        for (digest, nodes) in digests {
            let hex: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
            write!(f, "; {hex}: {} node(s)", nodes.len())?;
            if Some(digest) != most {
                let named: Vec<&str> = nodes.iter().take(NAMED).map(|id| &**id).collect();
                let more = if nodes.len() > NAMED { " ..." } else { "" };
                write!(f, " ({}{more})", named.join(" "))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proto::v1::{AppliedPool, NodeReport};

    use super::*;

    /// Nodes as (id, store, version, digest byte; 0: no digest).
    fn fleet(nodes: &[(&str, &str, u64, u8)]) -> Nodes {
        let mut all = Nodes::default();
        for &(node, store, version, digest) in nodes {
            let id = Id::from(node);
            all.opened(&id, 0).expect("room");
            let digest = if digest == 0 { vec![] } else { vec![digest; 32] };
            let pool = AppliedPool { pool_id: "web".into(), version, digest, ..Default::default() };
            let report =
                NodeReport { store_id: store.into(), pools: vec![pool], ..Default::default() };
            all.report(&id, report, 0, 0).expect("in bounds");
        }
        all
    }

    #[test]
    fn who_disagrees_with_whom() {
        for (nodes, expected, story) in [
            (vec![], 0, "no node"),
            (vec![("a", "s", 1, 1), ("b", "s", 1, 1)], 0, "one digest"),
            (vec![("a", "s", 1, 1), ("b", "s", 2, 2)], 0, "one is behind"),
            (vec![("a", "s", 1, 1), ("b", "t", 1, 2)], 0, "versions of two stores"),
            (vec![("a", "s", 1, 1), ("b", "s", 1, 0)], 0, "one has no table"),
            (vec![("a", "s", 1, 1), ("b", "s", 1, 2)], 1, "two digests"),
            (vec![("a", "s", 1, 1), ("b", "s", 1, 2), ("c", "s", 1, 1)], 1, "two to one"),
            (
                vec![("a", "s", 1, 1), ("b", "s", 1, 2), ("c", "s", 2, 1), ("d", "s", 2, 2)],
                2,
                "at two versions",
            ),
        ] {
            assert_eq!(disagreements(&fleet(&nodes)).len(), expected, "{story}");
        }
    }

    #[test]
    fn a_node_that_is_gone_disagrees_no_more() {
        let mut nodes = fleet(&[("a", "s", 1, 1), ("b", "s", 1, 2)]);
        nodes.closed("b", 1);
        assert_eq!(disagreements(&nodes), []);
    }

    #[test]
    fn the_sentence_names_the_odd_one() {
        let nodes = fleet(&[("a", "s", 7, 0xab), ("b", "s", 7, 0x12), ("c", "s", 7, 0xab)]);
        let said = disagreements(&nodes)[0].to_string();
        assert_eq!(
            said,
            "pool web: nodes at version 7 run different tables; 12121212: 1 node(s) (b); \
             abababab: 2 node(s)"
        );
    }
}
