//! Reports on their way to the controller: never more than one waiting for each backend.
//!
//! A report says how a backend is, so a newer one makes an older one that is still here
//! worthless: it is replaced. Changed verdicts go before repeated ones. What has been sent and is
//! not acknowledged is bounded by a window, which halves when the controller says that it is too
//! much, and grows again by one with each window that was acknowledged.
//!
//! So memory is bounded by the number of backends, however long the controller is away, and what
//! it hears first when it is back is what is true then.

use std::collections::{BTreeMap, HashMap};

use proto::v1::HealthReport;

/// Most reports without acknowledgement; the controller bears 4096 of each checker.
pub(crate) const LARGEST_WINDOW: usize = 256;
const SMALLEST_WINDOW: usize = 16;

/// How soon a report should go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Urgency {
    /// A verdict has changed.
    News,
    /// Said before.
    Repeated,
}

/// Reports that wait, and how many are on their way.
pub(crate) struct Outbox {
    waiting: HashMap<String, (Place, HealthReport)>,
    order: BTreeMap<Place, String>,
    places: u64,
    unacknowledged: usize,
    window: usize,
    /// Acknowledgements since the window last grew.
    heard: usize,
    pub(crate) counts: Counts,
}

type Place = (Urgency, u64);

/// What became of reports so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) sent: u64,
    pub(crate) acknowledged: u64,
    /// Acknowledged, but not taken into account.
    pub(crate) refused: u64,
    /// Replaced by a newer one before they were sent.
    pub(crate) superseded: u64,
    /// Sent, and the stream broke before they were acknowledged.
    pub(crate) lost: u64,
}

impl Outbox {
    pub(crate) fn new() -> Self {
        Self {
            waiting: HashMap::new(),
            order: BTreeMap::new(),
            places: 0,
            unacknowledged: 0,
            window: LARGEST_WINDOW,
            heard: 0,
            counts: Counts::default(),
        }
    }

    /// Puts a report in, in place of an older one of the same backend.
    pub(crate) fn put(&mut self, report: HealthReport, urgency: Urgency) {
        let id = report.backend_id.clone();
        let place = match self.waiting.remove(&id) {
            Some((place, _)) => {
                self.counts.superseded += 1;
                if place.0 <= urgency {
                    place // keeps its turn
                } else {
                    self.order.remove(&place);
                    self.next_place(urgency)
                }
            }
            None => self.next_place(urgency),
        };
        self.order.insert(place, id.clone());
        self.waiting.insert(id, (place, report));
    }

    /// The next report to send, while the window allows.
    pub(crate) fn take(&mut self) -> Option<HealthReport> {
        if self.unacknowledged >= self.window {
            return None;
        }
        let (_, id) = self.order.pop_first()?;
        let (_, report) = self.waiting.remove(&id)?;
        self.unacknowledged += 1;
        self.counts.sent += 1;
        Some(report)
    }

    /// The controller has heard one.
    pub(crate) fn acknowledged(&mut self, accepted: bool) {
        self.unacknowledged = self.unacknowledged.saturating_sub(1);
        self.heard += 1;
        if self.heard >= self.window {
            self.heard = 0;
            self.window = (self.window + 1).min(LARGEST_WINDOW);
        }
        self.counts.acknowledged += 1;
        self.counts.refused += u64::from(!accepted);
    }

    /// The stream broke: what was on its way may be lost.
    pub(crate) fn broken(&mut self) {
        self.counts.lost += self.unacknowledged as u64;
        self.unacknowledged = 0;
    }

    /// The controller said that it is too much.
    pub(crate) fn exhausted(&mut self) {
        self.window = (self.window / 2).max(SMALLEST_WINDOW);
        self.heard = 0;
    }

    /// Drops what waits for backends that are not probed any more.
    pub(crate) fn keep(&mut self, wanted: impl Fn(&str) -> bool) {
        let order = &mut self.order;
        self.waiting.retain(|id, (place, _)| {
            let kept = wanted(id);
            if !kept {
                order.remove(place);
            }
            kept
        });
    }

    /// Reports that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Reports sent and not acknowledged.
    pub(crate) fn unacknowledged(&self) -> usize {
        self.unacknowledged
    }

