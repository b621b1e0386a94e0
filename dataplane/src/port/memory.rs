//! A port in memory: what is pushed into it is received, what is transmitted can be taken out.

use std::collections::VecDeque;

use super::{Burst, Port};
use crate::buffer::Frame;

/// A port whose wire is two queues of frames.
#[derive(Debug, Default)]
pub struct MemoryPort {
    incoming: VecDeque<Frame>,
    outgoing: Vec<Frame>,
}

impl MemoryPort {
    /// A port with nothing on its wire.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a frame on the wire, to be received.
    pub fn push(&mut self, frame: Frame) {
        self.incoming.push_back(frame);
    }

    /// Takes what has been transmitted since the last call, in order.
    pub fn take_sent(&mut self) -> Vec<Frame> {
        std::mem::take(&mut self.outgoing)
    }
}

impl Port for MemoryPort {
    type Buffer = Frame;

    fn receive(&mut self, burst: &mut Burst<Frame>) {
        while !burst.is_full() {
            let Some(frame) = self.incoming.pop_front() else { return };
            burst.push(frame);
        }
    }

    fn transmit(&mut self, burst: &mut Burst<Frame>) {
        self.outgoing.extend(burst.drain(..));
    }

    fn allocate(&mut self) -> Option<Frame> {
        Some(Frame::new(&[]))
    }
}
