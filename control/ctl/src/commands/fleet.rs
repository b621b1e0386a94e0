//! `fleet`: which node runs what, and whether all agree.

use std::collections::BTreeMap;

use clap::Args;
use proto::v1::{ListNodesReq, ListNodesResp, Pool};

use super::Context;
use super::pool;
use crate::failure::Failure;
use crate::output::{Output, Rows, Tone, cell};
use crate::secret::hex;
use crate::words;

#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    /// Exit code 1 when a node is silent, behind, refuses a snapshot, or disagrees with others.
    #[arg(long)]
    check: bool,
}

pub(super) async fn run(
    arguments: &Arguments,
    context: &mut Context<'_, '_>,
) -> Result<(), Failure> {
    // Pools first: a node that reports in between is newer, not behind.
    let pools = pool::all(context).await?;
    let fleet = nodes(context).await?;
    let problems = problems(&fleet, &pools);
    if context.json {
        context.out.json(&fleet)?;
    } else {
        show(&fleet, &pools, context.out)?;
        for problem in &problems {
            context.out.line(words::clean(problem))?;
        }
    }
    if arguments.check && !problems.is_empty() { Err(Failure::Negative) } else { Ok(()) }
}

/// The nodes as the leader knows them.
pub(super) async fn nodes(context: &Context<'_, '_>) -> Result<ListNodesResp, Failure> {
    context
        .session
        .call("ListNodes", ListNodesReq {}, |mut client, request| async move {
            client.list_nodes(request).await
        })
        .await
}

/// How a node stands with one pool.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    Current,
    Behind(u64),
    Refuses(String),
}

fn versions(pools: &[Pool]) -> BTreeMap<&str, u64> {
    pools.iter().map(|pool| (pool.pool_id.as_str(), pool.version)).collect()
}

fn standing(applied: &proto::v1::AppliedPool, current: &BTreeMap<&str, u64>) -> Standing {
    match current.get(applied.pool_id.as_str()) {
        _ if !applied.refused.is_empty() => Standing::Refuses(applied.refused.clone()),
        Some(&version) if version > applied.version => Standing::Behind(version),
        _ => Standing::Current,
    }
}

/// Everything that `--check` minds, in words.
pub(super) fn problems(fleet: &ListNodesResp, pools: &[Pool]) -> Vec<String> {
    let current = versions(pools);
    let mut problems = Vec::new();
    for node in &fleet.nodes {
        let name = &node.node_id;
        if !node.connected {
            problems.push(format!("node {name} is silent"));
        }
        for applied in &node.pools {
            let pool = &applied.pool_id;
            match standing(applied, &current) {
                Standing::Current => {}
                Standing::Behind(version) => problems.push(format!(
                    "node {name} runs version {} of pool {pool}, current is {version}",
                    applied.version
                )),
                Standing::Refuses(why) => {
                    problems.push(format!("node {name} refuses pool {pool}: {why}"));
                }
            }
        }
        let has = |pool: &Pool| node.pools.iter().any(|applied| applied.pool_id == pool.pool_id);
        for pool in pools.iter().filter(|pool| node.connected && !has(pool)) {
            problems.push(format!("node {name} does not run pool {}", pool.pool_id));
        }
    }
    for pool in &fleet.disagreements {
        problems.push(format!("nodes disagree on the table of pool {pool} at the same version"));
    }
    problems
}

fn show(fleet: &ListNodesResp, pools: &[Pool], out: &mut Output<'_>) -> Result<(), Failure> {
    let current = versions(pools);
    let now = words::now_ns();
    let mut rows =
        Rows::new(&["NODE", "ZONE", "RELEASE", "SEEN", "POOL", "VERSION", "DIGEST", "STANDING"]);
    for node in &fleet.nodes {
        let seen = match node.connected {
            true => (words::age(node.last_seen_ns, now), Tone::Good),
            false => (format!("{}, silent", words::age(node.last_seen_ns, now)), Tone::Bad),
        };
        let start = [cell(&node.node_id), cell(&node.zone), cell(&node.version), seen];
        if node.pools.is_empty() {
            let end = [cell("-"), cell("-"), cell("-"), cell("-")];
            rows.push(start.iter().cloned().chain(end).collect());
        }
        for applied in &node.pools {
            let standing = match standing(applied, &current) {
                Standing::Current => ("current".to_owned(), Tone::Good),
                Standing::Behind(version) => (format!("behind {version}"), Tone::Warning),
                Standing::Refuses(why) => (format!("refuses: {why}"), Tone::Bad),
            };
            let digest = applied.digest.get(..8).unwrap_or(&applied.digest);
            let end = [cell(&applied.pool_id), cell(applied.version), cell(hex(digest)), standing];
            rows.push(start.iter().cloned().chain(end).collect());
        }
    }
    Ok(out.rows(&rows, "no nodes")?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::v1::{AppliedPool, Node};

    fn node(version: u64, connected: bool, refused: &str) -> ListNodesResp {
        let applied = AppliedPool {
            pool_id: "web".into(),
            version,
            digest: vec![0xab; 32],
            refused: refused.into(),
            ..AppliedPool::default()
        };
        let node =
            Node { node_id: "lb-1".into(), connected, pools: vec![applied], ..Node::default() };
        ListNodesResp { nodes: vec![node], disagreements: Vec::new() }
    }

    fn pools() -> Vec<Pool> {
        vec![Pool { pool_id: "web".into(), version: 5, ..Pool::default() }]
    }

    #[test]
    fn a_fleet_that_agrees_has_no_problems() {
        assert_eq!(problems(&node(5, true, ""), &pools()), Vec::<String>::new());
        assert_eq!(problems(&node(6, true, ""), &pools()), Vec::<String>::new(), "newer");
    }

    #[test]
    fn each_problem_is_named() {
        let one = |fleet: &ListNodesResp| problems(fleet, &pools()).join("; ");
        assert_eq!(one(&node(4, true, "")), "node lb-1 runs version 4 of pool web, current is 5");
        assert_eq!(one(&node(5, false, "")), "node lb-1 is silent");
        assert_eq!(one(&node(5, true, "bad digest")), "node lb-1 refuses pool web: bad digest");
        let mut fleet = node(5, true, "");
        fleet.nodes[0].pools.clear();
        assert_eq!(one(&fleet), "node lb-1 does not run pool web");
        let mut fleet = node(5, true, "");
        fleet.disagreements.push("web".into());
        assert!(one(&fleet).contains("disagree on the table of pool web"));
    }

    #[test]
    fn a_line_a_node_and_pool() {
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        show(&node(4, true, ""), &pools(), &mut Output::new(&mut out, &mut notes)).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[1].ends_with("web   4        abababababababab  behind 5"), "{text}");
    }
}
