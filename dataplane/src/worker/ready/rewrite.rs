//! The header of any packet whose backend is known: the shortest way there is for it.

use super::super::notes::Work;
use crate::buffer::Buffer;
use crate::forward::{self, OuterHeaders};
use crate::second_chance::second_address;
use crate::tables::{Backend, Tables};

/// Rewrites a packet for its backend; `false` when it cannot be done here.
#[inline(always)]
pub(super) fn rewrite<B: Buffer>(
    packet: &mut B,
    work: &Work,
    (vip, index): (u32, u32),
    backend: &Backend,
    tables: &Tables,
    outer: &mut OuterHeaders,
) -> bool {
    let Work { parsed, flow_hash, .. } = work;
    match forward::is_plain(parsed, backend) {
        true => {
            parsed.ip_length <= backend.inner_mtu
                && forward::plain(packet, parsed.ip_length, backend, flow_hash, outer).is_ok()
        }
        // Both ask for the length themselves.
        false => match rewrite_untagged(packet, work, backend, outer) {
            Some(rewritten) => rewritten,
            None => rewrite_other(packet, work, (vip, index), backend, tables, outer),
        },
    }
}

/// As [`rewrite`], the other tunnels between untagged links; `None`, and nothing is changed, for
/// all else.
#[inline(never)]
fn rewrite_untagged<B: Buffer>(
    packet: &mut B,
    work: &Work,
    backend: &Backend,
    outer: &mut OuterHeaders,
) -> Option<bool> {
    let Work { parsed, flow_hash, .. } = work;
    if parsed.ip_length > backend.inner_mtu {
        return Some(false);
    }
    forward::untagged(packet, parsed, backend, *flow_hash, outer).map(|result| result.is_ok())
}

/// As [`rewrite`], what has no shorter way: out of the way of what is, for which even to have ready what
/// this would ask costs (13 instructions a packet).
#[inline(never)]
fn rewrite_other<B: Buffer>(
    packet: &mut B,
    work: &Work,
    (vip, index): (u32, u32),
    backend: &Backend,
    tables: &Tables,
    outer: &mut OuterHeaders,
) -> bool {
    let Work { parsed, flow_hash, .. } = work;
    let second = second_address(tables, vip, index, parsed);
    forward::rewrite_naming(packet, parsed, backend, *flow_hash, outer, second).is_ok()
}
