//! Backends that answer probes and fail clients: found by comparing them with their pool.
//!
//! Nodes count, per backend, new flows, client RSTs and retransmitted SYNs. A backend whose rate
//! of either stands far out from the **median** of its pool for two intervals is taken out of the
//! table for a while, longer each time. Measured against the median and its spread (the median
//! absolute deviation), a bad day of all clients ejects nobody.
//!
//! Bounds, since these signals are hints and not probes:
//! - at most 10 % of the pool is out at a time, one backend in a pool of 5 to 19, none in a
//!   smaller one, where a median says little;
//! - never so many that, with the bad ones, the panic threshold would be passed;
//! - every ejection ends by itself, and the state in the registry stays HEALTHY;
//! - of each backend's counts the node with the most bad ones is left out (when several nodes
//!   report), so that one broken node ejects nobody.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Id, Millis, SettingsError};

/// What makes an outlier. Times in milliseconds, rates in bad packets per 1,000 new flows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlierSettings {
    /// No more than this share of the pool is out at a time, in percent, but at least one
    /// backend in a pool of `min_members`. 0 switches outlier ejection off.
    pub max_percent: u32,
    /// Rates are taken over so long.
    pub interval_ms: Millis,
    /// A backend with fewer new flows in an interval is not judged.
    pub min_flows: u64,
    /// With fewer backends to compare, none is judged.
    pub min_members: usize,
    /// An outlier is at least this far above the median ...
    pub margin_permille: u64,
    /// ... and at least so many times the median absolute deviation.
    pub spread: u64,
    /// So many intervals in a row make an ejection.
    pub intervals: u32,
    /// The first ejection lasts so long; each further one twice as long.
    pub eject_ms: Millis,
    /// No ejection lasts longer. After so long without one, the next counts as the first.
    pub max_eject_ms: Millis,
}

/// What one node saw of one backend since its last report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signals {
    /// First packets of new flows.
    pub new_flows: u64,
    /// RSTs from clients.
    pub client_resets: u64,
    /// SYNs that came again: the backend did not answer the first.
    pub syn_retransmits: u64,
}

/// Which rate stood out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// Client RSTs per 1,000 new flows.
    ClientResets,
    /// SYN retransmits per 1,000 new flows.
    SynRetransmits,
}

/// A member of the pool as outlier detection sees it: HEALTHY, ready, of some weight.
#[derive(Clone, Debug)]
pub struct Member<'a> {
    /// Its id.
    pub id: &'a Id,
    /// Its checkers are silent: nothing about it may change.
    pub frozen: bool,
}

/// What a look at the pool led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutlierChange {
    /// Out of the table for a while.
    Ejected {
        /// Who.
        backend: Id,
        /// For which rate.
        signal: Signal,
        /// The rate, per 1,000 new flows.
        permille: u64,
        /// The pool's median of it.
        median: u64,
        /// For how long, in milliseconds.
        for_ms: Millis,
    },
    /// Its time is over: back in the table.
    Returned(Id),
    /// It would have to go, but too many are out or bad already.
    Capped(Id),
}

/// Outlier detection for one pool.
#[derive(Clone, Debug)]
pub struct Outliers {
    interval_began: Millis,
    /// Per backend and node, in this interval.
    counts: BTreeMap<Id, BTreeMap<Id, Signals>>,
    records: BTreeMap<Id, Record>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Record {
    /// Bad intervals in a row.
    streak: u32,
    /// Ejections without a long enough break.
    level: u32,
    /// Ejected until then; in the past: not ejected.
    until: Option<Millis>,
    last_end: Millis,
}

impl OutlierSettings {
    /// # Errors
    /// When a value would judge without evidence, or eject without end.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let rule = SettingsError::unless;
        rule(self.max_percent <= 50, "outlier.max_percent", "at most 50")?;
        rule(self.interval_ms >= 1_000, "outlier.interval_ms", "at least 1000")?;
        rule(self.min_flows >= 1, "outlier.min_flows", "at least 1")?;
        rule(self.min_members >= 3, "outlier.min_members", "at least 3")?;
        rule(self.intervals >= 1, "outlier.intervals", "at least 1")?;
        rule(self.eject_ms >= 1, "outlier.eject_ms", "at least 1")?;
        rule(
            (self.eject_ms..=86_400_000).contains(&self.max_eject_ms),
            "outlier.max_eject_ms",
            "from outlier.eject_ms to 86400000 (a day)",
        )
    }

    /// How many of a pool of `members` may be out at a time.
    #[must_use]
    pub fn cap(&self, members: usize) -> usize {
        if self.max_percent == 0 || members < self.min_members {
            return 0;
        }
        (members.saturating_mul(self.max_percent as usize) / 100).max(1)
    }
}

impl Default for OutlierSettings {
    fn default() -> Self {
        Self {
            max_percent: 10,
            interval_ms: 10_000,
            min_flows: 50,
            min_members: 5,
            margin_permille: 100,
            spread: 6,
            intervals: 2,
            eject_ms: 30_000,
            max_eject_ms: 300_000,
        }
    }
}

impl Outliers {
    /// Nothing seen yet.
    #[must_use]
    pub fn new(now: Millis) -> Self {
        Self { interval_began: now, counts: BTreeMap::new(), records: BTreeMap::new() }
    }

    /// Adds what `node` saw of `backend`.
    pub fn record(&mut self, node: &Id, backend: &Id, seen: Signals) {
        let nodes = self.counts.entry(backend.clone()).or_default();
        let sum = nodes.entry(node.clone()).or_default();
        sum.new_flows = sum.new_flows.saturating_add(seen.new_flows);
        sum.client_resets = sum.client_resets.saturating_add(seen.client_resets);
        sum.syn_retransmits = sum.syn_retransmits.saturating_add(seen.syn_retransmits);
    }

