//! Metrics of the workers: what each took in and gave out, how busy it is, its flow table.

use dataplane::counters::WorkerCounters;
use dataplane::verdict::DropReason;

use super::catalogue::*;
use super::exposition::{Exposition, Metric, Number};
use crate::admin::{AdminState, health, lock};
use crate::node::Node;

/// The least time the busy ratio is taken over, in nanoseconds.
const LEAST_WINDOW: u64 = 1_000_000_000;

/// The time each worker's busy ratio is taken over: since the last scrape that was not too close
/// to the one before.
#[derive(Debug, Default)]
pub(in crate::admin) struct BusyWindows(Vec<Window>);

#[derive(Clone, Copy, Debug)]
struct Window {
    since: u64,
    busy: u64,
    ratio: f64,
}

impl BusyWindows {
    /// The ratio of `worker`, whose busy nanoseconds are `busy` now.
    fn ratio(&mut self, worker: usize, busy: u64, now: u64, started: u64) -> f64 {
        while self.0.len() <= worker {
            self.0.push(Window { since: started, busy: 0, ratio: 0.0 });
        }
        let Some(window) = self.0.get_mut(worker) else { return 0.0 };
        let elapsed = now.saturating_sub(window.since);
        if elapsed >= LEAST_WINDOW {
            let ratio = busy.saturating_sub(window.busy) as f64 / elapsed as f64;
            *window = Window { since: now, busy, ratio: ratio.min(1.0) };
        }
        window.ratio
    }
}

pub(super) fn drops(text: &mut Exposition, node: &Node) {
    let mut family = text.family(&DROPS);
    for reason in DropReason::ALL {
        let workers = node.workers().iter().map(|worker| worker.counters.drops(*reason));
        family.sample(&[reason.name()], workers.fold(0, u64::wrapping_add));
    }
}

