//! One receive and one transmit queue of a device, owned by one worker.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;

use super::device::Opened;
use super::mbuf::Mbuf;
use super::mempool::Mempool;
use crate::buffer::Buffer;
use crate::port::{BURST, Burst, Port};

/// A queue pair. `Send`, so that it can be handed to its worker, but not `Sync`: DPDK's queues
/// take no locks.
///
/// Each receive queue, and each transmit queue, is one value's only; both are one device's unless
/// [`Queue::cross`] exchanged them.
#[derive(Debug)]
pub struct Queue {
    receive_from: (u16, u16),
    transmit_to: (u16, u16),
    pool: Mempool,
    longest_frame: usize,
    /// Keep the devices started while a queue of them exists.
    _devices: [Arc<Opened>; 2],
    _not_sync: PhantomData<Cell<()>>,
}

impl Queue {
    pub(super) fn new(
        device: Arc<Opened>,
        queue: u16,
        pool: Mempool,
        longest_frame: usize,
    ) -> Self {
        Self {
            receive_from: (device.port, queue),
            transmit_to: (device.port, queue),
            pool,
            longest_frame,
            _devices: [Arc::clone(&device), device],
            _not_sync: PhantomData,
        }
    }

    /// Exchanges what two queue pairs receive from: the first of the result receives what comes in
    /// at `b` and transmits to `a`, the second the other way round. Of two devices that return what
    /// they are given (`net_ring`) this makes the two ends of a cable; of two links, one that
    /// transmits on one and receives on the other.
    pub fn cross(a: Self, b: Self) -> (Self, Self) {
        let [from_a, to_a] = a._devices;
        let [from_b, to_b] = b._devices;
        let end = |receive_from, transmit_to, pool, longest_frame, devices| Self {
            receive_from,
            transmit_to,
            pool,
            longest_frame,
            _devices: devices,
            _not_sync: PhantomData,
        };
        (
            end(b.receive_from, a.transmit_to, a.pool, a.longest_frame, [from_b, to_a]),
            end(a.receive_from, b.transmit_to, b.pool, b.longest_frame, [from_a, to_b]),
        )
    }
}

impl Port for Queue {
    type Buffer = Mbuf;

    #[inline]
    fn receive(&mut self, burst: &mut Burst<Mbuf>) {
        let before = burst.len();
        let room = BURST - before;
        let (port, queue) = self.receive_from;
        // SAFETY: the burst has room for `room` more elements behind `before`; Mbuf is a
        // transparent non-null pointer, and rx_burst writes only valid mbufs that are ours from
        // then on. The queue exists (Device::take_queues) and this thread alone receives from it.
        unsafe {
            let target = burst.as_mut_ptr().add(before).cast();
            let count = dpdk_sys::rte_eth_rx_burst(port, queue, target, room as u16);
            burst.set_len(before + usize::from(count));
        }
        for mbuf in &mut burst[before..] {
            mbuf.make_contiguous();
            mbuf.prefetch();
        }
    }

    #[inline]
    fn transmit(&mut self, burst: &mut Burst<Mbuf>) {
        let count = burst.len();
        let (port, queue) = self.transmit_to;
        let mut sent = 0;
        // A full descriptor ring often has room again at once; a bounded number of tries.
        for _ in 0..TRANSMIT_TRIES {
            // SAFETY: elements sent..count are live mbufs of ours, and the device takes
            // ownership of those it accepts; the queue exists and this thread alone transmits to it.
            sent += usize::from(unsafe {
                dpdk_sys::rte_eth_tx_burst(
                    port,
                    queue,
                    burst.as_mut_ptr().add(sent).cast(),
                    (count - sent) as u16,
                )
            });
            if sent >= count {
                // SAFETY: the device owns all elements now; forget them without dropping.
                unsafe { burst.set_len(0) };
                return;
            }
        }
        // SAFETY: elements 0..sent are the device's; the rest moves to the front, and the length
        // covers exactly the elements that are still ours.
        unsafe {
            let start = burst.as_mut_ptr();
            std::ptr::copy(start.add(sent), start, count - sent);
            burst.set_len(count - sent);
        }
    }

    fn allocate(&mut self) -> Option<Mbuf> {
        self.pool.allocate()
    }

    fn longest_frame(&self) -> usize {
        self.longest_frame
    }
}

/// How often a transmit is tried before the caller gets the rest back.
const TRANSMIT_TRIES: usize = 4;
