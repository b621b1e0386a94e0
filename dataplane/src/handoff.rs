//! How workers give packets to each other.
//!
//! The device brings nearly every packet to the worker that has its flow. The exceptions are
//! packets whose ports the device could not see, or that are about another flow than their own
//! addresses say: fragments and ICMP errors. They go through here.
//!
//! ```text
//!  worker 0 ──ring──▶ worker 1       one ring for each ordered pair of workers: one writes,
//!           ◀──ring──                one reads, the buffer changes its owner, never shared
//! ```
//!
//! Rings have a fixed size and are allocated once. A full one gives the packet back to be dropped
//! and counted: a slow worker never makes another wait. Whoever has written rings the reader's
//! [`Doorbell`], the one thing a worker looks at in each round. What is in the rings when the
//! workers end is freed with the last of the two ends, while the device still holds all pools.

mod doorbell;

use std::sync::Arc;

use rtrb::{Consumer, Producer, RingBuffer};

use crate::lines::OnLines;
use crate::parse::Parsed;

pub use doorbell::Doorbell;

/// Packets of one worker that may wait at all others together, at most (but see
/// [`RING_LEAST`]): what its pool of buffers must be able to spare.
pub const IN_FLIGHT: usize = 1024;
/// A ring's least size, packets.
const RING_LEAST: usize = 16;
/// A ring's largest size, packets.
const RING_MOST: usize = 512;

/// Why a packet changes its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// A fragment, on its way to where the fragments of its datagram meet; its key is its own.
    Meet,
    /// The first fragment of a datagram of the flow [`Parsed::key`].
    FirstFragment,
    /// Another fragment of a datagram of that flow.
    LaterFragment,
    /// An ICMP error that quotes a packet of that flow.
    IcmpError,
}

/// A packet on its way to another worker.
#[derive(Debug)]
pub struct Handed<B> {
    /// The packet as it came.
    pub buffer: B,
    /// Index of the port it came in at.
    pub port: u8,
    /// What is to be done.
    pub errand: Errand,
    /// How many workers have been asked for the flow, where its owner is not known.
    pub asked: u8,
    /// What the parser found; but for [`Errand::Meet`] the key is the flow's, whatever the packet
    /// itself says.
    pub parsed: Parsed,
}

/// In place of the number of workers asked: the packet is where it belongs.
pub const ARRIVED: u8 = u8::MAX;

impl<B> Handed<B> {
    /// A packet to a worker that is known to be the one.
    pub fn arriving(buffer: B, errand: Errand, parsed: &Parsed, port: u8) -> Self {
        Self { buffer, port, errand, asked: ARRIVED, parsed: *parsed }
    }
}

/// One worker's ends of the rings.
#[derive(Debug)]
pub struct Handoff<B> {
    number: usize,
    bell: Arc<Doorbell>,
    /// By the writer's number; none from itself.
    inbound: Vec<OnLines<Option<Consumer<Handed<B>>>>>,
    /// By the reader's number; none to itself.
    outbound: Vec<OnLines<Option<Outbound<B>>>>,
}

#[derive(Debug)]
struct Outbound<B> {
    ring: Producer<Handed<B>>,
    bell: Arc<Doorbell>,
}

/// Packets a ring between two of `workers` workers holds.
pub fn ring_size(workers: usize) -> usize {
    (IN_FLIGHT / workers.saturating_sub(1).max(1)).clamp(RING_LEAST, RING_MOST)
}

/// Connects `workers` workers, each with all others: the ends of each, in order.
pub fn connect<B>(workers: usize) -> Vec<Handoff<B>> {
    let size = ring_size(workers);
    let mut all: Vec<Handoff<B>> = (0..workers)
        .map(|number| Handoff {
            number,
            bell: Arc::new(Doorbell::new()),
            inbound: Vec::with_capacity(workers),
            outbound: Vec::with_capacity(workers),
        })
        .collect();
    let bells: Vec<Arc<Doorbell>> = all.iter().map(|end| Arc::clone(&end.bell)).collect();
    for writer in 0..workers {
        for (reader, bell) in bells.iter().enumerate() {
            let ends = (writer != reader).then(|| RingBuffer::new(size));
            let (outbound, inbound) = match ends {
                Some((ring, consumer)) => {
                    (Some(Outbound { ring, bell: Arc::clone(bell) }), Some(consumer))
                }
                None => (None, None),
            };
            if let Some(end) = all.get_mut(writer) {
                end.outbound.push(OnLines(outbound));
            }
            if let Some(end) = all.get_mut(reader) {
                end.inbound.push(OnLines(inbound));
            }
        }
    }
    all
}

impl<B> Handoff<B> {
    /// The ends of a worker that is the only one.
    pub fn alone() -> Self {
        let bell = Arc::new(Doorbell::new());
        Self { number: 0, bell, inbound: Vec::new(), outbound: Vec::new() }
    }

    /// How many workers there are, this one included.
    #[inline]
    pub fn workers(&self) -> usize {
        self.outbound.len().max(1)
    }

    /// This worker's number.
    #[inline]
    pub fn number(&self) -> usize {
        self.number
    }

    /// Gives a packet to another worker.
    ///
    /// # Errors
    /// The packet, when the ring is full or there is no such other worker.
    pub fn give(&mut self, worker: usize, handed: Handed<B>) -> Result<(), Handed<B>> {
        let Some(OnLines(Some(outbound))) = self.outbound.get_mut(worker) else {
            return Err(handed);
        };
        match outbound.ring.push(handed) {
            Ok(()) => {
                outbound.bell.ring();
                Ok(())
            }
            Err(rtrb::PushError::Full(handed)) => Err(handed),
        }
    }

