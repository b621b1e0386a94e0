//! `/metrics`: the node's counters and states as text for Prometheus.
//!
//! Written by hand, on purpose. The counters live in the workers' own memory, one plain store an
//! event; the crates for metrics want to own the numbers, so each scrape would copy every series
//! into their registry and take out again what is gone. What remains for such a crate is the text
//! format, three rules long ([`exposition`]).
//!
//! What a node has many of (VIPs, backends) is added up over the workers, so that the number of
//! series does not grow with the cores. Rendering is one pass per metric over arrays; a VIP or
//! backend that is gone from the tables is gone from here.

mod catalogue;
mod exposition;
mod feed;
mod node;
mod traffic;
mod tunnel;
mod workers;

pub use catalogue::METRICS;
pub use exposition::{CONTENT_TYPE, Kind, Metric};
pub(super) use workers::BusyWindows;

use super::AdminState;
use exposition::Exposition;

/// The whole text, as of now.
pub(super) fn render(state: &AdminState) -> String {
    let node = state.lock_node();
    let mut text = Exposition::default();
    node::about(&mut text, state, &node);
    feed::feed(&mut text, &node);
    traffic::vips(&mut text, &node);
    traffic::pools(&mut text, &node);
    traffic::backends(&mut text, &node);
    workers::drops(&mut text, &node);
    workers::workers(&mut text, state, &node);
    workers::conntrack(&mut text, &node);
    tunnel::probes(&mut text, &node);
    node::neighbours(&mut text, &node);
    node::ports(&mut text, state, &node);
    text.finish()
}
