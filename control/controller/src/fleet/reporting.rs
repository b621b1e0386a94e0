//! `ReportNode`: one stream a node, reports up, acknowledgements down.
//!
//! One report is taken at a time, so a node that reports faster than the desk reads is slowed by
//! its own stream, and by nothing else.

use access::Identity;
use health::Id;
use proto::v1::{NodeAck, NodeReport};
use tonic::{Status, Streaming};

use super::report::MAX_NAME;
use super::{node_closed, node_opened, node_report};
use crate::desk::Desk;
use crate::office::{Office, invalid};
use crate::stream::{Answers, Reply, fed};

/// Acknowledgements on their way.
const ACKS: usize = 16;

/// Takes the reports of one node.
pub(crate) fn report_node(
    office: &Office,
    caller: Identity,
    reports: Streaming<NodeReport>,
) -> Result<Reply<NodeAck>, Status> {
    let desk = office.desk.clone();
    Ok(fed(ACKS, |acks| async move {
        let mut open = None;
        let ended = tokio::select! {
            ended = take(&desk, &caller, reports, &acks, &mut open) => ended,
            () = acks.closed() => Ok(()),
        };
        if let Some(node) = open {
            // Refused when the term is over, and all it knew with it.
            let _over = desk.see(move |picture| node_closed(picture, &node)).await;
        }
        if let Err(status) = ended {
            let _gone = acks.send(Err(status)).await;
        }
    }))
}

async fn take(
    desk: &Desk,
    caller: &Identity,
    mut reports: Streaming<NodeReport>,
    acks: &Answers<NodeAck>,
    open: &mut Option<Id>,
) -> Result<(), Status> {
    while let Some(report) = reports.message().await? {
        let node = match open {
            Some(node) if **node == *report.node_id => node.clone(),
            Some(node) => {
                return Err(invalid("node_id", format!("was {node:?} at the stream's begin")));
            }
            None => {
                if !(1..=MAX_NAME).contains(&report.node_id.len()) {
                    return Err(invalid("node_id", format!("must have 1 to {MAX_NAME} bytes")));
                }
                caller.require_name("node_id", &report.node_id)?;
                // Noted before the desk is asked: a caller that is gone by its answer is closed all
                // the same, and to close one that was refused does nothing.
                let node = open.insert(Id::from(report.node_id.as_str())).clone();
                let new = node.clone();
                desk.see(move |picture| node_opened(picture, &new)).await??;
                node
            }
        };
        let reported_at_ns = report.reported_at_ns;
        desk.see(move |picture| node_report(picture, &node, report)).await??;
        if acks.send(Ok(NodeAck { reported_at_ns })).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}
