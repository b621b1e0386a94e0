//! HTTP and HTTPS: GET, and the expected status.
//!
//! Each probe opens a connection of its own, as a new client would. Redirects are not followed: a
//! redirect is an answer, and not the expected one (unless it is configured to be). The body is
//! read, since a server that breaks off in the middle is not ready, but no more than 64 KiB.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Finding;
use super::resolve::Resolver;

/// A longer body is not read to its end, and passes.
const LARGEST_BODY: usize = 64 << 10;
/// A longer head of an answer fails.
const LARGEST_HEAD: usize = 32 << 10;

/// A URL, and the status it should answer with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpProbe {
    host: String,
    port: u16,
    /// For SNI and the certificate; `None`: plain HTTP.
    server_name: Option<ServerName<'static>>,
    host_header: HeaderValue,
    path: Uri,
    expected: Expected,
}

/// Which answers pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Status(StatusCode),
    /// 200 to 399.
    Success,
}

impl HttpProbe {
    /// `expected_status` 0 is 200.
    ///
    /// # Errors
    /// Why it is not a URL that can be probed, in words.
    pub(crate) fn parse(url: &str, expected_status: u32) -> Result<Self, String> {
        let wrong = |problem: &str| {
            let shown: String =
                url.rsplit('@').next().unwrap_or_default().chars().take(200).collect();
            format!("readiness_probe_url {shown:?}: {problem}, expected http:// or https:// URL")
        };
        // A fragment is the browser's business.
        let uri: Uri =
            url.split('#').next().unwrap_or_default().parse().map_err(|_| wrong("no URL"))?;
        let (secure, default_port) = match uri.scheme_str() {
            Some("http") => (false, 80),
            Some("https") => (true, 443),
            _ => return Err(wrong("no such scheme")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("a user in it"));
        }
        // An IPv6 address stands in brackets, and is looked for without them.
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(wrong("no host"));
        }
        let server_name = match secure {
            true => Some(ServerName::try_from(host.clone()).map_err(|_| wrong("no name for TLS"))?),
            false => None,
        };
        let host_header =
            HeaderValue::from_str(authority.as_str()).map_err(|_| wrong("no host"))?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let path = path.parse().map_err(|_| wrong("no path"))?;
        let expected = match expected_status {
            0 => Expected::Status(StatusCode::OK),
            code => Expected::Status(status(code)?),
        };
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            None => default_port,
        };
        Ok(Self { host, port, server_name, host_header, path, expected })
    }

    /// The root path at `address`; `expected_status` 0 is any of 200 to 399.
    ///
    /// # Errors
    /// When there is no such status.
    pub(crate) fn at(address: SocketAddr, expected_status: u32) -> Result<Self, String> {
        let probe = Self::parse(&format!("http://{address}/"), expected_status)?;
        match expected_status {
            0 => Ok(Self { expected: Expected::Success, ..probe }),
            _ => Ok(probe),
        }
    }

    /// The host that has to be looked up.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }
}

impl Expected {
    fn check(self, status: StatusCode) -> Finding {
        let answered = status.as_u16();
        match self {
            Self::Status(expected) if status == expected => Finding::Pass,
            Self::Status(expected) => {
                Finding::Fail(format!("status {answered}, expected {}", expected.as_u16()))
            }
            Self::Success if status.is_success() || status.is_redirection() => Finding::Pass,
            Self::Success => Finding::Fail(format!("status {answered}, expected 200 to 399")),
        }
    }
}

pub(super) async fn probe(
    probe: &HttpProbe,
    tls: &Arc<ClientConfig>,
    resolver: &Resolver,
) -> Finding {
    let addresses = match resolver.resolve(&probe.host).await {
        Ok(addresses) => addresses,
        Err(why) => return Finding::NotProbed(why),
    };
    let stream = match connect(&addresses, probe.port).await {
        Ok(stream) => stream,
        Err(error) => return Finding::of(&error),
    };
    match &probe.server_name {
        None => exchange(probe, stream).await,
        Some(name) => {
            let connector = TlsConnector::from(Arc::clone(tls));
            match connector.connect(name.clone(), stream).await {
                Ok(stream) => exchange(probe, stream).await,
                Err(error) => Finding::Fail(format!("TLS: {error}")),
            }
        }
    }
}

/// The first address that takes the connection.
async fn connect(addresses: &[IpAddr], port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for &address in addresses {
        match TcpStream::connect((address, port)).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn exchange(
    probe: &HttpProbe,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
) -> Finding {
    let handshake =
        http1::Builder::new().max_buf_size(LARGEST_HEAD).handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = match handshake {
        Ok(both) => both,
        Err(error) => return failed(&error),
    };
    let answer = async {
        let response = match sender.send_request(request(probe)).await {
            Ok(response) => response,
            Err(error) => return failed(&error),
        };
        let status = response.status();
        let mut body = response.into_body();
        let mut read = 0;
        while read < LARGEST_BODY {
            match body.frame().await {
                Some(Ok(frame)) => read += frame.data_ref().map_or(0, Bytes::len),
                Some(Err(error)) => return Finding::Fail(format!("broken body: {error}")),
                None => break,
            }
        }
        probe.expected.check(status)
    };
    tokio::pin!(answer);
    // The connection moves the bytes; when it ends first, what it brought is still to be read.
    tokio::select! {
        finding = &mut answer => finding,
        _ended = connection => answer.await,
    }
}

fn request(probe: &HttpProbe) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = probe.path.clone();
    let headers = request.headers_mut();
    headers.insert(HOST, probe.host_header.clone());
    headers.insert(
        USER_AGENT,
        HeaderValue::from_static(concat!("weir-checker/", env!("CARGO_PKG_VERSION"))),
    );
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    request
}

fn failed(error: &hyper::Error) -> Finding {
    use std::error::Error as _;
    Finding::Fail(match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    })
}

fn status(code: u32) -> Result<StatusCode, String> {
    let code = u16::try_from(code).ok().and_then(|code| StatusCode::from_u16(code).ok());
    code.ok_or_else(|| "http_expected_status is not in 100 to 999".to_owned())
}
