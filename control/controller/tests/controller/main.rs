//! A whole controller in this process, a real client, a real registry.

#[expect(dead_code, reason = "shared with the registry's tests, which use more of it")]
#[path = "../../../registry/tests/common/etcd.rs"]
mod etcd;

#[expect(dead_code, reason = "shared with the fleet's tests, which use more of it")]
#[path = "../fleet/checker.rs"]
mod checker;

/// What `checker.rs` expects.
mod lab {
    pub(crate) use crate::common::{Client, soon as within};
}

mod access;
mod changes;
mod common;
mod election;
mod listeners;
mod renewal;
mod restart;
mod served;
mod snapshots;
mod statuses;
