//! What is kept of the packets of a burst from one stage to the next.
//!
//! Of most a [`Flight`], which is as short as it can be: stages that write and read less are done
//! sooner. Of those that take longer a [`Work`] at the same place besides, which says all.

use conntrack::{Probe, Segment, V4Words};

use crate::classify::Class;
use crate::parse::{Common, Parsed};
use crate::port::BURST;
use crate::select::Selection;
use crate::verdict::DropReason;

/// One packet on its way through the stages: all that most packets need to have kept of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    pub(super) flow_hash: u64,
    /// What a common packet says, as in [`Common`]; all of [`Common::NONE`] of any other, whose
    /// [`Work`] is written. Of one over IPv6 only the mark, `service`; the rest was left by others.
    pub(super) flow: V4Words,
    pub(super) ip_length: u16,
    pub(super) segment: Segment,
    /// Where the search for the flow begins, and then where it ended.
    pub(super) probe: Probe,
    /// Whom it goes to, once that is found; before, left by others.
    pub(super) vip: u32,
    pub(super) backend: u32,
}

impl Flight {
    /// One that begins.
    #[inline(always)]
    pub(super) fn new(common: Common, flow_hash: u64, probe: Probe) -> Self {
        let Common { flow, ip_length, segment } = common;
        Self { flow_hash, flow, ip_length, segment, probe, vip: 0, backend: 0 }
    }

    /// Begins with a common packet over IPv6, of which nothing else is asked.
    #[inline(always)]
    pub(super) fn begin_v6(&mut self, common: Common, flow_hash: u64, probe: Probe) {
        let Common { flow, ip_length, segment } = common;
        (self.flow_hash, self.probe) = (flow_hash, probe);
        (self.flow.service, self.ip_length, self.segment) = (flow.service, ip_length, segment);
    }

    /// What was parsed, if it was a common packet over IPv4.
    #[inline(always)]
    pub(super) fn common_v4(&self) -> Option<Common> {
        let Self { flow, ip_length, segment, .. } = *self;
        let is_v4 = self.is_common() && !self.is_v6();
        is_v4.then_some(Common { flow, ip_length, segment })
    }

    /// Whether it is a common packet over IPv6.
    #[inline(always)]
    pub(super) fn is_v6(&self) -> bool {
        self.flow.service == Common::V6.service
    }

    #[inline(always)]
    pub(super) fn is_common(&self) -> bool {
        self.flow.service != Common::NONE.flow.service
    }

    /// Whether it is common, and there is a slot that its flow may be in.
    #[inline(always)]
    pub(super) fn may_go_on(&self) -> bool {
        self.is_common() && self.probe != Probe::NONE
    }
}

// Fewer words are fewer instructions for every packet.
const _: () = assert!(size_of::<Flight>() == 40);

/// Those of a burst, by the place of the packet in it; what is left there from bursts before means
/// nothing.
pub(super) type Flights = [Flight; BURST];

/// Room for the flights of a burst.
pub(super) fn flights() -> Flights {
    [Flight::new(Common::NONE, 0, Probe::NONE); BURST]
}

/// The works of a burst, by the place of the packet in it. Written for packets that need more than
/// their [`Flight`], and then read; what is left there from bursts before means nothing.
pub(super) type Works = [Work; BURST];

/// Room for the works of a burst.
pub(super) fn works() -> Box<Works> {
    Box::new([Work::new(Parsed::dropped(DropReason::NoVip), 0, 0); BURST])
}

/// One packet that takes longer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    pub(super) parsed: Parsed,
    pub(super) class: Class,
    pub(super) flow_hash: u64,
    pub(super) probe: Probe,
    /// What the pool's table is asked with; only where the probe found nothing.
    pub(super) table_hash: u64,
    pub(super) selection: Selection,
    /// Which packet of the burst it was.
    pub(super) place: u8,
}

impl Work {
    /// One of which nothing is known but what was parsed.
    #[inline]
    pub(super) fn new(parsed: Parsed, flow_hash: u64, place: u8) -> Self {
        let (class, selection) = (Class::Arp, Selection::Drop(DropReason::NoVip));
        Self { parsed, class, flow_hash, probe: Probe::NONE, table_hash: 0, selection, place }
    }

    /// A packet of a VIP's flow whose backend is known.
    pub(super) fn of(parsed: Parsed, vip: u32, flow_hash: u64, backend: u32) -> Self {
        let (class, selection) = (Class::Vip(vip), Selection::Backend(backend));
        let probe = Probe::NONE;
        Self { parsed, class, flow_hash, probe, table_hash: 0, selection, place: 0 }
    }
}