type Column = (&'static Metric, fn(&WorkerCounters) -> u64);

pub(super) fn workers(text: &mut Exposition, state: &AdminState, node: &Node) {
    let columns: [Column; 18] = [
        (&WORKER_RECEIVED_PACKETS, |counters| counters.received_packets.get()),
        (&WORKER_RECEIVED_BYTES, |counters| counters.received_bytes.get()),
        (&WORKER_TRANSMITTED_PACKETS, |counters| counters.transmitted_packets.get()),
        (&WORKER_TRANSMITTED_BYTES, |counters| counters.transmitted_bytes.get()),
        (&WORKER_FORWARDED, |counters| counters.forwarded.get()),
        (&WORKER_REPLIED, |counters| counters.replied.get()),
        (&WORKER_HOST, |counters| counters.host.get()),
        (&WORKER_TO_KERNEL, |counters| counters.exception.to_kernel.get()),
        (&WORKER_FROM_KERNEL, |counters| counters.exception.from_kernel.get()),
        (&WORKER_HELD, |counters| counters.held.get()),
        (&WORKER_GIVEN, |counters| counters.handoffs.given.get()),
        (&WORKER_TAKEN, |counters| counters.handoffs.taken.get()),
        (&WORKER_FRAGMENTS, |counters| counters.fragments.received.get()),
        (&WORKER_FRAGMENTS_WAITED, |counters| counters.fragments.waited.get()),
        (&WORKER_FRAGMENTS_WAITING, |counters| counters.fragments.waiting.get()),
        (&WORKER_DATAGRAMS, |counters| counters.fragments.datagrams.get()),
        (&WORKER_RESETS, |counters| counters.resets.get()),
        (&WORKER_DROPPED, WorkerCounters::total_drops),
    ];
    write_columns(text, node, &columns);
    icmp(text, node);
    let mut family = text.family(&WORKER_POLLS);
    for (number, worker) in node.workers().iter().enumerate() {
        let (number, counters) = (number.to_string(), &worker.counters);
        family.sample(&[&number, "busy"], counters.busy_polls.get());
        family.sample(&[&number, "idle"], counters.idle_polls.get());
    }
    each_worker(text, node, &WORKER_BUSY, |_, counters| {
        counters.busy_nanoseconds.get() as f64 / 1e9
    });
    {
        let (mut windows, now) = (lock(&state.busy), state.now());
        each_worker(text, node, &WORKER_BUSY_RATIO, |number, counters| {
            windows.ratio(number, counters.busy_nanoseconds.get(), now, state.started)
        });
    }
    let mut family = text.family(&WORKER_TICK_AGE);
    for (number, worker) in node.workers().iter().enumerate() {
        family.sample(&[&number.to_string()], health::tick_age(state, worker) as f64 / 1e9);
    }
    let columns: [Column; 2] = [
        (&WORKER_GENERATION, |counters| counters.tables_generation.get()),
        (&WORKER_EVENTS_LOST, |counters| counters.events_lost.get()),
    ];
    write_columns(text, node, &columns);
    let mut family = text.family(&WORKER_BUFFERS);
    for (number, buffers) in state.buffers.iter().enumerate() {
        family.sample(&[&number.to_string()], buffers.available());
    }
}

/// ICMP errors, and what was done about packets too long.
fn icmp(text: &mut Exposition, node: &Node) {
    let columns: [Column; 4] = [
        (&WORKER_ICMP_DELIVERED, |counters| counters.icmp.delivered.get()),
        (&WORKER_ICMP_LIMITED, |counters| counters.icmp.limited.get()),
        (&WORKER_FRAGMENTED, |counters| counters.icmp.fragmented.get()),
        (&WORKER_MSS_CLAMPED, |counters| counters.icmp.clamped.get()),
    ];
    write_columns(text, node, &columns);
    let mut family = text.family(&WORKER_ICMP_SENT);
    for (number, worker) in node.workers().iter().enumerate() {
        let (number, icmp) = (number.to_string(), &worker.counters.icmp);
        family.sample(&[&number, "too_big"], icmp.too_big.get());
        family.sample(&[&number, "time_exceeded"], icmp.time_exceeded.get());
        family.sample(&[&number, "port_unreachable"], icmp.port_unreachable.get());
    }
}

pub(super) fn conntrack(text: &mut Exposition, node: &Node) {
    let columns: [Column; 8] = [
        (&CONNTRACK_ENTRIES, |counters| counters.conntrack.entries.get()),
        (&CONNTRACK_CAPACITY, |counters| counters.conntrack.capacity.get()),
        (&CONNTRACK_HITS, |counters| counters.conntrack.hits.get()),
        (&CONNTRACK_MISSES, |counters| counters.conntrack.misses.get()),
        (&CONNTRACK_INSERTS, |counters| counters.conntrack.inserts.get()),
        (&CONNTRACK_EVICTIONS, |counters| counters.conntrack.evictions.get()),
        (&CONNTRACK_REFUSED, |counters| counters.conntrack.refused.get()),
        (&CONNTRACK_EXPIRED, |counters| counters.conntrack.expired.get()),
    ];
    write_columns(text, node, &columns);
}

fn write_columns(text: &mut Exposition, node: &Node, columns: &[Column]) {
    for (metric, value) in columns {
        each_worker(text, node, metric, |_, counters| value(counters));
    }
}

fn each_worker<N: Into<Number>>(
    text: &mut Exposition,
    node: &Node,
    metric: &'static Metric,
    mut value: impl FnMut(usize, &WorkerCounters) -> N,
) {
    let mut family = text.family(metric);
    for (number, worker) in node.workers().iter().enumerate() {
        family.sample(&[&number.to_string()], value(number, &worker.counters));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn busy_ratio_is_taken_since_the_last_scrape_that_was_a_second_ago() {
        let mut windows = BusyWindows::default();
        assert_eq!(windows.ratio(0, SECOND / 10, SECOND / 2, 0), 0.0);
        assert_eq!(windows.ratio(0, SECOND / 2, 2 * SECOND, 0), 0.25);
        // Another scraper, at once: the same answer, and the window is not cut short.
        assert_eq!(windows.ratio(0, SECOND / 2, 2 * SECOND + 5, 0), 0.25);
        assert_eq!(windows.ratio(0, 3 * SECOND / 2, 3 * SECOND, 0), 1.0);
        assert_eq!(windows.ratio(0, 3 * SECOND / 2, 13 * SECOND, 0), 0.0);
    }

    #[test]
    fn a_burst_that_straddles_the_scrape_is_no_more_than_wholly_busy() {
        let mut windows = BusyWindows::default();
        assert_eq!(windows.ratio(2, 2 * SECOND, SECOND, 0), 1.0);
    }
}
