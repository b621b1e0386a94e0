//! `weir check`: validates a configuration and touches no device.

use crate::cli::CheckArguments;
use crate::failure::{Failure, load};

/// Prints what the file amounts to, or every problem in it.
pub(crate) fn check(arguments: &CheckArguments) -> Result<(), Failure> {
    let config = load(&arguments.config)?;
    control::node::Node::check(&config).map_err(Failure::configuration)?;
    println!(
        "{}: ok: {} ports, {} workers, {} pools with {} backends, {} VIPs, {} flows",
        arguments.config.display(),
        config.ports.len(),
        config.dpdk.worker_cores.len(),
        config.pools.len(),
        config.pools.iter().map(|pool| pool.backends.len()).sum::<usize>(),
        config.vips.len(),
        config.conntrack.flows,
    );
    Ok(())
}
