//! Reads back how a device spreads packets over its queues: key, redirection table, and which
//! kinds of packets it hashes. What a driver cannot tell is not guessed.

use dpdk_sys::{rte_eth_dev_info, rte_eth_rss_conf, rte_eth_rss_reta_entry64};

use crate::rss::{HashedKinds, LEAST_KEY, Rss};

/// Longest key of any driver, bytes.
const LONGEST_KEY: usize = 256;
/// Longest redirection table of any driver.
const LONGEST_TABLE: u16 = 4096;

/// What the driver of `port` says, if it says all of it.
pub(super) fn read(port: u16, information: &rte_eth_dev_info) -> Option<Rss> {
    let mut key = [0u8; LONGEST_KEY];
    let length = usize::from(information.hash_key_size);
    let key_length = if length == 0 { LEAST_KEY } else { length };
    let mut configuration = rte_eth_rss_conf {
        rss_key: key.as_mut_ptr(),
        rss_key_len: key_length as u8,
        ..Default::default()
    };
    // SAFETY: the port exists; `rss_key` has room for more bytes than any `rss_key_len` (a u8),
    // and outlives the call.
    let told = unsafe { dpdk_sys::rte_eth_dev_rss_hash_conf_get(port, &mut configuration) };
    if told < 0 {
        return None;
    }
    let hashes = |kind: u64| configuration.rss_hf & kind != 0;
    let kinds = HashedKinds {
        ipv4: hashes(dpdk_sys::WEIR_RSS_IPV4),
        ipv4_tcp: hashes(dpdk_sys::WEIR_RSS_IPV4_TCP),
        ipv4_udp: hashes(dpdk_sys::WEIR_RSS_IPV4_UDP),
        ipv6: hashes(dpdk_sys::WEIR_RSS_IPV6),
        ipv6_tcp: hashes(dpdk_sys::WEIR_RSS_IPV6_TCP),
        ipv6_udp: hashes(dpdk_sys::WEIR_RSS_IPV6_UDP),
    };
    let table = read_table(port, information.reta_size)?;
    Rss::new(key.get(..key_length)?.to_vec(), table, kinds)
}

fn read_table(port: u16, size: u16) -> Option<Vec<u16>> {
    if size == 0 || size > LONGEST_TABLE {
        return None;
    }
    let group = usize::from(dpdk_sys::WEIR_RETA_GROUP);
    let groups = usize::from(size).div_ceil(group);
    let mut entries =
        vec![rte_eth_rss_reta_entry64 { mask: u64::MAX, ..Default::default() }; groups];
    // SAFETY: the port exists; there are as many groups as `size` slots take.
    let told = unsafe { dpdk_sys::rte_eth_dev_rss_reta_query(port, entries.as_mut_ptr(), size) };
    if told < 0 {
        return None;
    }
    Some(entries.iter().flat_map(|entry| entry.reta).take(usize::from(size)).collect())
}
