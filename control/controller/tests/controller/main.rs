//! A whole controller in this process, a real client, a real registry.

#[expect(dead_code, reason = "shared with the registry's tests, which use more of it")]
#[path = "../../../registry/tests/common/etcd.rs"]
mod etcd;

mod changes;
mod common;
mod election;
mod listeners;
mod restart;
mod snapshots;
mod statuses;