    /// Most that may be unacknowledged now.
    pub(crate) fn window(&self) -> usize {
        self.window
    }

    fn next_place(&mut self, urgency: Urgency) -> Place {
        self.places += 1;
        (urgency, self.places)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(id: &str, at: u64) -> HealthReport {
        HealthReport { backend_id: id.to_owned(), checked_at_ns: at, ..HealthReport::default() }
    }

    fn taken(outbox: &mut Outbox) -> Vec<(String, u64)> {
        let next = || outbox.take().map(|report| (report.backend_id, report.checked_at_ns));
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn a_newer_report_replaces_an_older_one_and_keeps_its_turn() {
        let mut outbox = Outbox::new();
        for (id, at) in [("a", 1), ("b", 2), ("a", 3)] {
            outbox.put(report(id, at), Urgency::Repeated);
        }
        assert_eq!(outbox.counts.superseded, 1);
        assert_eq!(taken(&mut outbox), [("a".to_owned(), 3), ("b".to_owned(), 2)]);
    }

    #[test]
    fn news_goes_first_and_stays_news_when_it_is_repeated() {
        let mut outbox = Outbox::new();
        outbox.put(report("a", 1), Urgency::Repeated);
        outbox.put(report("b", 2), Urgency::Repeated);
        outbox.put(report("c", 3), Urgency::Repeated);
        outbox.put(report("b", 4), Urgency::News);
        outbox.put(report("b", 5), Urgency::Repeated);
        let order = [("b".to_owned(), 5), ("a".to_owned(), 1), ("c".to_owned(), 3)];
        assert_eq!(taken(&mut outbox), order);
        assert_eq!((outbox.waiting(), outbox.order.len()), (0, 0));
    }

    #[test]
    fn the_window_holds_back_what_is_too_much() {
        let mut outbox = Outbox::new();
        for at in 0..1000 {
            outbox.put(report(&format!("b{at}"), at), Urgency::Repeated);
        }
        assert_eq!(taken(&mut outbox).len(), LARGEST_WINDOW);
        outbox.acknowledged(true);
        outbox.acknowledged(false);
        assert_eq!(taken(&mut outbox).len(), 2);
        assert_eq!((outbox.counts.acknowledged, outbox.counts.refused), (2, 1));
        assert_eq!(outbox.unacknowledged(), LARGEST_WINDOW);
    }

    #[test]
    fn the_window_halves_when_it_is_too_much_and_grows_again() {
        let mut outbox = Outbox::new();
        outbox.exhausted();
        assert_eq!(outbox.window(), LARGEST_WINDOW / 2);
        (0..20).for_each(|_| outbox.exhausted());
        assert_eq!(outbox.window(), SMALLEST_WINDOW);
        (0..SMALLEST_WINDOW).for_each(|_| outbox.acknowledged(true));
        assert_eq!(outbox.window(), SMALLEST_WINDOW + 1, "slowly");
        (0..40_000).for_each(|_| outbox.acknowledged(true));
        assert_eq!(outbox.window(), LARGEST_WINDOW);
        assert_eq!(outbox.unacknowledged(), 0, "more acknowledgements than reports hurt nobody");
    }

    #[test]
    fn what_a_broken_stream_held_is_lost_and_its_window_is_free() {
        let mut outbox = Outbox::new();
        outbox.put(report("a", 1), Urgency::News);
        outbox.take().expect("a report");
        outbox.broken();
        assert_eq!((outbox.counts.lost, outbox.unacknowledged()), (1, 0));
    }

    #[test]
    fn memory_is_bounded_by_the_number_of_backends() {
        let mut outbox = Outbox::new();
        for at in 0..10_000u64 {
            let urgency = if at % 3 == 0 { Urgency::News } else { Urgency::Repeated };
            outbox.put(report(&format!("b{}", at % 7), at), urgency);
        }
        assert_eq!((outbox.waiting(), outbox.order.len()), (7, 7));
        outbox.keep(|id| id == "b3");
        assert_eq!((outbox.waiting(), outbox.order.len()), (1, 1));
    }
}