    /// Forgets all about `backend`.
    pub fn forget(&mut self, backend: &str) {
        self.counts.remove(backend);
        self.records.remove(backend);
    }

    /// How long `backend` stays out, in milliseconds. `None`: it is not ejected. An ejection
    /// lasts until [`Outliers::look`] ends it, so this may be 0.
    #[must_use]
    pub fn ejected(&self, backend: &str, now: Millis) -> Option<Millis> {
        let until = self.records.get(backend)?.until?;
        Some(until.saturating_sub(now))
    }

    /// Ends ejections whose time is over and, once an interval, looks for new ones. `members`
    /// are the backends to compare, ejected ones among them; of the `counted` backends of the
    /// pool `bad` are bad by what their checkers say; `panics` tells whether so many of so many
    /// would be too many.
    pub fn look(
        &mut self,
        settings: &OutlierSettings,
        members: &[Member<'_>],
        (bad, counted): (usize, usize),
        panics: impl Fn(usize, usize) -> bool,
        now: Millis,
    ) -> Vec<OutlierChange> {
        let mut changes = self.end_ejections(members, now);
        if now.saturating_sub(self.interval_began) < settings.interval_ms {
            return changes;
        }
        self.interval_began = now;
        let counts = std::mem::take(&mut self.counts);
        let mut found = Vec::new();
        let judged: Vec<(&Id, [u64; 2])> = members
            .iter()
            .filter(|m| !m.frozen && self.ejected(m.id, now).is_none())
            .filter_map(|m| Some((m.id, rates(counts.get(m.id)?, settings.min_flows)?)))
            .collect();
        if judged.len() >= settings.min_members {
            for (index, signal) in
                [Signal::ClientResets, Signal::SynRetransmits].into_iter().enumerate()
            {
                let all: Vec<u64> = judged.iter().map(|(_, rates)| rates[index]).collect();
                let median = median(all.clone());
                let deviation = self::median(all.iter().map(|r| r.abs_diff(median)).collect());
                let margin =
                    settings.margin_permille.max(deviation.saturating_mul(settings.spread));
                let far = |rate: u64| rate > median.saturating_add(margin);
                found.extend(
                    judged.iter().filter(|(_, r)| far(r[index])).map(|(id, r)| {
                        (r[index] - median, signal, r[index], median, (*id).clone())
                    }),
                );
            }
        }
        // Worst first; of one backend's two signals only the worse.
        found.sort_unstable_by(|a, b| b.cmp(a));
        let mut seen = BTreeSet::new();
        found.retain(|(.., id)| seen.insert(id.clone()));
        for (id, record) in &mut self.records {
            record.streak = if seen.contains(id) { record.streak } else { 0 };
        }
        self.records.retain(|_, r| r.streak > 0 || r.level > 0);
        let mut out = members.iter().filter(|m| self.ejected(m.id, now).is_some()).count();
        for (_, signal, permille, median, backend) in found {
            let record = self.records.entry(backend.clone()).or_default();
            record.streak = record.streak.saturating_add(1);
            if record.streak < settings.intervals {
                continue;
            }
            if out >= settings.cap(members.len()) || panics(bad + out + 1, counted) {
                changes.push(OutlierChange::Capped(backend));
                continue;
            }
            let quiet = now.saturating_sub(record.last_end) > settings.max_eject_ms;
            record.level = if quiet { 1 } else { record.level.saturating_add(1) };
            let doublings = (record.level - 1).min(63);
            let for_ms =
                settings.eject_ms.saturating_mul(1 << doublings).min(settings.max_eject_ms);
            (record.streak, record.until) = (0, Some(now.saturating_add(for_ms)));
            out += 1;
            changes.push(OutlierChange::Ejected { backend, signal, permille, median, for_ms });
        }
        changes
    }

    fn end_ejections(&mut self, members: &[Member<'_>], now: Millis) -> Vec<OutlierChange> {
        let mut changes = Vec::new();
        for member in members.iter().filter(|m| !m.frozen) {
            let Some(record) = self.records.get_mut(member.id) else { continue };
            if record.until.is_some_and(|until| until <= now) {
                (record.until, record.last_end) = (None, now);
                // What was counted meanwhile is the tail of its old flows.
                self.counts.remove(member.id);
                changes.push(OutlierChange::Returned(member.id.clone()));
            }
        }
        changes
    }
}

/// Client RSTs and SYN retransmits per 1,000 new flows, without the node that saw the most of
/// them. `None`: too few flows to judge.
fn rates(nodes: &BTreeMap<Id, Signals>, min_flows: u64) -> Option<[u64; 2]> {
    let rate = |bad: fn(&Signals) -> u64| {
        let worst = if nodes.len() > 1 { nodes.values().max_by_key(|s| bad(s)) } else { None };
        let sum = |of: &dyn Fn(&Signals) -> u64| {
            let all = nodes.values().fold(0u64, |sum, s| sum.saturating_add(of(s)));
            all.saturating_sub(worst.map_or(0, of))
        };
        let flows = sum(&|s| s.new_flows);
        (flows >= min_flows.max(1)).then(|| sum(&bad).saturating_mul(1_000) / flows)
    };
    Some([rate(|s| s.client_resets)?, rate(|s| s.syn_retransmits)?])
}

/// The lower median; 0 of nothing.
fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    let middle = values.len().saturating_sub(1) / 2;
    values.get(middle).copied().unwrap_or(0)
}
