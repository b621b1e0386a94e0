//! What a worker and the control thread tell each other, over bounded lock-free queues.
//!
//! Tables go by [`crate::publish`], counters by [`crate::counters`]; here is the rest: neighbours
//! seen (by ARP and neighbour discovery) and answers to probes (up), frames to send, probes and
//! flows to show (down). A full queue loses the message and counts it; both sides repeat what
//! matters.

use std::sync::{Arc, OnceLock};

use arrayvec::ArrayVec;
use conntrack::Entry;
use crossbeam_queue::ArrayQueue;

use crate::neighbour::{Heard, NextHop};
use crate::probe::{Cookies, ProbePacket, ProbeReply};

/// Longest frame the control thread has sent: a neighbour solicitation with a tag, 90 bytes.
pub const CONTROL_FRAME: usize = 96;

/// From a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighbourSeen {
    /// Who spoke, and on which port.
    pub hop: NextHop,
    /// What it said.
    pub heard: Heard,
}

/// To a worker.
#[derive(Clone, Debug)]
pub enum Command {
    /// Send this frame on that port.
    Transmit {
        /// Index of the port.
        port: u8,
        /// The whole frame.
        frame: ArrayVec<u8, CONTROL_FRAME>,
    },
    /// Send this to that backend, as a client's packet would be.
    Probe {
        /// Index of the backend.
        backend: u32,
        /// Which of those that had this index.
        generation: u16,
        /// What the tunnel carries.
        packet: ProbePacket,
    },
    /// Copy up to `limit` entries of the conntrack table to [`WorkerLink::flows`].
    ShowFlows(FlowFilter),
}

/// Which flows to show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowFilter {
    /// Of this VIP only.
    pub vip: Option<u32>,
    /// Of this backend only.
    pub backend: Option<u32>,
    /// At most so many.
    pub limit: u32,
}

/// A flow on show, or the end of the show.
#[derive(Clone, Copy, Debug)]
pub enum FlowRecord {
    /// One entry, as it was, and how long it had been idle, in milliseconds.
    Flow(Entry, u32),
    /// That was all of this worker's table.
    End,
}

/// The queues between the control thread and one worker. Both hold an `Arc` of it.
#[derive(Debug)]
pub struct WorkerLink {
    /// Up: who was seen where.
    pub seen: ArrayQueue<NeighbourSeen>,
    /// Down: what to do.
    pub commands: ArrayQueue<Command>,
    /// Up: the answer to [`Command::ShowFlows`].
    pub flows: ArrayQueue<FlowRecord>,
    /// Down, once: how answers to probes are told from other packets for the node. Until it is
    /// set there are none.
    pub cookies: OnceLock<Cookies>,
    /// Up: answers to [`Command::Probe`].
    pub probe_replies: ArrayQueue<ProbeReply>,
}

impl WorkerLink {
    /// Empty queues.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            seen: ArrayQueue::new(1024),
            commands: ArrayQueue::new(1024),
            flows: ArrayQueue::new(1024),
            cookies: OnceLock::new(),
            probe_replies: ArrayQueue::new(1024),
        })
    }
}
