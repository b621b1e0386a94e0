//! The flow dump: a slice of the table between bursts, copied to the control thread.

use super::{Core, Meter};
use crate::link::{FlowFilter, FlowRecord};
use crate::port::Port;

/// Slots looked at between two bursts.
const SLICE: usize = 256;

/// A dump under way.
#[derive(Debug)]
pub(super) struct Show {
    filter: FlowFilter,
    cursor: Option<usize>,
    shown: u32,
}

impl Show {
    pub(super) fn new(filter: FlowFilter) -> Self {
        Self { filter, cursor: Some(0), shown: 0 }
    }
}

impl<P: Port, M: Meter> Core<P, M> {
    /// Copies one slice; ends the show when the table or the limit is through.
    #[cold]
    pub(super) fn show_flows(&mut self, now_ms: u32) {
        let Some(show) = &mut self.show else { return };
        let flows = &self.link.flows;
        // Wait for the reader rather than lose records.
        if flows.capacity() - flows.len() < SLICE + 1 {
            return;
        }
        let filter = show.filter;
        if let Some(cursor) = show.cursor {
            show.cursor = self.conntrack.walk(cursor, SLICE, |entry| {
                let wanted = filter.vip.is_none_or(|vip| vip == entry.vip())
                    && filter.backend.is_none_or(|backend| backend == entry.backend());
                if wanted && show.shown < filter.limit {
                    show.shown += 1;
                    // There is room: checked above.
                    let _ = flows.push(FlowRecord::Flow(*entry, entry.idle(now_ms)));
                }
            });
        }
        if show.cursor.is_none() || show.shown >= filter.limit {
            let _ = flows.push(FlowRecord::End);
            self.show = None;
        }
    }
}
