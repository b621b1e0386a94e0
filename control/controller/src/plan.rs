//! What a change would do, without doing it.

use proto::v1::{PlanReq, PlanResp};
use tonic::Status;

use crate::office::Office;

pub(crate) async fn plan(_office: &Office, _request: PlanReq) -> Result<PlanResp, Status> {
    Err(Status::unimplemented("Plan"))
}
