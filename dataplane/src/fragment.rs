//! Fragments of datagrams, forwarded without being put together.
//!
//! Only the first fragment of a datagram has the ports that name its flow; the others have
//! addresses and an identification. A bounded table remembers for each datagram what its first
//! fragment said, so that the others follow it; those that come before it wait briefly, or go by
//! the hash of what they have, as configured. Every fragment is forwarded as the packet it is.
//!
//! All fragments of a datagram meet at one worker, which a keyed hash of the datagram's name
//! gives ([`Piece::datagram`]), whichever queue they came in at; from there each goes to the
//! worker that has the flow (`worker/handoff.rs`).
//!
//! What is refused: fragments that cannot be part of a datagram (RFC 791, RFC 8200 section 4.5),
//! first ones without the whole transport header (RFC 1858, RFC 7112), and every datagram whose
//! fragments overlap or contradict each other (RFC 5722; here for IPv4, too). Atomic fragments
//! (RFC 6946) are whole datagrams, and never come here.
//!
//! - [`piece`]: what one fragment says.
//! - [`coverage`]: which bytes of a datagram have come.
//! - [`datagrams`]: the table, and who loses when it is full.
//! - [`waiting`]: the fragments that wait.

pub mod coverage;
pub mod datagrams;
pub mod piece;
pub mod waiting;

pub use datagrams::{Datagrams, Entered, Losses};
pub use piece::Piece;
pub use waiting::Waiting;

/// What becomes of a fragment that comes before its datagram's first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Early {
    /// It waits for the first, for [`FragmentOptions::wait_ms`].
    #[default]
    Wait,
    /// The whole datagram goes where the hash of source, destination and protocol says.
    Hash,
}

/// How fragments are dealt with, as configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentOptions {
    /// Those that come early.
    pub early: Early,
    /// How long one of those waits, in milliseconds.
    pub wait_ms: u32,
    /// How long a datagram is remembered from its first fragment seen, in milliseconds.
    ///
    /// Short beside the 60 s of RFC 8200 and the 30 s of Linux: those are for a receiver who has
    /// the pieces and waits for a retransmission of nothing; here it is the time in which the
    /// pieces of one datagram, sent back to back, pass by. 16-bit identifications come around
    /// in seconds (RFC 4963), and a name that is remembered for longer catches the wrong pieces.
    pub timeout_ms: u32,
}

impl Default for FragmentOptions {
    fn default() -> Self {
        Self { early: Early::Wait, wait_ms: 500, timeout_ms: 2_000 }
    }
}
