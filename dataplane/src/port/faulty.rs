//! Faults around any port: a device that accepts too little, and a pool that runs dry.
//!
//! Tests wrap a port in this instead of asking the data path to misbehave.

use super::{Burst, Port};

/// What goes wrong, by count, so that a run can be repeated.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// The most packets one transmit call takes; the rest is refused. `None`: all.
    pub transmit_limit: Option<usize>,
    /// How many more allocations succeed; `None`: all.
    pub allocations_left: Option<usize>,
}

/// A port with faults.
#[derive(Debug)]
pub struct FaultyPort<P> {
    inner: P,
    /// The faults in force; may be changed between bursts.
    pub faults: Faults,
}

impl<P: Port> FaultyPort<P> {
    /// Wraps `inner`.
    pub fn new(inner: P, faults: Faults) -> Self {
        Self { inner, faults }
    }

    /// The wrapped port.
    pub fn inner_mut(&mut self) -> &mut P {
        &mut self.inner
    }
}

impl<P: Port> Port for FaultyPort<P> {
    type Buffer = P::Buffer;

    fn receive(&mut self, burst: &mut Burst<P::Buffer>) {
        self.inner.receive(burst);
    }

    fn transmit(&mut self, burst: &mut Burst<P::Buffer>) {
        let limit = self.faults.transmit_limit.unwrap_or(usize::MAX).min(burst.len());
        let refused: Burst<P::Buffer> = burst.drain(limit..).collect();
        self.inner.transmit(burst);
        burst.extend(refused);
    }

    fn allocate(&mut self) -> Option<P::Buffer> {
        if let Some(left) = &mut self.faults.allocations_left {
            *left = left.checked_sub(1)?;
        }
        self.inner.allocate()
    }
}
