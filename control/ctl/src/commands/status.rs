//! `status`: who leads, the pools, the nodes.

use serde::Serialize;

use super::{Context, fleet, pool};
use crate::failure::Failure;
use crate::words::clean;

/// What `--json` prints.
#[derive(Serialize)]
struct Status<'s> {
    leader: &'s str,
    pools: &'s [proto::v1::Pool],
    nodes: &'s [proto::v1::Node],
    problems: &'s [String],
}

pub(super) async fn run(context: &mut Context<'_, '_>) -> Result<(), Failure> {
    let pools = pool::all(context).await?;
    let fleet = fleet::nodes(context).await?;
    let leader = context.session.leader();
    let mut problems = fleet::problems(&fleet, &pools);
    for pool in &pools {
        let name = &pool.pool_id;
        if pool.panicking {
            problems.push(format!("pool {name} panics: too many backends are bad, all serve"));
        }
        if pool.frozen {
            problems.push(format!("pool {name} is frozen: checkers are silent"));
        }
        let served = pool.backends.iter().any(|backend| backend.eligible);
        if !pool.vips.is_empty() && !served {
            problems.push(format!("pool {name} has VIPs and no backend that gets new flows"));
        }
    }
    if context.json {
        let status =
            Status { leader: &leader, pools: &pools, nodes: &fleet.nodes, problems: &problems };
        return Ok(context.out.json(&status)?);
    }
    let connected = fleet.nodes.iter().filter(|node| node.connected).count();
    context.out.line(format_args!("leader  {leader}"))?;
    context.out.line(format_args!("nodes   {connected} of {} connected", fleet.nodes.len()))?;
    context.out.line("")?;
    context.out.rows(&pool::table(&pools), "no pools")?;
    if !problems.is_empty() {
        context.out.line("")?;
    }
    for problem in &problems {
        context.out.line(format_args!("warning: {}", clean(problem)))?;
    }
    Ok(())
}