    /// Whether packets may have come: one load of a line that is this worker's own while nobody
    /// writes.
    #[inline(always)]
    pub fn is_called(&self) -> bool {
        self.bell.is_rung()
    }

    /// Takes notice of the call. Then all rings are to be looked into, and if one is left with
    /// packets in it, [`Self::call_again`].
    pub fn answer_call(&self) {
        self.bell.answer();
    }

    /// There is more to take at the next round.
    pub fn call_again(&self) {
        self.bell.ring();
    }

    /// The oldest packet from worker `from`.
    pub fn take(&mut self, from: usize) -> Option<Handed<B>> {
        self.inbound.get_mut(from)?.as_mut()?.pop().ok()
    }

    /// Where this worker's ends are, and the bell that others ring.
    #[cfg(test)]
    pub(crate) fn places(&self) -> [std::ops::Range<usize>; 3] {
        fn place<T>(ends: &[T]) -> std::ops::Range<usize> {
            let range = ends.as_ptr_range();
            range.start as usize..range.end as usize
        }
        [place(&self.inbound), place(&self.outbound), place(std::slice::from_ref(&*self.bell))]
    }

    /// Whether there is nothing from worker `from`.
    pub fn is_empty(&self, from: usize) -> bool {
        !matches!(self.inbound.get(from), Some(OnLines(Some(ring))) if !ring.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::thread;

    use conntrack::FlowKey;

    use super::*;
    use crate::buffer::{Buffer, Frame};
    use crate::parse::parse;
    use crate::tables::PortTable;
    use crate::wire::MacAddress;

    fn handed(number: u32) -> Handed<Frame> {
        let buffer = Frame::new(&number.to_be_bytes());
        let port = PortTable {
            mac: MacAddress::ZERO,
            any_mac: true,
            vlan: None,
            mtu: 1500,
            addresses: Vec::new(),
        };
        let mut parsed = parse(&buffer, &port);
        let address = Ipv4Addr::from(number);
        parsed.key = FlowKey::v4(address, Ipv4Addr::LOCALHOST, 1, 2, 17);
        Handed { buffer, port: 0, errand: Errand::LaterFragment, asked: 0, parsed }
    }

    #[test]
    fn every_worker_reaches_every_other_and_not_itself() {
        let mut all = connect::<Frame>(3);
        for (from, end) in all.iter_mut().enumerate() {
            for to in 0..3 {
                assert_eq!(end.give(to, handed(7)).is_ok(), from != to, "{from} to {to}");
            }
        }
        for (to, end) in all.iter_mut().enumerate() {
            assert!(end.is_called());
            for from in 0..3 {
                assert_eq!(end.take(from).is_some(), from != to, "{from} to {to}");
                assert!(end.is_empty(from));
            }
        }
    }

    #[test]
    fn a_full_ring_gives_the_packet_back() {
        let mut all = connect::<Frame>(2);
        for number in 0..ring_size(2) as u32 {
            assert!(all[0].give(1, handed(number)).is_ok());
        }
        let refused = all[0].give(1, handed(999)).unwrap_err();
        assert_eq!(refused.buffer.data(), 999u32.to_be_bytes());
        assert_eq!(all[1].take(0).unwrap().buffer.data(), 0u32.to_be_bytes());
        assert!(all[0].give(1, refused).is_ok());
    }

    #[test]
    fn a_worker_alone_has_nobody_to_give_to() {
        let mut alone = Handoff::<Frame>::alone();
        assert!(alone.give(0, handed(1)).is_err() && !alone.is_called());
        assert_eq!((alone.workers(), connect::<Frame>(1)[0].workers()), (1, 1));
    }

    #[test]
    fn rings_of_many_workers_stay_within_what_a_pool_can_spare() {
        for workers in [2, 3, 8, 64, 128] {
            let in_flight = ring_size(workers) * (workers - 1);
            assert!(in_flight <= IN_FLIGHT.max(RING_LEAST * (workers - 1)), "{workers}");
        }
    }

    /// Two writers, one reader that sleeps until it is called: everything arrives, in the order
    /// of each writer, and no call is lost.
    #[test]
    fn nothing_is_lost_or_reordered_between_threads() {
        const COUNT: u32 = if cfg!(miri) { 50 } else { 20_000 };
        let mut all = connect::<Frame>(3);
        let writers: Vec<_> = all.drain(1..).collect();
        let mut reader = all.remove(0);
        let threads: Vec<_> = writers
            .into_iter()
            .map(|mut writer| {
                thread::spawn(move || {
                    for number in 0..COUNT {
                        let mut next = handed(number);
                        while let Err(full) = writer.give(0, next) {
                            next = full;
                            thread::yield_now();
                        }
                    }
                    writer
                })
            })
            .collect();
        let mut next = [0u32; 3];
        while next[1] < COUNT || next[2] < COUNT {
            if !reader.is_called() {
                thread::yield_now();
                continue;
            }
            reader.answer_call();
            for (from, next) in next.iter_mut().enumerate() {
                while let Some(handed) = reader.take(from) {
                    assert_eq!(handed.buffer.data(), next.to_be_bytes());
                    *next += 1;
                }
            }
        }
        for thread in threads {
            thread.join().unwrap();
        }
    }
}
