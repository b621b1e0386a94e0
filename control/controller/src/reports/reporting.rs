//! `ReportHealth`: one stream a checker, reports up, acknowledgements down.
//!
//! Reports go to the desk in batches, one batch at a time; what comes meanwhile waits. Everything
//! that is not acknowledged yet counts against the window (`limits.health_window`): reports that
//! wait, the batch at the desk, and acknowledgements that the checker has not read. A checker that
//! goes on beyond it is told RESOURCE_EXHAUSTED and its stream ends: it backs off, comes again,
//! and says what is true then, which is worth more than what it wanted to say.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use access::Identity;
use health::Id;
use proto::v1::{HealthAck, HealthReport};
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};

use super::assignments::MAX_NAME;
use super::{Incoming, closed, opened, record};
use crate::desk::Desk;
use crate::office::{Office, invalid};
use crate::picture::Picture;
use crate::stream::{Answers, Reply, fed};

/// Reports that go to the desk at once.
const BATCH: usize = 256;
/// Backends of which a stream remembers what it said last.
const REMEMBERED: usize = 65_536;

/// How long a checker may take to notice that its stream has ended.
const LAST_WORDS: Duration = Duration::from_secs(10);

type AtDesk = Pin<Box<dyn Future<Output = Result<Vec<HealthAck>, Status>> + Send>>;

/// Takes the reports of one checker.
pub(crate) fn report_health(
    office: &Office,
    caller: Identity,
    mut reports: Streaming<HealthReport>,
) -> Result<Reply<HealthAck>, Status> {
    let desk = office.desk.clone();
    let window = office.settings.limits.health_window.max(1);
    // One place more, for the status at the end.
    Ok(fed(window + 1, |acks| async move {
        let mut stream = Reporting {
            desk: desk.clone(),
            caller,
            window,
            checker: None,
            waiting: VecDeque::new(),
            said: HashMap::new(),
        };
        let ended = tokio::select! {
            ended = stream.take(&mut reports, &acks) => ended,
            () = acks.closed() => Ok(()),
        };
        if let Some(checker) = stream.checker {
            let full = matches!(&ended, Err(status) if status.code() == Code::ResourceExhausted);
            let leave = move |picture: &mut Picture| {
                closed(picture, &checker);
                if full {
                    picture.metrics.window_full();
                }
            };
            // Refused when the term is over, and all it knew with it.
            let _over = desk.see(leave).await;
        }
        if let Err(status) = ended {
            let _gone = acks.send(Err(status)).await;
            let _over = timeout(LAST_WORDS, ignore(&mut reports, &acks)).await;
        }
    }))
}

/// The status is behind acknowledgements that the checker has to read first. What it goes on to
/// say meanwhile is read and dropped: left unread, HTTP/2 would end the whole connection for it.
async fn ignore(reports: &mut Streaming<HealthReport>, acks: &Answers<HealthAck>) {
    loop {
        tokio::select! {
            report = reports.message() => if !matches!(report, Ok(Some(_))) { return },
            () = acks.closed() => return,
        }
    }
}

struct Reporting {
    desk: Desk,
    caller: Identity,
    window: usize,
    /// From the first report on.
    checker: Option<Id>,
    waiting: VecDeque<HealthReport>,
    /// By backend, the last state and readiness.
    said: HashMap<String, (i32, i32)>,
}

impl Reporting {
    async fn take(
        &mut self,
        reports: &mut Streaming<HealthReport>,
        acks: &Answers<HealthAck>,
    ) -> Result<(), Status> {
        let mut at_desk: Option<(usize, AtDesk)> = None;
        let mut more = true;
        loop {
            if at_desk.is_none() && !self.waiting.is_empty() {
                at_desk = Some(self.hand_on());
            }
            let flying = at_desk.as_ref().map_or(0, |(reports, _)| *reports);
            tokio::select! {
                answered = answered(&mut at_desk) => {
                    at_desk = None;
                    for ack in answered? {
                        acks.try_send(Ok(ack)).map_err(|_| self.exhausted())?;
                    }
                }
                report = reports.message(), if more => match report? {
                    Some(report) => {
                        self.check(&report).await?;
                        let unread = acks.max_capacity() - acks.capacity();
                        if self.waiting.len() + flying + unread >= self.window {
                            return Err(self.exhausted());
                        }
                        self.waiting.push_back(report);
                    }
                    None => more = false,
                },
                else => return Ok(()),
            }
            if !more && at_desk.is_none() && self.waiting.is_empty() {
                return Ok(());
            }
        }
    }

    /// Who reports must be the caller, and stay the same.
    async fn check(&mut self, report: &HealthReport) -> Result<(), Status> {
        // Clients of the first published interface know no such field: their caller's name is it.
        let id = match report.checker_id.as_str() {
            "" => self.caller.name(),
            id => id,
        };
        match &self.checker {
            Some(checker) if **checker == *id => Ok(()),
            Some(checker) => {
                Err(invalid("checker_id", format!("was {checker:?} at the stream's begin")))
            }
            None => {
                if !(1..=MAX_NAME).contains(&id.len()) {
                    return Err(invalid("checker_id", format!("must have 1 to {MAX_NAME} bytes")));
                }
                self.caller.require_name("checker_id", id)?;
                let new = Id::from(id);
                // Before the desk is asked: a caller that is gone by its answer is closed all the
                // same, and to close one that was refused does nothing.
                self.checker = Some(new.clone());
                self.desk.see(move |picture| opened(picture, &new, None)).await?
            }
        }
    }

    /// The next batch, on its way.
    fn hand_on(&mut self) -> (usize, AtDesk) {
        let batch = self.waiting.len().min(BATCH);
        let reports: Vec<HealthReport> = self.waiting.drain(..batch).collect();
        let reports: Vec<Incoming> = reports
            .into_iter()
            .map(|report| Incoming { new: self.is_new(&report), report })
            .collect();
        let (desk, checker) = (self.desk.clone(), self.checker.clone().unwrap_or_default());
        let answer =
            async move { desk.see(move |picture| record(picture, &checker, reports)).await };
        (batch, Box::pin(answer))
    }

    fn is_new(&mut self, report: &HealthReport) -> bool {
        let says = (report.state, report.readiness);
        match self.said.get_mut(&report.backend_id) {
            Some(last) => std::mem::replace(last, says) != says,
            None => {
                if self.said.len() >= REMEMBERED {
                    self.said.clear();
                }
                self.said.insert(report.backend_id.clone(), says);
                true
            }
        }
    }

    fn exhausted(&self) -> Status {
        Status::resource_exhausted(format!(
            "{} reports are not acknowledged yet: back off, and come again",
            self.window
        ))
    }
}

/// The answer to the batch at the desk; never, when there is none.
async fn answered(at_desk: &mut Option<(usize, AtDesk)>) -> Result<Vec<HealthAck>, Status> {
    match at_desk {
        Some((_, answer)) => answer.await,
        None => std::future::pending().await,
    }
}
