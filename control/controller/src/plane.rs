//! The service as it is mounted: one, behind two bounds on the length of a message.
//!
//! A report of a node with 65,536 backends is longer than any other request may be. tonic has one
//! bound for a whole service, so here are two servers of the same one, and the path says which.

use std::convert::Infallible;

use proto::v1::lb_control_plane_server::LbControlPlaneServer;
use tonic::codegen::{Body, Context, Poll, Service as Serve, StdError, http};
use tonic::server::NamedService;

use crate::service::Service;

/// Bytes of one report of a node: 65,536 backends with names of 255 bytes, and what is said of
/// each.
const REPORT_BYTES: usize = 32 * 1024 * 1024;
/// The one call with such messages.
const REPORT_NODE: &str = "/weir.v1.LBControlPlane/ReportNode";

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Plane {
    calls: LbControlPlaneServer<Service>,
    reports: LbControlPlaneServer<Service>,
}

impl Plane {
    /// `request_bytes` bounds all messages but reports of nodes.
    pub(crate) fn new(service: Service, request_bytes: usize) -> Self {
        let server = |bytes| {
            LbControlPlaneServer::new(service.clone())
                .max_decoding_message_size(bytes)
                .max_encoding_message_size(usize::MAX)
        };
        Self { calls: server(request_bytes), reports: server(REPORT_BYTES.max(request_bytes)) }
    }
}

impl NamedService for Plane {
    const NAME: &'static str = <LbControlPlaneServer<Service> as NamedService>::NAME;
}

impl<B> Serve<http::Request<B>> for Plane
where
    B: Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = <LbControlPlaneServer<Service> as Serve<http::Request<B>>>::Response;
    type Error = Infallible;
    type Future = <LbControlPlaneServer<Service> as Serve<http::Request<B>>>::Future;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        match request.uri().path() {
            REPORT_NODE => self.reports.call(request),
            _ => self.calls.call(request),
        }
    }
}
