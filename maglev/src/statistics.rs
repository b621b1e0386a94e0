//! How evenly a table or ring spreads: for metrics, the admin pages and the plan of a change.

use crate::scheduler::{Scheduler, Share};

/// Balance of one table or ring.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// One for each member, in the order of their ids.
    pub members: Vec<ShareStatistics>,
    /// Members with a weight above 0.
    pub eligible: usize,
    /// The greatest fraction over the mean of the eligible members; 1 is even, 0 when there are
    /// none. Says something for equal weights only.
    pub max_over_mean: f64,
    /// The greatest ratio of a member's fraction to what its weight asks for; 1 is exact, 0 when
    /// nobody is eligible. Equals `max_over_mean` for equal weights.
    pub max_over_expected: f64,
    /// The least such ratio.
    pub min_over_expected: f64,
}

/// One member's part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ShareStatistics {
    /// What it has.
    pub share: Share,
    /// The fraction of flows that its weight asks for, from 0 to 1.
    pub expected: f64,
}

impl Statistics {
    /// Looks at all shares of a table or ring.
    pub fn of(scheduler: &dyn Scheduler) -> Statistics {
        let shares = scheduler.shares();
        let total: u64 = shares.iter().map(|share| u64::from(share.weight)).sum();
        let members: Vec<ShareStatistics> = shares
            .iter()
            .map(|&share| ShareStatistics {
                share,
                expected: if total == 0 { 0.0 } else { f64::from(share.weight) / total as f64 },
            })
            .collect();
        let eligible = || members.iter().filter(|member| member.share.weight > 0);
        let ratios = || eligible().map(|member| member.share.fraction / member.expected);
        let count = eligible().count();
        let most = eligible().map(|member| member.share.fraction).fold(0.0, f64::max);
        let statistics = Statistics {
            eligible: count,
            max_over_mean: most * count as f64,
            max_over_expected: ratios().fold(0.0, f64::max),
            min_over_expected: ratios().reduce(f64::min).unwrap_or(0.0),
            members: Vec::new(),
        };
        Statistics { members, ..statistics }
    }
}
