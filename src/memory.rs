//! Memory of the machine: how much is free, and which is near a core.
//!
//! How much is free is asked before DPDK starts, which would fail over it in its own words, or
//! try for minutes.

use std::fs;
use std::path::Path;

use config::Config;
use dataplane::port::dpdk::MemoryPlace;
use tracing::{info, warn};

/// Where the kernel shows hugepages, one folder a size.
const HUGEPAGES: &str = "/sys/kernel/mm/hugepages";

/// Compares `memory_mib` with what is free.
///
/// # Errors
/// When it is more, in words that say what to do.
pub(crate) fn check(config: &Config) -> anyhow::Result<()> {
    let wanted = u64::from(config.dpdk.memory_mib);
    if config.dpdk.hugepages {
        let Some(free) = free_hugepage_mib(Path::new(HUGEPAGES)) else { return Ok(()) };
        anyhow::ensure!(
            free >= wanted,
            "[dpdk]: memory_mib = {wanted}, but only {free} MiB of hugepages are free: reserve them \
             (scripts/hugepages.sh {wanted}), or set hugepages = false to run on ordinary pages"
        );
    } else {
        let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let Some(free) = available_mib(&text) else { return Ok(()) };
        anyhow::ensure!(
            free >= wanted,
            "[dpdk]: memory_mib = {wanted}, but only {free} MiB of memory are available"
        );
    }
    Ok(())
}

/// The NUMA node of a core; -1 (any) where the kernel does not say.
pub(crate) fn numa_node(core: u16) -> i32 {
    let folder = format!("/sys/devices/system/cpu/cpu{core}");
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .find_map(|entry| entry.file_name().to_str()?.strip_prefix("node")?.parse().ok())
        .unwrap_or(-1)
}

/// Says where a worker's flows lie, and warns when that is far from its core: another node's memory
/// takes longer to read, for each packet.
pub(crate) fn tell_place(worker: u16, core: u16, bytes: usize, place: Option<MemoryPlace>) {
    let Some(MemoryPlace { page_bytes, numa_node: node }) = place else { return };
    let (mib, page_kib) = (bytes >> 20, page_bytes >> 10);
    info!(worker, core, mib, page_kib, numa_node = node, "memory for flows");
    let own = numa_node(core);
    if is_far(own, node) {
        warn!(
            worker,
            core,
            "the flows of worker {worker} lie on NUMA node {node}, its core is on node {own}: reserve \
             hugepages there (/sys/devices/system/node/node{own}/hugepages)"
        );
    }
}

/// Whether two NUMA nodes, -1 where unknown, are different ones.
fn is_far(own: i32, other: i32) -> bool {
    own >= 0 && other >= 0 && own != other
}

/// Free hugepages of all sizes, in MiB; `None` where the kernel does not say.
fn free_hugepage_mib(folder: &Path) -> Option<u64> {
    let mut kib = 0;
    for entry in fs::read_dir(folder).ok()?.flatten() {
        let name = entry.file_name();
        let size = name.to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?;
        let pages = fs::read_to_string(entry.path().join("free_hugepages")).ok()?;
        kib += size.parse::<u64>().ok()? * pages.trim().parse::<u64>().ok()?;
    }
    Some(kib / 1024)
}

/// `MemAvailable` of /proc/meminfo, in MiB.
fn available_mib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read_in_mib() {
        let text = "MemTotal:       100 kB\nMemAvailable:   2097152 kB\n";
        assert_eq!(available_mib(text), Some(2048));
        assert_eq!(available_mib("MemTotal: 100 kB\n"), None);
    }

    #[test]
    fn only_two_known_nodes_are_far_from_each_other() {
        assert!(is_far(0, 1) && is_far(1, 0));
        assert!(!is_far(0, 0) && !is_far(-1, 1) && !is_far(1, -1));
    }

    #[test]
    fn where_the_kernel_says_nothing_nothing_is_refused() {
        assert_eq!(free_hugepage_mib(Path::new("/nonexistent")), None);
    }
}
