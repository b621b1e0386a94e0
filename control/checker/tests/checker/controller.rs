//! A real tonic server that plays a controller towards checkers: hands out assignments, takes
//! reports, and can be made to fail in the ways that controllers do.
//!
//! Each has a runtime of its own, so that its death closes its connections as a kill would.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use proto::v1::{Assignment, Assignments, HealthAck, HealthReport, WatchAssignmentsReq};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::{Grpc, NamedService, ServerStreamingService, StreamingService};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

/// More than any machine needs, less than anyone wants to wait.
pub(crate) const LONG: Duration = Duration::from_secs(60);

type Stream<T> = Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

/// What it does with the reports of a stream.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Mood {
    /// Acknowledges each.
    Attentive,
    /// Takes them, and acknowledges none.
    Silent,
    /// Takes so many, then ends the stream with RESOURCE_EXHAUSTED.
    Overwhelmed(usize),
    /// Is not the leader, and names this one.
    Follows(String),
}

pub(crate) struct Controller {
    pub(crate) address: String,
    played: Arc<Played>,
    runtime: Option<Runtime>,
}

struct Played {
    assignments: watch::Sender<Assignments>,
    /// Raised to end all streams.
    breaks: watch::Sender<u64>,
    state: Mutex<State>,
}

pub(crate) struct State {
    pub(crate) mood: Mood,
    /// All reports, by backend.
    pub(crate) reports: HashMap<String, Vec<HealthReport>>,
    /// When each was opened.
    pub(crate) report_streams: Vec<Instant>,
    pub(crate) watchers: Vec<WatchAssignmentsReq>,
    /// Most reports of one stream that were not acknowledged.
    pub(crate) most_unacknowledged: usize,
}

impl Controller {
    pub(crate) fn start(mood: Mood) -> Self {
        Self::start_at(mood, 0)
    }

