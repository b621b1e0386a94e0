//! What checkers report, and what they are to probe.

use access::Identity;
use proto::v1::{Assignments, HealthAck, HealthReport, WatchAssignmentsReq};
use tonic::{Status, Streaming};

use crate::office::Office;
use crate::stream::Reply;

pub(crate) fn report_health(
    _office: &Office,
    _caller: Identity,
    _reports: Streaming<HealthReport>,
) -> Result<Reply<HealthAck>, Status> {
    Err(Status::unimplemented("ReportHealth"))
}

pub(crate) fn watch_assignments(
    _office: &Office,
    _caller: Identity,
    _request: WatchAssignmentsReq,
) -> Result<Reply<Assignments>, Status> {
    Err(Status::unimplemented("WatchAssignments"))
}
