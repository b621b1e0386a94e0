//! Metrics of the way from the controller to the tables. A node whose pools are in its file has
//! none of them but the overrides.

use super::catalogue::*;
use super::exposition::Exposition;
use crate::node::Node;

pub(super) fn feed(text: &mut Exposition, node: &Node) {
    if let Some(view) = node.feed().map(|feed| feed.view()) {
        let seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
        text.family(&CONTROLLER_CONNECTED).sample(&[], view.connected_to.is_some());
        text.family(&SNAPSHOT_AGE).sample(&[], seconds(view.age));
        text.family(&SNAPSHOT_STALE).sample(&[], view.stale);
        let mut family = text.family(&SNAPSHOT_VERSION);
        for (pool, version) in &view.pools {
            family.sample(&[pool], *version);
        }
        text.family(&SNAPSHOT_APPLIED).sample(&[], view.applied);
        text.family(&SNAPSHOT_APPLY_SECONDS).sample(&[], seconds(view.apply_total));
        text.family(&SNAPSHOT_APPLY_LAST).sample(&[], seconds(view.apply_last));
        let mut family = text.family(&SNAPSHOT_REFUSED);
        for ((pool, reason), count) in &view.refused {
            family.sample(&[pool, reason.name()], *count);
        }
        text.family(&SNAPSHOT_CACHE_WRITES)
            .sample(&["written"], view.cache.written)
            .sample(&["failed"], view.cache.failed);
        text.family(&SNAPSHOT_CACHE_FAILING).sample(&[], view.cache.error.is_some());
        text.family(&CONTROLLER_REPORTS)
            .sample(&["sent"], view.reports)
            .sample(&["acknowledged"], view.acknowledged);
    }
    let mut family = text.family(&DRAINED_HERE);
    for (pool, backend) in node.overrides().iter() {
        family.sample(&[pool, backend], 1u64);
    }
}
