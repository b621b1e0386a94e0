//! Nodes and checkers: who is there, and who runs what.

use access::Identity;
use proto::v1::{ListNodesResp, NodeAck, NodeReport};
use tonic::{Status, Streaming};

use crate::office::Office;
use crate::picture::Picture;
use crate::settings::FleetTimings;
use crate::stream::Reply;

/// What is known of the fleet in this term; part of the [`Picture`].
#[derive(Debug)]
pub(crate) struct Fleet {}

impl Fleet {
    pub(crate) fn new(_timings: &FleetTimings) -> Self {
        Self {}
    }

    /// The sum of what nodes report for a backend.
    pub(crate) fn active_flows(&self, _backend: &str) -> u64 {
        0
    }

    /// Whether every connected node runs at least this version of the pool.
    pub(crate) fn applied(&self, _pool: &str, _version: u64) -> bool {
        true
    }
}

/// Called by the desk every 100 ms, before pools tick.
pub(crate) fn tick(_picture: &mut Picture) {}

/// Called by the desk after rows of pools or backends have changed.
pub(crate) fn rows_changed(_picture: &mut Picture) {}

pub(crate) fn report_node(
    _office: &Office,
    _caller: Identity,
    _reports: Streaming<NodeReport>,
) -> Result<Reply<NodeAck>, Status> {
    Err(Status::unimplemented("ReportNode"))
}

pub(crate) async fn list_nodes(_office: &Office) -> Result<ListNodesResp, Status> {
    Err(Status::unimplemented("ListNodes"))
}
