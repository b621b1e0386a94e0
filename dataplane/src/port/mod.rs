//! Ports: where bursts of packets come from and go to.
//!
//! A [`Port`] is one receive and one transmit queue, owned by one worker. The DPDK form is
//! [`dpdk::Queue`]; its twins are [`memory::MemoryPort`] (tests, `replay`) and, around any of
//! them, the fault-injecting [`faulty::FaultyPort`]. The rest of the data plane never knows
//! which it has.

use arrayvec::ArrayVec;

use crate::buffer::Buffer;

pub mod capture;
pub mod dpdk;
pub mod faulty;
pub mod memory;

/// The most packets taken from, or given to, a queue in one call.
pub const BURST: usize = 64;

/// Up to [`BURST`] packets on their way.
pub type Burst<B> = ArrayVec<B, BURST>;

/// One queue pair of a device.
pub trait Port {
    /// Where this port's packets live.
    type Buffer: Buffer;

    /// Appends what has arrived, up to the room in `burst`.
    fn receive(&mut self, burst: &mut Burst<Self::Buffer>);

    /// Sends from the front of `burst`. What the device refused is left in it; the caller
    /// decides to keep or to drop it.
    fn transmit(&mut self, burst: &mut Burst<Self::Buffer>);

    /// An empty buffer for a packet of the node's own; `None` when the pool has run dry.
    fn allocate(&mut self) -> Option<Self::Buffer>;

    /// Bytes of the longest frame the device takes. There are drivers that, given a longer one,
    /// take neither that nor any behind it.
    fn longest_frame(&self) -> usize {
        usize::MAX
    }
}
