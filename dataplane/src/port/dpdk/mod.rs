//! The DPDK form of a port, and all the unsafe code of the packet path.
//!
//! [`Eal`] starts the environment once per process; [`Device`] is a configured, started
//! Ethernet device; [`Queue`] is the queue pair of it that one worker owns; [`Mempool`] feeds
//! it; [`Mbuf`] is one packet. Everything outside this folder uses the safe API only.
//!
//! Invariants kept here: one `Mbuf` value per `rte_mbuf` (no `Clone`; sending gives it up), one
//! thread per receive and per transmit queue (`Queue` is `Send` but not `Sync`, only
//! [`Device::take_queues`] makes them, and [`Queue::cross`] hands their halves on), pools outlive
//! the devices that use them.

#![expect(unsafe_code, reason = "the foreign functions of DPDK")]

mod device;
mod eal;
mod error;
mod mbuf;
mod memory;
mod mempool;
mod mtu;
mod queue;
mod rss;

pub use device::{Device, DeviceOptions, DeviceStatistics, StartedDevice, is_pci};
pub use eal::{Eal, EalOptions, WorkerRegistration};
pub use error::DpdkError;
pub use mbuf::Mbuf;
pub use memory::{HugeMemory, MemoryPlace};
pub use mempool::Mempool;
pub use queue::Queue;
