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
#[derive(Debug)]
pub struct Queue {
    port: u16,
    queue: u16,
    pool: Mempool,
    longest_frame: usize,
    /// Keeps the device started while a queue of it exists.
    _device: Arc<Opened>,
    _not_sync: PhantomData<Cell<()>>,
}

impl Queue {
    pub(super) fn new(
        device: Arc<Opened>,
        queue: u16,
        pool: Mempool,
        longest_frame: usize,
    ) -> Self {
        let port = device.port;
        Self { port, queue, pool, longest_frame, _device: device, _not_sync: PhantomData }
    }
}

impl Port for Queue {
    type Buffer = Mbuf;

    #[inline]
    fn receive(&mut self, burst: &mut Burst<Mbuf>) {
        let before = burst.len();
        let room = BURST - before;
        // SAFETY: the burst has room for `room` more elements behind `before`; Mbuf is a
        // transparent non-null pointer, and rx_burst writes only valid mbufs that are ours from
        // then on. The queue exists (Device::take_queues) and this thread alone uses it.
        unsafe {
            let target = burst.as_mut_ptr().add(before).cast();
            let count = dpdk_sys::rte_eth_rx_burst(self.port, self.queue, target, room as u16);
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
        let mut sent = 0;
        // A full descriptor ring often has room again at once; a bounded number of tries.
        for _ in 0..TRANSMIT_TRIES {
            // SAFETY: elements sent..count are live mbufs of ours, and the device takes
            // ownership of those it accepts; the queue exists and this thread alone uses it.
            sent += usize::from(unsafe {
                dpdk_sys::rte_eth_tx_burst(
                    self.port,
                    self.queue,
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
