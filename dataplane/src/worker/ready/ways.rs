//! Where the packets of a burst go. A burst all of which goes to one port is sent as it came.

use crate::port::BURST;

/// Where the packets of a burst go, by their places: nearly always all to one port.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ways {
    /// That of the first which goes anywhere.
    most: Option<u8>,
    /// Those that do not go there: to the port that is kept for them, or nowhere yet.
    pub(super) aside: u64,
    /// Those that stay.
    pub(super) staying: u64,
    ports: [u8; BURST],
    /// Of all frames that go to the port that most go to, as they are sent.
    pub(super) bytes: u64,
}

const _: () = assert!(BURST <= u64::BITS as usize);

impl Ways {
    pub(super) fn new() -> Self {
        Self { most: None, aside: 0, staying: 0, ports: [0; BURST], bytes: 0 }
    }

    pub(super) fn port(&self) -> u8 {
        self.most.unwrap_or(0)
    }

    /// `count` packets, from that at `place` on, go to `port`, with so many bytes altogether.
    #[inline(always)]
    pub(super) fn go(&mut self, place: usize, count: usize, port: u8, bytes: u64) {
        if count == 0 {
            return;
        }
        if *self.most.get_or_insert(port) == port {
            self.bytes += bytes;
            return;
        }
        for (place, slot) in self.ports.iter_mut().enumerate().skip(place).take(count) {
            self.aside |= 1 << place;
            *slot = port;
        }
    }

    #[inline(always)]
    pub(super) fn stays(&mut self, place: usize) {
        self.aside |= 1 << place;
        self.staying |= 1 << place;
    }

    /// The port that it goes to, if any.
    pub(super) fn of(&self, place: usize) -> Option<u8> {
        let is_in = |places: u64| places >> place & 1 != 0;
        match (is_in(self.staying), is_in(self.aside)) {
            (true, _) => None,
            (false, true) => self.ports.get(place).copied(),
            (false, false) => Some(self.port()),
        }
    }
}