    pub(crate) fn start_at(mood: Mood, port: u16) -> Self {
        let state = State {
            mood,
            reports: HashMap::new(),
            report_streams: Vec::new(),
            watchers: Vec::new(),
            most_unacknowledged: 0,
        };
        let played = Arc::new(Played {
            assignments: watch::Sender::new(Assignments::default()),
            breaks: watch::Sender::new(0),
            state: Mutex::new(state),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let service = Dispatch { played: Arc::clone(&played) };
        let entered = runtime.enter();
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("set");
        socket.bind((Ipv4Addr::LOCALHOST, port).into()).expect("a port");
        let listener = socket.listen(128).expect("listening");
        drop(entered);
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        runtime.spawn(
            Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        Self { address, played, runtime: Some(runtime) }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
    }

    pub(crate) fn assigns(&self, assignments: Vec<Assignment>) {
        self.played.assignments.send_modify(|last| {
            *last = Assignments { version: last.version + 1, assignments };
        });
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.played.state.lock().expect("lock")
    }

    /// Ends all streams.
    pub(crate) fn breaks_streams(&self) {
        self.played.breaks.send_modify(|count| *count += 1);
    }

    /// As a kill would: no goodbye.
    pub(crate) fn dies(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // On a thread of its own, since a runtime's end may not be awaited inside of another.
            let ending = std::thread::spawn(move || runtime.shutdown_timeout(LONG));
            ending.join().expect("ended");
        }
    }

    /// Waits until the last report of `backend` satisfies `wanted`, and gives it.
    pub(crate) async fn hears(
        &self,
        backend: &str,
        wanted: impl Fn(&HealthReport) -> bool,
    ) -> HealthReport {
        let last = || {
            let state = self.state();
            let last = state.reports.get(backend).and_then(|reports| reports.last());
            last.cloned()
        };
        let start = Instant::now();
        loop {
            match last() {
                Some(report) if wanted(&report) => return report,
                last => assert!(start.elapsed() < LONG, "{backend}: last heard {last:?}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits for `condition`.
    pub(crate) async fn until(&self, what: &str, condition: impl Fn(&State) -> bool) {
        let start = Instant::now();
        while !condition(&self.state()) {
            assert!(start.elapsed() < LONG, "waiting for: {what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.dies();
    }
}

#[derive(Clone)]
struct Dispatch {
    played: Arc<Played>,
}

impl Dispatch {
    fn admit(&self) -> Result<(), Status> {
        match &self.played.state.lock().expect("lock").mood {
            Mood::Follows(leader) => {
                let mut status = Status::unavailable("not the leader");
                status.metadata_mut().insert("weir-leader", leader.parse().expect("ASCII"));
                Err(status)
            }
            _ => Ok(()),
        }
    }

    fn mood(&self) -> Mood {
        self.played.state.lock().expect("lock").mood.clone()
    }

    /// Takes the reports of one stream.
    async fn take(
        self,
        mut reports: Streaming<HealthReport>,
        acks: mpsc::Sender<Result<HealthAck, Status>>,
    ) {
        let mut breaks = self.played.breaks.subscribe();
        let (mut taken, mut unacknowledged) = (0, 0);
        loop {
            let report = tokio::select! {
                _ = breaks.changed() => {
                    let _gone = acks.send(Err(Status::unavailable("over"))).await;
                    break;
                }
                () = acks.closed() => break,
                report = reports.message() => match report {
                    Ok(Some(report)) => report,
                    Ok(None) | Err(_) => break,
                },
            };
            taken += 1;
            let mood = self.mood();
            if mood == Mood::Overwhelmed(taken) {
                let status = Status::resource_exhausted("window full");
                let _gone = acks.send(Err(status)).await;
                break;
            }
            let ack = HealthAck {
                backend_id: report.backend_id.clone(),
                checked_at_ns: report.checked_at_ns,
                accepted: true,
                reason: String::new(),
            };
            {
                let mut state = self.played.state.lock().expect("lock");
                unacknowledged += 1;
                state.most_unacknowledged = state.most_unacknowledged.max(unacknowledged);
                state.reports.entry(report.backend_id.clone()).or_default().push(report);
                if mood == Mood::Silent {
                    continue;
                }
                unacknowledged -= 1;
            }
            if acks.send(Ok(ack)).await.is_err() {
                break;
            }
        }
    }
}

impl NamedService for Dispatch {
    const NAME: &'static str = "weir.v1.LBControlPlane";
}

impl Service<http::Request<Body>> for Dispatch {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            Ok(match request.uri().path().rsplit('/').next() {
                Some("WatchAssignments") => {
                    let codec = ProstCodec::<Assignments, WatchAssignmentsReq>::default();
                    Grpc::new(codec).server_streaming(Watch(this), request).await
                }
                Some("ReportHealth") => {
                    let codec = ProstCodec::<HealthAck, HealthReport>::default();
                    Grpc::new(codec).streaming(Report(this), request).await
                }
                _ => Status::unimplemented("not played").into_http(),
            })
        })
    }
}

struct Watch(Dispatch);

impl ServerStreamingService<WatchAssignmentsReq> for Watch {
    type Response = Assignments;
    type ResponseStream = Stream<Assignments>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<WatchAssignmentsReq>) -> Self::Future {
        let this = self.0.clone();
        Box::pin(async move {
            this.admit()?;
            this.played.state.lock().expect("lock").watchers.push(request.into_inner());
            let mut list = this.played.assignments.subscribe();
            let mut breaks = this.played.breaks.subscribe();
            let (sender, receiver) = mpsc::channel(4);
            tokio::spawn(async move {
                list.mark_changed();
                loop {
                    tokio::select! {
                        _ = breaks.changed() => {
                            let _gone = sender.send(Err(Status::unavailable("over"))).await;
                            return;
                        }
                        () = sender.closed() => return,
                        _ = list.changed() => {
                            let now = list.borrow_and_update().clone();
                            if sender.send(Ok(now)).await.is_err() {
                                return;
                            }
                        }
                    }
                }
            });
            let stream: Self::ResponseStream = Box::pin(ReceiverStream::new(receiver));
            Ok(Response::new(stream))
        })
    }
}

struct Report(Dispatch);

impl StreamingService<HealthReport> for Report {
    type Response = HealthAck;
    type ResponseStream = Stream<HealthAck>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<Streaming<HealthReport>>) -> Self::Future {
        let this = self.0.clone();
        Box::pin(async move {
            this.admit()?;
            this.played.state.lock().expect("lock").report_streams.push(Instant::now());
            let (sender, receiver) = mpsc::channel(4);
            tokio::spawn(this.take(request.into_inner(), sender));
            let stream: Self::ResponseStream = Box::pin(ReceiverStream::new(receiver));
            Ok(Response::new(stream))
        })
    }
}
