//! A port that keeps a copy of a packet now and then, for verification after the run.
//!
//! The price on the path is one comparison a transmitted burst. Distances are a prime number of
//! packets, so that in time every flow of the source and every place in a burst is met.

use dataplane::buffer::Buffer;
use dataplane::port::{Burst, Port};

/// Packets from one sample to the next: the largest prime below 2^16.
pub const DISTANCE: u64 = 65_521;
/// Samples kept; later packets are not sampled.
const MOST: usize = 16_384;
/// Bytes kept of each: more than any frame of the benchmark.
const SAMPLE_BYTES: usize = 128;

/// The wrapper around a port.
#[derive(Debug)]
pub struct Sampled<P> {
    inner: P,
    /// Packets from one sample to the next.
    distance: u64,
    /// Packets until the next sample.
    left: u64,
    samples: Vec<Sample>,
}

/// The first bytes of one packet.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    length: usize,
    bytes: [u8; SAMPLE_BYTES],
}

impl Sample {
    /// A copy of `packet`'s first bytes.
    pub fn of(packet: &[u8]) -> Self {
        let mut bytes = [0; SAMPLE_BYTES];
        for (to, from) in bytes.iter_mut().zip(packet) {
            *to = *from;
        }
        Self { length: packet.len(), bytes }
    }

    /// The packet, or its first bytes if it was longer than any expected.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&self.bytes)
    }
}

impl<P: Port> Sampled<P> {
    /// Samples one of `distance` packets that `inner` transmits (see [`DISTANCE`]).
    pub fn new(inner: P, distance: u64) -> Self {
        let mut samples = vec![Sample { length: 0, bytes: [1; SAMPLE_BYTES] }; MOST];
        // The pages are there now; no sample pays for a page fault.
        samples.clear();
        Self { inner, distance, left: distance, samples }
    }

    /// The port itself.
    pub fn inner_mut(&mut self) -> &mut P {
        &mut self.inner
    }

    /// What was sampled so far, in order.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// Copies the packet that is due in `burst`.
    #[cold]
    #[inline(never)]
    fn sample(&mut self, burst: &Burst<P::Buffer>) {
        let Some(packet) = burst.get(self.left as usize) else { return };
        if self.samples.len() < MOST {
            self.samples.push(Sample::of(packet.data()));
        }
        self.left += self.distance;
    }
}

impl<P: Port> Port for Sampled<P> {
    type Buffer = P::Buffer;

    #[inline]
    fn receive(&mut self, burst: &mut Burst<Self::Buffer>) {
        self.inner.receive(burst);
    }

    #[inline]
    fn transmit(&mut self, burst: &mut Burst<Self::Buffer>) {
        let count = burst.len() as u64;
        if self.left < count {
            self.sample(burst);
        }
        self.left -= count;
        self.inner.transmit(burst);
    }

    fn allocate(&mut self) -> Option<Self::Buffer> {
        self.inner.allocate()
    }
}

#[cfg(test)]
mod tests {
    use dataplane::buffer::Frame;
    use dataplane::port::memory::MemoryPort;

    use super::*;

    #[test]
    fn one_packet_in_a_prime_number_is_kept() {
        let mut port = Sampled::new(MemoryPort::default(), DISTANCE);
        let mut burst = Burst::new();
        let total = 3 * DISTANCE + 10;
        for number in 0..total {
            burst.push(Frame::new(&number.to_be_bytes()));
            if burst.is_full() || number + 1 == total {
                port.transmit(&mut burst);
                burst.clear();
            }
        }
        let numbers: Vec<&[u8]> = port.samples().iter().map(Sample::bytes).collect();
        let expected = [DISTANCE, 2 * DISTANCE, 3 * DISTANCE].map(u64::to_be_bytes);
        assert_eq!(numbers, expected);
    }
}
